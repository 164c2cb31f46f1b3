"""Features of many images, kept in a file and searched."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from mmbeit3.checkpoint.safetensors_files import SafetensorsFile, write_safetensors
from mmbeit3.utils import InputError
from mmbeit3.utils.file_stamp import Stamp
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.whole_files import write_whole

FORMAT = "mmbeit3 image index 1"
QUERIES_AT_ONCE = 256  # scores of a block: 100 MB with 100,000 images


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of an index.

    Attributes:
        name (str): Its path below the folder, with forward slashes.
        feature (np.ndarray): (D,) float32, of length 1.
        size (tuple[int, int]): Height and width.
        stamp (Stamp): Of the file as it was read.
    """

    name: str
    feature: np.ndarray
    size: tuple[int, int]
    stamp: Stamp


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Attributes:
        name (str): Its path below the folder of the index.
        score (float): The cosine of the image's and the query's feature.
        path (Path): The file.
    """

    name: str
    score: float
    path: Path

    def __repr__(self) -> str:
        return f"Hit({self.score:.3f} {self.name})"


class ImageIndex:
    """Features of the images of a folder, and whether they are still those of the files.

    Args:
        folder (str | Path): The folder.
        entries (Sequence[Entry]): Its N images.
        probe (np.ndarray): (D,), what the model that made the features makes of a picture that is
            always the same; another model makes something else of it.

    Attributes:
        features (np.ndarray): (N, D), those of the entries.
    """

    def __init__(self, folder: str | Path, entries: Sequence[Entry], probe: np.ndarray) -> None:
        self.folder = Path(folder)
        self.entries = list(entries)
        self.features = np.stack([entry.feature for entry in self.entries]).astype(np.float32)
        self.probe = probe

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"ImageIndex({len(self)} images of {self.folder})"

    @property
    def names(self) -> list[str]:
        """The paths of the images below the folder, in the order of ``features``."""
        return [entry.name for entry in self.entries]

    def fresh(self) -> dict[Path, Entry]:
        """Return the images whose files are as they were, by the absolute path of the file."""
        found = {}
        for entry in self.entries:
            path = (self.folder / entry.name).absolute()
            with suppress(OSError):
                if Stamp.of(path) == entry.stamp:
                    found[path] = entry
        return found

    def is_of(self, probe: np.ndarray) -> bool:
        """Whether the model that makes ``probe`` (D,) of the picture made the features."""
        # Sums in another order differ by 1e-6, trained weights of another step by far more.
        return self.probe.shape == probe.shape and bool(np.abs(self.probe - probe).max() < 1e-4)

    def search(self, queries: np.ndarray, top: int = 10) -> list[list[Hit]]:
        """Find the most similar images of each query.

        Args:
            queries (np.ndarray): (M, D) features of length 1.
            top (int): How many. Defaults to 10.

        Returns:
            list[list[Hit]]: Of each query the images, the most similar first; of images that are
            equally similar the one that is earlier in the index.

        Raises:
            InputError: The features are of another width, or ``top`` is less than 1.
        """
        if not isinstance(top, (int, np.integer)) or top < 1:
            raise InputError(f"top is {top}; expected a number of images, 1 or more")
        if queries.ndim != 2 or queries.shape[1] != self.features.shape[1]:
            raise InputError(
                f"the queries have the shape {queries.shape}; expected (queries, "
                f"{self.features.shape[1]}), the width of the index"
            )
        top = min(top, len(self))
        found = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            scores = queries[start : start + QUERIES_AT_ONCE] @ self.features.T  # (B, N)
            for row in scores:
                order = np.argsort(-row, kind="stable")[:top].tolist()
                found.append([self._hit(place, float(row[place])) for place in order])
        return found

    def _hit(self, place: int, score: float) -> Hit:
        name = self.entries[place].name
        return Hit(name, score, self.folder / name)

    def save(self, path: str | Path) -> None:
        """Write the index as a ``.safetensors`` file.

        Raises:
            WriteError: It cannot be written; nothing of it is left.
        """
        stamps = [(entry.stamp.size, entry.stamp.time) for entry in self.entries]
        names = json.dumps(self.names).encode()
        weights = {
            "features": torch.from_numpy(self.features),
            "sizes": torch.tensor([entry.size for entry in self.entries], dtype=torch.int32),
            "stamps": torch.tensor(stamps, dtype=torch.int64),
            "probe": torch.from_numpy(np.ascontiguousarray(self.probe, dtype=np.float32)),
            "names": torch.frombuffer(bytearray(names), dtype=torch.uint8),
        }
        content = io.BytesIO()
        meta = {"format": FORMAT, "folder": str(self.folder.absolute())}
        write_safetensors(content, weights, meta)
        write_whole(Path(path), content.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> ImageIndex:
        """Read an index.

        Raises:
            InputError: The file is absent, damaged or no index.
        """
        path = Path(path)
        check_regular(path, "index")
        if not path.is_file():
            raise InputError(
                f"there is no index {path}; model.index(folder, {str(path)!r}) makes it"
            )
        try:
            file = SafetensorsFile(path)
            file.check()
            if file.metadata.get("format") != FORMAT:
                raise ValueError("it is a safetensors file of something else")
            content = {name: value.numpy().copy() for name, value in file.weights().items()}
            names = json.loads(content["names"].tobytes())
            _check(names, content)
            columns = zip(
                names,
                content["features"],
                map(tuple, content["sizes"].tolist()),
                (Stamp(*stamp) for stamp in content["stamps"].tolist()),
                strict=True,
            )
            entries = [Entry(*values) for values in columns]
            return cls(file.metadata["folder"], entries, content["probe"])
        except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
            raise InputError(f"{path} is no index of images that can be read: {error}") from error


def _check(names: Any, content: Mapping[str, np.ndarray]) -> None:
    """Make sure that a file, which anybody may have written, has what an index has.

    Raises:
        ValueError: It has something else.
    """
    if not isinstance(names, list) or not all(map(_is_below, names)):
        raise ValueError("its names are not those of files below a folder")
    number, width = len(names), len(content["probe"])
    for name, kind, shape in (
        ("features", "f", (number, width)),
        ("probe", "f", (width,)),
        ("sizes", "i", (number, 2)),
        ("stamps", "i", (number, 2)),
    ):
        found = content[name]
        if found.dtype.kind != kind or found.shape != shape or not np.isfinite(found).all():
            raise ValueError(f"{name} is {found.dtype} {found.shape}, or not finite")


def _is_below(name: Any) -> bool:
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    return bool(parts) and not {"/", "//", ".."} & set(parts) and "\0" not in name
