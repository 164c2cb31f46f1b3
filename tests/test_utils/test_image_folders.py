"""Finding images in folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbeit3.utils import InputError
from mmbeit3.utils.image_folders import find_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_find_images(tmp_path):
    wanted = ["a.jpg", "B.JPeG", "c/d/e.TIFF", "c/f.png", "ü ä.webp"]
    touch(tmp_path, *wanted, "notes.txt", ".hidden.jpg", ".git/g.jpg", "c/._f.png", "jpg")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == sorted(wanted)


def test_find_images_excludes_folders(tmp_path):
    touch(tmp_path, "a.jpg", "out/overlays/a.jpg", "out/b.jpg")
    found = find_images(tmp_path, exclude=[tmp_path / "out" / "overlays"])
    assert [path.name for path in found] == ["a.jpg", "b.jpg"]


def test_find_images_follows_links_once(tmp_path):
    touch(tmp_path, "real/a.jpg", "folder/b.jpg")
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "folder" / "loop").symlink_to(tmp_path / "folder")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path / "folder")]
    assert found == ["folder/b.jpg", "folder/linked/a.jpg"]


def test_find_one_image(tmp_path):
    touch(tmp_path, "a.JPG", "a.txt")
    assert find_images(tmp_path / "a.JPG") == [tmp_path / "a.JPG"]
    with pytest.raises(InputError, match="not an image"):
        find_images(tmp_path / "a.txt")


def test_nothing_to_find(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "absent")
    touch(tmp_path, "a.txt")
    with pytest.raises(InputError, match=r"no images in .* jpg .*png"):
        find_images(tmp_path)
