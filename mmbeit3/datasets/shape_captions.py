"""Sentences about generated shapes that are true by construction, in COCO's caption format.

A word is used only where nobody would doubt it: an object whose color lies between two names, or
whose size is neither large nor small, is spoken of without. What is left unsaid of an image may
still be true of it, so whether a sentence tells images apart is decided in favor of doubt.
"""

from __future__ import annotations

import colorsys
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Chances = tuple[float, float, float]
"""How often an object's color, texture and size are said where they are known."""
SOME: Chances = (0.95, 0.5, 0.6)
ALL: Chances = (1.0, 1.0, 1.0)

SHAPES = ("disk", "square", "triangle", "star", "ring")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
TEXTURES = {
    "flat": "plain",
    "gradient": "shaded",
    "noise": "cloudy",
    "stripes": "striped",
    "checker": "checkered",
    "dots": "dotted",
}
# Hue in degrees, from and to; the least saturation; the least and the largest value.
HUES = {
    "red": (346, 371, 0.5, 0.4, 1),
    "brown": (12, 42, 0.35, 0.25, 0.58),
    "orange": (19, 41, 0.5, 0.7, 1),
    "yellow": (49, 67, 0.4, 0.62, 1),
    "green": (78, 160, 0.3, 0.25, 1),
    "cyan": (170, 194, 0.3, 0.45, 1),
    "blue": (206, 252, 0.3, 0.3, 1),
    "purple": (262, 292, 0.25, 0.25, 1),
    "pink": (302, 338, 0.25, 0.62, 1),
}
COLORS = (*HUES, "black", "gray", "white")
NEAR, NEAR_HUE = 0.2, 25  # by how much wider are the bounds of what somebody may call so
MIN_PATTERN = 32.0  # RGB distance of a pattern's two colors from which on it is named
MIN_PATTERN_AREA = 0.012  # the same of the object's visible area, by that of the image
SMALL, LARGE = 0.24, 0.36  # longer side of the visible box by the image's
# Where left and top end, and the middle begins; where it ends, and right and bottom begin.
LOW, HIGH = (0.37, 0.43), (0.57, 0.63)
APART = 0.12  # distance of centers, by the image's side, from which on one is left of the other
RELATIONS = {
    "to the left of": (-1, 0),
    "to the right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
LARGER = 1.7  # ratio of visible areas
CAPTIONS = 5  # of each image, as COCO has them
TRIES = 40


class Appearance(NamedTuple):
    """How an object is painted: two RGB colors and the name of the pattern that mixes them."""

    main: np.ndarray
    second: np.ndarray
    pattern: str


@dataclass(frozen=True)
class Thing:
    """An object as sentences speak of it; what is doubtful is None.

    Attributes:
        shape: The class.
        color: Of :data:`COLORS`.
        texture: Of the values of :data:`TEXTURES`.
        size: 'small' or 'large'.
        center: Of the visible box, (x, y) by the image's side.
        area: Visible pixels by those of the image.
        may_be: The colors that somebody may call it.
    """

    shape: str
    color: str | None
    texture: str | None
    size: str | None
    center: tuple[float, float]
    area: float
    may_be: frozenset[str] = frozenset(COLORS)

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Row and column: 'top', 'middle' or 'bottom'; 'left', 'middle' or 'right'."""
        x, y = self.center
        return _third(y, "top", "bottom"), _third(x, "left", "right")


class Words(NamedTuple):
    """What a sentence says of an object."""

    shape: str
    color: str | None = None
    texture: str | None = None
    size: str | None = None

    def may_fit(self, thing: Thing) -> bool:
        """Whether they may be true of an object; what is doubtful of it may be."""
        return self.shape == thing.shape and all(
            said is None or known in (said, None)
            for said, known in (
                (self.color, thing.color),
                (self.texture, thing.texture),
                (self.size, thing.size),
            )
        )

    def __str__(self) -> str:
        words = " ".join(filter(None, (self.size, self.color, self.texture, self.shape)))
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class Sentence(NamedTuple):
    """A sentence that is true of an image.

    Attributes:
        text: It.
        said: What it says of which objects.
        may_hold: Whether it may be true of an image with these objects.
    """

    text: str
    said: tuple[Words, ...]
    may_hold: Callable[[Sequence[Thing]], bool]


def describe(shape: str, appearance: Appearance, box: Sequence[int], area: int, size: int) -> Thing:
    """Find the words for an object.

    Args:
        shape: Its class.
        appearance: How it is painted.
        box: Of its visible part, x, y, width, height in pixels.
        area: Visible pixels.
        size: Width and height of the image.
    """
    x, y, width, height = box
    extent = max(width, height) / size
    main, second, pattern = appearance
    contrast = np.linalg.norm(main - second)
    is_seen = contrast >= MIN_PATTERN and area >= MIN_PATTERN_AREA * size**2
    shares: tuple[float, ...] = (0,) if pattern == "flat" else (0, 0.5)
    mixed = {name_color(main + share * (second - main)) for share in shares}
    color = mixed.pop() if len(mixed) == 1 else None
    shares = (0,) if pattern == "flat" else (0, 0.5, 1)
    near = [colors_near(main + share * (second - main)) for share in shares]
    return Thing(
        shape,
        color,
        TEXTURES[pattern] if pattern == "flat" or is_seen else None,
        "small" if extent <= SMALL else "large" if extent >= LARGE else None,
        ((x + width / 2) / size, (y + height / 2) / size),
        area / size**2,
        frozenset().union(*near) if color is None else frozenset([color]),
    )


def name_color(rgb: Sequence[float]) -> str | None:
    """Name a color, 0..255 each, that nobody would call otherwise; None for those in between."""
    red, green, blue = (min(max(value / 255, 0), 1) for value in rgb)
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if value <= 0.2:
        return "black"
    if saturation <= 0.12:
        return "white" if value >= 0.88 else "gray" if 0.35 <= value <= 0.72 else None
    degrees = 360 * hue
    for name, (first, last, least_saturation, darkest, brightest) in HUES.items():
        is_hue = first <= degrees <= last or first <= degrees + 360 <= last
        if is_hue and saturation >= least_saturation and darkest <= value <= brightest:
            return name
    return None


def colors_near(rgb: Sequence[float]) -> frozenset[str]:
    """Name all colors that somebody may see in one, 0..255 each."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(min(max(x / 255, 0), 1) for x in rgb))
    found = {"black"} if value <= 0.2 + NEAR else set()
    if saturation <= 0.12 + NEAR:
        found |= {"gray", "white"}
    for name, (first, last, least_saturation, darkest, brightest) in HUES.items():
        degrees = [360 * hue + turn for turn in (-360, 0, 360)]
        is_hue = any(first - NEAR_HUE <= one <= last + NEAR_HUE for one in degrees)
        is_value = darkest - NEAR <= value <= brightest + NEAR
        if is_hue and saturation >= least_saturation - NEAR and is_value:
            found.add(name)
    return frozenset(found)


def write_sentences(
    things: Sequence[Thing],
    rng: np.random.Generator,
    number: int = CAPTIONS,
    chances: Chances = SOME,
) -> list[Sentence]:
    """Write different sentences that are true of an image.

    Args:
        things: Its objects.
        rng: Source of all randomness.
        number: How many are wanted; of few objects there may be fewer. Defaults to 5.
        chances: How much they say of an object. Defaults to about half of what is known.
    """
    found: dict[str, Sentence] = {}
    # Those that tell most come twice.
    kinds = [_list_all, _relate, _place, _count, _list_all, _compare]
    for attempt in range(TRIES):
        if len(found) == number:
            break
        # In turn first, then at random.
        kind = kinds[attempt] if attempt < len(kinds) else kinds[rng.integers(len(kinds))]
        sentence = kind(things, rng, chances)
        if sentence is not None:
            found.setdefault(sentence.text, sentence)
    return list(found.values())


def distinguishing(
    sentences: Iterable[Sentence], things: Sequence[Thing], images: Iterable[Sequence[Thing]]
) -> list[Sentence]:
    """Keep the sentences of an image that are surely not true of any other.

    Args:
        sentences: Of the image.
        things: Its objects; the same list as in ``images``.
        images: The objects of all images.
    """
    others = [other for other in images if other is not things]
    return [one for one in sentences if not any(one.may_hold(other) for other in others)]


def any_sentences(number: int = 3000) -> list[str]:
    """Make sentences of all words, always the same, to train a tokenizer that fits any such data.

    Args:
        number: How many images they speak of. Defaults to 3000.
    """
    rng = np.random.default_rng(0)
    choices = (SHAPES, COLORS, tuple(TEXTURES.values()), ("small", "large"))
    texts = []
    for _ in range(number):
        things = []
        for _ in range(rng.integers(1, len(NUMBERS))):
            shape, color, texture, size = (str(rng.choice(choice)) for choice in choices)
            center, area = (rng.random(), rng.random()), rng.random()
            things.append(Thing(shape, color, texture, size, center, area))
        texts += [sentence.text for sentence in write_sentences(things, rng)]
    return texts


def _third(place: float, low: str, high: str) -> str | None:
    if place <= LOW[0]:
        return low
    if place >= HIGH[1]:
        return high
    return "middle" if LOW[1] <= place <= HIGH[0] else None


def _words(thing: Thing, rng: np.random.Generator, chances: Chances) -> Words:
    """What to say of an object."""
    color, texture, size = rng.random(3) < chances
    return Words(
        thing.shape,
        thing.color if color else None,
        thing.texture if texture else None,
        thing.size if size else None,
    )


def _pick(things: Sequence[Thing], rng: np.random.Generator) -> Thing:
    """An object; those with more words are more likely."""
    weights = np.array(
        [1 + 3 * (one.color is not None) + (one.texture is not None) for one in things], float
    )
    return things[rng.choice(len(things), p=weights / weights.sum())]


def _begin(rng: np.random.Generator, verb: str = "is") -> str:
    return ("", f"there {verb} ", "a picture with ")[rng.integers(3)]


def _list_all(things: Sequence[Thing], rng: np.random.Generator, chances: Chances) -> Sentence:
    """All objects of an image."""
    said = tuple(_words(things[index], rng, chances) for index in rng.permutation(len(things)))

    def may_hold(others: Sequence[Thing]) -> bool:
        return _may_fit_apart([[words.may_fit(other) for other in others] for words in said])

    text = _begin(rng, "is" if len(said) == 1 else "are") + _join([str(words) for words in said])
    return Sentence(text, said, may_hold)


def _may_fit_apart(fits: list[list[bool]]) -> bool:
    """Whether each row can have a column of its own where it is true (bipartite matching)."""
    rows: dict[int, int] = {}  # of each column that is taken

    def place(row: int, tried: set[int]) -> bool:
        for column, is_fit in enumerate(fits[row]):
            if is_fit and column not in tried:
                tried.add(column)
                if column not in rows or place(rows[column], tried):
                    rows[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))


