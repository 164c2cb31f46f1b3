"""What is said of the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.benchmark import Candidate, Case, Comparison, Measured
from benchmarks.command import all_met
from benchmarks.memory import Memory
from benchmarks.report import in_words, plot, summarize, table

GIB = 2**30


def case(*comparisons: Comparison, **options) -> Case:
    candidates = (
        Candidate("limit", list, flops=100e9),
        Candidate("ours", list, flops=300e9, limit="limit", items=4, series="s", x=512),
        Candidate("peer", list, series="t", x=512),
    )
    return Case("name", "a title", candidates, comparisons, "pixels", **options)


MEASURED = {
    "limit": Measured([0.5]),
    "ours": Measured([1.0, 3.0, 2.0], Memory(2 * GIB, GIB), torch.tensor([1.0, 2.0])),
    "peer": Measured([8.0], Memory(8 * GIB, 5 * GIB), torch.tensor([1.0, 2.5])),
}


def test_ratios() -> None:
    summary = summarize(case(Comparison("ours", "peer", 3.5, 0.3, 0.25)), MEASURED)
    ours = summary["candidates"][1]
    assert (ours["median"], ours["items_per_second"], ours["share"]) == (2, 2, 0.75)
    (found,) = summary["comparisons"]
    assert found["faster"] == 4 and found["memory_ratio"] == 0.25
    assert found["memory_working_ratio"] == 0.2
    assert found["difference"] == pytest.approx(0.2)
    assert found["met"] is True and all_met({"cases": [summary]})


@pytest.mark.parametrize(
    "comparison",
    [
        Comparison("ours", "peer", speed=4.1),
        Comparison("ours", "peer", memory=0.24),
        Comparison("ours", "peer", tolerance=0.1),
        Comparison("ours", "peer", speed=4.1, memory=0.5, tolerance=1),
    ],
)
def test_what_is_missed_is_said(comparison: Comparison) -> None:
    summary = summarize(case(comparison), MEASURED)
    assert summary["comparisons"][0]["met"] is False and "**no**" in in_words(summary)
    assert not all_met({"cases": [summary]})


def test_a_share_of_the_limit_can_be_missed() -> None:
    for least, met in ((0.75, True), (0.76, False)):
        summary = summarize(case(share={"ours": least}), MEASURED)
        assert summary["candidates"][1]["met"] is met
        assert all_met({"cases": [summary]}) is met


@pytest.mark.parametrize(
    ("seconds", "memory", "met"), [(2, 2, True), (1.9, 2, False), (2, 1, False)]
)
def test_time_and_memory_may_have_limits(seconds: float, memory: float, met: bool) -> None:
    limits = {"seconds_at_most": seconds, "memory_at_most": int(memory * GIB)}
    summary = summarize(Case("name", "a title", (Candidate("ours", list, **limits),)), MEASURED)
    assert summary["candidates"][0]["met"] is met is all_met({"cases": [summary]})
    text = in_words(summary)
    assert f"2.00 s (target: {seconds:.2f} s" in text and ("**missed**" in text) is not met


def test_what_has_no_demand_is_neither_met_nor_missed() -> None:
    summary = summarize(case(Comparison("ours", "peer")), MEASURED)
    assert "met" not in summary["comparisons"][0] and all_met({"cases": [summary]})


def test_tables_leave_empty_columns_out() -> None:
    text = table([["", "a", "b"], ["x", "", "1"], ["y", "", "22"]])
    assert text.splitlines() == ["|   | b  |", "|---|----|", "| x | 1  |", "| y | 22 |"]


def test_curves_are_drawn(tmp_path: Path) -> None:
    plot(summarize(case(), MEASURED), tmp_path / "curves.png")
    picture = Image.open(tmp_path / "curves.png")
    assert picture.width > 2 * picture.height and len(picture.getcolors(1 << 24)) > 50
