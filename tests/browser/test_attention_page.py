"""The attention page as a person uses it: from typing to one head, in a real browser."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from urllib.parse import quote

import numpy as np
import pytest

from engine import Head, LocalEngine, Prompt

SENTENCE = "我喜欢吃苹果"
HEADING = "Encoder self-attention · layer {layer}, head {head}"


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """An engine of the test's own, to hold the page's numbers against."""
    return LocalEngine(device="cpu")


def visit(page, app_url, settled, **parameters) -> None:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in {"lang": "en", **parameters}.items())
    page.goto(f"{app_url}/attention?{query}")
    settled(page)


def painted(page) -> None:
    """Waits until the grid has been painted."""
    page.locator(".st-key-grid .am-grid[data-digest]").wait_for()


def heading(page, text: str) -> None:
    page.get_by_role("heading", name=text, exact=True).wait_for(timeout=20_000)


def look_inside(page, text: str) -> None:
    page.get_by_label("Sentence").fill(text)
    page.get_by_role("button", name="Look inside").click()


def ten_thousand_characters_are_refused_with_the_numbers(page) -> None:
    look_inside(page, "苹果" * 5_000)
    page.get_by_text("The text is too long").wait_for()
    page.get_by_text("10,000").wait_for()


def no_sentence_says_what_to_do(page) -> None:
    look_inside(page, "   ")
    page.get_by_text("Type a sentence above").wait_for()


def the_keyboard_alone_opens_a_head(page) -> None:
    board = page.locator(".st-key-grid [role=grid]")
    board.focus()
    board.press("ArrowRight")
    board.press("ArrowDown")
    board.press("Enter")
    heading(page, HEADING.format(layer=1, head=1))


def a_click_opens_a_head(page) -> None:
    cell = page.locator(".st-key-grid [role=gridcell]").nth(6)  # 4 heads a layer: layer 1, head 2
    cell.scroll_into_view_if_needed()
    cell.click(force=True)  # the board takes the clicks for its cells
    heading(page, HEADING.format(layer=1, head=2))
    page.wait_for_function("location.search.includes('layer=1') && location.search.includes('head=2')")
    labels = page.locator(".st-key-heatmap .x2tick text").all_text_contents()
    assert [re.sub("[\u2068\u2069]", "", label) for label in labels] == ["我", "喜欢", "吃", "苹果", "</s>"]


def pointing_at_a_token_marks_it_in_every_picture(page) -> None:
    page.locator(".st-key-heatmap .js-plotly-plot .heatmaplayer").wait_for(state="attached")
    page.evaluate("""() => { window.seen = [];
        window.addEventListener('attention-microscope:hover', (event) => window.seen.push(event.detail)); }""")
    page.locator(".st-key-tokens").get_by_text("吃", exact=True).first.hover()
    page.wait_for_function("window.seen.some((at) => at.q === 2 && at.stream === 'encoder')")


def the_address_reopens_the_view(page, settled):
    """Returns the tab in which it does."""
    page.get_by_role("radio", name="Decoder self-attention (masked)").click()
    settled(page)
    page.get_by_role("radio", name="Tokens").click()
    heading(page, "Decoder self-attention (masked) · layer 1, head 2")
    settled(page)
    page.wait_for_function("location.search.includes('row=') && location.search.includes('unit=tokens')")
    again = page.context.new_page()
    again.goto(page.url)
    settled(again)
    heading(again, "Decoder self-attention (masked) · layer 1, head 2")
    assert again.get_by_label("Sentence").input_value() == SENTENCE
    assert again.get_by_role("radio", name="Tokens").is_checked()
    return again


def language_switches_keep_sentence_model_and_head(page, settled) -> None:
    page.get_by_role("radio", name="Cross-attention").click()
    heading(page, "Cross-attention · layer 1, head 2")
    settled(page)
    for language, title, sentence, model, family, sort, order in (
            ("中文", "交叉注意力 · 第 1 层，第 2 头", "句子", "模型", "编码器–解码器", "排序依据", "层与头"),
            ("English", "Cross-attention · layer 1, head 2", "Sentence", "Model", "encoder–decoder", "Sort by",
             "layer and head")):
        page.get_by_role("radio", name=language, exact=True).click()
        settled(page)
        heading(page, title)
        assert page.get_by_label(sentence, exact=True).input_value() == SENTENCE
        assert page.get_by_role("combobox", name=model).input_value().startswith(f"zh-en · {family} · ")
        assert page.get_by_role("combobox", name=sort).input_value() == order


def test_from_typing_to_one_head_and_its_address(page, app_url, settled):
    visit(page, app_url, settled)
    ten_thousand_characters_are_refused_with_the_numbers(page)
    no_sentence_says_what_to_do(page)
    look_inside(page, SENTENCE)
    page.get_by_text("The model writes").wait_for()
    painted(page)
    settled(page)
    the_keyboard_alone_opens_a_head(page)
    settled(page)
    a_click_opens_a_head(page)
    pointing_at_a_token_marks_it_in_every_picture(page)
    again = the_address_reopens_the_view(page, settled)
    language_switches_keep_sentence_model_and_head(again, settled)


def test_what_is_typed_stays_though_the_line_is_slow(page, slow_line, settled):
    """The click on the button is sent before the browser has heard of what became of the sentence."""
    visit(page, slow_line.url, settled, text=SENTENCE)
    slow_line.seconds = 1.0
    box = page.get_by_label("Sentence")
    box.fill("他打开了门")
    box.blur()
    page.wait_for_timeout(500)  # the app has run with the new sentence, its answer is on the way
    page.get_by_role("button", name="Look inside").click()
    page.wait_for_timeout(2_500)  # both answers have come
    slow_line.seconds = 0.0
    settled(page)
    assert box.input_value() == "他打开了门"
    page.wait_for_function("text => new URLSearchParams(location.search).get('text') === text", arg="他打开了门")


def open_export(page) -> None:
    """Opens the menu with room below its button, as a person would scroll."""
    button = page.get_by_role("button", name="Export")
    button.evaluate("element => element.scrollIntoView({block: 'center'})")
    button.click()


def download(page, name: str):
    with page.expect_download() as started:
        page.get_by_test_id("stPopoverBody").get_by_role("button", name=name, exact=True).click()
    return started.value


def export_holds_what_is_on_screen(page, engine, tmp_path) -> None:
    open_export(page)
    expected = engine.pattern(Prompt("zh-en", SENTENCE), Head("encoder", 0, 1))

    rows = list(csv.reader(io.StringIO(download(page, "Head as CSV").path().read_text(encoding="utf-8-sig"))))
    assert rows[0] == ["", "我", "喜欢", "吃", "苹果", "</s>"]
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows[1:]], expected, atol=1e-6)

    values = json.loads(download(page, "Everything as JSON").path().read_text(encoding="utf-8"))
    np.testing.assert_allclose(values["weights"], expected, atol=1e-6)
    assert values["provenance"]["dtype"] == "float32" and values["prompt"]["text"] == SENTENCE

    svg = download(page, "Grid of all heads as SVG").path().read_text(encoding="utf-8")
    assert svg.count("<image ") == 12 + 1  # and the colour bar
    assert "Encoder self-attention · zh-en" in svg and "Colour follows the square root of the weight." in svg

    report = tmp_path / "head.html"
    download(page, "Head as HTML (opens offline)").save_as(report)
    offline = page.context.new_page()
    requests = []
    offline.on("request", lambda request: requests.append(request.url))
    offline.goto(report.as_uri())
    offline.locator(".js-plotly-plot .heatmaplayer image").first.wait_for(state="attached")
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert SENTENCE in offline.content()


def png_and_svg_of_the_open_head(page) -> None:
    page.get_by_role("button", name="Draw PNG and SVG").click()
    page.get_by_role("button", name="PNG", exact=True).wait_for(timeout=60_000)
    assert download(page, "PNG").path().read_bytes().startswith(b"\x89PNG")
    svg = download(page, "SVG").path().read_text(encoding="utf-8")
    assert "<svg" in svg and "苹果" in svg


def the_sink_is_set_aside_and_its_mass_is_told(page, settled, engine) -> None:
    page.get_by_text("Set the sink aside and renormalise").click()
    share = float(engine.pattern(Prompt("zh-en", SENTENCE), Head("encoder", 0, 1))[3, -1])
    page.get_by_text(f"The sink held {share:.2f} of this row.").wait_for()
    settled(page)
    pattern = engine.pattern(Prompt("zh-en", SENTENCE), Head("encoder", 0, 1))
    mean, removed = float(pattern[:, -1].mean()), pattern[:, -1]
    page.get_by_text(f"Set aside: </s>. It held {mean:.0%} of this head's mass.").wait_for()
    said = f"sink </s> set aside ({mean:.0%}), rows renormalised"
    open_export(page)
    rows = list(csv.reader(io.StringIO(download(page, "Head as CSV").path().read_text(encoding="utf-8-sig"))))
    assert rows[0][-1] == said
    np.testing.assert_allclose([float(row[-1]) for row in rows[1:]], removed, atol=1e-6)
    np.testing.assert_allclose([[float(cell) for cell in row[1:-2]] for row in rows[1:]],
                               pattern[:, :-1] / pattern[:, :-1].sum(1, keepdims=True), atol=1e-5)
    values = json.loads(download(page, "Everything as JSON").path().read_text(encoding="utf-8"))
    assert values["sink_set_aside"]["keys"] == ["</s>"] and values["sink_set_aside"]["rows_renormalised"] is True
    assert values["sink_set_aside"]["mean_mass"] == pytest.approx(mean, abs=1e-5)
    report = download(page, "Head as HTML (opens offline)").path().read_text(encoding="utf-8")
    assert html.escape(said) in report and html.escape("Here all weights are the model's own") in report


def test_exports_of_the_open_head_with_and_without_its_sink(page, app_url, settled, engine, tmp_path):
    visit(page, app_url, settled, text=SENTENCE, layer=0, head=1, row=3)
    heading(page, HEADING.format(layer=0, head=1))
    painted(page)
    export_holds_what_is_on_screen(page, engine, tmp_path)
    png_and_svg_of_the_open_head(page)
    page.keyboard.press("Escape")  # closes the menu
    the_sink_is_set_aside_and_its_mass_is_told(page, settled, engine)


def test_markup_in_the_text_stays_text(page, app_url, settled):
    first, *others = ["<script>document.title='gone'</script>", "我</s>喜欢<b>吃</b>",
                      "<pad> **x** $x$ `y` -> www.example.com"]
    # The output shown is the target, so that there is markup in it.
    visit(page, app_url, settled, text=first, target="a <b>pot</b> -> www.example.com")
    text_stays_text(page, first)
    for text in others:
        look_inside(page, text)
        page.wait_for_function("text => new URLSearchParams(location.search).get('text') === text", arg=text)
        settled(page)
        text_stays_text(page, text)


def text_stays_text(page, text: str) -> None:
    painted(page)
    assert page.get_by_label("Sentence").input_value() == text
    page.wait_for_function("document.title.startsWith('Attention')")
    assert page.locator(".st-key-output script, .st-key-tokens script, .st-key-output b").count() == 0
    assert page.locator(".st-key-output a").count() == 0
    shown = page.locator(".st-key-output").inner_text().replace("\N{WORD JOINER}", "")
    assert "a <b>pot</b> -> www.example.com" in shown


def name_model(page, name: str) -> None:
    """Types it into the box."""
    box = page.get_by_role("combobox", name="Model")
    box.fill(name)
    box.press("Enter")


def told_plainly(page, heading: str, detail: str) -> None:
    alert = page.get_by_test_id("stAlert").filter(has_text=heading).filter(has_text=detail)
    alert.wait_for(timeout=30_000)
    assert "What to do" in alert.inner_text() and "Traceback" not in page.content()


def test_models_that_cannot_be_had_are_told_plainly(page, app, settled):
    """The first is named by the address, the others are typed."""
    folder = app.models / "pickled"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "tokenizer.json").write_text("{}")
    visit(page, app.url, settled, model="../../etc/passwd", text="hello")
    told_plainly(page, "This request cannot be run", "../../etc/passwd")
    name_model(page, "nothing-here")
    told_plainly(page, "There is no such model", "nothing-here")
    name_model(page, "file:///etc/passwd")
    told_plainly(page, "This request cannot be run", "file:")
    name_model(page, "pickled")
    told_plainly(page, "This model was refused", "safetensors")


def test_a_link_to_a_hub_model_asks_before_it_fetches(page, app_url, settled):
    visit(page, app_url, settled, model="org/unreachable", text="hello")
    page.get_by_text("would be fetched from the model hub").wait_for()
    page.get_by_role("button", name="Fetch it").click()
    page.get_by_text("The model hub cannot be reached").wait_for()
    assert "Traceback" not in page.content()
