"""The official programs in Java: skipped where they are not installed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from mmbeit3.evaluation import CaptionMetric, caption_scores
from mmbeit3.evaluation.captions.java import METEOR, TOKENIZER, check_java, meteor, tokenize_by_java
from mmbeit3.utils import InputError
from tests.test_evaluation.test_captions.test_tokenization import WORDS


@pytest.fixture
def package() -> Path:
    found = pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    return Path(next(iter(found.__path__)))


def test_words_are_those_of_our_tokenizer(package: Path) -> None:
    assert tokenize_by_java(list(WORDS)) == list(WORDS.values())
    assert tokenize_by_java(["", "A bed.", ""]) == ["", "a bed", ""]


@pytest.mark.slow  # Meteor reads its tables for seconds
def test_scores_by_java(package: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    references = {1: ["A dog runs.", "a ||| sign"], 2: ["Two cats sleep in a bed"]}
    scores = caption_scores(references, {1: "a dog runs", 2: "a cat sleeping"}, java=True)
    assert 0.2 < scores["METEOR"] < 0.9
    assert scores["tokenizer"] == "PTB of Stanford CoreNLP 3.4.1, in Java"
    assert meteor(["a dog runs"], [["a dog runs"]]) == pytest.approx(1, abs=0.05)
    # Nothing is written there: the package may be installed for reading alone.
    after = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    assert {path: t for path, t in after.items() if "__pycache__" not in str(path)} == {
        path: t for path, t in files.items() if "__pycache__" not in str(path)
    }


def test_what_is_absent_is_named_with_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no Java on this machine: install OpenJDK"):
        CaptionMetric(java=True)
    (tmp_path / "java").touch(0o755)
    monkeypatch.setattr("mmbeit3.evaluation.captions.java.find_spec", lambda name: None)
    with pytest.raises(InputError, match="^java: stanford-.*pip install pycocoevalcap"):
        check_java()


def test_a_program_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'no room' >&2\nexit 3\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    package = tmp_path / "pycocoevalcap"
    for program in (TOKENIZER, METEOR):
        (package / program).parent.mkdir(parents=True)
        (package / program).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pycocoevalcap", raising=False)
    with pytest.raises(InputError, match="tokenizer in Java ended without results: no room"):
        tokenize_by_java(["a"])
    with pytest.raises(InputError, match="METEOR in Java ended without results"):
        meteor(["a"], [["a"]])
