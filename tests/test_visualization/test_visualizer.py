"""The Visualizer of configs: what backends and the hooks of mmdet and mmseg get from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer as MMEngineVisualizer
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.structures import SegDataSample

from mmbeit3.datasets.palette import make_palette
from mmbeit3.visualization.overlay import draw_class_map, draw_instances

CLASSES = ("boat", "\u043b\u043e\u0434\u043a\u0430", "c")
PALETTE = [(250, 10, 20), (20, 240, 30), (10, 30, 245)]  # RGB
BGR = [color[::-1] for color in PALETTE]


@pytest.fixture
def visualizer(request: pytest.FixtureRequest, tmp_path: Path) -> MMEngineVisualizer:
    backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    built = VISUALIZERS.build(
        dict(
            type="mmbeit3.Visualizer",
            name=request.node.name,
            vis_backends=backends,
            save_dir=str(tmp_path),
            **getattr(request, "param", {}),
        )
    )
    built.dataset_meta = {"classes": CLASSES, "palette": PALETTE}
    yield built
    built.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 133, 3), dtype=np.uint8)
    file = tmp_path / "photo.png"
    cv2.imwrite(str(file), cv2.blur(pixels, (9, 9)))
    return file


def objects(photo: Path) -> DetDataSample:
    sample = DetDataSample(metainfo=dict(img_path=str(photo)))
    boxes = torch.tensor([[5.0, 10, 60, 50], [70, 20, 120, 65], [72, 21, 121, 64]])
    sample.pred_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([1, 0, 0]), scores=torch.tensor([0.9, 0.6, 0.4])
    )
    masks = BitmapMasks(np.ones((1, 70, 133), np.uint8), 70, 133)
    truth = dict(bboxes=HorizontalBoxes(boxes[:1]), labels=torch.tensor([2]), masks=masks)
    sample.gt_instances = InstanceData(**truth)
    return sample


def drawn_by_hand(photo: Path, sample: DetDataSample, keep: list[int]) -> np.ndarray:
    image = cv2.imread(str(photo))
    found, truth = sample.pred_instances.numpy(), sample.gt_instances
    left = draw_instances(
        image,
        truth.bboxes.tensor.numpy(),
        truth.labels.numpy(),
        None,
        truth.masks.masks.astype(bool),
        CLASSES,
        BGR,
    )
    right = draw_instances(
        image, found.bboxes[keep], found.labels[keep], found.scores[keep], None, CLASSES, BGR
    )
    return cv2.hconcat([left, right])


@pytest.mark.parametrize(
    ("visualizer", "keep"),
    [({}, [0, 1, 2]), ({"hide_duplicates": True}, [0, 1])],
    indirect=["visualizer"],
)
def test_a_validation_of_mmdet_goes_to_the_backends(
    visualizer: MMEngineVisualizer, photo: Path, tmp_path: Path, keep: list[int]
) -> None:
    hook = DetVisualizationHook(draw=True, interval=1, score_thr=0.4)
    hook._visualizer = visualizer
    sample = objects(photo)
    hook.after_val_iter(SimpleNamespace(iter=7), 0, {}, [sample])
    [file] = (tmp_path / "vis_data" / "vis_image").iterdir()
    assert file.name == "val_img_7.png"
    assert (cv2.imread(str(file)) == drawn_by_hand(photo, sample, keep)).all()
    assert (visualizer.get_image()[..., ::-1] == cv2.imread(str(file))).all()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    visualizer.get_backend("TensorboardVisBackend")._tensorboard.flush()
    log = events.EventAccumulator(str(tmp_path / "vis_data"), {"images": 0})
    [shown] = log.Reload().Images("val_img")
    encoded = np.frombuffer(shown.encoded_image_string, np.uint8)
    assert (cv2.imdecode(encoded, cv2.IMREAD_COLOR) == cv2.imread(str(file))).all()


@pytest.mark.parametrize("visualizer", [{}, {"legend": False}], indirect=True)
def test_a_validation_of_mmseg_goes_to_the_backends(
    visualizer: MMEngineVisualizer, photo: Path, tmp_path: Path
) -> None:
    hook = SegVisualizationHook(draw=True, interval=1)
    hook._visualizer = visualizer
    labels = torch.zeros(1, 70, 133, dtype=torch.long)
    labels[:, 30:, 50:] = 1
    sample = SegDataSample(metainfo=dict(img_path=str(photo)))
    sample.pred_sem_seg, sample.gt_sem_seg = PixelData(data=labels), PixelData(data=labels * 2)
    hook.after_val_iter(SimpleNamespace(iter=4), 1, {}, [sample])
    [file] = (tmp_path / "vis_data" / "vis_image").iterdir()
    picture = cv2.imread(str(file))
    image, maps = cv2.imread(str(photo)), [labels[0].numpy().astype(np.uint8) * n for n in (2, 1)]
    halves = [draw_class_map(image, one, CLASSES, BGR, legend=False) for one in maps]
    rows = halves[0].shape[0]
    assert (picture[:rows] == cv2.hconcat(halves)).all()
    strip = picture[rows:]
    assert [bool((strip == color).all(2).sum() > 50) for color in BGR] == (
        [visualizer.options["legend"]] * 3
    )


def test_mmdet_draws_predictions_alone_into_a_file(
    visualizer: MMEngineVisualizer, photo: Path, tmp_path: Path
) -> None:
    sample = objects(photo)
    image = cv2.imread(str(photo))[..., ::-1]
    for name, written in (("a.png", "a.png"), ("b.tif", "b.jpg")):
        out = tmp_path / "pictures" / name
        visualizer.add_datasample(name, image, sample, draw_gt=False, out_file=str(out))
        assert cv2.imread(str(out.with_name(written))).shape == (480, 912, 3)
    assert not (tmp_path / "vis_data" / "vis_image").exists()
    picture = cv2.imread(str(tmp_path / "pictures" / "a.png"))
    assert (picture == drawn_by_hand(photo, sample, [0, 1, 2])[:, 912:]).all()


@pytest.mark.parametrize("palette", [None, "random", [(1, 2, 3)]])
def test_without_usable_colors_classes_have_those_of_their_numbers(
    visualizer: MMEngineVisualizer, photo: Path, palette: object
) -> None:
    visualizer.dataset_meta = {"classes": CLASSES, "palette": palette}
    visualizer.add_datasample("a", cv2.imread(str(photo)), objects(photo), draw_gt=False)
    assert (visualizer.get_image() == make_palette(3)[1]).all(axis=2).sum() > 300
    visualizer.dataset_meta = {}
    visualizer.add_datasample("a", cv2.imread(str(photo)), objects(photo))
    assert (visualizer.get_image() == make_palette(3)[2]).all(axis=2).sum() > 300


def test_a_sample_without_anything_is_the_image(
    visualizer: MMEngineVisualizer, photo: Path
) -> None:
    image = cv2.imread(str(photo))
    empty = DetDataSample()
    empty.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=int), scores=torch.zeros(0)
    )
    for sample in (None, DetDataSample(), empty):
        visualizer.add_datasample("a", image, sample)
        want = cv2.resize(image, (912, 480), interpolation=cv2.INTER_CUBIC)
        assert (visualizer.get_image() == want).all()
