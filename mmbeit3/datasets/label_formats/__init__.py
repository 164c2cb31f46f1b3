"""Labels in the formats of other programs: what reads and writes each, and what each can hold."""

from mmbeit3.datasets.label_formats.formats import (
    FILE_NAMES,
    FORMATS,
    WRITTEN,
    guess_format,
    read_labels,
    write_labels,
)

__all__ = ["FILE_NAMES", "FORMATS", "WRITTEN", "guess_format", "read_labels", "write_labels"]
