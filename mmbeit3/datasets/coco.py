"""COCO-format data sets whose classes come from the annotation file."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any, overload

import numpy as np
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
from mmbeit3.datasets.coco_content import (
    CROWD,
    INSTANCE,
    MASK,
    RLE,
    CocoContent,
    Columns,
    Infos,
)
from mmbeit3.datasets.coco_index import CocoIndex, load_content, open_index
from mmbeit3.datasets.image_files import ImageFile, check_image_files
from mmbeit3.datasets.label_formats.staleness import describe_change
from mmbeit3.datasets.palette import make_palette
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.text_files import read_text

PART = 1 << 20  # annotations that are counted at a time
AT_ONCE = 10_000  # images whose files are listed at a time


def read_classes(ann_file: str | Path, backend_args: dict | None = None) -> tuple[str, ...]:
    """Read the class names of a COCO file, in the order of their category ids.

    Args:
        ann_file: The annotation file, on any backend of mmengine.
        backend_args: Arguments of that backend. Defaults to None.

    Raises:
        InputError: The file or its categories cannot be used.
    """
    with get_local_path(str(ann_file), backend_args=backend_args) as local_path:
        if _is_local(str(ann_file), backend_args) and (
            index := open_index(local_path, str(ann_file))
        ):
            data = {"categories": index.categories}
        else:
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

    def load_data_list(self) -> Sequence[dict]:
        """Read and check the annotation file.

        Returns:
            One dict for each image, as mmdet's ``parse_data_info`` makes them.
        """
        if "img" not in self.data_prefix:
            raise InputError(f"data_prefix has the keys {sorted(self.data_prefix)}, expected 'img'")
        if "classes" in self._metainfo:
            _checked_classes(self._metainfo["classes"])
        content = self._load_content()
        if change := describe_change({"info": content.info}, self.ann_file):
            print_log(change, "current", logging.WARNING)
        if "classes" not in self._metainfo:
            by_id = sorted(content.categories, key=lambda category: category["id"])
            classes = tuple(category["name"] for category in by_id)
            self._metainfo = _with_classes(self._metainfo, classes)
        classes = self._metainfo["classes"]
        self.cat_ids = find_category_ids(classes, content.categories, self.ann_file)
        self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}
        self._has_backslashes = self._find_backslashes(content)
        self._objects = _Objects(content, self.cat2label)
        self._say_empty_classes()
        infos = Infos(content, np.arange(len(content.columns.ids)), self._parse, self._path_of)
        loaders = self._mask_loaders()
        if loaders:
            self._objects.check_masks(self.ann_file)
        if any(not getattr(step, "poly2mask", True) for step in loaders):
            self._objects.warn_of_bitmaps(self.ann_file)
        if isinstance(content, CocoIndex) and self.proposal_file is None:
            self.serialize_data = False  # what is mapped is shared by all processes
            return infos
        return list(infos)

    def _load_content(self) -> CocoContent:
        checks = not self.test_mode, self.check_meaning
        with get_local_path(self.ann_file, backend_args=self.backend_args) as local_path:
            if _is_local(self.ann_file, self.backend_args):
                return load_content(local_path, self.ann_file, *checks)
            return CocoContent(load_coco(local_path, self.ann_file, *checks))  # it goes away

    def _find_backslashes(self, content: CocoContent) -> bool:
        """Whether backslashes of names, which Windows wrote, mean what they mean there."""
        if not content.has_backslashes():
            return False
        names = [name for name in content.names() if "\\" in name]
        if osp.exists(osp.join(self.data_prefix["img"], names[0])):
            return False
        text = f"{self.ann_file}: {len(names)} file names have backslashes, the first is "
        text += f"{names[0]!r}; they are read as /"
        print_log(text, "current")
        return True

    def _name_of(self, name: str) -> str:
        return name.replace("\\", "/") if self._has_backslashes else name

    def _path_of(self, name: str) -> str:
        return osp.join(self.data_prefix["img"], self._name_of(name))

    def _parse(self, content: CocoContent, row: int) -> dict:
        """Make the item of an image."""
        image = content.image(row)
        name = self._name_of(image["file_name"])
        annotations = [_with_float_polygons(annotation) for annotation in content.annotations(row)]
        return self.parse_data_info(
            {
                "raw_img_info": image | {"file_name": name, "img_id": image["id"]},
                "raw_ann_info": annotations,
            }
        )

    def _say_empty_classes(self) -> None:
        annotated = self._objects.annotated
        empty = [
            name
            for name, number in zip(self._metainfo["classes"], annotated.tolist(), strict=True)
            if not number
        ]
        if empty and len(self._objects.labels):
            text = f"{self.ann_file} has no annotation of: {listed(empty, limit=20)}"
            print_log(text, "current", logging.WARNING)

    def get_data_info(self, idx: int) -> dict:
        """Give what is known of an image before it is loaded."""
        infos = getattr(self, "data_list", None)  # a subset of one that is serialized has none
        if not isinstance(infos, Infos):
            return super().get_data_info(idx)
        return infos[idx] | {"sample_idx": idx if idx >= 0 else len(self) + idx}

    def get_cat_ids(self, idx: int) -> list[int]:
        """Give the labels of an image's instances."""
        infos = getattr(self, "data_list", None)
        if not isinstance(infos, Infos):
            return super().get_cat_ids(idx)
        columns = infos.content.columns
        span = columns.span(int(infos.rows[idx]))
        kinds = columns.kinds[span][columns.flags[span] & INSTANCE > 0].tolist()
        numbers = (infos.content.categories[kind]["id"] for kind in kinds)
        return [self.cat2label[number] for number in numbers if number in self.cat2label]

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Sequence[dict]:
        if not isinstance(self.data_list, Infos) or isinstance(indices, int):
            return super()._get_unserialized_subset(indices)
        return self.data_list.select(self.data_list.rows[np.array(indices, np.int64)])

    def filter_data(self) -> Sequence[dict]:
        """Leave out images as ``filter_cfg`` says, and check the files of the others.

        Raises:
            InputError: No image is left, no object counts, the pipeline cannot resize an image, or
                files are missing, cut off, or of another size.
        """
        kept = self.select_images()
        files = image_files(kept)
        check_sizes(files, self.pipeline.transforms, self.ann_file)
        if _is_local(self.data_prefix["img"], self.backend_args):
            root = self.data_prefix["img"]
            loader = image_loader(self.pipeline.transforms)
            check_image_files(files, self.ann_file, loader, root)
        return kept

    def select_images(self) -> Sequence[dict]:
        """Leave out images as ``filter_cfg`` says.

        Raises:
            InputError: No image is left, or no object counts.
        """
        objects = self._objects
        del self._objects
        rows = _rows_of(self.data_list, objects.columns)
        chosen = np.ones(len(rows), bool)
        if not self.test_mode and self.filter_cfg is not None:
            if self.filter_cfg.get("filter_empty_gt", False):
                # even of one that is no instance
                chosen &= objects.has_any(objects.labels >= 0)[rows]
            chosen &= objects.columns.sizes[rows].min(axis=1) >= self.filter_cfg.get("min_size", 0)
        objects.keep(rows[chosen])
        if not chosen.any():
            num_annotated = objects.has_any(objects.is_instance).sum()
            raise InputError(
                f"no image of {self.ann_file} is left to train on: of {len(self.data_list)}, "
                f"{num_annotated} have a usable box of the classes "
                f"{listed(self._metainfo['classes'], limit=20)}; filter_cfg is {self.filter_cfg}"
            )
        if not self.test_mode:
            self.num_learnable = self._check_learnable(objects)
        elif self.check_meaning:
            self._check_counted(objects)
        if isinstance(self.data_list, Infos):
            return self.data_list.select(rows[chosen])
        return [self.data_list[index] for index in np.flatnonzero(chosen).tolist()]

    def _check_counted(self, objects: _Objects) -> None:
        """Find that evaluation would count no object."""
        is_kept = objects.is_instance & objects.is_kept
        if is_kept.any() and bool((objects.columns.flags[is_kept] & CROWD > 0).all()):
            raise InputError(
                f"all {is_kept.sum()} objects of {self.ann_file} are crowds (iscrowd=1), which "
                "evaluation does not count. Where they are single objects, set iscrowd to 0; to "
                "evaluate the file as it is, set check_meaning=False of the data set"
            )

    def _check_learnable(self, objects: _Objects) -> int:
        """Count the objects that training learns, and name the classes that have none."""
        only_polygons = any(not getattr(step, "poly2mask", True) for step in self._mask_loaders())
        is_kept = objects.is_instance & objects.is_kept
        is_crowd = objects.columns.flags & CROWD > 0
        is_learned = is_kept & ~is_crowd
        if only_polygons:
            is_learned &= objects.columns.flags & RLE == 0
        learnable, crowds = objects.count(is_learned), objects.count(is_kept & is_crowd)
        annotated = dict(enumerate(objects.annotated.tolist()))
        num_objects, num_crowds = sum(annotated.values()), int(crowds.sum())
        out = "marked as ignored, without area, smaller than a pixel, outside their image, "
        out += "in an image that filter_cfg leaves out"
        out += ", or RLE where poly2mask=False takes polygons only" if only_polygons else ""
        if num_objects and not learnable.any():
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
            text = f"{self.ann_file} has no object of the classes: its {objects.num_kept} images "
            text += "teach background only"
        elif names:
            text = f"{self.ann_file} has objects of {len(names)} classes, but none to learn: "
            text += f"{listed(names)}. Left out are objects {out}; crowds have iscrowd=1"
        if text:
            print_log(text, "current", logging.WARNING)
        return int(learnable.sum())

    def _mask_loaders(self) -> list[Any]:
        """The steps of the pipeline that load masks."""
        return [step for step in self.pipeline.transforms if getattr(step, "with_mask", False)]


