"""One batch of real activations, and the band of it over which each norm takes its mean.

It shows arrays of the engine and its reference norms; it runs no model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from engine import normalization
from engine.norm_activations import Activations
from engine.norm_sites import Site
from pages.figures import normalization as figures
from pages.figures.frame import compact, written
from pages.figures.positions import lines
from pages.widgets import controls, drawn
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.keeping import keep
from pages.widgets.language import Language, Translate
from pages.widgets.normalization_data import N_SHOWN

NAMES = ("norm_axis", "norm_affine", "norm_token", "norm_feature")
#: Features drawn at once: those beside the chosen one.
WINDOW = 64
#: Tokens of the person's sentence drawn at most; the arithmetic takes all.
MOST_ROWS = 24
METHODS = {"layer": "LayerNorm", "rms": "RMSNorm", "batch": "BatchNorm"}


def choose_site(found: tuple[Site, ...], _: Translate) -> Site:
    """Which of the model's norms to look at, by name; the last one by default."""
    names = {site.name: f"{site.name} ({METHODS[site.form]})" for site in found}
    site = st.session_state.get("norm_site")
    keep("norm_site", site if site in names else found[-1].name, among=tuple(names))
    chosen = st.selectbox(_("Activations that enter this norm of the model"), list(names), key="norm_site",
                          format_func=names.get, persist_state="session")
    return next(site for site in found if site.name == chosen)


def moments(batch: Activations, _: Translate) -> list[Drawn]:
    """Pictures that no control changes: the moments after each norm, and the model's γ and β."""
    x, labels = _rows(batch)
    return [*_moments(x, {method: norm(x) for method, norm in _norms(batch, own=False).items()}, labels, _),
            _gamma_beta(batch, _)]


def show(batch: Activations, more: list[Drawn], facts: list[tuple[str, str]], spoken: Language,
         _: Translate) -> dict[str, str | int]:
    """Draws the two axes; returns what the address should say.

    Args:
        more: pictures of `moments`, for the export.
    """
    x, labels = _rows(batch)
    n_own, d_model = batch.sentence(0).shape
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        axis = controls.choice(_("Averaged by"), METHODS, key="norm_axis")
        affine = controls.choice("γ, β", {"plain": _("left out"), "own": _("applied")}, key="norm_affine")
    left, right = st.columns(2, gap="medium")
    with left:
        token = controls.word(_("Token"), labels[:min(n_own, MOST_ROWS)], key="norm_token", default=0)
    with right:
        feature = controls.slider(_("Feature"), 0, d_model - 1, key="norm_feature", default=5)
    after = {method: norm(x) for method, norm in _norms(batch, own=affine == "own").items()}
    st.markdown(_headline(axis, x, after[axis], labels, token, feature, _))
    pictures = _bands(x, after[axis], [len(batch.sentence(i)) for i in range(1 + N_SHOWN)], labels, axis, token,
                      feature, _)
    drawn.show(pictures)
    if d_model > WINDOW:
        seen = _window(feature, d_model)
        st.caption(_("The pictures show features {first} to {last} of {all}; the arithmetic takes all.").format(
            first=seen.start, last=seen.stop - 1, all=d_model))
    if n_own > MOST_ROWS:
        st.caption(_("The pictures show the first {shown} of {all} tokens; the arithmetic takes all.").format(
            shown=MOST_ROWS, all=n_own))
    st.markdown(_table(x, after, token, feature, labels[token], _))
    drawn.offer("norm-axes", [*pictures, *more], facts=facts, language=spoken, _=_)
    return {"norm_axis": axis, "norm_affine": affine, "norm_token": token, "norm_feature": feature}


def checked(batch: Activations, _: Translate) -> None:
    """Says how far the reference form is off the model's own module."""
    st.caption(_("The model's own module computes {form} with these γ, β and eps = {eps:g}: the reference form differs "
                 "from its output by at most {error}.").format(form=METHODS[batch.site.form], eps=batch.eps,
                                                                   error=compact(batch.error)))


def _rows(batch: Activations) -> tuple[np.ndarray, list[str]]:
    """The tokens of the sentences that are shown, below each other: (n, d_model), and their labels."""
    shown = range(1 + N_SHOWN)
    return np.concatenate([batch.sentence(i) for i in shown]), [token for i in shown for token in batch.tokens[i]]


def _norms(batch: Activations, *, own: bool) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    gamma, beta = (batch.gamma, batch.beta) if own else (None, None)
    return {
        "layer": lambda x: normalization.layer_norm(x, gamma, beta, eps=batch.eps),
        "rms": lambda x: normalization.rms_norm(x, gamma, eps=batch.eps),
        "batch": lambda x: normalization.batch_norm(x, gamma, beta, eps=batch.eps),
    }


