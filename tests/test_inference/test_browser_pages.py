"""Pages of ``mmbeit3 serve``, run without a browser: what is asked, shown, kept and refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmbeit3 import load
from mmbeit3.inference import browser_pages
from mmbeit3.inference.browser_pages import plain
from mmbeit3.inference.served import Served
from mmbeit3.utils import InputError
from tests.small_dual_encoder import write_dual_encoder
from tests.small_speakers import ANSWERS, write_speaker

testing = pytest.importorskip("streamlit.testing.v1")


def picture(red: tuple[int, ...] = (10, 20, 60, 80), suffix: str = ".png") -> bytes:
    """The file of a picture, 100 x 150, with a red rectangle and a green one."""
    image = np.zeros((100, 150, 3), np.uint8)
    top, left, bottom, right = red
    image[top:bottom, left:right] = (0, 0, 255)
    image[70:90, 100:140] = (0, 255, 0)
    return cv2.imencode(suffix, image)[1].tobytes()


class Page:
    """A visit, and how often the model has worked for it."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.runs, predict = 0, model.predict

        def count(*arguments: Any) -> Any:
            self.runs += 1
            return predict(*arguments)

        monkeypatch.setattr(model, "predict", count)
        monkeypatch.setattr(Served, "current", Served(model, "a_model", **options), raising=False)
        self.app = testing.AppTest.from_file(browser_pages.__file__, default_timeout=60).run()

    def upload(self, content: bytes, name: str = "a.png", place: int = 0) -> None:
        self.app.file_uploader[place].upload(name, content, "image/png").run()
        assert not self.app.exception, self.app.exception

    @property
    def captions(self) -> list[str]:
        return [caption.value.replace("\\", "") for caption in self.app.caption]

    @property
    def bars(self) -> list[str]:
        return [bar.proto.text.replace("\\", "") for bar in self.app.get("progress")]


@pytest.fixture
def detector(color_cfg: Config, color_checkpoint: Path) -> Any:
    return load(color_cfg, color_checkpoint, device="cpu")


