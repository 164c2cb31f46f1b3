"""A check that data, weights and heads of a run have the same classes."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from mmbeit3.checkpoint import dataset_meta_of, load_weights
from mmbeit3.checkpoint.strict_loading import StrictLoading, is_partial, num_classes
from mmbeit3.registry import HOOKS
from mmbeit3.utils import InputError, compare_classes


@HOOKS.register_module()
class ClassesHook(Hook):
    """Refuses a run, of any Runner, in which class numbers have two meanings.

    Training needs as many classes in the heads as in the training set and, if it is resumed, those
    of the checkpoint; validation needs the classes of the training set; a test needs those of the
    checkpoint. The order counts. Data sets and checkpoints that name no classes pass.

    A model with ``class_embeddings`` or ``reads_class_names`` is given the names instead: those of
    the training set, while it is validated those of the validation set, and in a test those of the
    test set.

    A training by mmengine's Runner that starts from other weights (``load_from``) takes those that
    fit, as one by this project's.
    """

    priority = "VERY_HIGH"  # before averages take the weights, too

    def __init__(self) -> None:
        self._of_checkpoint: tuple[str, ...] = ()
        self._of_training: tuple[str, ...] = ()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Note what the weights were trained on, and fit them to a model that is fine-tuned."""
        self._of_checkpoint = _names(dataset_meta_of(checkpoint.get("meta")))
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        trains = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        if trains and isinstance(model, StrictLoading) and not is_partial():
            load_weights(model, checkpoint, strict=False, origin=str(runner._load_from))
            checkpoint["state_dict"] = model.state_dict()  # for mmengine, which loads it next

    def before_train(self, runner: Any) -> None:
        """Compare the training set with the heads, and with the checkpoint that is resumed."""
        self._of_training = names = _of_dataset(runner.train_dataloader)
        if names and _takes_words(runner.model):
            _bare(runner.model).set_classes(names)
        heads = num_classes(runner.model)
        if names and heads not in (None, len(names)):
            raise InputError(
                f"the heads have {heads} classes, and the training set {len(names)}: set "
                "num_classes of all heads to that, or runner_type to 'mmbeit3.Runner', which does"
            )
        if runner._resume:
            word = _word(runner.train_dataloader)
            _check_same("the training set", names, "the checkpoint", self._of_checkpoint, word)

    def before_val(self, runner: Any) -> None:
        """Compare the validation set with the training set, or without any with the checkpoint."""
        names, word = _of_dataset(runner.val_dataloader), _word(runner.val_dataloader)
        if names and _takes_words(runner.model):
            _bare(runner.model).set_classes(names)
        elif self._of_training:
            _check_same("the validation set", names, "the training set", self._of_training, word)
        else:
            _check_same("the validation set", names, "the checkpoint", self._of_checkpoint, word)

    def after_val(self, runner: Any) -> None:
        """Give a model that takes words those of the training set back."""
        if self._of_training and _takes_words(runner.model):
            _bare(runner.model).set_classes(self._of_training)

    def before_test(self, runner: Any) -> None:
        """Compare the test set with the checkpoint."""
        names = _of_dataset(runner.test_dataloader)
        if names and _takes_words(runner.model):
            _bare(runner.model).set_classes(names)
            return
        word = _word(runner.test_dataloader)
        _check_same("the test set", names, "the checkpoint", self._of_checkpoint, word)


def _bare(model: nn.Module) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _takes_words(model: nn.Module) -> bool:
    model = _bare(model)
    embeds = getattr(model, "class_embeddings", None) is not None
    return embeds or getattr(model, "reads_class_names", False)


def _of_dataset(loader: Any) -> tuple[str, ...]:
    return _names(_metainfo(loader))


def _word(loader: Any) -> str:
    """What the data of a loader call a class."""
    return _metainfo(loader).get("class_word", "class")


def _metainfo(loader: Any) -> dict[str, Any]:
    found = getattr(loader.dataset, "metainfo", None) if isinstance(loader, DataLoader) else None
    return found or {}


def _names(meta: Any) -> tuple[str, ...]:
    names = (meta or {}).get("classes") or ()
    return () if isinstance(names, str) else tuple(names)


def _check_same(
    what: str, found: tuple[str, ...], source: str, expected: tuple[str, ...], word: str
) -> None:
    if not (found and expected):
        return
    if difference := compare_classes(what, found, source, expected, word):
        raise InputError(
            f"{difference}. {word.capitalize()} numbers would have two meanings: set "
            "metainfo=dict(classes=...) of the data set to those of the weights, in their order, "
            "or runner_type to 'mmbeit3.Runner', which does"
        )
