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
from .handwritten import read_checks
from .model import load_model, stored_names
from .snapshots import GROUP, load_snapshot, save_snapshot
from .tokenizer import Lexicon

PROBE_PAIRS = 200  # development pairs translated at each snapshot
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
    checks = read_checks()
    hand = translate(model, tokenizer, [c.chinese for c in checks])
    handwritten = sense_scores(hand, checks)
    handwritten["wrong"] = [
        {"chinese": checks[i].chinese, "sense": checks[i].sense, "output": hand[i]} for i in handwritten["wrong"]
    ]
    held_out["wrong"] = [
        {"chinese": data.held_out[i].pair.chinese, "sense": data.held_out[i].sense, "output": held[i]}
        for i in held_out["wrong"][:40]
    ]
    shown = dict(zip(SHOWN, translate(model, tokenizer, SHOWN)))
    return {"tatoeba_test": test, "template_held_out": held_out, "handwritten": handwritten, "shown": shown}


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
    run: Path, folder: Path, tokenizer: PreTrainedTokenizerFast, data: Data, *, per_epoch: int, final_step: int
) -> list[dict]:
    """Quantise the run's snapshots, measure each as it ships, and write snapshots/index.json."""
    target = folder / "snapshots"
    target.mkdir(exist_ok=True)
    dev, held = data.split.dev[:PROBE_PAIRS], data.held_out[::4]
    texts = [p.chinese for p in data.split.dev[:64]] + list(SHOWN)
    steps = sorted(int(p.stem.removeprefix("snapshot-")) for p in run.glob("snapshot-*.safetensors"))
    steps = [s for s in steps if s < final_step]
    entries = [{"step": s, "epoch": round(s / per_epoch, 2), "file": f"step-{s:06d}.safetensors"} for s in steps]
    entries.append({"step": final_step, "epoch": round(final_step / per_epoch, 2), "file": "../model.safetensors"})
    for entry in entries[:-1]:
        save_snapshot(target / entry["file"], load_file(run / f"snapshot-{entry['step']:06d}.safetensors"))
    (target / "index.json").write_text(json.dumps({"snapshots": entries}))
    model = load_model(folder)
    for entry in entries:
        if entry["step"] != final_step:
            weights = load_file(run / f"snapshot-{entry['step']:06d}.safetensors")
            model.load_state_dict({n: t.float() for n, t in weights.items()}, strict=False)
            exact = encoder_maps(model, tokenizer, texts)
            model.load_state_dict(load_snapshot(entry["step"], folder), strict=False)
            errors = [(a - b).abs() for a, b in zip(exact, encoder_maps(model, tokenizer, texts))]
            entry["map_error_max"] = round(max(e.max().item() for e in errors), 4)
            entry["map_error_mean"] = round(sum(e.sum().item() for e in errors) / sum(e.numel() for e in errors), 5)
        else:
            model = load_model(folder)
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
        f"sense_accuracy: greedy, {len(held)} held-out template sentences; "
        f"map_error: encoder attention against float16, {len(texts)} sentences; weights at 4 bits in groups of {GROUP}"
    )
    (target / "index.json").write_text(
        json.dumps({"note": note, "snapshots": entries}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    return entries


def write_lexicon(folder: Path, lexicon: Lexicon) -> None:
    """lexicon.json: which ids English output may use, and which characters only spell unknown words."""
    entry = {"n_english": lexicon.n_english, "fallback_ids": lexicon.fallback}
    (folder / "lexicon.json").write_text(json.dumps(entry) + "\n", encoding="utf-8")


def finish(
    folder: Path, run: Path, tokenizer: PreTrainedTokenizerFast, data: Data, *, totals: dict, settings: dict
) -> dict:
    """Measure the saved model in `folder`, then write metrics.json and the snapshots beside it."""
    model = load_model(folder)
    length = choose_length(model, tokenizer, data)
    model.generation_config.save_pretrained(folder)
    numbers = measure(model, tokenizer, data)
    per_epoch = -(-len(data.train) // settings["batch_size"])
    size = {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".json")}
    versions = {m.__name__: m.__version__ for m in (torch, transformers, tokenizers, sacrebleu)} | {
        "python": platform.python_version()
    }
    metrics = numbers | {
        "n_params": sum(model.state_dict()[n].numel() for n in stored_names(model)) - model.final_logits_bias.numel(),
        "d_vocab": model.config.vocab_size,
        "n_train_pairs": len(data.train),
        "length_penalty": length,
        "num_beams": 4,
        "training": totals | {"minutes": round(totals["seconds"] / 60, 1)},
        "settings": settings,
        "bytes": size,
        "versions": versions,
    }
    shutil.rmtree(folder / "snapshots", ignore_errors=True)
    metrics["snapshots"] = write_snapshots(
        run, folder, tokenizer, data, per_epoch=per_epoch, final_step=totals["steps"]
    )
    (folder / "metrics.json").write_text(json.dumps(metrics, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return metrics
