"""Images of generated shapes as their boxes, masks and pixels show them."""

from __future__ import annotations

import colorsys
import itertools
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

SIZE = 128
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven"]
NOUNS = "disk|square|triangle|star|ring"
TEXTURE = "plain|shaded|cloudy|striped|checkered|dotted"
OBJECT = rf"an? (?:(small|large) )?(?:(\w+) )??(?:({TEXTURE}) )?({NOUNS})"
# Degrees of hue that people give a name, far wider than those that the generator uses.
HUES = {
    "red": (335, 380),
    "brown": (5, 50),
    "orange": (12, 48),
    "yellow": (42, 75),
    "green": (70, 170),
    "cyan": (160, 205),
    "blue": (195, 262),
    "purple": (252, 302),
    "pink": (292, 345),
}


# Degrees of hue that nobody would call otherwise, far narrower.
TYPICAL = {
    "red": (352, 366),
    "orange": (25, 35),
    "yellow": (53, 63),
    "green": (90, 150),
    "cyan": (176, 188),
    "blue": (215, 243),
    "purple": (268, 286),
    "pink": (309, 331),
}


class Scene:
    """An image of the set as its boxes, masks and pixels show it."""

    def __init__(self, root: Path, split: str, coco: COCO, image_id: int) -> None:
        name = coco.loadImgs(image_id)[0]["file_name"]
        pixels = cv2.imread(str(root / split / name))[..., ::-1]
        self.objects = []
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            x, y, width, height = annotation["bbox"]
            self.objects.append(
                {
                    "shape": coco.cats[annotation["category_id"]]["name"],
                    "color": np.median(pixels[mask], axis=0),
                    "spread": pixels[mask].std(axis=0).mean(),
                    "extent": max(width, height) / SIZE,
                    "center": ((x + width / 2) / SIZE, (y + height / 2) / SIZE),
                    "area": annotation["area"],
                }
            )

    def fitting(self, phrase: str) -> list[dict]:
        """The objects that a phrase is true of."""
        found = re.fullmatch(OBJECT, phrase)
        assert found, phrase
        size, color, texture, shape = found.groups()
        return [
            one
            for one in self.objects
            if one["shape"] == shape
            and (size is None or (one["extent"] < 0.3) == (size == "small"))
            and (color is None or has_color(one["color"], color))
            # A pattern shows as a spread of colors; noise and edges spread those of a plain one.
            and (texture is None or one["spread"] > 6 or texture == "plain")
        ]

    def holds(self, sentence: str) -> bool:
        """Whether a sentence is true."""
        text = re.sub(r"^(there (is|are) (?!exactly)|a picture with )", "", sentence)
        if found := re.fullmatch(r"there (?:is|are) exactly (\w+) (\w+?)s?", text):
            return NUMBERS[self.count(found[2])] == found[1]
        if found := re.fullmatch(r"(\w+) shapes?: (.*)", text):
            parts = re.findall(r"(\w+) (\w+?)s?(?:,|$| and)", found[2])
            said = {shape: NUMBERS.index(number) for number, shape in parts}
            counts = Counter(one["shape"] for one in self.objects)
            return said == counts and NUMBERS[len(self.objects)] == found[1]
        relation = r" (to the left of|to the right of|above|below|that is larger than) "
        if re.search(relation, text):
            first, how, second = re.split(relation, text)
            return any(
                related(one, how, other)
                for one in self.fitting(first)
                for other in self.fitting(second)
                if one is not other
            )
        if found := re.fullmatch(r"(.*) ((?:in|at|on) the .*)", text):
            return any(is_at(one["center"], found[2]) for one in self.fitting(found[1]))
        parts = re.split(r", | and ", text)
        choices = [self.fitting(part) for part in parts]
        return any(
            len({id(one) for one in chosen}) == len(parts) for chosen in itertools.product(*choices)
        )

    def count(self, shape: str) -> int:
        return sum(shape in (one["shape"], "shape") for one in self.objects)

    def called(self, name: str) -> list[dict]:
        """The objects that may be called 'disk', 'red shape', 'shape in the top left', ..."""
        what, _, place = name.partition(" in the ")
        word, shape = what.split() if " " in what else (None, what)
        found = [one for one in self.objects if shape in (one["shape"], "shape")]
        if word in ("largest", "smallest"):
            best = (max if word == "largest" else min)(found, key=lambda one: one["area"])
            return [best]
        return [
            one
            for one in found
            if (word is None or has_color(one["color"], word))
            and (not place or is_at(one["center"], f"in the {place}"))
        ]

    def has(self, name: str) -> set[bool]:
        """Whether there may be, or not be, a thing that is called so."""
        *words, shape = name.removeprefix("an ").removeprefix("a ").split()
        found = [one for one in self.objects if shape in (one["shape"], "shape")]
        if not words:
            return {bool(found)}
        if any(is_typical(one["color"], words[0]) for one in found):
            return {True}
        return {True, False} if any(has_color(one["color"], words[0]) for one in found) else {False}


def has_color(rgb: np.ndarray, name: str) -> bool:
    hue, saturation, value = colorsys.rgb_to_hsv(*(rgb / 255))
    if name == "black":
        return value < 0.3
    if name in ("white", "gray"):
        return saturation < 0.25 and (value > 0.7) == (name == "white")
    low, high = HUES[name]
    return saturation > 0.15 and (low <= 360 * hue <= high or low <= 360 * hue + 360 <= high)


def is_typical(rgb: np.ndarray, name: str) -> bool:
    hue, saturation, value = colorsys.rgb_to_hsv(*(rgb / 255))
    low, high = TYPICAL[name]
    is_hue = low <= 360 * hue <= high or low <= 360 * hue + 360 <= high
    return is_hue and saturation > 0.6 and value > 0.75


def related(one: dict, how: str, other: dict) -> bool:
    if "larger" in how:
        return one["area"] > other["area"]
    axis, sign = {
        "to the left of": (0, -1),
        "to the right of": (0, 1),
        "above": (1, -1),
        "below": (1, 1),
    }[how]
    return sign * (one["center"][axis] - other["center"][axis]) > 0.1


def is_at(center: tuple[float, float], place: str) -> bool:
    x, y = center
    return (
        ("left" not in place or x < 0.4)
        and ("right" not in place or x > 0.6)
        and ("top" not in place or y < 0.4)
        and ("bottom" not in place or y > 0.6)
        and ("center" not in place or max(abs(x - 0.5), abs(y - 0.5)) < 0.1)
        and (not place.startswith("at the") or abs(x - 0.5) < 0.1)
        and (not place.startswith("on the") or abs(y - 0.5) < 0.1)
    )


def scenes(root: Path, split: str) -> dict[int, Scene]:
    coco = COCO(str(root / "annotations" / f"{split}.json"))
    return {number: Scene(root, split, coco, number) for number in coco.imgs}