def _join(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _place(things: Sequence[Thing], rng: np.random.Generator, chances: Chances) -> Sentence | None:
    """An object and where it is in the image."""
    placed = [thing for thing in things if None not in thing.place]
    if not placed:
        return None
    thing = _pick(placed, rng)
    words, (row, column) = _words(thing, rng, chances), thing.place
    if row == column == "middle":
        place = "in the center"
    elif "middle" in (row, column):
        place = f"at the {row}" if column == "middle" else f"on the {column}"
    else:
        place = f"in the {row} {column}"

    def may_hold(others: Sequence[Thing]) -> bool:
        return any(
            words.may_fit(other)
            and other.place[0] in (row, None)
            and other.place[1] in (column, None)
            for other in others
        )

    return Sentence(f"{_begin(rng)}{words} {place}", (words,), may_hold)


def _count(things: Sequence[Thing], rng: np.random.Generator, chances: Chances) -> Sentence:
    """How many objects of each shape there are, or of one of them."""
    counts = Counter(thing.shape for thing in things)
    if rng.random() < 0.6:
        parts = [_number(number, shape) for shape, number in sorted(counts.items())]
        total = _number(len(things), "shape")

        def may_hold(others: Sequence[Thing]) -> bool:
            return Counter(other.shape for other in others) == counts

        return Sentence(f"{total}: {_join(parts)}", (), may_hold)
    shape = sorted(counts)[rng.integers(len(counts))]
    verb = "is" if counts[shape] == 1 else "are"
    text = f"there {verb} exactly {_number(counts[shape], shape)}"
    return Sentence(
        text, (), lambda others: sum(one.shape == shape for one in others) == counts[shape]
    )


def _number(number: int, noun: str) -> str:
    return f"{NUMBERS[number]} {noun}{'' if number == 1 else 's'}"


def _relate(things: Sequence[Thing], rng: np.random.Generator, chances: Chances) -> Sentence | None:
    """Two objects, and on which side of the other one is."""
    found = [
        (first, relation, second)
        for first, second in itertools.permutations(things, 2)
        for relation, direction in RELATIONS.items()
        if is_clearly(first, direction, second)
    ]
    if not found:
        return None
    first, relation, second = found[rng.integers(len(found))]
    words = _words(first, rng, chances), _words(second, rng, chances)
    x, y = RELATIONS[relation]

    def may_hold(others: Sequence[Thing]) -> bool:
        return any(
            words[0].may_fit(one)
            and words[1].may_fit(other)
            and x * (one.center[0] - other.center[0]) + y * (one.center[1] - other.center[1]) > 0
            for one, other in itertools.permutations(others, 2)
        )

    return Sentence(f"{words[0]} {relation} {words[1]}", words, may_hold)


def is_clearly(first: Thing, direction: tuple[int, int], second: Thing) -> bool:
    """Whether the first lies in a direction of the second rather than in any other."""
    x, y = (one - other for one, other in zip(first.center, second.center, strict=True))
    along = direction[0] * x + direction[1] * y
    return along >= APART and along >= 1.5 * abs(y if direction[0] else x)


def _compare(
    things: Sequence[Thing], rng: np.random.Generator, chances: Chances
) -> Sentence | None:
    """Two objects of which one is larger."""
    found = [
        (first, second)
        for first, second in itertools.permutations(things, 2)
        if first.area >= LARGER * second.area
    ]
    if not found:
        return None
    first, second = found[rng.integers(len(found))]
    # Sizes are not said twice.
    words = (
        _words(first, rng, chances)._replace(size=None),
        _words(second, rng, chances)._replace(size=None),
    )

    def may_hold(others: Sequence[Thing]) -> bool:
        return any(
            words[0].may_fit(one) and words[1].may_fit(other) and one.area > other.area
            for one, other in itertools.permutations(others, 2)
        )

    return Sentence(f"{words[0]} that is larger than {words[1]}", words, may_hold)
