"""Mutated files of each format of texts are read, or refused by an error that a user can read."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmbeit3.datasets import (
    CocoCaptionsDataset,
    ImageTextDataset,
    ImageTextTableDataset,
    KarpathyDataset,
    NLVR2Dataset,
    NLVR2TableDataset,
    VQATableDataset,
)
from mmbeit3.utils import InputError

from .fuzzing import time_limit

NUM_MUTATIONS = 400
VALUES = (
    *(0, 1, -1, 0.5, 1e300, 2**63, 10**400, float("nan"), True, None, "", " ", "7", "train"),
    *("\ud800", "a\0b", "../x.png", "x" * 5000, "cafÃ©", [], {}, [[]], [None], {"raw": 1}),
)
COCO = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in range(3)],
    "annotations": [{"id": j, "image_id": j % 3, "caption": f"a {j}"} for j in range(6)],
}
KARPATHY = {
    "images": [
        {
            "filepath": "val2014",
            "filename": f"{i}.png",
            "split": ("train", "restval", "test")[i % 3],
            "cocoid": i,
            "sentences": [{"raw": f"a {j}", "sentid": 2 * i + j} for j in range(2)],
        }
        for i in range(6)
    ]
}
ROWS = [{"image": f"{i}.png", "text": f'one, "two" {i}'} for i in range(4)]
LINES = "\n".join(map(json.dumps, ROWS))
CSV = "image,text\n" + "".join(f'{i}.png,"one, ""two"" {i}"\n' for i in range(4))
NLVR2 = [
    {"identifier": f"dev-{i}-0-1", "sentence": f"a {i}", "label": "True", "directory": i}
    for i in range(4)
]
QUESTIONS = [{"image": f"{i}.png", "question": f"a {i}?", "answer": "b"} for i in range(4)]
PAIRS = "left,right,text,label\n" + "".join(f"{i}.png,x.png,a {i},False\n" for i in range(4))
FORMATS = {
    "coco": (CocoCaptionsDataset, "captions.json", COCO, {}),
    "karpathy": (KarpathyDataset, "dataset_coco.json", KARPATHY, {"split": "train"}),
    "lines": (ImageTextTableDataset, "t.jsonl", ROWS, {}),
    "csv": (ImageTextTableDataset, "t.csv", CSV, {}),
    "questions": (VQATableDataset, "t.jsonl", QUESTIONS, {}),
    "statements": (NLVR2Dataset, "dev.json", NLVR2, {}),
    "pairs": (NLVR2TableDataset, "t.csv", PAIRS, {}),
}
STATED = (NLVR2Dataset, NLVR2TableDataset)  # of two images, and named by an identifier


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def mutated_values(content: Any, draw: random.Random) -> Any:
    content = copy.deepcopy(content)
    for _ in range(draw.randint(1, 3)):
        node, key = draw.choice(list(places(content)))
        if isinstance(node, dict) and draw.random() < 0.2:
            del node[key]
        else:
            node[key] = draw.choice(VALUES)
    return content


def mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.choice((0, 1, 1, 5, 40)))
        new = draw.choice((b"", b"\0", b"\xff", b'"', b"\n", b",", b"{", b"[[[[", b"\xc3", b"\r"))
        content = content[:start] + new + content[end:]
    return content


def written(content: Any, name: str) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if name.endswith(".jsonl") or name == "dev.json":
        return "\n".join(map(json.dumps, content)).encode()
    return json.dumps(content).encode()


@pytest.mark.parametrize("name", FORMATS)
def test_mutations_are_read_or_refused(name: str, tmp_path: Path) -> None:
    kind, file, content, options = FORMATS[name]
    draw = random.Random(0)
    path = tmp_path / file
    num_refused = 0
    for mutation in range(NUM_MUTATIONS):
        if isinstance(content, str) or mutation % 2:
            path.write_bytes(mutated_bytes(written(content, file), draw))
        else:
            path.write_bytes(written(mutated_values(content, draw), file))
        dataset: ImageTextDataset = kind(
            ann_file=str(path), data_prefix={"img": "images"}, lazy_init=True, **options
        )
        with time_limit(mutation):
            try:
                items = dataset.load_data_list()
            except InputError as error:
                num_refused += 1
                assert str(path) in str(error) and len(str(error)) < 5000
                continue
        for item in items:
            if FORMATS[name][0] in STATED:
                assert isinstance(item["identifier"], str)
            else:
                assert isinstance(item["image_id"], int)
            paths = item["img_path"]
            assert all(isinstance(one, str) for one in ([paths] if type(paths) is str else paths))
            assert all(isinstance(text, str) and text.strip() for text in item["texts"])
            assert len(item["texts"]) == len(item["text_ids"]) == 1
        numbers = [item["text_ids"][0] for item in items]
        assert items and len(set(numbers)) == len(numbers)
    assert 0.2 * NUM_MUTATIONS < num_refused < NUM_MUTATIONS
