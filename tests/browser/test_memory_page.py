"""The memory page as a person uses it: each control changes its number, a book is counted, nonsense is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from urllib.parse import quote

import pytest

from engine import kv_memory
from tests.engine import tiny

GIB = 2**30
LLAMA = kv_memory.PRESETS["llama-3-8b"]


@pytest.fixture(scope="module")
def growing(app):
    """A small decoder and an encoder in the app's models folder, under names of their own."""
    for kind in ("gpt2", "bert"):
        if not (app.models / f"kv-{kind}").exists():
            tiny.save(kind, app.models / f"kv-{kind}")
    return "kv-gpt2"


def visit(page, app_url, settled, **parameters) -> None:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in {"lang": "en", **parameters}.items())
    page.goto(f"{app_url}/memory?{query}")
    settled(page)


def headline(page, text: str) -> None:
    page.get_by_role("heading", name=text, exact=True).wait_for(timeout=60_000)


def fill(page, label: str, value: object) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(str(value))
    box.press("Enter")


def choose(page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(re.escape(label))).click()
    page.get_by_role("option", name=re.compile(re.escape(option))).first.click()


def test_the_calculator_from_a_broken_link_to_a_link_of_ones_own(page, app_url, settled):
    visit(page, app_url, settled, kv_tokens="-5", kv_batch="<b>", kv_preset="nothing", kv_kind="cloud", view="x",
          kv_dtype="3", kv_gpu="99999999999999")
    headline(page, "llama-3-8b keeps 1 GiB for 8,192 tokens.")  # nonsense in the address is set right
    the_slider_moves_the_number(page)
    numbers_and_pictures_are_exported(page)
    the_gpus_size_and_the_parts_move_the_edge(page)
    every_control_changes_its_number(page)
    settled(page)
    said = page.get_by_role("heading", name=re.compile("deepseek-v3 keeps")).inner_text().strip()
    the_address_reopens_the_view(page, settled, said)
    the_other_language_changes_no_number(page, settled, said)


def the_slider_moves_the_number(page) -> None:
    slider = page.get_by_role("slider", name="Tokens in each sequence")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    headline(page, "llama-3-8b keeps 2 GiB for 16,384 tokens.")
    assert page.get_by_label("Exactly", exact=True).input_value() == "16384"
    page.wait_for_function("location.search.includes('kv_tokens=16384')")


def download(page, name: str) -> bytes:
    with page.expect_download() as caught:
        page.get_by_role("button", name=name).click()
    with open(caught.value.path(), "rb") as file:
        return file.read()


def close_export(page) -> None:
    page.keyboard.press("Escape")
    page.get_by_test_id("stPopoverBody").wait_for(state="hidden")


