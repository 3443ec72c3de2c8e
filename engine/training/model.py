"""The demo model: a small stock Marian encoder–decoder, and how it is saved.

Knows the configuration and the file layout that `from_pretrained` reads. English-only output is a bias
on the logits (`final_logits_bias`), so that stock generation needs no extra code.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedTokenizerFast
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from .batches import END, PAD, START

FORBIDDEN = -10_000.0  # bias of an id that no English sentence holds; finite in float16


def build_config(
    d_vocab: int, *, d_model: int = 256, n_layers: int = 3, n_heads: int = 4, dropout: float = 0.2
) -> MarianConfig:
    """Configuration of the model; the feed-forward layer is four times as wide as the model."""
    return MarianConfig(
        vocab_size=d_vocab,
        decoder_vocab_size=d_vocab,
        d_model=d_model,
        encoder_layers=n_layers,
        decoder_layers=n_layers,
        encoder_attention_heads=n_heads,
        decoder_attention_heads=n_heads,
        encoder_ffn_dim=4 * d_model,
        decoder_ffn_dim=4 * d_model,
        max_position_embeddings=128,
        dropout=dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation_function="relu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=START,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        init_std=0.02,
    )


def build_model(config: MarianConfig, n_english: int, *, seed: int) -> MarianMTModel:
    """A fresh model whose output is limited to the first `n_english` ids, specials but `</s>` excluded."""
    torch.manual_seed(seed)
    model = MarianMTModel._from_config(config, attn_implementation="eager")
    torch.nn.init.normal_(model.model.shared.weight, std=config.d_model**-0.5)
    with torch.no_grad():
        model.model.shared.weight[PAD] = 0
        model.final_logits_bias.copy_(output_bias(config.vocab_size, n_english))
    return model


def output_bias(d_vocab: int, n_english: int) -> torch.Tensor:
    """Zero for ids that English text uses, FORBIDDEN for the rest: (1, d_vocab)."""
    bias = torch.full((1, d_vocab), FORBIDDEN)
    bias[0, START + 1 : n_english] = 0
    bias[0, END] = 0
    return bias


def save_model(
    folder: Path | str, model: MarianMTModel, weights: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Write configuration, float16 weights and tokenizer; the folder appears complete or not at all."""
    folder = Path(folder)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = stored_names(model)
    save_file(
        {n: weights[n].to(torch.float16).contiguous() for n in names},
        part / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.config.to_dict() | {"architectures": ["MarianMTModel"], "dtype": "float16", "_name_or_path": ""}
    config.pop("_attn_implementation_autoset", None)
    (part / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    GenerationConfig(
        num_beams=4,
        max_length=100,
        early_stopping=True,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=START,
        decoder_start_token_id=START,
    ).save_pretrained(part)
    tokenizer.save_pretrained(part)
    folder.mkdir(parents=True, exist_ok=True)
    for path in part.iterdir():
        os.replace(path, folder / path.name)
    part.rmdir()


def stored_names(model: MarianMTModel) -> list[str]:
    """Names of the tensors a checkpoint holds: no tied copies, no computed position tables."""
    seen: set[int] = set()
    names = []
    for name, tensor in model.state_dict().items():
        if "embed_positions" in name or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        names.append(name)
    return names


def load_model(folder: Path | str, **settings) -> MarianMTModel:
    """Load a saved model in float32, in evaluation mode; `settings` replace entries of its configuration.

    Raises:
        ValueError: the checkpoint lacks a weight or holds one that the model does not have.
    """
    model, info = MarianMTModel.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, attn_implementation="eager", **settings
    )
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ValueError(
            f"{folder}: expected every weight of a Marian model, missing {info['missing_keys']}, "
            f"unexpected {info['unexpected_keys']}"
        )
    for module in model.modules():
        if isinstance(module, MarianSinusoidalPositionalEmbedding):
            module.weight.requires_grad_(False)  # loading forgets that they are fixed; nothing stores them
    return model.eval()
