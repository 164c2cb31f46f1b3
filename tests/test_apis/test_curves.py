"""Learning curves: what is read from logs, and the page in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbeit3.apis.curves import draw_curves, read_run
from mmbeit3.cli import main
from mmbeit3.utils import InputError
from tests.browser import run_in_browser


def write_log(folder: Path, time: str, entries: list[dict], end: str = "") -> None:
    place = folder / time / "vis_data"
    place.mkdir(parents=True)
    (place / "scalars.json").write_text("".join(json.dumps(e) + "\n" for e in entries) + end)


def train(step: int, loss: float) -> dict:
    return {"lr": 1e-3 / step, "loss": loss, "time": 0.1, "iter": step, "step": step}


def validation(step: int, value: float) -> dict:
    return {"coco/bbox_mAP": value, "coco/bbox_mAP_50": 2 * value, "time": 0.1, "step": step}


def test_a_resumed_training_is_joined(tmp_path: Path) -> None:
    first = [train(20, 3.0), train(40, 2.0), validation(40, 0.1), train(60, 9.0), train(80, 9.0)]
    write_log(tmp_path, "20261126_080000", first, end='{"loss": 8.0, "st')  # killed while it wrote
    write_log(tmp_path, "20261126_090000", [train(60, 1.5), validation(80, 0.2)])
    run = read_run(tmp_path)
    assert run.curves["loss"] == [(20, 3.0), (40, 2.0), (60, 1.5)]
    assert run.curves["coco/bbox_mAP"] == [(40, 0.1), (80, 0.2)]
    assert run.metrics == ["coco/bbox_mAP", "coco/bbox_mAP_50"]


def test_a_training_that_was_started_again_replaces_the_first(tmp_path: Path) -> None:
    write_log(tmp_path, "1", [train(20, 3.0), train(40, 2.0), validation(40, 0.1)])
    write_log(tmp_path, "2", [train(20, 5.0)])
    assert read_run(tmp_path).curves == {"loss": [(20, 5.0)], "lr": [(20, 5e-5)]}


def test_validations_of_epochs_are_where_their_epoch_ended(tmp_path: Path) -> None:
    write_log(
        tmp_path, "1", [train(50, 3.0), validation(1, 0.1), train(100, 2.0), validation(2, 1)]
    )
    assert [step for step, _ in read_run(tmp_path).curves["coco/bbox_mAP"]] == [50, 100]


def test_metrics_without_an_object_are_left_out(tmp_path: Path) -> None:
    write_log(tmp_path, "1", [train(20, 3.0), validation(20, 0.1) | {"coco/bbox_mAP_l": -1.0}])
    assert read_run(tmp_path).metrics == ["coco/bbox_mAP", "coco/bbox_mAP_50"]


@pytest.mark.parametrize(
    ("entries", "message"), [(None, "has no log; expected the folder"), ([], "has no step yet")]
)
def test_without_a_log(tmp_path: Path, entries: list | None, message: str) -> None:
    if entries is not None:
        write_log(tmp_path, "1", entries)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)


def test_the_page(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    for name, shift in (("a", 0), ("b", 1)):
        entries = [train(20, 3.0 + shift), train(40, float("nan")), validation(40, 0.1 + shift)]
        write_log(tmp_path / name, "1", entries)
    words = ["curves", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "drawn" / "c.png"]
    assert main(list(map(str, words))) == 0
    assert (tmp_path / "drawn" / "c.png").stat().st_size > 10_000
    found = run_in_browser(
        tmp_path / "drawn" / "c.html",
        """
        const before = $("metrics").data.length;
        pick.value = keys.indexOf("coco/bbox_mAP_50");
        pick.dispatchEvent(new Event("change"));
        const rows = [...document.querySelectorAll("#table tbody tr")].map(row => row.innerText);
        return [$("loss").data.length, before, $("metrics").data.map(line => line.y), rows.length];
        """,
    )
    assert found == [2, 2, [[0.2], [2.2]], 6]


def test_a_name_that_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a name that ends in .png"):
        draw_curves([tmp_path], tmp_path / "curves")
