"""The colour scales: lightness recomputed by CIELAB here, the byte code by hand-worked values."""

import numpy as np
import pytest

from pages.figures import palette


def cielab_lightness(colours):
    """(n, 3) uint8 sRGB → L*, (n,), by IEC 61966-2-1 and CIE 15; independent of the OKLab the ramps are built in."""
    c = colours / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def contrast(one, other):
    """WCAG 2.1 contrast ratio of two (3,) uint8 colours."""
    c = np.stack([one, other]) / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    low, high = np.sort(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "sign"), [("light", -1), ("dark", 1)])
def test_lightness_of_the_attention_ramp_runs_one_way(theme, sign):
    lightness = sign * cielab_lightness(palette.sequential(theme))
    # One step of rounding to bytes moves L* by less than 0.6.
    assert (np.diff(lightness) > -0.6).all()
    assert (np.diff(lightness[::8]) > 0.5).all()
    assert lightness[-1] - lightness[0] > 70


@pytest.mark.parametrize("theme", palette.THEMES)
def test_numbers_can_be_read_on_every_colour(theme):
    for colours in (palette.difference_colours(theme), palette.weight_colours(theme)):
        inks = [np.array(palette.hex_to_rgb(ink)) for ink in palette.ink_on(colours)]
        assert min(contrast(ink, colour) for ink, colour in zip(inks, colours, strict=True)) >= 4.5


@pytest.mark.parametrize("theme", palette.THEMES)
def test_ramps_begin_at_the_page_and_end_far_from_it(theme):
    page = np.array(palette.hex_to_rgb(palette.BACKGROUND[theme]), dtype=int)
    assert np.abs(palette.sequential(theme)[0].astype(int) - page).max() <= 4
    assert np.abs(palette.diverging(theme)[128].astype(int) - page).max() <= 6
    assert contrast(palette.sequential(theme)[-1], page) > 7
    assert contrast(np.array(palette.hex_to_rgb(palette.TEXT[theme])), page) > 7
    assert contrast(np.array(palette.hex_to_rgb(palette.ACCENT[theme])), page) > 4.5


@pytest.mark.parametrize(("theme", "sign"), [("light", -1), ("dark", 1)])
def test_difference_ramp_moves_away_from_the_middle_alike_on_both_sides(theme, sign):
    lightness = sign * cielab_lightness(palette.diverging(theme))
    negative, positive = lightness[128:0:-1], lightness[128:255]
    assert (np.diff(positive[::8]) > 0.5).all()
    assert (np.diff(negative[::8]) > 0.5).all()
    # OKLab's and CIELAB's lightness differ by hue; 6 is that difference, far below the ramp's 60.
    assert np.abs(negative[:127] - positive[:127]).max() < 6
    assert (palette.diverging(theme)[20].astype(int) != palette.diverging(theme)[236].astype(int)).any()


@pytest.mark.parametrize("theme", palette.THEMES)
def test_masked_is_a_neutral_grey_that_no_weight_has(theme):
    colours = palette.weight_colours(theme).astype(int)
    masked = colours[palette.MASKED_BYTE]
    assert np.ptp(masked) <= 10
    assert np.abs(colours[1:] - masked).max(axis=1).min() >= 12


def test_bytes_keep_weights_to_half_a_step_and_masked_apart_from_zero():
    weights = np.array([[0.0, 1.0, 0.5], [np.nan, 0.123, 1 / 254]], dtype=np.float32)
    picture = palette.weights_to_bytes(weights)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[1, 255, 128], [0, 32, 2]]
    back = np.where(picture == palette.MASKED_BYTE, np.nan, (picture.astype(float) - 1) / 254)
    np.testing.assert_allclose(back, weights, atol=1 / 508 + 1e-7, equal_nan=True)


def test_bytes_of_differences_are_symmetric_about_128():
    differences = np.array([-0.2, -0.1, 0.0, 0.1, 0.2, 5.0, np.nan])
    assert palette.differences_to_bytes(differences, limit=0.2).tolist() == [1, 64, 128, 192, 255, 255, 0]


@pytest.mark.parametrize("theme", palette.THEMES)
def test_plotly_and_canvas_show_a_weight_in_the_same_colour(theme):
    stops = palette.plotly_weight_scale(theme)
    assert (stops[0][0], stops[-1][0]) == (0.0, 1.0)
    places = [place for place, _ in stops]
    rgb = np.array([palette.hex_to_rgb(colour) for _, colour in stops], dtype=float)
    weight = np.linspace(0.02, 1.0, 50)
    plotly = np.stack([np.interp(weight, places, rgb[:, channel]) for channel in range(3)], axis=1)
    canvas = palette.weight_colours(theme)[1 + np.round(254 * weight).astype(int)]
    assert np.abs(plotly - canvas).max() < 8
