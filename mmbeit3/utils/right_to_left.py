"""Arabic and Hebrew where no library lays texts out: joined letters, in the order from the left."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

RIGHT_TO_LEFT = ("R", "AL")
JOINS_BEFORE = ("<final>", "<medial>")
FORM_RANGES = (range(0xFB50, 0xFE00), range(0xFE70, 0xFEFF))
MIRRORED = str.maketrans("()[]{}<>", ")(][}{><")
#: Lam before any alef, which nobody writes apart.
LIGATURES = {
    "\u0644\u0622": "\ufef5",
    "\u0644\u0623": "\ufef7",
    "\u0644\u0625": "\ufef9",
    "\u0644\u0627": "\ufefb",
}


def left_to_right(text: str) -> str:
    """Put a text into the order in which it is drawn from the left, Arabic letters joined.

    Where letters are written from right to left, their words are reversed, and each letter gets the
    form that it has at its place in a word; other words and numbers stay as they are. Vowel signs
    are left out. It is a small part of Unicode's algorithm: enough for names.

    Args:
        text (str): One line.
    """
    letters = "".join(sorted(filter(_is_backwards, set(text))))
    if not letters:
        return text
    text = "".join(letter for letter in text if unicodedata.bidirectional(letter) != "NSM")
    # Signs and spaces between two such words belong to them, as a bracket that closes does.
    words = rf"[{letters}](?:[{letters}\W]*[{letters}][)\]}}>]*)?"
    return re.sub(words, lambda found: _joined(found[0])[::-1].translate(MIRRORED), text)


def _is_backwards(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in RIGHT_TO_LEFT


def _joined(text: str) -> str:
    """Give each Arabic letter its form: alone, first, in the middle, or last."""
    for pair, ligature in LIGATURES.items():
        text = text.replace(pair, ligature)
    known = [_forms().get(letter, {}) for letter in text]
    joined = []
    for letter, before, own, after in zip(
        text, [{}, *known], known, [*known[1:], {}], strict=False
    ):
        joins_before = "<initial>" in before and any(form in own for form in JOINS_BEFORE)
        joins_after = "<initial>" in own and any(form in after for form in JOINS_BEFORE)
        form = {
            (False, False): "<isolated>",
            (False, True): "<initial>",
            (True, False): "<final>",
            (True, True): "<medial>",
        }[joins_before, joins_after]
        joined.append(own.get(form, letter))
    return "".join(joined)


@cache
def _forms() -> dict[str, dict[str, str]]:
    """The forms of each Arabic letter, by kind; Unicode has them for older programs."""
    forms: dict[str, dict[str, str]] = {}
    for code in (code for codes in FORM_RANGES for code in codes):
        kind, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        if kind.startswith("<") and len(letters) == 1:
            forms.setdefault(chr(int(letters[0], 16)), {}).setdefault(kind, chr(code))
    for ligature in LIGATURES.values():  # joins as its alef does
        forms[ligature] = {"<isolated>": ligature, "<final>": chr(ord(ligature) + 1)}
    return forms
