"""What guesses score that look at half of the generated questions, statements and captions.

``python -m benchmarks.shape_guesses data/shapes_captions`` fits them on the training files that
make-shapes wrote, scores them on the held-out ones, and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from mmbeit3.evaluation import caption_scores

CANDIDATES = 50  # captions, the most frequent ones, of which the best is chosen
FIT = 300  # training images on which it is chosen


def guess(
    train: Sequence[dict], val: Sequence[dict], answer: str, *keys: Callable[[dict], Hashable]
) -> float:
    """Score the most frequent answer of the first key that training has, in percent.

    Args:
        train: What to count.
        val: What to answer.
        answer: The key of the right one.
        keys: What a guess may know of an entry, the most telling first.
    """
    counts: dict[Hashable, Counter] = defaultdict(Counter)
    for row in train:
        for number, key in enumerate(keys):
            counts[number, key(row)][row[answer]] += 1
    best = {known: count.most_common(1)[0][0] for known, count in counts.items()}
    right = 0
    for row in val:
        known = next(k for n, key in enumerate(keys) if (k := (n, key(row))) in best)
        right += best[known] == row[answer]
    return 100 * right / len(val)


def questions(folder: Path, split: str) -> list[dict]:
    """Questions with their answers, and with the number of objects in their image."""
    asked = json.loads((folder / f"questions_{split}.json").read_text())["questions"]
    answers = json.loads((folder / f"answers_{split}.json").read_text())["annotations"]
    things = json.loads((folder / f"{split}.json").read_text())["annotations"]
    number = Counter(thing["image_id"] - 1 for thing in things)  # there they begin with 1
    return [
        one | other | {"things": number[one["image_id"]]}
        for one, other in zip(asked, answers, strict=True)
    ]


def question_guesses(folder: Path) -> dict[str, float]:
    """Scores of guesses at the answers of the held-out questions."""
    train, val = questions(folder, "train"), questions(folder, "val")
    answers = defaultdict(set)
    for row in train:
        answers[row["question_type"]].add(row["multiple_choice_answer"])
    of_two = [" or " in row["question"] for row in val]
    chance = fmean(
        0.5 if two else 1 / len(answers[row["question_type"]])
        for row, two in zip(val, of_two, strict=True)
    )
    key = "multiple_choice_answer"
    return {
        "VQA: one of the answers of a question": 100 * chance,
        "VQA: by the question": guess(
            train, val, key, lambda row: row["question"], lambda row: row["question_type"]
        ),
        "VQA: by the number of objects in the image": guess(
            train, val, key, lambda row: row["things"], lambda _: 0
        ),
    }


def statement_guesses(folder: Path) -> dict[str, float]:
    """Scores of guesses at the labels of the held-out statements."""
    train, val = (
        [json.loads(line) for line in (folder / f"statements_{split}.jsonl").open()]
        for split in ("train", "val")
    )
    return {
        "NLVR2: by the sentence": guess(
            train, val, "label", lambda row: row["sentence"], lambda _: 0
        )
    }


def caption_guesses(folder: Path) -> dict[str, float]:
    """CIDEr of captions that were not written to the held-out images."""
    train, val = (_captions(folder / f"captions_{split}.json") for split in ("train", "val"))
    count = Counter(text for texts in train.values() for text in texts)
    some = dict(list(train.items())[:FIT])

    def score(references: dict[int, list[str]], texts: Sequence[str]) -> float:
        results = dict(zip(references, texts, strict=True))
        return 100 * caption_scores(references, results)["CIDEr"]

    frequent = [text for text, _ in count.most_common(CANDIDATES)]
    best = max(frequent, key=lambda text: score(some, [text] * len(some)))
    everything = list(count.elements())
    drawn = np.random.default_rng(0).integers(len(everything), size=len(val))
    return {
        f"captioning: {best!r} of each image": score(val, [best] * len(val)),
        "captioning: a caption of training": score(val, [everything[i] for i in drawn]),
    }


def _captions(path: Path) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for row in json.loads(path.read_text())["annotations"]:
        found[row["image_id"]].append(row["caption"])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shape_guesses", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that make-shapes wrote")
    folder = parser.parse_args().data / "annotations"
    print("| guess | accuracy, or 100 x CIDEr |\n|---|---|")
    for make in (question_guesses, statement_guesses, caption_guesses):
        for name, score in make(folder).items():
            print(f"| {name} | {score:.1f} |")


if __name__ == "__main__":
    main()
