"""Trains small Transformers side by side on one task, for as long as somebody watches.

Every run sees the same batches, drawn from the seed; they take turns step by
step, so that their curves grow together. Adam as in Vaswani et al. 2017
(β₂ = .98), no weight decay, no clipping, no dropout: what helps a run along
would hide what the norm does. It knows nothing of threads: a generator, ended
by whoever stops asking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from engine.checks import amount, choice, of_type, positive
from engine.norm_depth import Design, Network, check_size

Task = Literal["copy", "reverse"]
TASKS: tuple[Task, ...] = ("copy", "reverse")

#: Tokens (and classes), sentence length, sentences a step.
D_VOCAB, SEQ_LEN, BATCH = 16, 12, 32
BETAS = (0.9, 0.98)
MOST_STEPS = 1000
#: Networks trained side by side, and steps that a learning rate rises over.
MOST_RUNS, MOST_WARMUP = 16, 1_000_000
#: Steps between two reports.
REPORT_EVERY = 5


@dataclass(frozen=True)
class Recipe:
    """One run: how its layers are put together, and over how many steps its learning rate rises from 0.

    Raises:
        InvalidPrompt: no Design (code "bad_type"), or no whole number of steps (code "bad_amount").
    """

    design: Design
    warmup: int = 0

    def __post_init__(self) -> None:
        of_type(self.design, Design)
        amount(self.warmup, what="warmup", most=MOST_WARMUP)


@dataclass(frozen=True)
class Comparison:
    """How far every run has come.

    Attributes:
        recipes: the runs.
        loss: (n_runs, n_done) float64, cross-entropy of each step's batch before the step, nats; uniform is ln D_VOCAB.
        accuracy: (n_runs,) float64, share of positions right in the latest batch.
        n_steps: of the whole run.
    """

    recipes: tuple[Recipe, ...]
    loss: np.ndarray
    accuracy: np.ndarray
    n_steps: int

    @property
    def n_done(self) -> int:
        """Steps taken so far."""
        return self.loss.shape[1]


def train_comparison(recipes: Sequence[Recipe], *, n_layers: int, d_model: int, task: Task = "reverse",
                     learning_rate: float = 1e-3, n_steps: int = 200, seed: int = 0) -> Iterator[Comparison]:
    """Train one network a recipe on the same batches; yields what is known every few steps and at the end.

    A run whose loss is no longer finite stays NaN.

    Args:
        recipes: at least one.
        n_layers, d_model: size of every network.
        task: which token each position must name: its own, or the one as far from the other end.
        learning_rate: after the warm-up; constant.

    Raises:
        InvalidPrompt: a size, a seed or a number of recipes or steps out of bounds (code "bad_amount"), an unknown
            task (code "bad_choice"), or a learning rate that is not finite and above 0 (code "bad_number").
    """
    check_size(n_layers, d_model)
    amount(len(recipes), what="number of recipes", least=1, most=MOST_RUNS)
    for recipe in recipes:
        of_type(recipe, Recipe)
    amount(n_steps, what="n_steps", least=1, most=MOST_STEPS)
    amount(seed, what="seed")
    choice(task, what="task", choices=TASKS)
    positive(learning_rate, what="learning_rate")
    networks = [Network(recipe.design, n_layers=n_layers, d_model=d_model, d_vocab=D_VOCAB, seq_len=SEQ_LEN, seed=seed)
                for recipe in recipes]
    optimizers = [torch.optim.Adam(network.parameters(), lr=learning_rate, betas=BETAS) for network in networks]
    generator = torch.Generator().manual_seed(seed)
    losses = np.full((len(recipes), n_steps), np.nan)
    accuracy = np.zeros(len(recipes))
    for step in range(n_steps):
        ids = torch.randint(D_VOCAB, (BATCH, SEQ_LEN), generator=generator)
        wanted = ids if task == "copy" else ids.flip(1)
        for run, (recipe, network, optimizer) in enumerate(zip(recipes, networks, optimizers, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(1.0, (step + 1) / max(recipe.warmup, 1))
            losses[run, step], accuracy[run] = _step(network, optimizer, ids, wanted)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == n_steps:
            yield Comparison(tuple(recipes), losses[:, : step + 1].copy(), accuracy.copy(), n_steps)


def _step(network: Network, optimizer: torch.optim.Optimizer, ids: torch.Tensor,
          wanted: torch.Tensor) -> tuple[float, float]:
    logits = network(ids)
    loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    value = float(loss.detach())
    return (value if np.isfinite(value) else np.nan), float((logits.argmax(-1) == wanted).float().mean())
