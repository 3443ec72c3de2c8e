"""What is asked: sentence, model, two words, and what else a question can carry; from widgets to a `Question`.

Everything asked lives in the session state under the names that the address
uses, so a permalink and a ready question are the same thing: values put there
before the widgets are drawn. It checks nothing that the engine checks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import streamlit as st

from engine import ModelCard, Prompt, StreamTokens, Trace
from engine.evidence_types import Reference
from engine.limits import DEFAULT
from pages.widgets import evidence_questions, model_box, prompt_box, sentences
from pages.widgets.evidence_questions import Ready
from pages.widgets.keeping import keep
from pages.widgets.language import Language, Translate
from pages.widgets.offers import offer
from pages.widgets.word_pair import Pair, clicked, word_pair

#: What the address holds, beside the language.
PERMALINK = (
    "model", "text", "target", "query", "query_at", "key", "key_at", "query_in", "contrast", "output_word", "instead",
    "compare", "second", "second_query", "second_key", "second_contrast", "second_output_word",
    "second_model", "measure", "snapshots",
)
_SPAN = re.compile(r"(\d{1,6})-(\d{1,6})")
#: Commas and semicolons, the full-width ones and the enumeration comma too.
_BETWEEN = re.compile(r"[,;\uff0c\u3001\uff1b]")
#: Longest list of words for B's place that the field takes; how many they may be, the engine says.
_INSTEAD_CHARACTERS = 400


@dataclass(frozen=True)
class Question:
    """One question, by value: what `engine.evidence` is asked with.

    Attributes:
        prompt: model, text and target.
        query, key: A and B.
        query_in: "source" or "output".
        contrast, output_word, replacements: as in `engine.evidence`.
    """

    prompt: Prompt
    query: Reference
    key: Reference
    query_in: str = "source"
    contrast: str | None = None
    output_word: Reference | None = None
    replacements: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Side:
    """A text's words as they can be clicked: display strings, flags, and their characters."""

    text: str
    labels: tuple[str, ...]
    flags: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def covered(self, span: tuple[int, int] | None) -> list[int]:
        """Indices of the words that share characters with `span`."""
        if span is None:
            return []
        return [i for i, (start, end) in enumerate(self.spans) if start < span[1] and span[0] < end]


def choose_sentence(cards: tuple[ModelCard, ...], *, language: Language, _: Translate) -> Prompt | None:
    """Draws ready questions, sentence and model; returns the prompt, or None while there is no sentence."""
    state = st.session_state
    by_name = {card.name: card for card in cards}
    if "text" not in state:
        _take(evidence_questions.load()[0])
    keep("text", state["text"])
    if "model" not in state:
        state["model"] = cards[0].name if cards else None
    _offer_ready(by_name, language=language, _=_)
    left, middle, right = st.columns([5, 4, 2], gap="small", vertical_alignment="bottom")
    text = left.text_input(_("Sentence"), key="text", placeholder=_("Type a sentence, then press Enter"),
                           on_change=_forget_words, persist_state="session")
    with middle:
        name = model_box.choose(_("Model"), cards, key="model", _=_)
    family = by_name[name].family if name in by_name else ""
    with right.popover(_("Pick a sentence"), icon=":material/format_list_bulleted:", width="stretch"):
        for example in sentences.examples(family):
            st.button(example.text, key=f"example-{example.text}", width="stretch", type="tertiary",
                      on_click=_pick, args=(example.text,))
    prompt_box.ask_before_fetching(name, _)
    if not name or not text or not text.strip():
        return None
    target = state.get("target") if family in ("encoder-decoder", "") else None
    return Prompt(model=name, text=text, target=target or None)


