"""A model that is called: with files, arrays, addresses, lists, folders and videos."""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import mmbeit3
from mmbeit3.inference import inputs
from mmbeit3.inference.folder import infer_folder
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.inference.result import Failed
from mmbeit3.utils import InputError

BOX = (2, 3, 12, 9)


def red_picture(width: int = 30, height: int = 20) -> Image.Image:
    image = Image.new("RGB", (width, height))
    image.paste("red", BOX)
    return image


@pytest.fixture
def model(color_cfg, color_checkpoint) -> Inferencer:
    color_cfg.test_dataloader.dataset.pipeline[0]["_scope_"] = "mmbeit3"  # this project's reader
    return mmbeit3.load(color_cfg, color_checkpoint, device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    red_picture().save(folder / "a.png")
    red_picture(300, 200).save(folder / "b.jpg", quality=95)
    (folder / "c.png").write_bytes(b"no image")
    red_picture(40, 20).save(folder / "more" / "d.png")
    return folder


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    yield from serve(functools.partial(Quiet, directory=str(folder)))


def serve(handler: object) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for index in range(frames):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[8:24, 8 : 16 + 8 * index, 2] = 255
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: str(folder / "a.png"),
        lambda folder: folder / "a.png",
        lambda folder: Image.open(folder / "a.png"),
        lambda folder: red_picture(),
        lambda folder: red_picture().convert("RGBA"),
        lambda folder: red_picture().quantize(4),
        lambda folder: cv2.imread(str(folder / "a.png")),
        lambda folder: cv2.cvtColor(cv2.imread(str(folder / "a.png")), cv2.COLOR_BGR2BGRA),
        lambda folder: np.asarray(red_picture())[..., ::-1],
        lambda folder: cv2.imread(str(folder / "a.png")).astype(np.float32) / 255,
    ],
)
def test_one_image_gives_one_result(model: Inferencer, folder: Path, make) -> None:
    found = model(make(folder))
    assert found.boxes.tolist() == [list(BOX)] and found.boxes.dtype == np.float32
    assert found.scores.tolist() == [pytest.approx(0.9)] and found.scores.dtype == np.float32
    assert found.labels.tolist() == [0] and found.names == ["red thing"]
    assert found.masks.shape == (1, 20, 30) and found.masks.dtype == bool
    assert found.size == (20, 30) and found.error is None
    assert found.image.tolist() == np.asarray(red_picture())[..., ::-1].tolist()


def test_the_order_of_channels_is_said(model: Inferencer) -> None:
    rgb = np.asarray(red_picture())
    assert model(rgb, channels="rgb").names == ["red thing"]
    assert len(model(rgb).boxes) == 0  # blue, read as BGR
    rgba = np.asarray(red_picture().convert("RGBA"))
    [found] = model([rgba], channels="rgb")
    assert found.names == ["red thing"]
    assert found.draw(channels="rgb")[..., ::-1].tolist() == found.draw().tolist()
    with pytest.raises(InputError, match="channels is 'RGB'; expected 'bgr'"):
        model(rgb, channels="RGB")


