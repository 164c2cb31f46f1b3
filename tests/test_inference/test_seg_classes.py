"""What the class numbers of a segmentor mean, from its checkpoint or its config."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import ADE20KDataset

from mmbeit3.datasets.palette import make_palette
from mmbeit3.inference.seg_classes import find_seg_classes
from mmbeit3.utils import InputError

ADE = dict(type="ADE20KDataset", data_root="absent")
META = {"classes": ["a", "b "], "palette": [[1, 2, 3], [4, 5, 6]], "reduce_zero_label": False}


@pytest.fixture(autouse=True)
def mmseg_scope():
    init_default_scope("mmseg")


def config(dataset: dict | None = None) -> Config:
    loaders = {} if dataset is None else dict(test_dataloader=dict(dataset=dataset))
    return Config(dict(model=dict(type="EncoderDecoder"), **loaders))


def test_checkpoint_comes_first():
    classes = find_seg_classes(config(ADE), {"dataset_meta": META})
    assert classes.names == ("a", "b")
    assert classes.palette == [(3, 2, 1), (6, 5, 4)]  # BGR
    assert classes.offset == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_classes_of_a_registered_data_set_serve_bare_weights(wrapped):
    dataset = dict(type="ConcatDataset", datasets=[ADE, ADE]) if wrapped else ADE
    classes = find_seg_classes(config(dataset), {})
    assert len(classes.names) == len(classes.palette) == 150
    assert classes.names[:3] == ("wall", "building", "sky")
    assert classes.names[7] == "bed"  # mmseg's has a blank at its end
    assert classes.palette[2] == tuple(ADE20KDataset.METAINFO["palette"][2][::-1])
    assert classes.offset == 1  # its reduce_zero_label is True unless said otherwise


def test_reduce_zero_label_of_the_config():
    assert find_seg_classes(config(ADE | dict(reduce_zero_label=False)), {}).offset == 0


def test_a_choice_of_classes_keeps_its_colors():
    classes = find_seg_classes(config(ADE | dict(metainfo=dict(classes=["sky", "wall"]))), {})
    assert classes.names == ("sky", "wall")
    colors = ADE20KDataset.METAINFO["palette"]
    assert classes.palette == [tuple(colors[2][::-1]), tuple(colors[0][::-1])]
    assert classes.offset is None


def test_a_choice_of_classes_in_the_checkpoint():
    meta = {"dataset_meta": META | {"label_map": {0: 1, 1: 255}, "reduce_zero_label": True}}
    assert find_seg_classes(config(), meta).offset is None


def test_metainfo_of_the_config():
    metainfo = dict(classes=("x", "y"), palette=[[1, 2, 3], [4, 5, 6]])
    dataset = dict(type="BaseSegDataset", metainfo=metainfo)
    classes = find_seg_classes(config(dataset), {})
    assert (classes.names, classes.palette) == (("x", "y"), [(3, 2, 1), (6, 5, 4)])
    del metainfo["palette"]
    made = [color[::-1] for color in make_palette(2)]
    assert find_seg_classes(config(dataset), {}).palette == made


def test_classes_file_of_the_config(tmp_path):
    (tmp_path / "classes.txt").write_text("road\nsky #0102ff\n")
    dataset = dict(
        type="mmbeit3.SegFolderDataset", data_root=str(tmp_path), classes_file="classes.txt"
    )
    cfg = config(dataset | dict(reduce_zero_label=True))
    cfg.model.decode_head = dict(num_classes=150)
    classes = find_seg_classes(cfg, {})
    assert classes.names == ("road", "sky")
    assert classes.palette[1] == (255, 2, 1)
    assert classes.offset == 1
    assert cfg.model.decode_head.num_classes == 2


def test_checkpoint_does_without_the_classes_file():
    dataset = dict(type="mmbeit3.SegFolderDataset", data_root="absent", classes_file="classes.txt")
    classes = find_seg_classes(config(dataset), {"dataset_meta": META})
    assert classes.names == ("a", "b")


@pytest.mark.parametrize("dataset", [None, dict(type="BaseSegDataset")])
def test_classes_must_be_named(dataset):
    with pytest.raises(InputError, match="names the classes"):
        find_seg_classes(config(dataset), {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"palette": [[1, 2, 3]]}, "1 colors for 2 classes"),
        ({"classes": [str(i) for i in range(257)]}, "257 classes, .* at most 256"),
        ({"classes": ["a", "b", "a"]}, "more than once: a"),
    ],
)
def test_classes_that_cannot_be_written(change, message):
    with pytest.raises(InputError, match=message):
        find_seg_classes(config(), {"dataset_meta": META | change})


@pytest.mark.parametrize(
    "palette",
    [5, "ab", [[1, 2], [3, 4]], [["x", "y", "z"]] * 2, [[1, 2, 300], [1, 2, 3]]]
    + [[[1, 2, -1], [1, 2, 3]], [[1, 2, float("nan")], [1, 2, 3]], [None, None], {"a": 1}],
)
def test_a_palette_of_something_else_is_refused(palette):
    with pytest.raises(InputError, match="the palette holds something else than colors"):
        find_seg_classes(config(ADE), {"dataset_meta": META | {"palette": palette}})
