"""The devices that tests of a GPU run on: a pretended one by default, a real one by ``-m gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

from tests.gpu.pretend_gpu import pretend_gpu
from tests.gpu.tasks import make_data


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data of all tasks."""
    return make_data(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
def cuda() -> Iterator[str]:
    """A real GPU that computes float32 as float32."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield "cuda"
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """A GPU, real or pretended; tests build on the CPU what they compare with."""
    if request.param == "real":
        yield request.getfixturevalue("cuda")
        return
    with pretend_gpu():
        yield "cuda"


@pytest.fixture(autouse=True)
def warnings_only(logs_are_heard: None) -> None:
    """Do not tell of each weight that is drawn."""
    MMLogger.get_current_instance().setLevel("ERROR")
