"""Classification data: a folder of images for each class."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence, Set
from os import path as osp
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmbeit3.datasets.class_names import read_class_names
from mmbeit3.datasets.image_files import ImageFile, check_image_files
from mmbeit3.datasets.imagenet import imagenet_class_names
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.image_folders import find_images
from mmbeit3.utils.image_reading import EXTENSIONS

PREFIX = "img_path"
WORDNET_ID = re.compile(r"n\d{8}")


@DATASETS.register_module()
class ImageFolderDataset(BaseDataset):
    """Images in folders that are called as their classes: ``train/red_fox/1.jpg``.

    Label i is ``metainfo["classes"][i]``. Without ``classes_file`` the classes are the folders in
    the order of their names, and a class is called as its folder, ``_`` read as a blank; a folder
    with a WordNet id of ImageNet-1K (``n01440764``) has its name there, see
    :func:`mmbeit3.datasets.imagenet.imagenet_class_names`. So ImageNet's own layout gives the usual
    labels 0 to 999. Images may be in folders inside of a class's folder.

    All files are looked at when the data are loaded; that those of a large set are in order is kept
    until they change.

    Args:
        data_root (str, optional): Where the relative paths start. Defaults to None.
        data_prefix (dict): ``img_path``, the folder that holds the folders of the classes. Defaults
            to ``data_root`` itself.
        classes_file (str, optional): Names of the classes, in the order of the labels, on
            ``data_root``: see :func:`mmbeit3.datasets.class_names.read_class_names`. Defaults to
            None.
        metainfo (dict, optional): ``classes`` in the order of the labels, as a checkpoint has them;
            a folder fits by its name or by that of its class. Defaults to None.
        **kwargs: As in ``mmengine.BaseDataset``.

    Raises:
        InputError: There is no such folder, it has no folders, one of them is of no class or has no
            image, in training a class has none, or a file is no image.
    """

    def __init__(
        self,
        data_root: str | None = None,
        data_prefix: dict | None = None,
        classes_file: str | None = None,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.classes_file = classes_file and osp.join(data_root or "", classes_file)
        super().__init__(
            data_root=data_root,
            data_prefix=_with_folder(data_prefix),
            metainfo=metainfo,
            **kwargs,
        )

    @classmethod
    def read_class_names(cls, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Read the classes of a data set that is not built.

        Args:
            config: Its arguments.

        Returns:
            The argument that says where they are, and the classes in the order of the labels.

        Raises:
            InputError: They cannot be used.
        """
        root = config.get("data_root") or ""
        if config.get("classes_file"):
            return "classes_file", read_class_names(osp.join(root, config["classes_file"])).names
        folder = osp.join(root, _with_folder(config.get("data_prefix"))[PREFIX])
        return f"data_prefix.{PREFIX}", tuple(_names(_class_folders(folder), folder).values())

    def load_data_list(self) -> list[dict]:
        """Find the images and check them.

        Returns:
            One dict for each image, by folder: ``img_path``, ``gt_label`` and ``image_id``, its
            path below the folder of all.
        """
        root = self.data_prefix[PREFIX]
        labels = self._label(_class_folders(root))
        infos: list[dict[str, Any]] = [
            {
                "img_path": str(image),
                "gt_label": label,
                "image_id": image.relative_to(root).as_posix(),
            }
            for folder, label in labels.items()
            for image in _images(Path(root, folder))
        ]
        self._check_absent(set(labels.values()))
        files = [ImageFile(info["img_path"]) for info in infos]
        check_image_files(files, root, image_loader(self.pipeline.transforms), root)
        return infos

    def _label(self, folders: Sequence[str]) -> dict[str, int]:
        """Labels by folder; ``metainfo["classes"]`` is there afterwards."""
        root, named = self.data_prefix[PREFIX], self._metainfo.get("classes")
        if isinstance(named, str):
            raise InputError(
                f"metainfo.classes is the text {named!r}, expected a tuple of names; a file of "
                "them is named by classes_file"
            )
        # At test time the checkpoint's classes do without the file.
        if self.classes_file and not (named and not osp.exists(self.classes_file)):
            source = self.classes_file
            in_file = read_class_names(source)
            own = dict(zip(in_file.folders, in_file.names, strict=True))
            classes = tuple(named or in_file.names)
        else:
            source = "metainfo.classes"
            own = _names(folders, root)
            classes = tuple(named or own.values())
        if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
            raise InputError(f"{source} is {listed(classes)}; expected texts, each once")
        numbers = {name: number for number, name in enumerate(classes)}
        # A folder is named by its class, or is itself the name.
        keys = {f: own[f] if own.get(f) in numbers else f for f in folders}
        if unknown := [folder for folder, key in keys.items() if key not in numbers]:
            raise InputError(
                f"{root} has {len(unknown)} folders that are no class of {source}: "
                f"{listed(unknown)}. It has {len(classes)} classes: {listed(classes)}. Correct the "
                "names, or take the folders out"
            )
        self._metainfo["classes"] = classes
        return {folder: numbers[key] for folder, key in keys.items()}

    def _check_absent(self, there: Set[int]) -> None:
        root, classes = self.data_prefix[PREFIX], self._metainfo["classes"]
        absent = [name for label, name in enumerate(classes) if label not in there]
        if not absent:
            return
        text = f"{root} has no folder of {len(absent)} of the {len(classes)} classes: "
        text += listed(absent)
        if not self.test_mode:
            raise InputError(
                f"{text}. A class is learned from its images: add the folders, or take the names "
                "out"
            )
        print_log(f"{text}; they are not scored", "current", logging.WARNING)


