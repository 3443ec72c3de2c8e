"""The house around the pages: the app starts, speaks two languages, and keeps to itself."""

from __future__ import annotations

import urllib.request

#: Without a sentence the page draws nothing that a title would have to wait for.
EMPTY = "attention?text=%20"


def titled(page, settled, title: str) -> None:
    """Waits until the tab's title begins so."""
    settled(page)
    page.wait_for_function("title => document.title.startsWith(title)", arg=title)


def set_language_of_browser(page, locale: str) -> None:
    """Makes the page's browser one of that language, by what Playwright itself tells a profile of it."""
    agent = page.evaluate("navigator.userAgent")
    page.context.new_cdp_session(page).send(
        "Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": locale})
    assert page.evaluate("navigator.language") == locale


def test_the_language_is_the_browsers_then_the_switchs_then_the_addresses(page, app_url, settled):
    set_language_of_browser(page, "zh-CN")
    page.goto(f"{app_url}/{EMPTY}")
    titled(page, settled, "注意力")
    page.wait_for_function("document.querySelector('link[rel~=icon]').href.startsWith('data:image/svg+xml')")
    # One of our languages is followed, any other is answered in English.
    set_language_of_browser(page, "de-DE")
    page.goto(f"{app_url}/{EMPTY}")
    titled(page, settled, "Attention")
    page.get_by_role("radio", name="中文", exact=True).click()
    titled(page, settled, "注意力")
    # The switch is in the address, which decides from then on, against the browser.
    assert "lang=zh" in page.url
    page.reload()
    titled(page, settled, "注意力")
    page.goto(f"{app_url}/{EMPTY}&lang=nonsense")
    titled(page, settled, "Attention")
    assert "lang=en" in page.url


def test_listens_on_loopback_and_names_no_foreign_origin(app_url):
    with urllib.request.urlopen(f"{app_url}/_stcore/health", timeout=5) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") != "*"


def test_first_visitors_at_once_all_get_the_app_and_can_switch_the_language(page, context, fresh_app, settled):
    """Streamlit takes up the runs of both before either has told it of the app's pages."""
    visitors = {page: "", context.new_page(): f"{EMPTY}&lang=zh"}
    for visitor, path in visitors.items():
        visitor.goto(f"{fresh_app.url}/{path}", wait_until="commit")
    for visitor, title, language, switched in zip(
            visitors, ("Five questions", "注意力"), ("中文", "English"), ("五个问题", "Attention")):
        titled(visitor, settled, title)
        assert visitor.locator("[data-testid=stSidebar]").count() == 0
        visitor.get_by_role("radio", name=language, exact=True).click()
        titled(visitor, settled, switched)


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
