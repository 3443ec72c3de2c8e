"""Names of the memory page's things in the interface's language. Data and lookups, no behaviour of note."""

from __future__ import annotations

from collections.abc import Mapping

from engine.kv_memory import KVShape
from pages.widgets.language import Translate


def kinds(_: Translate) -> dict[str, str]:
    """Kind of cache → its name."""
    return {
        "dynamic": _("dynamic: grows token by token"), "static": _("static: reserved whole"),
        "paged": _("paged: grows by blocks"), "int8": _("quantised to 8 bits"), "int4": _("quantised to 4 bits"),
    }


def parts(_: Translate) -> dict[str, str]:
    """Part of a need → its name."""
    return {"weights": _("weights"), "cache": _("KV cache"), "logits": _("logits of the whole prompt"),
            "scores": _("one layer's score matrix")}


def variants(shapes: Mapping[str, KVShape], _: Translate) -> dict[str, str]:
    """Kind of attention → its name, with what it keeps of a token.

    Args:
        shapes: of `kv_memory.variants`.
    """
    names = {
        "own": _("the model's own: a latent") if shapes["own"].latent else _("the model's own, KV heads: {n}"),
        "mha": _("MHA, KV heads: {n}"), "gqa": _("GQA, KV heads: {n}"), "mqa": _("MQA, KV heads: {n}"),
        "mla": _("MLA: a latent of 512 + 64"), "window": _("the model's own, sliding window: {window:,}"),
    }
    window = shapes["window"].windows[0]
    return {kind: names[kind].format(n=shape.n_kv_heads, window=window) for kind, shape in shapes.items()}


def tokens(n: int, _: Translate) -> str:
    """A number of tokens."""
    return _("1 token") if n == 1 else _("{n:,} tokens").format(n=n)


def reasons(_: Translate) -> dict[str, str]:
    """Why a cache object and the formula differ, by the codes of `kv_memory.REASONS`."""
    return {
        "window_minus_one": _("A sliding layer keeps one token less than its window: the newest is added before it "
                              "attends."),
        "expanded_kv": _("This implementation expands the KV heads to all heads before it stores them."),
        "preallocated": _("A static cache reserves its whole length at once."),
        "pinned_prompt": _("After the prompt, a sliding layer's slice still holds the memory of the whole prompt; the "
                           "next step lets it go."),
        "spare_slot": _("A sliding layer's slice is cut from a tensor one token longer, whose memory it holds."),
        "unexplained": _("There is a difference that this page does not know a reason for."),
    }


def dtypes(_: Translate) -> dict[int, str]:
    """Bytes of a number → what such numbers are called."""
    return {4: _("32 bits (float32)"), 2: _("16 bits (bfloat16, float16)"), 1: _("8 bits (float8, int8)")}


def windows(shape: KVShape, _: Translate) -> str:
    """One sentence on the layers that see a window; "" when none does."""
    sizes = sorted({size for size in shape.windows if size is not None})
    if not sizes:
        return ""
    return _("{windowed} of {layers} layers see a window of {window} tokens and stop growing there.").format(
        windowed=sum(size is not None for size in shape.windows), layers=shape.n_layers,
        window=_(", ").join(f"{size:,}" for size in sizes))
