"""A small Transformer with the norm after, before or nowhere, and what its gradients are before the first step.

The layers are those of Vaswani et al. 2017 (Post-LN: x ← LN(x + f(x))) and of
Xiong et al. 2020 (Pre-LN: x ← x + f(LN(x)), and one LN at the end); "none"
leaves every norm out, and residuals can be cut (x ← f(x)). Weights are drawn
by Xavier's rule from a generator of their own, so the same seed gives the same
numbers whatever else the process draws.

It knows random tokens and random classes: what it measures holds before
training, and says nothing of a trained model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.checks import amount, choice, of_type

Placement = Literal["post", "pre", "none"]
PLACEMENTS: tuple[Placement, ...] = ("post", "pre", "none")

#: Depths of the sweep, layers.
DEPTHS = (2, 4, 6, 8, 12, 16, 20, 24)
MOST_LAYERS, MOST_WIDTH = 24, 256
#: Width of a head; d_model must be a multiple of it.
D_HEAD = 16
#: Random sentences, their length and the classes of the measurement.
N_SENTENCES, SEQ_LEN, D_VOCAB = 8, 16, 32
#: Weights and tokens drawn anew; the gradients' norms are averaged over them.
N_DRAWS = 2
#: Standard deviation of the classifier's weights (GPT-2's): with larger ones all tokens err towards the same classes
#: from the start, and what their gradients then share grows with depth and hides what the norm does.
HEAD_STD = 0.02


@dataclass(frozen=True)
class Design:
    """How a layer is put together: where its norms stand, and whether its input is added to its output.

    Raises:
        InvalidPrompt: an unknown placement (code "bad_choice").
    """

    placement: Placement
    residuals: bool = True

    def __post_init__(self) -> None:
        choice(self.placement, what="placement", choices=PLACEMENTS)


@dataclass(frozen=True)
class GradientNorms:
    """What one network does before its first step.

    Attributes:
        design, n_layers, d_model: which network.
        attention: (n_layers,) float64, Frobenius norm of the loss's gradient by each attention's output projection.
        ffn: (n_layers,) float64, the same by each feed-forward network's second matrix.
        stream: (n_layers + 1,) float64, root mean square of the stream before the first and after each layer.
        loss: cross-entropy, nats.
    """

    design: Design
    n_layers: int
    d_model: int
    attention: np.ndarray
    ffn: np.ndarray
    stream: np.ndarray
    loss: float


class Layer(nn.Module):
    """Self-attention and a feed-forward network of 4·d_model, put together as `design` says."""

    def __init__(self, design: Design, d_model: int) -> None:
        super().__init__()
        self.design, self.n_heads = design, d_model // D_HEAD
        self.query_key_value = nn.Linear(d_model, 3 * d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.widen = nn.Linear(d_model, 4 * d_model)
        self.narrow = nn.Linear(4 * d_model, d_model)
        normed = design.placement != "none"
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) if normed else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq_len, d_model) → the same shape."""
        for norm, sublayer in zip(self.norms, (self._attend, self._feed), strict=True):
            inner = sublayer(norm(x) if self.design.placement == "pre" else x)
            x = x + inner if self.design.residuals else inner
            x = norm(x) if self.design.placement == "post" else x
        return x

    def _attend(self, x: Tensor) -> Tensor:
        parts = self.query_key_value(x).unflatten(-1, (3, self.n_heads, D_HEAD)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts)
        return self.output(mixed.transpose(1, 2).flatten(-2))

    def _feed(self, x: Tensor) -> Tensor:
        return self.narrow(functional.relu(self.widen(x)))


