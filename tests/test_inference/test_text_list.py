"""Lists of texts that a user writes, in files of any content."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbeit3.inference.text_list import read_texts
from mmbeit3.utils import InputError


def test_many_texts_are_compared_at_once(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(map(str, range(200_000))))
    assert len(read_texts(file, "texts")) == 200_000


@pytest.mark.parametrize(
    "content", ['{"a": 1}', '["a", 1]', "[", "[" * 100_000, "[" + "1" * 5000 + "]"], ids=len
)
def test_json_that_is_no_list_of_texts_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "texts.json"
    file.write_text(content)
    with pytest.raises(InputError, match="expected a list of texts, "):
        read_texts(file, "texts")
