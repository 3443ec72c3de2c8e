"""Just enough English verb forms for the templates; knows no nouns, and no verb that verbs.tsv and the rules lack."""

from __future__ import annotations

from pathlib import Path

_LINES = (Path(__file__).parent / "verbs.tsv").read_text(encoding="utf-8").splitlines()
_ROWS = [line.split("\t") for line in _LINES if not line.startswith("#")]
IRREGULAR = {row[0]: row[1] for row in _ROWS}
DOUBLED = {row[0]: row[2] for row in _ROWS if len(row) > 2}


def past(verb: str) -> str:
    """Simple past of an English verb."""
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "ed"


def third(verb: str) -> str:
    """Third person singular, present."""
    if verb == "have":
        return "has"
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def ing(verb: str) -> str:
    """Present participle."""
    if verb in DOUBLED:
        return DOUBLED[verb]
    return verb[:-1] + "ing" if verb.endswith("e") and verb not in ("see",) else verb + "ing"
