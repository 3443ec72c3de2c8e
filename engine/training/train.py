"""The training loop: seeded, resumable at epoch ends, with averaged weights and snapshots on the way.

Knows batches, the model and the schedule; it does not know where the sentences come from, and it judges
by the loss on a development split only. A resumed run on the same machine equals an uninterrupted one
bit for bit; across machines, thread counts or precisions it does not.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import MarianMTModel

from .batches import PAD, Corpus, Noise, epoch_batches
from .model import stored_names
from .schedule import WARM_UP, learning_rate

SNAPSHOT_STEPS = (0, 100, 200, 400, 700, 1100, 1700, 3000, 8000)
NO_NOISE = Noise(0, 0, 0, 0)


@dataclass(frozen=True)
class Settings:
    """Everything that decides the outcome besides the data."""

    epochs: int = 54
    batch_size: int = 200
    peak: float = 8e-4
    warm_up: int = WARM_UP
    label_smoothing: float = 0.1
    clip: float = 1.0
    average: float = 0.9995  # decay of the averaged weights, less while the run is young
    noise: Noise = field(default_factory=Noise)
    seed: int = 7
    device: str = "cpu"
    precision: str = "float32"  # or "bfloat16": autocast, weights stay float32
    snapshots: tuple[int, ...] = SNAPSHOT_STEPS


def choose_precision(device: str) -> str:
    """bfloat16 where the processor computes it natively, else float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    try:
        return "bfloat16" if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else "float32"
    except OSError:
        return "float32"


def batch_loss(model: MarianMTModel, batch, n_english: int, settings: Settings) -> tuple[torch.Tensor, int]:
    """Label-smoothed cross-entropy, summed over the batch's words, and their number.

    The softmax runs over the first `n_english` rows of the tied embedding, the only ids that occur.
    """
    device = settings.device
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        hidden = model.model(
            input_ids=batch.source.to(device),
            attention_mask=batch.mask.to(device),
            decoder_input_ids=batch.inputs.to(device),
            use_cache=False,
        ).last_hidden_state
        labels = batch.labels.to(device)
        kept = labels != PAD
        logits = torch.nn.functional.linear(hidden[kept], model.model.shared.weight[:n_english])
    smoothing = settings.label_smoothing if model.training else 0.0
    return torch.nn.functional.cross_entropy(
        logits.float(), labels[kept], label_smoothing=smoothing, reduction="sum"
    ), int(kept.sum())


@torch.no_grad()
def mean_loss(model: MarianMTModel, corpus: Corpus, n_english: int, settings: Settings) -> float:
    """Cross-entropy a word over a corpus, without noise, smoothing or dropout."""
    was_training = model.training
    model.eval()
    total, words = 0.0, 0
    for batch in epoch_batches(corpus, size=settings.batch_size, seed=0, epoch=0, noise=NO_NOISE):
        loss, n = batch_loss(model, batch, n_english, settings)
        total, words = total + loss.item(), words + n
    model.train(was_training)
    return total / words


class Average:
    """Exponential moving average of the trained weights; young averages forget faster."""

    def __init__(self, model: MarianMTModel, decay: float) -> None:
        self.decay = decay
        self.names = [n for n, p in model.named_parameters() if p.requires_grad]
        self.weights = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def update(self, model: MarianMTModel, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, [p.detach() for p in model.parameters() if p.requires_grad], 1 - decay)

    def state_dict(self, model: MarianMTModel) -> dict[str, torch.Tensor]:
        """The model's state dict with the averaged weights in place, copies throughout."""
        state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        averaged = dict(zip(self.names, self.weights))
        tied = {p.data_ptr(): n for n, p in model.named_parameters()}
        for name, tensor in model.state_dict().items():
            source = averaged.get(tied.get(tensor.data_ptr(), name))
            if source is not None:
                state[name] = source.clone()
        return state


def save_checkpoint(path: Path, model, optimizer, average: Average, *, epoch: int, step: int, seconds: float) -> None:
    """Everything needed to go on after `epoch` finished epochs, as safetensors; written to a temporary name first."""
    tensors = {f"model.{name}": tensor.clone() for name, tensor in model.state_dict().items()}  # tied ones apart
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.clone() for name, tensor in slots.items()}
    tensors |= {f"average.{index}": tensor.clone() for index, tensor in enumerate(average.weights)}
    tensors["random"] = torch.get_rng_state()
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"epoch": str(epoch), "step": str(step), "seconds": repr(seconds)})
    os.replace(part, path)


