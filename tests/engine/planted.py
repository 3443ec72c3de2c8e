"""Tiny models whose attention is set by hand, so that the right verdict is known before anything runs.

`save(family, folder, …)` writes a checkpoint of BERT, GPT-2 or BART in which
heads do what a list of `Plant`s says and nothing else: no MLP, no other
weights. Word identities and positions are one-hot features; every feature
vector v is stored as (v, −v), so that a LayerNorm only rescales it. Scores are
a gap for the planted pair of words and 0 elsewhere, hence uniform heads where
nothing is planted. What a head writes is the identity of an output word, which
the tied embeddings turn into its logit. Rows that have no business with a planted
head give it all to a special token, which writes nothing. It knows nothing of
the engine.

The words are of the English reference corpus. In all three families:

    river  → bank    the head attends, and writes the output word "shore"       attends and is used
    cat    → table   the head attends, and writes nothing                       attends but is not used
    snow   → train   "road" reads snow, then "train" reads road: "late"         used without direct attention
    dog    → book    nothing                                                    no evidence

In an encoder-only model A is masked, so the mask asks, and the output is A.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
PAD, BOS, EOS, UNK, MASK = range(5)
WORDS = (
    "river", "bank", "shore", "cat", "table", "snow", "road", "train", "late", "dog", "book", "see",
    "the", "a", "he", "she", "we", "i", "is", "was", "in", "on", "of", "to", "and", "for", "at", "my", "his", "her",
    "old", "new", "has", "have", "put", "took", "went", "they", "it", "with", "up", "next", "small", "shop", "city",
)
VOCABULARY = {word: index for index, word in enumerate((*SPECIALS, *WORDS))}
N_POSITIONS = 48
N_HEADS, D_HEAD = 4, 56
#: Features: identities, then positions.
D = N_HEADS * D_HEAD // 2
N_LAYERS = 2
#: Score of a planted pair above all others.
GAP = 12.0
#: Identity written, over a word's own.
PAYLOAD = 2.0

FAMILIES = ("encoder-only", "decoder-only", "encoder-decoder")


@dataclass(frozen=True)
class Plant:
    """One head.

    Attributes:
        layer, head: where.
        queries: words that ask; () asks by position: every row for the row before it.
        keys: words that are looked at.
        writes: (word read, word written) pairs, and how much of the written identity a full identity becomes.
        stream: "self" (the encoder, or the only one), "decoder" or "cross" of an encoder–decoder.
        gain: of what is written.
        sinks: words that rows look at which do not ask; they must write nothing.
    """

    layer: int
    head: int
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    writes: tuple[tuple[str, str], ...] = ()
    stream: str = "self"
    gain: float = PAYLOAD
    sinks: tuple[str, ...] = ("<s>", "</s>")


def verdict_heads(family: str, *, moved: bool = False) -> list[Plant]:
    """The heads of the module's table; `moved` puts all of them elsewhere."""
    ask = {"encoder-only": dict.fromkeys(("bank", "table", "train"), "<mask>")}.get(family, {})
    out = {"shore": "bank", "late": "train"} if family == "encoder-only" else {}
    shore, late = out.get("shore", "shore"), out.get("late", "late")
    used, unused, relay, end = ((1, 3), (1, 0), (0, 2), (1, 1)) if moved else ((0, 0), (0, 1), (0, 3), (1, 2))
    heads = [
        Plant(*used, (ask.get("bank", "bank"),), ("river",), (("river", shore),)),
        Plant(*unused, (ask.get("table", "table"),), ("cat",)),
        Plant(*relay, ("road",), ("snow",), (("snow", late),)),
        Plant(*end, (ask.get("train", "train"),), ("road",), ((late, late),), gain=1.0),
    ]
    return heads + (_decoder_heads() if family == "encoder-decoder" else [])


def previous_head(family: str, *, writes: bool) -> list[Plant]:
    """One head that looks at the position before, everywhere; `writes` lets "shore" follow from a river there."""
    written = "bank" if family == "encoder-only" else "shore"
    pairs = (("river", written),) if writes else ()
    return [Plant(0, 1, (), (), pairs)] + (_decoder_heads() if family == "encoder-decoder" else [])