class Network(nn.Module):
    """Tokens and positions in, a class for every position out; every position sees every other.

    Args:
        design: of its layers.
        n_layers, d_model: its size; d_model a multiple of D_HEAD.
        d_vocab, seq_len: tokens (and classes), and the longest sentence.
        seed: draws the weights.
    """

    def __init__(self, design: Design, *, n_layers: int, d_model: int, d_vocab: int, seq_len: int, seed: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(d_vocab, d_model)
        self.positions = nn.Embedding(seq_len, d_model)
        self.layers = nn.ModuleList(Layer(design, d_model) for _ in range(n_layers))
        self.last_norm = nn.LayerNorm(d_model) if design.placement == "pre" else nn.Identity()
        self.head = nn.Linear(d_model, d_vocab)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if name.startswith(("tokens", "positions")):
                nn.init.normal_(weight, std=math.sqrt(0.5), generator=generator)  # their sum has variance 1
            elif name == "head.weight":
                nn.init.normal_(weight, std=HEAD_STD, generator=generator)
            elif weight.ndim == 2:
                nn.init.xavier_uniform_(weight, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (batch, seq_len) → logits (batch, seq_len, d_vocab)."""
        return self.head(self.last_norm(self.streams(ids)[-1]))

    def streams(self, ids: Tensor) -> list[Tensor]:
        """The stream before the first and after each layer, n_layers + 1 of (batch, seq_len, d_model)."""
        streams = [self.tokens(ids) + self.positions.weight[: ids.shape[1]]]
        for layer in self.layers:
            streams.append(layer(streams[-1]))
        return streams


def gradient_norms(n_layers: int, d_model: int, *, design: Design, seed: int = 0) -> GradientNorms:
    """Gradient norm of each layer and size of the stream at initialisation, averaged over N_DRAWS draws.

    The loss is the mean cross-entropy of random classes over N_SENTENCES random sentences.

    Raises:
        InvalidPrompt: a depth or a width outside of the bounds, or a seed below 0 (code "bad_amount").
    """
    check_size(n_layers, d_model)
    of_type(design, Design)
    amount(seed, what="seed")
    draws = [_draw(n_layers, d_model, design, seed=seed * N_DRAWS + draw) for draw in range(N_DRAWS)]
    attention, ffn, stream, loss = (np.mean([draw[part] for draw in draws], axis=0) for part in range(4))
    return GradientNorms(design, n_layers, d_model, attention, ffn, stream, float(loss))


def sweep(d_model: int, *, residuals: bool = True, depths: Sequence[int] = DEPTHS, seed: int = 0,
          placements: Sequence[Placement] = PLACEMENTS) -> Iterator[tuple[GradientNorms, ...]]:
    """`gradient_norms` for every depth and placement, shallow ones first; yields all that is known after each.

    Raises:
        InvalidPrompt: as `gradient_norms`.
    """
    known: tuple[GradientNorms, ...] = ()
    for n_layers in depths:
        for placement in placements:
            known += (gradient_norms(n_layers, d_model, design=Design(placement, residuals), seed=seed),)
            yield known


def check_size(n_layers: int, d_model: int) -> None:
    """Refuse networks that would take minutes, and widths that do not split into heads."""
    amount(n_layers, what="n_layers", least=1, most=MOST_LAYERS)
    amount(d_model, what="d_model", least=D_HEAD, most=MOST_WIDTH)
    heads = d_model // D_HEAD if d_model % D_HEAD == 0 else d_model / D_HEAD
    amount(heads, what=f"d_model / {D_HEAD}", least=1, most=MOST_WIDTH // D_HEAD)


def _draw(n_layers: int, d_model: int, design: Design, *,
          seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    network = Network(design, n_layers=n_layers, d_model=d_model, d_vocab=D_VOCAB, seq_len=SEQ_LEN, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    ids, classes = (torch.randint(D_VOCAB, (N_SENTENCES, SEQ_LEN), generator=generator) for _ in range(2))
    streams = network.streams(ids)
    loss = functional.cross_entropy(network.head(network.last_norm(streams[-1])).flatten(0, 1), classes.flatten())
    weights = [layer.output.weight for layer in network.layers] + [layer.narrow.weight for layer in network.layers]
    norms = np.array([float(gradient.norm()) for gradient in torch.autograd.grad(loss, weights)])
    sizes = np.array([float(stream.detach().square().mean().sqrt()) for stream in streams])
    return norms[:n_layers], norms[n_layers:], sizes, float(loss.detach())
