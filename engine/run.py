"""Runs a loaded model once on one prompt: encodes the text, writes the output, prepares the captured pass.

The output is written first (greedy, or with the model's own beams), then the
finished sequence goes through one forward pass whose attention is captured.
In a decoder the row that predicts a token is the one that consumes the token
before it; both are kept here. It knows one sequence at a time and no padding.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from engine import budget, errors, text
from engine.limits import Limits
from engine.probe import Plan
from engine.types import Progress, Prompt, Token

Report = Callable[[Progress], None]

#: Fields of a model's generation_config that bring chance in, ask for another output than ids, for a way of writing or
#: a cache that we don't run, or for a clock. They are unset: where our own config is silent, `generate` reads them.
NOT_FOLLOWED = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "num_return_sequences", "num_beam_groups", "diversity_penalty", "penalty_alpha", "low_memory", "dola_layers",
    "constraints", "force_words_ids", "guidance_scale", "token_healing", "stop_strings", "use_mtp",
    "prompt_lookup_num_tokens", "assistant_early_exit", "is_assistant", "cache_implementation", "cache_config",
    "max_cache_len", "compile_config", "prefill_chunk_size", "max_time", "max_length",
)


@dataclass(frozen=True, eq=False)
class Live:
    """A loaded model that passed the probe.

    Attributes:
        name: as in `Prompt.model`.
        model, tokenizer: transformers' objects; the model in eval mode.
        family: "encoder-decoder", "decoder-only" or "encoder-only".
        plan: what the probe learnt.
        revision: pinned revision or the weights' hash.
        device, dtype: where and in what it runs, e.g. "cpu", "float32".
        bytes: of its parameters and buffers.
        fallback_ids: of characters that only spell words the vocabulary lacks; their tokens are flagged.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    family: str
    plan: Plan
    revision: str
    device: str
    dtype: str
    bytes: int
    fallback_ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Encoded:
    """The prompt as ids.

    Attributes:
        source: ids of the text.
        source_tokens: their tokens.
        text: the text that the spans count in.
        target: ids of a typed target, or None.
        notes: codes of what happened on the way.
    """

    source: tuple[int, ...]
    source_tokens: tuple[Token, ...]
    text: str
    target: tuple[int, ...] | None
    target_text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """What the model wrote, or was given to have written.

    Attributes:
        consumed: ids that the decoder's rows read; () for encoder-only models.
        predicted: ids that the same rows predict, as long as `consumed`.
        output: the text: translation, continuation, or the sentence with its masks filled.
        complete: False when it stopped at its length limit.
    """

    consumed: tuple[int, ...]
    predicted: tuple[int, ...]
    output: str
    complete: bool


def settle(model: PreTrainedModel) -> None:
    """Take from a freshly loaded model's generation_config what is not followed here; what decides the text stays."""
    for name in NOT_FOLLOWED if getattr(model, "generation_config", None) is not None else ():
        setattr(model.generation_config, name, None)


def encode(live: Live, prompt: Prompt, *, limits: Limits) -> Encoded:
    """The prompt's ids, checked against every limit.

    Raises:
        InvalidPrompt: empty text, or a target for a model that takes none.
        TextTooLong: too many characters or tokens.
    """
    source_text, notes = text.prepare(prompt.text, limit=limits.text_characters, what="text")
    source = text.tokenise(live.tokenizer, source_text)
    _check_length(len(source.ids), live, limits=limits, what="text")
    notes += source.notes
    target, target_text = None, ""
    if prompt.target is not None:
        if live.family != "encoder-decoder":
            raise errors.InvalidPrompt(
                "no target text: only an encoder–decoder takes one", got=f"a target for {live.name}",
                next_step="Leave the target empty.", code="target_not_taken", model=live.name,
            )
        target_text, target_notes = text.prepare(prompt.target, limit=limits.text_characters, what="target")
        encoded = text.tokenise_target(live.tokenizer, target_text)
        _check_length(len(encoded.ids), live, limits=limits, what="target")
        target = encoded.ids
        notes += target_notes + encoded.notes
    tokens = tuple(replace(token, flag="fallback") if token.id in live.fallback_ids and not token.flag else token
                   for token in source.tokens)
    return Encoded(source.ids, tokens, source_text, target, target_text, tuple(dict.fromkeys(notes)))


def check_budget(live: Live, encoded: Encoded, *, limits: Limits) -> bool:
    """Refuse a run that would not fit; say whether all of its queries, keys and values may be kept.

    Raises:
        OverBudget: the predicted bytes exceed what is free.
    """
    config, element = live.model.config, live.model.dtype.itemsize
    shape = dict(zip(live.plan.streams, live.plan.shape, strict=True))
    n_source = len(encoded.source)
    written = len(encoded.target) if encoded.target else _new_tokens(live, n_source, limits=limits)
    if live.family == "encoder-decoder":
        lengths = {"encoder": n_source, "decoder": written}
        logit_rows, beams = written, live.model.generation_config.num_beams or 1
    else:
        lengths = {"encoder": n_source, "decoder": n_source}
        logit_rows, beams = (1 if live.family == "decoder-only" else n_source), 1
    keep = budget.kept_bytes(config, lengths=lengths, shape=shape, element_bytes=element)
    fits = keep <= limits.capture_bytes
    needed = budget.run_bytes(config, lengths=lengths, shape=shape, element_bytes=element, logit_rows=logit_rows,
                              beams=beams, new_tokens=written, device=live.device)
    budget.check(needed + min(keep, limits.capture_bytes), device=live.device, limits=limits)
    return fits


