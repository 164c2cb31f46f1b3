"""Semantic segmentation on a user's own folders of images and label maps."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from os import path as osp
from pathlib import Path
from typing import Any

from mmcv.transforms import Compose, LoadAnnotations
from mmseg.datasets import BaseSegDataset

from mmbeit3.datasets.checks.segmentation import check_labels, count_labels
from mmbeit3.datasets.checks.sizes import check_sizes
from mmbeit3.datasets.class_list import MAX_CLASSES, ClassList, read_class_list
from mmbeit3.datasets.image_files import warn_of_turned
from mmbeit3.datasets.palette import make_palette
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError, compare_classes, listed
from mmbeit3.utils.image_reading import EXTENSIONS
from mmbeit3.utils.similar_paths import describe_similar, names_by_key, similar_name
from mmbeit3.utils.text_files import read_text


@DATASETS.register_module()
class SegFolderDataset(BaseSegDataset):
    """Images and label maps in two folders, and one file that names the classes.

    An image and its label map have the same path below their folder, but for the suffix:
    ``images/a/b.jpg`` and ``masks/a/b.png``. The pixels of a label map are the line numbers of
    ``classes_file``, from 0; 255 is ignored. Files are checked when the data set is loaded, see
    :func:`mmbeit3.datasets.checks.segmentation.count_labels` and ``check_labels``.

    Args:
        classes_file (str, optional): A text file with one class a line, or a JSON list, on
            ``data_root``; a color ``#rrggbb`` may follow a name. With ``lazy_init=True`` it is
            read when the data are loaded. Defaults to None: the classes are ``metainfo.classes``.
        data_root (str, optional): Where the relative paths start. Defaults to None.
        data_prefix (dict): The folders ``img_path`` and ``seg_map_path``; with ``test_mode`` the
            latter may be left out.
        ann_file (str): A text file with the images to use, one path a line, below ``img_path`` and
            without suffix. Defaults to '', all images.
        seg_map_suffix (str): How the names of label maps end after the image's name; always PNG,
            8-bit gray or palette. Defaults to '.png'.
        reduce_zero_label (bool, optional): Whether 0 means unlabeled, and line i of
            ``classes_file`` the value i + 1. Defaults to None: as False, and where training data
            leave doubt, an error asks for a decision.
        check_labels (bool): Whether to read all label maps and check them. Defaults to True.
        metainfo (dict, optional): ``classes``, which must be those of ``classes_file`` if both are
            there, and ``palette`` (list of RGB tuples). Defaults to None.
        **kwargs: As in ``mmseg.BaseSegDataset``; files are read from local folders only.

    Raises:
        InputError: The class list cannot be used, a folder or a file of a pair is missing, a label
            map is malformed, or its values do not fit the classes.
    """

    def __init__(
        self,
        classes_file: str | None = None,
        data_root: str | None = None,
        data_prefix: dict | None = None,
        ann_file: str = "",
        seg_map_suffix: str = ".png",
        reduce_zero_label: bool | None = None,
        check_labels: bool = True,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if not seg_map_suffix.lower().endswith(".png"):
            raise InputError(f"seg_map_suffix is {seg_map_suffix!r}; label maps are .png files")
        if classes_file is not None:
            classes_file = osp.join(data_root or "", classes_file)
        metainfo = dict(metainfo or {})
        self._find_classes = partial(_with_classes, metainfo, classes_file, bool(reduce_zero_label))
        self._is_decided = reduce_zero_label is not None
        if kwargs.get("lazy_init") and classes_file is not None:
            known = metainfo | {"classes": metainfo.get("classes", ()), "palette": []}
        else:
            known = self._find_classes()
        self.check_labels = check_labels
        super().__init__(
            data_root=data_root,
            data_prefix=dict(data_prefix or {}),
            ann_file=ann_file,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=bool(reduce_zero_label),
            metainfo=known,
            **kwargs,
        )

    @classmethod
    def read_class_names(cls, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Read the classes of a data set that is not built.

        Args:
            config: Its arguments.

        Returns:
            The argument that names the file, and the classes in the order of the label values.

        Raises:
            InputError: There is none, or it cannot be used.
        """
        if not config.get("classes_file"):
            raise InputError(
                f"the {config['type']} of the config has no classes_file, which names classes"
            )
        path = osp.join(config.get("data_root") or "", config["classes_file"])
        return "classes_file", read_class_list(path).names

    def load_data_list(self) -> list[dict]:
        """Find the pairs of image and label map and check them.

        Returns:
            One dict for each image, as mmseg's transforms expect them, by path.
        """
        self._metainfo |= self._find_classes()
        check_settings(self)
        image_dir = self.data_prefix["img_path"]
        map_dir = self.data_prefix.get("seg_map_path")
        images = self._images(image_dir, map_dir)
        if self.ann_file:
            images = _chosen(images, self.ann_file, image_dir)
        infos = [
            {
                "img_path": osp.join(image_dir, image),
                "label_map": None,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for image in images.values()
        ]
        if map_dir is not None:
            maps = find_maps(map_dir, self.seg_map_suffix)
            check_pairs(images, maps, image_dir, map_dir, self.seg_map_suffix, not self.ann_file)
            for stem, info in zip(images, infos, strict=True):
                info["seg_map_path"] = osp.join(map_dir, maps[stem])
            self._check(infos, map_dir)
        return infos

    def _images(self, image_dir: str, map_dir: str | None) -> dict[str, str]:
        """Path below the folder by the same path without suffix, in order."""
        files = list_files(image_dir, "img_path")
        if map_dir is not None and osp.realpath(map_dir) == osp.realpath(image_dir):
            suffix = self.seg_map_suffix.lower()
            files = [file for file in files if not file.lower().endswith(suffix)]
        images: dict[str, str] = {}
        for file in files:
            stem, suffix = osp.splitext(file)
            if suffix.lower() not in EXTENSIONS:
                continue
            if stem in images:
                raise InputError(
                    f"{image_dir} has {images[stem]} and {file}: both would have the label map "
                    f"{stem}{self.seg_map_suffix}. Rename or remove one"
                )
            images[stem] = file
        if not images:
            raise InputError(
                f"{image_dir} has no image; expected files ending in {', '.join(EXTENSIONS)}"
            )
        return images

    def _check(self, infos: list[dict], map_dir: str) -> None:
        if not self.check_labels:
            return
        pairs = [(info["img_path"], info["seg_map_path"]) for info in infos]
        transforms = self.pipeline.transforms
        counts = count_labels(pairs, map_dir, image_loader(transforms))
        warn_of_turned(counts.turned, map_dir)
        check_sizes(counts.narrow, transforms, self.data_prefix["img_path"])
        setting = self.reduce_zero_label if self._is_decided else None
        check_labels(counts, self._metainfo["classes"], setting, map_dir, not self.test_mode)


def check_settings(dataset: BaseSegDataset) -> None:
    """Check what mmseg would find out during the first batch, or never.

    Raises:
        InputError: ``data_prefix`` lacks a folder or has another key, or a transform loads label
            maps that are not there or contradicts ``reduce_zero_label`` of the data set.
    """
    keys = set(dataset.data_prefix)
    if keys - {"img_path", "seg_map_path"} or "img_path" not in keys:
        raise InputError(
            f"data_prefix has the keys {sorted(keys)}, expected 'img_path' and 'seg_map_path'"
        )
    if "seg_map_path" not in keys and not dataset.test_mode:
        raise InputError("data_prefix has no 'seg_map_path': training needs label maps")
    loads_maps = any(isinstance(step, LoadAnnotations) for step in dataset.pipeline.transforms)
    if "seg_map_path" not in keys and loads_maps:
        raise InputError(
            "data_prefix has no 'seg_map_path', but the pipeline has LoadAnnotations: name the "
            "folder of the label maps, or remove LoadAnnotations where there are none"
        )
    _check_pipeline(dataset.pipeline, dataset.reduce_zero_label)


def _check_pipeline(pipeline: Compose, reduce_zero_label: bool) -> None:
    for transform in pipeline.transforms:
        setting = getattr(transform, "reduce_zero_label", None)
        if setting not in (None, reduce_zero_label):
            raise InputError(
                f"{type(transform).__name__} in the pipeline has reduce_zero_label={setting}, but "
                f"the data set has {reduce_zero_label}: remove it from the pipeline, which follows "
                "the data set"
            )


def _with_classes(metainfo: dict, classes_file: str | None, reduce_zero_label: bool) -> dict:
    named = metainfo.get("classes") or ()
    if isinstance(named, str):
        raise InputError(
            f"metainfo.classes is the text {named!r}, expected a tuple of names; a file of them "
            "is named by classes_file"
        )
    if classes_file is None and not named:
        raise InputError(
            "the data set does not know its classes: set classes_file to a text file that names "
            "them, one a line, that of label value 0 first"
        )
    # At test time the checkpoint's classes do without the file.
    if classes_file is not None and not (named and not osp.exists(classes_file)):
        classes = read_class_list(classes_file)
        if named:
            _check_same(tuple(named), classes.names, classes_file)
    else:
        classes = ClassList(tuple(named), make_palette(len(named)))
    _check_names(classes.names, reduce_zero_label)
    palette = metainfo.get("palette") or classes.palette
    if len(palette) != len(classes.names):
        raise InputError(
            f"metainfo.palette has {len(palette)} colors, expected one for each of the "
            f"{len(classes.names)} classes ({listed(classes.names)})"
        )
    return metainfo | {"classes": classes.names, "palette": palette}


def _check_names(names: Sequence[str], reduce_zero_label: bool) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"metainfo.classes names more than once: {listed(twice)}")
    most = MAX_CLASSES - reduce_zero_label
    if len(names) > most:
        besides = "0 and 255 stand" if reduce_zero_label else "255 stands"
        raise InputError(
            f"there are {len(names)} classes; 8-bit label maps can tell {most} apart "
            f"({besides} for pixels to ignore)"
        )


