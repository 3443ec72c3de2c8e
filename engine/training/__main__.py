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
from .finish import finish, write_lexicon
from .model import build_config, build_model, save_model
from .tokenizer import build_lexicon, build_tokenizer
from .train import Settings, choose_precision, train

DROPOUT = 0.3


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.training", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pairs", type=Path, required=True, help="tab-separated Chinese and English sentences (Tatoeba)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/zh-en"), help="where the finished model goes")
    parser.add_argument("--run", type=Path, default=Path("build/run"), help="where checkpoints and the log go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --run")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)

    data = gather(options.pairs)
    lexicon = build_lexicon(data.train)
    tokenizer = build_tokenizer(lexicon)
    settings = replace(
        Settings(), epochs=options.epochs, device=options.device, precision=choose_precision(options.device)
    )
    model = build_model(build_config(len(lexicon.pieces), dropout=DROPOUT), lexicon.n_english, seed=settings.seed)
    print(
        f"{len(data.train)} training pairs, {len(data.split.test)} held out, {len(lexicon.pieces)} entries "
        f"({lexicon.n_english} English), {sum(p.numel() for p in model.parameters() if p.requires_grad):,} parameters",
        flush=True,
    )
    weights, totals = train(
        model,
        encode_corpus(tokenizer, data.train),
        encode_corpus(tokenizer, data.split.dev),
        lexicon.n_english,
        settings,
        options.run,
        resume=options.resume,
        report=lambda line: print(line, flush=True),
    )
    save_model(options.output, model, weights, tokenizer)
    write_lexicon(options.output, lexicon)
    metrics = finish(
        options.output, options.run, tokenizer, data, totals=totals, settings=asdict(settings) | {"dropout": DROPOUT}
    )
    print({name: metrics[name] for name in ("tatoeba_test", "shown", "training")}, flush=True)


if __name__ == "__main__":
    main()