def choose_words(trace: Trace, _: Translate) -> Question | None:
    """Draws the clickable words and the fields beside them; returns the question, or None while a word is missing."""
    state = st.session_state
    source, output = source_side(trace), output_side(trace)
    if state.get("query_in") not in ("source", "output") or not output.labels:
        state["query_in"] = "source"
    keep("query_in", state["query_in"])
    pair = clicked("pair", n_source=len(source.labels), n_output=len(output.labels))
    if pair is not None and pair != state.get("_pair_taken"):
        _take_pair(pair, source, output)
    state["_pair_taken"] = pair
    for name in ("query", "key", "contrast", "instead"):
        keep(name, state.get(name) or "")
    asked = source if state["query_in"] == "source" else output
    word_pair(
        source=source.labels, source_flags=source.flags, output=output.labels, key="pair",
        chosen={"side": state["query_in"],
                "query": asked.covered(span_of(_reference("query", asked.text), asked.text)),
                "key": source.covered(span_of(_reference("key", source.text), source.text))},
        texts={"source": _("Sentence"), "output": _("Output"),
               "first": _("Click A, the word that looks, then B, the word it may look at. Arrow keys and Enter work, "
                          "too."),
               "second": _("Now click B, a word of the sentence. Escape gives up."),
               "unknown": _("not in the model's vocabulary"),
               "fallback": _("known to the model only as single characters")},
    )
    _fields(bool(output.labels), _)
    query, key = _reference("query", asked.text), _reference("key", source.text)
    if not query or not key:
        return None
    question = Question(
        prompt=trace.prompt, query=query, key=key, query_in=state["query_in"],
        contrast=state["contrast"].strip() or None,
        replacements=tuple(word.strip() for word in _BETWEEN.split(state["instead"]) if word.strip()) or None,
    )
    return replace(question, output_word=output_word(question, state="output_word"))


def source_side(trace: Trace) -> Side:
    """The words of the typed text."""
    return _side(trace.source_text, trace.axes[0])


def output_side(trace: Trace) -> Side:
    """The words of the output in which A may stand; none for an encoder."""
    if "cross" in trace.streams:
        axes = trace.tokens("cross")
        return _side(trace.output, StreamTokens(axes.query, axes.query, axes.query, axes.query_words, axes.query_words))
    if trace.family != "decoder-only":
        return Side("", (), (), ())
    found = [match for match in re.finditer(r"\w+", trace.output)]
    return Side(trace.output, tuple(match.group() for match in found), ("",) * len(found),
                tuple(match.span() for match in found))


def span_of(reference: Reference | None, text: str) -> tuple[int, int] | None:
    """The characters that a reference names: those of a span, or of a substring's first occurrence; None if absent."""
    if not reference:
        return None
    if isinstance(reference, tuple):
        return reference
    start = text.find(reference)
    return None if start < 0 else (start, start + len(reference))


def _side(text: str, axes: StreamTokens) -> Side:
    found = []
    for word in axes.key_words:
        spans = [token.span for token in axes.key[word.start:word.end]]
        if word.special or any(span is None for span in spans):
            continue
        start, end = min(span[0] for span in spans), max(span[1] for span in spans)
        shown = text[start:end].strip()
        if shown:
            start += text[start:end].index(shown)
            found.append((word.text.strip("␣ ") or shown, word.flag, (start, start + len(shown))))
    labels, flags, spans = zip(*found, strict=True) if found else ((), (), ())
    return Side(text, labels, flags, spans)


def _reference(name: str, text: str) -> Reference | None:
    """What the state says of A or B: a span where one was clicked among several, else the substring typed."""
    typed = (st.session_state.get(name) or "").strip()
    match = _SPAN.fullmatch(str(st.session_state.get(f"{name}_at") or ""))
    if typed and match:
        start, end = int(match[1]), int(match[2])
        if text[start:end] == typed:
            return start, end
    return typed or None


def _take_pair(pair: Pair, source: Side, output: Side) -> None:
    state = st.session_state
    state["query_in"] = pair.side
    asked = source if pair.side == "source" else output
    for name, side, index in (("query", asked, pair.query), ("key", source, pair.key)):
        start, end = side.spans[index]
        state[name] = side.text[start:end]
        # A span says which of several; where there is but one, the word alone reads better in an address.
        state[f"{name}_at"] = f"{start}-{end}" if side.text.count(state[name]) > 1 else ""


