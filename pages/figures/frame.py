"""What every figure shares: escaped text, numeric token axes, margins, fonts, the toolbar.

It knows Plotly's ways with text and axes. It does not know attention, models or the page.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pages.figures import palette

FONT = "'Noto Sans SC','PingFang SC','Microsoft YaHei',sans-serif"
#: Of all text in a figure but its title and small notes, in pixels.
FONT_SIZE = 13

#: Longest tick label drawn, in half-width columns (a Chinese character takes two); the hover shows the whole token.
TICK_COLUMNS = 18
#: Pixels of a half-width column of a tick label, with a little to spare.
HALF_WIDTH = 7
#: Most tick labels drawn along an axis; between them every n-th is shown, and the hover names all.
MOST_TICKS = 40
#: Side of a cell in pixels: least, usual, and most, which short sentences get until they fill SMALL_PICTURE.
CELL = (3, 38, 56)
SMALL_PICTURE = 300
#: Height in pixels that a square picture grows to at most.
PICTURE = 560
#: Height in pixels that a row keeps where a picture is wider than high: below it the rows' labels overprint.
READABLE_ROW = 18
#: Numbers below this are written with a power of ten.
POWERS_BELOW = 1e-3
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Height of the colour bar with its ticks and name, in pixels.
BAR = 60


def escape(text: str) -> str:
    """Text as Plotly shows it literally: Plotly reads `<…>` as markup and `&…;` as an entity."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


def isolate(text: str) -> str:
    """`text` between Unicode isolates, so that right-to-left tokens leave their neighbours in place."""
    return f"\u2068{text}\u2069"


def axis_name(text: str, **more: int) -> dict:
    """An axis's title, as large as all other text: Plotly would make it a fifth larger.

    Args:
        more: of Plotly's other settings, such as `standoff`, in pixels.
    """
    return {"text": escape(text), "font": {"size": FONT_SIZE}, **more}


def written(value: float, number: str) -> str:
    """`value` in the format `number`, with the minus that Plotly writes; nothing but zeros has no sign."""
    text = f"{value:{number}}"
    return text.replace("-", "−") if text.strip("+-0.") else text.lstrip("+-")


def compact(value: float) -> str:
    """`value` in three digits, from a thousand on in all; below a thousandth as a power of ten: 0.0123, 9.16 × 10⁻⁵."""
    if not 0 < abs(value) < POWERS_BELOW:
        return written(value, ".3g" if abs(value) < 999.5 else ",.0f")
    mantissa, power = f"{value:.2e}".split("e")
    return f"{mantissa} × {_power(int(power))}".replace("-", "−")


