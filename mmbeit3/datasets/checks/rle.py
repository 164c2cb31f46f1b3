"""Whether COCO's compressed run-length codes are valid; the COCO API does not look before it reads.

A code that ends too early makes it read, and one that covers too much write, beyond its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 128  # codes that are decoded together: few enough for the processor's cache
FIRST = 48
CHARACTERS = bytes(range(FIRST, FIRST + 64))  # they hold 6 bits each
MORE, SIGN, BITS = 32, 16, 5  # of these: another follows; the number is negative; the digit
MAX_DIGITS = 7  # a number of 32 bits has no more


def find_code_problems(codes: Sequence[str | bytes], areas: Sequence[int]) -> dict[int, str]:
    """Say which compressed run-length codes are not those of a mask.

    The format is that of ``rleToString`` in the COCO API
    (https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c).

    Args:
        codes: The ``counts`` of RLE objects.
        areas: Height times width of each.

    Returns:
        What is wrong, by the index of the code; nothing of those that are valid.
    """
    problems: dict[int, str] = {}
    for start in range(0, len(codes), CHUNK):
        texts: dict[int, bytes] = {}
        for index, code in enumerate(codes[start : start + CHUNK], start):
            text = code.encode(errors="surrogatepass") if isinstance(code, str) else code
            if problem := _text_problem(text):
                problems[index] = problem
            else:
                texts[index] = text
        if texts:
            problems |= _number_problems(texts, np.array([areas[index] for index in texts]))
    return problems


def _text_problem(text: bytes) -> str | None:
    if not text:
        return "are empty"
    if text.translate(None, CHARACTERS):
        return "hold a character that does not belong to the format"
    if text[-1] - FIRST & MORE:
        return "end in the middle of a number"
    return None


def _number_problems(texts: dict[int, bytes], areas: np.ndarray) -> dict[int, str]:
    """Decode N codes at once: a loop over the characters takes minutes for a large data set."""
    characters = np.frombuffer(b"".join(texts.values()), np.uint8) - FIRST
    ends = np.flatnonzero(characters & MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    numbers = (characters[ends] & SIGN).astype(np.int64) * -2  # a sign reaches up from its bit
    numbers <<= BITS * (np.minimum(lengths, MAX_DIGITS) - 1)
    for place in range(MAX_DIGITS):
        has_digit = np.flatnonzero(lengths > place)
        digits = (characters[starts[has_digit] + place] & MORE - 1).astype(np.int64)
        numbers[has_digit] += digits << BITS * place
    text_starts = np.cumsum([0, *map(len, texts.values())])[:-1]
    first = np.searchsorted(starts, text_starts)  # of each text, the index of its first number
    runs = _undo_differences(numbers, first)
    too_long = np.logical_or.reduceat(lengths > MAX_DIGITS, first)
    shortest = np.minimum.reduceat(runs, first)
    covered = np.add.reduceat(runs, first)
    problems = {}
    for place, index in enumerate(texts):
        if too_long[place] or shortest[place] < 0:
            problems[index] = "hold a run of negative length, or one beyond all images"
        elif covered[place] != areas[place]:
            problems[index] = f"cover {covered[place]} pixels, expected {areas[place]}"
    return problems


def _undo_differences(numbers: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Lengths of runs from numbers, which from the fourth on are added to the last but one.

    Args:
        numbers: (M,) decoded numbers of all texts.
        first: (N,) where each text begins.
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
    return runs
