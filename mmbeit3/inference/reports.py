"""Reports on files of results, each by what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmbeit3.inference.answer_report import report_answer_files
from mmbeit3.inference.caption_report import report_caption_files
from mmbeit3.inference.detection_report import report_detections
from mmbeit3.inference.segmentation_report import report_label_maps
from mmbeit3.utils import InputError, listed

BEGINNING = 1 << 16  # bytes of a file that tell what it holds


class Kind(NamedTuple):
    """What results may be: in words, keys of an entry, the report, and its own options."""

    name: str
    keys: tuple[str, ...]
    report: Callable[..., dict[str, Any]]
    options: tuple[str, ...]


LABEL_MAPS = Kind("folders of label maps", (), report_label_maps, ("classes", "reduce_zero_label"))
DETECTIONS = Kind("detections", ("category_id",), report_detections, ("iou_type", "score_thr"))
ANSWERS = Kind("answers", ("question_id", "answer"), report_answer_files, ("questions",))
CAPTIONS = Kind("captions", ("image_id", "caption"), report_caption_files, ("split",))
OF_JSON = (DETECTIONS, ANSWERS, CAPTIONS)


def report(
    results: Sequence[str | Path],
    ground_truth: str | Path,
    out_dir: str | Path,
    images: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write a page on results, ``report.html``, and its numbers, ``report.json``.

    Args:
        results: Files or folders of one kind; the others are compared with the first.
        ground_truth: What they are compared with.
        out_dir: Where the two files go; made if absent.
        images: Folder of the images. Defaults to None: the page does not show them.
        **options: Those of the report of this kind that are not None.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: The results are of several kinds, or of none; or a file cannot be used.
    """
    kinds = [_find_kind(Path(path)) for path in results]
    kind = kinds[0]
    for path, other in zip(results, kinds, strict=True):
        if other != kind:
            raise InputError(
                f"{results[0]} holds {kind.name}, {path} {other.name}; expected results of one kind"
            )
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in kind.options:
            raise InputError(f"it is not for {kind.name}; leave it out", name)
    if kind != LABEL_MAPS and Path(ground_truth).is_dir():
        raise InputError(
            f"{results[0]} holds {kind.name}, and the ground truth {ground_truth} is a folder; "
            "expected a file of annotations, or for label maps a folder of them as results, too"
        )
    return kind.report(results, ground_truth, out_dir, images, **given)


def _find_kind(path: Path) -> Kind:
    if path.is_dir():
        return LABEL_MAPS
    if path.suffix.lower() in (".csv", ".tsv"):
        return CAPTIONS
    with path.open("rb") as file:
        text = file.read(BEGINNING).decode(errors="replace").lstrip("\ufeff \t\r\n")
    if text.startswith("[") and not text[1:].strip(" \t\r\n]"):
        raise InputError(f"{path} is an empty list: there is not one result in it")
    found = [kind for kind in OF_JSON if all(f'"{key}"' in text for key in kind.keys)]
    if not text.startswith("[") or not found:
        expected = listed([f"{kind.name} ({', '.join(kind.keys)})" for kind in OF_JSON])
        raise InputError(
            f"{path} is no list of results; expected one of {expected}, or a folder of label maps"
        )
    return found[0]
