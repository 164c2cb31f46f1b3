"""Models written for other programs compute what PyTorch does, and run without anything else."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmbeit3 import load
from mmbeit3.apis.exporting import export_model
from mmbeit3.cli import main
from mmbeit3.config import load_config
from mmbeit3.export import checks
from mmbeit3.export.files import Exported
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from tests.open_vocabulary import CLASSES, detector_cfg, small_tokenizer
from tests.small_dual_encoder import write_dual_encoder

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=48)
DETECTOR = "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes"
SEGMENTOR = "beit3_mask2former/mask2former_beit3-tiny_shapes"
Made = tuple[Config, Path]


def small(name: str, **options: Any) -> Config:
    """A config of the project with a small tower."""
    cfg = load_config(f"mmbeit3::{name}.py", options)
    cfg.model.backbone.update(arch=ARCH, init_cfg=None)
    return cfg


def checkpoint(cfg: Config, path: Path, count: int, classes: Sequence[str] = ()) -> Path:
    """Random weights of a config that find something."""
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    meta = {"dataset_meta": {"classes": list(classes) or [f"class {n}" for n in range(count)]}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Made:
    cfg = small(DETECTOR, **{"model.neck.in_channels": 32})
    return cfg, checkpoint(cfg, tmp_path_factory.mktemp("det") / "det.pth", 5)


@pytest.fixture(scope="module")
def segmentor(tmp_path_factory: pytest.TempPathFactory) -> Made:
    cfg = small(SEGMENTOR, **{"model.neck.in_channels": 32})
    count = cfg.model.decode_head.num_classes
    return cfg, checkpoint(cfg, tmp_path_factory.mktemp("seg") / "seg.pth", count)


@pytest.fixture(scope="module")
def onnx_file(detector: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as ONNX, to be copied and not changed."""
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    export_model(*detector, path, opset=17)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of a size that no patch divides."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 13, 3), np.uint8)
    Image.fromarray(pixels).resize((117, 83), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    "to", ["onnx", "torchscript", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_detector_finds_the_same(detector: Made, tmp_path: Path, photo: Path, to: str) -> None:
    if to == "openvino":
        pytest.importorskip("openvino", reason="needs the extra export")
    cfg, weights = detector
    out = tmp_path / f"det{dict(onnx='.onnx', torchscript='.torchscript', openvino='.xml')[to]}"
    lines = export_model(cfg, weights, out, to, image=photo)
    assert [line.partition(":")[0] for line in lines] == [
        str(out),
        str(out.with_stem("det-masks")),
    ]
    expected, found = load(cfg, weights)([photo] * 2), load(out)([photo] * 2, batch_size=2)
    for theirs, mine in zip(expected, found, strict=True):
        assert mine.classes == theirs.classes == tuple(f"class {n}" for n in range(5))
        assert len(theirs.scores) > 20
        np.testing.assert_allclose(mine.scores[:20], theirs.scores[:20], atol=1e-4)
        np.testing.assert_allclose(mine.boxes[:20], theirs.boxes[:20], atol=0.05)
        assert (mine.masks[:20] != theirs.masks[:20]).mean() < 1e-3


def test_segmentor_gives_the_same_map(segmentor: Made, tmp_path: Path, photo: Path) -> None:
    cfg, weights = segmentor
    export_model(cfg, weights, tmp_path / "seg.onnx")
    theirs, mine = load(cfg, weights)(photo), load(tmp_path / "seg.onnx")(photo)
    assert (mine.label_map != theirs.label_map).mean() < 1e-3
    assert mine.classes == theirs.classes
    assert mine.palette == theirs.palette


@pytest.mark.slow
def test_windows_of_a_segmentor(segmentor: Made, tmp_path: Path, photo: Path) -> None:
    cfg, weights = segmentor
    cfg = copy.deepcopy(cfg)
    cfg.model.test_cfg = dict(mode="slide", crop_size=(40, 40), stride=(30, 30))
    export_model(cfg, weights, tmp_path / "seg.onnx")
    theirs, mine = load(cfg, weights)(photo), load(tmp_path / "seg.onnx")(photo)
    assert (mine.label_map != theirs.label_map).mean() < 1e-3


@pytest.mark.slow
def test_adapter_and_upernet(tmp_path: Path) -> None:
    adapter = small("beit3_mask2former/mask2former_beit3-tiny-adapter_shapes")
    adapter.model.decode_head.in_channels = [32] * 4
    uper = small(
        "beit3_mask2former/upernet_beit3-base_512_ade20k",
        **{"model.neck.in_channels": 32, "model.decode_head.channels": 64},
    )
    for name, cfg in dict(adapter=adapter, uper=uper).items():
        weights = checkpoint(cfg, tmp_path / f"{name}.pth", cfg.model.decode_head.num_classes)
        assert export_model(cfg, weights, tmp_path / f"{name}.onnx")


def test_detector_of_the_recipe(tmp_path: Path) -> None:
    """All samples of RoIAlign, five levels, classes with masks of their own."""
    name = "beit3_vitdet/cascade-mask-rcnn_beit3-base_lsj-1024_coco"
    cfg = small(name, **{"model.neck.in_channels": 32, "model.backbone.window_size": 4})
    narrow = dict(in_channels=16, conv_out_channels=16)
    cfg.model.neck.out_channels = 16
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    roi_head = cfg.model.roi_head
    for head in roi_head.bbox_head:
        head.update(fc_out_channels=32, **narrow)
    roi_head.mask_head.update(**narrow)
    for extractor in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
        extractor.out_channels = 16
    weights = checkpoint(cfg, tmp_path / "base.pth", 80)
    assert len(export_model(cfg, weights, tmp_path / "base.onnx")) == 2


def test_boxes_alone(detector: Made, tmp_path: Path, photo: Path) -> None:
    cfg = copy.deepcopy(detector[0])
    cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    cfg.model.data_preprocessor.pad_value = 7
    weights, out = checkpoint(cfg, tmp_path / "boxes.pth", 5), tmp_path / "boxes.torchscript"
    assert len(export_model(cfg, weights, out, "torchscript")) == 1
    theirs, mine = load(cfg, weights)(photo), load(out)(photo)
    np.testing.assert_allclose(mine.boxes[:20], theirs.boxes[:20], atol=0.05)
    assert mine.masks is None


def test_classes_by_words_are_those_of_the_export(tmp_path: Path, photo: Path) -> None:
    cfg = detector_cfg(small_tokenizer(tmp_path))
    weights, out = checkpoint(cfg, tmp_path / "words.pth", 3, CLASSES), tmp_path / "words.onnx"
    assert len(export_model(cfg, weights, out)) == 2
    theirs, mine = load(cfg, weights)(photo), load(out)(photo)
    np.testing.assert_allclose(mine.scores[:20], theirs.scores[:20], atol=1e-4)
    with pytest.raises(InputError, match="are fixed"):
        load(out, classes=["ring", "star"])


def test_backbone_as_openvino(detector: Made, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra export")
    assert export_model(*detector, tmp_path / "tower.xml", "openvino", part="backbone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tower.bin", "tower.xml"]


def test_backbone_alone(detector: Made, tmp_path: Path) -> None:
    cfg, weights = detector
    out = tmp_path / "tower.onnx"
    [line] = export_model(cfg, weights, out, part="backbone")
    assert "level3" in line
    session = onnxruntime.InferenceSession(str(out))
    [*levels] = session.run(None, {"image": np.zeros((1, 3, 77, 130), np.float32)})
    assert [level.shape[2:] for level in levels] == [(20, 34), (10, 17), (5, 8), (3, 4)]
    with pytest.raises(InputError, match="backbone alone"):
        load(out)


def test_dual_encoder(tmp_path: Path, photo: Path, tokenizer_file: Path) -> None:
    config, weights = write_dual_encoder(tmp_path, tokenizer_file)
    export_model(load_config(config), weights, tmp_path / "dual.onnx")
    theirs, mine = load(config, weights), load(tmp_path / "dual.onnx")
    np.testing.assert_allclose(mine(photo).feature, theirs(photo).feature, atol=1e-5)
    texts = ["a red ring", "two", "a very long text about nothing in particular at all"]
    np.testing.assert_allclose(mine.encode_text(texts), theirs.encode_text(texts), atol=1e-5)


def test_command_and_folder(
    detector: Made, tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, weights = detector
    config, out, results = tmp_path / "config.py", tmp_path / "det.onnx", tmp_path / "results"
    cfg.dump(config)
    assert main(["export", str(config), str(weights), "--out", str(out)]) == 0
    assert "largest difference from PyTorch: boxes" in capsys.readouterr().out
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.rename(folder / "a.png")
    config.unlink()
    assert main(["infer", str(out), str(folder), "--out-dir", str(results)]) == 0
    assert json.loads((results / "results.json").read_text())
    assert any((results / "overlays").iterdir())
    for words, said in (
        ([str(folder), str(weights)], "the folder of images is missing"),
        ([str(out), str(folder), "--tta", "flip"], "--tta"),
        ([str(out), str(folder), "--dtype", "bfloat16"], "--dtype"),
        ([str(out), str(weights), str(folder)], "holds config and weights"),
    ):
        assert main(["infer", *words, "--out-dir", str(results)]) == 2
        assert said in capsys.readouterr().err


def test_what_the_file_says(onnx_file: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [17]
    [facts] = [json.loads(prop.value) for prop in model.metadata_props if prop.key == "mmbeit3"]
    assert facts["classes"][0] == "class 0"
    assert facts["mean"] == [127.5] * 3
    assert facts["channels"] == "rgb"
    assert facts["pipeline"][0]["type"] == "Resize"
    assert facts["config"] == DETECTOR.rpartition("/")[2] + ".py"


def test_another_result_leaves_no_file(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TOLERANCE", 0.0)
    out = tmp_path / "new" / "det.onnx"
    with pytest.raises(InputError, match="differs from PyTorch.*no file is left"):
        export_model(*detector, out)
    assert not any(out.parent.iterdir())


Change = Callable[[Config], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cfg: cfg.model.update(type="mmdet.CascadeRCNN"), "expected a mmbeit3.CascadeRCNN"),
        (lambda cfg: cfg.model.rpn_head.update(type="mmdet.RPNHead"), "model.rpn_head is RPNHead"),
        (lambda cfg: cfg.model.test_cfg.rpn.nms.update(type="soft_nms"), "'soft_nms'"),
        (lambda cfg: cfg.model.backbone.update(rel_pos=True), "rel_pos=False"),
        (lambda cfg: cfg.update(task="captioning"), "is not exported"),
    ],
)
def test_what_cannot_be_exported_is_said_before_weights(
    detector: Made, tmp_path: Path, change: Change, said: str
) -> None:
    cfg = copy.deepcopy(detector[0])
    change(cfg)
    with pytest.raises(InputError, match=said):
        export_model(cfg, tmp_path / "absent.pth", tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(out="x.pt"), "expected .onnx"),
        (dict(to="coreml"), "to: 'coreml' is no format"),
        (dict(opset=11), "opset: 11 is none of 16 to 20"),
    ],
)
def test_options(detector: Made, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    out = tmp_path / options.pop("out", "x.onnx")
    with pytest.raises(InputError, match=said):
        export_model(*detector, out, **options)


def test_a_model_too_large_for_onnx(tmp_path: Path) -> None:
    cfg = load_config("mmbeit3::beit3_vitdet/cascade-mask-rcnn_beit3-giant_lsj-1024_coco.py")
    with pytest.raises(InputError, match="GB, and an ONNX file holds 2.1 GB"):
        export_model(cfg, tmp_path / "absent.pth", tmp_path / "x.onnx")


def test_a_missing_extra(detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'pip install "mmbeit3\[export\]"'):
        export_model(*detector, tmp_path / "x.onnx")


def test_files_of_others(onnx_file: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", *zip(values))
    other = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), other)
    with pytest.raises(InputError, match="is of another program"):
        load(other)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 999)]), other)
    with pytest.raises(InputError, match="cannot be opened"):
        load(other)
    other.write_text("no graph")
    with pytest.raises(InputError, match="cannot be opened"):
        load(other)
    copied = shutil.copytree(onnx_file.parent, tmp_path / "copy") / onnx_file.name
    masks = onnx.load(copied.with_stem("detector-masks"))
    masks.metadata_props[0].value = masks.metadata_props[0].value.replace('"id": "', '"id": "0')
    onnx.save(masks, copied.with_stem("detector-masks"))
    with pytest.raises(InputError, match="of another export"):
        load(copied)
    copied.with_stem("detector-masks").unlink()
    with pytest.raises(InputError, match="there is no file .*detector-masks.onnx"):
        load(copied)


def test_an_image_too_small_is_refused(onnx_file: Path) -> None:
    with pytest.raises(InputError, match=r"cannot run \(1, 3, 0, 8\)"):
        Exported(onnx_file).graphs[""](torch.zeros(1, 3, 0, 8))


def test_the_page_runs_it_without_this_project(
    onnx_file: Path, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in onnx_file.parent.iterdir():
        shutil.copy(file, tmp_path)
    Image.open(photo).save(tmp_path / "photo.jpg", quality=100, subsampling=0)
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "export.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), found)
    assert found["masks"].shape == (len(found["kept"]), 1, 28, 28)
    best = found["kept"][0]
    theirs = found["model"]("photo.jpg")
    np.testing.assert_allclose(found["scores"][best], theirs.scores.max(), atol=0.03)
