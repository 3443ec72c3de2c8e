"""Turns a model directory into a model ready to run, or says plainly why not.

Only safetensors are opened and no code that comes with a model is ever run.
A checkpoint must fit its architecture exactly: weights that are missing would
be random, and a picture of random weights would be a lie. It does not know
whether the attention can be captured (the probe does) nor where the directory
came from (`engine.source` does).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from engine import catalogue, errors, limits, load_bounds, memory, weights
from engine.types import Progress

#: Files of which at least one must be there; without any, transformers invents an empty vocabulary.
TOKENIZER_FILES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "source.spm",
)
#: On a GPU, float32 weights may take this share of the free memory; beyond it the checkpoint's own type is kept.
FLOAT32_SHARE = 0.5
#: Heads after the last layer, which no attention reads: a checkpoint may carry one more or one less of them.
_OTHER_HEADS = re.compile(
    r"(^|\.)(pooler|seq_relationship|pre_classifier|classifier|qa_outputs|discriminator_predictions)\.")
#: Constants that older versions of transformers saved among the weights; nothing was learned in them.
_OLD_CONSTANTS = re.compile(r"\.(attn|attention)\.(masked_)?bias$|\.position_ids$|\.inv_freq$")
_NAMES_SHOWN = 3
#: Numbers that an architecture may have for each of its checkpoint, and on top, before it is refused unbuilt.
_SKELETON_SHARE, _SKELETON_SLACK = 2, 2**24
#: What transformers, tokenizers, safetensors and torch raise over a directory they cannot use.
_LOAD_ERRORS = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ImportError, RuntimeError, ArithmeticError,
    SafetensorError, StrictDataclassError,
)
#: One load at a time: each is checked against the memory that the one before it has really taken.
_LOADING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory. It holds live torch objects and never crosses the engine's boundary.

    Attributes:
        model: in eval mode, without gradients.
        tokenizer: the model's fast tokenizer.
        family: "encoder-decoder", "decoder-only" or "encoder-only".
        config: the model's config.
        bytes: what its parameters and buffers take, tied ones once.
        revision: the hub's commit, or "sha256:…" of the weight files.
        dtype: the type the weights are held in, e.g. "float32".
        device: where they are.
        fallback_ids: as `fallback_ids` reads them.
    """

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    family: str
    config: transformers.PretrainedConfig
    bytes: int
    revision: str
    dtype: str
    device: str
    fallback_ids: frozenset[int] = frozenset()


def fallback_ids(path: Path) -> frozenset[int]:
    """Ids of single characters that only ever spell words the vocabulary lacks, by the model's own lexicon.json.

    No tokenizer format has a place for them; few models have the file. () where there is none.

    Raises:
        errors.ModelRefused: a lexicon.json that cannot be read.
    """
    if not (path / "lexicon.json").is_file():
        return frozenset()
    listed = catalogue.read_json(path / "lexicon.json").get("fallback_ids", [])
    return frozenset(id_ for id_ in listed if type(id_) is int) if isinstance(listed, list) else frozenset()


def check_config(config: dict[str, Any]) -> str:
    """The family of the model that a parsed config.json describes.

    Raises:
        errors.ModelRefused: it wants code of its own, is quantised, or is no text model.
    """
    if config.get("auto_map"):
        raise errors.ModelRefused(
            "an architecture that transformers itself contains", got="a model that brings its own code (auto_map)",
            next_step="Choose a model without remote code: running it could do anything on this machine.",
            code="remote_code",
        )
    if config.get("quantization_config"):
        raise errors.ModelRefused(
            "weights in float32, float16 or bfloat16", got="a quantised checkpoint",
            next_step="Choose the unquantised version of the model.", code="quantised",
        )
    family = catalogue.family(config)
    if not family:
        model_type = catalogue.plain(config.get("model_type")) or "none"
        raise errors.ModelRefused(
            "a text model of a type that transformers knows", got=f"model type {model_type}",
            next_step="Text models only: choose an encoder–decoder, a decoder or an encoder for text.",
            code="not_a_text_model", model_type=model_type,
        )
    return family


def _plan(tensors: dict[str, weights.Tensor], device: str, free: int) -> tuple[str, int]:
    """(dtype, bytes) in which the weights will be held on a device with `free` bytes."""
    as_float32 = weights.float_bytes(tensors, element_bytes=4)
    if not device.startswith("cuda") or as_float32 <= free * FLOAT32_SHARE:
        return "float32", as_float32
    dtype = weights.stored_dtype(tensors)
    return dtype, weights.float_bytes(tensors, element_bytes=4 if dtype == "float32" else 2)


