"""The engine's errors and notes as texts of the interface, by their codes. Data, no behaviour of note.

Each text is an English message for the catalogue, with `{names}` of the values
that the error carries in `numbers`. A test holds this table to the engine's
sources: every code has an entry, and an entry names only values that are there.
"""

from __future__ import annotations

from engine import errors
from pages.widgets import check_errors, evidence_errors
from pages.widgets.texts import N_, Texts, placeholders

__all__ = ["BY_CODE", "N_", "NOTES", "Texts", "VALUES", "heading", "placeholders"]


def heading(error: errors.EngineError) -> str:
    """The English heading for this kind of error."""
    return next(text for kind, text in _HEADINGS if isinstance(error, kind))


#: From the particular to the general: the first that fits is taken.
_HEADINGS: tuple[tuple[type[errors.EngineError], str], ...] = (
    (errors.TextTooLong, N_("The text is too long")),
    (errors.InvalidPrompt, N_("This request cannot be run")),
    (errors.ModelNotFound, N_("There is no such model")),
    (errors.ModelRefused, N_("This model was refused")),
    (errors.HubUnavailable, N_("The model hub cannot be reached")),
    (errors.ModelError, N_("This model cannot be used")),
    (errors.OverBudget, N_("This needs more memory than is free")),
    (errors.OutOfMemory, N_("The memory ran out")),
    (errors.Busy, N_("The model is busy")),
    (errors.EngineError, N_("This did not work")),
)

#: Why a model whose probe failed is refused.
_NOT_SHOWN = N_("A wrong map is worse than none, so this model is not shown. Choose another model.")

