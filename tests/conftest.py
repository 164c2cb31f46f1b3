"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import os
import signal
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

import mmbeit3  # noqa: F401  before any test imports mmdet: mmcv.ops must be there by then
from mmbeit3.checkpoint.safe_loading import loading_kept
from mmbeit3.utils.terminal import CurrentStdout

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Leave what the imports made out of garbage collections: half a second each otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def mmengine_does_not_dawdle() -> Iterator[None]:
    """Leave out what mmengine spends most of a short run on, and what no result depends on.

    It formats the config by yapf four times, a second each, waits two seconds between epochs, and
    collects garbage for each data set, which takes longer with every test that ran before.
    """
    with pytest.MonkeyPatch.context() as patch:
        for place in (
            "yapf.yapflib.yapf_api",
            "mmengine.config.config",
        ):  # newer and older mmengine
            patch.setattr(f"{place}.FormatCode", lambda text, **_: (text, True), raising=False)
        patch.setattr("mmengine.runner.loops.time", SimpleNamespace(sleep=lambda seconds: None))
        collector = SimpleNamespace(collect=lambda: 0)
        patch.setattr("mmengine.dataset.base_dataset.gc", collector)
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """Ctrl-C as in a terminal: a shell has its background jobs ignore it, and runs inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def loads_as_before() -> Iterator[None]:
    """Give back how this process reads checkpoints: a Runner changes it to its end."""
    with loading_kept():
        yield


@pytest.fixture(scope="module", autouse=True)
def modules_load_as_before() -> Iterator[None]:
    """The same for fixtures of a whole module, which run before those of its tests."""
    with loading_kept():
        yield


@pytest.fixture(scope="module", autouse=True)
def modules_log_on_their_own() -> Iterator[None]:
    """Keep loggers that fixtures of a module make from the next one.

    Their files may be closed by then: uvicorn closes all handlers of its process when it starts.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MMLogger, "_instance_dict", OrderedDict())
        yield


@pytest.fixture(autouse=True)
def logs_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a logger that writes to the standard output of the moment, as ``capsys`` asks.

    mmengine's writes to the one of when it was made: in a fixture, in an earlier test.
    """
    monkeypatch.setattr(MMLogger, "_instance_dict", OrderedDict())
    for handler in MMLogger.get_current_instance().handlers:
        handler.setStream(CurrentStdout())


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of small real data sets: ``MMBEIT3_DATA``, else ``../shared/data``."""
    folder = Path(os.environ.get("MMBEIT3_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real sample data is not at {folder} (set MMBEIT3_DATA)")
    return folder


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer of our own; the words that it knows are those of ``small_tokenizer.py``."""
    from tests.small_tokenizer import train

    return train(tmp_path_factory.mktemp("own words") / "größe.spm")
