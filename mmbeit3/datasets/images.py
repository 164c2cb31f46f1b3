"""Images alone, without labels."""

from __future__ import annotations

import logging
from os import path as osp
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmbeit3.datasets.checks.files import keep
from mmbeit3.datasets.image_files import ImageFile, check_image_files, find_image_problems
from mmbeit3.datasets.text_dataset import draw_images
from mmbeit3.datasets.transforms.image_codes import check_codes
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError
from mmbeit3.utils.image_folders import find_images

PREFIX = "img_path"
MAX_NAMED = 2


@DATASETS.register_module()
class ImagesDataset(BaseDataset):
    """All images below a folder, without labels: for pretraining, and to train image tokenizers.

    All files are looked at when the data are loaded; that those of a large set are in order is kept
    until they change.

    Args:
        data_root (str, optional): Where the relative paths start. Defaults to None.
        data_prefix (dict): ``img_path``, the folder, which is searched with all folders in it.
            Defaults to ``data_root`` itself.
        skip_unreadable (bool): Leave out files that cannot be read, with a warning that counts
            them, in place of an error. Defaults to False.
        val_images (int, optional): Set so many images aside for validation: training leaves them
            out, and with ``test_mode`` only they are there. Which ones depends on the names of all
            and ``val_seed``. Defaults to None, all images in both.
        val_seed (int): Draws them. Defaults to 0.
        **kwargs: ``pipeline``, ``indices``, ... as in ``mmengine.dataset.BaseDataset``.

    Raises:
        InputError: There is no such folder, no image in it, or a file is no image.
    """

    def __init__(
        self,
        data_root: str | None = None,
        data_prefix: dict | None = None,
        skip_unreadable: bool = False,
        val_images: int | None = None,
        val_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if val_images is not None and (type(val_images) is not int or val_images < 1):
            raise InputError(f"val_images is {val_images!r}, expected a whole number from 1 on")
        data_prefix = dict(data_prefix or {PREFIX: ""})
        if set(data_prefix) != {PREFIX}:
            raise InputError(f"data_prefix has the keys {sorted(data_prefix)}, expected {PREFIX!r}")
        self.skip_unreadable = skip_unreadable
        self.val_images, self.val_seed = val_images, val_seed
        super().__init__(data_root=data_root or "", data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Find the images and check them.

        Returns:
            One dict for each image: ``img_path``, and ``image_id``, its path below the folder.
        """
        root = self.data_prefix[PREFIX] or osp.curdir
        paths = [str(path) for path in find_images(Path(root))]
        files, loader = [ImageFile(path) for path in paths], image_loader(self.pipeline.transforms)
        bad: dict[str, str] = {}
        if self.skip_unreadable:
            bad = keep(
                f"unreadable images {loader}",
                paths,
                root,
                lambda: find_image_problems(files, root, loader),
            )
        else:
            check_image_files(files, root, loader, root)
        if len(bad) == len(paths):
            raise InputError(
                f"none of the {len(paths)} images in {root} can be read: {bad[paths[0]]}"
            )
        if bad:
            named = "; ".join(list(bad.values())[:MAX_NAMED])
            text = (
                f"{root}: {len(bad)} of {len(paths)} images are left out, as they cannot be read: "
            )
            print_log(
                f"{text}{named}{'; ...' * (len(bad) > MAX_NAMED)}", "current", logging.WARNING
            )
        names = {path: Path(path).relative_to(root).as_posix() for path in paths if path not in bad}
        if self.val_images is not None:
            chosen = draw_images(names.values(), self.val_images, self.val_seed, root)
            names = {p: n for p, n in names.items() if (n in chosen) == self.test_mode}
        check_codes(self.pipeline.transforms, names)
        return [{"img_path": path, "image_id": name} for path, name in names.items()]
