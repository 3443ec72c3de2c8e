"""Encoders whose masked-language head goes by another name are loaded with it, whether or not the probe shows them."""

from __future__ import annotations

import pytest
import torch
import transformers

from engine import loading
from tests.engine import tiny


@pytest.mark.parametrize("name", ["XLM", "Flaubert"])
def test_a_masked_language_head_of_another_name_is_loaded(tmp_path, name):
    config = getattr(transformers, f"{name}Config")(vocab_size=tiny.D_VOCAB, emb_dim=32, n_layers=2, n_heads=4)
    model = getattr(transformers, f"{name}WithLMHeadModel")(config)
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    loaded = loading.load(tmp_path, device="cpu")
    torch.testing.assert_close(dict(loaded.model.state_dict()), dict(model.state_dict()))
