"""Reading a JSON file of gigabytes entry by entry, in the memory of one entry."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from mmbeit3.utils import InputError
from mmbeit3.utils.text_files import HEAD, find_encoding, not_text

CHUNK = 1 << 22  # bytes
MAX_ENTRY = 1 << 26  # characters; a longer one is no entry but a broken file
EMPTY = object()  # stands for a list without entries
BLANK = re.compile(r"\s*")


class TwiceError(Exception):
    """A key stands twice in an object; its argument is the key."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its keys and values, as ``object_pairs_hook`` of ``json``.

    Raises:
        TwiceError: A key stands there twice; Python's ``json`` keeps the last value only.
    """
    entry = dict(pairs)
    if len(entry) < len(pairs):
        names = [name for name, _ in pairs]
        raise TwiceError(next(name for name in names if names.count(name) > 1))
    return entry


DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def stream_entries(file: BinaryIO, name: str) -> Iterator[tuple[str, Any]]:
    """Go through the lists at the top level of a JSON object.

    Args:
        file: The open file; it is read once, forwards.
        name: What to call it in messages.

    Yields:
        ``(key, entry)`` for each entry of each list, in the order of the file. A value that is no
        list is yielded whole.

    Raises:
        InputError: The file is not a JSON object, is cut short, goes on after its end, or an
            object of it has a key twice, of which the first value would be lost.
    """
    places = stream_places(file, name)
    return ((key, entry) for key, entry, _ in places if entry is not EMPTY)


def stream_places(file: BinaryIO, name: str) -> Iterator[tuple[str, Any, tuple[int, int] | None]]:
    """The same, with where each entry of a list begins and ends, in bytes of a file in UTF-8.

    The place is None for a value that is no list, and in files of another encoding. For a list
    without entries :data:`EMPTY` is yielded.
    """
    reader = _Reader(file, name)
    reader.expect("{")
    seen = set()
    while True:
        key = reader.value()
        if not isinstance(key, str):
            raise reader.error("expected a name in quotes")
        if key in seen:
            raise reader.twice(key)
        seen.add(key)
        reader.expect(":")
        if reader.peek() == "[":
            is_empty = True
            for entry, place in _entries(reader):
                is_empty = False
                yield key, entry, place
            if is_empty:
                yield key, EMPTY, None
        else:
            yield key, reader.value(), None
        if reader.expect(",}") == "}":
            break
    if reader.peek():
        raise reader.error("the file goes on after its end")


def _entries(reader: _Reader) -> Iterator[tuple[Any, tuple[int, int] | None]]:
    reader.expect("[")
    if reader.peek() == "]":
        reader.expect("]")
        return
    while True:
        reader.peek()
        start = reader.tell()
        value = reader.value()
        end = reader.tell()
        yield value, None if start is None or end is None else (start, end)
        if reader.expect(",]") == "]":
            return


class _Reader:
    """A window on the text of a file that moves forwards."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.decode: Callable[[bytes, bool], str] | None = None
        self.encoding = ""
        self.text, self.position = "", 0
        self.num_dropped = 0  # characters before the window
        self.at_end = False
        self.decoded = False
        self.known = 0, 0  # a place in the window and the bytes before it

    def tell(self) -> int | None:
        """How many bytes of the file lie before the position; None unless it is in UTF-8."""
        if not self.encoding.startswith("utf-8"):
            return None
        place, num_bytes = self.known
        if self.text.isascii():
            num_bytes += self.position - place
        else:
            num_bytes += len(self.text[place : self.position].encode(errors="surrogatepass"))
        self.known = self.position, num_bytes
        return num_bytes

    def peek(self) -> str:
        """The next character that is not blank, which stays; empty at the end."""
        while True:
            blank = BLANK.match(self.text, self.position)
            self.position = blank.end() if blank else self.position
            if self.position < len(self.text) or self.at_end:
                return self.text[self.position : self.position + 1]
            self._fill()

    def expect(self, characters: str) -> str:
        """Take the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in characters:
            raise self.error(
                f"expected one of {characters}" if found else "the file ends too early"
            )
        self.position += 1
        return found

    def value(self) -> Any:
        """Take the next value."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                if self.at_end or len(self.text) - self.position > MAX_ENTRY:
                    raise self.error(error.msg) from error
            except RecursionError as error:
                raise self.error("it is nested too deeply") from error
            except TwiceError as error:
                raise self.twice(error.args[0]) from error
            except ValueError as error:  # Python reads no integers of thousands of digits
                raise self.error(f"a number is too long: {error}") from error
            else:
                # A number may go on after the window: 1, 1e-, 1e-5.
                if end + 3 <= len(self.text) or self.at_end:
                    self.position = end
                    return value
            self._fill()

    def error(self, problem: str) -> InputError:
        """What to raise at the current position."""
        place = self.num_dropped + self.position
        return InputError(
            f"{self.name} is not valid JSON: character {place:,}: {problem}. Was it copied or "
            "downloaded in full?"
        )

    def twice(self, key: str) -> InputError:
        """What to raise for a key that an object has twice."""
        return InputError(
            f"{self.name}: character {self.num_dropped + self.position:,}: the key {key[:60]!r} "
            "stands twice in one object: which value is meant? Leave one of them"
        )

    def _fill(self) -> None:
        content = self.file.read(CHUNK if self.decode else max(CHUNK, HEAD))
        self.at_end = not content
        if self.decode is None:
            self.encoding = find_encoding(content[:HEAD])
            self.decode = codecs.getincrementaldecoder(self.encoding)().decode
        try:
            more = self.decode(content, self.at_end)
        except UnicodeError as error:
            raise InputError(f"{self.name} {not_text(self.encoding, error)}") from error
        before = self.tell() or 0
        if not self.decoded and self.encoding == "utf-8-sig":
            before = len(codecs.BOM_UTF8)
        self.decoded = True
        self.known = 0, before
        self.num_dropped += self.position
        self.text, self.position = self.text[self.position :] + more, 0
