"""The loop on a tiny model: resume equals no interruption, batches and schedule are pure, files load."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from engine.training.batches import (
    END,
    PAD,
    START,
    UNKNOWN,
    Corpus,
    Noise,
    encode_corpus,
    epoch_batches,
    epoch_order,
    noisy,
)
from engine.training.evaluate import corpus_scores, sense_scores, translate
from engine.training.handwritten import Check
from engine.training.model import FORBIDDEN, build_config, build_model, load_model, save_model, stored_names
from engine.training.schedule import decay_start, learning_rate
from engine.training.train import Average, Settings, batch_loss, mean_loss, train

D_VOCAB, N_ENGLISH = 60, 30


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = random.Random(0)
    sources = tuple(tuple(rng.randrange(30, 50) for _ in range(rng.randint(2, 6))) for _ in range(40))
    return Corpus(
        sources, tuple(tuple(i - 25 for i in s) for s in sources), {30: (51, 52), 31: (53, 54)}, frozenset({33})
    )


def tiny(seed: int = 1):
    return build_model(build_config(D_VOCAB, d_model=16, n_layers=1, n_heads=2, dropout=0.2), N_ENGLISH, seed=seed)


SETTINGS = Settings(epochs=4, batch_size=8, peak=5e-3, warm_up=5, snapshots=(0, 3))


def test_resumed_run_equals_an_uninterrupted_one(corpus, tmp_path):
    whole, totals = train(tiny(), corpus, corpus, N_ENGLISH, SETTINGS, tmp_path / "a", report=str)
    train(tiny(), corpus, corpus, N_ENGLISH, SETTINGS, tmp_path / "b", stop_after=2, report=str)
    resumed, again = train(tiny(seed=9), corpus, corpus, N_ENGLISH, SETTINGS, tmp_path / "b", resume=True, report=str)
    assert totals["steps"] == again["steps"] == 20
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_seed_gives_another_run(corpus, tmp_path):
    a, _ = train(tiny(), corpus, corpus, N_ENGLISH, replace(SETTINGS, epochs=1), tmp_path / "a", report=str)
    b, _ = train(tiny(), corpus, corpus, N_ENGLISH, replace(SETTINGS, epochs=1, seed=8), tmp_path / "b", report=str)
    assert not torch.equal(a["model.shared.weight"], b["model.shared.weight"])


def test_training_learns_and_writes_its_snapshots(corpus, tmp_path):
    model = tiny()
    before = mean_loss(model, corpus, N_ENGLISH, SETTINGS)
    train(model, corpus, corpus, N_ENGLISH, replace(SETTINGS, epochs=40, noise=Noise(0, 0, 0, 0)), tmp_path, report=str)
    assert mean_loss(model, corpus, N_ENGLISH, SETTINGS) < before - 1.0
    assert sorted(p.name for p in tmp_path.glob("snapshot-*")) == [
        "snapshot-000000.safetensors",
        "snapshot-000003.safetensors",
    ]


def test_sliced_softmax_equals_the_biased_full_softmax(corpus):
    """The loss over the English rows is the loss over all rows with the saved bias added."""
    model = tiny().eval()
    batch = next(epoch_batches(corpus, size=8, seed=0, epoch=0, noise=Noise(0, 0, 0, 0)))
    loss, n = batch_loss(model, batch, N_ENGLISH, SETTINGS)
    logits = model(input_ids=batch.source, attention_mask=batch.mask, decoder_input_ids=batch.inputs).logits
    specials = model.model.shared.weight.detach()[[PAD, UNKNOWN, START]]
    assert logits[..., N_ENGLISH:].max() < FORBIDDEN / 2 and specials.shape == (3, 16)
    kept = batch.labels != PAD
    hidden = model.model(
        input_ids=batch.source, attention_mask=batch.mask, decoder_input_ids=batch.inputs
    ).last_hidden_state
    expected = (
        -(hidden[kept] @ model.model.shared.weight[:N_ENGLISH].T)
        .log_softmax(-1)
        .gather(1, batch.labels[kept][:, None])
        .sum()
    )
    assert n == int(kept.sum()) and torch.allclose(loss, expected, rtol=1e-5)


def test_average_follows_the_definition():
    model = tiny()
    average = Average(model, 0.9)
    start = model.model.shared.weight.detach().clone()
    with torch.no_grad():
        model.model.shared.weight += 1
    average.update(model, 1)
    state = average.state_dict(model)
    assert torch.allclose(state["model.shared.weight"], start + (1 - 2 / 11), atol=1e-6)
    assert torch.equal(state["lm_head.weight"], state["model.shared.weight"])


def test_schedule_rises_stays_and_falls():
    rates = [learning_rate(s, 1000, peak=1.0, warm_up=100) for s in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[99] == 1.0 and rates[decay_start(1000) - 1] == 1.0
    assert rates[850] == pytest.approx(0.5) and rates[-1] == pytest.approx(1 / 300)
    assert rates[:700] == [learning_rate(s, 5000, peak=1.0, warm_up=100) for s in range(700)]


def test_batches_are_a_function_of_seed_and_epoch(corpus):
    def draw(**change):
        return [
            b.source.tolist()
            for b in epoch_batches(corpus, **{"size": 8, "seed": 1, "epoch": 2, "noise": Noise(), **change})
        ]

    assert draw() == draw() != draw(epoch=3) and draw() != draw(seed=2) and draw()[3:] == draw(skip=3)


def test_an_epoch_holds_every_pair_once():
    lengths = np.random.default_rng(0).integers(1, 30, (103, 2)).astype(float)
    assert sorted(np.concatenate(epoch_order(lengths, size=10, seed=1, epoch=1))) == list(range(103))


def test_noise_never_touches_labels_and_batches_are_framed(corpus):
    for batch in epoch_batches(corpus, size=8, seed=0, epoch=0, noise=Noise(0.5, 0.3, 0.5, 0.5)):
        assert (
            (batch.inputs[:, 0] == START).all()
            and UNKNOWN not in batch.labels
            and (batch.labels == END).sum() == len(batch.labels)
        )
        assert ((batch.source == PAD) == (batch.mask == 0)).all() and (batch.inputs == UNKNOWN).any()


def test_noise_spells_drops_and_hides(corpus):
    rng = random.Random(0)
    assert noisy((30, 31, 33), corpus, Noise(0, 1, 0, 1), rng) == [51, 52, 53, 54]
    assert noisy((30, 40, 41), corpus, Noise(1, 0, 0, 1), rng) == [UNKNOWN] * 3


def test_saved_model_loads_clean_and_keeps_its_output(tmp_path):
    pytest.importorskip("jieba")
    from engine.training.pairs import Pair
    from engine.training.tokenizer import build_lexicon, build_tokenizer, read_lexicon, write_lexicon

    lexicon = build_lexicon([Pair("我喜欢吃苹果。", "I like apples.")] * 3)
    tokenizer = build_tokenizer(lexicon)
    model = build_model(
        build_config(len(lexicon.pieces), d_model=16, n_layers=1, n_heads=2), lexicon.n_english, seed=1
    ).eval()
    save_model(tmp_path / "m", model, model.state_dict(), tokenizer)
    loaded = load_model(tmp_path / "m")
    assert set(stored_names(loaded)) == set(stored_names(model))
    stock = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    batch = AutoTokenizer.from_pretrained(tmp_path / "m")(["我喜欢吃苹果"], return_tensors="pt")
    start = torch.tensor([[START]])
    with torch.no_grad():
        a, b = (m(**batch, decoder_input_ids=start).logits for m in (model, stock))
    assert torch.allclose(a, b, atol=1e-2, rtol=1e-2) and not stock.training
    write_lexicon(tmp_path / "m", lexicon)
    read = read_lexicon(tmp_path / "m")
    assert [piece for piece, _ in read.pieces] == [piece for piece, _ in lexicon.pieces]
    assert (read.n_english, read.fallback) == (lexicon.n_english, lexicon.fallback)
    further = load_model(tmp_path / "m", dropout=0.35)
    assert further.model.encoder.layers[0].dropout == 0.35 and stock.config.dropout != 0.35
    fixed = [n for n, p in further.named_parameters() if not p.requires_grad]
    assert fixed and all("embed_positions" in name for name in fixed), "position tables are never trained"
    corpus = encode_corpus(tokenizer, [Pair("我喜欢吃苹果。", "I like apples.")])
    assert UNKNOWN not in corpus.sources[0] and max(corpus.targets[0]) < lexicon.n_english
    assert len(translate(loaded, tokenizer, ["我吃苹果", "我"], beams=2)) == 2
    (tmp_path / "m" / "model.safetensors").unlink()
    from safetensors.torch import save_file

    save_file(
        {"model.shared.weight": torch.zeros(len(lexicon.pieces), 16)},
        tmp_path / "m" / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match="missing"):
        load_model(tmp_path / "m")


def test_scores():
    pytest.importorskip("sacrebleu")
    same = ["He eats an apple every day .", "Apple released a new phone today ."]
    assert corpus_scores(same, same)["bleu"] == 100.0 and corpus_scores(same, same)["chrf"] == 100.0
    checks = [Check("", "苹果", "fruit", r"\bapple\b"), Check("", "苹果", "Apple", r"\bApple\b")]
    scores = sense_scores(["an apple", "an apple"], checks)
    assert scores["accuracy"] == 0.5 and scores["by_word"]["苹果"] == {"right": 1, "n": 2} and scores["wrong"] == [1]


def test_a_model_is_never_trained_further_over_itself(tmp_path, capsys):
    pytest.importorskip("sacrebleu")
    from engine.training.__main__ import main

    with pytest.raises(SystemExit):
        main(["--pairs", "none.tsv", "--start", str(tmp_path), "--output", str(tmp_path / "x" / "..")])
    assert "expected --output apart from --start" in capsys.readouterr().err
