"""After training: measure the model once, and write what ships (weights, metrics.json, snapshots).

Knows the layout of the finished folder. The test pairs are translated here and nowhere else; beam length
is chosen on the development pairs.
"""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import sacrebleu
import tokenizers
import torch
import transformers
from safetensors.torch import load_file
from transformers import MarianMTModel, PreTrainedTokenizerFast

from .corpus import SHOWN, Data
from .evaluate import corpus_scores, sense_scores, translate
from .handwritten import BLIND, KNOWN, read_checks
from .model import load_model, stored_names
from .snapshots import GROUP, read_snapshot, save_snapshot

PROBE_PAIRS = 200  # development pairs translated at each snapshot
MAP_PAIRS = 64  # development pairs whose encoder maps are compared, beside the shown sentences
LENGTHS = (0.8, 1.0, 1.2, 1.4)  # exponents of beam search's length normalisation that are tried


def choose_length(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, data: Data) -> float:
    """The length exponent with the best BLEU on the development pairs, written into the generation settings."""

    def score(exponent: float) -> float:
        model.generation_config.length_penalty = exponent
        outputs = translate(model, tokenizer, [p.chinese for p in data.split.dev])
        return corpus_scores(outputs, [p.english for p in data.split.dev])["bleu"]

    best = max(LENGTHS, key=score)
    model.generation_config.length_penalty = best
    return best


def measure(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, data: Data) -> dict:
    """Every number of the model card."""
    outputs = translate(model, tokenizer, [p.chinese for p in data.split.test])
    test = corpus_scores(outputs, [p.english for p in data.split.test]) | {"n_pairs": len(outputs)}
    held = translate(model, tokenizer, [e.pair.chinese for e in data.held_out])
    held_out = sense_scores(held, data.held_out)
    held_out["same_as_template"] = round(sum(o == e.pair.english for o, e in zip(held, data.held_out)) / len(held), 4)
    handwritten = {name: handwritten_scores(model, tokenizer, name) for name in (KNOWN, BLIND)}
    held_out["wrong"] = [
        {"chinese": data.held_out[i].pair.chinese, "sense": data.held_out[i].sense, "output": held[i]}
        for i in held_out["wrong"][:40]
    ]
    shown = dict(zip(SHOWN, translate(model, tokenizer, SHOWN)))
    return {
        "tatoeba_test": test,
        "template_held_out": held_out,
        "handwritten": handwritten[KNOWN],
        "handwritten_blind": handwritten[BLIND],
        "shown": shown,
    }


def handwritten_scores(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, name: str) -> dict:
    """Sense scores of one set of hand-written sentences, the wrong ones with their output."""
    checks = read_checks(name)
    outputs = translate(model, tokenizer, [c.chinese for c in checks])
    scores = sense_scores(outputs, checks)
    wrong = [(checks[i], outputs[i]) for i in scores["wrong"]]
    return scores | {"wrong": [{"chinese": c.chinese, "sense": c.sense, "output": output} for c, output in wrong]}


