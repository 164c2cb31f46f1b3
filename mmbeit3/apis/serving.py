"""A model as a page in the browser."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmengine.config import Config

from mmbeit3.inference import browser_pages
from mmbeit3.inference.loading import load
from mmbeit3.inference.served import Served
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import MAX_PIXELS, allow_pixels
from mmbeit3.utils.optional_packages import optional_package

DEFAULT_MAX_PIXELS = "50000000"
LOCAL = ("localhost", "127.0.0.1", "::1")
MAX_MESSAGE = 2**20  # bytes of one, of what is clicked and typed
#: Nothing is asked of or told to another host; visitors read no file and no traceback.
OPTIONS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "server.enableAgentApi": False,
    "server.enableCORS": False,  # it may ask another host for the own address: see SameOrigin
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
}
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"


def serve(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    *,
    images: str | Path | None = None,
    timeout: float = 60.0,
    host: str = "127.0.0.1",
    port: int = 8501,
    max_upload: int = 20,
    **options: Any,
) -> Server:
    """Load a model, and make what serves it as a page; its ``run()`` does so until Ctrl-C.

    Args:
        config (str | Path | Config): See :func:`mmbeit3.load`.
        checkpoint (str | Path, optional): See there. Defaults to None.
        images (str | Path, optional): Folder that a dual encoder searches. Defaults to None.
        timeout (float): See :class:`mmbeit3.inference.served.Served`. Defaults to 60.
        host (str): See :class:`Server`. Defaults to '127.0.0.1'.
        port (int): See there. Defaults to 8501.
        max_upload (int): See there. Defaults to 20.
        **options: Those of :func:`mmbeit3.load`.

    Raises:
        InputError: The model cannot be loaded, has no page, or cannot be served so.
    """
    optional_package("streamlit", "serve", "serve")  # before a model is loaded
    allow_pixels(os.environ.setdefault(MAX_PIXELS, DEFAULT_MAX_PIXELS))
    model: Any = load(config, checkpoint, **options)
    searches = hasattr(model, "index")
    if searches and images is None:
        raise InputError("this model searches pictures: name a folder of them", "images")
    if images is not None and not searches:
        raise InputError("only a dual encoder searches a folder; leave it out", "images")
    name = config.filename if isinstance(config, Config) else config
    index = model.index(images) if searches else None
    served = Served(model, Path(name or checkpoint or "model").stem, timeout, index)
    return Server(served, host, port, max_upload)


class SameOrigin:
    """Refuses requests of other sites' pages, and forbids this one's to load from elsewhere.

    Args:
        app (Callable): What answers the others.
        is_local (bool): Whether this machine alone is served: then a foreign name that somebody had
            point to it is refused.
    """

    def __init__(self, app: Callable, is_local: bool) -> None:
        self.app, self.is_local = app, is_local

    async def __call__(self, scope: Any, receive: Callable, send: Callable) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif self._is_allowed(dict(scope["headers"])):

            async def answer(message: Any) -> None:
                if message["type"] == "http.response.start":
                    policy = (b"content-security-policy", POLICY.encode())
                    message["headers"] = [*message["headers"], policy]
                await send(message)

            await self.app(scope, receive, answer)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"not from another site"})

    def _is_allowed(self, headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != host:
            return False
        return not self.is_local or urlsplit(f"//{host}").hostname in LOCAL


class Server:
    """Serves a model, from :meth:`run` on; Streamlit serves one in a process.

    Args:
        served (Served): The model.
        host (str): The address of this machine that visitors reach. Defaults to '127.0.0.1', this
            machine alone.
        port (int): Its port; 0 is any that is free. Defaults to 8501.
        max_upload (int): Megabytes of a file that is taken. Defaults to 20.

    Attributes:
        address (str): Of the page.

    Raises:
        InputError: Streamlit is not installed, or the port is in use.
    """

    def __init__(
        self, served: Served, host: str = "127.0.0.1", port: int = 8501, max_upload: int = 20
    ) -> None:
        streamlit, config, uvicorn, starlette = (
            optional_package(name, "serve", "serve")
            for name in ("streamlit", "streamlit.config", "uvicorn", "starlette.middleware")
        )
        for name, value in (OPTIONS | {"server.maxUploadSize": max_upload}).items():
            config.set_option(name, value)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"{host}:{port} cannot be served ({error}); expected an address of this machine "
                "and a free port"
            ) from error
        Served.current = served
        port = self._socket.getsockname()[1]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        app = streamlit.App(
            browser_pages.__file__, middleware=[starlette.Middleware(SameOrigin, host in LOCAL)]
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                ws_max_size=MAX_MESSAGE,
                timeout_graceful_shutdown=1,
            )
        )

    def run(self) -> None:
        """Answer visitors until Ctrl-C, or :meth:`stop`."""
        with suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self._server.should_exit = True
