"""Retrain the demo model with one command: `python -m engine.training --pairs PATH`.

Reads the pairs, builds tokenizer and model, trains, measures, and writes the finished folder. It knows the
order of the steps and nothing of their insides.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .batches import encode_corpus
from .corpus import gather
from .finish import finish
from .model import build_config, build_model, load_model, save_model
from .tokenizer import build_lexicon, build_tokenizer, read_lexicon, write_lexicon
from .train import Settings, choose_precision, train

DROPOUT = 0.3
FURTHER = {"epochs": 7, "peak": 3e-4, "warm_up": 100, "snapshots": ()}  # settings of a training with --start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.training", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pairs", type=Path, required=True, help="tab-separated Chinese and English sentences (Tatoeba)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/zh-en"), help="where the finished model goes")
    parser.add_argument("--run", type=Path, default=Path("build/run"), help="where checkpoints and the log go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--start", type=Path, help="train this finished model further, its tokenizer kept")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --run")
    options = parser.parse_args(arguments)
    if options.start and options.start.resolve() == options.output.resolve():
        parser.error(f"expected --output apart from --start, got {options.output} for both; name another folder")
    if options.threads:
        torch.set_num_threads(options.threads)

    data = gather(options.pairs)
    settings = replace(Settings(), device=options.device, precision=choose_precision(options.device))
    if options.start:
        settings = replace(settings, **FURTHER)
        lexicon = read_lexicon(options.start)
        model = load_model(options.start, dropout=DROPOUT)
    else:
        lexicon = build_lexicon(data.train)
        config = build_config(len(lexicon.pieces), dropout=DROPOUT)
        model = build_model(config, lexicon.n_english, seed=settings.seed)
    settings = replace(settings, epochs=options.epochs or settings.epochs)
    tokenizer = build_tokenizer(lexicon)
    print(
        f"{len(data.train)} training pairs, {len(data.joined)} joined ones, {len(data.split.test)} held out, "
        f"{len(lexicon.pieces)} entries ({lexicon.n_english} English), "
        f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} parameters",
        flush=True,
    )
    weights, totals = train(
        model,
        encode_corpus(tokenizer, (*data.train, *data.joined)),
        encode_corpus(tokenizer, data.split.dev),
        lexicon.n_english,
        settings,
        options.run,
        resume=options.resume,
        report=lambda line: print(line, flush=True),
    )
    save_model(options.output, model, weights, tokenizer)
    write_lexicon(options.output, lexicon)
    settings = asdict(settings) | {"dropout": DROPOUT}
    metrics = finish(
        options.output, options.run, tokenizer, data, totals=totals, settings=settings, start=options.start
    )
    print({name: metrics[name] for name in ("tatoeba_test", "shown", "training")}, flush=True)


if __name__ == "__main__":
    main()
