from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config

from mmbeit3.analysis import plan_memory
from mmbeit3.analysis.image_size import set_training_size
from mmbeit3.analysis.measuring import measure_memory, take_steps
from mmbeit3.analysis.memory_plan import Planner, accumulation
from mmbeit3.config.classes import resolve_classes
from mmbeit3.config.loading import load_config
from mmbeit3.models import BEiT3
from mmbeit3.models.layers.token_layout import window_layout
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SEGMENTORS = CONFIGS / "beit3_mask2former"


def test_detector_takes_what_is_measured(detector: Config) -> None:
    predicted = plan_memory(detector, device="cpu").peak
    measured = take_steps(detector)
    assert predicted == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
def test_base_detector_takes_what_is_measured(data_root: Path) -> None:
    name = "cascade-mask-rcnn_beit3-base_lsj-1024_coco.py"
    options = {
        "model.backbone.init_cfg": None,
        "model.backbone.with_cp": True,
        "train_dataloader.batch_size": 1,
        "optim_wrapper.accumulative_counts": 1,
        "train_dataloader.dataset.data_root": f"{data_root}/coco_sample/",
    }
    cfg = load_config(CONFIGS / "beit3_vitdet" / name, options)
    set_training_size(cfg, (512, 512))
    resolve_classes(cfg)
    measured = measure_memory(cfg)
    assert plan_memory(cfg, device="cpu").peak == pytest.approx(measured, rel=0.15)


def test_layer_keeps_what_autocast_on_a_gpu_keeps(planner: Planner) -> None:
    batch, tokens, channels, hidden, heads = 4, 256, 192, 768, 6
    # In float32: the input of all four norms, and their means and deviations. In bfloat16: the
    # inputs of the four products, queries, keys and values, the input of GELU, and the weights.
    norms = 4 * (3 * channels + hidden) + 4 * 2 * 4
    products = 2 * (3 * channels + hidden) + 2 * 3 * channels + 2 * channels + 2 * hidden
    weights = 2 * (4 * channels**2 + 2 * channels * hidden + 5 * channels + hidden)
    sums = batch * heads * tokens * 4  # of the softmax
    expected = batch * tokens * (norms + products) + weights + sums
    kept = planner.plan().activations["backbone.layers.1"]
    assert kept == pytest.approx(expected, rel=0.03)


def test_checkpointing_and_offloading_keep_less(planner: Planner) -> None:
    plans = [planner.plan(with_cp=with_cp) for with_cp in (False, True, "offload")]
    kept = [plan.activations.get("backbone.layers.1", 0) for plan in plans]
    tokens = 4 * 256 * 192 * 4
    assert kept[0] > 10 * tokens and kept[1] == pytest.approx(tokens, rel=0.01) and kept[2] == 0
    assert plans[0].peak > plans[1].peak >= plans[2].peak


def test_sharding_divides_model_and_optimizer(planner: Planner) -> None:
    whole, sharded = planner.plan(sharded=False), planner.plan(sharded=True)
    trained = sum(whole.parameters.values())
    assert whole.fixed["gradient buckets"] == trained
    assert whole.fixed["optimizer states"] == pytest.approx(2 * trained, rel=0.01)
    assert "gradient buckets" not in sharded.fixed
    for kind in ("parameters", "optimizer states"):
        assert sharded.fixed[kind] == pytest.approx(whole.fixed[kind] / 4, rel=0.01)
    # The heads are whole while they run.
    assert sharded.fullest.kinds["gathered by sharding"] > trained / 2


def test_averaged_weights_and_accumulation_take_a_copy_each(planner: Planner) -> None:
    cfg = Config(planner.cfg.to_dict())
    cfg.custom_hooks = [dict(type="mmbeit3.EMAHook", momentum=0.0001)]
    cfg.optim_wrapper.accumulative_counts = 2
    plan = plan_memory(cfg, batch_size=2)
    trained = sum(plan.parameters.values())
    assert plan.settings.accumulation == 4
    assert plan.fixed["averaged weights"] == trained
    assert plan.moments["forward pass"].kinds["accumulated gradients"] == trained


