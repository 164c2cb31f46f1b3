"""Questions about generated shapes, answered anew from boxes, masks and pixels, and by guessing."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from mmbeit3.datasets import make_shapes

from .shape_scenes import NUMBERS, TYPICAL, Scene, has_color, is_typical, related, scenes

SIDES = {"top": (1, -1), "bottom": (1, 1), "left": (0, -1), "right": (0, 1)}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    return make_shapes(out, num_train=60, num_val=60, seed=5, held_out=6)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    return make_shapes(out, num_train=300, num_val=120, size=64, seed=1)


def questions(root: Path, name: str) -> list[dict]:
    """The questions together with their answers."""
    folder = root / "annotations"
    asked = json.loads((folder / f"questions_{name}.json").read_text())["questions"]
    answers = json.loads((folder / f"answers_{name}.json").read_text())["annotations"]
    assert [one["question_id"] for one in asked] == [one["question_id"] for one in answers]
    return [one | answer for one, answer in zip(asked, answers, strict=True)]


def statements(root: Path, name: str) -> list[dict]:
    lines = (root / "annotations" / f"statements_{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def may_be_answered(scene: Scene, text: str, answer: str) -> bool:
    """Whether an answer is right, as far as pixels tell."""
    if found := re.fullmatch(r"what color is the (.*)\?", text):
        return any(has_color(one["color"], answer) for one in scene.called(found[1]))
    if found := re.fullmatch(r"which shape is (the largest|in the .*)\?", text):
        name = f"shape {found[1]}" if "in the" in text else found[1].split()[1] + " shape"
        return any(one["shape"] == answer for one in scene.called(name))
    if found := re.fullmatch(r"which shape is the smallest\?", text):
        return any(one["shape"] == answer for one in scene.called("smallest shape"))
    if found := re.fullmatch(r"which shape is (\w+)\?", text):
        return any(one["shape"] == answer for one in scene.called(f"{found[1]} shape"))
    if found := re.fullmatch(r"how many (\w+)s are there\?", text):
        return scene.count(found[1]) == int(answer)
    if found := re.fullmatch(r"are there more (\w+)s than (\w+)s\?", text):
        return (scene.count(found[1]) > scene.count(found[2])) == (answer == "yes")
    if found := re.fullmatch(r"is the (.*) (?:at|on) the (\w+) or (?:at|on) the (\w+)\?", text):
        axis, sign = SIDES[answer]
        assert answer in found.groups()[1:]
        return any(sign * (one["center"][axis] - 0.5) > 0.1 for one in scene.called(found[1]))
    if found := re.fullmatch(r"is the (.*) (above or below|to the left .* of) the (.*)\?", text):
        how = f"to the {answer} of" if "left" in found[2] else answer
        return any(
            related(one, how, other)
            for one in scene.called(found[1])
            for other in scene.called(found[3])
            if one is not other
        )
    if found := re.fullmatch(r"which is larger, the (\w+) or the (\w+)\?", text):
        small = found[1] if answer == found[2] else found[2]
        return scene.called(answer)[0]["area"] > 1.5 * scene.called(small)[0]["area"]
    if found := re.fullmatch(r"is the (.*) larger than the (.*)\?", text):
        ratios = [
            one["area"] / other["area"]
            for one in scene.called(found[1])
            for other in scene.called(found[2])
            if one is not other
        ]
        return any(ratio > 1.5 if answer == "yes" else ratio < 1 / 1.5 for ratio in ratios)
    if found := re.fullmatch(r"is there (.*)\?", text):
        return (answer == "yes") in scene.has(found[1])
    found = re.fullmatch(r"is the (\w+) (\w+)\?", text)
    assert found, text
    check = has_color if answer == "yes" else lambda *color: not is_typical(*color)
    return scene.count(found[1]) == 1 and check(scene.called(found[1])[0]["color"], found[2])


def may_be(left: Scene, right: Scene, text: str, label: bool) -> bool:
    """Whether a statement is as true as its label says, as far as pixels tell."""
    if found := re.fullmatch(r"(.*) pictures? ha(?:s|ve) (an? .*)", text):
        rules = {
            "the left": lambda a, b: a,
            "the right": lambda a, b: b,
            "both": lambda a, b: a and b,
            "neither": lambda a, b: not a and not b,
            "only the left": lambda a, b: a and not b,
            "only the right": lambda a, b: b and not a,
        }
        rule, what = rules[found[1]], found[2]
        return label in {rule(a, b) for a in left.has(what) for b in right.has(what)}
    sides = {"left": left, "right": right}
    if found := re.fullmatch(r"the (\w+) picture has more (\w+)s than the (\w+) one", text):
        one, other = sides[found[1]], sides[found[3]]
        return (one.count(found[2]) > other.count(found[2])) == label
    if found := re.fullmatch(r"both pictures have the same number of (\w+)s", text):
        return (left.count(found[1]) == right.count(found[1])) == label
    if found := re.fullmatch(r"the two pictures have (\w+) (\w+?)s? in all", text):
        return (left.count(found[2]) + right.count(found[2]) == NUMBERS.index(found[1])) == label
    found = re.fullmatch(r"the (\w+ shape) in the (\w+) picture is (.*)", text)
    assert found, text
    one, what = sides[found[2]].called(found[1])[0], found[3]
    if what.startswith("a "):
        return (one["shape"] == what[2:]) == label
    return has_color(one["color"], what) if label else not is_typical(one["color"], what)


@pytest.mark.parametrize("name", ["train", "val", "val_held_out"])
def test_every_answer_is_right(shapes: Path, name: str) -> None:
    found = scenes(shapes, name[:3].replace("tra", "train"))
    asked = questions(shapes, name)
    assert len(asked) > (5 if "held_out" in name else 100)
    wrong = [
        one
        for one in asked
        if not may_be_answered(
            found[one["image_id"] + 1], one["question"], one["multiple_choice_answer"]
        )
    ]
    # The median of a thin object with a pattern may lie outside of what its colors are called.
    assert len(wrong) <= 0.005 * len(asked), wrong
    assert all(
        [row["answer"] for row in one["answers"]] == 10 * [one["multiple_choice_answer"]]
        for one in asked
    )
    assert all([row["answer_id"] for row in one["answers"]] == [*range(1, 11)] for one in asked)


@pytest.mark.parametrize("name", ["train", "val", "val_held_out"])
def test_every_statement_is_labeled_right(shapes: Path, name: str) -> None:
    split = name[:3].replace("tra", "train")
    found = {f"{number - 1:06d}.jpg": scene for number, scene in scenes(shapes, split).items()}
    rows = statements(shapes, name)
    assert len(rows) > (5 if "held_out" in name else 100)
    assert all((shapes / split / row[side]).exists() for row in rows for side in ("left", "right"))
    wrong = [
        row
        for row in rows
        if not may_be(
            found[row["left"]], found[row["right"]], row["sentence"], row["label"] == "True"
        )
    ]
    assert len(wrong) <= 0.02 * len(rows), wrong  # a thin ring of two greens, as above
    assert len({row["identifier"] for row in rows}) == len(rows)


def test_plain_pictures_have_colors_that_nobody_doubts(tmp_path: Path) -> None:
    root = make_shapes(tmp_path / "shapes", 20, 20, seed=3, plain=True)
    found = scenes(root, "val")
    colors = {
        name
        for one in found.values()
        for name in TYPICAL
        for thing in one.objects
        if is_typical(thing["color"], name) or has_color(thing["color"], name)
    }
    assert colors >= set(TYPICAL)
    asked = questions(root, "val")
    assert len(asked) > 100
    assert all(
        may_be_answered(found[one["image_id"] + 1], one["question"], one["multiple_choice_answer"])
        for one in asked
    )


def test_the_checker_would_notice(shapes: Path) -> None:
    """The other answer of two is wrong, and labels turned round are."""
    found = scenes(shapes, "val")
    asked = [one for one in questions(shapes, "val") if one["answer_type"] == "yes/no"]
    other = {"yes": "no", "no": "yes"}
    right = [
        may_be_answered(
            found[one["image_id"] + 1], one["question"], other[one["multiple_choice_answer"]]
        )
        for one in asked
    ]
    assert np.mean(right) < 0.25  # of colors its bounds are wide
    files = {f"{number - 1:06d}.jpg": scene for number, scene in found.items()}
    right = [
        may_be(files[row["left"]], files[row["right"]], row["sentence"], row["label"] != "True")
        for row in statements(shapes, "val")
    ]
    assert np.mean(right) < 0.2


def test_they_speak_of_everything(shapes: Path) -> None:
    asked = questions(shapes, "train")
    assert {one["answer_type"] for one in asked} == {"yes/no", "number", "other"}
    answers = {one["multiple_choice_answer"] for one in asked}
    assert answers >= {
        "yes",
        "no",
        "0",
        "3",
        "red",
        "green",
        "disk",
        "star",
        "left",
        "top",
        "above",
    }
    listed = (shapes / "annotations" / "answer_list.txt").read_text().splitlines()
    assert answers <= set(listed) and len(listed) == 29
    text = " ".join(one["question"] for one in asked)
    for words in ("what color", "which shape", "how many", "larger", "above or below", "is there"):
        assert words in text
    text = " ".join(row["sentence"] for row in statements(shapes, "train"))
    for words in ("both", "neither", "only the left", "more", "same number", "largest", "three"):
        assert words in text


def majority(rows: list[tuple], answers: list[str]) -> dict:
    """The most frequent answer for each key."""
    counts: dict = defaultdict(Counter)
    for key, answer in zip(rows, answers, strict=True):
        counts[key][answer] += 1
    return {key: count.most_common(1)[0][0] for key, count in counts.items()}


def words_of(texts: list[str], vocabulary: dict[str, int]) -> np.ndarray:
    features = np.zeros((len(texts), len(vocabulary)))
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text):
            features[row, vocabulary[word]] = 1
    return features


def guesses_of_words(train: list[str], answers: list[str], val: list[str]) -> list[str]:
    """Answers of naive Bayes that knows which words are there, for each kind of answer."""
    vocabulary = {
        word: i for i, word in enumerate(sorted(set(re.findall(r"\w+", " ".join(train + val)))))
    }
    features, names = words_of(train, vocabulary), sorted(set(answers))
    labels = np.array([names.index(answer) for answer in answers])
    scores = []
    for label in range(len(names)):
        share = (features[labels == label].sum(0) + 0.1) / ((labels == label).sum() + 0.2)
        seen = words_of(val, vocabulary)
        scores.append(
            seen @ np.log(share) + (1 - seen) @ np.log(1 - share) + np.log((labels == label).mean())
        )
    return [names[index] for index in np.argmax(scores, axis=0)]


def test_questions_alone_give_no_more_than_chance_and_five_points(many: Path) -> None:
    train, val = questions(many, "train"), questions(many, "val")
    choices: dict[str, set[str]] = defaultdict(set)
    for one in train + val:
        choices[one["question_type"]].add(one["multiple_choice_answer"])
    chances = [
        0.5 if " or " in one["question"] else 1 / len(choices[one["question_type"]]) for one in val
    ]
    chance = np.mean(chances)
    assert 0.3 < chance < 0.45
    right = [one["multiple_choice_answer"] for one in val]
    answers = [one["multiple_choice_answer"] for one in train]
    by_kind = majority([one["question_type"] for one in train], answers)
    by_text = majority([one["question"] for one in train], answers)
    guesses = {
        "kind": [by_kind[one["question_type"]] for one in val],
        "text": [by_text.get(one["question"], by_kind[one["question_type"]]) for one in val],
        "words": guesses_of_words(
            [one["question"] for one in train], answers, [one["question"] for one in val]
        ),
    }
    for name, guess in guesses.items():
        score = np.mean([one == other for one, other in zip(guess, right, strict=True)])
        assert score <= chance + 0.05, (name, score, chance)


def test_numbers_of_objects_give_hardly_more_than_the_most_frequent_answer(many: Path) -> None:
    """Else an image full of objects would mean "yes"."""
    counts = {
        split: Counter(
            one["image_id"]
            for one in json.loads((many / "annotations" / f"{split}.json").read_text())[
                "annotations"
            ]
        )
        for split in ("train", "val")
    }
    train, val = questions(many, "train"), questions(many, "val")
    answers = [one["multiple_choice_answer"] for one in train]
    best = majority([counts["train"][one["image_id"] + 1] for one in train], answers)
    score = np.mean(
        [best[counts["val"][one["image_id"] + 1]] == one["multiple_choice_answer"] for one in val]
    )
    most = Counter(one["multiple_choice_answer"] for one in val).most_common(1)[0][1] / len(val)
    assert score <= most + 0.05 and most < 0.25


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("keys", [("sentence",), ("left", "right")])
def test_neither_sentence_nor_pictures_tell_the_label(
    many: Path, split: str, keys: tuple[str, ...]
) -> None:
    """As often true as false, each of them: nothing that is read from one of them can tell."""
    labels: dict[tuple, Counter] = defaultdict(Counter)
    for row in statements(many, split):
        labels[tuple(row[key] for key in keys)][row["label"]] += 1
    assert len(labels) > 50
    assert all(count["True"] == count["False"] for count in labels.values())


def test_training_does_not_speak_of_held_out_combinations(shapes: Path) -> None:
    """Neither do its pictures show them, as far as the colors have names."""
    held_out = json.loads((shapes / "annotations" / "held_out.json").read_text())["combinations"]
    pattern = "|".join(f"{color} {shape}|the {shape} {color}" for color, shape in held_out)

    def text(one: dict) -> str:
        answer = one["multiple_choice_answer"]
        words = re.search(r"what color is the (\w+)\?", one["question"])
        shape = re.search(r"which shape is (\w+)\?", one["question"])
        added = f"{answer} {words[1]}" if words else f"{shape[1]} {answer}" if shape else ""
        return f"{one['question']} {added}"

    assert not re.search(pattern, " / ".join(map(text, questions(shapes, "train"))))
    assert not re.search(
        pattern, " / ".join(row["sentence"] for row in statements(shapes, "train"))
    )
    assert all(re.search(pattern, text(one)) for one in questions(shapes, "val_held_out"))
    rows = statements(shapes, "val_held_out")
    assert all(re.search(pattern, row["sentence"]) for row in rows)
    assert Counter(row["label"] for row in rows)["True"] == len(rows) / 2
