"""What was said already, in this process or in one that it has forked."""

from __future__ import annotations

import hashlib
import mmap

SIZE = 2**20  # one of so many bytes stands for a text


class SaidOnce:
    """Tells which texts are new; data workers that are forked later share what was said.

    Copies, and workers that are not forked (Windows, macOS), begin anew. Of a thousand texts, one
    is taken for another with a probability of about 1 in 1000.
    """

    def __init__(self) -> None:
        self._said = mmap.mmap(-1, SIZE)  # shared with forked processes; untouched pages are free

    def is_new(self, text: str) -> bool:
        """Whether this is the first call with the text."""
        digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
        place = int.from_bytes(digest, "big") % SIZE
        new, self._said[place] = not self._said[place], 1
        return new

    def __reduce__(self) -> tuple[type[SaidOnce], tuple[()]]:
        return type(self), ()
