"""Checks of images with their captions: what cannot be used, and what looks like a mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import path as osp
from typing import Any

from mmbeit3.datasets.checks.coco import Report, is_text, shortened

MANY = re.compile(r"[^\x00-\x7f]{2,}")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass
class CaptionedImage:
    """An image and its texts, as an annotation file has them.

    Attributes:
        image_id: A number that no other image of the file has; results of others may have names.
        file: Its path below the folder of the images.
        place: Where it stands in the file, for messages.
        texts: Its captions.
        text_ids: A number for each, that no other text of the file has.
        width: Of the image in pixels, where the file says it.
        height: The same.
        domain: The kind of image, where the file has kinds, as NoCaps has.
    """

    image_id: int | str
    file: str
    place: str
    texts: list[str] = field(default_factory=list)
    text_ids: list[int] = field(default_factory=list)
    width: int | None = None
    height: int | None = None
    domain: str | None = None

    @property
    def files(self) -> list[str]:
        """The image."""
        return [self.file]

    @property
    def lines(self) -> list[str]:
        """The captions."""
        return self.texts


def check_captions(
    images: Sequence[CaptionedImage], report: Report, required: bool = True
) -> list[CaptionedImage]:
    """Look at images whose entries are well-formed.

    An error is that nothing is left. Warnings are images without a caption, one file under two ids,
    a caption twice at one image, and text that was decoded by the wrong encoding.

    Args:
        images: The images.
        report: Takes the errors and warnings.
        required: Whether images need a caption. Defaults to True.

    Returns:
        The images that have a caption; all if none is required.
    """
    places: dict[str, str] = {}
    for image in images:
        first = places.setdefault(osp.normpath(image.file), image.place)
        if first != image.place:
            report.warn(f"{image.place}: {first} is {shortened(image.file)}, too")
        if required and not image.texts:
            report.warn(f"{image.place}: {shortened(image.file)} has no caption, and is left out")
        seen: set[str] = set()
        for text, number in zip(image.texts, image.text_ids, strict=True):
            place = f"{image.place}, the caption with id {number}"
            if text in seen:
                report.warn(f"{place}: {shortened(text)} is there twice")
            seen.add(text)
            if doubt := find_wrong_encoding(text):
                report.warn(f"{place}: {shortened(text)} {doubt}")
    if not required:
        return list(images)
    captioned = [image for image in images if image.texts]
    if not captioned and not report.num_errors:
        report.error(f"no image has a caption: the file names {len(images)} images")
    return captioned


def text_problem(text: Any, key: str = "caption") -> str | None:
    """What keeps a value from being a caption.

    Args:
        text: The value.
        key: What the file calls it. Defaults to 'caption'.
    """
    if not isinstance(text, str):
        return f"{key} is {shortened(text)}, expected a text"
    if not is_text(text):
        return (
            f"{key} is {shortened(text)}, which has a NUL or half a character (a lone surrogate): "
            "write the text anew, in UTF-8"
        )
    if not text.strip():
        return f"{key} is {text!r}, expected a word at least: write one, or leave the entry out"
    return None


def path_problem(file: Any, key: str) -> str | None:
    """What keeps a value from being the path of an image.

    Args:
        file: The value.
        key: What the file calls it.
    """
    if not is_text(file) or not file.strip():
        return f"{key} is {shortened(file)}, expected the path of an image"
    return None


def find_wrong_encoding(text: str) -> str | None:
    """Say how a text looks as if it was decoded by the wrong encoding, or None.

    UTF-8 that was read as Windows-1252 or Latin-1 gives signs that are UTF-8 again when they are
    written in that encoding, which other texts practically never are.

    Args:
        text: The text.
    """
    if text.isascii():
        return None
    if REPLACEMENT in text:
        return (
            "has U+FFFD where bytes were no UTF-8 when it was read: make the file anew from its "
            "source, by the encoding that the source has"
        )
    repaired = MANY.sub(lambda found: _repaired(found[0]), text)
    if repaired != text:
        return (
            f"looks like UTF-8 that was read as Windows-1252, of {shortened(repaired)}: make the "
            "file anew, reading the source as UTF-8"
        )
    return None


def describe_long(texts: Sequence[str], lengths: Sequence[int], limit: int) -> str | None:
    """Count the texts that a model cuts, and name the longest; None if there are none.

    Args:
        texts: The texts.
        lengths: The tokens of each.
        limit: How many a model takes.
    """
    number = sum(length > limit for length in lengths)
    if not number:
        return None
    length, text = max(zip(lengths, texts, strict=True))
    return (
        f"{number:,} of {len(texts):,} texts are longer than {limit} tokens, and are cut there; "
        f"the longest has {length}: {shortened(text)}. Shorten them, or raise max_length of "
        "model.data_preprocessor and max_tokens of its encoder"
    )


def _repaired(signs: str) -> str:
    """What signs were before they were decoded by the wrong encoding; themselves if they fit."""
    try:
        return b"".join(map(_byte, signs)).decode()
    except UnicodeError:
        return signs


def _byte(sign: str) -> bytes:
    try:
        return sign.encode("cp1252")
    except UnicodeEncodeError:  # five bytes have no sign there, and stay what they are
        return sign.encode("latin-1")
