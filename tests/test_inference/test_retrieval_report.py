"""The page on retrieval, in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmbeit3.inference.retrieval_report import report_rankings
from tests.browser import run_in_browser

RANKS = [1, 1, 2, 7, 30, 4]


def test_the_page(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    images = [
        {
            "image_id": f"i{n}",
            "text_ids": [2 * n, 2 * n + 1],
            "rank": rank,
            "first": (2 * n + 2) % 12,
        }
        for n, rank in enumerate(RANKS)
    ]
    texts = [
        {"text_id": n, "rank": RANKS[n // 2] + n % 2, "first": f"i{(n // 2 + 1) % 6}"}
        for n in range(12)
    ]
    paths = {f"i{n}": tmp_path / f"{n} <i>.png" for n in range(6)}
    for number, path in enumerate(paths.values()):
        if number != 3:  # which is missing
            cv2.imwrite(str(path), np.full((30, 40, 3), 40 * number, np.uint8))
    words = {n: f"text <b> {n}" for n in range(12)}
    rankings = {"images": images, "texts": texts}
    content = report_rankings(rankings, paths, words, tmp_path / "out", "made <up>")
    assert content["ways"]["TR"]["recall"] == pytest.approx(
        {"1": 200 / 6, "5": 400 / 6, "10": 500 / 6}
    )
    assert content["ways"]["IR"]["parts"] == [2, 6, 2, 2, 0, 0, 0]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == content
    found = run_in_browser(
        tmp_path / "out" / "report.html",
        """
        const names = id => [...$(id).querySelectorAll("b")].map(node => node.textContent);
        const texts = names("worst-IR"), images = names("worst-TR");
        const pictures = $("worst-IR").querySelector("figure").querySelectorAll("img").length;
        const words = $("worst-TR").querySelector("figcaption").innerText;
        $("TR").emit("plotly_click", { points: [{ customdata: 1 }] });
        await pause(200);
        const title = $("cell-title").textContent;
        return { texts, images, pictures, words, cell: names("cell"), title };
        """,
    )
    assert isinstance(found, dict), found
    # those whose pictures are there, the worst first, and then the others
    assert found["texts"] == [f"text <b> {n}" for n in (9, 8, 11, 10, 1, 3, 7, 6, 5, 4)]
    assert found["images"] == [f"{n} <i>.png" for n in (4, 5, 2, 3)]
    assert found["pictures"] == 2  # the right one, and what came first
    assert "rank 30" in found["words"] and "what came first: text <b> 10" in found["words"]
    assert found["cell"] == ["2 <i>.png", "5 <i>.png"] or found["cell"] == [
        "5 <i>.png",
        "2 <i>.png",
    ]
    assert found["title"] == "the text of an image: rank 2 to 5"