def write(live: Live, encoded: Encoded, *, report: Report, limits: Limits) -> Written:
    """Let the model write its output, reporting it token by token."""
    if live.family == "encoder-only":
        return Written((), (), _fill_masks(live, encoded), True)
    if encoded.target is not None:
        return Written(_shifted(live, encoded.target), encoded.target, encoded.target_text, True)
    limit = _new_tokens(live, len(encoded.source), limits=limits)
    n_prompt = len(encoded.source) if live.family == "decoder-only" else 1
    if limit == 0:
        return _continued(live, encoded, [], complete=False)
    ids = _ids(live, encoded.source)
    sequence = _generate(live, ids, _generation_config(live, limit), [_Reporter(live, report, n_prompt, limit)])[0]
    # At the limit some models are made to write an end (forced_eos_token_id): that one says nothing.
    ended = sequence[-1] in _end_ids(live) and live.model.generation_config.forced_eos_token_id is None
    complete = ended or len(sequence) - n_prompt < limit
    if live.family == "decoder-only":
        return _continued(live, encoded, sequence[n_prompt:], complete=complete)
    return Written(tuple(sequence[:-1]), tuple(sequence[1:]), _decode(live, sequence), complete)


def write_batch(live: Live, sources: Sequence[tuple[int, ...]], *, limit: int,
                beams: int | None = None) -> list[tuple[int, ...]]:
    """What the model writes for each of several sources of one length, written at once and without chance.

    Args:
        sources: input ids, all of one length.
        limit: most tokens to write, as far as the model's context reaches.
        beams: sequences followed at once; None means the model's own number.

    Returns:
        The ids written, up to and with the first end; encoder–decoders' start with their start id.
    """
    ids = torch.tensor(sources, device=live.model.device)
    bound = budget.n_ctx(live.model.config)
    room = bound - (1 if live.family == "encoder-decoder" else ids.shape[1])
    config = _generation_config(live, min(limit, room) if bound else limit)
    if beams is not None:
        config.update(num_beams=beams, early_stopping=False, length_penalty=1.0)
    sequences = _generate(live, ids, config, [])
    start = 1 if live.family == "encoder-decoder" else ids.shape[1]
    ends, written = _end_ids(live), []
    for sequence in sequences:
        stop = next((at + 1 for at in range(start, len(sequence)) if sequence[at] in ends), len(sequence))
        written.append(tuple(sequence[start - (live.family == "encoder-decoder"):stop]))
    return written


def inputs(live: Live, encoded: Encoded, written: Written) -> dict[str, Tensor]:
    """Arguments of the forward pass to capture, one sequence without padding."""
    ids = _ids(live, encoded.source)
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if live.family == "encoder-decoder":
        arguments["decoder_input_ids"] = _ids(live, written.consumed)
    return arguments


def forward(live: Live, arguments: dict[str, Tensor]) -> Tensor:
    """One plain forward pass; returns the logits (rows, d_vocab) or, without a head, the hidden states."""
    extra = {}
    accepted = _parameters(live)
    if "use_cache" in accepted:
        extra["use_cache"] = False
    if "logits_to_keep" in accepted and live.family == "decoder-only":
        extra["logits_to_keep"] = 1
    with torch.inference_mode():
        output = live.model(**arguments, **extra)
    return (output.logits if getattr(output, "logits", None) is not None else output[0])[0]


def start_id(live: Live) -> int:
    """The id that an encoder–decoder's output begins with, as `generate` finds it.

    Raises:
        ModelRefused: its configuration names none.
    """
    own, config = live.model.generation_config, live.model.config
    for found in (own.decoder_start_token_id, getattr(config, "decoder_start_token_id", None), own.bos_token_id):
        if isinstance(found, list):
            found = found[0] if found else None
        if found is not None:
            return int(found)
    raise _unwritable(live, "no decoder_start_token_id")