@torch.inference_mode()
def encoder_maps(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[torch.Tensor]:
    """Attention patterns of the encoder, one tensor (n_layers, n_heads, k_len, k_len) a sentence."""
    model.set_attn_implementation("eager")
    maps = []
    for text in texts:
        out = model.model.encoder(**tokenizer(text, return_tensors="pt"), output_attentions=True)
        maps.append(torch.cat(out.attentions))
    return maps


def write_snapshots(
    run: Path, folder: Path, tokenizer: PreTrainedTokenizerFast, data: Data, *, per_epoch: int
) -> list[dict]:
    """Quantise the run's snapshots into folder/snapshots; returns their entries, with what four bits do to the maps."""
    target = folder / "snapshots"
    target.mkdir()
    texts = [p.chinese for p in data.split.dev[:MAP_PAIRS]] + list(SHOWN)
    model = load_model(folder)
    entries = []
    for path in sorted(run.glob("snapshot-*.safetensors")):
        step = int(path.stem.removeprefix("snapshot-"))
        entry = {"step": step, "epoch": round(step / per_epoch, 2), "file": f"step-{step:06d}.safetensors"}
        weights = load_file(path)
        save_snapshot(target / entry["file"], weights)
        model.load_state_dict({n: t.float() for n, t in weights.items()}, strict=False)
        exact = encoder_maps(model, tokenizer, texts)
        model.load_state_dict(read_snapshot(target / entry["file"]), strict=False)
        errors = [(a - b).abs() for a, b in zip(exact, encoder_maps(model, tokenizer, texts))]
        entry["map_error_max"] = round(max(e.max().item() for e in errors), 4)
        entry["map_error_mean"] = round(sum(e.sum().item() for e in errors) / sum(e.numel() for e in errors), 5)
        entries.append(entry)
    return entries


def copy_snapshots(start: Path, folder: Path) -> list[dict]:
    """The snapshots of the training that `folder` went on from, as they ship; the start itself was the last of them."""
    shutil.copytree(start / "snapshots", folder / "snapshots")
    index = json.loads((start / "snapshots" / "index.json").read_text(encoding="utf-8"))
    return [e for e in index["snapshots"] if e["file"].startswith("step-")]


def measure_snapshots(
    folder: Path, entries: list[dict], tokenizer: PreTrainedTokenizerFast, data: Data, *, final: dict
) -> list[dict]:
    """Measure every snapshot as it ships, the finished model last, and write snapshots/index.json."""
    dev, held = data.split.dev[:PROBE_PAIRS], data.held_out[::4]
    entries = [*entries, final | {"file": "../model.safetensors"}]
    for entry in entries:
        model = load_model(folder)
        if entry is not entries[-1]:
            model.load_state_dict(read_snapshot(folder / "snapshots" / entry["file"]), strict=False)
        entry["bleu_dev"] = corpus_scores(
            translate(model, tokenizer, [p.chinese for p in dev], beams=1, longest=48), [p.english for p in dev]
        )["bleu"]
        entry["sense_accuracy"] = sense_scores(
            translate(model, tokenizer, [e.pair.chinese for e in held], beams=1, longest=32), held
        )["accuracy"]
        entry["shown"] = dict(zip(SHOWN, translate(model, tokenizer, SHOWN, beams=1, longest=24)))
        print(entry, flush=True)
    note = (
        f"bleu_dev: greedy, {len(dev)} development pairs; "
        f"sense_accuracy: greedy, {len(held)} held-out template sentences; map_error: encoder attention against "
        f"float16, {MAP_PAIRS + len(SHOWN)} sentences; weights at 4 bits in groups of {GROUP}"
    )
    (folder / "snapshots" / "index.json").write_text(
        json.dumps({"note": note, "snapshots": entries}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    return entries


def finish(
    folder: Path,
    run: Path,
    tokenizer: PreTrainedTokenizerFast,
    data: Data,
    *,
    totals: dict,
    settings: dict,
    start: Path | None,
) -> dict:
    """Measure the saved model in `folder`, then write metrics.json and the snapshots beside it.

    A model that was trained further from `start` keeps the start's snapshots, and its steps count on.
    """
    model = load_model(folder)
    length = choose_length(model, tokenizer, data)
    model.generation_config.save_pretrained(folder)
    numbers = measure(model, tokenizer, data)
    per_epoch = -(-(len(data.train) + len(data.joined)) // settings["batch_size"])
    size = {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".json")}
    versions = {m.__name__: m.__version__ for m in (torch, transformers, tokenizers, sacrebleu)} | {
        "python": platform.python_version()
    }
    metrics = numbers | {
        "n_params": sum(model.state_dict()[n].numel() for n in stored_names(model)) - model.final_logits_bias.numel(),
        "d_vocab": model.config.vocab_size,
        "n_train_pairs": len(data.train),
        "n_joined_pairs": len(data.joined),
        "length_penalty": length,
        "num_beams": 4,
        "training": totals | {"minutes": round(totals["seconds"] / 60, 1)},
        "settings": settings,
        "bytes": size,
        "versions": versions,
    }
    shutil.rmtree(folder / "snapshots", ignore_errors=True)
    final = {"step": totals["steps"], "epoch": totals["epochs"]}
    if start is None:
        entries = write_snapshots(run, folder, tokenizer, data, per_epoch=per_epoch)
    else:
        entries = copy_snapshots(start, folder)
        before = json.loads((start / "metrics.json").read_text(encoding="utf-8"))
        metrics["start"] = {name: before[name] for name in ("training", "settings", "n_train_pairs")}
        final = {name: total + before["snapshots"][-1][name] for name, total in final.items()}
    metrics["snapshots"] = measure_snapshots(folder, entries, tokenizer, data, final=final)
    (folder / "metrics.json").write_text(json.dumps(metrics, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return metrics
