"""Arabic and Hebrew laid out without a library: joined letters, drawn from the left."""

from __future__ import annotations

import unicodedata

import pytest

from mmbeit3.utils import fonts
from mmbeit3.utils.fonts import split_by_font
from mmbeit3.utils.right_to_left import left_to_right

CAT = "\u0642\u0637\u0629"  # qaf, tah, teh marbuta
HEBREW = "\u05d7\u05ea\u05d5\u05dc"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("cat 0.9", "cat 0.9"),
        ("\u041a\u043e\u0448\u043a\u0430", "\u041a\u043e\u0448\u043a\u0430"),
        (HEBREW, HEBREW[::-1]),
        (CAT, "\ufe94\ufec4\ufed7"),  # last, in the middle, first
        ("\u0628\u0627\u0628", "\ufe8f\ufe8e\ufe91"),  # what follows an alef stands alone
        ("\u0644\u0627", "\ufefb"),
        ("\u0628\u0644\u0627", "\ufefc\ufe91"),
        ("\u0645\u064f\u062d", "\ufea2\ufee3"),  # without the vowel
        (f"car {CAT} x 12", "car \ufe94\ufec4\ufed7 x 12"),
        (f"{HEBREW} ({HEBREW})", f"({HEBREW[::-1]}) {HEBREW[::-1]}"),
        ("\u0686", "\ufb7a"),  # Persian
        ("", ""),
    ],
)
def test_order_and_forms(text: str, drawn: str) -> None:
    assert left_to_right(text) == drawn


def test_every_form_is_of_the_letter() -> None:
    letters = [chr(code) for code in range(0x0621, 0x064B)]
    for before in letters:
        drawn = left_to_right(before + "\u0628")[::-1]
        assert unicodedata.normalize("NFKC", drawn) == before + "\u0628"


@pytest.mark.parametrize("has_raqm", [True, False])
def test_it_is_done_where_pillow_has_no_raqm(
    monkeypatch: pytest.MonkeyPatch, has_raqm: bool
) -> None:
    monkeypatch.setattr(fonts.features, "check", lambda name: has_raqm)
    [(text, _)] = split_by_font(CAT)
    assert text == (CAT if has_raqm else left_to_right(CAT))
