"""What all reports share: names of results, the choice of pictures, and the two files."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from mmbeit3.inference.inferencer import default_workers
from mmbeit3.inference.pipeline import map_ahead, write_json
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.image_reading import read_image
from mmbeit3.utils.whole_files import make_folder, write_whole
from mmbeit3.visualization.interactive_page import interactive_page, page_packages
from mmbeit3.visualization.picture_page import thumbnail

FILES = ("report.html", "report.json")
SIDE = 400  # pixels of the longer side of a picture
MAX_PICTURES = 9_000_000  # bytes of all pictures; in the page they take a third more
WORST, BEST, OF_CELL = 24, 12, 2  # images that get a picture: of all, of all, of each cell
Cell = tuple[int, int]
"""Class of the truth and class of the result."""


def begin(out_dir: str | Path) -> None:
    """Make sure that a report can be written, before there is work to lose."""
    page_packages("the report")
    make_folder(Path(out_dir))


def write_report(
    out_dir: str | Path,
    template: str,
    title: str,
    note: str,
    page: Mapping[str, Any],
    content: Mapping[str, Any],
) -> None:
    """Write ``report.html`` and ``report.json``.

    Args:
        out_dir: Where they go.
        template: Of the page.
        title: What stands above.
        note: A line below.
        page: What its script reads.
        content: What is for a program.
    """
    html, numbers = (Path(out_dir) / name for name in FILES)
    write_whole(html, interactive_page(template, title, note, page))
    write_json(numbers, content)
    print(f"the report is {html}, its numbers are in {numbers}")


def result_names(paths: Sequence[str | Path]) -> list[str]:
    """What tells files apart: the end of their paths, as short as it may be."""
    parts = [Path(path).with_suffix("").parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{Path(path).stem} ({number})" for number, path in enumerate(paths, 1)]


def read_pictures(
    paths: Sequence[str | Path | None], wanted: Iterable[int], side: int = SIDE
) -> dict[int, list[str]]:
    """Read small pictures of files; those that cannot be read lack.

    Args:
        paths: The files by their index.
        wanted: Indices, those that are to get a picture first in front.
        side: Pixels of the longer side. Defaults to :data:`SIDE`.
    """

    def read(index: int) -> list[bytes] | None:
        path = paths[index]
        if path is None or not Path(path).is_file():
            return None
        try:
            return [thumbnail(read_image(path), side)]
        except InputError:
            return None

    indices = list(dict.fromkeys(wanted))
    drawn = draw_pictures(indices, read)
    known = [path for path in map(paths.__getitem__, indices) if path is not None]
    if known and not drawn:
        warn(f"the report has no picture: of the {len(known)} images none can be read: {known[0]}")
    return drawn


def choose_images(
    results: Sequence[tuple[Sequence[Mapping[Cell, int]], Sequence[float], Sequence[float]]],
) -> list[int]:
    """List images in the order in which they get a picture, as long as there is room.

    Args:
        results: Of each result, for each image the cells of the confusion, how much is wrong, and
            how much is right.

    Returns:
        Their indices.
    """
    chosen: dict[int, None] = {}
    by_cell: list[list[int]] = []
    for cells, wrong, right in results:
        worst = sorted(range(len(cells)), key=lambda index: (-wrong[index], index))
        best = sorted(range(len(cells)), key=lambda index: (wrong[index], -right[index]))
        chosen |= dict.fromkeys([*worst[:WORST], *best[:BEST]])
        count, of_cell = Counter[Cell](), dict[Cell, list[tuple[int, int]]]()
        for index, own in enumerate(cells):
            for cell, number in own.items():
                count[cell] += number
                of_cell.setdefault(cell, []).append((-number, index))
        by_cell += [
            [index for _, index in sorted(of_cell[cell])[:OF_CELL]]
            for cell, _ in count.most_common()
        ]
    for indices in by_cell:
        chosen |= dict.fromkeys(indices)
    return list(chosen)


def draw_pictures(
    wanted: Sequence[int], draw: Callable[[int], Sequence[bytes] | None]
) -> dict[int, list[str]]:
    """Draw until there is no more room.

    Args:
        wanted: What is to be drawn, in this order.
        draw: Gives the JPEG files of one, or None. Called from threads.

    Returns:
        The pictures as base64.
    """
    drawn: dict[int, list[str]] = {}
    size = 0
    with ThreadPoolExecutor(default_workers()) as pool:
        waiting = iter(wanted)
        # few at a time, so that none is drawn for which there is no room
        while size < MAX_PICTURES and (some := list(islice(waiting, 16))):
            for index, jpegs in zip(some, map_ahead(pool, draw, some, 16), strict=True):
                if jpegs is not None and size < MAX_PICTURES:
                    drawn[index] = [base64.b64encode(jpeg).decode() for jpeg in jpegs]
                    size += sum(map(len, jpegs))
    return drawn