def _fields(has_output: bool, _: Translate) -> None:
    state = st.session_state
    side, a, b, swap, contrast, instead = st.columns([4, 3, 3, 1.2, 3, 4], gap="small", vertical_alignment="bottom")
    names = {"source": _("sentence"), "output": _("output")}
    if has_output:
        side.segmented_control(_("A stands in the"), list(names), key="query_in", required=True, format_func=names.get,
                               on_change=_typed, args=("query",), persist_state="session")
    a.text_input(_("Does A"), key="query", on_change=_typed, args=("query",), placeholder=_("a word"),
                 persist_state="session")
    b.text_input(_("look at B?"), key="key", on_change=_typed, args=("key",), placeholder=_("a word of the sentence"),
                 persist_state="session")
    swap.button("⇄", key="swap", on_click=_swap, help=_("Ask the other way round"), width="stretch",
                disabled=state["query_in"] == "output")
    contrast.text_input(
        _("Contrast (optional)"), key="contrast", persist_state="session", placeholder=_("such as Apple"),
        max_chars=DEFAULT.word_characters,
        help=_("Another word in the output word's place. Every effect is then also given on the margin between the "
               "two, which is cleaner than one probability."))
    instead.text_input(
        _("Put in B's place (optional)"), key="instead", placeholder=_("words, with commas between"),
        persist_state="session", max_chars=_INSTEAD_CHARACTERS,
        help=_("Words to replace B with. Empty: words close to B in the model's own embeddings."))


def output_word(question: Question, *, state: str) -> Reference | None:
    """The output word that the person chose for this very question, if any; `state` names where it is kept."""
    kept, asked = st.session_state, (question.prompt, question.query, question.query_in)
    if kept.get(f"_{state}_of", asked) != asked:
        kept[state] = ""
    kept[f"_{state}_of"] = asked
    match = _SPAN.fullmatch(str(kept.get(state) or ""))
    return (int(match[1]), int(match[2])) if match and question.query_in == "source" else None


def _offer_ready(by_name: dict[str, ModelCard], *, language: Language, _: Translate) -> None:
    offered = {str(index): ready for index, ready in enumerate(evidence_questions.load())}
    asked = next((name for name, ready in offered.items() if _is_asked(ready)), None)
    offer(_("Ready questions"), list(offered), key=f"ready-{language.code}", chosen=asked,
          take=lambda name: _take_ready(offered[name], by_name), format_func=lambda name: offered[name].ask(language))
    if asked is not None:
        st.caption(f":material/lightbulb: {offered[asked].teaches(language)}")


def _is_asked(ready: Ready) -> bool:
    state = st.session_state
    wanted = {"text": ready.text, "query": ready.query, "key": ready.key, "query_in": ready.query_in}
    return all((state.get(name) or "") == value or (name == "query_in" and state.get(name) is None
                                                    and value == "source") for name, value in wanted.items())


def _take_ready(ready: Ready, by_name: dict[str, ModelCard]) -> None:
    _take(ready)
    state = st.session_state
    fitting = [name for name, card in by_name.items() if card.family == evidence_questions.FAMILY]
    if state.get("model") not in fitting and fitting:
        state["model"] = fitting[0]


def _take(ready: Ready) -> None:
    state = st.session_state
    _forget_words()
    state.update(text=ready.text, query=ready.query, key=ready.key, query_in=ready.query_in, contrast=ready.contrast,
                 second=ready.second, second_key=ready.second_key, second_query="",
                 second_contrast=ready.second_contrast)


def _pick(text: str) -> None:
    st.session_state["text"] = text
    _forget_words()


def _forget_words() -> None:
    """Another sentence: what was asked of the old one is no question any more."""
    for name in ("target", "query", "query_at", "key", "key_at", "contrast", "instead", "output_word", "second",
                 "second_query", "second_key", "second_contrast", "second_output_word", "query_in"):
        st.session_state[name] = "source" if name == "query_in" else ""


def _typed(name: str) -> None:
    """A typed word is found anew; a clicked occurrence of the old one says nothing of it."""
    st.session_state[f"{name}_at"] = ""


def _swap() -> None:
    state = st.session_state
    for suffix in ("", "_at"):
        first, second = f"query{suffix}", f"key{suffix}"
        state[first], state[second] = state.get(second, ""), state.get(first, "")