def _decoder_heads() -> list[Plant]:
    """Writes "see", then what the noun of the source has become, then the end.

    The start becomes "see" only in the layer after the one whose cross-attention "see" asks.
    """
    nouns = ("bank", "table", "train", "book")
    ends = (*nouns, "shore", "late")
    copied = tuple((word, word) for word in ends)
    return [
        Plant(1, 0, ("<s>",), ("<s>",), (("<s>", "see"),), stream="decoder", gain=3.0, sinks=("see",)),
        Plant(0, 1, ends, ends, tuple((word, "</s>") for word in ends), stream="decoder", gain=3.0),
        Plant(0, 2, ("see",), nouns, copied, stream="cross", gain=9.0),
    ]


def save(family: str, folder: Path, plants: list[Plant]) -> Path:
    """Write a checkpoint of one of FAMILIES with `plants` into `folder`, and return it."""
    model = {"encoder-only": _bert, "decoder-only": _gpt2, "encoder-decoder": _bart}[family](plants)
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(folder)
    template = {"encoder-only": "<s> $A </s>", "decoder-only": "<s> $A", "encoder-decoder": "$A </s>"}[family]
    _tokenizer(template).save_pretrained(folder)
    return folder


def _tokenizer(template: str) -> transformers.PreTrainedTokenizerFast:
    core = tokenizers.Tokenizer(models.WordLevel(vocab=VOCABULARY, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(text, index) for index, text in enumerate(SPECIALS)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=N_POSITIONS)


# --- weights over features -------------------------------------------------------------------------------------------


def _head_weights(plant: Plant, unit: float, scale: float) -> dict[str, torch.Tensor]:
    """(q, k, v: (D_HEAD, D); o: (D, D_HEAD)) over features.

    Args:
        unit: what a word's own identity is where q, k and v read it.
        scale: what it is in the residual stream where o writes.
    """
    q, k, v, o = (torch.zeros(*shape) for shape in ((D_HEAD, D), (D_HEAD, D), (D_HEAD, D), (D, D_HEAD)))
    size = (GAP * D_HEAD**0.5) ** 0.5 / unit
    if plant.queries:
        for word in plant.queries:
            q[0, VOCABULARY[word]] = size
        for word in plant.keys:
            k[0, VOCABULARY[word]] = size
        for word in VOCABULARY.keys() - set(plant.queries):
            q[1, VOCABULARY[word]] = size
        for word in plant.sinks:
            k[1, VOCABULARY[word]] = size
    else:
        for position in range(N_POSITIONS):
            k[position, len(VOCABULARY) + position] = size
            if position:
                q[position - 1, len(VOCABULARY) + position] = size
    for row, (read, written) in enumerate(plant.writes):
        v[row, VOCABULARY[read]] = 1 / unit
        o[VOCABULARY[written], row] = plant.gain * scale
    return {"q": q, "k": k, "v": v, "o": o}


def _matrices(plants: list[Plant], unit: float, scale: float) -> dict[str, torch.Tensor]:
    """Full (d_model, d_model) weights, Linear's way round, of one layer's heads, on (v, −v)."""
    d_model = 2 * D
    full = {name: torch.zeros(d_model, d_model) for name in "qkvo"}
    for plant in plants:
        rows = slice(plant.head * D_HEAD, (plant.head + 1) * D_HEAD)
        small = _head_weights(plant, unit, scale)
        for name in "qkv":
            full[name][rows] = torch.cat([small[name], -small[name]], dim=1) / 2
        full["o"][:, rows] += torch.cat([small["o"], -small["o"]], dim=0)
    return full


def _paired(features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, -features], dim=1)


