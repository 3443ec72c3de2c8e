"""Characters: which are invisible and how they are shown, and which scripts write without spaces.

Knows Unicode's general categories and bidirectional classes as Python's
`unicodedata` has them, and a table of the blocks of unspaced scripts. Does not
know grapheme clusters or fonts: an emoji joined by ZWJ shows its joiners.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

_NAMES = {
    0x00AD: "SHY", 0x034F: "CGJ", 0x061C: "ALM", 0x115F: "HCF", 0x1160: "HJF", 0x17B4: "KIVAQ", 0x17B5: "KIVAA",
    0x180E: "MVS", 0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x200E: "LRM", 0x200F: "RLM", 0x2028: "LS",
    0x2029: "PS", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO", 0x2060: "WJ",
    0x2061: "FA", 0x2062: "IT", 0x2063: "IS", 0x2064: "IP", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI",
    0x2069: "PDI", 0x3164: "HF", 0xFEFF: "BOM", 0xFFA0: "HHF",
}
#: Letters and marks by category that nonetheless draw nothing.
_BLANK_LETTERS = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0})
_DOTTED_CIRCLE = "◌"
_ISOLATE, _POP = "\u2068", "\u2069"
#: R: right-to-left, M: a mark that follows its base, N: neutral, L: everything else.
_RTL_RUN = re.compile(r"R(?:[RMN]*[RM])?")

#: First and last code point of blocks whose words carry no spaces between them.
_UNSPACED = (
    (0x0E00, 0x0EFF),    # Thai, Lao
    (0x0F00, 0x0FFF),    # Tibetan
    (0x1000, 0x109F),    # Myanmar
    (0x1780, 0x17FF),    # Khmer
    (0x1950, 0x19FF),    # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),    # Tai Tham
    (0x2E80, 0x2FDF),    # CJK radicals
    (0x3005, 0x3007),    # ideographic iteration mark, closing mark, zero
    (0x3021, 0x3029),    # Hangzhou numerals
    (0x3031, 0x30FF),    # vertical kana repeat marks, Hiragana, Katakana
    (0x3100, 0x312F),    # Bopomofo
    (0x31A0, 0x31BF),    # Bopomofo extended
    (0x31F0, 0x31FF),    # Katakana phonetic extensions
    (0x3400, 0x4DBF),    # CJK extension A
    (0x4E00, 0x9FFF),    # CJK unified
    (0xA9E0, 0xA9FF),    # Myanmar extended B
    (0xAA60, 0xAADF),    # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),    # CJK compatibility
    (0xFF66, 0xFF9F),    # halfwidth Katakana
    (0x1AFF0, 0x1B16F),  # Kana supplements
    (0x20000, 0x3FFFF),  # CJK extensions B and later
)
_UNSPACED_STARTS = tuple(first for first, _ in _UNSPACED)


def is_unspaced(char: str) -> bool:
    """Whether `char` belongs to a script that writes words without spaces (Han, Kana, Thai, Khmer, …)."""
    code = ord(char)
    block = bisect_right(_UNSPACED_STARTS, code) - 1
    return block >= 0 and code <= _UNSPACED[block][1]


def is_han(char: str) -> bool:
    """Whether `char` is a Chinese character."""
    return unicodedata.name(char, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH"))


def is_latin_letter(char: str) -> bool:
    """Whether `char` is a letter of the Latin script."""
    return char.isalpha() and unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH LATIN"))


def is_invisible(char: str) -> bool:
    """Whether `char` draws nothing or steers how others are drawn: control, format, separator, unassigned, surrogate.

    Spaces and variation selectors don't count; line breaks and tabs do.
    """
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or ord(char) in _BLANK_LETTERS


def is_blank(char: str) -> bool:
    """Whether `char` leaves nothing to see: white space, and controls, formats and separators.

    What is private, unassigned or half a character has no picture of its own, but is shown as something.
    """
    return char.isspace() or unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") or ord(char) in _BLANK_LETTERS


def visible(text: str) -> str:
    """`text` with nothing hidden in it, safe to stand inside a line of other text.

    Control characters become Unicode's control pictures (␀, ␊), other
    invisible ones a name in ⟨⟩ (⟨ZWSP⟩, ⟨U+E000⟩); a combining mark without a
    base stands on ◌; a run of right-to-left text is wrapped in U+2068 … U+2069,
    so that it cannot reorder what is around it. Spaces stay.
    """
    shown: list[str] = []
    based = False
    for char in text:
        mark = unicodedata.category(char)[0] == "M"
        if is_invisible(char):
            shown.append(_named(char))
        else:
            shown.append(_DOTTED_CIRCLE + char if mark and not based else char)
        based = not is_invisible(char) and not char.isspace()
    return _isolate("".join(shown))


def _named(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"⟨{_NAMES.get(code, f'U+{code:04X}')}⟩"


def _isolate(text: str) -> str:
    classes = "".join(map(_direction, text))
    parts, at = [], 0
    for run in _RTL_RUN.finditer(classes):
        parts += [text[at:run.start()], _ISOLATE, text[run.start():run.end()], _POP]
        at = run.end()
    return "".join([*parts, text[at:]])


def _direction(char: str) -> str:
    kind = unicodedata.bidirectional(char)
    if kind in ("R", "AL", "AN"):
        return "R"
    if kind == "NSM":
        return "M"
    return "L" if kind == "L" else "N"