def in_powers(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Numbers that are all below a thousandth as multiples of one power of ten, and what to say of it: " (× 10⁻⁴)".

    Numbers that need no power come back as they are, with "".
    """
    most = float(np.nanmax(np.abs(values), initial=0.0))
    if not 0 < most < POWERS_BELOW:
        return values, ""
    power = int(np.floor(np.log10(most)))
    return values * 10.0**-power, f" (× {_power(power)})"


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def readable(value: float) -> str:
    """A number ≥ 0 with two digits after the point, from 100 on with none, below 0.01 in three digits (`compact`)."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.01 else compact(value)


def columns_of(text: str) -> int:
    """Width in half-width columns, roughly: characters from U+1100 on count twice."""
    return sum(2 if ord(character) >= 0x1100 else 1 for character in text)


def shorten(text: str, columns: int = TICK_COLUMNS) -> str:
    """`text` cut to `columns` half-width columns: where its middle is missing stands an ellipsis.

    Both ends stay: a row's label begins with what it predicts and ends with what it reads.
    """
    if columns_of(text) <= columns:
        return text
    room = columns - 1
    head = _fitting(text, room - room // 2)
    tail = _fitting(text[::-1], room - columns_of(head))[::-1]
    return f"{head}…{tail}"


def _fitting(text: str, columns: int) -> str:
    """The longest beginning of `text` that fits in `columns` half-width columns."""
    widths = np.cumsum([columns_of(character) for character in text])
    return text[:int(np.searchsorted(widths, columns, side="right"))]


def token_axes(query_labels: Sequence[str], key_labels: Sequence[str], *, query: str, key: str) -> dict[str, object]:
    """Layout of axes on which query i is y = i (downwards) and key j is x = j (headings on top), and their names.

    Positions, never tokens, are the coordinates: tokens as categories would
    merge repeats. Two axes lie over each other on each side: x and y carry
    every whole token, unseen, for the hover; x2 and y2 draw the labels, cut
    and thinned to what there is room for. A trace must use x2/y2 for them to
    be drawn (`tick_anchor`).
    """
    def whole(labels):
        return {"tickmode": "array", "tickvals": np.arange(len(labels)), "showticklabels": False,
                "ticktext": [isolate(escape(label)) for label in labels]}

    def drawn(labels):
        step = -(-len(labels) // MOST_TICKS) or 1
        return {"tickmode": "array", "tickvals": np.arange(0, len(labels), step), "ticklabelstandoff": 4,
                "ticktext": [isolate(escape(shorten(label))) for label in labels[::step]]}

    plain = {"zeroline": False, "showgrid": False, "ticks": "", "constrain": "domain"}
    x = {**plain, "range": [-0.5, len(key_labels) - 0.5], "constraintoward": "left"}
    y = {**plain, "range": [len(query_labels) - 0.5, -0.5], "constraintoward": "bottom"}
    angle = -90 if _upright(key_labels) else 0
    frame = {"showline": True, "mirror": True, "linewidth": 1, "linecolor": "rgba(128,128,128,0.5)"}
    # Each drawn axis stands on the unseen one across: anchored to each other they would miss the square's edge.
    shape = (len(query_labels), len(key_labels))
    square = {"scaleanchor": "x"} if _row_height(*shape) == _side(*shape) else {}
    return {
        "xaxis": {**x, **whole(key_labels), **frame},
        "yaxis": {**y, **whole(query_labels), **frame, **square},
        "xaxis2": {**x, **drawn(key_labels), "overlaying": "x", "matches": "x", "anchor": "y", "side": "top",
                   "tickangle": angle, "title": axis_name(key, standoff=10)},
        "yaxis2": {**y, **drawn(query_labels), "overlaying": "y", "matches": "y", "anchor": "x", "side": "left"},
        # Above its labels: Plotly lays a vertical axis's own title on its side.
        "annotations": [{"xref": "x domain", "x": 0, "xanchor": "right", "xshift": -4, "yref": "y domain", "y": 1,
                         "yanchor": "bottom", "showarrow": False, "text": escape(query), "font": {"size": 13}}],
    }


def token_margins(query_labels: Sequence[str], key_labels: Sequence[str], *, top: int) -> dict[str, int]:
    """Margins in pixels that hold the labels of `token_axes`; Plotly's own measuring draws the figure twice.

    Args:
        top: room above the labels, for a title.
    """
    heads = HALF_WIDTH * _widest(key_labels) if _upright(key_labels) else 18
    return {"l": 36 + HALF_WIDTH * _widest(query_labels), "r": 12, "t": top + 34 + heads, "b": BAR, "pad": 0}


def names_room(names: Sequence[str]) -> int:
    """Pixels that names take left of their rows; Plotly's own measuring draws the figure twice."""
    return 16 + HALF_WIDTH * max(map(columns_of, names), default=0)


def _upright(key_labels: Sequence[str]) -> bool:
    """Whether key labels need to stand upright to fit side by side."""
    return any(columns_of(label) > 4 for label in key_labels) or len(key_labels) > 24


def _widest(labels: Sequence[str]) -> int:
    """Columns of the widest label as it is drawn."""
    return max((min(columns_of(label), TICK_COLUMNS) for label in labels), default=1)


def tick_anchor() -> dict:
    """An empty trace on x2/y2: Plotly draws no axis without one."""
    return {"type": "scatter", "x": np.zeros(1), "y": np.zeros(1), "xaxis": "x2", "yaxis": "y2", "mode": "markers",
            "opacity": 0, "hoverinfo": "skip", "showlegend": False}


def upright(x: float, colour: str, **line: float | str) -> dict:
    """A vertical line over the whole height of a picture, as a shape."""
    return {"type": "line", "xref": "x", "x0": x, "x1": x, "yref": "y domain", "y0": 0, "y1": 1,
            "line": {"color": colour, **line}}


def level(y: float, colour: str, **line: float | str) -> dict:
    """A horizontal line over the whole width of a picture, as a shape."""
    return {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y,
            "line": {"color": colour, **line}}


def outline(x0: float, x1: float, y0: float, y1: float, *, width: float, theme: palette.Theme) -> list[dict]:
    """A frame around cells, as shapes: the text's colour upon the page's, of which one is apart from any cell's."""
    corners = {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1}
    return [{**corners, "line": {"color": palette.BACKGROUND[theme], "width": width + 1.5}},
            {**corners, "line": {"color": palette.TEXT[theme], "width": width}}]


def bar_anchor(low: float, high: float, *, scale: list, bar: dict) -> dict:
    """An empty trace that lends its colour bar to an image, which has none."""
    return {"type": "scatter", "x": np.zeros(1), "y": np.zeros(1), "mode": "markers", "opacity": 0,
            "hoverinfo": "skip", "showlegend": False,
            "marker": {"color": np.zeros(1), "cmin": low, "cmax": high, "showscale": True, "colorscale": scale,
                       "colorbar": bar}}


def colour_bar(name: str) -> dict:
    """A colour bar below the picture's left corner, where a narrow and a wide page both keep it beside the cells."""
    return {"orientation": "h", "thickness": 10, "lenmode": "pixels", "len": 200, "outlinewidth": 0,
            "x": 0, "xanchor": "left", "xpad": 0, "y": 0, "yanchor": "top", "ypad": 6,
            "title": {"text": escape(name), "side": "bottom", "font": {"size": 13}}}


def picture_height(rows: int, columns: int, key_labels: Sequence[str]) -> int:
    """Figure height in pixels for cells that are readable, square where that allows, with room for the headings."""
    return int(np.ceil(rows * _row_height(rows, columns) + BAR + 40 + 8 * _widest(key_labels)))


def _side(rows: int, columns: int) -> float:
    """Side of a square cell in pixels."""
    least, usual, most = CELL
    longer = max(rows, columns, 1)
    return min(max(least, PICTURE / longer), max(usual, min(most, SMALL_PICTURE / longer)))


def _row_height(rows: int, columns: int) -> float:
    """Height of a row in pixels: a square cell's, but what can be read where few rows have many columns."""
    return max(_side(rows, columns), min(READABLE_ROW, PICTURE / max(rows, 1)))


def bare_layout(*, title: str, theme: palette.Theme) -> dict:
    """Layout of every figure: no background of its own, our fonts, the theme's text colour."""
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "color": palette.TEXT[theme], "size": FONT_SIZE},
        "hoverlabel": {"font": {"family": FONT}, "align": "left"},
        # No padding: a frame stands on the cells it frames, and hovers are placed by the axes' own pixels.
        "margin": {"l": 8, "r": 8, "t": 44 if title else 8, "b": BAR, "pad": 0},
        "showlegend": False,
    }
    if title:
        layout["title"] = {"text": escape(title), "x": 0, "xanchor": "left", "yref": "container", "y": 1,
                           "yanchor": "top", "pad": {"t": 10, "b": 4}, "font": {"size": 15}, "automargin": True}
    return layout


def plotly_config(filename: str, *, scale: int = 2) -> dict:
    """Toolbar settings: pictures are saved as `filename`; nothing is offered that leaves this machine."""
    return {
        "displaylogo": False,
        "responsive": True,
        "showSendToCloud": False,
        "showEditInChartStudio": False,
        "modeBarButtonsToRemove": ["sendChartToCloud", "sendDataToCloud", "editInChartStudio", "select2d", "lasso2d"],
        "toImageButtonOptions": {"format": "png", "filename": filename, "scale": scale},
    }
