"""``mmbeit3 serve``: the page in a real browser, and what the server does not give away."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGINT
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from mmbeit3 import load
from mmbeit3.apis.serving import Server, serve
from mmbeit3.cli import main
from mmbeit3.inference.served import Served
from mmbeit3.utils import InputError
from tests.browser import Tab
from tests.color_models import color_detector_cfg, write_color_weights
from tests.small_dual_encoder import write_dual_encoder

pytest.importorskip("streamlit")

# Of Gradio, Streamlit and careless servers: roads to files.
ROADS = (
    *("/{}", "/file={}", "/gradio_api/file={}", "/gradio_api/file/{}", "/file/{}", "/static/{}"),
    *("/app/static/{}", "/media/{}", "/component/x/{}", "/component/streamlit/{}"),
    *("/_stcore/bidi-components/x/{}", "/_stcore/upload_file/x/{}", "/_stcore/{}"),
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A red rectangle, found with 0.9, and a green one, found with 0.2."""
    image = np.zeros((100, 150, 3), np.uint8)
    image[10:60, 20:80], image[70:90, 100:140] = (0, 0, 255), (0, 255, 0)
    cv2.imwrite(str(tmp_path / "shapes.png"), image)
    return tmp_path / "shapes.png"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_color_weights(tmp_path_factory.mktemp("color"))


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[Server]:
    model = load(color_detector_cfg(), weights, device="cpu")
    server = Server(Served(model, "color_detector"), port=0, max_upload=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join()


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    connection = HTTPConnection(urlsplit(server.address).netloc, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode("latin-1"), answer.headers


def test_no_road_leads_to_a_file(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    names = [str(secret), f"{'../' * 12}{str(secret)[1:]}", f"..{secret}"]
    names += [names[1].replace("../", "..%2f"), names[1].replace("..", "%2e%2e")]
    names += [f"/{secret}", f"{'..%5c' * 12}{secret}", secret.as_uri(), "%00" + str(secret)]
    for road in ROADS:
        for name in names:
            for method in ("GET", "POST"):
                status, body, _ = get(server, road.format(name), method)
                assert "the secret" not in body and status < 500, (method, road, name)
    assert "def show_detections" not in get(server, "/app/static/browser_pages.py")[1]


def test_pages_of_other_sites_are_refused(server: Server) -> None:
    netloc = urlsplit(server.address).netloc
    assert get(server, "/_stcore/health")[0] == 200
    assert get(server, "/_stcore/health", Origin=f"http://{netloc}")[0] == 200
    assert get(server, "/_stcore/health", Origin="http://evil.example")[0] == 403
    assert get(server, "/_stcore/health", Origin="null")[0] == 403
    assert get(server, "/_stcore/health", Host="evil.example")[0] == 403  # DNS rebinding
    client = pytest.importorskip("websockets.sync.client")
    address = f"ws://{netloc}/_stcore/stream"
    with client.connect(address, origin=server.address, subprotocols=["streamlit"]):
        pass
    with (
        pytest.raises(Exception, match="403"),
        client.connect(address, origin="http://evil.example", subprotocols=["streamlit"]),
    ):
        pass


def test_the_page_may_load_nothing_from_elsewhere(server: Server) -> None:
    policy = get(server, "/")[2]["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy
    statistics = json.loads(get(server, "/_stcore/host-config")[1])
    assert not statistics.get("metricsUrl")


def test_a_picture_is_dropped_and_the_score_moved(
    server: Server, picture: Path, tmp_path: Path
) -> None:
    shown = "[...document.querySelectorAll('main img, .stMain img')].map(one => one.src).join()"
    with Tab(server.address, tmp_path) as tab:
        tab.upload(picture)
        tab.wait("document.body.innerText.includes('1 red thing')")
        first = tab.wait(shown)
        tab.press("[role=slider], input[type=range]", "ArrowLeft", 3)
        tab.wait("document.body.innerText.includes('1 red thing, 1 green thing')")
        tab.wait(f"{shown} != {json.dumps(first)}")
        tab.run(
            "[...document.querySelectorAll('button')].find(b => b.innerText == 'red thing').click()"
        )
        tab.wait("document.body.innerText.includes('\\n1 green thing')")
        button = "[...document.querySelectorAll('button')].find(b => b.innerText.includes('JSON'))"
        file = tab.download(tmp_path / "downloads", f"{button}.click()")
        assert file.name == "shapes.json"
        [found] = json.loads(file.read_text())["detections"]
        assert found["category"] == "green thing" and found["score"] == pytest.approx(0.2)
        assert found["bbox"] == pytest.approx([100, 70, 40, 20], abs=8)
        assert {urlsplit(one).netloc for one in tab.requested if "://" in one} == {
            urlsplit(server.address).netloc
        }


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_dark_for_those_who_prefer_it(
    server: Server, tmp_path: Path, dark: bool
) -> None:
    with Tab(server.address, tmp_path, dark) as tab:
        tab.wait("!!document.querySelector('input[type=file]')")
        color = tab.run("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert (int(re.findall(r"\d+", color)[0]) < 128) == dark


def test_a_wrong_file_is_told_in_the_page(server: Server, tmp_path: Path) -> None:
    large, wrong = tmp_path / "large.png", tmp_path / "wrong.jpg"
    large.write_bytes(bytes(2**20 + 1))
    wrong.write_text("no image")
    with Tab(server.address, tmp_path) as tab:
        tab.upload(large)
        tab.wait("/File must be .* smaller/.test(document.body.innerText)")
        tab.upload(wrong)
        tab.wait("document.body.innerText.includes('wrong.jpg: not an image')")
        assert "Traceback" not in tab.run("document.body.innerText")


def test_what_cannot_be_served_is_an_error(weights: Path) -> None:
    cfg = color_detector_cfg()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port} cannot be served .*in use"):
            serve(cfg, weights, device="cpu", port=port)
    with pytest.raises(InputError, match="70000 cannot be served"):
        serve(cfg, weights, device="cpu", port=70000)
    with pytest.raises(InputError, match="images: only a dual encoder searches a folder"):
        serve(cfg, weights, device="cpu", images="photos")


def test_a_dual_encoder_needs_a_folder(tmp_path: Path, tokenizer_file: Path) -> None:
    with pytest.raises(InputError, match="images: this model searches pictures: name a folder"):
        serve(*write_dual_encoder(tmp_path, tokenizer_file), device="cpu")


def test_a_missing_extra_is_told_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    (tmp_path / "a.pth").write_bytes(b"no weights")
    assert main(["serve", str(tmp_path / "a.pth")]) == 2
    assert 'pip install "mmbeit3[serve]"' in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(tmp_path: Path, tokenizer_file: Path) -> None:
    _, weights = write_dual_encoder(tmp_path, tokenizer_file)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((50, 60, 3), np.uint8))
    command = [sys.executable, "-m", "mmbeit3", "serve", str(weights), "--port", "0"]
    command += ["--images", str(tmp_path / "photos"), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = None
        while found is None:
            found = re.search(r"open (\S+) in a browser", process.stdout.readline())
        try:
            with Tab(found[1], tmp_path) as tab:
                tab.wait("document.body.innerText.includes('Search 1 pictures')")
                tab.write("input[type=text]", "a red square")
                tab.wait("document.body.innerText.includes('a.png')")
        finally:
            process.send_signal(SIGINT)
        assert process.wait(timeout=30) == 0
