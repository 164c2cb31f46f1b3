from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric as MMSegIoUMetric
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor

from mmbeit3.evaluation import IoUMetric
from mmbeit3.registry import DATASETS, METRICS
from mmbeit3.utils import InputError

CLASSES = ("sky", "road", "car", "tree")


def _sample(prediction: Tensor, label: Tensor, path: str | None = "a.jpg") -> SegDataSample:
    """A sample of class numbers (H, W)."""
    sample = SegDataSample(metainfo={"img_path": path} if path else {})
    sample.pred_sem_seg = PixelData(data=prediction[None])
    sample.gt_sem_seg = PixelData(data=label[None])
    return sample


def _random_samples(seed: int = 0) -> list[SegDataSample]:
    """Five images of three of the four classes, a fifth of their pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(5):
        labels = torch.randint(0, 3, (40, 60), generator=generator)
        keep = torch.rand(40, 60, generator=generator) < 0.7
        other = torch.randint(0, 3, (40, 60), generator=generator)
        predictions = torch.where(keep, labels, other)
        labels[torch.rand(40, 60, generator=generator) < 0.2] = 255
        samples.append(_sample(predictions, labels, f"{index}.jpg"))
    return samples


def _evaluate(metric: MMSegIoUMetric, samples: list[SegDataSample], size: int | None = None):
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": CLASSES}
    evaluator.process(data_samples=samples)
    return evaluator.evaluate(size or len(samples))


@pytest.fixture(scope="module")
def reference_samples(data_root: Path) -> list[SegDataSample]:
    """A PSPNet's predictions for ten images of ADE20K with the labels, as our data set loads it."""
    init_default_scope("mmseg")
    root = data_root / "ade20k_sample"
    dataset = DATASETS.build(
        {
            "type": "mmbeit3.ADE20KDataset",
            "data_root": str(root),
            "data_prefix": {
                "img_path": "images/validation",
                "seg_map_path": "annotations/validation",
            },
            "indices": 10,
            "test_mode": True,
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "Resize", "scale": (256, 64), "keep_ratio": True},
                {"type": "LoadAnnotations"},
                {"type": "PackSegInputs"},
            ],
        }
    )
    samples = []
    for data in dataset:
        sample = data["data_samples"]
        name = f"{Path(sample.img_path).stem}.png"
        prediction = np.asarray(Image.open(root / "reference_predictions" / name)).astype(np.int64)
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction - 1)[None])
        samples.append(sample)
    return samples


def _evaluate_reference(metric: MMSegIoUMetric, samples: list[SegDataSample]) -> dict[str, float]:
    from mmseg.datasets import ADE20KDataset

    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": ADE20KDataset.METAINFO["classes"]}
    evaluator.process(data_samples=samples)
    return evaluator.evaluate(len(samples))


def test_the_numbers_of_the_authors_of_ade20k(reference_samples: list[SegDataSample]) -> None:
    metric = METRICS.build({"type": "mmbeit3.IoUMetric"})
    metrics = _evaluate_reference(metric, reference_samples)
    # reference_predictions_scores.txt, by the evaluation code of CSAILVision/sceneparsing
    assert f"{metrics['aAcc'] / 100:.4f}" == "0.8079"
    assert f"{metrics['mIoU'] / 100:.4f}" == "0.2187"
    absent_as_missed = _evaluate_reference(IoUMetric(nan_to_num=0), reference_samples)
    assert f"{absent_as_missed['mIoU'] / 100:.4f}" == "0.0671"
    with_union = [row["IoU"] for row in metric.by_class.values() if row["IoU"] is not None]
    assert len(with_union) == 46 and len(metric.by_class) == 150
    assert np.mean(with_union) == pytest.approx(metrics["mIoU"])
    assert f"{metric.by_class['sky']['IoU']:.2f}" == "98.41"


def test_mmseg_rounds_the_same_numbers(reference_samples: list[SegDataSample]) -> None:
    theirs = _evaluate_reference(MMSegIoUMetric(), reference_samples)
    ours = _evaluate_reference(IoUMetric(), reference_samples)
    assert {name: round(value, 2) for name, value in ours.items()} == pytest.approx(theirs)
    assert set(ours) == {"aAcc", "mIoU", "mAcc"}
    assert ours["mIoU"] != round(ours["mIoU"], 2)


