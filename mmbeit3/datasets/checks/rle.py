"""Whether COCO's compressed run-length codes are valid; the COCO API does not look before it reads.

A code that ends too early makes it read, and one that covers too much write, beyond its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 512  # codes that are decoded together: few enough for the processor's cache
FIRST = 48
CHARACTERS = bytes(range(FIRST, FIRST + 64))  # they hold 6 bits each
MORE, SIGN, BITS = 32, 16, 5  # of these: another follows; the number is negative; the digit
LAST_DIGIT = np.array([*range(SIGN), *range(-SIGN, 0)])  # a sign reaches up from its bit
MAX_DIGITS = 7  # a number of 32 bits has no more


def read_codes(
    codes: Sequence[str | bytes], areas: Sequence[int]
) -> tuple[dict[int, str], np.ndarray]:
    """Say which compressed run-length codes are not those of a mask, and how large the masks are.

    The format is that of ``rleToString`` in the COCO API
    (https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c).

    Args:
        codes: The ``counts`` of N RLE objects.
        areas: Height times width of each.

    Returns:
        What is wrong, by the index of the code, nothing of those that are valid; and the pixels of
        each mask (N,), 0 where something is wrong.
    """
    problems: dict[int, str] = {}
    pixels = np.zeros(len(codes), np.int64)
    for start in range(0, len(codes), CHUNK):
        texts = {
            index: code.encode(errors="surrogatepass") if isinstance(code, str) else code
            for index, code in enumerate(codes[start : start + CHUNK], start)
        }
        if not _all_texts(list(texts.values())):
            found = {index: _text_problem(text) for index, text in texts.items()}
            problems |= {index: problem for index, problem in found.items() if problem}
            texts = {index: text for index, text in texts.items() if not found[index]}
        if texts:
            wrong, masks = _read_numbers(texts, np.array([areas[index] for index in texts]))
            problems |= wrong
            pixels[list(texts)] = masks
    pixels[list(problems)] = 0
    return problems, pixels


def _all_texts(texts: list[bytes]) -> bool:
    """Whether none has a problem, in less time."""
    lasts = b"".join([text[-1:] for text in texts])
    return (
        len(lasts) == len(texts)
        and not b"".join(texts).translate(None, CHARACTERS)
        and not lasts.translate(None, CHARACTERS[:MORE])
    )


def _text_problem(text: bytes) -> str | None:
    if not text:
        return "are empty"
    if text.translate(None, CHARACTERS):
        return "hold a character that does not belong to the format"
    if text[-1] - FIRST & MORE:
        return "end in the middle of a number"
    return None


def _read_numbers(texts: dict[int, bytes], areas: np.ndarray) -> tuple[dict[int, str], np.ndarray]:
    """Decode N codes at once: a loop over the characters takes minutes for a large data set."""
    characters = np.frombuffer(b"".join(texts.values()), np.uint8) - FIRST
    has_more = characters >= MORE
    ends = np.flatnonzero(~has_more)
    numbers = LAST_DIGIT[characters[ends]]
    before = np.flatnonzero(has_more)  # the other digits: most numbers have none
    index, begin, count = np.unique(
        before - np.arange(len(before)), return_index=True, return_counts=True
    )
    place = np.arange(len(before)) - np.repeat(begin, count)
    digits = (characters[before] - MORE).astype(np.int64) << BITS * np.minimum(place, MAX_DIGITS)
    numbers[index] <<= BITS * np.minimum(count, MAX_DIGITS)
    numbers[index] += np.add.reduceat(digits, begin)
    text_starts = np.cumsum([0, *map(len, texts.values())])[:-1]
    first = np.searchsorted(ends, text_starts)  # of each text, the index of its first number
    runs, is_mask = _undo_differences(numbers, first)
    too_long = np.zeros(len(texts), bool)
    too_long[np.searchsorted(first, index[count >= MAX_DIGITS], side="right") - 1] = True
    shortest = np.minimum.reduceat(runs, first)
    covered = np.add.reduceat(runs, first)
    problems = {}
    for row, code in enumerate(texts):
        if too_long[row] or shortest[row] < 0:
            problems[code] = "hold a run of negative length, or one beyond all images"
        elif covered[row] != areas[row]:
            problems[code] = f"cover {covered[row]} pixels, expected {areas[row]}"
    return problems, np.add.reduceat(runs * is_mask, first)


def _undo_differences(numbers: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of runs from numbers, which from the fourth on are added to the last but one.

    Args:
        numbers: (M,) decoded numbers of all texts.
        first: (N,) where each text begins.

    Returns:
        The lengths (M,), and whether each is a run of the mask, not of what is around it.
    """
    sums = numbers.copy()
    sums[first] = 0  # nothing is added to a text's first number
    sums[::2] = np.cumsum(sums[::2])
    sums[1::2] = np.cumsum(sums[1::2])
    counts = np.diff(first, append=len(numbers))
    # What the texts before have added to the second, fourth, ... and to the third, fifth, ...
    odd, even = np.where(first > 0, sums[first - 1], 0), sums[first]
    is_odd = (np.arange(len(numbers)) & 1).astype(bool) ^ np.repeat(first & 1 > 0, counts)
    runs = sums - np.where(is_odd, np.repeat(odd, counts), np.repeat(even, counts))
    runs[first] = numbers[first]
    return runs, is_odd
