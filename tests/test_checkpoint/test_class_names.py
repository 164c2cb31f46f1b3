from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.utils import InputError


@pytest.mark.parametrize("meta", [None, 3, "x", [1], {}, {"dataset_meta": None}, {"CLASSES": 7}])
def test_a_file_need_not_say_what_it_was_trained_on(meta: Any) -> None:
    assert dataset_meta_of(meta) == {}


@pytest.mark.parametrize("classes", [("a", "b"), ["a", 1], [], None])
def test_names_are_given_as_they_are(classes: Any) -> None:
    found = {"classes": classes, "palette": [(1, 2, 3)], "other": np.ones(2)}
    assert dataset_meta_of({"dataset_meta": found}) == found


@pytest.mark.parametrize(
    "found",
    ["x", 5, [1], ["a"], {"classes": 5}, {"classes": "ab"}, {"classes": {"a": 1}}]
    + [{"classes": [["a"]]}, {"classes": ["x" * 2000]}, {"classes": [1.5]}, {"classes": [None]}],
)
def test_what_names_no_classes_is_refused(found: Any) -> None:
    with pytest.raises(InputError, match=r"meta.dataset_meta names the classes as .* expected a"):
        dataset_meta_of({"dataset_meta": found})