def test_all_metrics_agree_with_mmseg_but_for_rounding() -> None:
    names = ["mIoU", "mDice", "mFscore"]
    ours = _evaluate(IoUMetric(iou_metrics=names, beta=2), _random_samples())
    theirs = _evaluate(MMSegIoUMetric(iou_metrics=names, beta=2), _random_samples())
    assert set(ours) == set(theirs) and len(ours) == 7
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=0.005), name


@pytest.mark.parametrize(
    "settings", [{}, {"iou_metrics": "mDice"}, {"iou_metrics": ["mFscore", "mIoU"]}]
)
def test_the_names_of_the_metrics_are_known_before(settings: dict) -> None:
    metrics = _evaluate(IoUMetric(**settings), _random_samples())
    assert set(IoUMetric.metric_names(settings)) == set(metrics)


def test_counts_stay_exact_beyond_float32() -> None:
    metric = IoUMetric()
    metric.dataset_meta = {"classes": CLASSES[:2]}
    large = torch.tensor([2**24, 0])
    small = torch.tensor([1, 0])
    one_wrong = torch.tensor([0, 0]), torch.tensor([1, 1]), torch.tensor([0, 1]), small
    results = [("large", large, large, large, large), ("wrong", *one_wrong)]
    metrics = metric.compute_metrics(results)
    assert metrics["aAcc"] == 100 * 2**24 / (2**24 + 1) < 100


def test_an_image_that_was_run_twice_counts_once() -> None:
    samples = _random_samples()
    once = _evaluate(IoUMetric(), samples)
    assert _evaluate(IoUMetric(), [*samples, samples[0]]) == once
    nameless = [_sample(s.pred_sem_seg.data[0], s.gt_sem_seg.data[0], None) for s in samples]
    assert _evaluate(IoUMetric(), nameless) == once


@pytest.mark.parametrize("pixels", [0, 2])
def test_a_class_that_is_nowhere_is_left_out(pixels: int) -> None:
    label = torch.zeros(4, 4, dtype=torch.long)
    prediction = label.clone()
    prediction[0, :pixels] = 1  # predicted, but not labeled: it has a union
    metrics = _evaluate(IoUMetric(), [_sample(prediction, label)])
    assert metrics["mIoU"] == (100.0 if pixels == 0 else 100 * (14 / 16 + 0) / 2)
    assert metrics["mAcc"] == 100 * (16 - pixels) / 16


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (0, 7, "a.jpg: the label map has 1 pixels of no class, such as 7; expected 0..3"),
        (4, 0, "a.jpg: the model has 1 pixels of no class, such as 4; expected 0..3"),
        (-1, 0, "the model has 1 pixels of no class, such as -1"),
    ],
)
def test_classes_beyond_the_data_set_are_errors(prediction: int, label: int, message: str) -> None:
    maps = torch.zeros(2, 4, 4, dtype=torch.long)
    maps[0, 1, 1], maps[1, 1, 1] = prediction, label
    with pytest.raises(InputError, match=message):
        _evaluate(IoUMetric(), [_sample(*maps)])


def test_a_resized_label_map_is_an_error() -> None:
    label, prediction = torch.zeros(4, 4, dtype=torch.long), torch.zeros(8, 8, dtype=torch.long)
    with pytest.raises(InputError, match=r"shape \(4, 4\), the prediction \(8, 8\). LoadAnnotatio"):
        _evaluate(IoUMetric(), [_sample(prediction, label)])


def test_arguments_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match=r"iou_metrics is \['mAP'\], expected some of"):
        IoUMetric(iou_metrics=["mAP"])
    with pytest.raises(InputError, match="no image was evaluated"):
        IoUMetric().compute_metrics([])
    for value in (-1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"nan_to_num is .*, expected 0\.\.1: 0 counts an abs"):
            IoUMetric(nan_to_num=value)


def test_images_without_labels_cannot_be_scored() -> None:
    sample = SegDataSample(metainfo={"img_path": "a.jpg"})
    sample.pred_sem_seg = PixelData(data=torch.zeros(1, 4, 4))
    with pytest.raises(InputError, match=r"a.jpg comes without its label map.* format_only=True"):
        _evaluate(IoUMetric(), [sample])


