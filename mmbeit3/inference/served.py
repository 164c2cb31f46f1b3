"""A model that visitors of a page share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from mmbeit3.inference.image_index import ImageIndex
from mmbeit3.utils import InputError

Answer = TypeVar("Answer")


@dataclass
class Served:
    """A model that answers one request at a time.

    Args:
        model (Inferencer): The model; it has a page.
        title (str): What to call it.
        timeout (float): Seconds that a request may take, the wait for others included. Defaults to
            60.
        images (ImageIndex, optional): What a dual encoder searches. Defaults to None.
    """

    model: Any
    title: str
    timeout: float = 60.0
    images: ImageIndex | None = None
    #: What this process serves: Streamlit hands nothing to the script of a page.
    current: ClassVar[Served]
    _queue: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), repr=False)

    def __post_init__(self) -> None:
        if self.model.show_page is None:
            raise InputError(
                f"there is no page for a {type(self.model).__name__}; expected a model that finds, "
                "segments, classifies, searches, answers, judges or captions"
            )

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """Call something that uses the model, when those before it are done.

        Raises:
            InputError: It took too long, or has raised this. A call that has begun goes on, and the
                next one waits for its end.
        """
        future = self._queue.submit(call)
        wait([future], self.timeout)
        if future.done():
            return future.result()
        before = "others were before it" if future.cancel() else "try a smaller picture"
        raise InputError(f"no answer within {self.timeout:g} seconds: {before}")