def test_batch_takes_in_proportion(planner: Planner) -> None:
    one, two = (sum(planner.plan(size).activations.values()) for size in (1, 2))
    assert 1.7 < two / one < 2  # weights in bfloat16 do not grow


@pytest.mark.parametrize(
    ("counts", "base", "batch", "world", "expected"),
    [(1, None, 8, 1, 1), (2, None, 4, 1, 4), ("auto", 64, 2, 8, 4), ("auto", 64, 8, 32, 1)],
)
def test_accumulation_keeps_the_whole_batch(
    counts: int | str, base: int | None, batch: int, world: int, expected: int
) -> None:
    cfg = Config(
        dict(
            optim_wrapper=dict(accumulative_counts=counts),
            train_dataloader=dict(batch_size=8),
            auto_scale_lr=dict(base_batch_size=base),
        )
    )
    assert accumulation(cfg, batch, world) == expected


@pytest.mark.parametrize("kind", ["tiny", "tiny-adapter"])
def test_segmentors_can_be_followed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process that has run out of memory asks alone, and must not wait for the others.
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    plan = plan_memory(load_config(SEGMENTORS / f"mask2former_beit3-{kind}_shapes.py"))
    assert plan.activations["decode_head.pixel_decoder"] > 0
    assert plan.peak > sum(plan.fixed.values()) + sum(plan.activations.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
        "retinanet/retinanet_r50_fpn_1x_coco.py",
        "detr/detr_r50_8xb2-150e_coco.py",
    ],
)
def test_detectors_of_mmdet_can_be_followed(name: str) -> None:
    plan = plan_memory(get_config(f"mmdet::{name}"), device="cpu")
    assert plan.peak > sum(plan.fixed.values()) + sum(plan.activations.values()) / 2


def test_nothing_is_left_behind() -> None:
    model = BEiT3("tiny", window_size=8).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert type(model(torch.zeros(1, 3, 224, 224))[0]) is torch.Tensor
        assert torch.nn.LayerNorm(4)(torch.zeros(4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert type(window_layout(14, 14, 8).order) is torch.Tensor


def test_other_models_are_refused(planner: Planner) -> None:
    cfg = Config(planner.cfg.to_dict())
    cfg.model = dict(type="RetinaNet", backbone=cfg.model.backbone, bbox_head=dict(type="absent"))
    with pytest.raises(InputError, match="cannot follow this config"):
        plan_memory(cfg)
    cfg.optim_wrapper = None
    with pytest.raises(InputError, match="it has no optim_wrapper"):
        plan_memory(cfg)


def test_lora_is_refused(planner: Planner) -> None:
    cfg = Config(planner.cfg.to_dict())
    cfg.model.backbone.lora = dict(rank=8)
    with pytest.raises(InputError, match=r"does not know LoRA: leave model.backbone.lora out"):
        plan_memory(cfg)


def test_a_detector_by_words_needs_no_names(detector: Config, tmp_path: Path) -> None:
    text = dict(type="mmbeit3.BEiT3Text", arch="tiny", vocab_size=1000, max_tokens=50)
    absent = dict(file=str(tmp_path / "absent.spm"))
    plain = plan_memory(detector, device="cpu")
    detector.model.class_embeddings = dict(
        type="mmbeit3.ClassEmbeddings", text=text, tokenizer=absent
    )
    detector.model.roi_head.mask_head.class_agnostic = True
    plan = plan_memory(detector, device="cpu")
    tower = sum(param.nbytes for param in MODELS.build(text).parameters()) + 4 * 192**2
    named = (v for name, v in plan.parameters.items() if name.startswith("class_embeddings"))
    assert sum(named) == tower
    assert plan.peak > plain.peak