def load(
    path: Path, *, device: str, on_progress: Callable[[Progress], None] = lambda progress: None,
    headroom: float = limits.DEFAULT.memory_headroom,
) -> Loaded:
    """Load the model directory `path` onto `device`.

    On the CPU weights are held in float32 whatever the checkpoint stores; on a
    GPU too, unless that would take more than half of its free memory.

    Args:
        path: a directory with config.json, safetensors and a tokenizer.
        device: "cpu", "cuda" or "cuda:<index>".
        on_progress: told "loading" once, before the work.
        headroom: share of the free memory that the weights may take.

    Raises:
        errors.ModelRefused: unsafe, damaged, incomplete, or not a text model.
        errors.OverBudget: the weights would not fit; nothing was loaded.
        errors.OutOfMemory: the GPU ran out all the same; what was taken is freed.
    """
    on_progress(Progress("loading"))
    config = catalogue.read_config(path)
    family = check_config(config)
    _check_files(path)
    tensors = weights.headers(path)
    load_bounds.check_numbers(config, len(tensors))  # before the lock: an absurd skeleton would hold up every load
    with _LOADING:
        free = memory.free_bytes(device)
        dtype, needed = _plan(tensors, device, free)
        _check_budget(path.name, needed, free, headroom, device)
        if device != "cpu":  # the weights pass through main memory on their way
            _check_budget(path.name, needed, memory.free_bytes("cpu"), headroom, "cpu")
        with _quiet():
            parsed = _parsed_config(path)
            _check_skeleton(_class(config, family), parsed, tensors, path)
            tokenizer = _tokenizer(path)
            model = _model(path, config, family, dtype)
        _check_vocabulary(tokenizer, model)
        _place(model, device)
    return Loaded(
        model=model, tokenizer=tokenizer, family=family, config=model.config, bytes=_bytes(model),
        revision=_revision(path), dtype=dtype, device=device, fallback_ids=fallback_ids(path),
    )


def _check_files(path: Path) -> None:
    if (path / "adapter_config.json").exists():
        raise errors.ModelRefused(
            "a whole model", got="an adapter, which needs another model's weights",
            next_step="Merge the adapter into its model and save the result.", code="adapter",
        )
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise errors.ModelRefused(
            "a tokenizer beside the weights", got=f"no tokenizer files in {path.name}",
            next_step="Put the model's tokenizer.json into its folder.", code="tokenizer_missing", name=path.name,
        )
    load_bounds.check_files(path)
    tokenizer_config = path / "tokenizer_config.json"
    if tokenizer_config.is_file() and catalogue.read_json(tokenizer_config).get("auto_map"):
        raise errors.ModelRefused(
            "a stock tokenizer", got="a tokenizer that brings its own code (auto_map)",
            next_step="Choose a model without remote code: running it could do anything on this machine.",
            code="remote_code",
        )


def _check_budget(name: str, needed: int, free: int, headroom: float, device: str) -> None:
    allowed = int(free * headroom)
    if needed > allowed:
        raise errors.OverBudget(
            f"the weights of {name} to fit into {allowed / 2**20:,.0f} MiB ({headroom:.0%} of what {device} has free)",
            got=f"{needed / 2**20:,.0f} MiB", next_step="Choose a smaller model, or close what else uses the memory.",
            code="weights_over_budget", needed_bytes=needed, allowed_bytes=allowed, free_bytes=free, device=device,
        )


def _tokenizer(path: Path) -> transformers.PreTrainedTokenizerBase:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path, use_fast=True, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        # The tokenizers library raises bare Exception over a malformed tokenizer.json, so the type is looked at here.
        if type(error) is not Exception and not isinstance(error, _LOAD_ERRORS):
            raise
        raise errors.ModelRefused(
            "a tokenizer that transformers can open", got=errors.first_line(error, folder=path),
            next_step="Put the model's own tokenizer.json into its folder.", code="tokenizer_unreadable",
            detail=errors.first_line(error, folder=path),
        ) from error
    if not tokenizer.is_fast:
        raise errors.ModelRefused(
            "a fast tokenizer, which knows the characters each token stands for",
            got=f"the slow {type(tokenizer).__name__}", next_step="Choose a model that has a tokenizer.json.",
            code="tokenizer_slow", tokenizer=type(tokenizer).__name__,
        )
    return tokenizer


def _parsed_config(path: Path) -> transformers.PretrainedConfig:
    """The config as transformers parses it, by itself, so that its faults are not taken for the tokenizer's."""
    try:
        return transformers.AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except _LOAD_ERRORS as error:
        raise _unusable(errors.first_line(error, folder=path)) from error


