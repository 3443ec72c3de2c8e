"""The reference corpus and its statistics: what they hold, that they are kept whole, and computed again when not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import transformers

from engine import LocalEngine, Prompt
from engine.evidence import corpus, reference
from engine.evidence.reference import References, windows
from tests.engine import oracle, tiny

SENTENCE = "我喜欢吃苹果"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = oracle.save_tiny(tmp_path_factory.mktemp("models"), ("gpt2", "bert", "bart"))
    # mBART takes the first id from the labels' last one that is no padding, which is 0 here; M2M100 shifts no labels.
    for name, cls, config in (("mbart", transformers.MBartForConditionalGeneration, transformers.MBartConfig),
                              ("m2m_100", transformers.M2M100ForConditionalGeneration, transformers.M2M100Config)):
        cls(config(**tiny._BART, decoder_start_token_id=tiny.EOS)).save_pretrained(folder / name)
        tiny.tokenizer("<s> $A </s>").save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    return LocalEngine(assets=folder, folder=folder, device="cpu")


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """A cache folder of its own, four sentences, and how often they were measured."""
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path / "references"))
    texts = tmp_path / "corpus"
    texts.mkdir()
    lines = corpus.sentences("zh")[:4]
    (texts / "zh.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(corpus, "FOLDER", texts)
    count = []
    measure = reference.measure
    monkeypatch.setattr(reference, "measure", lambda *a, **k: count.append(1) or measure(*a, **k))
    return count, tmp_path / "references", lines


def get(engine, name, stream, *, references=None, report=lambda progress: None):
    references = references or References(reference.cache_folder())
    return engine.submit(name, lambda live: references.get(
        live, stream, references.corpus(live, "zh"), report=report, limits=engine.limits)).result()


@pytest.mark.parametrize("language", corpus.LANGUAGES)
def test_the_corpus_is_large_varied_and_clean(language):
    lines = corpus.sentences(language)
    assert len(lines) >= 200 and len(set(lines)) == len(lines)
    for line in lines:
        assert line == line.strip() and line[-1] in "。？！.?!" and corpus.language_of(line) == language
    lengths = [len(line) if language == "zh" else len(line.split()) for line in lines]
    assert min(lengths) <= 5 and max(lengths) >= 17
    openings = [line[:2] if language == "zh" else " ".join(line.split()[:2]) for line in lines]
    assert max(openings.count(opening) for opening in openings) <= len(lines) / 10


@pytest.mark.parametrize(("typed", "language"), [("我吃苹果", "zh"), ("an apple", "en"), ("用iPhone打电话给我", "en"),
                                                  ("我用iPad打电话给你们", "zh"), ("", "en"), ("123", "en")])
def test_language(typed, language):
    assert corpus.language_of(typed) == language


@pytest.mark.parametrize(("name", "stream"), [("gpt2", "decoder"), ("bart", "encoder"), ("bart", "cross"),
                                              ("mbart", "encoder"), ("m2m_100", "encoder")])
def test_patterns_are_those_of_the_sentences(engine, folder, counted, name, stream):
    """Against transformers' eager maps of each sentence alone; half precision keeps 5e-4."""
    of = oracle.Oracle(folder / name)
    found = get(engine, name, stream)
    assert found.n_sentences == 4
    for index, sentence in enumerate(counted[2]):
        written = None
        if of.family == "encoder-decoder":
            written = of.model.generate(of.ids(sentence), num_beams=1, do_sample=False, max_length=None,
                                        max_new_tokens=reference.NEW_TOKENS)[0].tolist()
        maps = of.maps(sentence, written=written).maps[stream]
        q_len, k_len = maps.shape[-2:]
        kept = found.patterns[index, :q_len, :k_len].reshape(q_len, k_len, *maps.shape[:2]).transpose(2, 3, 0, 1)
        np.testing.assert_allclose(kept, maps, atol=5e-4)
        assert not found.patterns[index, q_len:].any() and not found.columns[index, k_len:].any()
        seen = [row + 1 if stream == "decoder" else k_len for row in range(q_len)]
        assert (found.visible[index, :q_len] == np.array(seen)[:, None]).all()


def test_an_encoders_rows_are_of_runs_with_that_token_masked(engine, folder, counted):
    of = oracle.Oracle(folder / "bert")
    found = get(engine, "bert", "encoder")
    sentence = counted[2][0]
    ids = of.ids(sentence)
    for row in (1, 3):
        masked = ids.clone()
        masked[0, row] = of.tokenizer.mask_token_id
        expected = np.stack([layer[0, :, row].detach().numpy()
                             for layer in of.model(masked, output_attentions=True).attentions])
        kept = found.patterns[0, row, :ids.shape[1]].T.reshape(expected.shape)
        np.testing.assert_allclose(kept, expected, atol=5e-4)


