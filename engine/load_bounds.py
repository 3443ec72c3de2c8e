"""Refuses model directories whose files ask for more than any model needs, before a library builds anything of them.

It reads numbers in a parsed config.json and sizes of files. It does not know
whether the model can be loaded: `engine.loading` finds out.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine import errors

#: So many layers or experts pass however few tensors there are: ALBERT's layers share theirs, experts may lie in one.
_SHARED, _FUSED = 256, 512
#: Types whose experts are rows of a table, of which there may be thousands.
_EXPERT_TABLES = frozenset({"doge"})
#: Most layers or experts of any model, and the largest whole number in a config.
_MOST, _LARGEST = 2048, 10**8
_COUNTED = re.compile(r"layer|expert|num_hidden_groups|inner_group_num|num_blocks|block_sizes|block_repeats")
#: Widths, places and identifiers among the names that contain "layer" or "expert".
_NOT_COUNTED = re.compile(r"(?<!block_)size|dim|width|ffn|capacity|length|seq|tok|vocab|_id|rank|rate|position|window")
#: Names of numbers that no table is as long as; only what the machine cannot hold is refused.
_FREE = re.compile(r"theta|base|seed|param|flo|model_max_length|_time|date")
_FREE_LARGEST = 2**128
#: Entries that say nothing of the skeleton.
_IGNORED = frozenset({
    "architectures", "id2label", "label2id", "task_specific_params", "transformers_version", "_name_or_path",
})
#: Files that the libraries read whole, and the most bytes of each: a tokenizer takes several times its file in memory.
_FILE_LIMITS: Mapping[str, int] = {
    **dict.fromkeys((
        "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
        "sentencepiece.bpe.model", "source.spm", "target.spm",
    ), 256 * 2**20),
    **dict.fromkeys((
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
        "chat_template.json", "chat_template.jinja", "lexicon.json",
    ), 8 * 2**20),
}


def check_files(folder: Path) -> None:
    """Refuse files beside the weights that are too large to be read whole, or no regular files (links may lead to one).

    Raises:
        errors.ModelRefused: "tokenizer_unreadable", or of generation_config.json "config_unusable", with the
            file's name.
    """
    for name, limit in _FILE_LIMITS.items():
        try:
            state = (folder / name).stat()
        except OSError:
            continue  # absent, or for its reader to refuse
        if stat.S_ISREG(state.st_mode) and state.st_size <= limit:
            continue
        detail = (f"{name} of {state.st_size:,} bytes, more than {limit:,}" if stat.S_ISREG(state.st_mode)
                  else f"{name}, which is no regular file")
        if name == "generation_config.json":
            raise errors.ModelRefused(
                "a config.json that transformers can use", got=detail,
                next_step=f"Put the model's own {name} into its folder, or delete it.", code="config_unusable",
                detail=detail,
            )
        raise errors.ModelRefused(
            "a tokenizer that transformers can open", got=detail,
            next_step="Put the model's own tokenizer.json into its folder.", code="tokenizer_unreadable",
            detail=detail,
        )


def check_numbers(config: Mapping[str, Any], n_tensors: int) -> None:
    """Refuse a parsed config.json with more layers or experts than `n_tensors` weights can fill, or absurd numbers.

    transformers builds the whole skeleton first and compares it with the weights after.

    Raises:
        errors.ModelRefused: "weights_mismatch" for layers and experts, "config_unusable" for other numbers.
    """
    for name, value in _integers(config):
        counted = bool(_COUNTED.search(name)) and not _NOT_COUNTED.search(name)
        if "expert" in name and str(config.get("model_type")) in _EXPERT_TABLES:
            counted = False
        if counted and value > max(n_tensors, _FUSED if "expert" in name else _SHARED):
            detail = f"{_shown(name)} = {_number(value)}, with {n_tensors:,} tensors in the weights"
            raise errors.ModelRefused(
                "weights that fit the architecture exactly", got=detail,
                next_step="Choose a checkpoint saved with this architecture; missing weights would be random numbers.",
                code="weights_mismatch", detail=detail, missing=min(value, 10**12) - n_tensors, unexpected=0,
                mismatched=0,
            )
        most = _MOST if counted else _FREE_LARGEST if _FREE.search(name) else _LARGEST
        if abs(value) > most:
            detail = f"{_shown(name)} = {_number(value)}"
            raise errors.ModelRefused(
                "a config.json that transformers can use", got=detail,
                next_step="Copy the model's own config.json into its folder, or choose another model.",
                code="config_unusable", detail=detail,
            )


def _integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """(name, value) of every whole number in `value`; one in a list goes by the list's name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _IGNORED:
                yield from _integers(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _integers(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


def _number(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**30 else "a number of more than 30 digits"


def _shown(name: str) -> str:
    return ascii(name[:60])[1:-1]
