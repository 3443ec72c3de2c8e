"""Collects the interface's texts into the catalogue and compiles it.

    make messages      (or: python tests/messages.py)

Reads app.py and pages/**/*.py for `_("…")` and `N_("…")`, merges them into
assets/locales/zh_CN/LC_MESSAGES/microscope.po, writes the .mo beside it, and
names the texts that still lack a translation. Knows nothing of Streamlit.
"""

from __future__ import annotations

import ast
import os
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
PO = ROOT / "assets" / "locales" / "zh_CN" / "LC_MESSAGES" / "microscope.po"
MO = PO.with_suffix(".mo")
MARKERS = {"_", "N_"}
#: Written instead of Babel's, whose dates would change the file without a change of any text.
HEADER = b"""msgid ""
msgstr ""
"Language: zh_CN\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

"""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def sources() -> list[Path]:
    """The files whose texts a person reads."""
    return [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]


def texts(path: Path) -> set[str]:
    """Every constant text inside `_()` or `N_()` in one file.

    From the syntax tree: before Python 3.12 Babel's own reader misses calls inside f-strings.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKERS:
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found


def extracted() -> Catalog:
    """A catalogue of every text in the sources, without translations."""
    catalog = Catalog(project="The Attention Microscope", charset="utf-8")
    for path in sources():
        for text in sorted(texts(path)):
            # Without line numbers: a moved line is no change of the catalogue.
            catalog.add(text, locations=[(path.relative_to(ROOT).as_posix(), None)])
    return catalog


def translated() -> Catalog:
    """The catalogue as its translators edit it."""
    with PO.open("rb") as file:
        return read_po(file, locale="zh_CN")


def compiled() -> Catalog:
    """The catalogue as the app reads it."""
    with MO.open("rb") as file:
        return read_mo(file)


def update() -> list[str]:
    """Writes the merged .po and the .mo; returns the texts without a translation."""
    catalog = translated() if PO.exists() else Catalog(locale="zh_CN", project="The Attention Microscope")
    # No fuzzy matching: a guessed translation is worse than a missing one, which the tests catch.
    catalog.update(extracted(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.fuzzy = False
    PO.parent.mkdir(parents=True, exist_ok=True)
    for path, write in ((PO, _po_bytes), (MO, _mo_bytes)):
        temporary = path.with_suffix(path.suffix + ".tmp")
        temporary.write_bytes(write(catalog))
        os.replace(temporary, path)
    return [message.id for message in catalog if message.id and not message.string]


def _po_bytes(catalog: Catalog) -> bytes:
    buffer = BytesIO()
    write_po(buffer, catalog, width=110, omit_header=True, sort_output=True, include_lineno=False)
    return HEADER + buffer.getvalue()


def _mo_bytes(catalog: Catalog) -> bytes:
    buffer = BytesIO()
    catalog.creation_date = catalog.revision_date = EPOCH
    write_mo(buffer, catalog)
    return buffer.getvalue()


if __name__ == "__main__":
    for text in update():
        print(f"no translation yet: {text!r}", file=sys.stderr)
