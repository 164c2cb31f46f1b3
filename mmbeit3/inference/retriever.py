"""A trained dual encoder that takes images and texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmbeit3.inference.browser_pages import show_search
from mmbeit3.inference.classification_result import ClassificationResult
from mmbeit3.inference.image_index import Entry, Hit, ImageIndex
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import Inferencer, Loaded, default_workers
from mmbeit3.inference.inputs import PixelSource
from mmbeit3.inference.pipeline import track
from mmbeit3.inference.result import Failed, Predicted, all_found
from mmbeit3.models.acceleration import autocast_of
from mmbeit3.models.multimodal.class_texts import check_names, check_told_apart, encode_classes
from mmbeit3.text import Tokenizer
from mmbeit3.text.templates import read_templates
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.file_stamp import Stamp
from mmbeit3.utils.image_folders import find_images
from mmbeit3.utils.text_files import printable

PROBE_SIZE = (192, 256)  # height and width of the picture that tells models apart
NO_PIXELS = np.zeros((1, 1, 3), np.uint8)  # of an image whose feature was known


@dataclass(eq=False, repr=False)
class ImageFeature(Predicted):
    """What the model makes of an image.

    Attributes:
        feature (np.ndarray): (D,) float32, of length 1.
        known_size (tuple[int, int], optional): Height and width of an image whose feature is that
            of an index, so that it was not read and ``image`` is empty. Defaults to None.
    """

    feature: np.ndarray
    known_size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.known_size or super().size

    def to_json(self) -> str:
        """Return the image's facts and its ``feature``."""
        return json.dumps(self._facts() | {"feature": self.feature.tolist()})

    def __repr__(self) -> str:
        return f"ImageFeature({self.source.file_name}: {len(self.feature)} numbers)"