def test_labels_that_are_all_ignored_cannot_be_scored() -> None:
    samples = [_sample(torch.zeros(4, 4), torch.full((4, 4), 255), name) for name in "ab"]
    with pytest.raises(
        InputError, match=r"of the 2 label maps is ignored \(255\).* check reduce_z"
    ):
        _evaluate(IoUMetric(), samples)


def test_predictions_alone_are_written(tmp_path: Path) -> None:
    label = torch.full((4, 4), 9)  # not looked at
    metric = IoUMetric(format_only=True, output_dir=str(tmp_path / "out"))
    assert _evaluate(metric, [_sample(torch.full((4, 4), 2), label)]) == {}
    assert np.unique(Image.open(tmp_path / "out" / "a.png")).tolist() == [2]


def test_predictions_have_the_values_of_the_label_maps(tmp_path: Path) -> None:
    prediction = torch.arange(4).reshape(2, 2)
    sample = _sample(prediction, prediction, "images/b/a.x.jpg")
    sample.set_metainfo({"reduce_zero_label": True})
    metric = IoUMetric(output_dir=str(tmp_path), image_root="images")
    assert _evaluate(metric, [sample])["mIoU"] == 100
    assert np.array_equal(np.array(Image.open(tmp_path / "b" / "a.x.png")), prediction + 1)


def test_images_of_the_same_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    maps = torch.zeros(2, 4, 4, dtype=torch.long)
    samples = [_sample(*maps, path) for path in ("x/a.jpg", "y/a.jpg")]
    metric = IoUMetric(output_dir=str(tmp_path / "flat"))
    _evaluate(metric, [samples[0], samples[0]], 1)
    with pytest.raises(InputError, match=r"x/a.jpg and y/a.jpg would both be .*a.png; set image_r"):
        _evaluate(metric, samples)
    _evaluate(IoUMetric(output_dir=str(tmp_path / "deep"), image_root="."), samples)
    assert (tmp_path / "deep/x/a.png").is_file() and (tmp_path / "deep/y/a.png").is_file()


def test_values_that_no_png_holds_are_errors(tmp_path: Path) -> None:
    metric = IoUMetric(output_dir=str(tmp_path), format_only=True)
    with pytest.raises(InputError, match=r"a.jpg: the prediction has the value 256, and .*0..255"):
        _evaluate(metric, [_sample(torch.full((4, 4), 256), torch.zeros(4, 4))])


def test_files_of_one_name_from_two_processes(tmp_path: Path) -> None:
    """Each process knows its own images only; together they have written one file twice."""
    metric = IoUMetric(output_dir=str(tmp_path), format_only=True)
    metric.dataset_meta = {"classes": ("a", "b")}
    label = {"data": torch.zeros(1, 2, 2, dtype=torch.long)}
    for image in ("one/1.jpg", "two/1.jpg"):
        metric._written.clear()  # as in another process
        metric.process({}, [{"img_path": image, "pred_sem_seg": label}])
    with pytest.raises(InputError, match=r"one/1.jpg and two/1.jpg would both be .*1.png"):
        metric.evaluate(2)


@pytest.mark.parametrize(
    ("labels", "predicted", "shown", "said"),
    [
        ((0, 1), (0, 0), ["road", "sky"], "2 classes are not in the table"),
        ((0, 1), (2, 0), ["car", "road", "sky"], "1 class is not in the table"),
        ((0, 1), (2, 3), ["car", "road", "sky", "tree"], None),
    ],
)
def test_classes_that_are_nowhere_are_counted(
    labels: tuple[int, ...],
    predicted: tuple[int, ...],
    shown: list[str],
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        "mmbeit3.evaluation.iou_metric.print_log", lambda text, *_: logged.append(text)
    )
    metric = IoUMetric()
    _evaluate(metric, [_sample(torch.tensor([predicted]), torch.tensor([labels]))])
    (table,) = logged
    rows = [line.split()[1] for line in table.splitlines() if line.startswith("| ")][1:]
    assert sorted(rows) == shown
    assert (said in table) if said else ("not in the table" not in table)
    assert list(metric.by_class) == list(CLASSES)  # as numbers, all are there
