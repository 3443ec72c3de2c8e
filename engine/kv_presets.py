"""Well-known models by the shape of their cache, and the configurations to build each at full size.

`PRESETS` states each shape as its makers publish it; `CONFIGS` holds, for the
same names, what transformers needs to build the model. Tests hold the two to
each other and both to real cache objects. Nothing here is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.kv_shape import MLA_LATENT, KVShape


def _windows(n_layers: int, size: int, *, global_every: int = 0, first: int = 0) -> tuple[int | None, ...]:
    """`size` in every layer but each `global_every`-th, counted from `first`; 0 means in every layer."""
    return tuple(None if global_every and layer % global_every == first else size for layer in range(n_layers))


#: Published shapes: layers, KV heads, d_head; then query heads, widths, trained length, parameters.
PRESETS: Mapping[str, KVShape] = {shape.name: shape for shape in (
    KVShape(12, 12, 64, n_heads=12, d_model=768, d_vocab=50257, n_ctx=1024, n_params=124_439_808, name="gpt2"),
    KVShape(48, 25, 64, n_heads=25, d_model=1600, d_vocab=50257, n_ctx=1024, n_params=1_557_611_200, name="gpt2-xl"),
    KVShape(96, 96, 128, n_heads=96, d_model=12288, d_vocab=50257, n_ctx=2048, n_params=174_604_259_328,
            name="gpt3-175b"),
    KVShape(40, 40, 128, n_heads=40, d_model=5120, d_vocab=50272, n_ctx=2048, n_params=12_853_473_280,
            name="opt-13b"),
    KVShape(32, 32, 128, n_heads=32, d_model=4096, d_vocab=32000, n_ctx=4096, n_params=6_738_415_616,
            name="llama-2-7b"),
    KVShape(80, 8, 128, n_heads=64, d_model=8192, d_vocab=32000, n_ctx=4096, n_params=68_976_648_192,
            name="llama-2-70b"),
    KVShape(32, 8, 128, n_heads=32, d_model=4096, d_vocab=128256, n_ctx=8192, n_params=8_030_261_248,
            name="llama-3-8b"),
    KVShape(126, 8, 128, n_heads=128, d_model=16384, d_vocab=128256, n_ctx=131072, n_params=405_853_388_800,
            name="llama-3.1-405b"),
    KVShape(32, 8, 128, n_heads=32, windows=_windows(32, 4096), d_model=4096, d_vocab=32000, n_ctx=32768,
            n_params=7_241_732_096, name="mistral-7b-v0.1"),
    KVShape(32, 8, 128, n_heads=32, d_model=4096, d_vocab=32000, n_ctx=32768, n_params=46_702_792_704,
            name="mixtral-8x7b"),
    KVShape(28, 4, 128, n_heads=28, d_model=3584, d_vocab=152064, n_ctx=131072, n_params=7_615_616_512,
            name="qwen2.5-7b"),
    KVShape(36, 8, 128, n_heads=32, d_model=4096, d_vocab=151936, n_ctx=40960, n_params=8_190_735_360,
            name="qwen3-8b"),
    KVShape(94, 4, 128, n_heads=64, d_model=4096, d_vocab=151936, n_ctx=40960, n_params=235_093_634_560,
            name="qwen3-235b-a22b"),
    KVShape(42, 8, 256, n_heads=16, windows=_windows(42, 4096, global_every=2, first=1), d_model=3584, d_vocab=256000,
            n_ctx=8192, n_params=9_241_705_984, name="gemma-2-9b"),
    KVShape(62, 16, 128, n_heads=32, windows=_windows(62, 1024, global_every=6, first=5), d_model=5376, d_vocab=262208,
            n_ctx=131072, n_params=27_009_346_304, name="gemma-3-27b"),
    KVShape(32, 32, 96, n_heads=32, windows=_windows(32, 2047), d_model=3072, d_vocab=32064, n_ctx=4096,
            n_params=3_821_079_552, name="phi-3-mini-4k"),
    KVShape(24, 8, 64, n_heads=64, windows=_windows(24, 128, global_every=2, first=1), d_model=2880, d_vocab=201088,
            n_ctx=131072, n_params=20_914_757_184, name="gpt-oss-20b"),
    KVShape(36, 8, 64, n_heads=64, windows=_windows(36, 128, global_every=2, first=1), d_model=2880, d_vocab=201088,
            n_ctx=131072, n_params=116_829_156_672, name="gpt-oss-120b"),
    KVShape(32, 1, 64, n_heads=71, paged_kv_heads=71, d_model=4544, d_vocab=65024, n_ctx=2048, n_params=6_921_720_704,
            name="falcon-7b"),
    KVShape(60, 8, 64, n_heads=128, stored_kv_heads=128, d_model=8192, d_vocab=65024, n_ctx=2048,
            n_params=41_303_293_952, name="falcon-40b"),
    KVShape(60, 128, 192, n_heads=128, d_value=128, latent=MLA_LATENT, d_model=5120, d_vocab=102400, n_ctx=163840,
            n_params=235_741_434_880, name="deepseek-v2"),
    KVShape(61, 128, 192, n_heads=128, d_value=128, latent=MLA_LATENT, d_model=7168, d_vocab=129280, n_ctx=163840,
            n_params=671_026_404_352, name="deepseek-v3"),
    KVShape(24, 128, 128, n_heads=128, cross=True, d_model=1024, d_vocab=32128, n_params=11_307_321_344,
            name="t5-11b"),
    KVShape(6, 8, 64, n_heads=8, cross=True, d_model=512, d_vocab=65001, n_ctx=512, n_params=77_943_296,
            name="opus-mt"),
)}

_LLAMA = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
_LLAMA_3 = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8}
_QWEN_3 = {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "head_dim": 128,
           "max_position_embeddings": 40960}
_GPT_OSS = {"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 64, "sliding_window": 128, "vocab_size": 201088,
            "num_experts_per_tok": 4, "max_position_embeddings": 131072}
_DEEPSEEK = {"num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
             "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "max_position_embeddings": 163840}

#: What transformers needs to build each, as in its config.json.
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {"model_type": "gpt2"},
    "gpt2-xl": {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25},
    "gpt3-175b": {"model_type": "gpt2", "n_embd": 12288, "n_layer": 96, "n_head": 96, "n_positions": 2048},
    "opt-13b": {"model_type": "opt", "vocab_size": 50272, "hidden_size": 5120, "word_embed_proj_dim": 5120,
                "ffn_dim": 20480, "num_hidden_layers": 40, "num_attention_heads": 40},
    "llama-2-7b": {**_LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                   "num_attention_heads": 32},
    "llama-2-70b": {**_LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                    "num_attention_heads": 64, "num_key_value_heads": 8},
    "llama-3-8b": {**_LLAMA_3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                   "num_attention_heads": 32, "max_position_embeddings": 8192},
    "llama-3.1-405b": {**_LLAMA_3, "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
                       "num_attention_heads": 128, "max_position_embeddings": 131072},
    "mistral-7b-v0.1": {"model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
                        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
                        "sliding_window": 4096, "max_position_embeddings": 32768},
    "mixtral-8x7b": {"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
                     "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
                     "num_local_experts": 8, "sliding_window": None, "max_position_embeddings": 32768},
    "qwen2.5-7b": {"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
                   "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
                   "use_sliding_window": False, "max_position_embeddings": 131072},
    "qwen3-8b": {"model_type": "qwen3", **_QWEN_3, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "num_key_value_heads": 8},
    "qwen3-235b-a22b": {"model_type": "qwen3_moe", **_QWEN_3, "moe_intermediate_size": 1536, "num_hidden_layers": 94,
                        "num_attention_heads": 64, "num_key_value_heads": 4, "num_experts": 128,
                        "num_experts_per_tok": 8},
    "gemma-2-9b": {"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 3584, "intermediate_size": 14336,
                   "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
                   "sliding_window": 4096},
    "gemma-3-27b": {"model_type": "gemma3_text", "vocab_size": 262208, "hidden_size": 5376, "intermediate_size": 21504,
                    "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128,
                    "sliding_window": 1024, "max_position_embeddings": 131072},
    "phi-3-mini-4k": {"model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
                      "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
                      "sliding_window": 2047},
    "gpt-oss-20b": {**_GPT_OSS, "num_hidden_layers": 24, "num_local_experts": 32},
    "gpt-oss-120b": {**_GPT_OSS, "num_hidden_layers": 36, "num_local_experts": 128},
    "falcon-7b": {"model_type": "falcon", "vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32,
                  "num_attention_heads": 71, "multi_query": True, "new_decoder_architecture": False},
    "falcon-40b": {"model_type": "falcon", "vocab_size": 65024, "hidden_size": 8192, "num_hidden_layers": 60,
                   "num_attention_heads": 128, "num_kv_heads": 8, "new_decoder_architecture": True},
    "deepseek-v2": {"model_type": "deepseek_v2", **_DEEPSEEK, "vocab_size": 102400, "hidden_size": 5120,
                    "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 60,
                    "n_routed_experts": 160, "n_shared_experts": 2, "num_experts_per_tok": 6,
                    "first_k_dense_replace": 1, "n_group": 8, "topk_group": 3},
    "deepseek-v3": {"model_type": "deepseek_v3", **_DEEPSEEK, "vocab_size": 129280, "hidden_size": 7168,
                    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
                    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
                    "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4},
    "t5-11b": {"model_type": "t5", "vocab_size": 32128, "d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_layers": 24,
               "num_heads": 128},
    "opus-mt": {"model_type": "marian", "vocab_size": 65001, "d_model": 512, "encoder_layers": 6, "decoder_layers": 6,
                "encoder_attention_heads": 8, "decoder_attention_heads": 8, "encoder_ffn_dim": 2048,
                "decoder_ffn_dim": 2048, "max_position_embeddings": 512, "pad_token_id": 65000,
                "decoder_start_token_id": 65000},
}