class Retriever(Inferencer):
    """A dual encoder with trained weights; arguments and errors as :class:`Inferencer`.

    A call returns an :class:`ImageFeature` for each image, or with classes set a
    :class:`ClassificationResult`.
    """

    scope = "mmbeit3"
    show_page = staticmethod(show_search)
    model: Any  # mmbeit3.BEiT3Retrieval

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set no ``classes``: see :meth:`set_classes`."""
        self.classes, self.palette = (), []
        self._class_features: np.ndarray | None = None
        #: Images that need not be encoded again, by the absolute path of the file.
        self.known: dict[Path, Entry] = {}
        #: Size and time of the files that were read or known, by their names.
        self.stamps: dict[str, Stamp] = {}
        self._probe: np.ndarray | None = None

    def name_classes(self, names: tuple[str, ...]) -> None:
        """See :meth:`set_classes`."""
        self.set_classes(names)

    def set_classes(
        self, names: Sequence[str], templates: str | Path | Sequence[str] = ("{}",)
    ) -> None:
        """Have images compared with names: a call says from then on which one fits.

        Args:
            names (Sequence[str]): K names, two at least.
            templates (str | Path | Sequence[str]): See
                :func:`mmbeit3.text.templates.read_templates`. Defaults to ("{}",), the name alone.

        Raises:
            InputError: Names or templates cannot be used, or two names are the same to the
                tokenizer.
        """
        names, templates = check_names(names), read_templates(templates)
        if len(names) < 2:
            raise InputError(f"the names are {names[0]!r} alone; expected two at least to compare")
        check_told_apart(names, templates, self._tokenizer)
        with torch.no_grad(), self._precision():
            features = encode_classes(names, templates, self._tokenizer, self.model)
        self.classes = names
        self._class_features = features.float().cpu().numpy()

    def __call__(self, images: Any, **options: Any) -> Any:
        """Encode images, or classify them; see :meth:`Inferencer.__call__`."""
        found: Any = super().__call__(images, **options)
        if not self.classes:
            return found
        if isinstance(found, list):
            return [self._classified(item) for item in found]
        if isinstance(found, ImageFeature):
            return self._classified(found)
        return (self._classified(item) for item in found)

    def result(self, loaded: Loaded, sample: BaseDataElement) -> ImageFeature:
        """Move the feature of an image to the CPU."""
        feature = sample.image_feature.float().cpu().numpy()
        return ImageFeature(loaded.source, loaded.image, feature)

    def load(self, source: Source) -> Loaded | Failed | Predicted:
        """Read and prepare an image, unless its feature is known."""
        if type(source) is Source and source.path is not None:
            if entry := self.known.get(source.path.absolute()):
                self.stamps[source.file_name] = entry.stamp
                return ImageFeature(source, NO_PIXELS, entry.feature, known_size=entry.size)
            try:  # before it is read: what is written later makes it stale
                self.stamps[source.file_name] = Stamp.of(source.path)
            except OSError as error:
                return Failed(source, error.strerror or str(error))
        return super().load(source)

    def encode_image(self, images: Any, **options: Any) -> np.ndarray:
        """Encode images.

        Args:
            images (Any): As in a call: a path, array, PIL image, a list of them, a folder, ...
            **options: Those of a call, such as ``channels`` and ``batch_size``.

        Returns:
            np.ndarray: (D,) of one image or (N, D) of several, float32, each of length 1.

        Raises:
            InputError: An image cannot be read, or there is none.
        """
        found: Any = super().__call__(images, **options)
        if isinstance(found, ImageFeature):
            return found.feature
        return np.stack([item.feature for item in all_found(found)])

    def encode_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Encode texts.

        Args:
            texts (str | Sequence[str]): One text or several, of any lengths.

        Returns:
            np.ndarray: (D,) of one text or (M, D) of several, float32, each of length 1.

        Raises:
            InputError: A text is empty, or there is none.
        """
        if isinstance(texts, str):
            return self.encode_text([texts])[0]
        if not isinstance(texts, Iterable):
            raise InputError(
                f"the texts are of type {type(texts).__name__}; expected a text or a list of texts"
            )
        texts = list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise InputError(f"the texts are {texts!r:.200}; expected a text or a list of texts")
        found = np.empty((len(texts), self.model.encoder.embed_dims), np.float32)
        with torch.no_grad(), self._precision():
            for places, ids, padding_mask in self._tokenizer.batches(texts):
                features = self.model.encode_text(ids.to(self.device), padding_mask.to(self.device))
                found[places] = features.float().cpu().numpy()
        return found

    def similarity(self, images: Any, texts: Any) -> np.ndarray:
        """Compare images with texts.

        Args:
            images (Any): As in :meth:`encode_image`, or its result.
            texts (Any): As in :meth:`encode_text`, or its result.

        Returns:
            np.ndarray: (N, M) cosines of N images and M texts, float32; 1 x 1 of one and one.

        Raises:
            InputError: An image cannot be read, a text is empty, or features are of another width.
        """
        images = self._features(images, self.encode_image)
        texts = self._features(texts, self.encode_text)
        return np.atleast_2d(images) @ np.atleast_2d(texts).T

    def index(self, folder: str | Path, file: str | Path | None = None) -> ImageIndex:
        """Encode the images of a folder, to be searched.

        Args:
            folder (str | Path): The folder, searched recursively.
            file (str | Path, optional): A ``.safetensors`` file that keeps the features. If it is
                there, images that are in it and have not changed are not encoded again; it is
                written anew. Defaults to None.

        Returns:
            ImageIndex: The images that could be read; a warning names the others.

        Raises:
            InputError: The folder holds no images, or the file is none of this kind.
        """
        if not isinstance(folder, (str, Path)):
            raise InputError(
                f"the folder is of type {type(folder).__name__}; expected a path: features of a "
                "list of images are those of encode_image"
            )
        folder = Path(folder)
        if folder.is_file():
            raise InputError(f"{folder} is a file; expected a folder: encode_image takes one image")
        before = None
        if file is not None and Path(file).exists():
            before = ImageIndex.read(file)
            if before.folder.absolute() != folder.absolute():
                raise InputError(
                    f"{file} is the index of {before.folder}; expected that of {folder}, or a file "
                    "that is not there yet"
                )
        files = find_images(folder)
        names = [path.relative_to(folder).as_posix() for path in files]
        pairs = enumerate(zip(files, names, strict=True), 1)
        sources = [Source(number, path, name, None) for number, (path, name) in pairs]
        self.know(before)
        workers = default_workers()
        try:
            with ThreadPoolExecutor(workers) as pool:
                run = self.run(sources, self._batch_size, pool, workers)
                found: list[Any] = list(track(run, len(sources)))
        finally:
            self.known = {}
        for item in found:
            if item.error is not None:
                warn(printable(f"left out of the index: {item.error}"))
        kept = [item for item in found if item.error is None]
        if not kept:
            raise InputError(f"{folder} holds no image that can be read")
        index = ImageIndex(folder, [self.entry(item) for item in kept], self.probe)
        if file is not None:
            index.save(file)
        return index

    def entry(self, found: ImageFeature) -> Entry:
        """Make the entry of an index of a file that was encoded."""
        name = found.source.file_name
        return Entry(name, found.feature, found.size, self.stamps[name])

    def know(self, index: ImageIndex | None) -> None:
        """Take over the features of an index that are this model's, of files that are as they were.

        Args:
            index (ImageIndex, optional): The index; None has no features.
        """
        self.known = index.fresh() if index is not None and index.is_of(self.probe) else {}

    def search(
        self, queries: Any, images: ImageIndex | str | Path, top: int = 10
    ) -> list[Hit] | list[list[Hit]]:
        """Find images by words, or by an image's or text's feature.

        Args:
            queries (Any): A text or a list of texts, or features (D,) or (M, D).
            images (ImageIndex | str | Path): An index, or a folder, which is then encoded.
            top (int): How many images. Defaults to 10.

        Returns:
            list[Hit] | list[list[Hit]]: The most similar images first; of several queries a list
            for each.

        Raises:
            InputError: A text is empty, the folder holds no images, or ``top`` is less than 1.
        """
        features = self._features(queries, self.encode_text)
        index = images if isinstance(images, ImageIndex) else self.index(images)
        found = index.search(np.atleast_2d(features), top)
        return found[0] if features.ndim == 1 else found

    def class_scores(self, features: np.ndarray) -> np.ndarray:
        """Features (N, D) of images -> (N, K) probabilities of the classes that were set."""
        assert self._class_features is not None, "set_classes first"
        scale = float(self.model.logit_scale.detach().exp())
        logits = scale * (features @ self._class_features.T)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    @property
    def probe(self) -> np.ndarray:
        """(D,), what the model makes of a picture that is always the same."""
        if self._probe is None:
            source = PixelSource(1, None, "the probe", None, pixels=_probe())
            found: list[Any] = list(self.predict([super().load(source)], 1))
            if found[0].error is not None:
                raise InputError(found[0].error)
            self._probe = found[0].feature
        assert self._probe is not None
        return self._probe

    def _classified(self, found: ImageFeature | Failed) -> ClassificationResult | Failed:
        if isinstance(found, Failed):
            return found
        [scores] = self.class_scores(found.feature[None])
        return ClassificationResult(
            found.source, found.image, scores, self.classes, damage=found.damage
        )

    def _features(self, given: Any, encode: Callable[[Any], np.ndarray]) -> np.ndarray:
        """Features (D,) or (N, D), float32, of what is no features yet."""
        is_encoded = isinstance(given, np.ndarray) and np.issubdtype(given.dtype, np.floating)
        if not is_encoded or given.ndim not in (1, 2):
            return encode(given)
        width = self.model.encoder.embed_dims
        if given.shape[-1] != width:
            raise InputError(
                f"the features have the shape {given.shape}; expected (N, {width}) or ({width},)"
            )
        return given.astype(np.float32, copy=False)

    @property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self.model.data_preprocessor.tokenizer
        if tokenizer is None:
            raise InputError(
                "the model has no tokenizer: set "
                "model.data_preprocessor.tokenizer=dict(file='beit3.spm') in its config"
            )
        return tokenizer

    def _precision(self) -> AbstractContextManager:
        return autocast_of(self.device, self.dtype)


def _probe() -> np.ndarray:
    """A picture (H, W, 3) with colors, edges and texture."""
    height, width = PROBE_SIZE
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 255 // height, columns * 255 // width, (rows // 8 * 31) % 256], -1)
    picture[(rows - 96) ** 2 + (columns - 128) ** 2 < 3600] = (20, 40, 220)
    picture[20:60, 30:90] = np.random.RandomState(0).randint(0, 256, (40, 60, 3))
    return picture.astype(np.uint8)
