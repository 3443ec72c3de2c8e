"""Names, addresses and downloads: what is accepted, what is refused, and what happens when the network fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import catalogue, errors, hub, loading, source, weights
from tests.engine import tiny
from tests.engine.fake_hub import FakeHub

REPO = "some-org/tiny-gpt2"


@pytest.fixture
def server():
    with FakeHub() as running:
        yield running


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tiny.save("gpt2", tmp_path_factory.mktemp("hub") / "gpt2")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nTiny.\n", encoding="utf-8")
    (folder / "modeling_evil.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


@pytest.fixture
def download(server, tmp_path):
    """Download from the fake hub into a cache of this test's own; `waits` holds the pauses."""
    waits: list[float] = []

    def run(repo: str = REPO, revision: str = "", on_progress=lambda progress: None) -> Path:
        return hub.download(
            repo, revision=revision, on_progress=on_progress, endpoint=server.address, cache=tmp_path / "cache",
            sleep=waits.append,
        )

    run.waits = waits
    return run


def test_downloads_what_is_needed_and_nothing_that_could_run(server, checkpoint, download):
    commit = server.put(REPO, checkpoint)
    folder = download()
    assert folder.name == commit
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not names & {"modeling_evil.py", "pytorch_model.bin"}
    assert (folder / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert not any("evil" in path or ".bin" in path for _, path in server.requests)


def test_downloaded_model_loads_under_its_commit(server, checkpoint, download):
    commit = server.put(REPO, checkpoint)
    loaded = loading.load(download(), device="cpu")
    assert loaded.revision == commit
    card = catalogue.card(download(), source="hub", name=REPO, revision=commit)
    assert (card.name, card.license, card.revision) == (REPO, "mit", commit)


def test_every_file_is_asked_for_at_the_commit(server, checkpoint, download):
    commit = server.put(REPO, checkpoint)
    download()
    asked = [path for _, path in server.requests if "/resolve/" in path]
    assert asked and all(f"/resolve/{commit}/" in path for path in asked)


def test_progress_counts_bytes_up_to_the_total(server, checkpoint, download):
    server.put(REPO, checkpoint)
    seen = []
    folder = download(on_progress=seen.append)
    expected = sum(path.stat().st_size for path in folder.iterdir())
    assert {step.stage for step in seen} == {"downloading"} and {step.total for step in seen} == {expected}
    counts = [step.done for step in seen]
    assert counts == sorted(counts) and counts[-1] == expected


def test_pinned_commit_works_offline_once_cached(server, checkpoint, download):
    commit = server.put(REPO, checkpoint)
    first = download()
    server.stop()
    assert download(revision=commit) == first
    with pytest.raises(errors.HubUnavailable) as caught:
        download()
    assert caught.value.code == "hub_offline" and f"{REPO}@{commit}" in str(caught.value)


def test_half_a_snapshot_does_not_count_as_cached(server, checkpoint, download, tmp_path):
    commit = server.put(REPO, checkpoint)
    blob = (download() / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-10])
    assert hub.cached_snapshot(REPO, commit, cache=tmp_path / "cache") is None
    assert hub.cached_commits(REPO, cache=tmp_path / "cache") == ()


def test_offline_says_what_to_do(server, download):
    server.stop()
    with pytest.raises(errors.HubUnavailable, match="models folder") as caught:
        download()
    assert caught.value.code == "hub_offline"
    assert download.waits == list(hub.RETRY_DELAYS)


def test_passing_faults_are_tried_again(server, checkpoint, download):
    commit = server.put(REPO, checkpoint)
    server.faults = [500, 503]
    assert download().name == commit
    assert download.waits == list(hub.RETRY_DELAYS[:2])


def test_lasting_faults_end_in_a_plain_error(server, checkpoint, download):
    server.put(REPO, checkpoint)
    server.faults = [502] * 9
    with pytest.raises(errors.HubUnavailable, match="502") as caught:
        download()
    assert caught.value.code == "hub_error"
    assert len(server.requests) == 1 + len(hub.RETRY_DELAYS)


