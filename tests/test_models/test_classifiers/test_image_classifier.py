"""The linear classifier computes what the released code computes."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from mmbeit3.checkpoint import load_task
from mmbeit3.models import BEiT3ImageClassifier
from mmbeit3.utils import InputError
from tests.test_checkpoint.official import (
    SMALL,
    official_weights,
    randomise,
    task_heads,
    torchscale_beit3,
)


def classifier(**options) -> BEiT3ImageClassifier:
    tower = dict(
        type="mmbeit3.BEiT3",
        arch=SMALL.arch,
        img_size=48,
        patch_size=SMALL.patch,
        window_size=0,
        with_cls_token=True,
        final_norm=False,
    )
    return BEiT3ImageClassifier(tower, **dict(num_classes=1000) | options)


def data(labels: list[int]) -> dict:
    samples = [BaseDataElement(gt_label=label) for label in labels]
    return dict(inputs=torch.randn(len(labels), 3, 48, 48), data_samples=samples)


def test_logits_of_the_released_code() -> None:
    official = nn.ModuleDict(
        dict(task_heads("in1k", SMALL)) | {"beit3": torchscale_beit3(SMALL, 48, False)}
    )
    randomise(official, SMALL).eval()
    model = classifier().eval()
    load_task(model, official.state_dict())
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        states = official["beit3"](visual_tokens=images)["encoder_out"]
        expected = official["head"](official["fc_norm"](states[:, 1:].mean(1)))
        found = model(images)
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max(), rtol=0)


def test_every_key_of_the_released_files_is_used() -> None:
    state = official_weights("in1k")
    report = load_task(classifier(), state)
    heads = {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    assert heads < set(report.matched) and not report.missing
    for name in ("head.bias", "fc_norm.weight"):
        with pytest.raises(InputError):
            load_task(classifier(), {key: v for key, v in state.items() if key != name})
    with pytest.raises(InputError, match="is a checkpoint of image-text retrieval"):
        load_task(classifier(), official_weights("itc"))


def test_the_head_starts_small() -> None:
    model = classifier(num_classes=7)
    model.init_weights()
    assert 0 < model.head.weight.abs().max() <= 0.02 * 0.001
    assert not model.head.bias.any()


def test_loss_with_smoothed_labels() -> None:
    model = classifier(num_classes=7, label_smoothing=0.1).train()
    batch = data([3, 0, 6])
    expected = nn.functional.cross_entropy(
        model(batch["inputs"]), torch.tensor([3, 0, 6]), label_smoothing=0.1
    )
    losses = model(**batch, mode="loss")
    torch.testing.assert_close(losses["loss"], expected)
    losses["loss"].backward()
    assert all(param.grad is not None for param in model.parameters())


def test_mixed_images_have_mixed_targets() -> None:
    model = classifier(num_classes=7, mixup=0.8, cutmix=1.0, label_smoothing=0.1).train()
    images, labels = torch.randn(4, 3, 48, 48), torch.tensor([0, 1, 2, 3])
    before = images.clone()
    mixed, targets = model.mixed_targets(images, labels, 7)
    assert not torch.equal(mixed, images) and torch.equal(images, before)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    with pytest.raises(InputError, match="a batch has 3 images, and mixup and cutmix take"):
        model(**data([1, 2, 3]), mode="loss")


def test_predictions_are_probabilities_on_the_cpu() -> None:
    found = classifier(num_classes=7).eval()(**data([1, 2]), mode="predict")
    assert found[0].pred_scores.shape == (7,)
    torch.testing.assert_close(found[1].pred_scores.sum(), torch.tensor(1.0))
    assert found[1].pred_label == int(found[1].pred_scores.argmax())


@pytest.mark.parametrize("label", [7, -1])
def test_a_label_of_no_class_is_named(label: int) -> None:
    with pytest.raises(InputError, match=f"the label {label}; expected 0 to 6"):
        classifier(num_classes=7)(**data([label]), mode="loss")


def test_options_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="num_classes is 0"):
        classifier(num_classes=0)
    with pytest.raises(InputError, match="label_smoothing 1"):
        classifier(label_smoothing=1)
