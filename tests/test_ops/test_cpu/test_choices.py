"""Which library multiplies: measured once for a shape and a machine, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmbeit3.models import acceleration
from mmbeit3.models.layers import FFN
from mmbeit3.ops.cpu import choices
from mmbeit3.ops.cpu.choices import measure, onednn_pays
from mmbeit3.ops.cpu.linear import OneDNNLinear


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, float]]]:
    """What the next measurements find; without one left, a measurement fails."""
    found: list[dict[str, float]] = []
    monkeypatch.setattr(choices, "measure", lambda *args: found.pop(0))
    monkeypatch.setattr(choices, "ONEDNN_DTYPES", frozenset({torch.float32}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    onednn_pays.cache_clear()
    yield found
    onednn_pays.cache_clear()


def rate(torchs: float, onednn: float) -> dict[str, float]:
    return {"float32, torch": torchs, "float32, oneDNN": onednn}


def test_the_faster_one_is_chosen_and_kept(rates: list, tmp_path: Path) -> None:
    rates += [rate(112, 100), rate(103, 100)]  # as on processors with AVX2 alone; within the noise
    assert [onednn_pays(768, 3072), onednn_pays(3072, 768)] == [False, True]
    onednn_pays.cache_clear()  # as in another process
    assert [onednn_pays(768, 3072), onednn_pays(3072, 768)] == [False, True] and not rates
    assert onednn_pays(16, 48)  # too small to be measured
    [file] = tmp_path.rglob("linear-*.json")
    for damaged in ("", "[1]", '{"768x3072": "no"}', "\ud800"):
        file.write_text(damaged, errors="surrogatepass")
        onednn_pays.cache_clear()
        rates.append(rate(100, 200))
        assert onednn_pays(768, 3072) and not rates


def test_other_limits_are_another_machine(
    rates: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rates += [rate(100, 200), rate(200, 100)]
    assert onednn_pays(768, 3072)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "another")
    onednn_pays.cache_clear()
    assert not onednn_pays(768, 3072)
    assert len(list(tmp_path.rglob("linear-*.json"))) == 2


def test_a_folder_that_cannot_be_written_costs_a_measurement(
    rates: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    rates.append(rate(100, 200))
    assert onednn_pays(768, 3072) and onednn_pays(768, 3072) and not rates


@torch.no_grad()
def test_layers_stay_torchs_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    ffn, x = FFN(16, 32).eval(), torch.randn(2, 3, 16)
    want = ffn(x)
    monkeypatch.setattr(acceleration, "onednn_pays", lambda *shape: shape == (32, 16))
    acceleration.accelerate(ffn)
    assert [type(layer) for layer in (ffn.fc1, ffn.fc2)] == [torch.nn.Linear, OneDNNLinear]
    torch.testing.assert_close(ffn(x), want)


def test_a_measurement_takes_milliseconds_and_no_random_numbers() -> None:
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    found = measure(("float32, torch", "bfloat16"), 64, 96)
    assert torch.equal(torch.rand(1), want)
    assert set(found) == {"float32, torch", "bfloat16"} and min(found.values()) > 0
