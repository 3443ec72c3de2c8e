"""Cards are read from files alone, and what cannot be read is told, not hidden."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import transformers

from engine import catalogue, errors
from tests.engine import tiny

FAMILIES = {
    "gpt2": "decoder-only", "llama": "decoder-only", "mistral": "decoder-only", "qwen3": "decoder-only",
    "gemma2": "decoder-only", "gpt_oss": "decoder-only", "opt": "decoder-only", "bloom": "decoder-only",
    "mamba": "decoder-only", "bert": "encoder-only", "modernbert": "encoder-only", "deberta_v2": "encoder-only",
    "layoutlm": "encoder-only", "t5": "encoder-decoder", "bart": "encoder-decoder", "marian": "encoder-decoder",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in tiny.KINDS:
        tiny.save(kind, root / kind)
    return root


def write(folder: Path, config: object, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


def test_every_kind_has_its_card(checkpoints):
    cards = {card.name: card for card in catalogue.folders(checkpoints)}
    assert {name: card.family for name, card in cards.items()} == FAMILIES
    for name, card in cards.items():
        config = transformers.AutoConfig.from_pretrained(checkpoints / name)
        assert card.n_layers == config.num_hidden_layers, name
        assert card.n_heads == getattr(config, "num_attention_heads", 0), name
        assert card.model_type == config.model_type and card.source == "folder"
        assert card.bytes == (checkpoints / name / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "encoder-only"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "encoder-only"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, "decoder-only"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "encoder-only"),
        ({"model_type": "roberta"}, "encoder-only"),
        ({"model_type": "gpt2", "architectures": ["GPT2Model"]}, "decoder-only"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "decoder-only"),
        ({"model_type": "mbart", "is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "whisper", "is_encoder_decoder": True}, ""),
        ({"model_type": "vision-encoder-decoder", "is_encoder_decoder": True}, ""),
        ({"model_type": "vit"}, ""),
        ({"model_type": "clip", "vision_config": {}}, ""),
        ({"model_type": "gemma3", "vision_config": {}}, ""),
        ({"model_type": "wav2vec2"}, ""),
        ({"model_type": "never-heard-of"}, ""),
        ({"model_type": ["gpt2"]}, ""),
        ({"model_type": "bert", "architectures": 5, "is_decoder": True}, "encoder-only"),
        ({"model_type": "bert", "architectures": [5, None, {}], "is_decoder": True}, "encoder-only"),
        ({}, ""),
    ],
)
def test_family_follows_the_config(config, family):
    assert catalogue.family(config) == family


@pytest.mark.parametrize(
    ("readme", "license_", "description"),
    [
        ("---\nlicense: apache-2.0\nlanguage: zh\n---\n# Title\n\nTranslates Chinese.\nMore.\n", "apache-2.0",
         "Translates Chinese."),
        ("---\nlanguage:\n- zh\nlicense: 'cc-by-4.0' # as the data\n---\n", "cc-by-4.0", ""),
        ('---\nlicense: "mit"\n---\n<img src=x>\n![x](y)\nText.', "mit", "Text."),
        ("---\nlicense:\nlanguage: zh\n---\n", "", ""),
        ("---\nlicense: mit\nno end of it", "", "license: mit"),
        ("No front matter.\nlicense: mit\n", "", "No front matter."),
        ("---\r\nlicense: mit\r\n---\r\nText.", "mit", "Text."),
        ("", "", ""),
        ("x" * 1000, "", "x" * 200),
    ],
)
def test_licence_and_description_come_from_the_model_card(tmp_path, readme, license_, description):
    folder = write(tmp_path / "m", {"model_type": "gpt2"})
    (folder / "README.md").write_bytes(readme.encode())
    card = catalogue.card(folder, source="folder")
    assert (card.license, card.description) == (license_, description)


def test_no_model_card_and_bytes_that_are_no_text(tmp_path):
    folder = write(tmp_path / "m", {"model_type": "gpt2"})
    assert catalogue.card(folder, source="folder").license == ""
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xff\xfe\x00")
    assert catalogue.card(folder, source="folder").license == "mit"


def test_unreadable_folders_are_skipped_and_told(tmp_path):
    assets, root = tmp_path / "assets", tmp_path / "models"
    write(assets / "zh-en", {"model_type": "marian", "is_encoder_decoder": True})
    write(root / "good", {"model_type": "gpt2"})
    write(root / "zh-en", {"model_type": "gpt2"})
    write(root / "cut", '{"model_type": "gpt2"')
    write(root / "deep", "[" * 100_000)
    write(root / "list", "[]")
    write(root / "name with spaces", {"model_type": "gpt2"})
    (root / "empty").mkdir()
    (root / "latin").mkdir()
    (root / "latin" / "config.json").write_bytes(b'{"model_type": "\xe9"}')
    (root / ".hidden").mkdir()
    (root / "file.txt").write_text("x", encoding="utf-8")
    (root / "link").symlink_to(write(tmp_path / "outside", {"model_type": "gpt2"}))
    assert [(card.name, card.source) for card in catalogue.models(assets, root)] == [
        ("zh-en", "embedded"), ("good", "folder"),
    ]
    told = {entry.name: entry.reason for entry in catalogue.broken(assets, root)}
    assert told.keys() == {"cut", "deep", "list", "name with spaces", "empty", "latin", "link", "zh-en"}
    assert "no config.json" in told["empty"] and "outside" in told["link"] and "same name" in told["zh-en"]


def test_huge_config_is_not_read(tmp_path):
    write(tmp_path / "m", '{"x": "' + "x" * 9 * 2**20 + '"}')
    with pytest.raises(errors.ModelRefused):
        catalogue.read_config(tmp_path / "m")


def test_a_reason_does_not_tell_where_the_folder_lies(tmp_path):
    (tmp_path / "m" / "config.json").mkdir(parents=True)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "config.json").symlink_to("config.json")
    told = {entry.name: entry.reason for entry in catalogue.broken(tmp_path / "absent", tmp_path)}
    assert told.keys() == {"m", "loop"} and "symbolic links" in told["loop"]
    assert not any(str(tmp_path) in reason for reason in told.values())


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_models_folder_that_cannot_be_read_is_told_and_ends_nothing(tmp_path, monkeypatch, fault):
    assets, root = tmp_path / "assets", tmp_path / "root"
    write(assets / "zh-en", {"model_type": "marian", "is_encoder_decoder": True})
    root.mkdir()
    listed = Path.iterdir

    def refused(folder):
        if folder == root:
            raise fault
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert [card.name for card in catalogue.models(assets, root)] == ["zh-en"]
    told, = catalogue.broken(assets, root)
    assert told.name == "root" and told.source == "folder" and fault.strerror in told.reason
    assert str(tmp_path) not in told.reason


def test_a_file_in_place_of_the_models_folder_is_told(tmp_path):
    (tmp_path / "models").write_text("x", encoding="utf-8")
    told, = catalogue.broken(tmp_path / "absent", tmp_path / "models")
    assert told.name == "models" and "Not a directory" in told.reason


def test_absent_folders_hold_no_models(tmp_path):
    assert catalogue.models(tmp_path / "a", tmp_path / "b") == ()
    assert catalogue.broken(tmp_path / "a", tmp_path / "b") == ()


def test_models_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, str(tmp_path))
    assert catalogue.models_folder() == tmp_path
    monkeypatch.delenv(catalogue.FOLDER_VARIABLE)
    monkeypatch.setenv("HOME", "/somewhere")
    assert catalogue.models_folder() == Path("/somewhere/.cache/attention-microscope/models")
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, "~/x")
    assert catalogue.models_folder() == Path("/somewhere/x")


def test_odd_numbers_in_a_config_do_not_break_the_card(tmp_path):
    folder = write(tmp_path / "m", {"model_type": "gpt2", "n_layer": "12", "n_head": True})
    card = catalogue.card(folder, source="folder")
    assert (card.n_layers, card.n_heads) == (0, 0)


@pytest.mark.parametrize(
    ("model_type", "shown"),
    [("\ud800", "⟨U+D800⟩"), ("a\u202eb\n", "a⟨RLO⟩b␊"), ("x" * 3_000_000, "x" * 80), (["gpt2"], ""), (None, "")])
def test_a_card_holds_short_texts_that_can_be_shown(tmp_path, model_type, shown):
    write(tmp_path / "m", {"model_type": model_type, "n_layer": 10**4000, "n_head": -1},
          README=f"---\nlicense: {'x' * 1000}\n---\nA\u202eB\x00")
    card, = catalogue.folders(tmp_path)
    assert (card.model_type, card.license, card.description) == (shown, "x" * 80, "A⟨RLO⟩B␀")
    assert (card.n_layers, card.n_heads) == (0, 0)
    repr(card).encode()


def test_an_unforeseen_fault_of_one_folder_stays_its_own(tmp_path, monkeypatch, caplog):
    for name in ("bad", "good"):
        write(tmp_path / name, {"model_type": "gpt2", "name": name})
    family = catalogue.family
    monkeypatch.setattr(catalogue, "family", lambda config: family(config) if config["name"] == "good" else 1 / 0)
    assert [card.name for card in catalogue.folders(tmp_path)] == ["good"]
    told, = catalogue.broken(tmp_path / "absent", tmp_path)
    assert told.name == "bad" and "ZeroDivisionError" in told.reason and "bad" in caplog.text


@pytest.mark.parametrize("name", ["config.json", "README.md"])
def test_pipes_are_not_opened(tmp_path, monkeypatch, name):
    folder = write(tmp_path / "m", {"model_type": "gpt2"})
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    opened = Path.open

    def no_pipe(path, *args, **options):
        assert not stat.S_ISFIFO(path.stat().st_mode), "waits forever"
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", no_pipe)
    assert [card.name for card in catalogue.folders(tmp_path)] == (["m"] if name == "README.md" else [])
    told = catalogue.broken(tmp_path / "absent", tmp_path)
    assert [entry.name for entry in told] == (["m"] if name == "config.json" else [])
    assert all("no regular file" in entry.reason for entry in told)
