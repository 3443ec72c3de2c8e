"""The two colour scales of the whole app, and how weights become bytes and bytes become colours.

It knows colours as (256, 3) uint8 ramps, one pair (light, dark) for attention
and one for differences; the tone curve; the byte code that every picture is
sent in. It does not know what a picture shows, Plotly, or the page.

Both ramps are built in OKLCH (Björn Ottosson, "A perceptual color space for
image processing", 2020), so that lightness runs in equal steps and alone
carries the value: a reader who cannot tell the hues apart loses nothing. A
ramp starts at the page's background, so that "nothing" looks like nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

#: Page background and text of the two themes; the ramps begin at the background.
BACKGROUND = {"light": "#ffffff", "dark": "#13161c"}
TEXT = {"light": "#1b1f27", "dark": "#e7eaf0"}
#: Outline of what is chosen, and the line a value is compared with; both read on either theme.
ACCENT = {"light": "#c2410c", "dark": "#fb923c"}
#: Behind cells that a mask hides: neutral grey, which neither ramp contains.
MASKED = {"light": "#d4d4d8", "dark": "#3f3f46"}

#: A weight w takes the ramp's colour at w**TONE: attention is mostly small, and linear colour would show it as empty.
TONE = 0.5

#: The byte that says "masked"; 1..255 carry values.
MASKED_BYTE = 0

# (hue in degrees, chroma) at value 0, ½ and 1; lightness runs linearly between the ends.
_SEQUENTIAL = {
    "light": {"lightness": (1.0, 0.24), "hue": (205.0, 232.0, 290.0), "chroma": (0.0, 0.125, 0.115)},
    "dark": {"lightness": (0.2, 0.96), "hue": (264.0, 245.0, 175.0), "chroma": (0.012, 0.13, 0.085)},
}
_DIVERGING = {
    "light": {"lightness": (1.0, 0.36), "hue": (255.0, 50.0), "chroma": 0.14},
    "dark": {"lightness": (0.2, 0.86), "hue": (245.0, 65.0), "chroma": 0.125},
}


def _oklch_to_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """OKLCH to sRGB, (n, 3) float in [0, 1]; chroma is reduced until the colour can be shown."""
    rgb = np.zeros((len(lightness), 3))
    remaining = np.ones(len(lightness), dtype=bool)
    for share in np.linspace(1.0, 0.0, 41):
        a = share * chroma * np.cos(np.radians(hue))
        b = share * chroma * np.sin(np.radians(hue))
        cone = np.stack([
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]) ** 3
        linear = np.array([
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]) @ cone
        showable = remaining & ((linear > -1e-4) & (linear < 1 + 1e-4)).all(axis=0)
        clipped = np.clip(linear, 0.0, 1.0)
        gamma = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
        rgb[showable] = gamma.T[showable]
        remaining &= ~showable
    return rgb


def _bytes(rgb: np.ndarray) -> np.ndarray:
    colours = np.round(rgb * 255).astype(np.uint8)
    colours.setflags(write=False)
    return colours


@cache
def sequential(theme: Theme) -> np.ndarray:
    """The attention ramp in equal steps of lightness: (256, 3) uint8, background first."""
    spec = _SEQUENTIAL[theme]
    t = np.linspace(0.0, 1.0, 256)
    start, end = spec["lightness"]
    hue = np.interp(t, (0, 0.5, 1), spec["hue"])
    chroma = np.interp(t, (0, 0.5, 1), spec["chroma"])
    return _bytes(_oklch_to_rgb(start + (end - start) * t, chroma, hue))


@cache
def diverging(theme: Theme) -> np.ndarray:
    """The difference ramp: (256, 3) uint8, most negative first, the background in the middle."""
    spec = _DIVERGING[theme]
    t = (np.arange(256) - 128) / 127.0
    size = np.minimum(np.abs(t), 1.0)
    start, end = spec["lightness"]
    hue = np.where(t < 0, spec["hue"][0], spec["hue"][1])
    return _bytes(_oklch_to_rgb(start + (end - start) * size, spec["chroma"] * np.sqrt(size), hue))


@cache
def weight_colours(theme: Theme) -> np.ndarray:
    """Colour of every byte of `weights_to_bytes`: (256, 3) uint8; entry 0 is the masked grey."""
    weight = np.clip((np.arange(256) - 1) / 254.0, 0.0, 1.0)
    colours = sequential(theme)[np.round(255 * weight**TONE).astype(int)].copy()
    colours[MASKED_BYTE] = hex_to_rgb(MASKED[theme])
    colours.setflags(write=False)
    return colours


@cache
def difference_colours(theme: Theme) -> np.ndarray:
    """Colour of every byte of `differences_to_bytes`: (256, 3) uint8; entry 0 is the masked grey."""
    colours = diverging(theme).copy()
    colours[MASKED_BYTE] = hex_to_rgb(MASKED[theme])
    colours.setflags(write=False)
    return colours


def weights_to_bytes(weights: np.ndarray) -> np.ndarray:
    """Weights in [0, 1], NaN where masked, any shape → uint8: 0 masked, 1 + round(254·w) else."""
    masked = np.isnan(weights)
    values = 1 + np.round(254 * np.clip(np.nan_to_num(weights), 0.0, 1.0))
    return np.where(masked, MASKED_BYTE, values).astype(np.uint8)


def differences_to_bytes(differences: np.ndarray, *, limit: float) -> np.ndarray:
    """Differences in [−limit, limit], NaN where masked → uint8: 0 masked, 128 + round(127·d/limit) else."""
    masked = np.isnan(differences)
    values = 128 + np.round(127 * np.clip(np.nan_to_num(differences) / limit, -1.0, 1.0))
    return np.where(masked, MASKED_BYTE, values).astype(np.uint8)


def ink_on(colours: np.ndarray) -> list[str]:
    """Black or white for text on each of (n, 3) uint8 colours: the one of higher contrast, at least 4.5 (WCAG 2.2)."""
    level = np.asarray(colours, dtype=np.float64) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return ["#000000" if luminance > 0.179 else "#ffffff" for luminance in linear @ (0.2126, 0.7152, 0.0722)]


def hex_to_rgb(colour: str) -> tuple[int, int, int]:
    """"#0e1117" → (14, 17, 23)."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def to_hex(colours: np.ndarray) -> list[str]:
    """(n, 3) uint8 → ["#rrggbb", …]."""
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.asarray(colours).tolist()]


def plotly_weight_scale(theme: Theme) -> list[list[float | str]]:
    """Plotly colour scale over weight 0..1, tone included: the same weight looks the same as in every canvas."""
    steps = np.linspace(0.0, 1.0, 33)
    colours = to_hex(sequential(theme)[np.round(255 * steps).astype(int)])
    return [[float(step ** (1 / TONE)), colour] for step, colour in zip(steps, colours, strict=True)]


def plotly_difference_scale(theme: Theme) -> list[list[float | str]]:
    """Plotly colour scale over −limit..limit, 0 in the middle."""
    steps = np.linspace(-1.0, 1.0, 33)
    colours = to_hex(diverging(theme)[np.round(128 + 127 * steps).astype(int)])
    return [[float((step + 1) / 2), colour] for step, colour in zip(steps, colours, strict=True)]