def test_the_score_is_moved_without_the_model(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(detector, monkeypatch)
    assert page.runs == 0 and not page.captions  # nothing is shown before a picture
    page.upload(picture())
    assert page.captions == ["1 red thing"]
    page.app.slider[0].set_value(0.15).run()
    assert page.captions == ["1 red thing, 1 green thing"]
    page.app.slider[0].set_value(0.95).run()
    assert page.captions == ["nothing"]
    assert page.runs == 1


def test_classes_are_turned_off_and_on(detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(detector, monkeypatch)
    page.upload(picture())
    page.app.slider[0].set_value(0.15).run()
    [classes] = page.app.button_group
    classes.set_value(["green thing"]).run()
    assert page.captions == ["1 green thing"]
    classes.set_value([]).run()
    assert page.captions == ["nothing"]
    classes.set_value(["red thing", "green thing"]).run()
    assert page.captions == ["1 red thing, 1 green thing"]
    assert page.runs == 1


def test_a_second_picture_is_another_question(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(detector, monkeypatch)
    page.upload(picture())
    page.upload(picture(red=(0, 0, 0, 0)), "b.png")
    assert page.runs == 2 and page.captions == ["nothing"]


def test_a_picture_in_which_nothing_is_found(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(detector, monkeypatch)
    page.upload(cv2.imencode(".png", np.zeros((30, 40), np.uint8))[1].tobytes())
    assert page.captions == ["nothing"]


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0 no more", picture()[:60]])
@pytest.mark.parametrize("name", ["a.jpg", "[a](b)*.jpg"])
def test_what_is_no_image_is_an_error_on_the_page(
    detector: Any, monkeypatch: pytest.MonkeyPatch, content: bytes, name: str
) -> None:
    page = Page(detector, monkeypatch)
    page.upload(content, name)
    [error] = page.app.error
    assert error.value.startswith(plain(name))
    assert "/tmp" not in error.value.replace("\\", "")
    page.upload(picture())
    assert not page.app.error and page.captions == ["1 red thing"]


def test_classes_of_a_class_map_are_turned_off(
    seg_cfg: Config, seg_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(load(seg_cfg, seg_checkpoint, device="cpu"), monkeypatch)
    page.upload(picture())
    [before] = page.captions
    [classes] = page.app.button_group
    names = list(classes.value)
    assert len(names) == 3 and all(name in before for name in names)
    classes.set_value(names[1:]).run()
    assert names[0] not in page.captions[0] and page.runs == 1


@pytest.fixture
def speaker(tmp_path: Path, tokenizer_file: Path) -> Callable[[str], Any]:
    return lambda task: load(*write_speaker(tmp_path, tokenizer_file, task), device="cpu")


def test_a_question_has_answers(
    speaker: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = speaker("vqa")
    page = Page(model, monkeypatch)
    page.upload(picture())
    assert page.runs == 0 and not page.bars
    page.app.text_input[0].set_value(" a red circle ").run()
    assert page.runs == 1 and len(page.bars) == len(ANSWERS)
    image = cv2.imdecode(np.frombuffer(picture(), np.uint8), cv2.IMREAD_COLOR)
    [(best, score), *_] = model.answer(image, "a red circle")
    assert page.bars[0] == f"{best} {score:.1%}"
    page.app.text_input[0].set_value("  ").run()
    assert not page.bars


@pytest.mark.parametrize("task", ["vqa", "captioning"])
def test_a_file_that_is_no_image_is_told_before_it_is_asked_about(
    task: str, speaker: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(speaker(task), monkeypatch)
    page.upload(b"no image")
    assert len(page.app.error) == 1 and page.runs == 0


def test_a_caption_is_written_on_demand(
    speaker: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(speaker("captioning"), monkeypatch)
    page.upload(picture())
    assert page.runs == 0
    page.app.button[0].click().run()
    assert page.runs == 1 and page.app.markdown[-1].value.startswith("**")


def test_a_statement_is_judged(
    speaker: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(speaker("nlvr2"), monkeypatch)
    page.upload(picture())
    page.upload(picture(suffix=".jpg"), "b.jpg", place=1)
    page.app.text_input[0].set_value("two red").run()
    assert page.runs == 1 and {bar.split()[0] for bar in page.bars} == {"True", "False"}


def test_a_folder_is_searched(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(*write_dual_encoder(tmp_path, tokenizer_file), device="cpu")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture((0, 0, 30 * number, 50)))
    index = model.index(folder)
    page = Page(model, monkeypatch, images=index)
    assert "Search 3 pictures" in page.app.text_input[0].label
    page.app.text_input[0].set_value("a red square").run()
    assert not page.app.exception
    [pictures] = page.app.image
    shown = [image.caption for image in pictures.proto.imgs]
    hits = model.search("a red square", index, 12)
    assert shown == [plain(f"{hit.score:.3f} {hit.name}") for hit in hits]


@pytest.fixture
def served(detector: Any) -> Served:
    return Served(detector, "title", timeout=0.3)


def test_one_request_at_a_time_goes_through_the_model(served: Served) -> None:
    inside, most = [], []

    def call() -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    visitors = [threading.Thread(target=served.ask, args=(call,)) for _ in range(5)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert most == [1] * 5


def test_what_takes_too_long_is_an_error(served: Served) -> None:
    release, late = threading.Event(), []
    with pytest.raises(InputError, match=r"no answer within 0\.3 seconds: try a smaller picture"):
        served.ask(release.wait)
    with pytest.raises(InputError, match=r"0\.3 seconds: others were before it"):
        served.ask(lambda: late.append(1))
    release.set()
    assert served.ask(lambda: "answer") == "answer"
    assert not late  # nobody waits for it any more


def test_the_page_tells_what_takes_too_long(detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load_image = detector.load
    monkeypatch.setattr(detector, "load", lambda source: time.sleep(0.5) or load_image(source))
    page = Page(detector, monkeypatch, timeout=0.2)
    page.upload(picture())
    assert "no answer within" in page.app.error[0].value.replace("\\", "")