def _check_skeleton(
    class_: type, parsed: transformers.PretrainedConfig, tensors: dict[str, weights.Tensor], path: Path,
) -> None:
    """Refuse a config whose sides ask for far more numbers than the weights hold.

    transformers would make room for all of them, and fill it at random, before it says that the shapes differ.
    """
    try:
        with torch.device("meta"):
            skeleton = class_.from_config(parsed, dtype=torch.float32)
    except _LOAD_ERRORS as error:
        raise _unusable(errors.first_line(error, folder=path)) from error
    asked = sum(parameter.numel() for parameter in skeleton.parameters())
    held = sum(tensor.elements for tensor in tensors.values())
    if asked > _SKELETON_SHARE * held + _SKELETON_SLACK:
        raise _unusable(f"one for {asked:,} numbers, with {held:,} in the weights")


def _unusable(detail: str) -> errors.ModelRefused:
    return errors.ModelRefused(
        "a config.json that transformers can use", got=detail,
        next_step="Copy the model's own config.json into its folder, or choose another model.",
        code="config_unusable", detail=detail,
    )


def _model(path: Path, config: dict[str, Any], family: str, dtype: str) -> transformers.PreTrainedModel:
    try:
        # Weights of another shape are let through here only to be named, and refused, by _check_report.
        model, report = _class(config, family).from_pretrained(
            path, use_safetensors=True, trust_remote_code=False, local_files_only=True,
            dtype=getattr(torch, dtype), output_loading_info=True, ignore_mismatched_sizes=True,
        )
    except _LOAD_ERRORS as error:
        raise errors.ModelRefused(
            "a checkpoint that transformers can open",
            got=f"{type(error).__name__}: {errors.first_line(error, folder=path)}",
            next_step="Check that config.json and the weights belong together, or choose another model.",
            code="checkpoint_unreadable", detail=errors.first_line(error, folder=path),
        ) from error
    _check_report(report)
    model.requires_grad_(False)
    return model.eval()


def _class(config: dict[str, Any], family: str) -> type:
    if family == "encoder-decoder":
        return transformers.AutoModelForSeq2SeqLM
    if family == "decoder-only":
        return transformers.AutoModelForCausalLM
    listed = config.get("architectures")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    # BERT's and ELECTRA's pretraining classes hold the masked-language head too, and so do XLM's and FlauBERT's.
    if any(name.endswith(("ForMaskedLM", "BertForPreTraining", "WithLMHeadModel")) for name in names):
        return transformers.AutoModelForMaskedLM
    return transformers.AutoModel


def _check_report(report: dict[str, Any]) -> None:
    """Refuse weights that do not fit. Tied weights are no longer among the missing when transformers reports."""
    missing = _outside_other_heads(report["missing_keys"])
    unexpected = [
        name for name in _outside_other_heads(report["unexpected_keys"]) if not _OLD_CONSTANTS.search(name)
    ]
    mismatched = sorted({str(entry[0]) for entry in report["mismatched_keys"]})
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    told = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in faults.items() if names]
    if told or report["error_msgs"]:
        detail = "; ".join(told) or _listed(report["error_msgs"])
        raise errors.ModelRefused(
            "weights that fit the architecture exactly", got=detail,
            next_step="Choose a checkpoint saved with this architecture; missing weights would be random numbers.",
            code="weights_mismatch", detail=detail, missing=len(missing), unexpected=len(unexpected),
            mismatched=len(mismatched),
        )


def _outside_other_heads(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not _OTHER_HEADS.search(name))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")


def _check_vocabulary(
    tokenizer: transformers.PreTrainedTokenizerBase, model: transformers.PreTrainedModel,
) -> None:
    """Refuse a tokenizer with ids that the embedding has no row for: on a GPU one such id spoils the process."""
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise errors.ModelRefused(
            f"token ids below the {rows} rows of the model's embedding", got=f"a tokenizer with ids up to {highest}",
            next_step="Put the tokenizer that was trained with the model into its folder.", code="tokenizer_too_large",
            rows=rows, highest=highest,
        )


def _place(model: transformers.PreTrainedModel, device: str) -> None:
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        model.to("cpu")
        torch.cuda.empty_cache()
        raise errors.OutOfMemory(
            f"the weights to fit on {device}", got="out of memory while moving them",
            next_step="Close what else uses the GPU, or choose a smaller model.", code="weights_out_of_memory",
            device=device,
        ) from error


def _bytes(model: transformers.PreTrainedModel) -> int:
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _revision(path: Path) -> str:
    """The commit, when `path` is a snapshot in the hub's cache; else the weights' hash."""
    if path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name):
        return path.name
    return weights.digest(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars or reports on stderr meanwhile; the settings are put back after. Called under _LOADING."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    if bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
