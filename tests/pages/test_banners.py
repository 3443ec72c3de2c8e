"""Errors reach a person in their language, whole, and never as Markdown or HTML."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine import errors
from pages.widgets import banners, error_texts, language

ENGINE = Path(__file__).resolve().parents[2] / "engine"
FIXED = {"got", "next_step", "code", "expected"}


def ends(node: ast.expr) -> list[ast.expr]:
    """The expressions that a conditional expression may come to; any other is its own end."""
    return ends(node.body) + ends(node.orelse) if isinstance(node, ast.IfExp) else [node]


def code_of(call: ast.Call, position: int | None) -> ast.expr | None:
    """The argument `code` of a call, by keyword or at `position`."""
    for keyword in call.keywords:
        if keyword.arg == "code":
            return keyword.value
    return call.args[position] if position is not None and position < len(call.args) else None


def names_of_numbers(call: ast.Call) -> set[str]:
    """Keywords of a call that become `numbers`; "**" for any it hands through."""
    return {keyword.arg or "**" for keyword in call.keywords} - FIXED


def raised() -> list[tuple[str, str, set[str]]]:
    """(place, code, names of numbers) of every error that the engine's sources build.

    Codes come as constants, as both ends of `code="a" if … else "b"`, or
    through a function of the same file that takes a parameter `code`.
    """
    found = []
    for path in sorted(ENGINE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        builders: dict[str, tuple[int, set[str]]] = {}
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and "code" in (names := [a.arg for a in function.args.args]):
                inner = [c for c in ast.walk(function) if isinstance(c, ast.Call) and code_of(c, None) is not None]
                if inner:  # else its codes are of something else than errors
                    builders[function.name] = (names.index("code"), set().union(*map(names_of_numbers, inner)) - {"**"})
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            position, added = builders.get(ast.unparse(call.func), (None, set()))
            if (code := code_of(call, position)) is not None:
                place = f"{path.relative_to(ENGINE)}:{call.lineno}"
                codes = [end.value for end in ends(code) if isinstance(end, ast.Constant)]
                found += [(place, value, names_of_numbers(call) | added) for value in codes]
    return found


def test_every_error_of_the_engine_has_its_texts():
    assert {code for _place, code, _numbers in raised()} - error_texts.BY_CODE.keys() == set()


def test_texts_name_only_values_that_the_error_carries():
    for place, code, numbers in raised():
        if code in error_texts.BY_CODE and "**" not in numbers:
            assert error_texts.placeholders(error_texts.BY_CODE[code]) <= numbers, f"{place} {code}"


def test_no_texts_for_errors_that_do_not_exist():
    assert error_texts.BY_CODE.keys() - {code for _place, code, _numbers in raised()} == set()


def test_the_search_finds_the_engines_errors():
    numbers = {code: numbers for _place, code, numbers in raised()}
    assert numbers["unknown_stream"] == {"stream"}
    assert {"weights_pickle", "weights_missing"} <= numbers.keys(), "both ends of a condition"
    assert numbers["map_differs"] >= {"module", "layer"}, "through a function that takes the code"


def test_known_code_is_shown_in_the_interfaces_language():
    error = errors.InvalidPrompt("x", got="y", next_step="z", code="empty_text", what="target")
    chinese = banners.error_parts(error, language.translator(language.CHINESE))
    english = banners.error_parts(error, language.translator(language.ENGLISH))
    assert english == ("some target text", "nothing, or blanks only", "Type a sentence.")
    assert chinese[0] == "一些目标文本"
    assert not set(chinese) & set(english)


@pytest.mark.parametrize("code", ["no_such_code", "unknown_stream"])
def test_unknown_code_or_missing_value_falls_back_to_the_errors_own_texts(code):
    error = errors.InvalidPrompt("a *stream*", got="<b>", next_step="Go on.", code=code)
    assert banners.error_parts(error, language.translator(language.CHINESE)) == (
        r"a \*stream\*", r"\<b\>", r"Go on\.",
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("characters", 10_000, "10,000"), ("needed_bytes", 1536, "1.5 KiB"), ("needed_bytes", 0, "0 B"),
        ("free_memory", 3 * 2**30, "3.0 GiB"), ("error", 0.000123456, "0.000123"), ("names", ("a", "b"), "a, b"),
        ("text", "x" * 301, "x" * 300 + " … (+1)"), ("flag", True, "True"),
    ],
)
def test_values_are_readable(name, value, expected):
    assert banners.readable(name, value) == expected


def test_banner_shows_markdown_as_typed():
    def script():
        from engine import errors
        from pages.widgets import banners

        hostile = "![x](http://example.com/x.png) **bold** <script>alert(1)</script>\n# title"
        error = errors.ModelNotFound("a model", got=hostile, next_step="Stop.", code="no_such_code")
        banners.show_error(error, lambda text: text)
        banners.show_busy(errors.Busy("room", got="9 waiting", next_step="Wait.", code="none"), lambda text: text)
        banners.show_notes(["surrogates_replaced", "brand_new"], lambda text: text)

    test = AppTest.from_function(script, default_timeout=20).run()
    assert not test.exception
    body = test.error[0].value.replace("\u2060", "")
    assert r"\!\[x\]\(http\:\/\/example\.com\/x\.png\)" in body and r"\<script\>" in body
    assert "There is no such model" in body and "\n# " not in body
    assert "9 waiting" in test.warning[0].value
    assert [info.value for info in test.info][1] == r"brand\_new"


def test_unexpected_error_shows_an_id_and_logs_the_rest(caplog):
    def script():
        from pages.widgets import banners

        try:
            raise ValueError("secret detail")
        except ValueError as error:
            banners.show_unexpected(error, lambda text: text)

    with caplog.at_level(logging.ERROR):
        test = AppTest.from_function(script, default_timeout=20).run()
    body = test.error[0].value.replace("\u2060", "")
    assert "secret detail" not in body
    record = next(record for record in caplog.records if record.name == "attention_microscope")
    assert record.args[0] in body
    assert "secret detail" in str(record.exc_info[1])


@pytest.mark.parametrize("typed", [
    "www.example.com", "WWW.example.com", "http://example.com", "a@example.com", "a -> b", "a <- b", "a <-> b",
    "a -- b", "a <= b", "a >= b", "a ~= b",
])
def test_nothing_is_made_of_what_was_typed(typed):
    """Streamlit would make links and signs of these, backslashes or not; its patterns are broken up."""
    shown = re.sub(r"\\(.)", r"\1", banners.escape(typed))
    assert shown.replace("\u2060", "") == typed
    assert not re.search(r"www\.|://|\w@\w|(^|\s)(->|<-|<->|--|<=|>=|~=)(\s|$)", shown, re.IGNORECASE)


def test_a_lone_surrogate_can_be_sent():
    assert banners.escape("a\ud800").encode("utf-8").decode() == "a\ufffd"


def test_a_hub_id_with_its_revision_can_be_copied():
    assert "\u2060" not in banners.escape("org/name@0123abcd")
