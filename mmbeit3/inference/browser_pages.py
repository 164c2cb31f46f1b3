"""Pages of ``mmbeit3 serve``: what a visitor gives to a model, and what is shown of its answer.

Streamlit runs a page from its top after each change. What took the model is kept in the meantime,
so that a slider only draws again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from mmbeit3.inference.asked_images import AskedSource
from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.inputs import UploadSource
from mmbeit3.inference.result import all_found
from mmbeit3.inference.served import Answer, Served
from mmbeit3.inference.thumbnails import read_thumbnails
from mmbeit3.inference.tiled_detections import TiledDetections
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import EXTENSIONS, decode_image
from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.visualization.overlay import display_scale, resized
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR

LOWEST_SCORE = 0.05  # of detections that are kept
SHOWN = 12  # pictures of a search
NO_CLASS = 255
TYPES = [suffix.removeprefix(".") for suffix in EXTENSIONS]


class Visit:
    """What pages have in common: uploads, answers that are kept, downloads.

    Args:
        served (Served): The model.

    Attributes:
        st (ModuleType): Streamlit.
        model (Any): The model.
    """

    def __init__(self, served: Served) -> None:
        self.st: Any = optional_package("streamlit", "serve", "serve")
        self.served, self.model = served, served.model

    def upload(self, label: str = "Picture") -> Any:
        """Ask for a picture; without one the page ends here."""
        file = self.st.file_uploader(label, TYPES)
        if file is None:
            self.st.stop()
        return file

    def ask(self, key: Hashable, call: Callable[[], Answer]) -> Answer:
        """Give the answer to a request, new or kept; after an error the page ends here.

        Args:
            key (Hashable): Says which request it is.
            call (Callable): Asks the model.
        """
        kept = self.st.session_state.get("answer")
        if kept is None or kept[0] != key:
            with self.st.spinner("The model is at work", show_time=True):
                try:
                    kept = key, self.served.ask(call)
                except InputError as error:
                    self.st.error(plain(str(error)))
                    self.st.stop()
                self.st.session_state["answer"] = kept  # before Streamlit can stop a script
        return kept[1]

    def predict(self, *files: Any, text: str = "") -> Any:
        """Predict uploaded pictures, with a text if there is one."""
        sources = tuple(
            UploadSource(number, None, file.name, None, content=file.getvalue())
            for number, file in enumerate(files, 1)
        )
        source = AskedSource.of(1, sources, text) if text else sources[0]
        [found] = all_found(self.model.predict([self.model.load(source)], 1))
        return found

    def asked_about(
        self, *files: Any, text: str = "", keep: Callable[[Any], Any] = lambda found: found
    ) -> Any:
        """As :meth:`predict`, of a request that is kept; says if a file is damaged.

        Args:
            *files (Any): The pictures.
            text (str): The text. Defaults to "".
            keep (Callable): Makes of a result what is kept. Defaults to all of it.
        """
        key = (*(file.file_id for file in files), text)
        found = self.ask(key, lambda: keep(self.predict(*files, text=text)))
        if found.damage:
            self.st.warning(plain(f"the file is damaged: {found.damage}"))
        return found

    def show_pictures(self, *files: Any) -> None:
        """Show uploaded pictures as the model sees them, side by side; else the page ends here."""
        try:
            images = [decode_image(file.getvalue()) for file in files]
        except InputError as error:
            self.st.error(plain(str(error)))
            self.st.stop()
        for column, image in zip(self.st.columns(len(images)), images, strict=True):
            column.image(resized(image, display_scale(*image.shape[:2])), channels="BGR")

    def choose(self, names: Iterable[str], file: Any) -> list[str]:
        """Ask which of the classes that were found in a picture are shown."""
        names = list(names)
        return self.st.pills(
            "Classes",
            names,
            default=names,
            selection_mode="multi",
            format_func=plain,
            key=f"classes of {file.file_id}",
        )

    def download(self, name: str, content: Callable[[], str]) -> None:
        """Offer JSON, which is made when it is asked for."""
        self.st.download_button(
            "Download JSON",
            lambda: content().encode(),
            f"{PurePath(name).stem}.json",
            "application/json",
            on_click="ignore",
        )

    def columns(self) -> Any:
        """Give a place for what is asked and one for what is shown, below each other if narrow."""
        return self.st.columns([1, 2.4], gap="large")


def show() -> None:
    """Show the page of the model that this process serves."""
    served = Served.current
    visit = Visit(served)
    visit.st.set_page_config(page_title=served.title, page_icon="🔎", layout="wide")
    visit.st.subheader(plain(served.title))
    served.model.show_page(visit)


def show_detections(visit: Visit) -> None:
    """Objects above a score, of the classes that are on."""
    st, (asked, shown) = visit.st, visit.columns()
    with asked:
        file = visit.upload()
    with shown:
        found = visit.asked_about(file, keep=_kept_detections)
    with asked:
        score = st.slider("Score from", LOWEST_SCORE, 1.0, DEFAULT_SCORE_THR, 0.05, key="score")
        names = visit.choose(dict.fromkeys(found.names), file)
        found = found[(found.scores >= score) & np.isin(found.names, names)]
        visit.download(file.name, found.to_json)
    with shown:
        st.image(found.draw(score), channels="BGR")
        counts = [f"{count} {name}" for name, count in Counter(found.names).most_common()]
        st.caption(plain(", ".join(counts) or "nothing"))


def show_class_map(visit: Visit) -> None:
    """The classes that are on."""
    st, (asked, shown) = visit.st, visit.columns()
    with asked:
        file = visit.upload()
    with shown:
        found = visit.asked_about(file)
    with asked:
        names = visit.choose(found.names, file)
        off = [index for index, name in enumerate(found.classes) if name not in names]
        visit.download(file.name, lambda: _segments(found.to_json(), names))
    with shown:
        labels = np.where(np.isin(found.label_map, off), np.uint8(NO_CLASS), found.label_map)
        st.image(replace(found, label_map=labels).draw(), channels="BGR")
        shares = [f"{share:.1%} {name}" for name, share in found.shares.items() if name in names]
        st.caption(plain(", ".join(shares)))


def show_classes(visit: Visit) -> None:
    """The most likely classes."""
    asked, shown = visit.columns()
    with asked:
        file = visit.upload()
    with shown:
        visit.show_pictures(file)
    with asked:
        _show_best(visit, visit.asked_about(file), file)


def show_answers(visit: Visit) -> None:
    """The best answers to a question."""
    asked, shown = visit.columns()
    with asked:
        file = visit.upload()
        question = visit.st.text_input("Question", max_chars=500).strip()
    with shown:
        visit.show_pictures(file)
    if question:
        with asked:
            _show_best(visit, visit.asked_about(file, text=question), file)


def show_judgment(visit: Visit) -> None:
    """Whether a statement about two pictures is true."""
    asked, shown = visit.columns()
    with asked:
        files = visit.upload("Left picture"), visit.upload("Right picture")
        statement = visit.st.text_input("Statement", max_chars=500).strip()
    with shown:
        visit.show_pictures(*files)
    if statement:
        with asked:
            _show_best(visit, visit.asked_about(*files, text=statement), files[0])


def show_caption(visit: Visit) -> None:
    """A caption, on demand."""
    st, (asked, shown) = visit.st, visit.columns()
    with asked:
        file = visit.upload()
        is_wanted = st.button("Write a caption", type="primary")
    with shown:
        visit.show_pictures(file)
    if is_wanted:
        with asked:
            found = visit.asked_about(file)
            st.markdown(f"**{plain(found.caption)}**")
            visit.download(file.name, found.to_json)


def show_search(visit: Visit) -> None:
    """The pictures of the folder that fit a text."""
    st, images = visit.st, visit.served.images
    assert images is not None  # Served has seen to it
    query = st.text_input(f"Search {len(images):,} pictures", max_chars=500).strip()
    if not query:
        st.stop()

    def search() -> Any:
        hits = visit.model.search(query, images, SHOWN)
        jpegs = read_thumbnails(hit.path for hit in hits)
        return [(hit.name, hit.score, jpegs[hit.path]) for hit in hits if hit.path in jpegs]

    hits = visit.ask(query, search)
    entries = [{"file_name": name, "score": round(score, 6)} for name, score, _ in hits]
    visit.download("ranking.json", lambda: json.dumps({"text": query, "images": entries}))
    captions = [plain(f"{score:.3f} {name}") for name, score, _ in hits]
    st.image([jpeg for _, _, jpeg in hits], captions, width=260)


def plain(text: str) -> str:
    """Write a text so that Streamlit, which reads Markdown, shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def _kept_detections(found: DetectionResult) -> TiledDetections:
    """What a visitor may see of a result, in less memory."""
    return TiledDetections.of(found[found.scores >= LOWEST_SCORE])


def _segments(content: str, names: list[str]) -> str:
    """Leave the classes that are on in what a class map has as JSON."""
    found = json.loads(content)
    found["segments"] = [one for one in found["segments"] if one["category"] in names]
    found["shares"] = {name: share for name, share in found["shares"].items() if name in names}
    return json.dumps(found)


def _show_best(visit: Visit, found: Any, file: Any) -> None:
    for name, score in found.top():
        visit.st.progress(min(score, 1.0), plain(f"{name} {score:.1%}"))
    visit.download(file.name, found.to_json)


if __name__ == "__main__":  # as Streamlit runs it
    show()
