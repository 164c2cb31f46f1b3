"""Statements about two generated pictures, in the JSON lines of NLVR2.

They come in fours: two sentences and two pairs of pictures, of which each sentence is true of
another pair. So neither a sentence alone nor its pictures alone tell whether it is true.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmbeit3.datasets.shape_captions import NUMBERS, SHAPES, Words
from mmbeit3.datasets.shape_questions import ASKED, EXTREMES, Scene, is_colored

ROUNDS = 8  # how often each picture is used: statements by the number of images, about


class Statement(NamedTuple):
    """A sentence that may be true of any two pictures.

    Attributes:
        kind: What it speaks of.
        text: It.
        holds: Whether it is true of the left and the right picture; None where that is doubtful.
        pair: The color and the shape that it names of one object.
    """

    kind: str
    text: str
    holds: Callable[[Scene, Scene], bool | None]
    pair: tuple[str, str] = ("", "")


class Judged(NamedTuple):
    """A statement about two images, by their numbers, and whether it is true.

    Attributes:
        number: Of the four, of the pair of pictures in it, and of the sentence in it.
        images: Left and right.
        statement: It.
        is_true: Whether it is.
    """

    number: tuple[int, int, int]
    images: tuple[int, int]
    statement: Statement
    is_true: bool


def all_statements() -> list[Statement]:
    """Make every statement that there is."""
    return [statement for make in (_existence, _numbers, _extremes) for statement in make()]


def judge(scenes: Mapping[int, Scene], rng: np.random.Generator) -> list[Judged]:
    """Choose which statements are made about which pairs of images.

    Args:
        scenes: The images by their numbers.
        rng: Source of all randomness.

    Returns:
        Statements, four after four: half of them are true, as of each sentence and of each pair.
    """
    kinds: dict[str, list[Statement]] = {}
    for statement in all_statements():
        kinds.setdefault(statement.kind, []).append(statement)
    images = np.array(list(scenes))
    found: list[Judged] = []
    for _ in range(ROUNDS):
        order = rng.permutation(images)
        for first in range(0, len(order) - 3, 4):
            numbers = [int(number) for number in order[first : first + 4]]
            pairs = [(numbers[0], numbers[1]), (numbers[2], numbers[3])]
            sides = [tuple(scenes[image] for image in pair) for pair in pairs]
            tried = [_only_true_of(sides[one], sides[1 - one], kinds, rng) for one in range(2)]
            chosen = [statement for statement in tried if statement is not None]
            if len(chosen) < len(tried):
                continue
            found += [
                Judged((len(found) // 4, p, s), pairs[p], statement, p == s)
                for p, (s, statement) in itertools.product(range(2), enumerate(chosen))
            ]
    return found


def _only_true_of(
    these: Sequence[Scene],
    others: Sequence[Scene],
    kinds: dict[str, list[Statement]],
    rng: np.random.Generator,
) -> Statement | None:
    """A statement that is true of two pictures and false of two others."""
    for kind in rng.permutation(list(kinds)):
        for index in rng.permutation(len(kinds[kind])):
            statement = kinds[kind][index]
            if statement.holds(*these) and statement.holds(*others) is False:
                return statement
    return None


def write_statements(folder: Path, name: str, judged: Sequence[Judged]) -> None:
    """Write ``statements_NAME.jsonl``.

    Args:
        folder: Where it goes.
        name: Of the split.
        judged: The statements.
    """
    rows = [
        {
            "identifier": "-".join(map(str, (name, *one.number))),
            "sentence": one.statement.text,
            "label": str(one.is_true),
            "left": f"{one.images[0]:06d}.jpg",
            "right": f"{one.images[1]:06d}.jpg",
        }
        for one in judged
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"statements_{name}.jsonl").write_text(text)


def _all(values: Sequence[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _has(
    has: Callable[[Scene], bool | None],
    on_left: bool | None,
    on_right: bool | None,
    left: Scene,
    right: Scene,
) -> bool | None:
    """Whether each picture has it or not as said; None says nothing of a picture."""
    said = ((has(scene), wanted) for scene, wanted in ((left, on_left), (right, on_right)))
    return _all([found if wanted else _not(found) for found, wanted in said if wanted is not None])


def _existence() -> Iterator[Statement]:
    for color, shape in itertools.product((None, *ASKED), (None, *SHAPES)):
        if color is None and shape is None:
            continue
        what, pair = str(Words(shape or "shape", color)), (color or "", shape or "")

        has = partial(Scene.has, color=color, shape=shape)
        forms: dict[str, Callable[[Scene, Scene], bool | None]] = {
            "the left picture has": partial(_has, has, True, None),
            "the right picture has": partial(_has, has, None, True),
            "both pictures have": partial(_has, has, True, True),
            "neither picture has": partial(_has, has, False, False),
            "only the left picture has": partial(_has, has, True, False),
            "only the right picture has": partial(_has, has, False, True),
        }
        said = "a shape" if color is None else "a color" if shape is None else "both"
        for form, holds in forms.items():
            yield Statement(f"{form} {said}", f"{form} {what}", holds, pair)


def _count(noun: str, scene: Scene) -> int:
    return scene.counts.total() if noun == "shape" else scene.counts[noun]


def _has_more(noun: str, sign: int, left: Scene, right: Scene) -> bool:
    return sign * (_count(noun, left) - _count(noun, right)) > 0


def _has_as_many(noun: str, left: Scene, right: Scene) -> bool:
    return _count(noun, left) == _count(noun, right)


def _has_in_all(noun: str, number: int, left: Scene, right: Scene) -> bool:
    return _count(noun, left) + _count(noun, right) == number


def _numbers() -> Iterator[Statement]:
    for noun in (*SHAPES, "shape"):
        for side, other in (("left", "right"), ("right", "left")):
            yield Statement(
                "more",
                f"the {side} picture has more {noun}s than the {other} one",
                partial(_has_more, noun, 1 if side == "left" else -1),
            )
        yield Statement(
            "same number",
            f"both pictures have the same number of {noun}s",
            partial(_has_as_many, noun),
        )
    for shape, number in itertools.product(SHAPES, range(1, 5)):
        noun = shape if number == 1 else f"{shape}s"
        yield Statement(
            "in all",
            f"the two pictures have {NUMBERS[number]} {noun} in all",
            partial(_has_in_all, shape, number),
        )


def _extremes() -> Iterator[Statement]:
    for name, what in itertools.product(EXTREMES, (*SHAPES, *ASKED)):
        for side, place in enumerate(("left", "right")):

            def holds(*scenes: Scene, side=side, name=name, what=what) -> bool | None:
                thing = scenes[side].only.get(name)
                if thing is None:
                    return None
                if what in SHAPES:
                    return thing.shape == what
                return is_colored(thing, what)

            said = f"a {what}" if what in SHAPES else what
            yield Statement(
                "largest or smallest", f"the {name} in the {place} picture is {said}", holds
            )