def load_checkpoint(path: Path, model, optimizer, average: Average) -> tuple[int, int, float]:
    """Put what `save_checkpoint` wrote back into place; returns the finished epochs, steps, and seconds."""
    with safe_open(path, framework="pt") as file:
        totals = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — not a mapping
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()
                           if name.startswith("model.")})
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    average.weights = [tensors[f"average.{index}"].to(weight.device) for index, weight in enumerate(average.weights)]
    torch.set_rng_state(tensors["random"])
    return int(totals["epoch"]), int(totals["step"]), float(totals["seconds"])


def train(
    model: MarianMTModel,
    corpus: Corpus,
    dev: Corpus,
    n_english: int,
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Train to the end of the last epoch.

    Args:
        folder: where checkpoint.safetensors, log.jsonl and snapshot-STEP.safetensors (float16) go.
        resume: continue from folder's checkpoint; `settings.epochs` may differ while decay has not begun.
        stop_after: end early after so many epochs of the whole, as an interruption would.

    Returns:
        The averaged weights and the totals {"steps", "epochs", "seconds", "dev_loss"}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.to(settings.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.peak, betas=(0.9, 0.98), eps=1e-9, fused=True)
    average = Average(model, settings.average)
    per_epoch = -(-len(corpus.sources) // settings.batch_size)
    total = per_epoch * settings.epochs
    epoch = step = 0
    before = 0.0
    torch.manual_seed(settings.seed)
    checkpoint = folder / "checkpoint.safetensors"
    if resume:
        epoch, step, before = load_checkpoint(checkpoint, model, optimizer, average)
    report(f"{total} steps, {per_epoch} an epoch, from step {step}, {settings.precision} on {settings.device}")

    def snapshot() -> None:
        if step in settings.snapshots:
            state = average.state_dict(model)
            save_file(
                {n: state[n].to(torch.float16).cpu().contiguous() for n in stored_names(model)},
                folder / f"snapshot-{step:06d}.safetensors",
            )

    started = time.monotonic()
    if not resume:
        snapshot()
    dev_loss = float("nan")
    while epoch < settings.epochs:
        loss_sum, words = 0.0, 0
        for batch in epoch_batches(
            corpus, size=settings.batch_size, seed=settings.seed, epoch=epoch, noise=settings.noise
        ):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, total, peak=settings.peak, warm_up=settings.warm_up)
            loss, n = batch_loss(model, batch, n_english, settings)
            optimizer.zero_grad(set_to_none=True)
            (loss / n).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            step += 1
            average.update(model, step)
            loss_sum, words = loss_sum + loss.item(), words + n
            snapshot()
            if step % 50 == 0:
                seconds = before + time.monotonic() - started
                report(
                    f"step {step}/{total} loss {loss_sum / words:.3f} lr {group['lr']:.2e} {seconds / 60:.1f} min, "
                    f"ETA {seconds / step * (total - step) / 60:.1f} min"
                )
        epoch += 1
        kept = {n: t.clone() for n, t in model.state_dict().items()}
        model.load_state_dict(average.state_dict(model))
        dev_loss = mean_loss(model, dev, n_english, settings)
        model.load_state_dict(kept)
        seconds = before + time.monotonic() - started
        save_checkpoint(checkpoint, model, optimizer, average, epoch=epoch, step=step, seconds=seconds)
        entry = {
            "epoch": epoch,
            "step": step,
            "loss": round(loss_sum / words, 4),
            "dev_loss": round(dev_loss, 4),
            "seconds": round(seconds),
        }
        with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        report(f"epoch {epoch}/{settings.epochs}: {entry}")
        if stop_after is not None and epoch >= stop_after:
            break
    if math.isnan(dev_loss):  # resumed after the last epoch: nothing was left to train
        model.load_state_dict(average.state_dict(model))
        dev_loss = mean_loss(model, dev, n_english, settings)
        started = time.monotonic()
    return average.state_dict(model), {
        "steps": step,
        "epochs": epoch,
        "dev_loss": round(dev_loss, 4),
        "seconds": round(before + time.monotonic() - started),
    }