def _shifted(live: Live, target: tuple[int, ...]) -> tuple[int, ...]:
    """The ids that the rows of a given output read: mBART starts with the output's last id, others with their own."""
    shift = getattr(live.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        return (start_id(live), *target[:-1])
    return tuple(shift(labels=torch.tensor([target]))[0].tolist())


def _unwritable(live: Live, got: str) -> errors.ModelRefused:
    return errors.ModelRefused(
        "a generation_config.json by which transformers can write", got=f"{got} ({live.name})",
        next_step="Correct that file in the model's folder, or choose another model.",
        code="generation_config_unusable", detail=got,
    )


def _parameters(live: Live) -> set[str]:
    return set(inspect.signature(live.model.forward).parameters)


def _ids(live: Live, ids) -> Tensor:
    return torch.tensor([ids], device=live.model.device)


def _check_length(length: int, live: Live, *, limits: Limits, what: str) -> None:
    if not length:  # a tokenizer may drop characters
        raise errors.InvalidPrompt(
            f"some {what}", got="nothing that the model's tokenizer keeps", next_step="Type a sentence.",
            code="empty_text", what=what,
        )
    bound = budget.n_ctx(live.model.config)
    limit = min(limits.tokens, bound) if bound else limits.tokens
    if length > limit:
        raise errors.TextTooLong(
            f"at most {limit:,} tokens of {what} for {live.name}", got=f"{length:,}",
            next_step="Shorten it, or show a part.", code="too_many_tokens", limit=limit, length=length,
            model=live.name, what=what,
        )


def _new_tokens(live: Live, n_source: int, *, limits: Limits) -> int:
    """Tokens that the model may write within its context."""
    bound = budget.n_ctx(live.model.config)
    if live.family == "decoder-only":
        return min(limits.new_tokens_decoder, bound - n_source) if bound else limits.new_tokens_decoder
    return min(limits.new_tokens_target, bound - 1) if bound else limits.new_tokens_target


def _generate(live: Live, ids: Tensor, config: GenerationConfig,
              criteria: list[StoppingCriteria]) -> list[list[int]]:
    """What `generate` gives for ids (batch, length); a setting of the model's that it rejects is the model's fault."""
    try:
        with torch.inference_mode():
            return live.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config,
                                       stopping_criteria=criteria, **_cache(live)).tolist()
    except ValueError as error:
        raise _unwritable(live, str(error).partition("\n")[0]) from error


def _generation_config(live: Live, limit: int) -> GenerationConfig:
    """The model's own way of writing, without chance: sampling goes, and an encoder–decoder's beams stay.

    Whatever else of it weighs tokens (repetition penalties, suppressed and forced tokens, a least length) acts in
    every family: a decoder-only model is greedy among what these leave.
    """
    own = live.model.generation_config
    pad = own.pad_token_id if own.pad_token_id is not None else live.tokenizer.pad_token_id
    if pad is None:
        pad = min(_end_ids(live), default=0)
    if live.family == "decoder-only":
        return GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=limit, pad_token_id=pad, eos_token_id=own.eos_token_id,
            bos_token_id=own.bos_token_id,
        )
    config = copy.deepcopy(own)
    config.update(do_sample=False, max_new_tokens=limit, pad_token_id=pad)
    return config


def _cache(live: Live) -> dict[str, EncoderDecoderCache]:
    """A cache that grows, where transformers would make one too short: it counts the encoder's layers (T5)."""
    shape = dict(zip(live.plan.streams, live.plan.shape, strict=True))
    counted = getattr(live.model.config.get_text_config(decoder=True), "num_hidden_layers", 0)
    if live.family != "encoder-decoder" or shape["decoder"][0] <= counted:
        return {}
    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}


def _end_ids(live: Live) -> set[int]:
    eos = live.model.generation_config.eos_token_id
    return set() if eos is None else {eos} if isinstance(eos, int) else set(eos)


def _decode(live: Live, ids) -> str:
    return live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def _continued(live: Live, encoded: Encoded, new: list[int], *, complete: bool) -> Written:
    """A decoder-only run: the rows read the text; each predicts the next token, the last one the continuation."""
    predicted = encoded.source[1:] + ((new[0],) if new else ())
    output = live.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False) if new else ""
    return Written(encoded.source, predicted, output, complete)


def _fill_masks(live: Live, encoded: Encoded) -> str:
    """The text with each mask token replaced by the likeliest token; "" where there is no mask or no head."""
    mask = live.tokenizer.mask_token_id
    places = [i for i, id_ in enumerate(encoded.source) if id_ == mask]
    if mask is None or not places or live.model.get_output_embeddings() is None:
        return ""
    logits = forward(live, inputs(live, encoded, Written((), (), "", True)))
    filled, end = [], 0
    for place in places:
        span = encoded.source_tokens[place].span
        if span is None:
            continue
        word = live.tokenizer.decode([int(logits[place].argmax())]).strip()
        filled += [encoded.text[end:span[0]], word]
        end = span[1]
    return "".join(filled) + encoded.text[end:]


class _Reporter(StoppingCriteria):
    """Reports the best sequence so far at every step; never stops one."""

    def __init__(self, live: Live, report: Report, n_prompt: int, limit: int) -> None:
        self._live, self._report, self._n_prompt, self._limit = live, report, n_prompt, limit

    def __call__(self, input_ids: Tensor, scores, **kwargs) -> Tensor:
        new = input_ids[0, self._n_prompt:].tolist()
        self._report(Progress("writing", len(new), self._limit, _decode(self._live, new)))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
