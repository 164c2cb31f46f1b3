"""COCO-format data sets whose classes come from the annotation file."""

from __future__ import annotations

import difflib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmengine.fileio import LocalBackend, get_file_backend, get_local_path
from mmengine.logging import print_log

from mmbeit3.datasets.checks.coco import (
    Report,
    check_categories,
    load_coco,
    raise_on_errors,
    read_json,
)
from mmbeit3.datasets.checks.sizes import check_sizes
from mmbeit3.datasets.image_files import ImageFile, check_image_files
from mmbeit3.datasets.label_formats.staleness import describe_change
from mmbeit3.datasets.palette import make_palette
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.text_files import read_text


def read_classes(ann_file: str | Path, backend_args: dict | None = None) -> tuple[str, ...]:
    """Read the class names of a COCO file, in the order of their category ids.

    Args:
        ann_file: The annotation file, on any backend of mmengine.
        backend_args: Arguments of that backend. Defaults to None.

    Raises:
        InputError: The file or its categories cannot be used.
    """
    with get_local_path(str(ann_file), backend_args=backend_args) as local_path:
        data = read_json(local_path)
    categories = data.get("categories") if isinstance(data, dict) else None
    if not isinstance(categories, list) or not categories:
        raise InputError(f"{ann_file} has no list 'categories': it is not a COCO annotation file")
    report = Report()
    names = check_categories(categories, report)
    raise_on_errors(report, str(ann_file))
    return tuple(names[number] for number in sorted(names))


def find_category_ids(classes: Sequence[str], categories: list[dict], source: str) -> list[int]:
    """Look up the category id of each class, in the order of ``classes``.

    mmdet keeps the order of the file and drops names that the file lacks, which shifts all later
    labels (open-mmlab/mmdetection#9611); here label i is always ``classes[i]``.

    Args:
        classes: The class names.
        categories: The ``categories`` of a COCO file.
        source: What to call the file in the message.

    Raises:
        InputError: The file lacks some of the names.
    """
    ids = {category["name"]: category["id"] for category in categories}
    if lack := describe_missing(classes, sorted(ids, key=ids.__getitem__), source):
        raise InputError(
            f"{lack}. Correct metainfo.classes, or leave it out: the classes are then read from "
            "the file"
        )
    return [ids[name] for name in classes]


def describe_missing(classes: Sequence[str], known: Sequence[str], source: str) -> str:
    """Say which classes a file lacks, and which it has; an empty text if it lacks none.

    Args:
        classes: The class names.
        known: Those of the file.
        source: What to call the file.
    """
    missing = [_suggest(name, known) for name in classes if name not in known]
    if not missing:
        return ""
    return f"{source} has no category named {listed(missing)}. It has: {listed(known, limit=20)}"


