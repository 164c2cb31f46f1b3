"""The Makefile names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_path_of_the_makefile_exists():
    text = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?<![\w./-])(?:tests|tools|requirements)/[\w./-]+", text))
    assert named, "the pattern finds none: mend it"
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert not missing, f"the Makefile names what is not there: {missing}"
