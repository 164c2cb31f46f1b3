"""Captions of generated shapes, read anew and compared with boxes, masks and pixels."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmbeit3.datasets import CocoCaptionsDataset, make_shapes
from mmbeit3.datasets.shape_captions import COLORS, SHAPES, Thing, write_sentences
from mmbeit3.datasets.shape_questions import all_questions
from mmbeit3.datasets.shape_statements import all_statements
from mmbeit3.datasets.shapes import tokenizer_texts
from mmbeit3.text import Tokenizer, train_tokenizer
from mmbeit3.utils import InputError

from .shape_scenes import NOUNS, SIZE, TEXTURE, scenes


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


def test_named_objects_are_those_of_the_classes_and_of_the_captions(shapes: Path) -> None:
    for split in ("train", "val"):
        plain, named = (
            json.loads((shapes / "annotations" / f"{name}{split}.json").read_text())
            for name in ("", "named_")
        )
        names = {one["id"]: one["name"] for one in named["categories"]}
        classes = {one["id"]: one["name"] for one in plain["categories"]}
        assert len(set(names.values())) == 5 + 5 * 12 and plain["images"] == named["images"]
        found: dict[int, set[str]] = {image["id"]: set() for image in named["images"]}
        for one, other in zip(plain["annotations"], named["annotations"], strict=True):
            name = names[other["category_id"]]
            assert name.split()[-1] == classes[one["category_id"]]
            assert one | {"category_id": 0} == other | {"category_id": 0}
            found[one["image_id"]].add(name)
        pattern = re.compile(f"\\b({'|'.join(COLORS)}) (?:\\w+ )?({'|'.join(SHAPES)})\\b")
        for image, texts in captions(shapes, split).items():
            said = {" ".join(pair) for text in texts for pair in pattern.findall(text)}
            assert said <= found[image]
    held_out = json.loads((shapes / "annotations" / "held_out.json").read_text())["combinations"]
    assert {" ".join(pair) for pair in held_out} <= set(names.values())


def test_captions_leave_all_else_as_it_was(shapes: Path, tmp_path: Path) -> None:
    """Numbers in the docs were measured on images and boxes of these bytes."""
    root = make_shapes(tmp_path / "shapes", num_train=60, num_val=40, size=SIZE, seed=2)
    for path in sorted(shapes.rglob("*")):
        texts = ("captions", "questions", "answers_", "statements", "held_out", "named_")
        if path.is_file() and not path.name.startswith(texts):
            assert (root / path.relative_to(shapes)).read_bytes() == path.read_bytes()
    assert not (root / "annotations" / "held_out.json").exists()
    few = make_shapes(tmp_path / "few", 12, 4, 160, seed=3) / "annotations"
    digests = [
        hashlib.sha256((few / f"{s}.json").read_bytes()).hexdigest() for s in ("train", "val")
    ]
    assert [digest[:16] for digest in digests] == ["f0cd267f891eb7be", "7178452ab534d153"]


def test_a_data_set_reads_them(shapes: Path) -> None:
    dataset = CocoCaptionsDataset(
        "annotations/captions_train.json",
        data_root=str(shapes),
        data_prefix=dict(img="train"),
        test_mode=True,
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


def test_the_tokenizer_is_always_the_same_and_knows_the_words(tmp_path: Path) -> None:
    texts = tokenizer_texts()
    files = [train_tokenizer(texts, tmp_path / f"{i}.spm") for i in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    tokenizer = Tokenizer(files[0])
    assert tokenizer.vocab_size == 258
    text = "a large red striped star to the left of a ring"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) <= 14
    texts = [one.text for one in (*all_questions(), *all_statements())]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts
    # No more than a piece for each word, sign, begin and end.
    words = [2 + len(re.findall(r"\w+|[?,]", text)) for text in texts]
    assert sum(tokenizer.lengths(texts)) <= 1.02 * sum(words)


def test_a_tokenizer_of_no_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer of 256 pieces"):
        train_tokenizer([], tmp_path / "t.spm")
    assert not (tmp_path / "t.spm").exists()