def test_gray_transparent_and_turned_pictures_follow_the_reader(
    model: Inferencer, tmp_path: Path
) -> None:
    pictures = {
        "gray.png": Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)),
        "deep.png": Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 50),
        "alpha.png": red_picture().convert("RGBA"),
        "turned.png": red_picture(),
    }
    pictures["alpha.png"].putalpha(Image.linear_gradient("L").resize((30, 20)))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"exif": exif} if name == "turned.png" else {}))
        from_file, opened = model(tmp_path / name), model(Image.open(tmp_path / name))
        assert np.array_equal(from_file.image, opened.image), name
        if name in ("gray.png", "deep.png"):
            assert np.array_equal(model(np.asarray(picture)).image, from_file.image)
    assert from_file.size == (30, 20)
    rgba = np.asarray(pictures["alpha.png"])
    difference = model(rgba, channels="rgb").image.astype(int) - model(tmp_path / "alpha.png").image
    assert abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("absent.png", "absent.png: No such file"),
        (None, "None, which cv2.imread returns"),
        (np.zeros((2, 20, 30, 3), np.uint8), r"shape \(2, 20, 30, 3\).*give a list"),
        (np.zeros((20, 30, 7), np.uint8), r"image 1: an array of shape \(20, 30, 7\)"),
        (np.zeros((0, 30, 3), np.uint8), r"shape \(0, 30, 3\)"),
        (np.zeros((20, 30, 3), object), "of numbers"),
        (torch.zeros(3, 20, 30), "tensor.*permute"),
        (b"bytes", "of type bytes"),
        (3.5, "of type float"),
        ("absent.mp4", "absent.mp4 does not exist"),
        ({"a": 1}, "of type dict"),
    ],
)
def test_one_bad_image_is_an_error(model: Inferencer, bad, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(bad)


def test_several_images_keep_their_order_and_the_bad_ones_say_why(
    model: Inferencer, folder: Path
) -> None:
    array = np.asarray(red_picture())[..., ::-1]
    items = [folder / "c.png", array, None, str(folder / "a.png"), folder, red_picture(40, 20)]
    for batch_size in (1, 2, 10):
        found = model(items, batch_size=batch_size)
        assert [item.error is None for item in found] == [False, True, False, True, False, True]
        assert found[0].error.startswith(str(folder / "c.png"))
        assert found[2].error.startswith("image 3: the image is None")
        assert "give it alone" in found[4].error
        assert found[1].path is None and found[3].path == str(folder / "a.png")
        assert [item.source.image_id for item in found] == [1, 2, 3, 4, 5, 6]
        with pytest.raises(AttributeError, match="'boxes' of an image that failed"):
            found[0].boxes  # noqa: B018
    assert model([]) == []


def test_streams(model: Inferencer, folder: Path) -> None:
    taken = []

    def arrays() -> Iterator[np.ndarray]:
        for index in range(50):
            taken.append(index)
            yield np.asarray(red_picture())

    results = model(arrays(), channels="rgb", batch_size=1, num_workers=1)
    assert next(results).names == ["red thing"]
    assert len(taken) < 10
    results.close()
    results = model([folder / "a.png", folder / "c.png"], stream=True)
    assert next(results).error is None and isinstance(next(results), Failed)


def test_a_folder_gives_what_a_run_over_it_writes(
    model: Inferencer, folder: Path, color_cfg, color_checkpoint, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    infer_folder(color_cfg, color_checkpoint, folder, out, device="cpu")
    found = model(folder)
    assert [item.source.file_name for item in found] == ["a.png", "b.jpg", "c.png", "more/d.png"]
    good = [item for item in found if item.error is None]
    written = json.loads((out / "results.json").read_text())
    assert [entry for item in good for entry in item.to_coco()] == written
    summary = json.loads((out / "summary.json").read_text())
    assert summary["failed"] == [{"file_name": "c.png", "reason": found[2].reason}]
    for item, image in zip(good, summary["images"], strict=True):
        item.save(tmp_path / "drawn.jpg")
        assert (tmp_path / "drawn.jpg").read_bytes() == (out / image["overlay"]).read_bytes()


def test_a_segmentor_gives_what_a_run_writes(
    seg_cfg, seg_checkpoint, folder: Path, tmp_path: Path
) -> None:
    model = mmbeit3.load(seg_cfg, seg_checkpoint, device="cpu")
    out = tmp_path / "out"
    infer_folder(seg_cfg, seg_checkpoint, folder, out, device="cpu")
    good = [item for item in model(folder) if item.error is None]
    images = json.loads((out / "summary.json").read_text())["images"]
    for item, image in zip(good, images, strict=True):
        assert item.shares == image["shares"]
        item.save(tmp_path / "drawn.jpg")
        item.save_label_map(tmp_path / "labels.png")
        assert (tmp_path / "drawn.jpg").read_bytes() == (out / image["overlay"]).read_bytes()
        assert (tmp_path / "labels.png").read_bytes() == (out / image["label"]).read_bytes()


def test_two_models_side_by_side(model: Inferencer, seg_cfg, seg_checkpoint) -> None:
    other = mmbeit3.load(seg_cfg, seg_checkpoint, device="cpu")
    array = np.asarray(red_picture())
    for _ in range(2):
        assert model(array, channels="rgb").names == ["red thing"]
        assert other(array, channels="rgb").names == ["dark", "red thing"]


def test_an_address(model: Inferencer, address: str, folder: Path, monkeypatch) -> None:
    found = model(f"{address}/b.jpg?size=3")
    assert np.array_equal(found.image, model(folder / "b.jpg").image)
    assert found.path == f"{address}/b.jpg?..."  # tokens may stand there
    assert found.to_coco()[0]["file_name"] == found.path
    with pytest.raises(InputError, match="absent.png: the server says 404"):
        model(f"{address}/absent.png")
    bad, good = model([f"{address}/c.png", f"{address}/a.png"])
    assert bad.error.startswith(f"{address}/c.png: ") and good.names == ["red thing"]
    monkeypatch.setattr(inputs, "URL_MAX_BYTES", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        model(f"{address}/b.jpg")


def test_an_address_that_does_not_answer(model: Inferencer, monkeypatch) -> None:
    done = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            done.wait(5)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setattr(inputs, "URL_TIMEOUT", 0.2)
    server = serve(Silent)
    address = next(server)
    with pytest.raises(InputError, match=f"{address}/a.png: could not be downloaded .*timed out"):
        model(f"{address}/a.png")
    done.set()
    next(server, None)
    with pytest.raises(InputError, match="could not be downloaded"):
        model(f"{address}/a.png")


def test_a_download_that_is_cut_off(model: Inferencer) -> None:
    class Cut(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = io.BytesIO()
            red_picture().save(content, "PNG")
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(content.getvalue())

        def log_message(self, *args: object) -> None:
            pass

    server = serve(Cut)
    with pytest.raises(InputError, match="download ended after .* of 100,000 bytes|Incomplete"):
        model(next(server) + "/a.png")
    next(server, None)


def test_a_video_is_a_stream_of_frames(model: Inferencer, tmp_path: Path) -> None:
    path = video(tmp_path / "clip.avi", 5)
    results = model(str(path))
    assert iter(results) is results
    frames = list(results)
    assert [item.frame for item in frames] == [0, 1, 2, 3, 4]
    assert {item.path for item in frames} == {str(path)}
    assert [len(item.boxes) for item in frames] == [1] * 5
    widths = [item.boxes[0, 2] - item.boxes[0, 0] for item in frames]
    assert widths == pytest.approx([8, 16, 24, 32, 40], abs=2)
    assert [item.frame for item in model(path, stride=2)] == [0, 2, 4]
    with pytest.raises(InputError, match="stride is 0"):
        model(path, stride=0)


def test_what_is_no_video(model: Inferencer, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match=r"clip.mp4 cannot be opened; expected a video"):
        model(path)


def test_a_camera(model: Inferencer, monkeypatch) -> None:
    class Camera:
        def __init__(self, number: int) -> None:
            self.number, self.taken = number, 0

        def isOpened(self) -> bool:  # noqa: N802
            return self.number == 7

        def get(self, _: int) -> float:
            return -1.0

        def grab(self) -> bool:
            self.taken += 1
            return self.taken <= 3

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, np.asarray(red_picture())[..., ::-1]

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    assert [item.names for item in model(7)] == [["red thing"]] * 3
    with pytest.raises(InputError, match="camera 0 cannot be opened"):
        model(0)


def test_damage_is_said(model: Inferencer, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    found = model(tmp_path / "cut.jpg")
    assert found.error is None and found.damage
