from __future__ import annotations

from pathlib import Path

import pytest

from mmbeit3.datasets import read_class_list
from mmbeit3.datasets.palette import make_palette
from mmbeit3.utils import InputError


def _file(tmp_path: Path, text: str, name: str = "classes.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_the_line_number_is_the_index(tmp_path: Path) -> None:
    names, palette = read_class_list(_file(tmp_path, "sky\ntraffic light\r\n wall \n\n"))
    assert names == ("sky", "traffic light", "wall")
    assert palette == make_palette(3)


def test_a_color_may_follow_the_name(tmp_path: Path) -> None:
    names, palette = read_class_list(_file(tmp_path, "sky #0080fF\nC#\ntraffic light\t#000102\n"))
    assert names == ("sky", "C#", "traffic light")
    assert palette == [(0, 128, 255), make_palette(3)[1], (0, 1, 2)]


def test_a_json_list_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = _file(tmp_path, '["sky #010203", "wall"]', "classes.json")
    assert read_class_list(path)[0] == ("sky", "wall")
    assert read_class_list(path).palette[0] == (1, 2, 3)
    assert read_class_list(_file(tmp_path, "\ufeffsky\n")).names == ("sky",)
    marked = _file(tmp_path, '\ufeff["sky"]', "marked.json")
    assert read_class_list(marked).names == ("sky",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky\n\nwall\n", r"classes.txt, line 2 is empty"),
        ("sky\nwall\nsky\n", r"has 'sky' twice, in line 1 and 3"),
        ("sky #ff0\n", r"line 1 is 'sky #ff0'; expected a name, or a name and #rrggbb"),
        ("sky\n#ff0000\n", r"line 2 is '#ff0000'; expected a name"),
        ("\n \n", "holds no text; expected one class a line"),
        ("\n".join(map(str, range(256))), "names 256 classes; 8-bit label maps can tell 255"),
    ],
)
def test_entries_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_class_list(_file(tmp_path, text))


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file .*absent.json; .*: check data_root and"):
        read_class_list(tmp_path / "absent.json")
    with pytest.raises(InputError, match="holds something else; expected a list"):
        read_class_list(_file(tmp_path, '{"sky": 0}', "a.json"))
    with pytest.raises(InputError, match=r"b.json, entry 2 is empty"):
        read_class_list(_file(tmp_path, '["sky", ""]', "b.json"))
    with pytest.raises(
        InputError, match=r"c.json is not valid JSON: line 1, column 8: .*; expected"
    ):
        read_class_list(_file(tmp_path, '["sky",]', "c.json"))
    for number, text in enumerate(["[" + "1" * 5000 + "]", "[" * 100_000]):
        with pytest.raises(InputError, match=r"d.json is no list: .*; expected a list"):
            read_class_list(_file(tmp_path, text, f"{number}d.json"))
    (tmp_path / "latin.txt").write_bytes(b"stra\xdfe\n")
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        read_class_list(tmp_path / "latin.txt")
