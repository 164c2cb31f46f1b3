"""Detectors and segmentors whose classes are words, given in training or typed by the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmengine.registry import MODELS
from torch import nn

from mmbeit3.checkpoint.strict_loading import class_heads
from mmbeit3.models.multimodal.class_embeddings import ClassEmbeddings, ClassSimilarity
from mmbeit3.models.multimodal.class_texts import check_names
from mmbeit3.utils import InputError

if TYPE_CHECKING:
    from torch.nn import Module as _Base  # the class of mmdet or mmseg that comes after it
else:
    _Base = object

#: Layers of mmdet's and mmseg's heads with an output for each class, and whether one more is none.
SCORES = {"fc_cls": True, "cls_embed": True, "conv_seg": False}
#: Other layers that know the number of classes, and the option that makes them do without.
COUNTING = {"fc_reg": "reg_class_agnostic", "conv_logits": "class_agnostic"}


class OpenVocabulary(_Base):
    """Mixin of a detector or segmentor that may score classes by their names.

    To be inherited from before the class of mmdet or mmseg. With ``class_embeddings`` every layer
    of its heads that has an output for each class (``fc_cls`` of box heads, ``cls_embed`` of
    Mask2Former, ``conv_seg`` of mmseg's heads) is a
    :class:`mmbeit3.models.multimodal.class_embeddings.ClassSimilarity`; the heads are otherwise as
    they were. No weight then depends on the classes.

    Args:
        *args (Any): As the class inherited from next.
        class_embeddings (dict, optional): A :class:`ClassEmbeddings`. Defaults to None: a layer
            with an output for each class, as in mmdet and mmseg.
        **kwargs (Any): As the class inherited from next.

    Raises:
        InputError: A head has weights for each class beside its scores.
    """

    _dataset_meta: dict[str, Any] | None

    def __init__(self, *args: Any, class_embeddings: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.class_embeddings: ClassEmbeddings | None = None
        if class_embeddings is None:
            return
        self.class_embeddings = MODELS.build(class_embeddings)
        for head in class_heads(self):
            _compare_with_names(head, self.class_embeddings)
        if self.class_embeddings.classes:
            self.set_classes(self.class_embeddings.classes)

    def set_classes(self, names: Sequence[str]) -> None:
        """Look for other classes.

        Args:
            names (Sequence[str]): Their names; a segmentor needs two at least.

        Raises:
            InputError: The model has a layer with an output for each class, or the names cannot be
                told apart.
        """
        if self.class_embeddings is None:
            raise InputError(
                "the classes of this model are fixed: its heads have an output for each class that "
                "was trained; expected a model with class_embeddings to give it other names"
            )
        names = check_names(names)
        if hasattr(self, "decode_head") and len(names) < 2:
            raise InputError(
                f"a segmentor gives every pixel the most similar of its classes; {names[0]!r} is "
                'one alone, expected two at least: add what the rest is, such as "background"'
            )
        self.class_embeddings.set_classes(names)
        for part in [self, *class_heads(self)]:
            for size in ("num_classes", "out_channels"):
                if hasattr(part, size):
                    setattr(part, size, len(names))
            _fit_class_weight(part, len(names))
        meta = getattr(self, "_dataset_meta", None) or {}
        if tuple(meta.get("classes") or ()) != names:
            self._dataset_meta = {"classes": names}

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """dict: ``classes`` and maybe ``palette``, of the training data or as set."""
        return super().dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any] | None) -> None:
        names = (meta or {}).get("classes")
        if self.class_embeddings is not None and names:
            self.set_classes(list(names))
        super(OpenVocabulary, type(self)).dataset_meta.fset(self, meta)

    def loss(self, *args: Any, **kwargs: Any) -> Any:
        """As that of the class inherited from next."""
        if self.class_embeddings is not None and not self.class_embeddings.frozen:
            self.class_embeddings.forget()  # once for all heads of a step
        return super().loss(*args, **kwargs)


def _compare_with_names(head: nn.Module, embeddings: ClassEmbeddings) -> None:
    """Replace the layer of a head that scores classes."""
    number = head.num_classes
    for name, layer in dict(head.named_children()).items():
        sizes = [getattr(layer, size, None) for size in ("out_features", "out_channels")]
        outputs = next(filter(None, sizes), None)
        if name in COUNTING and not getattr(head, COUNTING[name], False):
            raise InputError(
                f"{type(head).__name__}.{name} has weights for each of {number} classes, and words "
                f"have none; expected {COUNTING[name]}=True of the head"
            )
        if name not in SCORES:
            continue
        background = SCORES[name]
        if outputs != number + background:
            raise InputError(
                f"{type(head).__name__}.{name} has {outputs} outputs for {number} classes; "
                f"expected {number + background} to compare with names: use a loss and a head with "
                "one for each class"
            )
        if isinstance(layer, nn.Linear):
            new = ClassSimilarity(embeddings, layer.in_features, background)
        else:  # a convolution of 1 x 1
            new = ClassSimilarity(embeddings, layer.in_channels, background, channel_dim=1)
        setattr(head, name, new)


def _fit_class_weight(head: nn.Module, number: int) -> None:
    """Fit weights of the classes with a last one of "no object", as Mask2Former has them."""
    loss = getattr(head, "loss_cls", None)
    weights = getattr(loss, "class_weight", None)
    if loss is not None and isinstance(weights, (list, tuple)) and len(weights) != number + 1:
        loss.class_weight = [weights[0]] * number + [weights[-1]]
        if hasattr(head, "class_weight"):
            head.class_weight = loss.class_weight
