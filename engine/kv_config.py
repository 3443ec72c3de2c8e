"""Reads the shape of a model's cache from its configuration: a config.json, parsed or as text, or transformers' own.

What a stranger pasted is bounded before anything is built of it, and nothing
that comes with a model is run. It does not know whether transformers really
stores what the configuration says: `engine.kv_measure` looks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from engine import errors
from engine.budget import first_of, n_ctx
from engine.kv_presets import CONFIGS
from engine.kv_shape import KVShape

#: Longest config.json read, in characters.
LONGEST_CONFIG = 1_000_000
#: Largest whole number in a configuration, and of layers, heads, experts and list entries.
_LARGEST, _MOST = 10**8, 2048
_COUNTED = ("layer", "head", "expert", "group")
#: By these transformers divides before anyone can look at them.
_DIVISORS = frozenset({"num_attention_heads", "num_heads", "n_head", "n_heads"})
#: Entries that say nothing of the shape, some of which build long tables.
_IGNORED = frozenset({
    "architectures", "auto_map", "quantization_config", "id2label", "label2id", "num_labels", "task_specific_params",
    "transformers_version", "torch_dtype", "dtype", "_name_or_path", "vision_config", "audio_config",
})
#: What transformers raises over a configuration it cannot use.
CONFIG_ERRORS = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, ImportError, RuntimeError, ArithmeticError,
    NotImplementedError, AssertionError, StrictDataclassError,
)


def parse(text: str) -> dict[str, Any]:
    """The object in the text of a config.json.

    Raises:
        TextTooLong: more than LONGEST_CONFIG characters.
        ModelRefused: no JSON object (code "config_not_understood").
    """
    if len(text) > LONGEST_CONFIG:
        raise errors.TextTooLong(
            f"at most {LONGEST_CONFIG:,} characters of config.json", got=f"{len(text):,}",
            next_step="Paste the model's config.json alone.", code="too_many_characters", limit=LONGEST_CONFIG,
            length=len(text), what="text",
        )
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unusable(f"no JSON: {str(error)[:120]}") from error
    if not isinstance(parsed, dict):
        raise unusable(f"JSON, but no object: {type(parsed).__name__}")
    return parsed


def of_config(config: str | Mapping[str, Any] | transformers.PretrainedConfig) -> transformers.PretrainedConfig:
    """transformers' configuration of the text model that `config` describes: a preset's name, a parsed config.json, or
    one already made.

    Raises:
        ModelRefused: no such preset, or transformers cannot use it (code "config_not_understood").
    """
    if isinstance(config, str):
        if config not in CONFIGS:
            raise unusable(f"the name {config[:60]!r}, which no preset has")
        config = CONFIGS[config]
    if isinstance(config, Mapping):
        config = _made(config)
    if not isinstance(config, transformers.PretrainedConfig):
        raise unusable(f"no configuration, but {type(config).__name__}")
    return config if config.is_encoder_decoder else config.get_text_config(decoder=True)


def shape_of(config: str | Mapping[str, Any] | transformers.PretrainedConfig) -> KVShape:
    """The shape of the cache of the model that `config` describes; parameters are not counted.

    Args:
        config: as `of_config`.

    Raises:
        ModelRefused: unusable (code "config_not_understood"), without a cache (code "no_cache"), or with layers that
            keep something else than keys and values (code "cache_not_keys_values").
    """
    made = of_config(config)
    try:
        return _encoder_decoder(made) if made.is_encoder_decoder else _decoder(made)
    except errors.InvalidPrompt as error:
        raise unusable(f"{made.model_type} with {error.got}; expected {error.expected}") from error
    except CONFIG_ERRORS as error:
        raise unusable(f"{type(error).__name__}: {error}") from error


def is_encoder_only(config: transformers.PretrainedConfig) -> bool:
    """Whether a model of this type fills in masks, and is not set to be a decoder."""
    from transformers.models.auto import modeling_auto as auto

    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        return False
    return config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_causal(config: transformers.PretrainedConfig) -> bool:
    """Whether transformers has a causal language model of this type."""
    from transformers.models.auto import modeling_auto as auto

    return config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _made(parsed: Mapping[str, Any]) -> transformers.PretrainedConfig:
    _check_bounds(parsed)
    fields = {name: value for name, value in parsed.items() if name not in _IGNORED}
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str) or model_type not in transformers.CONFIG_MAPPING:
        raise unusable(f"the model_type {str(model_type)[:60]!r}, which transformers does not know" if model_type
                        else "no model_type")
    try:
        return transformers.AutoConfig.for_model(model_type, **fields)
    except CONFIG_ERRORS as error:
        raise unusable(f"{type(error).__name__}: {error}") from error


def _check_bounds(value: Any, name: str = "") -> None:
    """Refuse numbers and lists that no model has: transformers would build tables of that length."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _IGNORED:
                _check_bounds(inner, str(key))
    elif isinstance(value, list | tuple):
        if len(value) > _MOST:
            raise unusable(f"{name} with {len(value):,} entries")
        for inner in value:
            _check_bounds(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        most = _MOST if any(word in name for word in _COUNTED) and "dim" not in name else _LARGEST
        if not -1 <= value <= most:
            raise unusable(f"{name} = {value:,}")
        if value < 1 and name in _DIVISORS:
            raise unusable(f"{name} = {value}; expected a whole number from 1")


def _decoder(config: transformers.PretrainedConfig) -> KVShape:
    if is_encoder_only(config):
        raise errors.ModelRefused(
            "a model that writes token by token", got=f"{config.model_type}, an encoder, which keeps no cache",
            next_step="Choose a decoder or an encoder–decoder.", code="no_cache", model=config.model_type,
        )
    if not is_causal(config):
        raise unusable(f"{config.model_type}, which transformers does not know as a causal language model")
    layers = DynamicCache(config=config).layers  # transformers' own word on which layer keeps what
    other = [type(layer).__name__ for layer in layers
             if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer)]
    if other or not layers:
        raise errors.ModelRefused(
            "layers that all keep keys and values", got=f"{config.model_type} with {(other or ['no layers'])[0]}",
            next_step="Its cache is of another kind, which this calculator does not know.",
            code="cache_not_keys_values", model=config.model_type, layer=(other or ["no layers"])[0],
        )
    windows = tuple(getattr(layer, "sliding_window", None) for layer in layers)
    return KVShape(
        n_layers=len(layers), **_heads(config), windows=windows if any(size is not None for size in windows) else (),
        **_sizes(config),
    )