def _with_folder(prefix: Mapping[str, str] | None) -> dict[str, str]:
    prefix = dict(prefix or {PREFIX: ""})
    if set(prefix) != {PREFIX}:
        raise InputError(f"data_prefix has the keys {sorted(prefix)}, expected {PREFIX!r}")
    return prefix


def _class_folders(root: str) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    if not osp.isdir(root):
        state = "is not a folder" if osp.exists(root) else "does not exist"
        raise InputError(
            f"{root} {state}; check data_root and data_prefix.{PREFIX}: it is to hold a folder of "
            "images for each class"
        )
    try:
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror}") from error
    # Of a link that goes round in a circle neither is true.
    folders = [name for name in names if osp.isdir(osp.join(root, name))]
    loose = [name for name in names if _is_image(name) and osp.isfile(osp.join(root, name))]
    if loose:
        raise InputError(
            f"{root} has {len(loose)} images that are in no folder of a class: {listed(loose, 3)}; "
            "expected a folder of images for each class: move them. For images without labels "
            "use `mmbeit3 infer`"
        )
    if not folders:
        raise InputError(
            f"{root} has no folders; expected one of images for each class: check data_root and "
            f"data_prefix.{PREFIX}"
        )
    return folders


def _names(folders: Sequence[str], root: str) -> dict[str, str]:
    """Names of classes by folder, where no file says what they are called."""
    has_wnids = any(WORDNET_ID.fullmatch(folder) for folder in folders)
    known = imagenet_class_names() if has_wnids else {}  # takes a second
    names = {f: known.get(f) or " ".join(f.replace("_", " ").split()) or f for f in folders}
    first: dict[str, str] = {}
    for folder, name in names.items():
        if first.setdefault(name, folder) != folder:
            raise InputError(
                f"{root} has the folders {first[name]} and {folder}, both of the class {name!r}: "
                "put their images into one folder, or name the classes by classes_file"
            )
    return names


def _images(folder: Path) -> list[Path]:
    try:
        return find_images(folder, exclude=[folder.parent])  # by a link that leads up
    except InputError as error:
        raise InputError(
            f"the class of the folder {folder.name} has no image: {error}. Add its images, or "
            "remove the folder"
        ) from None


def _is_image(name: str) -> bool:
    return osp.splitext(name)[1].lower() in EXTENSIONS
