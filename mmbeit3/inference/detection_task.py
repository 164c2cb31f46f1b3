"""The task of finding objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook

from mmbeit3.config.datasets import data_path, innermost_datasets
from mmbeit3.datasets.label_formats import FILE_NAMES
from mmbeit3.datasets.label_formats.labels import LabeledImage, label_names
from mmbeit3.inference.detection_report import report_detections
from mmbeit3.inference.detection_writer import DetectionWriter
from mmbeit3.inference.detector import Detector, find_det_classes
from mmbeit3.inference.evaluation_outputs import PICKLE_SUFFIXES, EvaluationOutputs, evaluators
from mmbeit3.inference.image_list import NotListed, Source
from mmbeit3.inference.task import Task
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError
from mmbeit3.visualization.drawing_hook import SampleDrawingHook
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR


@TASKS.register_module(name="detection")
class DetectionTask(Task):
    """Objects with boxes, labels, scores and maybe masks."""

    scope = "mmdet"
    inferencer_type = Detector
    writer_type = DetectionWriter
    options = ("score_thr", "hide_duplicates", "formats")
    drawing = ("hide_duplicates",)
    tta_model = "mmbeit3.DetTTAModel"
    export_kind = "detector"
    pipeline_tag = "object-detection"

    def writer(self, model: Detector, out_dir: Path, **options: Any) -> DetectionWriter:
        """Make what writes the results; options as of :class:`DetectionWriter`."""
        return DetectionWriter(out_dir, model.classes, **options)

    def list_sources(
        self,
        folder: Path,
        out_dir: Path,
        overlays: bool,
        not_listed: NotListed,
        options: Mapping[str, Any],
    ) -> Sequence[Source]:
        """List the images; two may not have one label file in a format that is asked for."""
        sources = super().list_sources(folder, out_dir, overlays, not_listed, options)
        if set(options.get("formats", ())) - FILE_NAMES.keys():
            label_names([LabeledImage(source.file_name, 0, 0) for source in sources], "")
        return sources

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Have all of mmdet's fields written to a ``.pkl`` file, or COCO results as JSON."""
        found = evaluators(cfg)
        if out.suffix in PICKLE_SUFFIXES:
            found.append(ConfigDict(type="mmdet.DumpDetResults", out_file_path=outputs.file(out)))
        elif out.suffix == ".json":
            writers = _coco_metrics(cfg)
            if not writers:
                raise InputError(f"{out}: only a CocoMetric writes JSON; use a .pkl name", "out")
            prefix = outputs.file(out.with_suffix(""))
            for writer in writers:
                writer["outfile_prefix"] = prefix
        else:
            raise InputError(f"{out} ends with {out.suffix!r}; expected .json or .pkl", "out")
        cfg.test_evaluator = found

    def kept_files(self, out: Path) -> str:
        """Say that JSON is a file for boxes and one for masks."""
        return f"{out.with_suffix('')}.*.json" if out.suffix == ".json" else str(out)

    def check_report(self, cfg: Config, predictions: Path) -> None:
        """Make sure that the test has one data set, scored by a CocoMetric."""
        super().check_report(cfg, predictions)
        if predictions.suffix != ".json":
            raise InputError(f"{predictions}: a report needs predictions as .json", "out")
        _scored_set(cfg)

    def write_report(
        self, cfg: Config, predictions: Path, out_dir: Path, dataset: Any, image_root: str
    ) -> None:
        """Write a page on boxes into ``bbox/``, and one on masks into ``segm/``."""
        metric, config = _scored_set(cfg)
        truth = metric.get("ann_file") or data_path(config, "ann_file")
        prefix = config.get("data_prefix") or {}
        images = osp.join(config.get("data_root") or "", prefix.get("img") or "")
        classes = dataset.metainfo["classes"]
        kinds = metric.get("metric", "bbox")
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            results = predictions.with_suffix(f".{kind}.json")
            report_detections([results], truth, out_dir / kind, images, kind, classes=classes)

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Make the hook that draws objects from the config's score on."""
        hook = (cfg.get("default_hooks") or {}).get("visualization") or {}
        score_thr = hook.get("score_thr", DEFAULT_SCORE_THR)
        return SampleDrawingHook(*find_det_classes(cfg, meta), score_thr, **options)


def _coco_metrics(cfg: Config) -> list[ConfigDict]:
    return [entry for entry in evaluators(cfg) if str(entry.get("type")).endswith("CocoMetric")]


def _scored_set(cfg: Config) -> tuple[ConfigDict, ConfigDict]:
    """The one CocoMetric of a test, and the one data set."""
    metrics = _coco_metrics(cfg)
    datasets = [dataset for _, dataset in innermost_datasets(cfg.test_dataloader.dataset)]
    if len(metrics) != 1 or len(datasets) != 1:
        raise InputError(
            f"a report is on one data set with one CocoMetric; the test has {len(datasets)} and "
            f"{len(metrics)}. Keep the predictions, and use mmbeit3 report",
            "report",
        )
    return metrics[0], datasets[0]
