"""Lists of questions and of statements about images, as a run over a folder takes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from mmbeit3.datasets.checks.captions import path_problem, text_problem
from mmbeit3.datasets.checks.coco import Report, raise_on_errors, shortened
from mmbeit3.datasets.table_rows import DELIMITERS, LINES, read_rows
from mmbeit3.inference.asked_images import AskedSource, LastImages
from mmbeit3.inference.image_list import (
    OVERLAYS,
    NotListed,
    Source,
    check_outside,
    image_root,
    list_sources,
    name_files,
)
from mmbeit3.utils import InputError
from mmbeit3.utils.image_folders import check_exists
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_list import read_texts

TABLES = (*DELIMITERS, *LINES)


def ask_images(
    path: str | Path, folder: Path, out_dir: Path, overlays: bool, not_listed: NotListed
) -> list[AskedSource]:
    """Ask questions about the images of a folder.

    Args:
        path (str | Path): A text file with one question a line, each of which is asked about each
            image; or a table with the columns ``image``, the path below the folder, and
            ``question``.
        folder (Path): The folder, or the only image.
        out_dir (Path): Where results go.
        overlays (bool): Whether a picture is written of each question.
        not_listed (NotListed): Takes what is left out of the folder.

    Returns:
        list[AskedSource]: The questions, in the order of the images or of the table.

    Raises:
        InputError: There are no images, or the file cannot be used; each entry that is wrong is
            counted.
    """
    root = image_root(folder)
    if Path(path).suffix.lower() in TABLES:
        check_exists(folder)
        check_outside(folder, [out_dir / OVERLAYS])
        rows = read_asked(path, ("image",), "question", root, "questions")
        asked = [(files[0], text) for files, text in rows]
    else:
        images = list_sources(folder, out_dir, overlays=False, not_listed=not_listed)
        texts = read_texts(path, "questions")
        asked = [(image.file_name, text) for image in images for text in texts]
    counts: dict[str, int] = {}
    names = []
    for file, _ in asked:
        counts[file] = counts.get(file, 0) + 1
        names.append(Path(file).with_name(f"{Path(file).stem}.{counts[file]}{Path(file).suffix}"))
    pictures: list = name_files(names, OVERLAYS, ".jpg") if overlays else [None] * len(names)
    last = LastImages()
    return [
        AskedSource.of(number, (Source(number, root / file, file, picture),), text, last)
        for number, ((file, text), picture) in enumerate(zip(asked, pictures, strict=True), 1)
    ]


def state_pairs(path: str | Path, folder: Path) -> list[AskedSource]:
    """State something about pairs of images.

    Args:
        path (str | Path): A table with the columns ``left`` and ``right``, the paths of two images
            below the folder, and ``text``.
        folder (Path): The folder, or one of the images in it.

    Returns:
        list[AskedSource]: The statements, in the order of the table.

    Raises:
        InputError: As of :func:`ask_images`.
    """
    if Path(path).suffix.lower() not in TABLES:
        raise InputError(
            f"{path} has the suffix {Path(path).suffix!r}; expected one of {', '.join(TABLES)}, a "
            "table with the columns left, right and text",
            "statements",
        )
    root, last = image_root(folder), LastImages()
    rows = read_asked(path, ("left", "right"), "text", root, "statements")
    return [
        AskedSource.of(number, tuple(Source(number, root / f, f, None) for f in files), text, last)
        for number, (files, text) in enumerate(rows, 1)
    ]


def read_asked(
    path: str | Path, images: Sequence[str], text: str, root: Path, argument: str
) -> list[tuple[list[str], str]]:
    """Read a table of images and texts, and look for the images.

    Args:
        path (str | Path): A CSV file with a header, or JSON Lines.
        images (Sequence[str]): Columns, or keys, of paths below the folder.
        text (str): The column, or key, of the text.
        root (Path): The folder.
        argument (str): The option that names the table, for messages.

    Returns:
        list: The paths and the text of each row.

    Raises:
        InputError: The file cannot be used; each entry that is wrong is counted.
    """
    report = Report()
    exists = cache(os.path.isfile)
    found = []
    columns = (*images, text)
    try:
        if not os.path.exists(path):
            raise InputError(f"there is no file {path}{describe_similar(str(path))}")
        cures = f"name them {', '.join(columns)}", "save it with commas"
        rows = read_rows(str(path), {name: name for name in columns}, report, cures=cures)
        for line, row in rows:
            files = [row[name] for name in images]
            if problem := _row_problem(row, images, text, root, exists, report):
                report.error(f"line {line}: {problem}")
            else:
                found.append(([Path(file).as_posix() for file in files], row[text].strip()))
        if not found and not report.num_errors:
            report.error("it has no rows")
        raise_on_errors(report, str(path), f"list of {argument}")
    except InputError as error:
        raise InputError(str(error), argument) from error
    return found


def _row_problem(
    row: dict,
    images: Sequence[str],
    text: str,
    root: Path,
    exists: Callable[[str], bool],
    report: Report,
) -> str | None:
    for name in images:
        file = row[name]
        if problem := path_problem(file, name):
            return problem
        # What is written for an image has its path: one that leaves the folder would leave out_dir.
        if Path(file).is_absolute() or ".." in Path(file).parts:
            return f"{name} is {shortened(file)}, expected the path of an image below {root}"
        place = os.path.join(root, file)
        if not exists(place):
            said = report.num_errors < report.max_examples
            similar = describe_similar(place, str(root)) if said else ""
            return f"there is no image {place}{similar}"
    return text_problem(row[text], text)
