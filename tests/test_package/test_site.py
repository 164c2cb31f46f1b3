"""The documentation as a site: every page is in it, and links lead where they lead on GitHub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mkdocs", reason="needs the extra mmbeit3[docs]")
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return import_module("site_hook")


@pytest.mark.parametrize(
    ("link", "source", "place", "expected"),
    [
        ("[a](docs/python.md#masks)", "README.md", "index.md", "[a](python.md#masks)"),
        ("![a](docs/images/a.jpg)", "README.md", "index.md", "![a](images/a.jpg)"),
        ("[a](../README.md)", "docs/vqa.md", "vqa.md", "[a](index.md)"),
        (
            "[a](../configs/beit3_vqa/README.md#x)",
            *("docs/vqa.md", "vqa.md", "[a](configs/beit3_vqa.md#x)"),
        ),
        (
            "[a](../../docs/vqa.md)",
            *("configs/beit3_vqa/README.md", "configs/beit3_vqa.md", "[a](../vqa.md)"),
        ),
        ("[`a`](../mmbeit3/cli.py)", "docs/vqa.md", "vqa.md", "`a`"),  # no page: its text stays
        ("[a](#b) [c](https://d)", "docs/vqa.md", "vqa.md", "[a](#b) [c](https://d)"),
        ("[a](absent.md)", "docs/vqa.md", "vqa.md", "[a](absent.md)"),  # for the build to refuse
        ("```\n[a](docs/vqa.md)\n```", *("README.md", "index.md", "```\n[a](docs/vqa.md)\n```")),
    ],
)
def test_links_become_those_of_the_site(
    hook: ModuleType, link: str, source: str, place: str, expected: str
) -> None:
    assert hook.site_links(link, source, place) == expected


def test_every_page_has_a_place_in_the_navigation(hook: ModuleType) -> None:
    listed = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", SETTINGS, re.M)
    docs = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert sorted(listed) == sorted(
        [*docs, *hook.OUTSIDE, *(f"api/{name}.md" for name in hook.API)]
    )


def test_what_the_api_pages_name_is_there(hook: ModuleType) -> None:
    for _, names in hook.API.values():
        for name in names:
            module, _, attribute = name.rpartition(".")
            if not hasattr(import_module(module), attribute):
                import_module(name)


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    for name in ("docs", "configs", "weights", "mmbeit3", "README.md", "CONTRIBUTING.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mkdocs.yml").write_text(SETTINGS)
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n[a](docs/vqa.md#nowhere)\n")
    (tmp_path / "docs").unlink()
    (tmp_path / "docs").mkdir()
    for file in (ROOT / "docs").iterdir():
        target = tmp_path / "docs" / file.name
        if file.suffix == ".py":  # it looks for the others from where it is
            target.write_text(file.read_text())
        else:
            target.symlink_to(file)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "vqa.md#nowhere" in done.stderr, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert "changelog.md" in warning
