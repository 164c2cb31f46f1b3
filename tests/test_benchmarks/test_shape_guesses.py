"""Guesses that look at half of the generated questions, statements and captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shape_guesses import caption_guesses, guess, question_guesses, statement_guesses
from mmbeit3.datasets import make_shapes


def test_a_guess_takes_the_first_key_that_training_has() -> None:
    train = [dict(a=1, b=1, is_it="no"), dict(a=2, b=1, is_it="yes"), dict(a=2, b=1, is_it="yes")]
    val = [dict(a=1, b=1, is_it="no"), dict(a=3, b=1, is_it="yes"), dict(a=3, b=1, is_it="no")]
    keys = (lambda row: row["a"], lambda row: row["b"])
    assert guess(train, val, "is_it", *keys) == pytest.approx(200 / 3)


def test_all_are_scored(tmp_path: Path) -> None:
    folder = make_shapes(tmp_path / "shapes", 60, 30, 64, seed=2) / "annotations"
    chance, by_question, by_image = question_guesses(folder).values()
    assert 30 < chance < 45 and abs(by_question - chance) < 10 and by_image < 30
    assert list(statement_guesses(folder).values()) == [50.0]
    constant, of_training = caption_guesses(folder).values()
    assert 0 < of_training < constant < 100
