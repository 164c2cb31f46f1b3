"""The command that scores caption results again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbeit3.cli import main
from mmbeit3.evaluation import caption_scores


def test_a_table_and_a_file_of_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mmbeit3.evaluation.captions.files.warn", said.append)
    references, results = tmp_path / "train.csv", tmp_path / "results.json"
    references.write_text("image,text\na.jpg,a red dog\na.jpg,a dog\nb.jpg,two cats\n")
    results.write_text(json.dumps([{"image_id": 0, "caption": "A red dog."}]))
    arguments = ["eval-captions", str(references), str(results)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "--answered-only: 1 of the 2 images have no caption in" in error
    out = tmp_path / "new" / "scores.json"
    assert main([*arguments, "--answered-only", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| all | 1      | 1.0000" in printed and "tokenizer: PTB rules in Python" in printed
    assert "CIDEr is not comparable" in said[0] and str(out) in printed
    assert json.loads(out.read_text()) == caption_scores(references, results, answered_only=True)