def _headline(axis: str, x: np.ndarray, after: np.ndarray, labels: list[str], token: int, feature: int,
              _: Translate) -> str:
    numbers = {"n": len(x), "d": x.shape[1], "token": escape(labels[token]), "feature": feature,
               "sentences": 1 + N_SHOWN}
    if axis == "batch":
        text = _("**BatchNorm averages feature {feature} over all {n} tokens of {sentences} sentences**: mean "
                 "{mean}, variance {variance:.2f} before, {mean_after} and {variance_after:.2f} after. Every "
                 "other sentence is part of the number.")
        before, later = x[:, feature], after[:, feature]
    else:
        text = _("**LayerNorm averages the {d} features of one token, {token}**: mean {mean}, variance "
                 "{variance:.2f} before, {mean_after} and {variance_after:.2f} after. No other token is part of "
                 "the number.")
        if axis == "rms":
            text = _("**RMSNorm divides the {d} features of one token, {token}, by their root mean square** and leaves "
                     "the mean: mean {mean}, variance {variance:.2f} before, {mean_after} and "
                     "{variance_after:.2f} after. No other token is part of the number.")
        before, later = x[token], after[token]
    mean, mean_after = (written(float(values.mean()), ".2f") for values in (before, later))
    return text.format(mean=mean, variance=before.var(), mean_after=mean_after, variance_after=later.var(), **numbers)


def _window(feature: int, d_model: int) -> slice:
    """The features drawn: `WINDOW` of them, or all there are, the chosen one among them."""
    first = min(feature // WINDOW * WINDOW, max(0, d_model - WINDOW))
    return slice(first, min(first + WINDOW, d_model))


def _bands(x: np.ndarray, after: np.ndarray, lengths: list[int], labels: list[str], axis: str, token: int,
           feature: int, _: Translate) -> list[Drawn]:
    hidden = max(0, lengths[0] - MOST_ROWS)
    kept = np.r_[: lengths[0] - hidden, lengths[0]: len(x)]
    breaks = [start - hidden for start in np.cumsum(lengths)[:-1]]
    shown = _window(feature, x.shape[1])
    theme = st.context.theme.type or "light"
    band = {"column": feature} if axis == "batch" else {"row": token}
    texts = {"token": _("token"), "feature": _("feature"), "value": _("value")}
    titles = {"before": _("Before: what enters the norm"), "after": _("After {method}").format(method=METHODS[axis])}
    pictures = []
    for name, values in (("before", x), ("after", after)):
        limit = max(float(np.quantile(np.abs(values), 0.99)), 1e-6) if name == "before" else 3.0
        rows = values[kept]
        figure = figures.band(rows[:, shown], labels=[labels[i] for i in kept], first_feature=shown.start,
                              breaks=breaks, limit=limit, texts=texts, theme=theme, **band)
        columns = {_("token"): [labels[i] for i in kept]} | {
            f"{_('feature')} {i}": rows[:, i] for i in range(x.shape[1])}
        pictures.append(Drawn(f"norm-{name}", titles[name], figure, columns))
    return pictures


def _table(x: np.ndarray, after: dict[str, np.ndarray], token: int, feature: int, label: str, _: Translate) -> str:
    heads = ["", _("token {token}: mean").format(token=escape(label)), _("variance"),
             _("feature {feature}: mean").format(feature=feature), _("variance")]
    rows = [(_("before"), x)] + [(METHODS[method], values) for method, values in after.items()]
    lines_ = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * 4 + "|"]
    for name, values in rows:
        cells = (values[token].mean(), values[token].var(), values[:, feature].mean(), values[:, feature].var())
        lines_.append(f"| {name} | " + " | ".join(written(float(cell), ".3f") for cell in cells) + " |")
    return "\n".join(lines_)


def _moments(x: np.ndarray, after: dict[str, np.ndarray], labels: list[str], _: Translate) -> list[Drawn]:
    texts = {"mean": _("mean"), "variance": _("variance")}
    pictures = []
    for name, title, axis, names in (
        ("norm-tokens", _("Mean and variance of every token, γ and β left out"), 1, labels),
        ("norm-features", _("Mean and variance of every feature, γ and β left out"), 0,
         [str(i) for i in range(x.shape[1])]),
    ):
        # The norm whose own axis this is gathers at one place and is drawn last, on top.
        order = ("batch", "rms", "layer") if axis else ("rms", "layer", "batch")
        named = {_("before"): x} | {METHODS[method]: after[method] for method in order}
        groups = {method: (values.mean(axis), values.var(axis)) for method, values in named.items()}
        columns = {_("token") if axis else _("feature"): names}
        for method, (mean, variance) in groups.items():
            columns |= {f"{method} · {_('mean')}": mean, f"{method} · {_('variance')}": variance}
        figure = figures.moments(groups, labels=names, texts=texts, theme=st.context.theme.type or "light")
        pictures.append(Drawn(name, title, figure, columns))
    return pictures


def _gamma_beta(batch: Activations, _: Translate) -> Drawn:
    features = np.arange(len(batch.gamma))
    figure = lines(features, {"γ": batch.gamma, "β": batch.beta}, x_name=_("feature"), y_name=_("value"),
                   theme=st.context.theme.type or "light")
    return Drawn("norm-gamma-beta", _("The model's own γ and β"), figure,
                 {_("feature"): features, "γ": batch.gamma, "β": batch.beta})
