"""What is on screen as files: CSV, JSON, SVG of the grid, and one HTML page that opens offline.

It turns values into text and bytes. Spreadsheets run cells that begin with
= + - or @ as formulas, so such tokens are quoted in CSV. It knows neither torch
nor Streamlit, and asks nobody for anything: Plotly's script is put inside the page.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages.figures import palette, png

#: Pixels of one head's picture in the grid's SVG, and of the gap that holds its caption.
SIDE, GAP = 96, 22
#: Pixels above the heads for the title and the colour bar, and the least width, which holds the notes.
HEAD, LEAST_WIDTH = 52, 460


def pattern_csv(weights: np.ndarray, *, query_labels: Sequence[str], key_labels: Sequence[str],
                beside: Mapping[str, np.ndarray] | None = None) -> str:
    """A pattern as a table: first row the keys, first column the queries; masked cells empty.

    Args:
        weights: (q_len, k_len) float, NaN where masked.
        beside: name → (q_len,) float, columns after the keys'.
    """
    beside = beside or {}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", *(_cell(label) for label in (*key_labels, *beside))])
    for label, row in zip(query_labels, np.column_stack([weights, *beside.values()]), strict=True):
        writer.writerow([_cell(label), *("" if np.isnan(value) else f"{value:.6f}" for value in row)])
    return out.getvalue()


def table_csv(columns: Mapping[str, Sequence[object] | np.ndarray]) -> str:
    """Columns of equal length as a table, their names in the first row; None and NaN become empty cells."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in columns])
    for row in zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True):
        writer.writerow(["" if value is None or value != value else _cell(value) if isinstance(value, str) else value
                         for value in row])
    return out.getvalue()


def to_json(value: Mapping[str, object]) -> str:
    """Nested values and numpy arrays as JSON; NaN becomes null."""
    return json.dumps(_plain(value), ensure_ascii=False, indent=1, allow_nan=False)


def grid_svg(cells: np.ndarray, *, order: Sequence[tuple[int, int]], captions: np.ndarray, labels: np.ndarray,
             title: str, notes: Sequence[str], theme: palette.Theme) -> str:
    """All heads in `order` as one SVG, each a picture with its caption and label, under a title and a colour bar.

    Args:
        cells: (n_layers, n_heads, rows, columns) float, NaN where masked.
        captions, labels: (n_layers, n_heads) str.
        title, notes: plain text above the heads, a line each.
    """
    across = min(cells.shape[1], 12)
    down = -(-len(order) // across)
    top = HEAD + 14 * len(notes)
    width, height = max(across * (SIDE + 12) + 12, LEAST_WIDTH), top + down * (SIDE + 2 * GAP) + 12
    scale = png.indexed_png(palette.weights_to_bytes(np.linspace(0, 1, 200)[None]), palette.weight_colours(theme))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="10" fill="{palette.TEXT[theme]}">',
        f'<rect width="100%" height="100%" fill="{palette.BACKGROUND[theme]}"/>',
        f'<text x="12" y="22" font-size="14">{html.escape(title)}</text>',
        *(f'<text x="12" y="{40 + 14 * line}">{html.escape(note)}</text>' for line, note in enumerate(notes)),
        f'<text x="12" y="{top - 8}">0</text><image x="22" y="{top - 16}" width="200" height="10" '
        f'preserveAspectRatio="none" href="{png.data_uri(scale)}"/><text x="226" y="{top - 8}">1</text>',
    ]
    for place, (layer, head) in enumerate(order):
        x, y = 12 + place % across * (SIDE + 12), top + place // across * (SIDE + 2 * GAP)
        picture = png.indexed_png(palette.weights_to_bytes(cells[layer, head]), palette.weight_colours(theme))
        parts.append(
            f'<text x="{x}" y="{y + 14}">{html.escape(str(captions[layer, head]))}</text>'
            f'<image x="{x}" y="{y + GAP - 2}" width="{SIDE}" height="{SIDE}" preserveAspectRatio="none" '
            f'image-rendering="pixelated" href="{png.data_uri(picture)}"/>'
            f'<text x="{x}" y="{y + SIDE + GAP + 10}" opacity="0.75">{html.escape(str(labels[layer, head]))}</text>'
        )
    return "".join([*parts, "</svg>"])


def page_html(figure: go.Figure, *, title: str, language: str, facts: Sequence[tuple[str, str]], grid: str,
              theme: palette.Theme) -> str:
    """One self-contained page: the facts, the open head as a live figure, the grid of all heads.

    Args:
        facts: (name, value) pairs, plain text.
        grid: the SVG of `grid_svg`.
    """
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in facts)
    picture = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    return (
        f'<!doctype html><html lang="{html.escape(language)}"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>body{{font-family:'Noto Sans SC','PingFang SC','Microsoft YaHei',"
        f"sans-serif;margin:2rem;color:{palette.TEXT[theme]};background:{palette.BACKGROUND[theme]}}}"
        "th{text-align:left;padding-right:1.5em;font-weight:500;vertical-align:top}svg{max-width:100%;height:auto}"
        f"</style></head><body><h1>{html.escape(title)}</h1><table>{rows}</table>{picture}{grid}</body></html>"
    )


def _cell(label: str) -> str:
    return f"'{label}" if label.startswith(("=", "+", "-", "@", "\t", "\r")) else label


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return None if value != value or value in (float("inf"), float("-inf")) else value
    return value