def test_download_that_breaks_off_is_completed(server, checkpoint, download, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    server.put(REPO, checkpoint)
    server.dropped = 2
    folder = download()
    assert (folder / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert server.dropped == 0


def test_faults_in_the_middle_end_in_a_plain_error(server, checkpoint, download, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    server.put(REPO, checkpoint)

    def break_down(progress):
        server.faults = [503] * 99

    with pytest.raises(errors.HubUnavailable) as caught:
        download(on_progress=break_down)
    assert caught.value.code == "hub_error" and caught.value.numbers["status"] == 503
    assert download.waits == []  # the library has tried each file several times itself


@pytest.mark.parametrize(
    ("repo", "revision", "error", "code"),
    [
        ("some-org/absent", "", errors.ModelNotFound, "hub_not_found"),
        (REPO, "no-such-tag", errors.ModelNotFound, "hub_revision_missing"),
        ("some-org/gated", "", errors.ModelRefused, "hub_gated"),
    ],
)
def test_answers_of_the_hub_become_plain_errors(server, checkpoint, download, repo, revision, error, code):
    server.put(REPO, checkpoint)
    server.put("some-org/gated", checkpoint)
    server.gated = {"some-org/gated"}
    with pytest.raises(error) as caught:
        download(repo, revision)
    assert caught.value.code == code
    assert download.waits == []  # an answer is final: it is not asked for again


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_no_reason_to_try_again(server, checkpoint, download, status):
    server.put(REPO, checkpoint)
    server.faults = [status]
    with pytest.raises(errors.ModelError):
        download()
    assert download.waits == []


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"config.json": "{}", "pytorch_model.bin": "x"}, "weights_pickle"),
        ({"config.json": "{}"}, "weights_missing"),
        ({"model.safetensors": "x"}, "hub_no_config"),
        ({"config.json": '{"model_type": "gpt2", "auto_map": {"AutoModel": "x.Y"}}', "model.safetensors": "x"},
         "remote_code"),
        ({"config.json": '{"model_type": "vit"}', "model.safetensors": "x"}, "not_a_text_model"),
        ({"config.json": '{"model_type": "gpt2"}',
          "model.safetensors.index.json": json.dumps({"weight_map": {"w": "../../../stolen.safetensors"}})},
         "weights_damaged"),
    ],
)
def test_refused_before_any_weights_come(server, download, tmp_path, files, code):
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    server.put(REPO, folder)
    with pytest.raises(errors.ModelRefused) as caught:
        download()
    assert caught.value.code == code
    assert not any(path.endswith((".safetensors", ".bin")) for _, path in server.requests)


def test_full_disk_is_told_before_the_download(server, checkpoint, download, monkeypatch):
    server.put(REPO, checkpoint)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(errors.OverBudget) as caught:
        download()
    assert caught.value.numbers["free_bytes"] == 1000
    assert not any(path.endswith(".safetensors") for _, path in server.requests)


def test_sharded_weights_come_whole(server, download, tmp_path):
    folder = tmp_path / "sharded"
    tiny.save("gpt2", folder)
    (folder / weights.SINGLE_FILE).unlink()
    tiny.model("gpt2").save_pretrained(folder, max_shard_size="60KB")
    shards = {path.name for path in folder.glob("*.safetensors")}
    assert len(shards) > 1
    server.put(REPO, folder)
    got = download()
    assert {path.name for path in got.glob("*.safetensors")} == shards
    assert loading.load(got, device="cpu").model.num_parameters() == tiny.model("gpt2").num_parameters()


