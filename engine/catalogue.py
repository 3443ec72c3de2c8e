"""Lists the models that are already on this machine, as cards, without loading any.

A card is read from a directory's `config.json`, the sizes of its safetensors
files, and its `README.md`. Whether a model can really be shown is not known
here: loading and the probe decide that.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import errors, glyphs
from engine.types import ModelCard

log = logging.getLogger(__name__)

#: Where the models that ship with the app live.
EMBEDDED = Path(__file__).resolve().parent.parent / "assets" / "models"
#: Names the folder of a person's own models; `DEFAULT_FOLDER` without it.
FOLDER_VARIABLE = "ATTENTION_MODELS"
DEFAULT_FOLDER = Path("~/.cache/attention-microscope/models")

#: Names of embedded models and of folders: no separator, no leading dot, ASCII only.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FILE_LIMIT = 8 * 2**20  # a tokenizer's configuration may list thousands of added tokens
_DESCRIPTION_LIMIT = 200
_TYPE_LIMIT = 80  # of a model type or a licence
_INTEGER_LIMIT = 10**9  # no model has so many layers or heads
#: The line of a model card's front matter that names its licence; the hub's identifiers are one word each.
_LICENSE = re.compile(r"""^license:[ \t]*["']?([A-Za-z0-9][\w.+-]*)""", re.MULTILINE | re.ASCII)

_DECODER_ARCHITECTURES = ("ForCausalLM", "LMHeadModel", "DoubleHeadsModel")
_LAYERS = ("encoder_layers", "num_hidden_layers", "num_layers", "n_layer", "n_layers")
_HEADS = ("encoder_attention_heads", "num_attention_heads", "num_heads", "n_head", "n_heads")


@dataclass(frozen=True)
class Broken:
    """A directory among the models that no card could be made of, and why (plain English)."""

    name: str
    source: Literal["embedded", "folder"]
    reason: str


def models_folder() -> Path:
    """The models folder: the environment's ATTENTION_MODELS, else the default. It need not exist."""
    return Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER).expanduser()


def embedded(root: Path) -> tuple[ModelCard, ...]:
    """Cards of the models shipped under `root` (assets/models), by name."""
    return tuple(card for card in _scan(root, "embedded") if isinstance(card, ModelCard))


def folders(root: Path) -> tuple[ModelCard, ...]:
    """Cards of the models under the models folder `root`, by name; none when it does not exist."""
    return tuple(card for card in _scan(root, "folder") if isinstance(card, ModelCard))


def models(assets: Path, folder: Path) -> tuple[ModelCard, ...]:
    """Embedded models, then folders; a folder of an embedded model's name is left out (`broken` reports it)."""
    first = embedded(assets)
    taken = {card.name for card in first}
    return first + tuple(card for card in folders(folder) if card.name not in taken)


def broken(assets: Path, folder: Path) -> tuple[Broken, ...]:
    """The directories that `models` leaves out, each with its reason."""
    found = [entry for entry in (*_scan(assets, "embedded"), *_scan(folder, "folder")) if isinstance(entry, Broken)]
    taken = {card.name for card in embedded(assets)}
    hidden = [
        Broken(card.name, "folder", "an embedded model has the same name; rename the folder")
        for card in folders(folder) if card.name in taken
    ]
    return (*found, *hidden)


