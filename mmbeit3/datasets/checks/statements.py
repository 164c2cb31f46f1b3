"""Statements about two images, and what keeps an entry from being one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmbeit3.datasets.checks.captions import find_wrong_encoding
from mmbeit3.datasets.checks.coco import Report, shortened

LABELS = {"false": 0, "true": 1}


@dataclass
class Statement:
    """A sentence about two images, as a file has it.

    Attributes:
        identifier: What no other statement has.
        text: It.
        files: The paths of the left and the right image below the folder of the images.
        place: Where it stands in the file, for messages.
        label: Whether it is true, 0 or 1; None where that is not known.
    """

    identifier: str
    text: str
    files: list[str]
    place: str
    label: int | None = None

    @property
    def texts(self) -> list[str]:
        """The sentence."""
        return [self.text]

    @property
    def lines(self) -> list[str]:
        """The sentence, and whether it is true."""
        return [self.text, *([] if self.label is None else [str(bool(self.label))])]


def read_label(label: Any) -> int | None:
    """Read what a file says of a statement: 'True' or 'False', in any case, or JSON's own.

    Args:
        label: The value.

    Returns:
        1 or 0; None if it is neither.
    """
    if isinstance(label, bool):
        return int(label)
    return LABELS.get(label.strip().lower()) if isinstance(label, str) else None


def check_statements(statements: Sequence[Statement], report: Report, required: bool) -> None:
    """Look at statements whose entries are well-formed.

    An error is a label that is missing, a warning text that was decoded by the wrong encoding.

    Args:
        statements: The statements.
        report: Takes the errors and warnings.
        required: Whether they need labels; else all or none may have one.
    """
    has_labels = any(statement.label is not None for statement in statements)
    for statement in statements:
        if statement.label is None and (required or has_labels):
            report.error(
                f"{statement.place}: it has no label; expected 'True' or 'False'"
                + ("" if required else ", as others have one")
            )
        if doubt := find_wrong_encoding(statement.text):
            report.warn(f"{statement.place}: {shortened(statement.text)} {doubt}")