def test_endpoint_comes_from_the_environment(server, checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    commit = server.put(REPO, checkpoint)
    assert hub.download(REPO, cache=tmp_path / "cache").name == commit


# Names


def test_names_resolve_to_their_kinds(tmp_path):
    assets, folder = tmp_path / "assets", tmp_path / "folder"
    for place in (assets / "zh-en", folder / "mine", folder / "zh-en"):
        place.mkdir(parents=True)
    assert source.resolve("zh-en", assets=assets, folder=folder).path == assets / "zh-en"
    assert source.resolve("mine", assets=assets, folder=folder).kind == "folder"
    found = source.resolve("org/name@v1.0", assets=assets, folder=folder)
    assert (found.kind, found.repo_id, found.revision, found.path) == ("hub", "org/name", "v1.0", None)
    assert source.resolve("org/name", assets=assets, folder=folder).revision == ""
    assert source.fetch(source.resolve("mine", assets=assets, folder=folder)) == folder / "mine"


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../etc", "/etc", "~", "~root", "a/../b", "a/..", "../a", "a/b/c", "a//b", "a b/c", "a/b c",
        "a\x00", "a/b\x00", "zh-en\n", "org/name\n", "org/name@", "org/name@a..b", "org/name@../x", "org/name@a b",
        "https://example.org/a", "http://a/b", "file:///etc", "org\\name", "C:\\x", "-rf", ".hidden", "org/.hidden",
        "org/-x", "a--b/c", "org/na..me", "org/name@@x",
        "\u041erg/name", "org/n\u0430me", "org/\uff4eame", "a\u2215b", "\uff0e\uff0e/x",
        "mo\u200bdel", "\u202eorg/name", "x" * 129, "a/" + "x" * 97, "x" * 10_000, "%2e%2e/etc", "org/name?x=1",
        "org/name#x", "${HOME}/x", "\ud800/x",
    ],
)
def test_names_of_no_known_form_are_refused(name, tmp_path):
    with pytest.raises(errors.InvalidPrompt) as caught:
        source.resolve(name, assets=tmp_path, folder=tmp_path)
    assert caught.value.code == "model_name"
    str(caught.value).encode("utf-8")  # also a lone surrogate can be shown


def test_a_refused_name_is_told_as_it_was_typed(tmp_path):
    with pytest.raises(errors.InvalidPrompt) as caught:
        source.resolve("吃\u202e", assets=tmp_path, folder=tmp_path)
    assert caught.value.got == "吃⟨RLO⟩"


def test_absent_names_are_not_found(tmp_path):
    with pytest.raises(errors.ModelNotFound):
        source.resolve("absent", assets=tmp_path / "a", folder=tmp_path / "b")


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "notes").write_text("x", encoding="utf-8")
    with pytest.raises(errors.ModelNotFound):
        source.resolve("notes", assets=tmp_path / "a", folder=tmp_path)


def test_links_out_of_the_models_folder_are_refused(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "way-out").symlink_to(outside)
    (folder / "inside").mkdir()
    (folder / "alias").symlink_to(folder / "inside")
    with pytest.raises(errors.ModelRefused) as caught:
        source.resolve("way-out", assets=tmp_path / "a", folder=folder)
    assert caught.value.code == "outside_models_folder"
    assert source.resolve("alias", assets=tmp_path / "a", folder=folder).path == folder / "inside"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md", "more"])
def test_files_that_lie_outside_the_models_folder_are_refused(tmp_path, name):
    folder = tmp_path / "folder"
    model = tiny.save("gpt2", folder / "gpt2")
    (model / "README.md").write_text("A model.")
    (model / "more").mkdir()
    asked = {"assets": tmp_path / "a", "folder": folder}
    outside = (model / name).rename(tmp_path / "outside")
    (model / name).symlink_to(outside)
    with pytest.raises(errors.ModelRefused) as caught:
        source.resolve("gpt2", **asked)
    assert caught.value.code == "outside_models_folder" and caught.value.numbers["name"] == f"gpt2/{name}"
    assert catalogue.models(tmp_path / "a", folder) == ()
    (broken,) = catalogue.broken(tmp_path / "a", folder)
    assert broken.name == "gpt2" and name in broken.reason
    # As a hub's cache has it: links from a model to a store beside it.
    store = folder / ".store"
    store.mkdir()
    outside.rename(store / "blob")
    (model / name).unlink()
    (model / name).symlink_to("../.store/blob")
    assert source.resolve("gpt2", **asked).path == model
    assert [card.name for card in catalogue.models(tmp_path / "a", folder)] == ["gpt2"]


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path):
    folder, sibling = tmp_path / "models", tmp_path / "models-private"
    folder.mkdir()
    sibling.mkdir()
    (folder / "x").symlink_to(sibling)  # a test by string prefix would let this through
    with pytest.raises(errors.ModelRefused):
        source.resolve("x", assets=tmp_path / "a", folder=folder)


def test_link_that_leads_in_a_circle_is_no_model(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(errors.ModelNotFound):
        source.resolve("circle", assets=tmp_path / "a", folder=tmp_path)
    assert catalogue.models(tmp_path / "a", tmp_path) == catalogue.broken(tmp_path / "a", tmp_path) == ()
