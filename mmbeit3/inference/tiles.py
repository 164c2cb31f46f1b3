"""An image predicted tile by tile: where the tiles lie, and what is done with each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mmbeit3.datasets.transforms.multiband import LoadMultibandImage
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inputs import PixelSource
from mmbeit3.inference.pipeline import map_ahead
from mmbeit3.inference.result import Failed, Predicted, reason_of
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.image_reading import to_bgr
from mmbeit3.utils.large_images import ArrayImage, LargeImage, NotOpenedError, Window, tile_package
from mmbeit3.utils.text_files import printable
from mmbeit3.visualization.overlay import MAX_LONG_SIDE

if TYPE_CHECKING:
    from mmbeit3.inference.inferencer import Inferencer

Watch = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Tiles:
    """Squares that cover an image, row by row.

    They are distributed evenly: those at the ends reach to the edges, and neighbors overlap by the
    share that is given or a little more.

    Args:
        size (int): Their side in pixels; along a shorter side of the image they are as long as it.
        overlap (float): The least share of a tile that lies in its neighbor, in [0, 1). Defaults to
            0.2.
        watch (Callable): Takes the results of the tiles and their number, and passes the results
            on; a progress bar, for example. Defaults to one that does that alone.

    Raises:
        InputError: A number is out of range, or rasterio, which reads large files, is not
            installed.
    """

    size: int
    overlap: float = 0.2
    watch: Watch = field(default=lambda results, total: results, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise InputError(f"is {self.size!r}; expected a whole number of pixels", "tile")
        is_number = isinstance(self.overlap, (int, float)) and not isinstance(self.overlap, bool)
        if not is_number or not 0 <= self.overlap < 1:
            raise InputError(
                f"is {self.overlap!r}; expected the share of a tile that lies in the next, from 0 "
                "to below 1, such as 0.2",
                "overlap",
            )
        tile_package()

    def windows(self, size: tuple[int, int]) -> list[tuple[Window, Window]]:
        """Lay tiles over an image.

        Args:
            size (tuple[int, int]): Its height and width.

        Returns:
            list[tuple]: Each tile, and the core of it: the pixels whose nearest tile it is. Cores
            cover the image once.
        """
        rows, columns = (self._ranges(side) for side in size)
        return [
            (Window(x, y, width, height), Window(left, top, right - left, bottom - top))
            for y, height, top, bottom in rows
            for x, width, left, right in columns
        ]

    def _ranges(self, length: int) -> list[tuple[int, int, int, int]]:
        """Along one side: start and length of each tile, start and end of its core."""
        size = min(self.size, length)
        step = max(1, math.floor(size * (1 - self.overlap)))
        gaps = math.ceil((length - size) / step)
        starts = [round(place * (length - size) / max(1, gaps)) for place in range(gaps + 1)]
        cuts = [(one + other + size) // 2 for one, other in zip(starts, starts[1:], strict=False)]
        ends = [*cuts, length]
        return [
            (start, size, first, last)
            for start, first, last in zip(starts, [0, *cuts], ends, strict=True)
        ]


class Joiner(Protocol):
    """Takes the results of an image's tiles, and makes one of them."""

    def add(self, window: Window, core: Window, found: Any) -> None:
        """Take the result of a tile."""

    def result(self, overview: Any) -> Predicted:
        """Return that of the image, whose ``image`` is an overview, (h, w, 3)."""

    def close(self) -> None:
        """Give up what is not used any more."""


@dataclass(frozen=True, eq=False)
class TileSource(Source):
    """A tile of an image; its number is that of an image in a run.

    Args:
        whole (LargeImage | ArrayImage): The image.
        window (Window): The tile.
    """

    whole: Any = None
    window: Window = Window(0, 0, 0, 0)

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Read the window; see :meth:`Source.load`."""
        pixels = self.whole.read(self.window)
        tile = PixelSource(self.image_id, self.path, self.file_name, None, pixels=pixels)
        return tile.load(loader)


def predict_by_tiles(
    model: Inferencer,
    sources: Iterable[Source],
    tiles: Tiles,
    batch_size: int,
    pool: Executor,
    num_workers: int,
) -> Iterator[Predicted | Failed]:
    """Predict images of any size tile by tile; one that a tile covers as without tiles.

    Args:
        model (Inferencer): The model.
        sources (Iterable[Source]): The images.
        tiles (Tiles): The tiles.
        batch_size (int): Tiles per forward pass.
        pool (Executor): Where tiles are read.
        num_workers (int): Its threads.

    Yields:
        What became of each image, in order.
    """
    said = False
    for source in sources:
        try:
            image = _open(source, model.loader)
        except Exception as error:  # one image must not end the run
            yield Failed(source, reason_of(error))
            continue
        try:
            windows = tiles.windows(image.size)
            if len(windows) > 1:
                parts = _parts(source, image, windows)
                loaded = map_ahead(pool, model.load, parts, limit=batch_size + num_workers)
                results = tiles.watch(model.predict(loaded, batch_size), len(windows))
                yield _join(model, source, image, windows, results)
                continue
            if not said:
                said, (height, width) = True, image.size
                text = f"{source.file_name} of {width} x {height} pixels fits into one tile: it is "
                warn(printable(f"{text}predicted whole, as without tiles; so are others like it"))
            [found] = model.predict([model.load(source)], 1)
            if found.error is None:
                found.georeference = image.georeference
            yield found
        finally:
            image.close()


def _open(source: Source, loader: Any) -> LargeImage | ArrayImage:
    """Open an image by window if it is a file of such a format, else read it whole."""
    if isinstance(loader, LoadMultibandImage):
        raise InputError(
            "tiles are read in three colors, and the pipeline loads bands by LoadMultibandImage: "
            "cut the image, or leave --tile out"
        )
    if source.is_file and source.path is not None:
        try:
            return LargeImage(source.path, turn=getattr(loader, "exif", None) != "ignore")
        except NotOpenedError:
            pass
    return ArrayImage(to_bgr(source.load(loader)["img"]))


def _parts(
    source: Source, image: LargeImage | ArrayImage, windows: list[tuple[Window, Window]]
) -> Iterator[TileSource]:
    for number, (window, _) in enumerate(windows, 1):
        named = number, source.path, source.file_name, None
        yield TileSource(*named, whole=image, window=window)


def _join(
    model: Inferencer,
    source: Source,
    image: LargeImage | ArrayImage,
    windows: list[tuple[Window, Window]],
    results: Iterable[Predicted | Failed],
) -> Predicted | Failed:
    joiner = model.joiner(source, image.size, image.georeference)
    try:
        for (window, core), found in zip(windows, results, strict=True):
            if isinstance(found, Failed):
                x, y, width, height = window
                return Failed(source, f"{found.reason} (tile {width} x {height} at {x}, {y})")
            joiner.add(window, core, found)
        try:
            overview = image.reduced(MAX_LONG_SIDE)
        except InputError as error:
            return Failed(source, str(error))
        return joiner.result(overview)
    finally:
        joiner.close()