def _check_same(named: Sequence[str], in_file: Sequence[str], file: str) -> None:
    what = "the training data, the checkpoint or metainfo.classes"
    if difference := compare_classes(what, named, file, in_file):
        raise InputError(
            f"{difference}. Label maps hold line numbers of that file, so the names and their "
            "order must be the same"
        )


def list_files(folder: str, key: str, hint: str = "") -> list[str]:
    """Paths of all files below a folder, sorted, with / between their parts; no hidden ones.

    Args:
        folder: The folder.
        key: Which of ``data_prefix`` it is, for the message.
        hint: What else to do if there is no such folder. Defaults to ''.

    Raises:
        InputError: There is no such folder.
    """
    if not osp.isdir(folder):
        state = "is not a folder" if osp.exists(folder) else "does not exist"
        raise InputError(f"{folder} {state}; check data_root and data_prefix.{key}{hint}")
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inner = Path(parent).relative_to(folder)
        files += [(inner / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(files)


def find_maps(map_dir: str, suffix: str, hint: str = "") -> dict[str, str]:
    """Paths of label maps below their folder, by the same without suffix, of which case is free.

    Args:
        map_dir: The folder.
        suffix: How their names end after that of the image.
        hint: What else to do if there is no such folder or label map. Defaults to ''.

    Raises:
        InputError: There is no such folder or no label map in it, or two would be of one image.
    """
    files = list_files(map_dir, "seg_map_path", hint)
    maps: dict[str, str] = {}
    for file in files:
        if not file.lower().endswith(suffix.lower()):
            continue
        stem = file[: -len(suffix)]
        if stem in maps:
            raise InputError(f"{map_dir} has {maps[stem]} and {file} for one image: remove one")
        maps[stem] = file
    if not maps:
        raise InputError(
            f"{map_dir} has no label map NAME{suffix}; its files: "
            f"{listed(files, limit=3) or 'none'}. Label maps are PNG files (JPEG changes values); "
            f"set seg_map_suffix to how their names end{hint}"
        )
    return maps


def _chosen(images: dict[str, str], ann_file: str, image_dir: str) -> dict[str, str]:
    try:
        lines = read_text(ann_file).splitlines()
    except OSError as error:
        raise InputError(
            f"ann_file {ann_file} cannot be read: {error.strerror}{describe_similar(ann_file)}"
        ) from error
    names = (osp.normpath(line.strip().replace("\\", "/")) for line in lines if line.strip())
    stems = list(dict.fromkeys(names))
    missing = [stem for stem in stems if stem not in images]
    if missing or not stems:
        known = names_by_key(images)
        raise InputError(
            f"{ann_file} names {len(stems)} images, of which {len(missing)} are not in "
            f"{image_dir}: {listed(similar_name(stem, known) for stem in missing)}. Expected one "
            "path a line, without suffix"
        )
    return {stem: images[stem] for stem in stems}


def check_pairs(
    images: dict[str, str],
    maps: dict[str, str],
    image_dir: str,
    map_dir: str,
    suffix: str,
    all_maps: bool,
) -> None:
    """Check that each image has a label map, and the other way round.

    Args:
        images: Paths below their folder, by the same without suffix.
        maps: The same of the label maps.
        image_dir: Folder of the images.
        map_dir: Folder of the label maps.
        suffix: How the names of label maps end.
        all_maps: Whether a label map without an image is a mistake.

    Raises:
        InputError: A pair is not complete.
    """
    without_map = {stem: image for stem, image in images.items() if stem not in maps}
    without_image = [path for stem, path in maps.items() if stem not in images] if all_maps else []
    lines = []
    if without_map:
        known = names_by_key(maps)
        names = [
            image + similar_name(stem, known).removeprefix(stem)
            for stem, image in without_map.items()
        ]
        lines.append(
            f"{len(without_map)} of {len(images)} images in {image_dir} have no label map "
            f"NAME{suffix} in {map_dir}: {listed(names)}"
        )
    if without_image:
        lines.append(
            f"{len(without_image)} of {len(maps)} label maps in {map_dir} have no image in "
            f"{image_dir}: {listed(without_image)}"
        )
    if lines:
        raise InputError(
            "\n".join(lines) + "\nThe same path below both folders makes a pair; set "
            "seg_map_suffix if label maps have longer names, ann_file to use some images only"
        )