class _Files(Sequence[ImageFile]):
    """Files of images that are made whenever they are asked for: millions take half a gigabyte."""

    def __init__(self, infos: Infos) -> None:
        self.infos = infos

    def __len__(self) -> int:
        return len(self.infos)

    @overload
    def __getitem__(self, index: int) -> ImageFile: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageFile]: ...

    def __getitem__(self, index: int | slice) -> ImageFile | list[ImageFile]:
        if isinstance(index, slice):
            return [ImageFile(*file) for file in self.infos[index].files()]
        return self[index : index + 1 or None][0]

    def __iter__(self) -> Iterator[ImageFile]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]


def image_files(infos: Sequence[dict]) -> Sequence[ImageFile]:
    """The files of a data set's images, with the sizes that its annotation file gives them."""
    if isinstance(infos, Infos):
        return _Files(infos)
    return [ImageFile(info["img_path"], info["width"], info["height"]) for info in infos]


def _labels_of(content: CocoContent, cat2label: Mapping[int, int]) -> np.ndarray:
    """The label of each category of a file, -1 for those that are no class, (K,) int32."""
    labels = [cat2label.get(category["id"], -1) for category in content.categories]
    return np.array(labels, np.int32)


def _rows_of(infos: Sequence[dict], columns: Columns) -> np.ndarray:
    """Which image of the file each item is."""
    if isinstance(infos, Infos):
        return infos.rows
    row_of = {number: row for row, number in enumerate(columns.ids.tolist())}
    return np.array([row_of[info["img_id"]] for info in infos], np.int64)


