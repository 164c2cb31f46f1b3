"""A trained model that takes images: the test pipeline and the forward pass.

What detectors and segmentors share; :mod:`mmbeit3.inference.detector` and
:mod:`mmbeit3.inference.segmentor` say what they return.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn

from mmbeit3.checkpoint import load_weights, loading_safely, read_checkpoint, state_dict_of
from mmbeit3.checkpoint.report import compare
from mmbeit3.config import check_arguments
from mmbeit3.datasets.transforms.loading import image_loader, picture_of
from mmbeit3.export.files import Exported, check_run
from mmbeit3.export.kinds import exported_model
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inputs import read_inputs, single_source
from mmbeit3.inference.pipeline import map_ahead
from mmbeit3.inference.result import Failed, Predicted, reason_of
from mmbeit3.inference.tiles import Joiner, Tiles, predict_by_tiles
from mmbeit3.models.acceleration import accelerate
from mmbeit3.models.multimodal.class_texts import check_names
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.cores import count_cores
from mmbeit3.utils.large_images import Georeference
from mmbeit3.utils.text_files import printable
from mmbeit3.visualization.text_strip import side_by_side

if TYPE_CHECKING:
    from mmbeit3.inference.layer_maps import AttentionMap, FeatureMap


@dataclass
class Loaded:
    """An image as read, (H, W, 3) BGR uint8, what the test pipeline made of it, and its damage.

    Several images of one sample stand side by side.
    """

    source: Source
    image: np.ndarray
    packed: dict[str, Any]
    damage: str | None = None


class Inferencer(ABC):
    """A model with trained weights, and the preparation of its images.

    Args:
        cfg (Config): The config; ``model`` and ``test_dataloader`` are used.
        checkpoint (str | Path | Mapping | Exported): The weights, or what
            :func:`mmbeit3.checkpoint.read_checkpoint` made of their file; they must be those of
            exactly this model. Or the files that the model was exported to.
        device (str): A device of PyTorch, or 'auto'.
        dtype (str, optional): 'float32', 'bfloat16' or 'int8'; see :func:`mmbeit3.accelerate`. None
            leaves the model as it is built, for export. Defaults to 'float32'.
        compiles (bool): Whether to compile the backbone. Defaults to False.
        force (bool): See :func:`mmbeit3.accelerate`. Defaults to False.

    Raises:
        InputError: If config, checkpoint, device and options do not go together.
    """

    #: Where types without a scope are looked up, unless the config says so.
    scope: ClassVar[str]
    #: Names of the classes.
    classes: tuple[str, ...]
    #: BGR color of each class.
    palette: list[tuple[int, int, int]]
    #: A function of a :class:`mmbeit3.inference.browser_pages.Visit`, which shows a visitor of
    #: ``mmbeit3 serve`` what the model finds; None if there is no page for it.
    show_page: ClassVar[Any] = None

    @loading_safely()
    def __init__(
        self,
        cfg: Config,
        checkpoint: str | Path | Mapping[str, Any] | Exported,
        device: str = "auto",
        dtype: str | None = "float32",
        compiles: bool = False,
        force: bool = False,
    ) -> None:
        exported = None
        if isinstance(checkpoint, Exported):
            exported = checkpoint
            check_run(exported, device, dtype, compiles)
            device, checkpoint = "cpu", {"meta": exported.facts["meta"]}
        self.device = resolve_device(device)
        check_arguments(cfg, "infer")
        init_default_scope(cfg.get("default_scope", self.scope))
        self._transform = Compose(preparation(cfg))
        self.loader = image_loader_of(cfg)
        self._batch_size = cfg.test_dataloader.get("batch_size", 1)
        content = checkpoint if isinstance(checkpoint, Mapping) else read_checkpoint(checkpoint)
        meta = content.get("meta")
        try:
            self.find_classes(cfg, meta if isinstance(meta, Mapping) else {})
        except InputError:
            _refuse_other_model(cfg, content)  # whose classes are not the trouble
            raise
        if exported is None:
            self.model: nn.Module = MODELS.build(cfg.model)
            load_weights(self.model, content)
            if getattr(self.model, "class_embeddings", None) is not None:
                self.model.set_classes([str(name) for name in self.classes])
            self.model.to(self.device).eval()
        else:
            self.model = exported_model(cfg, exported)
        #: The type that is computed in, by its name.
        self.dtype = accelerate(self.model, dtype, compiles, force) if dtype else "float32"
        self._views: Compose | None = None
        self._merging: nn.Module | None = None
        #: How images are cut into tiles, unless a call says otherwise; None: not at all.
        self.tiles: Tiles | None = None

    @abstractmethod
    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` from the checkpoint's meta or the config, and fit ``cfg.model``."""

    def name_classes(self, names: tuple[str, ...]) -> None:
        """Set ``classes`` and what goes with them."""
        self.classes = names

    def set_classes(self, names: Sequence[str]) -> None:
        """Look for other classes than those of the training, of a model with ``class_embeddings``.

        Args:
            names (Sequence[str]): Their names; results have them from then on.

        Raises:
            InputError: The classes of the model are fixed, or the names cannot be told apart.
        """
        if not hasattr(self.model, "set_classes"):
            raise InputError(
                f"the classes of {type(self.model).__name__} are fixed; expected a model of this "
                "project with class_embeddings to give it other names"
            )
        names = check_names(names)
        self.model.set_classes(names)
        self.name_classes(names)

    def merge_views(self, pipeline: list[dict[str, Any]], tta_model: Mapping[str, Any]) -> None:
        """See several views of each image from then on: test-time augmentation.

        Args:
            pipeline (list[dict]): What :func:`mmbeit3.config.tta.tta_parts` returns.
            tta_model (Mapping): The same.
        """
        self._views = Compose(_without_loading(pipeline))
        self._merging = MODELS.build({**tta_model, "module": self.model})
        accelerate(self._merging, self.dtype, force=True)  # as the model already does

    def check_tiles(self) -> None:
        """Refuse tiles for a model whose result they cannot be joined to.

        Raises:
            InputError: They cannot.
        """
        if type(self).joiner is Inferencer.joiner:
            raise InputError("only detectors and segmentors predict an image by tiles", "tile")

    def joiner(
        self, source: Source, size: tuple[int, int], georeference: Georeference | None
    ) -> Joiner:
        """Make what joins the results of an image's tiles.

        Args:
            source (Source): The image.
            size (tuple[int, int]): Its height and width.
            georeference (Georeference, optional): Where it lies.
        """
        raise NotImplementedError

    @abstractmethod
    def result(self, loaded: Loaded, sample: BaseDataElement) -> Predicted:
        """Move one prediction of the model to the CPU."""

    def __call__(
        self,
        images: Any,
        *,
        channels: str = "bgr",
        stride: int = 1,
        stream: bool = False,
        batch_size: int | None = None,
        num_workers: int | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> Predicted | list[Predicted | Failed] | Iterator[Predicted | Failed]:
        """Predict images.

        Args:
            images (Any): One image: a path, an address (``http://``, ``https://``), an array
                (H, W, 3), (H, W) or (H, W, 4), or a PIL image. Several: a list of these, or a
                folder. A stream: any other iterable, a video file, or the number of a camera.
            channels (str): The order of the channels of arrays, 'bgr' (OpenCV) or 'rgb'. Defaults
                to 'bgr'.
            stride (int): Of a video, take each such frame. Defaults to 1, all.
            stream (bool): Whether to get an iterator of results also for several images. Defaults
                to False: a list.
            batch_size (int, optional): Images per forward pass, fewer where their sizes differ.
                Defaults to the config's ``test_dataloader.batch_size``; of a camera it is 1.
            num_workers (int, optional): Threads that read images. Defaults to the number of CPU
                cores, at most 4.
            tile (int, optional): Predict images by tiles of so many pixels each way, of a detector
                or a segmentor; see :class:`mmbeit3.inference.tiles.Tiles`. Files are then read by
                window, and results hold an overview of the image. Defaults to None, whole.
            overlap (float): The share of a tile that lies in the next. Defaults to 0.2.

        Returns:
            Predicted | list | Iterator: For one image its result. For several a list in their
            order; for a stream an iterator, which predicts as it is read. In these, an image that
            cannot be read gives a :class:`Failed`, whose ``error`` is not None.

        Raises:
            InputError: The image cannot be read, ``images`` is nothing of the above, or there can
                be no such tiles.
        """
        inputs = read_inputs(images, channels, stride)
        if tile is not None:
            self.check_tiles()
            tiles = Tiles(tile, overlap)
            results = self._overlapping(inputs.sources, batch_size, num_workers, tiles)
            if inputs.is_single:
                [found] = results
                return _checked(found)
            return results if stream or inputs.is_stream else list(results)
        if inputs.is_single:
            [found] = self._one_by_one(inputs.sources)
            return _checked(found)
        if inputs.is_live:
            return self._one_by_one(inputs.sources)
        results = self._overlapping(inputs.sources, batch_size, num_workers)
        return results if stream or inputs.is_stream else list(results)

    def attention(
        self,
        image: Any,
        layer: int = -1,
        *,
        at: tuple[float, float] | None = None,
        channels: str = "bgr",
    ) -> AttentionMap:
        """Show where a layer of the tower looks; the whole image goes through at once.

        Args:
            image (Any): One image, as in a call.
            layer (int): The layer, from 0; negative ones count from the last. Defaults to -1.
            at (tuple[float, float], optional): The point (x, y) of the image whose patch looks.
                Defaults to None: the mean over all patches.
            channels (str): See a call. Defaults to 'bgr'.

        Returns:
            AttentionMap: ``weights`` (heads, h, w) that sum to one, and a picture by ``draw()``.

        Raises:
            InputError: The image cannot be read, the backbone is none of this project, or there is
                no such layer or point.
        """
        from mmbeit3.inference.layer_maps import attention_map

        return attention_map(self, image, layer, at, channels)

    def features(self, image: Any, layer: int = -1, *, channels: str = "bgr") -> FeatureMap:
        """Show what a layer of the tower hands on; the whole image goes through at once.

        Args:
            image (Any): One image, as in a call.
            layer (int): The layer, from 0; negative ones count from the last. Defaults to -1.
            channels (str): See a call. Defaults to 'bgr'.

        Returns:
            FeatureMap: ``features`` (h, w, C), and a picture by ``draw()``.

        Raises:
            InputError: As :meth:`attention`.
        """
        from mmbeit3.inference.layer_maps import feature_map

        return feature_map(self, image, layer, channels)

    def load_one(self, image: Any, channels: str = "bgr") -> Loaded:
        """Read one image, as a call does, and prepare it, as a single view.

        Raises:
            InputError: It cannot be read, or it is not one image.
        """
        return _checked(self._load(single_source(image, channels), self._transform))

    def run(
        self, sources: Iterable[Source], batch_size: int, pool: Executor, num_workers: int
    ) -> Iterator[Predicted | Failed]:
        """Predict images that threads read ahead.

        Args:
            sources (Iterable[Source]): The images; their ids differ.
            batch_size (int): See :meth:`predict`.
            pool (Executor): Where they are read.
            num_workers (int): Its threads.

        Yields:
            What became of each, in order.
        """
        if self.tiles is not None:
            yield from predict_by_tiles(self, sources, self.tiles, batch_size, pool, num_workers)
            return
        loaded = map_ahead(pool, self.load, sources, limit=batch_size + num_workers)
        yield from self.predict(loaded, batch_size)

    def _one_by_one(self, sources: Iterable[Source]) -> Iterator[Predicted | Failed]:
        for source in sources:
            yield from map(self._remark, self.predict([self.load(source)], 1))

    def _overlapping(
        self,
        sources: Iterable[Source],
        batch_size: int | None,
        num_workers: int | None,
        tiles: Tiles | None = None,
    ) -> Iterator[Predicted | Failed]:
        num_workers, batch_size = num_workers or default_workers(), batch_size or self._batch_size
        with ThreadPoolExecutor(num_workers) as pool:
            if tiles is None:
                results = self.run(sources, batch_size, pool, num_workers)
            else:
                results = predict_by_tiles(self, sources, tiles, batch_size, pool, num_workers)
            yield from map(self._remark, results)

    @staticmethod
    def _remark(found: Predicted | Failed) -> Predicted | Failed:
        """Warn of a damaged file."""
        if found.error is None and found.damage:
            name = found.source.file_name
            text = f"{name} is damaged ({found.damage}): what could be decoded of it is used"
            warn(printable(text))
        return found

    def load(self, source: Source) -> Loaded | Failed | Predicted:
        """Read an image by the test pipeline's own transform, and apply the others to it.

        Of an image whose result is known it is that.
        """
        return self._load(source, self._views or self._transform)

    def _load(self, source: Source, transform: Compose) -> Loaded | Failed:
        try:
            data = source.load(self.loader)
            given, damage = data["img"], data.pop("damage", None)
            several = isinstance(given, list)
            images = [picture_of(self.loader, one) for one in (given if several else [given])]
            image = side_by_side(images) if several else images[0]
            return Loaded(source, image, transform(data), damage)
        except Exception as error:  # one image must not end the run
            return Failed(source, reason_of(error))

    def predict(
        self, items: Iterable[Loaded | Failed | Predicted], batch_size: int
    ) -> Iterator[Predicted | Failed]:
        """Run the model on batches; what needs no model passes through, in order.

        Only images of the same :meth:`shape` share a forward pass: padding to the largest would let
        the result for an image depend on its neighbors in the folder.
        """
        items = iter(items)
        while batch := list(itertools.islice(items, batch_size)):
            by_size: dict[tuple[Any, ...], list[Loaded]] = defaultdict(list)
            for item in batch:
                if isinstance(item, Loaded):
                    by_size[self.shape(item)].append(item)
            found = [item for images in by_size.values() for item in self._forward(images)]
            by_id = {item.source.image_id: item for item in found}
            for item in batch:
                yield by_id[item.source.image_id] if isinstance(item, Loaded) else item

    def shape(self, image: Loaded) -> tuple[Any, ...]:
        """What images of a batch have in common: their size as prepared, or those of the views."""
        inputs = image.packed["inputs"]
        return tuple(view.shape for view in inputs) if self._views else inputs.shape

    def _forward(self, images: list[Loaded]) -> list[Predicted | Failed]:
        """Predict one batch; where the GPU's memory is too small for it, image by image."""
        try:
            with torch.no_grad():
                samples = self.predict_batch(images)
            found: list[Predicted | Failed] = []
            for image, sample in zip(images, samples, strict=True):
                prediction = self.result(image, sample)
                prediction.damage = image.damage
                found.append(prediction)
            return found
        except torch.cuda.OutOfMemoryError:
            pass  # go on below: while the error is handled, its traceback keeps the memory
        torch.cuda.empty_cache()
        if len(images) > 1:
            return [prediction for image in images for prediction in self._forward([image])]
        height, width = images[0].image.shape[:2]
        reason = f"{self.device} has too little memory for this image of {width} x {height} pixels"
        return [Failed(images[0].source, reason)]

    def predict_batch(self, images: list[Loaded]) -> list[BaseDataElement]:
        """Run the model on one batch."""
        packed = [image.packed for image in images]
        if self._merging is not None:
            return self._merging.test_step(pseudo_collate(packed))
        return self.model.test_step({key: [one[key] for one in packed] for key in packed[0]})

    def check_label(self, label: int) -> None:
        """Raise an InputError if the model found a class that has no name."""
        if label >= len(self.classes):
            raise InputError(
                f"the model found class number {label}, but only "
                f"{len(self.classes)} classes are named: {', '.join(self.classes)}"
            )


def _refuse_other_model(cfg: Config, content: Mapping[str, Any]) -> None:
    """Raise an InputError if weights have other names than those of a config's model."""
    model = MODELS.build(cfg.model)
    report = compare(state_dict_of(content), model.state_dict())
    if report.missing or report.unexpected:
        load_weights(model, content)


def _checked(item: Any) -> Any:
    """Raise an InputError in place of a :class:`Failed`."""
    if isinstance(item, Failed):
        raise InputError(item.error)
    return item


def default_workers() -> int:
    """Return how many threads read and write images: a share of the cores, at most 4."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's, on this machine
    return max(1, min(4, count_cores() // processes))


def resolve_device(name: str) -> torch.device:
    """Turn 'auto' or the name of a device into a device that is there.

    Raises:
        InputError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        known = "cpu, cuda, cuda:1, ..., or auto, which takes a GPU if there is one"
        raise InputError(
            f"device {name!r} cannot be used here; expected {known}. PyTorch says: {reason}"
        ) from None
    return device


def preparation(cfg: Config) -> list[dict[str, Any]]:
    """Return the config's test pipeline without its loading of images and annotations.

    Steps inside ``transforms`` of others are looked at, too.

    Raises:
        InputError: If the config has no ``test_dataloader``.
    """
    if not cfg.get("test_dataloader"):
        raise InputError("the config has no test_dataloader, by whose pipeline images are prepared")
    return _without_loading(get_test_pipeline_cfg(cfg))


def _without_loading(steps: Any) -> list[Any]:
    kept = []
    for step in steps:
        if isinstance(step, list):  # a branch, which TestTimeAug does not take without a step
            kept += [branch] if (branch := _without_loading(step)) else []
        elif not _loads(step):
            inner = step.get("transforms")
            kept.append(step | {"transforms": _without_loading(inner)} if inner else step)
    return kept


def image_loader_of(cfg: Config) -> Callable[[dict], dict]:
    """Build the transform by which a config's test pipeline loads images."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        return image_loader(get_test_pipeline_cfg(cfg))


def _loads(step: dict[str, Any]) -> bool:
    """Tell whether a transform reads files; types are names, with or without scope, or classes."""
    name = getattr(step["type"], "__name__", step["type"])
    return name.rpartition(".")[2].startswith("Load")
