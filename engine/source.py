"""Finds out which model a name means, and brings its files onto this machine.

A name is text a stranger typed, so it is matched against strict patterns
before any path or address is made of it. It does not open the model's files:
`engine.loading` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import catalogue, errors, glyphs, hub
from engine.types import Progress

#: One part of a hub id: ASCII letters, digits and single . _ - inside; "--" and ".." are not allowed by the hub.
_PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?P<org>{_PART})/(?P<name>{_PART})(?:@(?P<revision>{_PART}))?")
_LENGTH_LIMIT = 300


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        name: as it was asked for.
        kind: "embedded", "folder" or "hub".
        path: the model directory; None for a hub model, whose directory `fetch` returns.
        repo_id, revision: of a hub model: `org/name`, and the revision asked for, "" for the current one.
    """

    name: str
    kind: Literal["embedded", "folder", "hub"]
    path: Path | None = None
    repo_id: str = ""
    revision: str = ""


def resolve(name: str, *, assets: Path, folder: Path) -> Source:
    """What `name` stands for: an embedded model, else a folder, else (with a slash) a hub id.

    An embedded model wins over a folder of the same name.

    Args:
        name: `zh-en`, a folder's name, or `org/name[@revision]`.
        assets: directory of the embedded models.
        folder: the models folder.

    Raises:
        errors.InvalidPrompt: the name has none of these forms.
        errors.ModelNotFound: a well-formed name of nothing that is here.
        errors.ModelRefused: a link that leads out of the models folder, or one of the model's files is such a link.
    """
    if not isinstance(name, str) or len(name) > _LENGTH_LIMIT:
        raise _invalid(f"{len(name)} characters" if isinstance(name, str) else type(name).__name__)
    if catalogue.NAME.fullmatch(name):
        return _local(name, assets=assets, folder=folder)
    match = _HUB_ID.fullmatch(name)
    if match is None:
        raise _invalid(glyphs.visible(name))
    return Source(
        name=name, kind="hub", repo_id=f"{match['org']}/{match['name']}", revision=match["revision"] or "",
    )


def _invalid(got: str) -> errors.InvalidPrompt:
    return errors.InvalidPrompt(
        "the name of a listed model, or a hub id like org/name or org/name@revision", got=got,
        next_step="Use letters, digits and . _ - only; paths and addresses are not accepted.", code="model_name",
        name=got,
    )


def _local(name: str, *, assets: Path, folder: Path) -> Source:
    roots: tuple[tuple[Literal["embedded", "folder"], Path], ...] = (("embedded", assets), ("folder", folder))
    for kind, root in roots:
        try:
            path = (root / name).resolve()
            if not path.is_dir():
                continue
            inside = path.is_relative_to(root.resolve())
            link = catalogue.link_outside(path, root) if inside else ""
        except (OSError, RuntimeError):  # Python 3.11 raises RuntimeError over links that lead in a circle
            continue
        if not inside or link:
            found = f"{name}/{glyphs.visible(link)}" if link else name
            raise errors.ModelRefused(
                "a folder inside the models folder", got=f"{found}, a link that leads out of it",
                next_step="Copy the model into the models folder.", code="outside_models_folder", name=found,
            )
        return Source(name=name, kind=kind, path=path)
    raise errors.ModelNotFound(
        "an embedded model, a folder in the models folder, or a hub id org/name", got=name,
        next_step="Choose one from the list, or put the model's files into a folder of that name.",
        code="model_not_found", name=name,
    )


def fetch(source: Source, *, on_progress: Callable[[Progress], None] = lambda progress: None) -> Path:
    """The directory with the files of `source`; a hub model is downloaded into the hub's own cache first.

    A hub directory is named by the commit it was pinned to.

    Raises:
        errors.ModelNotFound, errors.ModelRefused, errors.HubUnavailable, errors.OverBudget: as `engine.hub.download`.
    """
    if source.path is not None:
        return source.path
    return hub.download(source.repo_id, revision=source.revision, on_progress=on_progress)


def config(source: Source) -> dict[str, Any]:
    """The parsed config.json of `source`; of a hub model nothing else is downloaded.

    Raises:
        errors.ModelNotFound, errors.ModelRefused, errors.HubUnavailable: as `engine.hub.config_folder`.
    """
    folder = source.path or hub.config_folder(source.repo_id, revision=source.revision)
    return catalogue.read_config(folder)
