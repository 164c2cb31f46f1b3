"""Lists of texts that a user writes, in files of any content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmbeit3.utils import InputError
from mmbeit3.utils.text_list import read_texts


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, "there is no file .*absent.txt; expected one text a line"),
        ("texts.txt", "\n \n", "holds no text; expected one text a line"),
        ("texts.json", '["", " "]', "holds no text"),
        ("texts.txt", "a\n\nb\n a \n", "has 'a' twice, in line 1 and 4"),
        ("texts.json", '["a", "b", "a"]', "has 'a' twice, in entry 1 and 3"),
    ],
)
def test_files_that_hold_no_list_are_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"^queries: .*{message}"):
        read_texts(tmp_path / name, "queries")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "texts.txt")
    with pytest.raises(InputError, match="^queries: .*is a pipe"):
        read_texts(tmp_path / "texts.txt", "queries")


def test_empty_lines_and_white_space_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n a dog \r\n\n\ta cat\n\n")
    assert read_texts(tmp_path / "texts.txt", "queries") == ["a dog", "a cat"]
