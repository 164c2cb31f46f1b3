"""What models of images and texts share, and those that judge both read together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.checkpoint import load_task
from mmbeit3.models.classifiers.classification import with_scores
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


class ImageTextModel(BaseModel):
    """Heads around both towers of BEiT-3.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.ImageTextPreprocessor` with the tokenizer. Defaults to None: the
            model is given tensors.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official file of the task or one of this project, of which everything is needed.
            Defaults to None.

    Raises:
        InputError: The tokenizer does not fit the encoder.
    """

    #: The kind of official file that holds all weights.
    released_task: ClassVar[str]

    def __init__(
        self,
        encoder: dict,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.encoder = MODELS.build(encoder)
        tokenizer = getattr(self.data_preprocessor, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.check_fits(self.encoder.text.vocab_size, self.encoder.text.max_tokens)

    @abstractmethod
    def init_heads(self) -> None:
        """Initialize what is around the encoder, as released."""

    def init_weights(self) -> None:
        """Initialize for training from nothing, heads as released, then as ``init_cfg`` says."""
        self.encoder.init_weights()
        self.init_heads()
        if (self.init_cfg or {}).get("type") == "Pretrained":
            load_task(self, self.init_cfg["checkpoint"])


class FusionModel(ImageTextModel):
    """Scores of classes from images and a text that passed the encoder as one sequence.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.ImageTextPreprocessor` with the tokenizer. Defaults to None: the
            model is given tensors.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official file of the task or one of this project, of which everything is needed;
            another file of BEiT-3 can be the ``encoder``'s. Defaults to None.

    Raises:
        InputError: The tokenizer does not fit the encoder.
    """

    #: What the texts are called in messages.
    text_name: ClassVar[str]

    def forward(
        self,
        inputs: Tensor | None = None,
        ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        data_samples: list[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[BaseDataElement] | Tensor:
        """Run the model on what its preprocessor returns.

        Args:
            inputs (Tensor): The images of B samples, see :meth:`logits`.
            ids (Tensor): (B, N) texts, one of each sample.
            padding_mask (Tensor, optional): (B, N), True at padding. Defaults to None.
            data_samples (list, optional): B samples. Defaults to None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            dict | list | Tensor: Of "loss" the loss and a value for the log. Of "predict" the
            samples, each with ``pred_scores`` (num_classes,) and ``pred_label``, on the CPU. Of
            "tensor" the logits (B, num_classes).

        Raises:
            InputError: A batch has no images, or not one text of each sample, or a target is
                missing or impossible.
        """
        samples = data_samples or []
        if mode not in ("loss", "predict", "tensor"):
            raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")
        images, ids = self._checked(inputs, ids, samples)
        if mode == "loss":
            targets = self.targets(samples).to(images.device, non_blocking=True)
            return self.losses(self.logits(images, ids, padding_mask), targets)
        logits = self.logits(images, ids, padding_mask)
        if mode == "predict":
            return with_scores(samples, self.scores(logits.float()))
        return logits

    @abstractmethod
    def logits(self, images: Tensor, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Normalized images and (B, N) texts, True in the mask at padding -> (B, num_classes)."""

    @abstractmethod
    def targets(self, samples: Sequence[BaseDataElement]) -> Tensor:
        """What B samples are to be, (B, ...)."""

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Logits (B, num_classes) and targets (B, ...) -> the loss, and a value for the log."""

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """Logits -> probabilities, (B, num_classes)."""

    def _checked(
        self, images: Tensor | None, ids: Tensor | None, samples: Sequence[BaseDataElement]
    ) -> tuple[Tensor, Tensor]:
        if images is None or ids is None:
            found, absent = f"{self.text_name}s", "images"
            if ids is None:
                found, absent = absent, found
            raise InputError(f"a batch has {found} and no {absent}; expected both")
        for sample in samples:
            if (count := len(sample.get("texts", ()))) != 1:
                raise InputError(
                    f"{sample.get('img_path')} has {count} texts; expected one {self.text_name} in "
                    "each sample"
                )
        return images, ids


def init_head(head: nn.Module, scale: float = 1.0) -> None:
    """Draw the linear layers of a head as the released code does: cut at one deviation.

    Args:
        head (nn.Module): The head.
        scale (float): Factor on what is drawn. Defaults to 1.
    """
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.02, b=0.02)
            layer.weight.data.mul_(scale)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