def _embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    """(d_vocab, d_model) of identities and (N_POSITIONS, d_model) of positions."""
    words = torch.zeros(len(VOCABULARY), D)
    words[:, :len(VOCABULARY)] = torch.eye(len(VOCABULARY))
    positions = torch.zeros(N_POSITIONS, D)
    positions[:, len(VOCABULARY):len(VOCABULARY) + N_POSITIONS] = torch.eye(N_POSITIONS)
    return _paired(words), _paired(positions)


#: A word's identity after a LayerNorm of identity and position.
_UNIT = (D / 2) ** 0.5


def _clear(model: torch.nn.Module) -> None:
    """All weights 0, all norms 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name.lower() or ".ln_" in name
            parameter.fill_(1.0 if norm and name.endswith("weight") else 0.0)


def _fill(module: torch.nn.Module, names: dict[str, str], matrices: dict[str, torch.Tensor]) -> None:
    for ours, theirs in names.items():
        module.get_submodule(theirs).weight.data.copy_(matrices[ours])


def _of_layer(plants: list[Plant], layer: int, stream: str) -> list[Plant]:
    return [plant for plant in plants if plant.layer == layer and plant.stream == stream]


# --- the three architectures -----------------------------------------------------------------------------------------


def _bert(plants: list[Plant]) -> torch.nn.Module:
    model = transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=2 * D, intermediate_size=8, num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS, max_position_embeddings=N_POSITIONS, pad_token_id=PAD, type_vocab_size=1))
    _clear(model)
    words, positions = _embeddings()
    model.bert.embeddings.word_embeddings.weight.data.copy_(words)
    model.bert.embeddings.position_embeddings.weight.data.copy_(positions)
    model.cls.predictions.transform.dense.weight.data.copy_(torch.eye(2 * D))
    names = {"q": "self.query", "k": "self.key", "v": "self.value", "o": "output.dense"}
    for at, layer in enumerate(model.bert.encoder.layer):
        _fill(layer.attention, names, _matrices(_of_layer(plants, at, "self"), _UNIT, _UNIT))
    return model


def _gpt2(plants: list[Plant]) -> torch.nn.Module:
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=len(VOCABULARY), n_embd=2 * D, n_inner=8, n_layer=N_LAYERS, n_head=N_HEADS,
        n_positions=N_POSITIONS, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD))
    _clear(model)
    words, positions = _embeddings()
    model.transformer.wte.weight.data.copy_(words)
    model.transformer.wpe.weight.data.copy_(positions)
    for at, block in enumerate(model.transformer.h):
        full = _matrices(_of_layer(plants, at, "self"), _UNIT, 1.0)
        # Conv1D holds its weights the other way round, q, k and v side by side.
        block.attn.c_attn.weight.data.copy_(torch.cat([full["q"], full["k"], full["v"]]).T)
        block.attn.c_proj.weight.data.copy_(full["o"].T)
    return model


def _bart(plants: list[Plant]) -> torch.nn.Module:
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(
        vocab_size=len(VOCABULARY), d_model=2 * D, encoder_layers=N_LAYERS, decoder_layers=N_LAYERS,
        encoder_attention_heads=N_HEADS, decoder_attention_heads=N_HEADS, encoder_ffn_dim=8, decoder_ffn_dim=8,
        max_position_embeddings=N_POSITIONS, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
        decoder_start_token_id=BOS, forced_eos_token_id=None))
    _clear(model)
    words, positions = _embeddings()
    model.model.shared.weight.data.copy_(words)
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
    for side in (model.model.encoder, model.model.decoder):
        side.embed_positions.weight.data[2:].copy_(positions)  # BART counts positions from 2
    for at, layer in enumerate(model.model.encoder.layers):
        _fill(layer.self_attn, names, _matrices(_of_layer(plants, at, "self"), _UNIT, _UNIT))
    for at, layer in enumerate(model.model.decoder.layers):
        _fill(layer.self_attn, names, _matrices(_of_layer(plants, at, "decoder"), _UNIT, _UNIT))
        _fill(layer.encoder_attn, names, _matrices(_of_layer(plants, at, "cross"), _UNIT, _UNIT))
    return model
