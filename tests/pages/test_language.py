"""The two catalogues are complete, current and consistent, and the language is chosen as documented."""

from __future__ import annotations

import ast
import re
import string

import pytest
from markdown_it import MarkdownIt

from pages.widgets import language
from tests import messages

CHINESE = re.compile(r"[㐀-䶿一-鿿　-〿＀-￯]")
#: Literals that are the same in every interface language: the languages' own names.
NEUTRAL = {"中文", "中文 / English"}


def names(text: str) -> list[str]:
    """The `{names}` in a text, sorted."""
    return sorted(name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name is not None)


def wanted() -> set[str]:
    """Every text that the sources mark for translation."""
    return {message.id for message in messages.extracted() if message.id}


def test_texts_are_found_inside_f_strings_too(tmp_path):
    file = tmp_path / "page.py"
    file.write_text("""st.write(f"{_('one')} · {_('two')}", N_("three"), other("four"), _(variable))""")
    assert messages.texts(file) == {"one", "two", "three"}


def test_no_text_is_put_together_before_it_is_translated():
    for path in messages.sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in messages.MARKERS:
                assert not any(isinstance(arg, ast.JoinedStr | ast.BinOp) for arg in node.args), f"{path}:{node.lineno}"


def test_every_text_has_a_chinese_translation():
    translate = language.translator(language.CHINESE)
    assert [text for text in wanted() if translate(text) in ("", text) and not is_bare_value(text)] == []


def is_bare_value(text: str) -> bool:
    """True for texts of placeholders and signs, without a word to translate, such as "{stream}"."""
    return not re.search(r"\w", re.sub(r"\{\w+\}", "", text))


@pytest.mark.parametrize("value", ["字", "word 5"])
def test_no_mark_of_bold_stays_on_screen(value):
    """Beside punctuation, such as %, ** neither opens nor closes (CommonMark's flanking rule)."""
    texts = [re.sub(r"{[^}]*}", value, re.sub(r"{[^}]*%}", "5%", text))
             for message in messages.translated() if message.id for text in (message.id, message.string)]
    assert [text for text in texts if any("**" in plain for plain in plain_texts(text))] == []
    assert plain_texts("都一样**：0%** 与 **0%**")[0].startswith("都一样**：0%** 与 ")


def plain_texts(text: str) -> list[str]:
    """What is left of a Markdown text for the screen to show as it is."""
    blocks = MarkdownIt().parse(text)
    return [part.content for block in blocks for part in block.children or [] if part.type == "text"]


def test_catalogue_holds_nothing_fuzzy_and_nothing_unused():
    catalogue = [message for message in messages.translated() if message.id]
    assert [message.id for message in catalogue if message.fuzzy] == []
    assert {message.id for message in catalogue} == wanted(), "run `make messages`"


def test_placeholders_are_the_same_on_both_sides():
    for message in messages.translated():
        if message.id:
            assert names(message.id) == names(message.string), message.id


def test_compiled_catalogue_is_current():
    source = {message.id: message.string for message in messages.translated() if message.id}
    binary = {message.id: message.string for message in messages.compiled() if message.id}
    assert binary == source, "run `make messages`"


def test_no_chinese_text_in_the_pages_sources():
    found = []
    for path in messages.sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None
        }
        found += [
            f"{path.name}:{node.lineno} {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
            and CHINESE.search(node.value) and node.value not in NEUTRAL
        ]
    assert found == []


@pytest.mark.parametrize(
    ("locale", "expected"),
    [("zh-CN", "zh"), ("zh", "zh"), ("zh_TW", "zh"), ("ZH-hant-HK", "zh"), ("en-GB", "en"), ("de", "en"),
     ("zha", "en"), ("", "en"), (None, "en")],
)
def test_first_visit(locale, expected):
    assert language.preferred(locale).code == expected


def test_unknown_code_is_no_language():
    assert language.by_code("zh") is language.CHINESE
    assert language.by_code("ZH") is None
    assert language.by_code(None) is None


def test_english_is_the_source_itself():
    assert language.translator(language.ENGLISH)("Attention") == "Attention"
    assert language.translator(language.CHINESE)("Attention") == "注意力"
