"""Questions about generated shapes, in the official format of VQAv2.

A question is asked only of images where nobody would doubt the answer, and about as often with
each of its answers: who reads the question alone can only guess.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmbeit3.datasets.shape_captions import (
    LARGER,
    RELATIONS,
    SHAPES,
    Thing,
    Words,
    is_clearly,
)

# The colors that are asked about; the others of the captions are too rare to be balanced.
ASKED = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
# What an object may be called beside its shape, where it alone is called so.
COLORED = tuple(f"{color} shape" for color in ASKED)
EXTREMES = ("largest shape", "smallest shape")
CORNERS = tuple(
    f"shape in the {row} {column}" for row in ("top", "bottom") for column in ("left", "right")
)
YES_NO = ("yes", "no")
SPARE = 0.03  # by how much the share of an answer may be above its equal part
PER_KIND = 0.8  # questions of a kind at most, by the number of images
HUMANS = 10  # who answer, all alike, as many as VQAv2 has

Pair = tuple[str, str]
"""A color and a shape."""


class Scene:
    """The objects of an image, and what nobody would doubt of them.

    Args:
        things: The objects.

    Attributes:
        counts: How many there are of each shape.
        only: Of what only one object can be called, that object.
    """

    def __init__(self, things: Sequence[Thing]) -> None:
        self.counts = Counter(thing.shape for thing in things)
        self.only = {one.shape: one for one in things if self.counts[one.shape] == 1}
        for color in ASKED:
            found = [one for one in things if color in one.may_be]
            if len(found) == 1 and found[0].color == color:
                self.only[f"{color} shape"] = found[0]
        # What of an object is surely so, and what somebody may say of it; without a word, too.
        self._sure: set[tuple[str | None, str | None]] = set()
        self._near: set[tuple[str | None, str | None]] = set()
        for one in things:
            self._sure.update(itertools.product((None, one.color), (None, one.shape)))
            self._near.update(itertools.product(one.may_be, (None, one.shape)))
        by_area = sorted(things, key=lambda thing: thing.area)
        for name, order in zip(EXTREMES, (by_area[::-1], by_area), strict=True):
            if len(order) == 1 or is_larger(order[0], order[1]) is not None:
                self.only[name] = order[0]
        for name in CORNERS:
            *_, row, column = name.split()
            near = [
                one
                for one in things
                if one.place[0] in (row, None) and one.place[1] in (column, None)
            ]
            if len(near) == 1 and None not in near[0].place:
                self.only[name] = near[0]

    def has(self, color: str | None, shape: str | None) -> bool | None:
        """Whether there is an object of a color, of a shape, or of both; None: doubtful."""
        return (
            True
            if (color, shape) in self._sure
            else None
            if (color, shape) in self._near
            else False
        )


class Question(NamedTuple):
    """A question that can be asked of any image.

    Attributes:
        kind: VQAv2's ``question_type``.
        text: It.
        choices: Its answers.
        answer: Gives one for an image; None where it is doubtful or does not apply.
        pair: The color and the shape that it names of one object; where it asks for one of them
            that is None.
    """

    kind: str
    text: str
    choices: tuple[str, ...]
    answer: Callable[[Scene], str | None]
    pair: tuple[str | None, str | None] = ("", "")

    def names(self, answer: str, pairs: Sequence[Pair]) -> bool:
        """Whether it speaks, together with its answer, of one of some pairs."""
        color, shape = self.pair
        return (answer if color is None else color, answer if shape is None else shape) in pairs


class Asked(NamedTuple):
    """A question about one image, by its number, and the answer."""

    image: int
    question: Question
    answer: str


def is_larger(first: Thing, second: Thing) -> bool | None:
    """Whether the first is the larger one; None where their sizes are alike."""
    if first.area >= LARGER * second.area:
        return True
    return False if LARGER * first.area <= second.area else None


def is_colored(thing: Thing, color: str) -> bool | None:
    """Whether an object has a color; None where somebody may call it so."""
    return True if thing.color == color else None if color in thing.may_be else False


def all_questions() -> list[Question]:
    """Make every question that there is."""
    makers = (_colors, _shapes, _numbers, _places, _relations, _sizes, _existence)
    return [question for make in makers for question in make()]


def ask(scenes: Mapping[int, Scene], rng: np.random.Generator) -> list[Asked]:
    """Choose which questions are asked of which images.

    Args:
        scenes: The images by their numbers.
        rng: Source of all randomness.

    Returns:
        By image. Of each text (where it has many answers: of each kind) no answer is more frequent
        than an equal part and :data:`SPARE`.
    """
    kinds: dict[str, dict[str, dict[str, list[Asked]]]] = {}
    for question in all_questions():
        group = question.text if len(question.choices) == 2 else question.kind
        found = kinds.setdefault(question.kind, {}).setdefault(
            group, {choice: [] for choice in question.choices}
        )
        for image, scene in scenes.items():
            answer = question.answer(scene)
            if answer in found:
                found[answer].append(Asked(image, question, answer))
    chosen: list[Asked] = []
    # Each answer goes to the images that have had it least: else many objects would mean "yes".
    had: Counter[tuple[int, str]] = Counter()
    for groups in kinds.values():
        for found in groups.values():
            most = int(np.ceil(PER_KIND * len(scenes) / len(groups) / len(found)))
            number = _largest_even(list(map(len, found.values())), most)
            for answer, candidates in found.items():
                order = rng.permutation(len(candidates))
                ranked = sorted(order, key=lambda i: had[candidates[i].image, answer])
                taken = [candidates[index] for index in ranked[:number]]
                had.update((one.image, answer) for one in taken)
                chosen += taken
    return sorted(chosen, key=lambda one: one.image)


def _largest_even(counts: list[int], most: int) -> int:
    """The largest number to cut counts off at so that none is much more than an equal part."""
    limit = 1 / len(counts) + SPARE
    for number in range(min(max(counts), most), 0, -1):
        if number <= limit * sum(min(count, number) for count in counts):
            return number
    return 0


def write_questions(folder: Path, name: str, asked: Sequence[Asked], description: str) -> None:
    """Write ``questions_NAME.json`` and ``answers_NAME.json``.

    Args:
        folder: Where they go.
        name: Of the split.
        asked: The questions, by image.
        description: Goes to ``info``.
    """
    about = {"info": {"description": description}, "data_type": "shapes", "data_subtype": name}
    numbers: Counter[int] = Counter()
    questions, annotations = [], []
    for image, question, answer in asked:
        # VQAv2 numbers images as their files are.
        ids = {"image_id": image, "question_id": 1000 * image + numbers[image]}
        numbers[image] += 1
        questions.append(ids | {"question": question.text})
        humans = [
            {"answer": answer, "answer_confidence": "yes", "answer_id": human}
            for human in range(1, HUMANS + 1)
        ]
        kind = {"question_type": question.kind, "answer_type": _answer_type(question.choices)}
        annotations.append(ids | kind | {"multiple_choice_answer": answer, "answers": humans})
    data = about | {"task_type": "Open-Ended", "questions": questions}
    (folder / f"questions_{name}.json").write_text(json.dumps(data))
    data = about | {"annotations": annotations}
    (folder / f"answers_{name}.json").write_text(json.dumps(data))


def _answer_type(choices: tuple[str, ...]) -> str:
    if choices == YES_NO:
        return "yes/no"
    return "number" if choices[0].isdigit() else "other"


def _yes_no(is_true: bool | None) -> str | None:
    return None if is_true is None else "yes" if is_true else "no"


def _ask_about(name: str, find: Callable[[Thing], str | None]) -> Callable[[Scene], str | None]:
    """The answer where one object is called by this name."""
    return lambda scene: find(scene.only[name]) if name in scene.only else None


def _compare(
    first: str, second: str, find: Callable[[Thing, Thing], str | None]
) -> Callable[[Scene], str | None]:
    """The answer where two objects are called by these names."""

    def answer(scene: Scene) -> str | None:
        both = first in scene.only and second in scene.only
        return find(scene.only[first], scene.only[second]) if both else None

    return answer


def _colors() -> Iterator[Question]:
    kinds = {"": SHAPES, " shape in the": CORNERS, " largest or smallest": EXTREMES}
    for kind, names in kinds.items():
        for name in names:
            answer = _ask_about(name, lambda thing: thing.color)
            text = f"what color is the {name}?"
            yield Question(f"what color is the{kind}", text, ASKED, answer, (None, name))


def _shapes() -> Iterator[Question]:
    kinds = [("which shape is", color, f"{color} shape") for color in ASKED]
    kinds += [("which shape is in the", name.removeprefix("shape "), name) for name in CORNERS]
    # Of these the answer depends on the shape, so each is balanced by itself.
    for name in EXTREMES:
        what = "the " + name.removesuffix(" shape")
        kinds.append((f"which shape is {what}", what, name))
    for kind, what, name in kinds:
        answer = _ask_about(name, lambda thing: thing.shape)
        yield Question(kind, f"which shape is {what}?", SHAPES, answer, (what, None))


def _count(shape: str, scene: Scene) -> str:
    return str(scene.counts[shape])


def _has_more(first: str, second: str, scene: Scene) -> str | None:
    return _yes_no(scene.counts[first] > scene.counts[second])


def _place_of(axis: int, thing: Thing) -> str | None:
    return thing.place[axis]


def _is_there(color: str | None, shape: str | None, scene: Scene) -> str | None:
    return _yes_no(scene.has(color, shape))


def _has_color(color: str, thing: Thing) -> str | None:
    return _yes_no(is_colored(thing, color))


def _numbers() -> Iterator[Question]:
    few, many = tuple("0123"), tuple("234567")
    for shape in SHAPES:
        text = f"how many {shape}s are there?"
        yield Question("how many", text, few, partial(_count, shape))
    text = "how many shapes are there?"
    yield Question("how many shapes", text, many, lambda scene: str(scene.counts.total()))
    for first, second in itertools.permutations(SHAPES, 2):
        text = f"are there more {first}s than {second}s?"
        yield Question("are there more", text, YES_NO, partial(_has_more, first, second))


def _places() -> Iterator[Question]:
    sides = (("at the top", "at the bottom"), ("on the left", "on the right"))
    for axis, (first, second) in enumerate(sides):
        choices = (first.split()[-1], second.split()[-1])
        for name in (*SHAPES, *COLORED, *EXTREMES):
            answer = _ask_about(name, partial(_place_of, axis))
            text = f"is the {name} {first} or {second}?"
            yield Question(" or ".join(choices), text, choices, answer)


def _relations() -> Iterator[Question]:
    sides = ((("above", "below"), ""), (("to the left", "to the right"), " of"))
    for names in (SHAPES, COLORED):
        for first, second in itertools.permutations(names, 2):
            for words, of in sides:
                choices = {word.split()[-1]: RELATIONS[word + of] for word in words}

                def find(one: Thing, other: Thing, choices: dict = choices) -> str | None:
                    found = [w for w, where in choices.items() if is_clearly(one, where, other)]
                    return found[0] if found else None

                text = f"is the {first} {' or '.join(words)}{of} the {second}?"
                kind = " or ".join(choices) + " of"
                yield Question(kind, text, tuple(choices), _compare(first, second, find))


def _sizes() -> Iterator[Question]:
    for names in (SHAPES, COLORED):
        for first, second in itertools.permutations(names, 2):
            answer = _compare(first, second, lambda a, b: _yes_no(is_larger(a, b)))
            text = f"is the {first} larger than the {second}?"
            yield Question("is the larger", text, YES_NO, answer)
    for first, second in itertools.permutations(SHAPES, 2):

        def find(one: Thing, other: Thing) -> str | None:
            first_is = is_larger(one, other)
            return None if first_is is None else one.shape if first_is else other.shape

        text = f"which is larger, the {first} or the {second}?"
        yield Question("which is larger", text, (first, second), _compare(first, second, find))


def _existence() -> Iterator[Question]:
    for color, shape in itertools.product((None, *ASKED), (None, *SHAPES)):
        if color is None and shape is None:
            continue
        text = f"is there {Words(shape or 'shape', color)}?"
        kind = "is there a color" if shape is None else "is there a shape"
        yield Question(
            kind if None in (color, shape) else "is there a color and shape",
            text,
            YES_NO,
            partial(_is_there, color, shape),
            (color or "", shape or ""),
        )
    for color, shape in itertools.product(ASKED, SHAPES):
        answer = _ask_about(shape, partial(_has_color, color))
        yield Question("is the", f"is the {shape} {color}?", YES_NO, answer, (color, shape))
