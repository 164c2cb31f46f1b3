"""Masked data modeling: BEiT-3's pretraining on images, texts and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models.data_preprocessors import ImageTextPreprocessor
from mmbeit3.models.frozen import AsksFrozen
from mmbeit3.models.multimodal.fusion import ImageTextModel, init_head
from mmbeit3.models.multimodal.masking import check_rate, mask_images, mask_texts
from mmbeit3.registry import MODELS
from mmbeit3.text.tokenizer import Tokenizer
from mmbeit3.utils import InputError, warn

PARTS = ("image", "text", "pair_image", "pair_text")
VISIBLE_PARTS = ("visible_image", "visible_pair_image")
NEUTRAL = 127.5  # mean and std that make pixels -1 to 1


class MaskedPart(NamedTuple):
    """What a model says of the masked tokens of one kind, and what they are.

    Attributes:
        logits: (M, classes).
        targets: (M,) int64, codes of patches or ids of words.
        counts: (B,) int64, how many of them are of which sample, one after another.
    """

    logits: Tensor
    targets: Tensor
    counts: Tensor


@MODELS.register_module()
class BEiT3Pretraining(AsksFrozen, ImageTextModel):
    """Tells masked patches and words from what is left (section 2.2 of arXiv 2208.10442).

    A step takes images alone, texts alone and pairs, of which any may be absent, through the same
    encoder: three forward passes and one sum of losses. In images 40 % of the patches are masked by
    blocks, in texts 15 % of the words, in pairs 40 % and 50 % at once. What is to be told of a
    patch is its code, by an image tokenizer that stays as it is; of a word its id.

    A loss is the mean over its masked tokens, those of all processes. The published code has no
    pretraining; what the paper leaves open is as BEiT v2, VL-BEiT and the released captioning have
    it: docs/pretraining.md.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`; it gets a mask token.
        image_tokenizer (dict, optional): Config of what gives images their codes, such as a
            :class:`mmbeit3.models.VQKD`, as many as the encoder has patches. It is neither trained
            nor saved, nor asked where samples have ``image_codes``, as
            :class:`mmbeit3.datasets.LoadImageCodes` finds them. Defaults to None: texts alone.
        num_codes (int): Codes that ``mim_head`` knows. Defaults to 8192, those of BEiT v2's
            tokenizers.
        image_mask_rate (float): Masked share of an image's patches. Defaults to 0.4.
        text_mask_rate (float): Masked share of the words of a text alone. Defaults to 0.15.
        pair_text_mask_rate (float): Masked share of the words of a pair. Defaults to 0.5.
        loss_weights (dict, optional): Factors on the losses ``image``, ``text``, ``pair_image`` and
            ``pair_text``, of 1 where a dict leaves them out; and on ``visible_image`` and
            ``visible_pair_image``, of 0: codes of the patches that are not masked, without which
            a tower from random weights is slow to find what codes are. Defaults to None, as if
            empty.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.PretrainingPreprocessor`, with a tokenizer where there are texts.
            Defaults to None: the model is given tensors.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official pretraining file or one of this project, of which everything is needed;
            another file of BEiT-3 can be the ``encoder``'s. Defaults to None.

    Raises:
        InputError: The options or a tokenizer do not fit the encoder.
    """

    released_task = "pretraining"
    #: Whether random weights are a usual start.
    starts_from_nothing = True

    frozen_name = "image_tokenizer"
    image_tokenizer: Any

    def __init__(
        self,
        encoder: dict,
        image_tokenizer: dict | None = None,
        num_codes: int = 8192,
        image_mask_rate: float = 0.4,
        text_mask_rate: float = 0.15,
        pair_text_mask_rate: float = 0.5,
        loss_weights: Mapping[str, float] | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__({**encoder, "with_mask_token": True}, data_preprocessor, init_cfg)
        check_rate("image_mask_rate", image_mask_rate)
        check_rate("text_mask_rate", text_mask_rate)
        check_rate("pair_text_mask_rate", pair_text_mask_rate)
        self.image_mask_rate = image_mask_rate
        self.text_mask_rate = text_mask_rate
        self.pair_text_mask_rate = pair_text_mask_rate
        self.loss_weights = _weights(loss_weights or {})
        self.mlm_head = nn.Linear(self.encoder.embed_dims, self.encoder.text.vocab_size)
        self.mim_head = nn.Linear(self.encoder.embed_dims, num_codes)
        #: Digests of tokenizers whose codes may be those of samples.
        self._known_tokenizers: set[str] = set()
        self._keep_frozen(
            None if image_tokenizer is None else self._build_image_tokenizer(image_tokenizer)
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer | None: That of the texts."""
        return getattr(self.data_preprocessor, "tokenizer", None)

    def forward(
        self,
        images: dict | None = None,
        texts: dict | None = None,
        pairs: dict | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | dict[str, MaskedPart] | list[BaseDataElement]:
        """Run the model on what its preprocessor returns.

        Args:
            images (dict, optional): ``inputs`` (B, 3, H, W); masks follow from ``mask_seed`` of
                ``data_samples``, where they have it, else from torch's generator. Defaults to None.
            texts (dict, optional): ``ids`` and ``padding_mask`` (B, N), and ``data_samples``.
                Defaults to None.
            pairs (dict, optional): Both, one text for each image. Defaults to None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            dict | list: Of "loss" for each of ``image``, ``text``, ``pair_image`` and ``pair_text``
            that the batch has, and of visible patches where their loss has a weight,
            ``loss_<part>``; ``acc_<part>``, the share of its tokens that are told rightly; and of
            images ``codes_used_<part>``, the share of all codes that the targets of this
            micro-batch have. Of "tensor" what each part's masked tokens are taken
            for. Of "predict" the samples with ``masked_tokens``, as :meth:`predict` says.

        Raises:
            InputError: There is nothing, or a part is not as it is to be.
        """
        if mode == "loss":
            return self.loss(images, texts, pairs)
        if mode == "predict":
            return self.predict(images, texts, pairs)
        if mode == "tensor":
            return self.masked_parts(images, texts, pairs)
        raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")

    def loss(
        self, images: dict | None, texts: dict | None, pairs: dict | None
    ) -> dict[str, Tensor]:
        """Compute the losses; arguments and result as in :meth:`forward`."""
        parts = self.masked_parts(images, texts, pairs, with_visible=True)
        device = self.mim_head.weight.device
        counts = torch.tensor([float(len(part.targets)) for part in parts.values()])
        counts = counts.to(device, non_blocking=True)
        all_reduce(
            counts, "mean"
        )  # with DDP's mean of gradients, a mean over all processes' tokens
        found: dict[str, Tensor] = {}
        for (name, part), count in zip(parts.items(), counts.clamp(min=1e-6), strict=True):
            logits = part.logits.to(torch.promote_types(part.logits.dtype, torch.float32))
            total = F.cross_entropy(logits, part.targets, reduction="sum")
            found[f"loss_{name}"] = self.loss_weights[name] * total / count
            hits = (logits.detach().argmax(1) == part.targets).sum()
            found[f"acc_{name}"] = hits / count
            if name.endswith("image"):
                used = counts.new_zeros(self.mim_head.out_features)
                found[f"codes_used_{name}"] = used.index_fill_(0, part.targets, 1).mean()
        return found

    def predict(
        self, images: dict | None, texts: dict | None, pairs: dict | None
    ) -> list[BaseDataElement]:
        """Score the masked tokens of each sample; arguments as in :meth:`forward`.

        Returns:
            list: The data samples of all parts. ``masked_tokens`` of one has for each part that it
            is of ``count``, ``right`` and ``loss``, sums over its masked tokens, and of images the
            ``codes`` that are to be told, and ``num_codes``, of how many. Pairs have
            ``blind_pair_text``, too: the same words with all patches masked.
        """
        self.init_frozen()
        batches = {"image": images, "text": texts}
        samples: dict[int, BaseDataElement] = {}
        for name, part in self.masked_parts(images, texts, pairs, with_blind=True).items():
            logits = part.logits.to(torch.promote_types(part.logits.dtype, torch.float32))
            losses = F.cross_entropy(logits, part.targets, reduction="none").double()
            right, counts = logits.argmax(1) == part.targets, part.counts.tolist()
            parts = (each.split(counts) for each in (losses, right, part.targets))
            for sample, loss, hits, targets in zip(
                (batches.get(name, pairs) or {})["data_samples"], *parts, strict=True
            ):
                found = dict(count=len(hits), right=int(hits.sum()), loss=float(loss.sum()))
                if name.endswith("image"):
                    found["codes"] = targets.tolist()
                    found["num_codes"] = self.mim_head.out_features
                known = sample.get("masked_tokens") or {}
                sample.set_field(known | {name: found}, "masked_tokens")
                samples[id(sample)] = sample
        return list(samples.values())

    def masked_parts(
        self,
        images: dict | None,
        texts: dict | None,
        pairs: dict | None,
        with_visible: bool = False,
        with_blind: bool = False,
    ) -> dict[str, MaskedPart]:
        """Mask, encode and say what is masked; arguments and result as in :meth:`forward`.

        ``with_visible`` adds the patches that are not masked, where ``loss_weights`` has a weight
        for them; ``with_blind`` the masked words of pairs as they are told with all patches masked.
        """
        if not (images or texts or pairs):
            raise InputError("a batch has no images, texts or pairs; expected one of them at least")
        found: dict[str, MaskedPart] = {}
        if images:
            mask, codes = self._mask_images(images, "images")
            states = self.encoder.encode_image(images["inputs"], mask)
            found |= self._told_patches("image", states, mask, codes, with_visible)
        if texts:
            ids, chosen = self._mask_texts(texts, "texts", self.text_mask_rate)
            states = self.encoder.encode_text(ids, texts["padding_mask"])
            found["text"] = _told(self.mlm_head, states, texts["ids"], chosen)
        if pairs:
            mask, codes = self._mask_images(pairs, "pairs")
            ids, chosen = self._mask_texts(pairs, "pairs", self.pair_text_mask_rate)
            states, words = self.encoder.encode_pair(
                pairs["inputs"], ids, pairs["padding_mask"], patch_mask=mask
            )
            found |= self._told_patches("pair_image", states, mask, codes, with_visible)
            found["pair_text"] = _told(self.mlm_head, words, pairs["ids"], chosen)
            if with_blind:
                _, words = self.encoder.encode_pair(
                    pairs["inputs"], ids, pairs["padding_mask"], patch_mask=torch.ones_like(mask)
                )
                found["blind_pair_text"] = _told(self.mlm_head, words, pairs["ids"], chosen)
        return found

    def _told_patches(
        self, name: str, states: Tensor, mask: Tensor, codes: Tensor, with_visible: bool
    ) -> dict[str, MaskedPart]:
        """What states (B, 1 + patches, C) say of masked patches, and of the others if asked for."""
        chosen = {name: mask}
        if with_visible and self.loss_weights[f"visible_{name}"]:
            chosen[f"visible_{name}"] = ~mask
        return {
            part: _told(self.mim_head, states[:, 1:], codes, which)
            for part, which in chosen.items()
        }

    def init_heads(self) -> None:
        """Draw both heads."""
        init_head(self.mlm_head)
        init_head(self.mim_head)

    def init_weights(self) -> None:
        """Initialize the model, and the image tokenizer as its own ``init_cfg`` says."""
        super().init_weights()
        if self.image_tokenizer is not None:
            self.init_frozen()
            if not self.image_tokenizer.init_cfg:
                warn(
                    "the image tokenizer has random weights, and its codes mean nothing: set "
                    "model.image_tokenizer.init_cfg=dict(type='Pretrained', checkpoint=...)"
                )

    def _build_image_tokenizer(self, config: dict) -> nn.Module:
        built = MODELS.build(config)
        if built.num_codes != self.mim_head.out_features:
            raise InputError(
                f"the image tokenizer has {built.num_codes} codes and num_codes is "
                f"{self.mim_head.out_features}; expected the same: set "
                f"model.num_codes={built.num_codes}"
            )
        grid = self.encoder.vision.grid_size
        if built.grid_size != grid:
            size = tuple(side * built.patch_size for side in grid)
            raise InputError(
                f"the image tokenizer has a code for each of {_by(built.grid_size)} patches, and "
                f"the encoder has {_by(grid)}; expected the same: set the tokenizer's "
                f"img_size={size}, or the encoder's img_size and patch_size"
            )
        return built

    @torch.no_grad()
    def _mask_images(self, batch: dict, what: str) -> tuple[Tensor, Tensor]:
        """Mask (B, patches) and codes (B, patches) of a batch's images."""
        images = batch.get("inputs")
        if images is None:
            raise InputError(f"the {what} of a batch have no images")
        if self.image_tokenizer is None:
            raise InputError(
                f"the batch has {what}, and the model nothing that gives images their codes: set "
                "model.image_tokenizer"
            )
        height, width = (-(-side // self.encoder.vision.patch_size) for side in images.shape[-2:])
        if (height, width) != self.image_tokenizer.grid_size:
            grid, given = _by(self.image_tokenizer.grid_size), _by((height, width))
            raise InputError(
                f"the {what} of a batch have {given} patches and the image tokenizer gives {grid} "
                "codes; expected the same: have the pipeline make images of the encoder's img_size"
            )
        mask = mask_images(len(images), height, width, self.image_mask_rate, _seeds(batch))
        codes = self._kept_codes(batch, what)
        if codes is None:
            codes = self.codes(images)
        return mask.to(images.device, non_blocking=True), codes

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) as the preprocessor makes them -> (B, patches) int64 codes."""
        return self.image_tokenizer.codes(self._as_tokenizer_takes(images))

    def _kept_codes(self, batch: dict, what: str) -> Tensor | None:
        """Codes that were computed before, (B, patches), where all samples have them."""
        samples = batch.get("data_samples") or ()
        codes = [sample.get("image_codes") for sample in samples]
        if not codes or any(each is None for each in codes):
            return None
        if other := {sample.image_codes_of for sample in samples} - self._known_tokenizers:
            own = self.frozen_digest()
            if other != {own}:
                raise InputError(
                    f"the codes of the {what} were made by another image tokenizer ("
                    f"{', '.join(sorted(other))}) than model.image_tokenizer ({own}): make them "
                    "anew by `mmbeit3 prepare-codes`, or correct its init_cfg"
                )
            self._known_tokenizers |= other
        return torch.stack(codes).to(self.mim_head.weight.device)

    def _as_tokenizer_takes(self, images: Tensor) -> Tensor:
        """Images normalized for the model -> pixels from -1 to 1, of the tokenizer's size."""
        if isinstance(self.data_preprocessor, ImageTextPreprocessor):
            mean, std = self.data_preprocessor.mean, self.data_preprocessor.std
            # Exactly the same images where they are so normalized: times 1, plus 0.
            images = images * (std / NEUTRAL) + (mean - NEUTRAL) / NEUTRAL
        patch, wanted = self.encoder.vision.patch_size, self.image_tokenizer.patch_size
        if patch != wanted:
            size = [side * wanted for side in self.image_tokenizer.grid_size]
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        return images

    def _mask_texts(self, batch: dict, what: str, rate: float) -> tuple[Tensor, Tensor]:
        """Ids (B, N) of a batch's texts as the encoder sees them, and which are masked."""
        ids, images = batch.get("ids"), batch.get("inputs")
        if ids is None:
            raise InputError(f"the {what} of a batch have no texts")
        if images is not None and len(images) != len(ids):
            raise InputError(
                f"the {what} of a batch are {len(images)} images and {len(ids)} texts; expected "
                "one text for each image"
            )
        if self.tokenizer is None:
            raise InputError(
                "the model has no tokenizer, which says what the mask token is: set "
                "model.data_preprocessor.tokenizer=dict(file='beit3.spm')"
            )
        return mask_texts(ids, rate, self.tokenizer.mask_id, _seeds(batch))


def _told(head: nn.Module, states: Tensor, targets: Tensor, chosen: Tensor) -> MaskedPart:
    """What a head says of the chosen of states (B, N, C), and what they are of targets (B, N)."""
    # As numbers: a mask as an index would wait for a GPU at each use, and in the backward pass.
    places = chosen.nonzero(as_tuple=True)
    return MaskedPart(head(states[places]), targets[places], chosen.sum(1))


def _weights(given: Mapping[str, float]) -> dict[str, float]:
    known = dict.fromkeys(PARTS, 1.0) | dict.fromkeys(VISIBLE_PARTS, 0.0)
    if unknown := sorted(set(given) - set(known)):
        raise InputError(f"loss_weights has {', '.join(unknown)}; expected {', '.join(known)}")
    return known | dict(given)


def _seeds(batch: dict) -> list[int] | None:
    """The numbers that masks follow from, where all samples have one."""
    seeds = [sample.get("mask_seed") for sample in batch.get("data_samples") or ()]
    return None if not seeds or None in seeds else seeds


def _by(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"
