"""Fonts for class names in any script: no letter becomes an empty box."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont, features

from mmbeit3.utils.right_to_left import left_to_right

SUFFIXES = (".ttf", ".otf", ".ttc")
#: What names of fonts with many scripts hold, the most welcome first.
WELCOME = ("notosanscjk", "sourcehansans", "notosans", "wqy", "droidsansfallback", "unifont")
UNWELCOME = ("bold", "italic", "oblique", "mono", "serif", "black", "light", "thin", "condensed")
SELECTORS = tuple(map(chr, range(0xFE00, 0xFE10)))  # of variants of the character before
MAX_FONTS = 300  # of the system, that a letter is looked up in
ABSENT = "\U0010fffe"  # no character, so that a font draws its mark for one that it lacks

Run = tuple[str, Path]
"""Letters that follow one another, and the file of the font that has them."""


def split_by_font(text: str) -> list[Run]:
    r"""Split a text into parts, each with a font that has all of its letters.

    DejaVu Sans, which comes with matplotlib, is taken where it can be, then a font of the system. A
    letter that no font has is written without its accents, or else by its code: ``\u4e2d``.

    Args:
        text (str): One line.
    """
    runs: list[Run] = []
    for letter in _in_drawing_order(unicodedata.normalize("NFC", text)):
        for part, font in _written(letter):
            if runs and runs[-1][1] == font:
                runs[-1] = runs[-1][0] + part, font
            else:
                runs.append((part, font))
    return runs


def lacks_letters(text: str) -> bool:
    """Whether a text has a letter or a digit that no font has, nor one without its accents.

    Args:
        text (str): One line.
    """
    letters = unicodedata.normalize("NFC", text)
    return any(
        unicodedata.category(letter)[0] in "LMN"
        and "".join(part for part, _ in _written(letter)) == _escaped(letter)
        for letter in letters
        if not letter.isascii()
    )


@cache
def load_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """Open a font.

    Args:
        path (Path): Its file.
        size (int): Height of its letters in pixels.
    """
    return ImageFont.truetype(str(path), size)


@cache
def has_glyph(path: Path, letter: str) -> bool:
    """Whether a font draws a letter as something else than its mark for what it lacks.

    Args:
        path (Path): The file of the font.
        letter (str): One character.
    """
    try:
        return _pixels(path, letter) != _pixels(path, ABSENT)
    except OSError:  # a file that FreeType cannot open or draw
        return False


def _in_drawing_order(text: str) -> str:
    return text if features.check("raqm") else left_to_right(text)  # raqm does it itself


@lru_cache(maxsize=4096)
def _written(letter: str) -> tuple[Run, ...]:
    kind = unicodedata.category(letter)
    if kind == "Cf" or letter in SELECTORS:  # joiners and the like, which nobody sees
        return ()
    if kind.startswith("C"):  # control characters, halves of characters
        return ((_escaped(letter), default_font()),)
    if letter.isspace():
        return ((" ", default_font()),)
    for font in _fonts():
        if has_glyph(font, letter):
            return ((letter, font),)
    plain = "".join(
        part
        for part in unicodedata.normalize("NFKD", letter)
        if not unicodedata.combining(part) and has_glyph(default_font(), part)
    )
    return ((plain or _escaped(letter), default_font()),)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


@cache
def default_font() -> Path:
    """Return the file of DejaVu Sans; matplotlib brings it along."""
    name = "fonts/ttf/DejaVuSans.ttf"
    spec = find_spec("matplotlib")  # whose import takes longer than to draw a picture
    for folder in spec.submodule_search_locations or () if spec else ():
        font = Path(folder, "mpl-data", name)
        if font.is_file():
            return font
    import matplotlib  # not pyplot: this loads no backend

    return Path(matplotlib.get_data_path(), name)


def _fonts() -> Iterator[Path]:
    yield default_font()
    yield from _system_fonts()


@cache
def _system_fonts() -> tuple[Path, ...]:
    """List the fonts of the system, those likely to have many letters first."""
    found = [
        Path(parent, name)
        for folder in font_folders()
        for parent, _, names in os.walk(folder, followlinks=False)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]
    return tuple(sorted(found, key=_rank)[:MAX_FONTS])


def font_folders() -> list[Path]:
    """Return the folders in which the system and the user keep fonts."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return [
            Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"),
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    return [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        data / "fonts",
        home / ".fonts",
    ]


def _rank(path: Path) -> tuple[int, int, str]:
    name = path.stem.lower().replace("-", "").replace("_", "")
    place = next((place for place, part in enumerate(WELCOME) if part in name), len(WELCOME))
    return place, sum(part in name for part in UNWELCOME), str(path)


def _pixels(path: Path, letter: str) -> tuple[tuple[int, int], bytes]:
    # By the basic layout: the other one puts a circle under an accent that stands alone.
    font = ImageFont.truetype(str(path), 24, layout_engine=ImageFont.Layout.BASIC)
    mask = font.getmask(letter, mode="L")
    return mask.size, bytes(mask)
