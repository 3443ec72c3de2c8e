"""Keeps the house's rules: who imports what, how long a file is, and what must never stand in one.

Reads the sources as syntax trees; imports nothing of the product in this
process, so it also holds for a machine without torch or Streamlit.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {".git", ".venv", "build", "__pycache__", ".pytest_cache", ".ruff_cache", "node_modules"}
LINES = 400
LONG_FILE = re.compile(r"Longer than 400 lines because \w")
#: Written so that they do not match themselves.
NAMES_A_MACHINE = re.compile(r"(?<![\w.])/([w]ork|[r]oot|[h]ome|[U]sers|[o]pt)/\w|\b[f]arm-\w|(?<!\w)\.[l]ibrary/")
READ_AS_TEXT = {".py", ".js", ".css", ".md", ".toml", ".txt", ".po", ".json", ".html", ".svg", ".tsv", "", ".sh"}


def tracked() -> list[Path]:
    """The repository's files, relative to its root; without git, what lies there."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
        paths = [Path(name) for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    return sorted(path for path in paths if not SKIPPED & set(path.parts) and (ROOT / path).is_file())


TRACKED = tracked()
SOURCES = [path for path in TRACKED if path.suffix == ".py"]
PRODUCT = [path for path in SOURCES if path.parts[0] != "tests"]
TREES = {path: ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path)) for path in SOURCES}


def imports(path: Path) -> set[str]:
    """Dotted names of everything `path` imports, `from a import b` as both `a` and `a.b`; also inside functions."""
    package = path.parent.parts
    names = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def roots(path: Path) -> set[str]:
    """First parts of what `path` imports."""
    return {name.split(".")[0] for name in imports(path)}


def is_page(path: Path) -> bool:
    """True for pages/x.py, the files that Streamlit runs."""
    return path.parts[0] == "pages" and len(path.parts) == 2 and path.name != "__init__.py"


def may_draw(path: Path) -> bool:
    """True where Streamlit may be imported."""
    return path == Path("app.py") or is_page(path) or path.parts[:2] == ("pages", "widgets")


def breaches(tree: ast.AST) -> list[str]:
    """Constructs in `tree` that run text as code, unpickle, or hand HTML through."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            found += [f"imports {name}" for name in modules & {"pickle", "dill", "joblib", "shelve", "marshal"}]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if called in {"eval", "exec", "builtins.eval", "builtins.exec"}:
            found.append(f"calls {called}")
        if called == "torch.load" and not _is(keywords.get("weights_only"), True):
            found.append("torch.load without weights_only=True")
        if "trust_remote_code" in keywords and not _is(keywords["trust_remote_code"], False):
            found.append("trust_remote_code that is not False")
        for unsafe in ("unsafe_allow_html", "unsafe_allow_javascript"):
            if unsafe in keywords and not _is(keywords[unsafe], False) and not (
                node.args and isinstance(node.args[0], ast.Constant)
            ):
                found.append(f"{unsafe} with a text that is not a constant")
    return found


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_only_app_pages_and_widgets_import_streamlit():
    assert [str(path) for path in PRODUCT if "streamlit" in roots(path) and not may_draw(path)] == []


def test_only_the_engine_imports_torch_and_transformers():
    assert [
        str(path) for path in PRODUCT if roots(path) & {"torch", "transformers"} and path.parts[0] != "engine"
    ] == []


def test_the_engine_knows_nothing_of_pages():
    assert [str(path) for path in PRODUCT if path.parts[0] == "engine" and roots(path) & {"pages", "app"}] == []


def test_nothing_imports_a_page():
    pages = {f"pages.{path.stem}" for path in PRODUCT if is_page(path)} | {"app"}
    guilty = {str(path): imports(path) & pages for path in SOURCES if imports(path) & pages}
    assert guilty == {}


def test_widgets_and_figures_do_not_know_each_other_backwards():
    figures = [path for path in PRODUCT if path.parts[:2] == ("pages", "figures")]
    assert [str(path) for path in figures if any(name.startswith("pages.widgets") for name in imports(path))] == []


def test_figures_are_made_in_one_place():
    """As `pages.figures.whole.Figure`, which a browser draws once."""
    others = {path.as_posix() for path in PRODUCT for node in ast.walk(TREES[path])
              if isinstance(node, ast.Call) and ast.unparse(node.func) in {"go.Figure", "make_subplots"}}
    assert others == set()


def test_figures_and_types_load_without_torch_and_streamlit():
    modules = [".".join(path.with_suffix("").parts) for path in PRODUCT if path.parts[:2] == ("pages", "figures")]
    modules = ["engine", "engine.types", "engine.errors", "engine.limits", *modules]
    script = "\n".join(
        [f"import {name.removesuffix('.__init__')}" for name in modules]
        + ["import sys", "print([n for n in ('torch', 'transformers', 'streamlit') if n in sys.modules])"]
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_app_lists_every_page_file():
    listed = {
        node.args[0].value
        for node in ast.walk(TREES[Path("app.py")])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "st.Page"
    }
    assert listed == {path.as_posix() for path in PRODUCT if is_page(path)}


@pytest.mark.parametrize("path", [path for path in TRACKED if path.suffix in {".py", ".js", ".css"}], ids=str)
def test_length_and_opening(path: Path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= LINES or LONG_FILE.search(text[:2000]), "split it, or say why at its top"
    if path.suffix == ".py" and text.strip():
        assert ast.get_docstring(TREES[path]), "a module opens with what it does and what it does not know"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_dangerous(path: Path):
    assert breaches(TREES[path]) == []


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("eval(x)", True), ("model.eval()", False), ("import pickle", True), ("from pickle import loads", True),
        ("torch.load(p)", True), ("torch.load(p, weights_only=True)", False),
        ("f(trust_remote_code=True)", True), ("f(trust_remote_code=flag)", True), ("f(trust_remote_code=False)", False),
        ("st.markdown(text, unsafe_allow_html=True)", True), ("st.markdown('<b>x</b>', unsafe_allow_html=True)", False),
    ],
)
def test_the_search_for_danger_can_fail(code: str, caught: bool):
    assert bool(breaches(ast.parse(code))) is caught


def test_nothing_names_a_machine():
    named = []
    for path in TRACKED:
        if path.suffix in READ_AS_TEXT:
            lines = (ROOT / path).read_text(encoding="utf-8", errors="replace").splitlines()
            named += [f"{path}:{number}" for number, line in enumerate(lines, 1) if NAMES_A_MACHINE.search(line)]
    assert named == []


def test_no_request_leaves_the_page():
    # Addresses in what the browser runs; W3C namespaces are names, not requests.
    for path in TRACKED:
        if path.parts[0] in {"pages", "assets"} and path.suffix in {".js", ".css", ".html", ".svg"}:
            text = (ROOT / path).read_text(encoding="utf-8")
            addresses = [a for a in re.findall(r"https?://[^\s\"')]+", text) if not a.startswith("http://www.w3.org/")]
            assert addresses == [], path


def test_requirements_are_pinned_exactly():
    for name in ("requirements.txt", "tests/requirements.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.fullmatch(r"[A-Za-z0-9_.-]+==\d[\w.]*", line), f"{name}: {line}"
