"""The house around the pages: the app starts, speaks two languages, and keeps to itself."""

from __future__ import annotations

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
