"""The task of naming every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.datasets.class_list import ClassList
from mmbeit3.datasets.palette import palette_or_made
from mmbeit3.evaluation.output_places import output_file
from mmbeit3.inference.evaluation_outputs import PICKLE_SUFFIXES, EvaluationOutputs, evaluators
from mmbeit3.inference.segmentation_report import (
    ClassMaps,
    LabeledImage,
    report_segmentation,
)
from mmbeit3.inference.segmentation_writer import SegmentationWriter
from mmbeit3.inference.submissions import report_note
from mmbeit3.inference.task import Task
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import make_folder
from mmbeit3.visualization.drawing_hook import SampleDrawingHook

if TYPE_CHECKING:  # mmseg is imported for segmentation configs only
    from mmbeit3.export.files import Exported
    from mmbeit3.inference.segmentor import Segmentor

IOU_METRIC = "mmbeit3.IoUMetric"


@TASKS.register_module(name="segmentation")
class SegmentationTask(Task):
    """Class maps as large as their images."""

    scope = "mmseg"
    writer_type = SegmentationWriter
    prediction_suffix = ".png"
    report_predictions = "labels"
    drawing = ("legend",)
    tta_model = "mmbeit3.SegTTAModel"
    export_kind = "segmentor"
    pipeline_tag = "image-segmentation"

    def load(
        self,
        cfg: Config,
        checkpoint: str | Path | Mapping[str, Any] | Exported,
        device: str,
        dtype: str | None,
        compiles: bool,
        force: bool = False,
    ) -> Segmentor:
        """Load a trained segmentor."""
        from mmbeit3.inference.segmentor import Segmentor

        return Segmentor(cfg, checkpoint, device, dtype, compiles, force)

    def writer(self, model: Segmentor, out_dir: Path, **options: Any) -> SegmentationWriter:
        """Make what writes the results; options as of :class:`SegmentationWriter`."""
        return SegmentationWriter(out_dir, model.meanings, **options)

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Have a PNG of each image written to a folder."""
        if out.suffix in (*PICKLE_SUFFIXES, ".json") or out.is_file():
            raise InputError(
                f"{out} names a file; a segmentor's predictions are a PNG for each image: give a "
                "folder",
                argument="out",
            )
        found = evaluators(cfg)
        writers = [entry for entry in found if entry.get("type") == IOU_METRIC]
        if not writers:
            types = ", ".join(str(entry.get("type")) for entry in found)
            raise InputError(
                f"{out}: the predictions are written by {IOU_METRIC}, and test_evaluator has "
                f"the type {types}; set test_evaluator=dict(type={IOU_METRIC!r}, "
                "iou_metrics=['mIoU'])",
                argument="out",
            )
        make_folder(out)
        staging_dir = outputs.folder(out, "out")
        for writer in writers:
            writer.update(
                output_dir=str(out), image_root=outputs.image_root, staging_dir=staging_dir
            )

    def write_report(
        self, cfg: Config, predictions: Path, out_dir: Path, dataset: Any, image_root: str
    ) -> None:
        """Write a page on the class maps."""
        images, files = [], []
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            path = Path(info["img_path"])
            files.append(output_file(info, predictions, ".png", image_root))
            name = files[-1].relative_to(predictions).with_suffix(path.suffix).as_posix()
            renamed = info.get("label_map")
            images.append(
                LabeledImage(
                    name, Path(info["seg_map_path"]), path, info["reduce_zero_label"], renamed
                )
            )
        meta = dataset.metainfo
        palette = palette_or_made(meta.get("palette"), len(meta["classes"]))
        report_segmentation(
            images,
            [ClassMaps(predictions.name, files)],
            ClassList(tuple(meta["classes"]), palette),
            out_dir,
            report_note(cfg, predictions),
        )

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Make the hook that draws class maps."""
        from mmbeit3.inference.seg_classes import find_seg_classes

        classes = find_seg_classes(cfg, meta)
        return SampleDrawingHook(classes.names, classes.palette, **options)