def _scan(root: Path, source: Literal["embedded", "folder"]) -> list[ModelCard | Broken]:
    entries: list[ModelCard | Broken] = []
    try:
        paths = sorted(path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:  # a file, or a folder that this user may not read
        return [Broken(root.name, source, f"it cannot be read ({error.strerror})")]
    for path in paths:
        if not NAME.fullmatch(path.name):
            entries.append(Broken(path.name, source, "the name has other characters than letters, digits and . _ -"))
        elif not path.resolve().is_relative_to(root.resolve()):
            entries.append(Broken(path.name, source, "it is a link to a place outside the models folder"))
        else:
            try:
                link = link_outside(path, root)
                entries.append(card(path, source=source) if not link else Broken(
                    path.name, source, f"its {plain(link)} is a link to a place outside the models folder"))
            except errors.ModelRefused as error:
                entries.append(Broken(path.name, source, f"expected {error.expected}; got {error.got}"))
            except Exception as error:  # one damaged folder must not take every page down
                log.warning("no card of the model folder %s", path.name, exc_info=True)
                entries.append(Broken(path.name, source, f"it cannot be read ({type(error).__name__})"))
    return entries


def link_outside(path: Path, root: Path) -> str:
    """The name of a link in the directory `path` that leads out of `root`; "" where none does."""
    try:
        with os.scandir(path) as entries:
            links = [entry.name for entry in entries if entry.is_symlink()]
    except OSError:
        return ""  # for its reader to refuse
    return next((name for name in links if not _leads_into(root, path / name)), "")


def _leads_into(root: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # Python 3.11 raises RuntimeError over links that lead in a circle
        return True  # nobody can open it


def card(path: Path, *, source: Literal["embedded", "folder", "hub"], name: str = "", revision: str = "") -> ModelCard:
    """The card of the model directory `path`.

    Args:
        path: a directory with a config.json.
        source: where it came from.
        name: what `Prompt.model` takes; the directory's own name by default.
        revision: the pinned revision, for a hub model.

    Raises:
        errors.ModelRefused: config.json is missing, too large or no JSON object.
    """
    config = read_config(path)
    license_, description = _readme(path / "README.md")
    return ModelCard(
        name=name or path.name, source=source, family=family(config), model_type=plain(config.get("model_type")),
        bytes=sum(file.stat().st_size for file in path.glob("*.safetensors") if file.is_file()),
        license=license_, n_layers=_first_integer(config, _LAYERS), n_heads=_first_integer(config, _HEADS),
        description=description, revision=revision,
    )


def read_config(path: Path) -> dict[str, Any]:
    """The parsed config.json of the directory `path`. Raises errors.ModelRefused when it cannot be read."""
    return read_json(path / "config.json")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a small JSON file of a model. Raises errors.ModelRefused when it is absent, huge or no object."""
    try:
        state = file.stat()
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait forever
            raise ValueError("it is no regular file")
        if state.st_size > _FILE_LIMIT:
            raise ValueError(f"{state.st_size} bytes")
        parsed = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(parsed, dict):
            raise ValueError("it is no object")
    except FileNotFoundError as error:
        raise _unreadable(file.name, f"no {file.name}") from error
    except OSError as error:  # its text would tell where the folder lies
        raise _unreadable(file.name, f"one that cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(file.name, f"one that cannot be read ({error})") from error
    return parsed


def _unreadable(name: str, got: str) -> errors.ModelRefused:
    return errors.ModelRefused(
        f"a model directory with a readable {name}", got=got,
        next_step=f"Copy the model's {name}, safetensors weights and tokenizer files into one folder.",
        code="config_unreadable", file=name, detail=got,
    )


def family(config: dict[str, Any]) -> str:
    """"encoder-decoder", "decoder-only", "encoder-only", or "" for what is no text model transformers knows.

    The config says it for encoder–decoders; for the rest its architectures do
    (…ForCausalLM, …LMHeadModel: decoder-only; …ForMaskedLM: encoder-only), and
    where they name another head, the tasks transformers knows for the model_type.
    """
    from transformers.models.auto import modeling_auto as auto

    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return ""
    if "vision_config" in config or "audio_config" in config:
        return ""
    if config.get("is_encoder_decoder"):
        return "encoder-decoder" if model_type in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES else ""
    causal = model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if causal and masked:  # BERT and its kin can be either; only `is_decoder` makes their attention causal
        return "decoder-only" if config.get("is_decoder") and _names_decoder(config) else "encoder-only"
    if causal:
        return "decoder-only"
    return "encoder-only" if masked else ""


def _names_decoder(config: dict[str, Any]) -> bool:
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith(_DECODER_ARCHITECTURES) for name in names)


def plain(text: object, limit: int = _TYPE_LIMIT) -> str:
    """`text` cut to `limit` characters with nothing hidden in it; "" for what is no text."""
    return glyphs.visible(text[:limit]) if isinstance(text, str) else ""


def _first_integer(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value if 0 <= value <= _INTEGER_LIMIT else 0
    return 0


def _readme(path: Path) -> tuple[str, str]:
    """(license, first line of prose) of a model card; empty where it says nothing."""
    try:
        if not path.is_file():  # also a pipe, which would wait forever when opened
            return "", ""
        with path.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(_FILE_LIMIT)
    except OSError:
        return "", ""
    front, body = "", text
    if text.startswith("---\n"):
        front, separator, body = text[4:].partition("\n---")
        if not separator:
            front, body = "", text
    license_ = _LICENSE.search(front)
    prose = (line.strip() for line in body.splitlines())
    description = next((line for line in prose if line and line[0] not in "#-<>|![*=`:"), "")
    return plain(license_[1] if license_ else ""), plain(description, _DESCRIPTION_LIMIT)
