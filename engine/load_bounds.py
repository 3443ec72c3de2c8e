"""Refuses model directories whose files ask for more than any model needs, before a library builds anything of them.

It reads numbers in a parsed config.json and sizes of files. It does not know
whether the model can be loaded: `engine.loading` finds out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
