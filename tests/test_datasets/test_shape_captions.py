"""Captions of generated shapes, read anew and compared with boxes, masks and pixels."""

from __future__ import annotations

import colorsys
import hashlib
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmbeit3.datasets import CocoCaptionsDataset, make_shapes
from mmbeit3.datasets.shape_captions import Thing, any_sentences, write_sentences
from mmbeit3.text import Tokenizer, train_tokenizer
from mmbeit3.utils import InputError

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


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    return make_shapes(out, num_train=60, num_val=40, size=SIZE, seed=2, held_out=6)


def captions(root: Path, name: str) -> dict[int, list[str]]:
    """The sentences of each image."""
    data = json.loads((root / "annotations" / f"captions_{name}.json").read_text())
    found: dict[int, list[str]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        found[annotation["image_id"]].append(annotation["caption"])
    return found


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
        return sum(one["shape"] == shape for one in self.objects)


def has_color(rgb: np.ndarray, name: str) -> bool:
    hue, saturation, value = colorsys.rgb_to_hsv(*(rgb / 255))
    if name == "black":
        return value < 0.3
    if name in ("white", "gray"):
        return saturation < 0.25 and (value > 0.7) == (name == "white")
    low, high = HUES[name]
    return saturation > 0.15 and (low <= 360 * hue <= high or low <= 360 * hue + 360 <= high)


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


@pytest.mark.parametrize("name", ["train", "val", "val_unique", "val_held_out"])
def test_every_sentence_is_true(shapes: Path, name: str) -> None:
    found = scenes(shapes, name[:3].replace("tra", "train"))
    sentences = [
        (number, text) for number, texts in captions(shapes, name).items() for text in texts
    ]
    assert sentences
    wrong = [(number, text) for number, text in sentences if not found[number].holds(text)]
    assert not wrong


def test_the_checker_would_notice(shapes: Path) -> None:
    """Sentences of one image are mostly false of another."""
    found = scenes(shapes, "val")
    texts = captions(shapes, "val")
    numbers = list(texts)
    pairs = itertools.pairwise(numbers)
    other = [found[one].holds(text) for one, another in pairs for text in texts[another]]
    assert np.mean(other) < 0.25


def test_sentences_for_retrieval_are_true_of_one_image_only(shapes: Path) -> None:
    found = scenes(shapes, "val")
    texts = captions(shapes, "val_unique")
    assert len(texts) > 20
    # The checker cannot tell one pattern from another.
    pairs = [
        (number, text)
        for number, image in texts.items()
        for text in image
        if not re.search(TEXTURE, text)
    ]
    assert len(pairs) > 20
    twice = [
        (number, other, text)
        for number, text in pairs
        for other, scene in found.items()
        if other != number and scene.holds(text)
    ]
    # Of colors its bounds overlap: it takes some things for both red and pink.
    assert len(twice) <= 0.05 * len(pairs), twice


def test_sentences_speak_of_everything(shapes: Path) -> None:
    words = Counter(re.findall(r"\w+", " ".join(sum(captions(shapes, "train").values(), []))))
    for group in (
        NOUNS.split("|"),
        ["red", "green", "blue", "purple", "pink", "cyan"],
        ["plain", "shaded", "cloudy", "striped", "checkered", "dotted"],
        ["small", "large", "larger", "exactly", "two", "three"],
        ["left", "right", "top", "bottom", "above", "below"],
    ):
        assert all(words[word] for word in group), group
    counts = [len(texts) for texts in captions(shapes, "val").values()]
    assert len(counts) == 40 and min(counts) >= 3 and np.mean(counts) > 4.8
    assert all(len(set(texts)) == len(texts) for texts in captions(shapes, "val").values())


def test_no_training_caption_is_of_an_image_with_a_held_out_combination(shapes: Path) -> None:
    annotations = shapes / "annotations"
    held_out = json.loads((annotations / "held_out.json").read_text())
    combinations = [" ".join(pair) for pair in held_out["combinations"]]
    assert len(combinations) == 6
    pattern = "|".join(f"{color} (\\w+ )?{shape}" for color, shape in held_out["combinations"])
    train = captions(shapes, "train")
    assert len(train) == 60 - held_out["images_without_captions"]
    assert not re.search(pattern, " ".join(sum(train.values(), [])))
    found = captions(shapes, "val_held_out")
    assert found and all(re.search(pattern, text) for texts in found.values() for text in texts)


def test_captions_leave_all_else_as_it_was(shapes: Path, tmp_path: Path) -> None:
    """Numbers in the docs were measured on images and boxes of these bytes."""
    root = make_shapes(tmp_path / "shapes", num_train=60, num_val=40, size=SIZE, seed=2)
    for path in sorted(shapes.rglob("*")):
        if path.is_file() and "captions" not in path.name and path.name != "held_out.json":
            assert (root / path.relative_to(shapes)).read_bytes() == path.read_bytes()
    assert not (root / "annotations" / "held_out.json").exists()
    few = make_shapes(tmp_path / "few", 12, 4, 160, seed=3) / "annotations"
    digests = [
        hashlib.sha256((few / f"{s}.json").read_bytes()).hexdigest() for s in ("train", "val")
    ]
    assert [digest[:16] for digest in digests] == ["f0cd267f891eb7be", "7178452ab534d153"]


def test_a_data_set_reads_them(shapes: Path) -> None:
    dataset = CocoCaptionsDataset(
        "annotations/captions_train.json", str(shapes), dict(img="train"), test_mode=True
    )
    assert 0 < len(dataset) < 60 and len(dataset.get_data_info(0)["texts"]) == 5


def test_too_many_combinations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="held_out is 40, expected 0 to"):
        make_shapes(tmp_path / "shapes", 1, 1, held_out=40)


def test_doubtful_words_are_left_out() -> None:
    doubtful = Thing("disk", None, None, None, (0.4, 0.5), 0.02)
    sure = Thing("star", "red", "striped", "large", (0.8, 0.5), 0.1)
    rng = np.random.default_rng(0)
    texts = " / ".join(
        one.text for _ in range(20) for one in write_sentences([doubtful, sure], rng)
    )
    assert "a disk" in texts and "striped star" in texts and "on the right" in texts
    assert not re.search(r"\w+(?<! a) disk (in|at|on) ", texts)


def test_the_tokenizer_of_the_captions_is_always_the_same(tmp_path: Path) -> None:
    texts = any_sentences(500)
    files = [train_tokenizer(texts, tmp_path / f"{i}.spm") for i in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    tokenizer = Tokenizer(files[0])
    assert tokenizer.vocab_size == 258
    text = "a large red striped star to the left of a ring"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) <= 14


def test_a_tokenizer_of_no_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer of 256 pieces"):
        train_tokenizer([], tmp_path / "t.spm")
    assert not (tmp_path / "t.spm").exists()