def numbers_and_pictures_are_exported(page) -> None:
    page.get_by_role("button", name="Export").click()
    table = list(csv.DictReader(io.StringIO(download(page, "Needs at each length as CSV").decode("utf-8-sig"))))
    assert len(table) > 100
    for row in table[1::40]:
        assert float(row["cache"]) == kv_memory.cache_bytes(LLAMA, int(row["tokens"]))
        assert float(row["total"]) == float(row["cache"]) + 8_030_261_248 * 2
    whole = download(page, "All pictures as HTML").decode()
    assert whole.count("Plotly.newPlot(") >= 2 and "llama-3-8b" in whole
    assert not re.search(r"<script[^>]+src=|<link|<img|@import", whole)
    page.get_by_role("button", name="Draw PNG and SVG").click()
    page.get_by_role("button", name="What a GPU must hold at each length · PNG").wait_for(timeout=60_000)
    assert download(page, "What a GPU must hold at each length · PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    close_export(page)


def the_gpus_size_and_the_parts_move_the_edge(page) -> None:
    edge = kv_memory.longest(LLAMA, kv_memory.Setting(), gpu_bytes=24 * GIB, parts=("weights", "cache")) + 1
    page.get_by_text(f"It no longer fits from {edge:,} tokens on.").wait_for()
    page.get_by_text("Score matrix written out").click()
    page.get_by_text("Logits of the whole prompt").click()
    edge = kv_memory.longest(LLAMA, kv_memory.Setting(), gpu_bytes=24 * GIB) + 1
    page.get_by_text(f"It no longer fits from {edge:,} tokens on.").wait_for()
    fill(page, "GPU, GiB", 14)
    page.get_by_text("Not even the weights at 16 bits fit.").wait_for()
    page.get_by_text("That does not fit on a GPU of 14 GiB.").wait_for()


def every_control_changes_its_number(page) -> None:
    fill(page, "Exactly", 2048)
    headline(page, "llama-3-8b keeps 256 MiB for 2,048 tokens.")
    fill(page, "Exactly", 31_232)
    headline(page, "llama-3-8b keeps 3.812 GiB for 31,232 tokens.")
    fill(page, "Sequences at once", 4)
    headline(page, "llama-3-8b keeps 15.25 GiB for 31,232 tokens.")
    fill(page, "Beams", 2)
    headline(page, "llama-3-8b keeps 30.5 GiB for 31,232 tokens.")
    choose(page, "Bits per number", "32 bits")
    headline(page, "llama-3-8b keeps 61 GiB for 31,232 tokens.")
    choose(page, "Cache", "quantised to 4 bits")
    held = kv_memory.need(LLAMA, 31_232, kv_memory.Setting(batch=4, beams=2, dtype_bytes=4, kind="int4")).cache
    page.get_by_role("heading", name=re.compile(rf"llama-3-8b keeps {held / GIB:.2f}\d? GiB for 31,232")).wait_for()
    choose(page, "Cache", "static")
    fill(page, "Tokens reserved", 40_000)
    headline(page, "llama-3-8b keeps 78.12 GiB for 31,232 tokens.")
    choose(page, "Cache", "paged")
    fill(page, "Tokens a block", 4096)
    headline(page, "llama-3-8b keeps 64 GiB for 31,232 tokens.")
    choose(page, "Layers × KV heads × d_head", "deepseek-v3")
    headline(page, f"deepseek-v3 keeps {32_768 * 70_272 * 16 / GIB:.2f} GiB for 31,232 tokens.")


def the_address_reopens_the_view(page, settled, said: str) -> None:
    page.wait_for_function("location.search.includes('kv_preset=deepseek-v3')")
    again = page.context.new_page()
    again.goto(page.url)
    settled(again)
    again.get_by_role("heading", name=said, exact=True).wait_for()
    assert again.get_by_label("GPU, GiB").input_value() == "14"
    assert again.get_by_role("checkbox", name="Score matrix written out").is_checked()


def the_other_language_changes_no_number(page, settled, said: str) -> None:
    page.get_by_role("radio", name="中文", exact=True).click()
    page.get_by_role("heading", name=re.compile("deepseek-v3 为 31,232 个词元保存")).wait_for()
    assert page.get_by_label("显存，GiB").input_value() == "14"
    page.get_by_role("radio", name="English", exact=True).click()
    settled(page)
    page.get_by_role("heading", name=said, exact=True).wait_for()  # the cache's kind too is what it was


def test_a_book_is_counted_and_what_is_no_book_is_refused(page, app_url, settled):
    visit(page, app_url, settled, kv_from="text", kv_counter="zh-en")
    page.get_by_text("Choose a model and a length above.").wait_for()
    for content, words in ((b"", "which has none"), (bytes(range(256)) * 40, "whose bytes are no such text")):
        upload(page, content)
        page.get_by_text(re.compile(words)).wait_for()
        page.get_by_label("GPU, GiB").wait_for()
    line = "我喜欢吃苹果。\n"
    n_tokens = counted(page, (line * 3_000).encode(), n_characters=3_000 * len(line))
    assert n_tokens % 3_000 == 0 and 4 <= n_tokens // 3_000 <= 7  # 我 喜欢 吃 苹果 。
    held = kv_memory.cache_bytes(LLAMA, n_tokens)
    page.get_by_role("heading", name=re.compile(rf"keeps {held / GIB:.2f}\d? GiB")).wait_for()
    # More than a million characters, in more than a megabyte, in an old encoding.
    line = "我喜欢吃苹果。\r\n"
    n_tokens = counted(page, (line * 112_000).encode("gb18030"), n_characters=112_000 * len(line))
    page.get_by_text("book.txt was read as GB 18030.").wait_for()
    assert 4 <= n_tokens / 112_000 <= 7  # not the fragments of a misread text


def upload(page, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files({"name": "book.txt", "mimeType": "text/plain", "buffer": content})


def counted(page, content: bytes, *, n_characters: int) -> int:
    """Uploads a book; returns the number of tokens that the headline tells beside its characters."""
    upload(page, content)
    heading = page.get_by_role("heading", name=re.compile(rf"tokens \({n_characters:,} characters\)\.$"))
    heading.wait_for(timeout=60_000)
    return int(re.search(r"for ([\d,]+) tokens", heading.inner_text())[1].replace(",", ""))


def test_a_model_by_its_name_by_its_config_and_from_the_list(page, app_url, settled):
    visit(page, app_url, settled, kv_source="name", kv_name="someone/some-model")
    a_hub_id_is_asked_about_and_without_a_network_says_so(page)
    choose_model(page, "A model of this machine, or a hub id", "zh-en")
    page.get_by_role("heading", name=re.compile(r"zh-en keeps .* for 8,192 tokens")).wait_for()
    page.get_by_role("radio", name="Paste a config.json").click()
    for config, words in (
        ("nonsense", "no JSON"), ('{"model_type": "<script>alert(1)</script>"}', "does not know"),
        ('{"model_type": "llama", "num_hidden_layers": 999999999}', "num_hidden_layers"),
    ):
        nonsense_is_refused_and_the_controls_stay(page, settled, config, words)
    page.get_by_role("radio", name="Known models").click()
    choose(page, "Layers × KV heads × d_head", "mistral-7b-v0.1")
    the_cache_is_weighed(page)


def choose_model(page, label: str, name: str) -> None:
    """Types a part of the list into the box, as where one may also type a hub id."""
    box = page.get_by_role("combobox", name=re.compile(re.escape(label)))
    box.click()
    box.fill(name)
    page.get_by_role("option", name=re.compile(re.escape(name))).first.click()


def a_hub_id_is_asked_about_and_without_a_network_says_so(page) -> None:
    page.get_by_text("only its config.json would be downloaded").wait_for()
    page.get_by_label("GPU, GiB").wait_for()
    assert not page.get_by_text("The model hub cannot be reached").count()
    page.get_by_role("button", name="Look it up").click()
    page.get_by_text("The model hub cannot be reached").wait_for(timeout=60_000)


def nonsense_is_refused_and_the_controls_stay(page, settled, config: str, words: str) -> None:
    box = page.get_by_label("config.json")
    box.fill(config)
    box.press("Control+Enter")
    page.get_by_text("This model was refused").wait_for()
    page.get_by_text(re.compile(words)).first.wait_for()
    page.get_by_label("GPU, GiB").wait_for()
    settled(page)
    box.fill(json.dumps(dict(kv_memory.CONFIGS["qwen3-8b"])))
    box.press("Control+Enter")
    headline(page, "qwen3 keeps 1.125 GiB for 8,192 tokens.")
    page.get_by_text("This model was refused").wait_for(state="detached")


def the_cache_is_weighed(page) -> None:
    shape = kv_memory.PRESETS["mistral-7b-v0.1"]
    page.get_by_role("button", name="Build it and weigh its cache").click()
    held, formula = kv_memory.cache_bytes(shape, 8192, window_slots="hf"), kv_memory.cache_bytes(shape, 8192)
    page.get_by_text(f"The real cache object holds {held:,} bytes, the formula says {formula:,}").wait_for(
        timeout=60_000)
    page.get_by_text("A sliding layer keeps one token less than its window").wait_for()
    fill(page, "Exactly", 4000)
    page.get_by_text("The real cache object holds").wait_for(state="detached")  # it was another length


def test_a_cache_grows_in_a_decoder_and_in_no_encoder(page, app_url, settled, growing):
    visit(page, app_url, settled, view="growth", model=growing, text="the apple", kv_steps=12)
    headline(page, "After 18 tokens the cache holds 13.5 KiB.")  # 7 + 11 tokens · 3 layers · 2 · 4 · 8 · 4 bytes
    page.get_by_text("the difference is 0 bytes").wait_for()
    page.get_by_text("times the work without the cache").wait_for()
    slider = page.get_by_role("slider", name="Look at step")
    slider.focus()
    slider.press("ArrowLeft")
    page.get_by_text("Each layer after step 10: 17 tokens, 12.75 KiB").wait_for()
    fill(page, "Steps", 4)
    headline(page, "After 10 tokens the cache holds 7.5 KiB.")
    page.get_by_text("Each layer after step 3: 10 tokens, 7.5 KiB").wait_for()  # a new run is seen to its end
    settled(page)
    every_step_is_exported(page)
    fill(page, "Text to go on from", "the")
    page.get_by_role("heading", name=re.compile("After [0-9] tokens")).wait_for()
    choose_model(page, "Model", "kv-bert")
    page.get_by_text("bert, which writes nothing").wait_for(timeout=30_000)


def every_step_is_exported(page) -> None:
    page.get_by_role("button", name="Export").click()
    table = list(csv.DictReader(io.StringIO(download(page, "Every step as CSV").decode("utf-8-sig"))))
    assert [row["tokens"] for row in table] == ["7", "8", "9", "10"]
    assert all(row["cache_bytes"] == row["formula_bytes"] for row in table)
    assert [int(row["layer_0_bytes"]) for row in table] == [n * 2 * 4 * 8 * 4 for n in (7, 8, 9, 10)]
    close_export(page)