def _heads(config: transformers.PretrainedConfig) -> dict[str, int]:
    """KV heads and widths, by the names that model families use."""
    n_heads = _needed(config, "num_attention_heads", "n_head", "num_heads", "n_heads")
    n_kv_heads = _given(config, "num_key_value_heads", "num_kv_heads") or n_heads
    latent, rotary = first_of(config, "kv_lora_rank"), first_of(config, "qk_rope_head_dim")
    if latent and rotary:
        return {"n_heads": n_heads, "n_kv_heads": n_heads, "latent": latent + rotary,
                "d_head": first_of(config, "qk_nope_head_dim") + rotary, "d_value": first_of(config, "v_head_dim")}
    d_head = _given(config, "head_dim", "d_kv") or _share(config, n_heads, "hidden_size", "d_model", "n_embd")
    if config.model_type == "falcon":
        if not config.new_decoder_architecture and config.multi_query:
            return {"n_heads": n_heads, "n_kv_heads": 1, "d_head": d_head, "paged_kv_heads": n_heads}
        if not config.new_decoder_architecture:
            return {"n_heads": n_heads, "n_kv_heads": n_heads, "d_head": d_head}
        return {"n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_head": d_head, "stored_kv_heads": n_heads}
    if config.model_type == "gpt_bigcode":
        return {"n_heads": n_heads, "n_kv_heads": 1 if config.multi_query else n_heads, "d_head": d_head}
    return {"n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_head": d_head}


def _encoder_decoder(config: transformers.PretrainedConfig) -> KVShape:
    n_layers = _needed(config, "decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers")
    n_heads = _needed(config, "decoder_attention_heads", "num_attention_heads", "num_heads")
    d_head = _given(config, "d_kv") or _share(config, n_heads, "d_model", "hidden_size")
    return KVShape(n_layers, n_heads, d_head, n_heads=n_heads, cross=True, **_sizes(config))


def _given(config: transformers.PretrainedConfig, *names: str) -> int:
    """The first of the configuration's `names` that is set to a number; 0 where none is. Refuses one below 1."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise unusable(f"{config.model_type} with {name} = {value}; expected a whole number from 1")
            return value
    return 0


def _needed(config: transformers.PretrainedConfig, *names: str) -> int:
    """As `_given`, and refuses a configuration that sets none."""
    value = _given(config, *names)
    if not value:
        raise unusable(f"{config.model_type} without any of {', '.join(names)}, from which the cache's shape is read")
    return value


def _share(config: transformers.PretrainedConfig, n_heads: int, *names: str) -> int:
    """What each head has of the first of the widths `names`. Refuses a width that does not divide."""
    width = _needed(config, *names)
    if width % n_heads:
        raise unusable(f"{config.model_type} with a width of {width}, which {n_heads} heads do not divide")
    return width // n_heads


def _sizes(config: transformers.PretrainedConfig) -> dict[str, int]:
    return {"d_model": first_of(config, "hidden_size", "d_model", "n_embd"), "d_vocab": first_of(config, "vocab_size"),
            "n_ctx": n_ctx(config), "name": config.model_type}


def unusable(got: str) -> errors.ModelRefused:
    """The refusal of a configuration, for the reason `got`."""
    return errors.ModelRefused(
        "a config.json that transformers can use", got=got[:300],
        next_step="Paste the whole config.json of a text model that transformers knows.", code="config_not_understood",
        detail=got[:300],
    )
