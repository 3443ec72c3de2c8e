"""How good a model is: BLEU and chrF on held-out pairs, and how often an ambiguous word has the right sense.

Knows generation and scores. It does not choose anything by the test pairs: they are translated once, at the end.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

import torch
from transformers import MarianMTModel, PreTrainedTokenizerFast


@torch.inference_mode()
def translate(
    model: MarianMTModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    beams: int = 4,
    size: int = 64,
    longest: int = 100,
) -> list[str]:
    """Translations in the order of `texts`; beam search as the saved generation settings have it."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = [""] * len(texts)
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        batch = tokenizer([texts[i] for i in indices], return_tensors="pt", padding=True).to(model.device)
        ids = model.generate(**batch, num_beams=beams, early_stopping=beams > 1, max_length=longest)
        for i, text in zip(indices, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            out[i] = text
    return out


def corpus_scores(outputs: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """sacreBLEU and chrF of detokenised text, one reference a sentence, with their signatures."""
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(), CHRF()
    scores = {
        "bleu": round(bleu.corpus_score(list(outputs), [list(references)]).score, 2),
        "chrf": round(chrf.corpus_score(list(outputs), [list(references)]).score, 2),
    }
    return scores | {"bleu_signature": str(bleu.get_signature()), "chrf_signature": str(chrf.get_signature())}


def sense_scores(outputs: Sequence[str], checks: Sequence) -> dict:
    """Share of outputs that match their check's `accept`, over all and for each word.

    Args:
        checks: objects with `word` and `accept`, one for each output.
    """
    right = [re.search(check.accept, output) is not None for output, check in zip(outputs, checks)]
    words = collections.defaultdict(list)
    for check, ok in zip(checks, right):
        words[check.word].append(ok)
    return {
        "accuracy": round(sum(right) / len(right), 4),
        "n": len(right),
        "by_word": {w: {"right": sum(oks), "n": len(oks)} for w, oks in words.items()},
        "wrong": [i for i, ok in enumerate(right) if not ok],
    }
