"""The errors of `engine.evidence` as texts of the interface, by their codes; a part of `error_texts`."""

from __future__ import annotations

from pages.widgets.texts import N_, Texts

BY_CODE: dict[str, Texts] = {
    "word_absent": Texts(
        N_("a word that stands in the {side}"),
        N_("{text}, which does not"),
        N_("Click a word, or type it as it is written there."),
    ),
    "occurrence_absent": Texts(
        N_("an occurrence from 0, below {occurrences}, of {text} in the {side}"),
        N_("{occurrence}"),
        N_("Click the occurrence that you mean."),
    ),
    "empty_word": Texts(
        N_("a word of the {side}"),
        N_("nothing"),
        N_("Click a word, or type it as it is written there."),
    ),
    "word_without_tokens": Texts(
        N_("a word of the {side} that the model reads"),
        N_("{text}, of which it reads nothing"),
        N_("Choose another word."),
    ),
    "same_word": Texts(
        N_("two different words as A and B"),
        N_("{text} for both"),
        N_("Pick another word; a one-word sentence has none."),
    ),
    "words_share_token": Texts(
        N_("two words that share no token"),
        N_("{query} and {key}"),
        N_("Choose words further apart, or another occurrence."),
    ),
    "key_after_query": Texts(
        N_("B before A: in a decoder a word sees only what stands before it"),
        N_("{key} after {query}"),
        N_("Ask the other way round."),
    ),
    "bad_reference": Texts(
        N_("a word, a range of characters, or a word with its occurrence"),
        N_("{reference}"),
        N_("Click a word, or type it as it is written there."),
    ),
    "span_outside": Texts(
        N_("characters within the {length} of the {side}"),
        N_("{start} to {end}"),
        N_("Click a word, or type it as it is written there."),
    ),
    "bad_side": Texts(
        N_("A in the sentence or in the output"),
        N_("{side}"),
        N_("Say where A stands."),
    ),
    "too_long_for_evidence": Texts(
        N_("at most {limit} tokens: every word is cut in a run of its own"),
        N_("{length}"),
        N_("Shorten the sentence."),
    ),
    "no_room_to_continue": Texts(
        N_("a text that leaves the model room to continue it"),
        N_("{length} tokens"),
        N_("Shorten the sentence."),
    ),
    "no_output_side": Texts(
        N_("A in the sentence, and a model that fills in masked words"),
        N_("A elsewhere, or a model without that ability"),
        N_("Ask about a word of the sentence, or choose another model."),
    ),
    "no_output_words": Texts(
        N_("an output with a word in it"),
        N_("none"),
        N_("Choose another sentence."),
    ),
    "output_word_not_taken": Texts(
        N_("an output word only where A stands in the sentence of an encoder–decoder"),
        N_("one elsewhere"),
        N_("Leave it out."),
    ),
    "bad_contrast": Texts(
        N_("a contrast that is another word than the output's own"),
        N_("{word}"),
        N_("Type a different word, or none."),
    ),
    "contrast_length": Texts(
        N_("a contrast of as many tokens as were masked: {wanted}"),
        N_("{word}, which has {length}"),
        N_("Type a different word, or none."),
    ),
    "context_too_short": Texts(
        N_("a model whose context holds a reference sentence"),
        N_("{model} with {limit} tokens"),
        N_("Choose a model with a longer context."),
    ),
    "contrast_too_long": Texts(
        N_("a contrast that leaves the sequence within {limit} tokens"),
        N_("one that makes it {length}"),
        N_("Type a shorter word, or shorten the sentence."),
    ),
    "contrast_unwritable": Texts(
        N_("a contrast that the model can write"),
        N_("{word}, for which it has no tokens"),
        N_("Type a different word, or none."),
    ),
    "bad_replacement": Texts(
        N_("another word in B's place"),
        N_("{word}"),
        N_("Type a different word."),
    ),
    "replacement_too_long": Texts(
        N_("a word in B's place with which the sentence stays within {limit} tokens"),
        N_("{word}, with which it takes {length}"),
        N_("Type a shorter word, or shorten the sentence."),
    ),
    "too_many_replacements": Texts(
        N_("at most {limit} words to put in B's place"),
        N_("{count}"),
        N_("Type fewer words."),
    ),
    "not_words": Texts(
        N_("a list of words to put in B's place"),
        N_("{found}"),
        N_("Type words, with commas between."),
    ),
    "no_snapshots": Texts(
        N_("a model with snapshots of its training"),
        N_("{model}, which has none"),
        N_("Choose the embedded model."),
    ),
    "foreign_snapshot": Texts(
        N_("snapshots of this model"),
        N_("others at step {step}"),
        N_("Write them anew by training."),
    ),
    "replacement_melts": Texts(
        N_("a word in B's place that leaves A a word of its own"),
        N_("{word}, which the model reads as one with A"),
        N_("Type a different word."),
    ),
}

#: Words that these errors carry as values, by the name of the value.
VALUES: dict[str, dict[str, str]] = {"side": {"source": N_("sentence"), "output": N_("output")}}
