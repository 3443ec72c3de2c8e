"""Tiny transformer models with random weights, saved to disk as real checkpoints.

`save(kind, folder)` writes a complete model directory (config, safetensors,
fast tokenizer) of one architecture, small enough to load in milliseconds.
Weights are drawn wider than a fresh initialisation, so that attention maps
are far from uniform and a wrong map cannot pass for a right one. It knows
nothing of the engine under test.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
PAD, BOS, EOS, UNK, MASK = range(5)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MARKS = "▁.,!?。，"
CHARACTERS = "我你他喜欢吃苹果发布了新手机每天一个买的股票"
MERGES = (("t", "h"), ("th", "e"), ("苹", "果"), ("喜", "欢"))
VOCABULARY = {
    text: index
    for index, text in enumerate((*SPECIALS, *MARKS, *LETTERS, *CHARACTERS, *(a + b for a, b in MERGES)))
}
D_VOCAB = len(VOCABULARY)

#: Every architecture that `save` can write.
KINDS = (
    "gpt2", "llama", "mistral", "qwen3", "gemma2", "gpt_oss", "bert", "modernbert", "t5", "bart", "opt", "marian",
    "deberta_v2", "bloom", "mamba", "layoutlm",
)

_ROTARY = dict(
    vocab_size=D_VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
)
_BERT = dict(
    vocab_size=D_VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=256, pad_token_id=PAD,
)
_BART = dict(
    vocab_size=D_VOCAB, d_model=32, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=256,
    pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, forced_eos_token_id=EOS,
)


def _gpt2() -> torch.nn.Module:
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=D_VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=256, bos_token_id=BOS, eos_token_id=EOS))


def _llama() -> torch.nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_ROTARY))


def _mistral() -> torch.nn.Module:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**_ROTARY, sliding_window=4))


def _qwen3() -> torch.nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_ROTARY, head_dim=16))


def _gemma2() -> torch.nn.Module:
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(
        **_ROTARY, head_dim=16, query_pre_attn_scalar=24, attn_logit_softcapping=2.0, sliding_window=4))


def _gpt_oss() -> torch.nn.Module:
    return transformers.GptOssForCausalLM(transformers.GptOssConfig(
        **_ROTARY, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=4,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}))


def _bert() -> torch.nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**_BERT))


def _layoutlm() -> torch.nn.Module:
    """Its masks have one row for all queries, (1, 1, 1, k_len)."""
    return transformers.LayoutLMForMaskedLM(transformers.LayoutLMConfig(**_BERT))


def _modernbert() -> torch.nn.Module:
    sizes = {**_BERT, "num_hidden_layers": 4}
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(
        **sizes, local_attention=6, global_attn_every_n_layers=2, cls_token_id=BOS, sep_token_id=EOS,
        bos_token_id=BOS, eos_token_id=EOS))


def _t5() -> torch.nn.Module:
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=D_VOCAB, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=16, pad_token_id=PAD, eos_token_id=EOS,
        decoder_start_token_id=PAD))


def _bart() -> torch.nn.Module:
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**_BART, decoder_start_token_id=EOS))


def _opt() -> torch.nn.Module:
    return transformers.OPTForCausalLM(transformers.OPTConfig(
        vocab_size=D_VOCAB, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, word_embed_proj_dim=32, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS))


def _marian() -> torch.nn.Module:
    return transformers.MarianMTModel(transformers.MarianConfig(**_BART, decoder_start_token_id=PAD))


def _deberta_v2() -> torch.nn.Module:
    return transformers.DebertaV2ForMaskedLM(transformers.DebertaV2Config(
        **_BERT, relative_attention=True, position_buckets=8, pos_att_type=["c2p", "p2c"], share_att_key=True,
        norm_rel_ebd="layer_norm", position_biased_input=False))


def _bloom() -> torch.nn.Module:
    return transformers.BloomForCausalLM(transformers.BloomConfig(
        vocab_size=D_VOCAB, hidden_size=32, n_layer=2, n_head=4, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS))


def _mamba() -> torch.nn.Module:
    return transformers.MambaForCausalLM(transformers.MambaConfig(
        vocab_size=D_VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=PAD, bos_token_id=BOS,
        eos_token_id=EOS))


_BUILDERS = {kind: globals()[f"_{kind}"] for kind in KINDS}

#: Standard deviation of the weight matrices, by kind; where q·k is not divided by √d_head (T5), smaller.
_SPREAD = {"t5": 0.15}
_SPREAD_ELSE = 0.25

#: What the tokenizer puts around a text.
_TEMPLATES = {
    "gpt2": "$A", "bloom": "$A", "mamba": "$A", "qwen3": "$A", "gpt_oss": "$A",
    "llama": "<s> $A", "mistral": "<s> $A", "gemma2": "<s> $A", "opt": "</s> $A",
    "bert": "<s> $A </s>", "modernbert": "<s> $A </s>", "deberta_v2": "<s> $A </s>", "layoutlm": "<s> $A </s>",
    "bart": "<s> $A </s>", "t5": "$A </s>", "marian": "$A </s>",
}


def model(kind: str, *, seed: int = 0) -> torch.nn.Module:
    """A freshly drawn model of `kind`, in eval mode, float32, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = _BUILDERS[kind]()
        if kind != "mamba":
            _widen(built, _SPREAD.get(kind, _SPREAD_ELSE))
    return built.eval()


def _widen(built: torch.nn.Module, spread: float) -> None:
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if not parameter.requires_grad:  # Marian's sinusoidal positions
                continue
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "emb" in name or "wte" in name or "shared" in name or "relative_attention_bias" in name:
                parameter.normal_(0.0, 1.0)
            else:
                parameter.normal_(0.0, spread)


def tokenizer(template: str = "$A </s>") -> transformers.PreTrainedTokenizerFast:
    """A fast BPE tokenizer of letters, a few Chinese characters and words; `template` frames the text.

    Spaces become the token ▁; every other character has its own token or is `<unk>`.
    """
    core = tokenizers.Tokenizer(models.BPE(vocab=VOCABULARY, merges=list(MERGES), unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="never", split=False)
    core.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(text, index) for index, text in enumerate(SPECIALS)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>", cls_token="<s>", sep_token="</s>", model_max_length=256)


def save(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a complete checkpoint of `kind` into `folder` (created if need be) and return it.

    Args:
        kind: one of KINDS.
        folder: the model directory itself.
        seed: draws the weights.

    Raises:
        KeyError: unknown kind.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model(kind, seed=seed).save_pretrained(folder)
    tokenizer(_TEMPLATES[kind]).save_pretrained(folder)
    return folder
