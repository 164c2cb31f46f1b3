"""Sentences about a class, for classifiers that read its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mmbeit3.utils import InputError
from mmbeit3.utils.text_list import read_entries

SLOT = "{}"
# Our own; CLIP's 80, which open_clip has, can be given as a file.
TEMPLATES = (
    "a photo of a {}.",
    "a picture that shows a {}.",
    "a close view of a {}.",
    "a {} seen from far away.",
    "a small {} in a photo.",
    "a blurred photo of a {}.",
    "a drawing of a {}.",
    "several of the kind {}.",
)


def read_templates(templates: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Read and check templates.

    Args:
        templates (str | Path | Sequence[str]): Sentences in which ``{}`` stands for the name of the
            class, a file with one a line, or "default" for :data:`TEMPLATES`.

    Returns:
        tuple[str, ...]: The sentences.

    Raises:
        InputError: There are none, one has no ``{}`` or several, or the file cannot be read.
    """
    origin = "templates"
    if isinstance(templates, (str, Path)):
        if templates == "default":
            return TEMPLATES
        if SLOT in str(templates):
            raise InputError(
                f"templates is the sentence {templates!r}; expected a list: [{templates!r}]"
            )
        expected = f"a sentence a line, such as {TEMPLATES[0]!r}, or 'default'"
        entries = read_entries(templates, "templates", expected)
        origin, templates = str(templates), [entry.strip() for entry in entries if entry.strip()]
    if not isinstance(templates, Iterable):
        raise InputError(f"templates is {templates!r}; expected a list such as ['{{}}']")
    found = tuple(templates)
    if not found:
        raise InputError(f"{origin} has no template; expected sentences such as {TEMPLATES[0]!r}")
    for number, text in enumerate(found, 1):
        if not isinstance(text, str) or text.count(SLOT) != 1:
            raise InputError(
                f"{origin}, number {number} is {text!r}; expected a sentence with {SLOT} once, "
                f"where the name of the class goes, such as {TEMPLATES[0]!r}"
            )
    return found
