"""The independent reference: transformers' own eager attention, tokenizer and generation, none of the engine's code.

`Oracle(path)` loads a saved checkpoint anew with eager attention; `maps` runs
it with `output_attentions`. It knows nothing of the engine under test, only
where the embedded models lie, which ATTENTION_TEST_ASSETS may change while one
works on another model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.engine import tiny

ASSETS = Path(os.environ.get("ATTENTION_TEST_ASSETS") or Path(__file__).resolve().parents[2] / "assets" / "models")
#: Kinds of `tiny` that must be shown, each with its family.
ENCODER_DECODERS = ("t5", "bart", "marian")
ENCODERS = ("bert", "modernbert", "layoutlm")
DECODERS = ("gpt2", "llama", "mistral", "qwen3", "gemma2", "gpt_oss", "opt")
SHOWN = (*DECODERS, *ENCODERS, *ENCODER_DECODERS)
REFUSED = ("deberta_v2", "bloom", "mamba")
NAMES = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}


@dataclass(frozen=True)
class Reference:
    """One eager run: `maps` stream → (n_layers, n_heads, q_len, k_len), the ids read, and the ids written."""

    maps: dict[str, np.ndarray]
    source: list[int]
    consumed: list[int]
    predicted: list[int]
    logits: np.ndarray


class Oracle:
    """A checkpoint under eager attention. `kept` is for its user's results."""

    def __init__(self, path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        kind = transformers.AutoConfig.from_pretrained(path)
        self.family = ("encoder-decoder" if kind.is_encoder_decoder
                       else "encoder-only" if kind.model_type in ENCODERS else "decoder-only")
        cls = {"encoder-decoder": transformers.AutoModelForSeq2SeqLM, "decoder-only": transformers.AutoModelForCausalLM,
               "encoder-only": transformers.AutoModelForMaskedLM}[self.family]
        self.model = cls.from_pretrained(path, attn_implementation="eager", dtype=dtype).eval().to(device)
        self.device = device
        self.kept: dict[str, Reference] = {}

    def ids(self, text: str) -> torch.Tensor:
        """(1, n) ids of the tokenizer itself."""
        return torch.tensor([self.tokenizer(text).input_ids], device=self.device)

    def generate(self, text: str, *, new_tokens: int) -> list[int]:
        """Ids that transformers' own generation writes, its start id included for encoder–decoders."""
        ids = self.ids(text)
        settings = {} if self.family == "encoder-decoder" else {"num_beams": 1}
        with torch.no_grad():
            written = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens, use_cache=False,
                max_length=None, pad_token_id=tiny.PAD, **settings)[0].tolist()
        return written if self.family == "encoder-decoder" else written[ids.shape[1]:]

    def maps(self, text: str, *, written: list[int] | None = None) -> Reference:
        """Eager's maps of one forward pass over `text` (and the decoder's ids `written`, start id first)."""
        ids = self.ids(text)
        extra, consumed, predicted = {}, ids[0].tolist(), ids[0].tolist()
        if self.family == "encoder-decoder":
            consumed, predicted = written[:-1], written[1:]
            extra["decoder_input_ids"] = torch.tensor([consumed], device=self.device)
        with torch.no_grad():
            out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True, **extra)
        if self.family == "encoder-decoder":
            found = {stream: getattr(out, name) for stream, name in NAMES.items()}
        else:
            found = {"decoder" if self.family == "decoder-only" else "encoder": out.attentions}
        maps = {stream: torch.cat(layers).float().cpu().numpy() for stream, layers in found.items()}
        return Reference(maps, ids[0].tolist(), consumed, predicted, out.logits[0].float().cpu().numpy())


def save_tiny(folder: Path, kinds: tuple[str, ...] = tiny.KINDS) -> Path:
    """A models folder that holds `kinds`; returns it."""
    for kind in kinds:
        tiny.save(kind, folder / kind)
    return folder