def _parts(number: int) -> Iterator[slice]:
    """Parts of annotations: numpy copies indices into eight bytes each, 0.2 GB for 30 million."""
    return (slice(start, start + PART) for start in range(0, number, PART))


class _Objects:
    """The M annotations of a file while its data set is loaded.

    Attributes:
        columns (Columns): Their numbers.
        labels (np.ndarray): (M,), -1 for those of no class.
        is_instance (np.ndarray): (M,), whether mmdet makes instances of them.
        is_kept (np.ndarray): (M,), whether their image is left.
        annotated (np.ndarray): How many annotations each class has.
    """

    def __init__(self, content: CocoContent, cat2label: Mapping[int, int]) -> None:
        self.content, self.columns = content, content.columns
        self.num_classes = len(cat2label)
        kinds, labels = self.columns.kinds, _labels_of(content, cat2label)
        self.labels = np.empty(len(kinds), np.min_scalar_type(-max(1, len(cat2label))))
        for part in _parts(len(kinds)):
            self.labels[part] = labels[kinds[part]]
        self.is_instance = (self.columns.flags & INSTANCE > 0) & (self.labels >= 0)
        self.annotated = self.count(self.labels >= 0)
        self.is_kept: np.ndarray = np.ones(len(kinds), bool)
        self.num_kept = len(self.columns.ids)

    def count(self, chosen: np.ndarray) -> np.ndarray:
        """Count the chosen annotations of each class."""
        counts = np.zeros(self.num_classes, np.int64)
        for part in _parts(len(chosen)):
            counts += np.bincount(self.labels[part][chosen[part]], minlength=self.num_classes)
        return counts

    def has_any(self, chosen: np.ndarray) -> np.ndarray:
        """Which images have a chosen annotation, (N,)."""
        ends = self.columns.ends
        starts = np.concatenate([[0], ends[:-1]])
        found = starts < ends
        found[found] = np.logical_or.reduceat(chosen, starts[found])
        return found

    def keep(self, rows: np.ndarray) -> None:
        """Note which images are left."""
        found = np.zeros(len(self.columns.ids), bool)
        found[rows] = True
        self.is_kept = np.repeat(found, np.diff(self.columns.ends, prepend=0))
        self.num_kept = len(rows)

    def check_masks(self, ann_file: str) -> None:
        """Find what would be a KeyError when the image is loaded."""
        without = np.flatnonzero(self.is_instance & (self.columns.flags & MASK == 0))
        if len(without):
            row = int(np.searchsorted(self.columns.ends, without[0], side="right"))
            annotations = self.content.annotations(row)
            number = next(one["id"] for one in annotations if not one.get("segmentation"))
            raise NoMasksError(
                f"{ann_file}: {len(without)} of the {self.is_instance.sum()} objects have no "
                f"segmentation, the first is the annotation with id {number}, of image "
                f"{self.columns.ids[row]}, but the pipeline loads masks. Give every object a mask, "
                "or train boxes alone: model.roi_head.mask_head=None and mask_roi_extractor=None, "
                "with_mask=False in LoadAnnotations of every pipeline, metric='bbox' in every "
                "CocoMetric"
            )

    def warn_of_bitmaps(self, ann_file: str) -> None:
        """Say how many objects mmdet ignores, as it does not make polygons of their bitmaps."""
        number = (self.is_instance & (self.columns.flags & (CROWD | RLE) == RLE)).sum()
        if number:
            text = (
                f"{ann_file}: {number} objects that are no crowds have RLE masks, which training "
                "with polygons leaves out; set poly2mask=True in LoadAnnotations to train on them"
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
