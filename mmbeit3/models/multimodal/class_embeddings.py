"""Class names as vectors of a text tower, and the layer that scores features by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmbeit3.checkpoint import load_backbone, read_checkpoint, state_dict_of
from mmbeit3.models.multimodal.class_texts import check_names, check_told_apart, encode_classes
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.text.templates import SLOT, read_templates
from mmbeit3.utils import InputError, warn

HEAD = "language_head.weight"
MAX_SCALE = 100.0  # of CLIP's logit scale


@MODELS.register_module()
class ClassEmbeddings(BaseModule):
    """Unit vectors of class names: what :class:`ClassSimilarity` compares features with.

    A name goes through each template, the text tower and its head, as a text does in retrieval; the
    unit vectors of its templates are averaged, and the mean has length 1 again. Names are no
    weights: the model can be given others at any time, see :meth:`set_classes`. Of a frozen tower
    the vectors are computed once for a set of names and weights.

    Args:
        text (dict): The tower, a :class:`mmbeit3.models.BEiT3Text`.
        tokenizer (dict): Arguments of :class:`mmbeit3.text.Tokenizer`; the file is opened when the
            first names are given.
        templates (Sequence[str] | str): Sentences with ``{}`` for the name, a file of them, or
            "default", see :func:`mmbeit3.text.templates.read_templates`. Defaults to ("{}",), the
            name alone.
        temperature (float): What similarities are divided by at first; each layer learns its own.
            Defaults to 0.07, that of the released models.
        frozen (bool): Whether tower and head stay as they are. Defaults to True.
        classes (Sequence[str], optional): The first names; this project's tools fill in those of
            the training data. Defaults to None.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from the text
            half of a dual encoder: a retrieval checkpoint of this project or an official ``_itc_``
            or ``_retrieval`` file. Defaults to None.

    Raises:
        InputError: Templates or temperature cannot be used, or the weights are of another model.
    """

    def __init__(
        self,
        text: dict,
        tokenizer: dict,
        templates: Sequence[str] | str = (SLOT,),
        temperature: float = 0.07,
        frozen: bool = True,
        classes: Sequence[str] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not temperature > 0:
            raise InputError(f"class_embeddings.temperature is {temperature}; expected above 0")
        self.text = MODELS.build(text)
        self.embed_dims: int = self.text.embed_dims
        self.language_head = nn.Linear(self.embed_dims, self.embed_dims, bias=False)
        self.templates = read_templates(templates)
        self.temperature = temperature
        self.frozen = frozen
        self.classes: tuple[str, ...] = ()
        self._unnamed = 0
        self._tokenizer_cfg = dict(tokenizer)
        self._tokenizer: Tokenizer | None = None
        self._vectors: Tensor | None = None  # until they are asked for
        if frozen:
            self.requires_grad_(False)
        if classes is not None:
            self.set_classes(classes)

    def set_classes(self, names: Sequence[str]) -> None:
        """Give the classes other names, and with them another number.

        Args:
            names (Sequence[str]): K names.

        Raises:
            InputError: A name is empty, there twice, or the tokenizer cannot tell two apart.
        """
        names = check_names(names)
        if names == self.classes:
            return
        check_told_apart(names, self.templates, self.tokenizer)
        self.classes = names
        self.forget()

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer: That of the tower's vocabulary.

        Raises:
            InputError: Its file is absent, or of another vocabulary.
        """
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(**self._tokenizer_cfg, vocab_size=self.text.vocab_size)
        return self._tokenizer

    def forward(self) -> Tensor:
        """Encode the names, if that was not done yet.

        Returns:
            Tensor: (K, C) unit vectors in float32.

        Raises:
            InputError: No names were given.
        """
        if self._unnamed:
            return self.language_head.weight.new_zeros(self._unnamed, self.embed_dims)
        if not self.classes:
            raise InputError(
                "the model has no class names to compare with: expected model.set_classes([...]), "
                "or classes=[...] in model.class_embeddings of the config"
            )
        if self._vectors is None:
            if self.frozen:
                with torch.no_grad():
                    self._vectors = self._encode()
            else:
                self._vectors = self._encode()
        return self._vectors

    def encode_text(self, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Texts (M, N) of ids, True in the mask at padding -> (M, C) unit vectors in float32."""
        begin = self.text(ids, padding_mask)[:, 0]
        return F.normalize(self.language_head(begin).float(), dim=-1)

    def leave_unnamed(self, number: int) -> None:
        """Have zeros in the place of names, for models without data or content: to count memory.

        Args:
            number (int): Of the classes.
        """
        self._unnamed = number

    def forget(self) -> None:
        """Have the vectors computed anew: names or weights have changed."""
        self._vectors = None

    def train(self, mode: bool = True) -> ClassEmbeddings:
        """Switch to training; a frozen tower stays as in testing."""
        if not self.frozen:
            self.forget()  # those of training hold its graph, and the weights have changed since
        return super().train(mode and not self.frozen)

    def init_weights(self) -> None:
        """Initialize tower and head, then as ``init_cfg`` says."""
        self.forget()
        self.text.init_weights()
        nn.init.normal_(self.language_head.weight, std=self.embed_dims**-0.5)
        if (self.init_cfg or {}).get("type") == "Pretrained":
            self._load_dual_encoder(self.init_cfg["checkpoint"])
        elif self.frozen and (self.text.init_cfg or {}).get("type") != "Pretrained":
            warn(
                "the text tower of class_embeddings is frozen at random weights, unless load_from "
                "has others: names will mean nothing beyond the classes trained. Expected "
                "class_embeddings.init_cfg=dict(type='Pretrained', checkpoint=...), a dual encoder"
            )

    def _load_dual_encoder(self, origin: str) -> None:
        content = read_checkpoint(origin)
        state = state_dict_of(content)
        heads = [value for name, value in state.items() if f".{name}".endswith(f".{HEAD}")]
        shape = tuple(self.language_head.weight.shape)
        if not heads or tuple(heads[0].shape) != shape:
            found = f"one of {tuple(heads[0].shape)}" if heads else "none"
            raise InputError(
                f"class_embeddings needs the weight {HEAD} {shape} of a dual encoder, and {origin} "
                f"has {found}: take a retrieval checkpoint, an official _itc_ or _retrieval file, "
                "and the arch of it"
            )
        load_backbone(self.text, content, origin=str(origin))
        with torch.no_grad():
            self.language_head.weight.copy_(heads[0])

    def _encode(self) -> Tensor:
        # In the tower's own precision: the vectors are used again and again.
        with torch.autocast(self.language_head.weight.device.type, enabled=False):
            return encode_classes(self.classes, self.templates, self.tokenizer, self).float()

    def _apply(self, *args: Any, **kwargs: Any) -> ClassEmbeddings:
        self.forget()  # the weights go to another device or type
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)


class ClassSimilarity(nn.Module):
    """Scores of classes as similarities of features to the vectors of their names.

    A feature is projected to the tower's width; its score for a class is the cosine of both by a
    learned temperature. With ``background`` a learned vector stands for what is none of the
    classes, and its score comes last.

    The scores are logits of a softmax, as those of the layers that this one replaces, so that the
    losses, the background and the averaging over the stages of a cascade are those of the plain
    heads.

    Args:
        embeddings (ClassEmbeddings): Of the names; part of the model, and not of this layer.
        in_channels (int): Channels of a feature.
        background (bool): Whether the last score is that of the background.
        channel_dim (int): Where the channels of the input are. Defaults to -1.
    """

    def __init__(
        self,
        embeddings: ClassEmbeddings,
        in_channels: int,
        background: bool,
        channel_dim: int = -1,
    ) -> None:
        super().__init__()
        self.__dict__["embeddings"] = embeddings  # no module of this one: each weight is there once
        self.channel_dim = channel_dim
        width = embeddings.embed_dims
        self.proj = nn.Linear(in_channels, width)
        self.background = nn.Parameter(torch.randn(1, width)) if background else None
        self.logit_scale = nn.Parameter(torch.tensor(1 / embeddings.temperature).log())

    def forward(self, x: Tensor) -> Tensor:
        """Score features.

        Args:
            x (Tensor): (..., in_channels, ...).

        Returns:
            Tensor: K scores, or K + 1, in the place of the channels, in float32.
        """
        vectors = self.embeddings()
        with torch.autocast(x.device.type, enabled=False):
            if self.background is not None:
                vectors = torch.cat([vectors, F.normalize(self.background.float(), dim=-1)])
            features = self.proj(x.movedim(self.channel_dim, -1).to(self.proj.weight.dtype))
            features = F.normalize(features.float(), dim=-1)
            scale = self.logit_scale.float().exp().clamp(max=MAX_SCALE)
            return (scale * features @ vectors.T).movedim(-1, self.channel_dim)
