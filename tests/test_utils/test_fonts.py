"""Class names in any script: letters of fonts that have them, else transliterated or escaped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbeit3.utils import fonts
from mmbeit3.utils.fonts import default_font, has_glyph, lacks_letters, load_font, split_by_font
from mmbeit3.visualization import text_labels
from mmbeit3.visualization.overlay import draw_class_map, draw_instances
from mmbeit3.visualization.text_labels import chip, display_names

# As escapes, so that every editor shows them.
LATIN = "\u00e4\u00f6\u00fc\u00df\u00e9\u00f1\u00c5\u0141\u1ef8"
SIGNS = "\u00b5m\u00b2 \u2013 \u20ac \u2264 \u00b0 \u2030 \u2122"
CYRILLIC = "\u041a\u043e\u0448\u043a\u0430"
GREEK = "\u03b3\u03ac\u03c4\u03b1"
ODD = "\U0001f600\U0001f9ff\x00\udc80"
CHINESE, KOREAN, HINDI = "\u4e2d\u6587\u732b", "\uace0\uc591\uc774", "\u0939\u093f"


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    system_fonts_in(monkeypatch)


def system_fonts_in(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setattr(fonts, "font_folders", lambda: list(folders))
    fonts._system_fonts.cache_clear()
    fonts._written.cache_clear()


@pytest.fixture(autouse=True)
def forget_fonts() -> None:
    fonts._system_fonts.cache_clear()
    fonts._written.cache_clear()


def make_font(path: Path, letters: str) -> Path:
    """Write a font in which the letters are bars."""
    builder = pytest.importorskip("fontTools.fontBuilder")
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    def drawn(width: int) -> object:
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for point in ((0, 700), (width, 700), (width, 0)):
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    names = [".notdef", *(f"u{ord(letter):x}" for letter in letters)]
    font = builder.FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): f"u{ord(letter):x}" for letter in letters})
    font.setupGlyf({name: drawn(300 + 200 * bool(index)) for index, name in enumerate(names)})
    font.setupHorizontalMetrics({name: (600, 0) for name in names})
    font.setupHorizontalHeader(ascent=900, descent=-300)
    font.setupNameTable({"familyName": "Bars", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


@pytest.mark.parametrize("text", ["cat 0.93", LATIN, SIGNS, CYRILLIC, GREEK])
def test_dejavu_has_what_most_languages_need(text: str, no_system_fonts: None) -> None:
    ((part, font),) = split_by_font(text)
    assert part == text and font == default_font()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (CHINESE, r"\u4e2d\u6587\u732b"),
        (f"a {KOREAN[0]} b", r"a \uace0 b"),
        (HINDI, r"\u0939\u093f"),
        ("\U0001f9ff", r"\U0001f9ff"),
        ("line\nbreak\ttab\x00", r"line\nbreak\ttab\x00"),
        ("\udc80", r"\udc80"),
        ("\uff21\uff11", "A1"),  # of full width
        ("cafe\u0301", "caf\u00e9"),  # an accent of its own
        ("a\u200db\ufe0f", "ab"),  # what nobody sees
        ("a\u00a0b\u2003c", "a b c"),
        ("", ""),
    ],
)
def test_what_no_font_has_is_transliterated_or_escaped(
    text: str, written: str, no_system_fonts: None
) -> None:
    assert "".join(part for part, _ in split_by_font(text)) == written


@pytest.mark.parametrize(
    "text",
    [LATIN, SIGNS, CYRILLIC, GREEK, CHINESE, KOREAN, HINDI, ODD],
)
def test_no_letter_is_drawn_as_what_a_font_lacks(text: str) -> None:
    for part, font in split_by_font(text):
        for letter in part.replace(" ", ""):
            absent = load_font(font, 24).getmask(fonts.ABSENT, mode="L")
            found = load_font(font, 24).getmask(letter, mode="L")
            assert (found.size, bytes(found)) != (absent.size, bytes(absent)), ascii(letter)


def test_a_font_of_the_system_is_taken_for_what_dejavu_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "truetype").mkdir()
    bars = make_font(tmp_path / "truetype" / "bars.ttf", CHINESE)
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    system_fonts_in(monkeypatch, tmp_path, tmp_path / "absent")
    assert split_by_font(f"cat {CHINESE}{KOREAN[0]}") == [
        ("cat ", default_font()),
        (CHINESE, bars),
        (r"\uace0", default_font()),
    ]
    assert has_glyph(bars, CHINESE[0]) and not has_glyph(bars, KOREAN[0])
    # Three bars more: the letters are on the picture.
    short, long = (chip(text, 20, (0, 0, 0)) for text in ("cat ", f"cat {CHINESE}"))
    assert 30 < long.shape[1] - short.shape[1] < 42
    assert (long > 250).sum() > 2 * (short > 250).sum()


def test_class_names_reach_the_pictures() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    classes = [CYRILLIC, CHINESE, ""]
    boxes = np.array([[20, 60, 120, 160], [160, 60, 280, 160], [5, 5, 20, 20]], float)
    picture = draw_instances(
        image, boxes, np.arange(3), np.array([0.9, 0.8, 0.7]), None, classes, [(200, 60, 60)] * 3
    )
    assert picture.shape[2] == 3
    labels = np.zeros((200, 300), np.uint8)
    labels[:, 150:] = 1
    assert draw_class_map(image, labels, classes, [(200, 60, 60)] * 3).shape[2] == 3


ARABIC, HEBREW = "\u0642\u0637\u0629", "\u05d7\u05ea\u05d5\u05dc"


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("cat", False),
        (f"{LATIN} {CYRILLIC} {GREEK} {ARABIC} {HEBREW} \uff21\uff11", False),
        ("ball \U0001f9ff\x00", False),  # a sign and a control character: the letters are there
        (CHINESE, True),
        (f"cat {KOREAN}", True),
        (HINDI, True),
        ("", False),
    ],
)
def test_letters_that_no_font_has_are_noticed(
    text: str, lacks: bool, no_system_fonts: None
) -> None:
    assert lacks_letters(text) is lacks


def test_a_class_without_font_is_called_by_its_number(
    no_system_fonts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(text_labels, "warn", said.append)
    text_labels._display_names.cache_clear()
    classes = ["cat", CHINESE, CYRILLIC, f"{KOREAN} a"]
    assert display_names(classes) == ("cat", "class 1", CYRILLIC, "class 3")
    assert display_names(classes)[1] == "class 1"
    [text] = said  # once
    assert f"{CHINESE}, {KOREAN} a: pictures say class 1, class 3. Install a font" in text
    text_labels._display_names.cache_clear()


def test_scores_stand_right_of_names_that_are_written_from_the_right() -> None:
    """What is drawn of the score alone is the right end of the label."""
    for name in (ARABIC, HEBREW, "cat"):
        label = text_labels.render(text_labels.label_text(name, 0.5), 30)
        score = text_labels.render(" 0.50", 30)
        width = score.shape[1] - 2 * 6 - 12  # without the margin, and the space
        right = slice(label.shape[1] - 6 - width, label.shape[1] - 6)
        ink = label[:, right, 0], score[:, score.shape[1] - 6 - width : score.shape[1] - 6, 0]
        assert np.abs(ink[0].sum(0) - ink[1].sum(0)).mean() < 1.5