BY_CODE: dict[str, Texts] = {
    "unknown_stream": Texts(
        N_("one of the streams this model has"),
        N_("{stream}"),
        N_("Choose one of the streams on the page."),
    ),
    "no_such_head": Texts(
        N_("a layer from 0 and a head from 0, below {n_layers} and {n_heads}"),
        N_("layer {layer}, head {head}"),
        N_("Choose one of the model's heads."),
    ),
    "book_empty": Texts(
        N_("a text file with words in it"),
        N_("{file}, which has none"),
        N_("Upload another file, or paste the text."),
    ),
    "book_not_text": Texts(
        N_("a text in UTF-8, in UTF-16 that says so, or in GB 18030"),
        N_("{file}, whose bytes are no such text"),
        N_("Save the book as plain text in UTF-8 and upload that."),
    ),
    "config_not_understood": Texts(
        N_("a config.json that transformers can use"),
        N_("{detail}"),
        N_("Paste the whole config.json of a text model that transformers knows."),
    ),
    "no_cache": Texts(
        N_("a model that writes token by token, so that it keeps a cache"),
        N_("{model}, which writes nothing"),
        N_("Choose a decoder or an encoder–decoder."),
    ),
    "cache_not_keys_values": Texts(
        N_("layers that all keep keys and values"),
        N_("{model} with {layer}"),
        N_("Its cache is of another kind, which this page does not know; choose another model."),
    ),
    "no_scores": Texts(
        N_("scores with at least one key"),
        N_("shape {shape}"),
        N_("Choose other values."),
    ),
    "large_simulation": Texts(
        N_("at most {limit} random numbers at once"),
        N_("{count}"),
        N_("Choose smaller numbers."),
    ),
    "no_loss": Texts(
        N_("a model that gives words a probability, and a text to be right or wrong about"),
        N_("{model}"),
        N_("Choose a model with a vocabulary head, or another text."),
    ),
    "too_long_for_gradient": Texts(
        N_("at most {limit} tokens for a backward pass"),
        N_("{length}"),
        N_("Shorten the text."),
    ),
    "too_long_for_grid": Texts(
        N_("at most {limit} tokens for all maps at once"),
        N_("{length}"),
        N_("Look at one layer, or at the pooled pictures."),
    ),
    "not_text": Texts(
        N_("text"),
        N_("something else"),
        N_("Type a sentence."),
    ),
    "empty_text": Texts(
        N_("some {what}"),
        N_("nothing, or blanks only"),
        N_("Type a sentence."),
    ),
    "too_many_characters": Texts(
        N_("at most {limit} characters of {what}"),
        N_("{length}"),
        N_("Shorten it, or show a part."),
    ),
    "too_many_tokens": Texts(
        N_("at most {limit} tokens of {what} for {model}"),
        N_("{length}"),
        N_("Shorten it, or show a part."),
    ),
    "target_not_taken": Texts(
        N_("no target text: only an encoder–decoder takes one"),
        N_("a target for {model}"),
        N_("Leave the target empty."),
    ),
    "model_name": Texts(
        N_("the name of a listed model, or a hub id such as org/name or org/name@revision"),
        N_("{name}"),
        N_("Use letters, digits and . _ - only; paths and addresses are not accepted."),
    ),
    "model_not_found": Texts(
        N_("an embedded model, a folder in the models folder, or a hub id org/name"),
        N_("{name}"),
        N_("Choose one from the list, or put the model's files into a folder of that name."),
    ),
    "outside_models_folder": Texts(
        N_("a folder inside the models folder"),
        N_("{name}, a link that leads out of it"),
        N_("Copy the model into the models folder."),
    ),
    "config_unreadable": Texts(
        N_("a model folder with a readable {file}"),
        N_("{detail}"),
        N_("Copy the model's {file}, safetensors weights and tokenizer files into one folder."),
    ),
    "config_unusable": Texts(
        N_("a config.json that transformers can use"),
        N_("{detail}"),
        N_("Copy the model's own config.json into its folder, or choose another model."),
    ),
    "generation_config_unusable": Texts(
        N_("a generation_config.json by which transformers can write"),
        N_("{detail}"),
        N_("Correct that file in the model's folder, or choose another model."),
    ),
    "checkpoint_unreadable": Texts(
        N_("a checkpoint that transformers can open"),
        N_("{detail}"),
        N_("Check that config.json and the weights belong together, or choose another model."),
    ),
    "weights_pickle": Texts(
        N_("weights as safetensors"),
        N_("{files}"),
        N_("Choose or convert to safetensors; other formats can run code when they are opened."),
    ),
    "weights_missing": Texts(
        N_("weights as safetensors"),
        N_("no weights at all"),
        N_("Choose a model with safetensors, or put its safetensors files into the folder."),
    ),
    "weights_damaged": Texts(
        N_("{file} as a whole safetensors file"),
        N_("{detail}"),
        N_("Download or copy the model again."),
    ),
    "weights_mismatch": Texts(
        N_("weights that fit the architecture exactly"),
        N_("{missing} missing, {unexpected} unexpected, {mismatched} of the wrong shape: {detail}"),
        N_("Choose a checkpoint saved with this architecture; missing weights would be random numbers."),
    ),
    "weights_over_budget": Texts(
        N_("weights that fit into {allowed_bytes}, the share of the {free_bytes} free on {device} that may be used"),
        N_("{needed_bytes}"),
        N_("Choose a smaller model, or close what else uses the memory."),
    ),
    "weights_out_of_memory": Texts(
        N_("weights that fit on {device}"),
        N_("the memory ran out while they were moved there"),
        N_("Close what else uses the GPU, or choose a smaller model."),
    ),
    "over_budget": Texts(
        N_("a run that fits into {allowed_bytes}, the share of the {free_bytes} free on {device} that may be used"),
        N_("a predicted {needed_bytes}; nothing was attempted"),
        N_("Shorten the text, choose a smaller model, or free memory."),
    ),
    "out_of_memory": Texts(
        N_("a run that fits on {device}"),
        N_("the memory ran out; what the run held is free again"),
        N_("Shorten the text, or choose a smaller model."),
    ),
    "disk_full": Texts(
        N_("room for {needed_bytes} in the download cache"),
        N_("{free_bytes} free"),
        N_("Free some disk space, or choose a smaller model."),
    ),
    "busy": Texts(
        N_("at most {limit} requests waiting for {model}"),
        N_("{waiting} are waiting"),
        N_("Try again in a moment."),
    ),
    "remote_code": Texts(
        N_("a model that needs no code but transformers' own"),
        N_("one that brings its own code (auto_map)"),
        N_("Choose a model without remote code: running it could do anything on this machine."),
    ),
    "quantised": Texts(
        N_("weights in float32, float16 or bfloat16"),
        N_("a quantised checkpoint"),
        N_("Choose the unquantised version of the model."),
    ),
    "not_a_text_model": Texts(
        N_("a text model of a type that transformers knows"),
        N_("model type {model_type}"),
        N_("Choose an encoder–decoder, a decoder or an encoder for text."),
    ),
    "adapter": Texts(
        N_("a whole model"),
        N_("an adapter, which needs another model's weights"),
        N_("Merge the adapter into its model and save the result."),
    ),
    "tokenizer_missing": Texts(
        N_("a tokenizer beside the weights"),
        N_("no tokenizer files in {name}"),
        N_("Put the model's tokenizer.json into its folder."),
    ),
    "tokenizer_unreadable": Texts(
        N_("a tokenizer that transformers can open"),
        N_("{detail}"),
        N_("Put the model's own tokenizer.json into its folder."),
    ),
    "tokenizer_slow": Texts(
        N_("a fast tokenizer, which knows the characters each token stands for"),
        N_("the slow {tokenizer}"),
        N_("Choose a model that has a tokenizer.json."),
    ),
    "slow_tokenizer": Texts(
        N_("a fast tokenizer, which knows the characters each token stands for"),
        N_("the slow {tokenizer}"),
        N_("Choose a model that has a tokenizer.json."),
    ),
    "hub_no_config": Texts(
        N_("a transformers model with a config.json"),
        N_("{repo}, which has none"),
        N_("Choose a repository that holds a transformers model."),
    ),
    "hub_offline": Texts(
        N_("an answer from the model hub"),
        N_("no connection, so {repo} cannot be downloaded"),
        N_("Check the network and try again, or choose a model that is already on this machine."),
    ),
    "hub_no_commit": Texts(
        N_("an answer from the model hub"),
        N_("one that names no commit of {repo}"),
        N_("Check the network and try again, or choose a model that is already on this machine."),
    ),
    "hub_error": Texts(
        N_("the model hub to hand out {repo}"),
        N_("its error {status}"),
        N_("Try again later, or choose a model that is already on this machine."),
    ),
    "hub_gated": Texts(
        N_("a model that anyone may download"),
        N_("{repo}, which asks for permission first"),
        N_("Accept its terms on its hub page and set HF_TOKEN, or put its files into the models folder."),
    ),
    "hub_revision_missing": Texts(
        N_("a revision of {repo}"),
        N_("none of that name"),
        N_("Check the part after @."),
    ),
    "hub_not_found": Texts(
        N_("a public model on the hub"),
        N_("{repo}, which does not exist there or is private"),
        N_("Check the spelling: org/name."),
    ),
    "attention_argument": Texts(
        N_("attention whose every argument is known"),
        N_("{module} with the unknown {argument}"),
        N_("Its maps cannot be trusted here; choose another model."),
    ),
    "window_without_mask": Texts(
        N_("a mask that carries the sliding window of {window} tokens"),
        N_("{module} without a mask"),
        N_("Its maps cannot be trusted here; choose another model."),
    ),
    "not_finite": Texts(
        N_("finite numbers in the model's attention"),
        N_("others in stream {stream}, layer {layer}"),
        N_("In half precision long texts can overflow: shorten the text, or choose another model."),
    ),
    "tokenizer_too_large": Texts(
        N_("token ids below the {rows} rows of the model's embedding"),
        N_("a tokenizer with ids up to {highest}"),
        N_("Put the tokenizer that was trained with the model into its folder."),
    ),
    "walk_not_followed": Texts(
        N_("a head whose projections, rotation and output projection can be made out"),
        N_("one whose {part} cannot"),
        N_("The steps of this model's heads cannot be shown; its maps can. Choose another model here."),
    ),
    "attention_not_interfaced": Texts(
        N_("all {wanted} attention maps to pass through transformers' attention interface"),
        N_("{found} of them ({module})"),
        _NOT_SHOWN,
    ),
    "no_eager": Texts(
        N_("a model that runs with eager attention, to check the maps against"),
        N_("{module}, which does not"),
        _NOT_SHOWN,
    ),
    "no_attention": Texts(
        N_("a model with attention"),
        N_("{module}, which has no attention maps"),
        _NOT_SHOWN,
    ),
    "attention_not_everywhere": Texts(
        N_("softmax attention in every layer"),
        N_("{module} with layers without a map (stream: {stream})"),
        _NOT_SHOWN,
    ),
    "output_changed": Texts(
        N_("the same output with and without the capture, within {allowed}"),
        N_("a difference of {difference} ({module})"),
        _NOT_SHOWN,
    ),
    "call_unmatched": Texts(
        N_("captured maps in the shapes of eager's"),
        N_("{module} with one of another shape"),
        _NOT_SHOWN,
    ),
    "map_differs": Texts(
        N_("captured maps equal to eager's within {allowed}"),
        N_("a difference of {difference} in layer {layer} (stream: {stream}; {module})"),
        _NOT_SHOWN,
    ),
    "position_size": Texts(
        N_("sizes that make a table, a rotation or buckets: at least 1, and an even head width"),
        N_("{name} = {value}"),
        N_("Choose another number."),
    ),
    "rope_scaling": Texts(
        N_("rope_parameters with a usable {key}"),
        N_("{value}"),
        N_("Give the rope_parameters as the model's config.json has them."),
    ),
    "bad_length": Texts(
        N_("a length from {least} to {most} tokens"),
        N_("{length}"),
        N_("Choose a length in between."),
    ),
    "nothing_to_permute": Texts(
        N_("at least two tokens to put in another order"),
        N_("{found}"),
        N_("Type a longer sentence."),
    ),
    "unknown_order": Texts(
        N_("one of the orders on the page"),
        N_("{order}"),
        N_("Choose one of the orders on the page."),
    ),
} | check_errors.BY_CODE | evidence_errors.BY_CODE

#: Words that errors carry as values, by the name of the value; any other value is shown as it is.
VALUES: dict[str, dict[str, str]] = {
    "what": {"text": N_("text"), "target": N_("target text"), "contrast": N_("the contrast"),
             "replacement": N_("a word in B's place"), "n_tokens": N_("tokens"), "n_steps": N_("steps")},
    "stream": {"encoder": N_("encoder"), "decoder": N_("decoder"), "cross": N_("cross")},
} | evidence_errors.VALUES

NOTES: dict[str, str] = {
    "surrogates_replaced": N_("Half characters (lone surrogates) in the text were replaced by � before the run."),
    "invisible_characters": N_("The text holds invisible characters; the tokens show them."),
    "special_tokens_as_text": N_(
        "The text holds the names of special tokens, such as </s>; they were read as plain characters."
    ),
    "layers_without_attention": N_(
        "Some layers of this model have no attention. Those that have it are shown, counted from 0."
    ),
}