class NoMasksError(InputError):
    """Objects have no masks, which the pipeline loads."""


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """COCO-format detection and instance segmentation data, checked when it is loaded.

    As ``mmdet.CocoDataset``, except that

    - without ``metainfo.classes`` the classes are read from the annotation file, by category id,
      when it is loaded: with ``lazy_init=True`` no file is read, and ``metainfo`` names none yet;
    - with it, label i is ``classes[i]`` in any order, and a name that the file lacks is an error.
      Evaluate with ``mmbeit3.CocoMetric``, which numbers the labels the same way;
    - a malformed file, an image that is not there, is cut off or has another size, an object
      without the mask that the pipeline loads, and a set that is left without an image, or for
      training without an object to learn (all are crowds, for one), raise
      :class:`mmbeit3.utils.InputError`, which names the entry. So does a file most of whose
      objects follow another convention, such as boxes of corners, see
      :func:`mmbeit3.datasets.checks.coco_meaning.find_doubts`. That the images of a large set
      passed is kept, see :func:`mmbeit3.datasets.checks.files.keep`.

    Args:
        metainfo (dict, optional): ``classes`` (tuple[str, ...], or the path of a text file with
            one name a line) and ``palette`` (list of RGB tuples). Defaults to None.
        check_meaning (bool): Whether another convention is an error; else it is a warning. Defaults
            to True.
        ann_file, data_root, data_prefix, filter_cfg, backend_args, ...: As in mmdet.

    Raises:
        InputError: See above.
    """

    METAINFO: dict = {}
    #: int, optional: How many objects there are to learn; None unless loaded for training.
    num_learnable: int | None = None
    _metainfo: dict[str, Any]

    def __init__(self, *args: Any, check_meaning: bool = True, **kwargs: Any) -> None:
        self.check_meaning = check_meaning
        super().__init__(*args, **kwargs)

    @classmethod
    def read_class_names(cls, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Read the classes of a data set that is not built.

        Args:
            config: Its arguments.

        Returns:
            The argument that names the file, and the classes in the order of their category ids.

        Raises:
            InputError: There is none, or it cannot be used.
        """
        if not config.get("ann_file"):
            raise InputError(
                f"the {config['type']} of the config has no ann_file, which names classes"
            )
        path = osp.join(config.get("data_root") or "", config["ann_file"])
        return "ann_file", read_classes(path, config.get("backend_args"))

    @classmethod
    def _load_metainfo(cls, metainfo: Any = None) -> dict:
        named = (metainfo or {}).get("classes")
        if isinstance(named, str) and osp.isfile(named):
            metainfo = metainfo | {"classes": read_text(named).splitlines()}
        metainfo = super()._load_metainfo(metainfo)
        classes = metainfo.get("classes")
        # A text is the name of a file that is not there: an error when the data are loaded.
        if classes is None or isinstance(classes, str):
            return metainfo
        return _with_classes(metainfo, _checked_classes(classes))

    def load_data_list(self) -> list[dict]:
        """Read and check the annotation file.

        Returns:
            One dict for each image, as mmdet's ``parse_data_info`` makes them.
        """
        if "img" not in self.data_prefix:
            raise InputError(f"data_prefix has the keys {sorted(self.data_prefix)}, expected 'img'")
        if "classes" in self._metainfo:
            _checked_classes(self._metainfo["classes"])
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local_path:
            data = load_coco(local_path, self.ann_file, not self.test_mode, self.check_meaning)
        if change := describe_change(data, self.ann_file):
            print_log(change, "current", logging.WARNING)
        if "classes" not in self._metainfo:
            by_id = sorted(data["categories"], key=lambda category: category["id"])
            classes = tuple(category["name"] for category in by_id)
            self._metainfo = _with_classes(self._metainfo, classes)
        classes = self._metainfo["classes"]
        self.cat_ids = find_category_ids(classes, data["categories"], self.ann_file)
        self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}
        images = self._with_slashes(data["images"])
        return self._parse(images, data.get("annotations", []))

    def _with_slashes(self, images: list[dict]) -> list[dict]:
        """Read backslashes of names that Windows wrote as what they mean there."""
        names = [image["file_name"] for image in images if "\\" in image["file_name"]]
        if not names or osp.exists(osp.join(self.data_prefix["img"], names[0])):
            return images
        text = f"{self.ann_file}: {len(names)} file names have backslashes, the first is "
        text += f"{names[0]!r}; they are read as /"
        print_log(text, "current")
        return [image | {"file_name": image["file_name"].replace("\\", "/")} for image in images]

    def _parse(self, images: list[dict], annotations: list[dict]) -> list[dict]:
        by_image = defaultdict(list)
        self.cat_img_map = defaultdict(list)
        for annotation in annotations:
            by_image[annotation["image_id"]].append(_with_float_polygons(annotation))
            self.cat_img_map[annotation["category_id"]].append(annotation["image_id"])
        empty = [
            name
            for name, number in zip(self._metainfo["classes"], self.cat_ids, strict=True)
            if not self.cat_img_map[number]
        ]
        if empty and annotations:
            text = f"{self.ann_file} has no annotation of: {listed(empty, limit=20)}"
            print_log(text, "current", logging.WARNING)
        infos = [
            self.parse_data_info(
                {
                    "raw_img_info": image | {"img_id": image["id"]},
                    "raw_ann_info": by_image[image["id"]],
                }
            )
            for image in images
        ]
        loaders = self._mask_loaders()
        if loaders:
            _check_masks(infos, by_image, self.ann_file)
        if any(not getattr(step, "poly2mask", True) for step in loaders):
            _warn_of_bitmaps(infos, self.ann_file)
        return infos

    def filter_data(self) -> list[dict]:
        """Leave out images as ``filter_cfg`` says, and check the files of the others.

        Raises:
            InputError: No image is left, no object counts, the pipeline cannot resize an image, or
                files are missing, cut off, or of another size.
        """
        kept = self.select_images()
        check_sizes(image_files(kept), self.pipeline.transforms, self.ann_file)
        if _is_local(self.data_prefix["img"], self.backend_args):
            root = self.data_prefix["img"]
            loader = image_loader(self.pipeline.transforms)
            check_image_files(image_files(kept), self.ann_file, loader, root)
        return kept

    def select_images(self) -> list[dict]:
        """Leave out images as ``filter_cfg`` says.

        Raises:
            InputError: No image is left, or no object counts.
        """
        kept = super().filter_data()
        if not kept:
            num_annotated = sum(bool(info["instances"]) for info in self.data_list)
            raise InputError(
                f"no image of {self.ann_file} is left to train on: of {len(self.data_list)}, "
                f"{num_annotated} have a usable box of the classes "
                f"{listed(self._metainfo['classes'], limit=20)}; filter_cfg is {self.filter_cfg}"
            )
        if not self.test_mode:
            self.num_learnable = self._check_learnable(kept)
        elif self.check_meaning:
            self._check_counted(kept)
        return kept

    def _check_counted(self, kept: list[dict]) -> None:
        """Find that evaluation would count no object."""
        instances = [instance for info in kept for instance in info["instances"]]
        if instances and all(instance["ignore_flag"] for instance in instances):
            raise InputError(
                f"all {len(instances)} objects of {self.ann_file} are crowds (iscrowd=1), which "
                "evaluation does not count. Where they are single objects, set iscrowd to 0; to "
                "evaluate the file as it is, set check_meaning=False of the data set"
            )

    def _check_learnable(self, kept: list[dict]) -> int:
        """Count the objects that training learns, and name the classes that have none."""
        only_polygons = any(not getattr(step, "poly2mask", True) for step in self._mask_loaders())
        learnable: Counter = Counter()
        crowds: Counter = Counter()
        for info in kept:
            for instance in info["instances"]:
                label = instance["bbox_label"]
                if instance["ignore_flag"]:
                    crowds[label] += 1
                elif not (only_polygons and isinstance(instance.get("mask"), dict)):
                    learnable[label] += 1
        annotated = {
            label: len(self.cat_img_map[number]) for label, number in enumerate(self.cat_ids)
        }
        num_objects, num_crowds = sum(annotated.values()), crowds.total()
        out = "marked as ignored, without area, smaller than a pixel, outside their image, "
        out += "in an image that filter_cfg leaves out"
        out += ", or RLE where poly2mask=False takes polygons only" if only_polygons else ""
        if num_objects and not learnable:
            raise InputError(
                f"no object of {self.ann_file} is left to learn: of {num_objects} annotated, "
                f"{num_crowds} are crowds (iscrowd=1), which training ignores, and "
                f"{num_objects - num_crowds} are left out ({out}). Where single objects have "
                "iscrowd=1, as brush masks of some annotation tools do, set it to 0"
            )
        names = [
            f"{self._metainfo['classes'][label]} ({number} annotated: {crowds[label]} crowds, "
            f"{number - crowds[label]} left out)"
            for label, number in annotated.items()
            if number and not learnable[label]
        ]
        text = ""
        if not num_objects:
            text = f"{self.ann_file} has no object of the classes: its {len(kept)} images teach "
            text += "background only"
        elif names:
            text = f"{self.ann_file} has objects of {len(names)} classes, but none to learn: "
            text += f"{listed(names)}. Left out are objects {out}; crowds have iscrowd=1"
        if text:
            print_log(text, "current", logging.WARNING)
        return learnable.total()

    def _mask_loaders(self) -> list[Any]:
        """The steps of the pipeline that load masks."""
        return [step for step in self.pipeline.transforms if getattr(step, "with_mask", False)]


def image_files(infos: list[dict]) -> list[ImageFile]:
    """The files of a data set's images, with the sizes that its annotation file gives them."""
    return [ImageFile(info["img_path"], info["width"], info["height"]) for info in infos]


def _check_masks(infos: list[dict], by_image: dict[int, list[dict]], ann_file: str) -> None:
    """Find what would be a KeyError when the image is loaded."""
    without = [info["img_id"] for info in infos for one in info["instances"] if "mask" not in one]
    if without:
        annotations = by_image[without[0]]
        number = next(one["id"] for one in annotations if not one.get("segmentation"))
        raise NoMasksError(
            f"{ann_file}: {len(without)} of the {sum(len(info['instances']) for info in infos)} "
            f"objects have no segmentation, the first is the annotation with id {number}, of image "
            f"{without[0]}, but the pipeline loads masks. Give every object a mask, or train boxes "
            "alone: model.roi_head.mask_head=None and mask_roi_extractor=None, with_mask=False in "
            "LoadAnnotations of every pipeline, metric='bbox' in every CocoMetric"
        )


def _warn_of_bitmaps(infos: list[dict], ann_file: str) -> None:
    """Say how many objects mmdet ignores, as it does not make polygons of their bitmaps."""
    number = sum(
        not instance["ignore_flag"] and isinstance(instance["mask"], dict)
        for info in infos
        for instance in info["instances"]
    )
    if number:
        text = (
            f"{ann_file}: {number} objects that are no crowds have RLE masks, which training with "
            "polygons leaves out; set poly2mask=True in LoadAnnotations to train on them"
        )
        print_log(text, "current", logging.WARNING)


def _with_float_polygons(annotation: dict) -> dict:
    """Make the points of polygons float: of whole numbers mmdet makes arrays that it rounds down.

    Every resize would then move an outline to whole pixels.
    """
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or all(type(part[0]) is float for part in polygons if part):
        return annotation
    return annotation | {"segmentation": [[float(v) for v in part] for part in polygons]}


def _with_classes(metainfo: dict, classes: tuple[str, ...]) -> dict:
    return {"palette": make_palette(len(classes))} | metainfo | {"classes": classes}


def _checked_classes(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise InputError(
            f"metainfo.classes is the text {classes!r}, and no file of that name exists; expected "
            f"a tuple of names. A single class needs its comma: classes=({classes!r},)"
        )
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"metainfo.classes is {classes!r}, expected a tuple of names")
    if not classes or len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        raise InputError(f"metainfo.classes is empty or names a class twice: {twice}")
    return tuple(classes)


def _suggest(name: str, known: Iterable[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"{name!r} (did you mean {lower[close[0]]!r}?)" if close else repr(name)


def _is_local(path: str, backend_args: dict | None) -> bool:
    return isinstance(get_file_backend(path, backend_args=backend_args), LocalBackend)
