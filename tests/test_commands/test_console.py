from __future__ import annotations

import warnings

import pytest

from mmbeit3.commands.console import run, status_of
from mmbeit3.utils import InputError

FROM_WORKER = """Caught InputError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 1, in loop
mmbeit3.utils.errors.InputError: image 7.jpg is cut off
"""


@pytest.mark.parametrize(("returned", "status"), [(None, None), (0, 0), (1, 1)])
def test_the_status_is_what_the_command_returns(returned: int | None, status: int | None) -> None:
    with pytest.raises(SystemExit) as end:
        run(lambda: returned)
    assert end.value.code == status


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("the file x is absent"), 2, "error: the file x is absent\n"),
        (InputError(FROM_WORKER), 2, "error: image 7.jpg is cut off\n"),
        (InputError("5 is odd", argument="num_dogs"), 2, "error: --num-dogs: 5 is odd\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_expected_ends_have_no_traceback(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run(command)
    assert end.value.code == status
    assert capsys.readouterr().err == message


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


LIBRARY = "import warnings\nwarnings.warn('meshgrid: in an upcoming release, it will', UserWarning)"


@pytest.mark.parametrize(("module", "warnings_seen"), [("torch.functional", 0), ("my_head", 1)])
def test_no_command_prints_what_libraries_warn_each_other_of(
    module: str, warnings_seen: int
) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        status_of(lambda: exec(LIBRARY, {"__name__": module}))
    assert len(seen) == warnings_seen
