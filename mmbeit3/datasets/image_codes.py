"""Codes of an image tokenizer, kept in a file beside the images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmbeit3.utils import InputError
from mmbeit3.utils.file_stamp import Stamp
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.whole_files import write_whole

FORMAT = "mmbeit3 image codes 1"


@dataclass
class ImageCodes:
    """The codes of images, and what tells whether they are still those.

    Attributes:
        path (Path): The file. Images are named relative to its folder, so that a folder of data may
            be moved with it, if the times of its files stay.
        tokenizer (str): Digest of the image tokenizer's weights.
        view (str): How the images are loaded and resized.
        codes (dict[str, np.ndarray]): Of each image (patches,), int16 or int32.
        stamps (dict[str, Stamp]): Of the file of each as it was read.
    """

    path: Path
    tokenizer: str
    view: str
    codes: dict[str, np.ndarray] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)

    def name_of(self, image: str) -> str:
        """Name an image as the file does."""
        return Path(os.path.relpath(image, self.path.parent)).as_posix()

    def find(self, image: str) -> np.ndarray | None:
        """Give the codes of an image, (patches,); None of one that is new, or not as it was.

        Raises:
            InputError: It is no file.
        """
        name = self.name_of(image)
        if self.stamps.get(name) != stamp_of(image):
            return None
        return self.codes[name]

    def add(self, image: str, stamp: Stamp, codes: np.ndarray) -> None:
        """Take the codes of an image whose file was so before it was read."""
        name = self.name_of(image)
        self.codes[name], self.stamps[name] = codes, stamp

    def drop_stale(self) -> None:
        """Forget the images whose files are not as they were."""
        for name, stamp in list(self.stamps.items()):
            with suppress(OSError):
                if Stamp.of(self.path.parent / name) == stamp:
                    continue
            del self.stamps[name], self.codes[name]

    def save(self) -> None:
        """Write the file.

        Raises:
            WriteError: It cannot be written; an older one is as it was.
        """
        content = {
            "codes": np.stack(list(self.codes.values())),
            "stamps": np.array([self.stamps[name] for name in self.codes], np.int64),
            "names": np.frombuffer(json.dumps(list(self.codes)).encode(), np.uint8),
        }
        meta = {"format": FORMAT, "tokenizer": self.tokenizer, "view": self.view}
        write_whole(self.path, save(content, meta))

    @classmethod
    def read(cls, path: str | Path) -> ImageCodes:
        """Read a file.

        Raises:
            InputError: It is absent, damaged or of something else.
        """
        path = Path(path)
        check_regular(path, "the file of codes")
        if not path.is_file():
            raise InputError(f"there is no file of codes {path}; `mmbeit3 prepare-codes` makes it")
        try:
            with safe_open(path, "np") as file:
                meta: Mapping[str, str] = file.metadata() or {}
                if meta.get("format") != FORMAT:
                    raise ValueError("it is a safetensors file of something else")
                codes, stamps = file.get_tensor("codes"), file.get_tensor("stamps")
                names = json.loads(file.get_tensor("names").tobytes())
            if codes.ndim != 2 or codes.dtype.kind != "i" or stamps.shape != (len(codes), 2):
                raise ValueError(f"codes are {codes.dtype} {codes.shape}, stamps {stamps.shape}")
            found = cls(path, meta["tokenizer"], meta["view"])
            found.codes = dict(zip(names, codes, strict=True))
            rows = map(Stamp._make, stamps.tolist())
            found.stamps = dict(zip(names, rows, strict=True))
            return found
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
            raise InputError(
                f"{path} is no file of codes that can be read ({error}): delete it, and "
                "`mmbeit3 prepare-codes` makes it anew"
            ) from error


def stamp_of(image: str) -> Stamp:
    """Look at the file of an image.

    Raises:
        InputError: There is none.
    """
    try:
        return Stamp.of(image)
    except OSError as error:
        raise InputError(
            f"codes are kept of files, and {image} is none ({error.strerror})"
        ) from None
