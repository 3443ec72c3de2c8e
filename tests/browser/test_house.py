"""The house around the pages: the app starts, speaks two languages, and keeps to itself."""

from __future__ import annotations

import re
import urllib.request

import pytest


def test_first_visit_follows_the_browsers_language(profile_in, app_url, settled):
    for locale, title in (("zh-CN", "注意力"), ("de-DE", "Attention")):
        page = profile_in(locale).new_page()
        page.goto(f"{app_url}/attention")
        settled(page)
        page.wait_for_function("title => document.title.startsWith(title)", arg=title)


def test_language_switch_changes_title_and_address(page, app_url, settled):
    page.goto(f"{app_url}/attention")
    settled(page)
    page.wait_for_function("document.title.startsWith('Attention')")
    page.get_by_role("radio", name="中文", exact=True).click()
    page.wait_for_function("document.title.startsWith('注意力')")
    assert "lang=zh" in page.url
    page.reload()
    settled(page)
    page.wait_for_function("document.title.startsWith('注意力')")


def test_address_decides_the_language(page, app_url, settled):
    page.goto(f"{app_url}/attention?lang=zh")
    settled(page)
    page.wait_for_function("document.title.startsWith('注意力')")
    page.goto(f"{app_url}/attention?lang=nonsense")
    settled(page)
    page.wait_for_function("document.title.startsWith('Attention')")
    assert "lang=en" in page.url


def test_favicon_is_our_own(page, app_url, settled):
    page.goto(f"{app_url}/attention")
    settled(page)
    page.wait_for_function("document.querySelector('link[rel~=icon]').href.startsWith('data:image/svg+xml')")


def test_listens_on_loopback_and_names_no_foreign_origin(app_url):
    with urllib.request.urlopen(f"{app_url}/_stcore/health", timeout=5) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") != "*"


@pytest.mark.parametrize(("path", "english", "chinese"), [
    ("/", "Five questions", "五个问题"), ("/attention", "Attention", "注意力"),
])
def test_first_visitor_of_a_fresh_server_can_switch_the_language(page, fresh_app, settled, path, english,
                                                                   chinese):
    page.goto(fresh_app.url + path)
    settled(page)
    page.wait_for_function("title => document.title.startsWith(title)", arg=english)
    page.get_by_role("radio", name="中文", exact=True).click()
    page.wait_for_function("title => document.title.startsWith(title)", arg=chinese)


def test_first_visitors_at_once_all_get_the_app(page, context, fresh_app, settled):
    """Streamlit takes up the runs of both before either has told it of the app's pages."""
    titles = {page: "/scaling", context.new_page(): "/memory"}
    for visitor, path in titles.items():
        visitor.goto(f"{fresh_app.url}{path}?lang=zh", wait_until="commit")
    for visitor, title in zip(titles, ("缩放与饱和", "显存与 KV 缓存")):
        settled(visitor)
        visitor.wait_for_function("title => document.title.startsWith(title)", arg=title)
        assert visitor.locator("[data-testid=stSidebar]").count() == 0


@pytest.mark.parametrize(("path", "theme"), [("/", "dark"), ("/attention", "dark"), ("/attention", "light")])
def test_the_primary_buttons_text_can_be_read(page, app_url, settled, path, theme):
    """A form's button and a plain one."""
    page.emulate_media(color_scheme=theme)
    page.goto(f"{app_url}{path}?lang=en")
    settled(page)
    button = page.get_by_role("button", name="Look inside")
    for reach in (lambda: None, button.hover):
        reach()
        page.wait_for_timeout(400)  # the colours' transition
        colours = button.evaluate("it => [getComputedStyle(it).color, getComputedStyle(it).backgroundColor]")
        ink, ground = sorted(map(_luminance, colours))
        assert (ground + 0.05) / (ink + 0.05) > 4.5, colours


#: Counts how often Plotly draws a chart that is new on the page once more.
DRAWS = """() => {
  window.draws = 0;
  const known = new Set(document.querySelectorAll('.js-plotly-plot'));
  window.fresh = () => known.size - before;
  const before = known.size;
  new MutationObserver(() => document.querySelectorAll('.js-plotly-plot').forEach((chart) => {
    if (known.has(chart) || !chart.on) return;
    known.add(chart);
    chart.on('plotly_beforeplot', () => { window.draws += 1; });
  })).observe(document, {childList: true, subtree: true});
}"""


def test_charts_are_drawn_once(page, app_url, settled, charts=9):
    """Streamlit hands each to Plotly a second time, which draws it again for any difference, also of half a pixel."""
    page.goto(f"{app_url}/normalization?lang=en")
    settled(page)
    page.wait_for_function("least => document.querySelectorAll('.js-plotly-plot').length >= least", arg=charts)
    page.wait_for_timeout(500)  # fonts that come with the page have every chart drawn again
    page.evaluate(DRAWS)
    page.get_by_role("radio", name="中文", exact=True).click()
    page.wait_for_function("least => window.fresh() >= least", arg=charts)
    settled(page)
    page.wait_for_timeout(500)
    assert page.evaluate("window.draws") == 0
    page.set_viewport_size({"width": 900, "height": 900})
    page.wait_for_function("least => window.draws >= least", arg=charts)


def _luminance(colour: str) -> float:
    """Relative luminance of "rgb(…)", by WCAG 2.2."""
    levels = [int(level) / 255 for level in re.findall(r"\d+", colour)[:3]]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