@pytest.mark.parametrize(("n_rows", "n_columns", "offset"), [(1, 1, -1), (1, 1, 2), (2, 1, -1), (1, 2, -3), (2, 2, 2)])
def test_windows_by_a_plain_loop(engine, counted, monkeypatch, n_rows, n_columns, offset):
    monkeypatch.setattr(reference, "MIN_WINDOWS", 1)
    found = get(engine, "bart", "encoder")
    result = windows(found, n_rows=n_rows, n_columns=n_columns, offset=offset, kind=1, stream="encoder")
    expected = []
    for s, i in itertools.product(range(4), range(found.rows.shape[1])):
        rows, columns = range(i, i + n_rows), range(i + offset, i + offset + n_columns)
        if columns[0] < 0 or rows[-1] >= found.rows.shape[1] or columns[-1] >= found.columns.shape[1]:
            continue
        if all(found.rows[s, r] for r in rows) and found.columns[s, columns[0]] == 1 and all(
                found.columns[s, c] > 0 for c in columns):
            expected.append(np.mean([[found.patterns[s, r, c].astype(np.float64) for c in columns] for r in rows],
                                    axis=0).sum(0))
    assert result.offsets == (offset, offset) and len(result.mass) == len(expected) > 5
    np.testing.assert_allclose(result.mass.reshape(len(expected), -1), expected, atol=1e-3)


def test_rare_offsets_pool_their_neighbours_without_overlap(engine, counted):
    found = get(engine, "bart", "encoder")
    for offset, sign in ((-1, -1), (1, 1), (-40, -1), (40, 1)):
        low, high = windows(found, n_rows=1, n_columns=1, offset=offset, kind=1, stream="encoder").offsets
        assert low * sign > 0 and high * sign > 0
    wide = windows(found, n_rows=3, n_columns=2, offset=3, kind=1, stream="encoder").offsets
    assert wide[0] >= 3


def test_kept_on_disk_and_read_again(engine, counted):
    count, folder, _ = counted
    first = get(engine, "gpt2", "decoder")
    again = get(engine, "gpt2", "decoder")
    assert count == [1] and len(list(folder.iterdir())) == 1
    for name in ("patterns", "visible", "rows", "columns"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    kept = References(folder)
    assert get(engine, "gpt2", "decoder", references=kept) is get(engine, "gpt2", "decoder", references=kept)
    get(engine, "bart", "encoder")
    assert count == [1, 1] and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "pickled"])
def test_a_damaged_file_is_computed_again(engine, counted, caplog, damage):
    count, folder, _ = counted
    first = get(engine, "gpt2", "decoder")
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if damage == "other":
        np.savez(path, **{name: np.zeros(3) for name in ("patterns", "visible", "rows", "columns", "shape")})
    elif damage == "pickled":
        np.savez(path, patterns=np.array([{}], dtype=object))
    else:
        middle = len(whole) // 2
        path.write_bytes({"empty": b"", "cut": whole[:middle],
                          "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:]}[damage])
    again = get(engine, "gpt2", "decoder")
    assert count == [1, 1] and "computed again" in caplog.text
    np.testing.assert_array_equal(first.patterns, again.patterns)
    assert path.read_bytes() == whole or damage == "other" or len(path.read_bytes()) == len(whole)
    get(engine, "gpt2", "decoder")
    assert count == [1, 1] and [each.suffix for each in folder.iterdir()] == [".npz"]


def test_a_folder_that_cannot_be_written_to_costs_only_time(engine, counted, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path / "file" / "below"))
    get(engine, "gpt2", "decoder")
    assert counted[0] == [1] and "could not be kept" in caplog.text


def test_progress_is_told(engine, counted):
    seen = []
    engine.evidence(Prompt("bart", SENTENCE), "苹果", "吃", on_progress=seen.append)
    stages = [progress.stage for progress in seen]
    assert [stage for stage, _ in itertools.groupby(stages)] == ["reference", "cutting", "replacing", "done"]
    ends = [(p.done, p.total) for p in seen if p.stage == "reference"]
    assert ends[0] == (0, 4) and ends[-1] == (4, 4)
    done = [p.done for p in seen if p.stage == "cutting"]
    assert done == sorted(done) and done[-1] == [p.total for p in seen if p.stage == "cutting"][-1]
