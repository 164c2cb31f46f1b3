"""What the documentation names is there: pages, anchors, files, commands, options, names.

Addresses of the web are left alone: no test needs a network.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
from mmengine.registry import Registry

from benchmarks.__main__ import build_parser as build_benchmarks_parser
from mmbeit3 import registry
from mmbeit3.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "configs").glob("*/README.md"),
    ]
)
# The changelog names what is gone, too.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
FOLDERS = r"(?:tools|configs|docs|tests|benchmarks|mmbeit3|requirements|\.github|\.ci)"
FILE = re.compile(rf"{FOLDERS}/[\w./-]+")
CONFIG = re.compile(r"(?:cascade|mask2former|upernet)[\w-]*_beit3[\w{},-]*_[\w{},-]*\w}?")
NAME = re.compile(r"mmbeit3(?:\.[A-Za-z_]\w*)+")
PLACEHOLDER = re.compile(r"NAME|CONFIG|[{*<]|\.\.\.")
SCRIPT = re.compile(r'run_script\("([\w-]+)"\)')
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
# Of programs that are not ours.
FOREIGN = {
    *("--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--master_port"),
    *("--standalone", "--no-deps", "--upgrade", "--user", "--local-dir", "--signal"),
    "--build-arg",
}


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *#*$", prose(page), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{n}" if n else slug for slug, last in found.items() for n in range(last + 1)}


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The words of every command line, and whether it is a whole one."""
    text = page.read_text(encoding="utf-8")
    for language, code in FENCE.findall(text):
        if language in ("bash", "sh", "console", "shell"):
            for line in code.replace("\\\n", " ").splitlines():
                yield from ((part, True) for part in parts(shlex.split(line, comments=True)))
    starts = ("mmbeit3 ", "python ", "torchrun ", "bash ", "make ", ".venv/")
    for code in INLINE.findall(FENCE.sub("", text)):
        if code.startswith(starts):
            try:
                words = shlex.split(code)
            except ValueError:  # an apostrophe: no command
                continue
            yield from ((part, False) for part in parts(words))


def parts(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line, without what sets variables."""
    part: list[str] = []
    for word in [*words, ";"]:
        if word in (";", "&&", "|"):
            while part and re.match(r"\w+=", part[0]):
                del part[0]
            if part:
                yield part
            part = []
        else:
            part.append(word)


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command)
    import_module(f"mmbeit3.commands.{command.replace('-', '_')}").add_arguments(parser)
    return parser


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", parser.format_help()))


def split(words: list[str]) -> tuple[argparse.ArgumentParser | None, list[str]]:
    """The parser of a command line of ours, and its arguments; None for one of another program."""
    program = words[0].rpartition("/")[2]
    if program in ("python", "python3", "torchrun", "bash"):
        for index, word in enumerate(words):
            following = words[index + 1 : index + 2]
            if word == "-m" and following == ["mmbeit3"]:
                return split(words[index + 1 :])
            if word == "-m" and following == ["benchmarks"]:
                return build_benchmarks_parser(), words[index + 2 :]
            if re.fullmatch(r"tools/[\w/]+\.py", word):
                script = SCRIPT.search((ROOT / word).read_text())
                return (parser_of(script[1]) if script else None), words[index + 1 :]
            if match := re.fullmatch(r"tools/(dist|slurm)_(train|test)\.sh", word):
                # PARTITION JOB_NAME, GPUS and WORK_DIR are of the script itself
                of_script = {
                    "dist_train": [1],
                    "dist_test": [2],
                    "slurm_train": [0, 1, 3],
                    "slurm_test": [0, 1],
                }
                left_out = of_script[f"{match[1]}_{match[2]}"]
                rest = words[index + 1 :]
                rest = [given for place, given in enumerate(rest) if place not in left_out]
                return parser_of(match[2]), rest
        return None, words[1:]
    if program == "mmbeit3" and len(words) > 1 and not words[1].startswith("-"):
        assert words[1] in COMMANDS, f"there is no command {words[1]!r}"
        if words[1] == "run":  # options are those of another tool
            return None, words[2:]
        return parser_of(words[1]), words[2:]
    return None, words[1:]


@each(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    problems = []
    for groups in LINK.findall(prose(page)):
        link = "".join(groups)
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        if not target.exists():
            problems.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            problems.append(f"{link}: no such heading")
    assert not problems


@each(CURRENT)
def test_commands_can_be_run_as_written(
    page: Path, capsys: pytest.CaptureFixture, subtests: pytest.Subtests
) -> None:
    for words, is_whole in commands(page):
        with subtests.test(shlex.join(words)):
            if words[0] == "make":
                assert set(words[1:]) <= TARGETS | {w for w in words if "=" in w}
                continue
            parser, arguments = split(words)
            if parser is None:
                continue
            for word in arguments:
                if word.startswith("--"):
                    assert word.partition("=")[0] in options_of(parser), word
            if is_whole and not any("..." in word for word in arguments):
                try:
                    parser.parse_args(arguments)
                except SystemExit:
                    pytest.fail(capsys.readouterr().err)


@each(CURRENT)
def test_options_are_those_of_a_command(page: Path) -> None:
    known = FOREIGN | options_of(build_benchmarks_parser())
    known |= {option for command in COMMANDS for option in options_of(parser_of(command))}
    for script in (ROOT / "tools").rglob("*.py"):
        known |= set(re.findall(r'"(--[\w-]+)"', script.read_text()))
    named = {code.split()[0].partition("=")[0] for code in INLINE.findall(prose(page))}
    assert not {name for name in named if re.fullmatch(r"--[\w-]+", name)} - known


@each(CURRENT)
def test_files_are_there(page: Path) -> None:
    codes = INLINE.findall(prose(page))
    for language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        codes += code.split() if language != "python" else []
    missing = []
    for code in codes:
        for word in code.split():
            file = word.partition("::")[0].rstrip(",.:;/")
            if FILE.fullmatch(file) and not PLACEHOLDER.search(word) and not (ROOT / file).exists():
                missing.append(word)
    assert not missing


@each(CURRENT)
def test_configs_are_there(page: Path) -> None:
    known = {path.stem for path in (ROOT / "configs").rglob("*.py")}
    named = {name for code in INLINE.findall(prose(page)) for name in CONFIG.findall(code)}
    assert not {name for text in named for name in spelled_out(text)} - known


def spelled_out(text: str) -> Iterator[str]:
    """The texts that ``a{b,c}`` stands for."""
    pieces = re.split(r"\{([^}]*)\}", text)
    pieces[1::2] = [piece.split(",") for piece in pieces[1::2]]
    yield from map("".join, product(*(p if isinstance(p, list) else [p] for p in pieces)))


@each(CURRENT)
def test_python_names_are_there(page: Path) -> None:
    named = {name for code in INLINE.findall(prose(page)) for name in NAME.findall(code)}
    assert not [name for name in named if not exists(name)]


def exists(name: str) -> bool:
    """Whether a dotted name can be imported, or is a type that configs name."""
    _, *path = name.split(".")
    registries = [each for each in vars(registry).values() if isinstance(each, Registry)]
    if len(path) == 1 and any(each.get(path[0]) for each in registries):
        return True
    found = import_module("mmbeit3")
    for part in path:
        if not hasattr(found, part):
            try:
                import_module(f"{found.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
        found = getattr(found, part)
    return True
