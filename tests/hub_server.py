"""A web server for tests that answers as the Hugging Face Hub does."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

COMMIT = "a" * 40


class Answer(NamedTuple):
    """What the server sends; ``length`` is its Content-Length, -1 for none."""

    body: bytes
    status: int = 200
    length: int | None = None
    delay: float = 0.0
    headers: dict[str, str] = {}  # noqa: RUF012


class Server(ThreadingHTTPServer):
    """A web server with one answer for each path; the rest is 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.bodies: dict[str, bytes] = {}  # of what was posted
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        answer = self.server.answers.get(path, Answer(b"", 404))
        self.send_response(answer.status)
        if answer.length != -1:
            length = len(answer.body) if answer.length is None else answer.length
            self.send_header("Content-Length", str(length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        time.sleep(answer.delay)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.server.bodies[self.path.partition("?")[0]] = self.rfile.read(length)
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def hub_file(body: bytes, commit: str = COMMIT) -> Answer:
    """The answer of the Hub to who asks for a file."""
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit}
    return Answer(body, headers=headers)


def set_hub(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Have the next import of huggingface_hub know the server alone; the modules until now."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(home))
    return take_out_hub_modules()


def give_back(modules: dict[str, object]) -> None:
    """Undo what :func:`set_hub` did to the modules."""
    take_out_hub_modules()
    sys.modules.update(modules)


def take_out_hub_modules() -> dict[str, object]:
    """Let the next import of huggingface_hub read the environment anew."""
    names = [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]
    return {name: sys.modules.pop(name) for name in names}
