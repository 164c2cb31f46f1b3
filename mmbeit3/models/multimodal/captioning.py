"""BEiT-3 as a writer of captions."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models.multimodal.caption_loss import caption_loss, mask_words
from mmbeit3.models.multimodal.fusion import ImageTextModel, init_head
from mmbeit3.models.multimodal.generation import Decoding, Vocabulary, write_captions
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError


class Caption(NamedTuple):
    """A caption that was written.

    Attributes:
        text: The caption.
        score: Its score, see :class:`mmbeit3.models.multimodal.generation.Decoding`.
        ids: Its tokens, without begin and end.
    """

    text: str
    score: float
    ids: list[int]


@MODELS.register_module()
class BEiT3Captioning(ImageTextModel):
    """Images to sentences, trained by guessing masked words.

    What the released code does for captioning: the image sees itself alone, a word the image and
    the words up to it. Training masks words of a caption and guesses them from their states;
    a caption is written by guessing the mask that stands behind the words so far.

    Args:
        encoder (dict): Config of a :class:`mmbeit3.models.BEiT3Multiway`.
        mask_rate (float): Share of a caption's tokens to guess, see
            :func:`mmbeit3.models.multimodal.caption_loss.mask_words`. Defaults to 0.7, as released.
        label_smoothing (float): See
            :func:`mmbeit3.models.multimodal.caption_loss.caption_loss`. Defaults to 0.1, as
            released.
        drop_worst_ratio (float): Share of a batch's guesses, the worst, to leave out of the loss.
            Defaults to 0.
        drop_worst_after (int): Iterations of training before the worst are left out. Defaults to 0.
        generation (dict, optional): Options of
            :class:`mmbeit3.models.multimodal.generation.Decoding`: ``beams``, ``length_penalty``,
            ``max_length``, ``released``. Defaults to None, its defaults; ``max_length`` is the
            tokenizer's where it is not given.
        data_preprocessor (dict, optional): Config of a
            :class:`mmbeit3.models.ImageTextPreprocessor` with the tokenizer. Defaults to None:
            weights can be loaded, and neither training nor captions are possible.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from an
            official ``_captioning`` or ``_nocaps`` file, from one of pretraining, whose head for
            words it has, or from one of this project; another file of BEiT-3 can be the
            ``encoder``'s. Defaults to None.

    Raises:
        InputError: The options or the tokenizer do not fit the encoder.
    """

    released_task = "captioning"

    def __init__(
        self,
        encoder: dict,
        mask_rate: float = 0.7,
        label_smoothing: float = 0.1,
        drop_worst_ratio: float = 0.0,
        drop_worst_after: int = 0,
        generation: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        if not 0 < mask_rate <= 1:
            raise InputError(f"mask_rate is {mask_rate}; expected above 0 and at most 1")
        shares = dict(label_smoothing=label_smoothing, drop_worst_ratio=drop_worst_ratio)
        for name, value in shares.items():
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}; expected 0 or more and below 1")
        self.mlm_head = nn.Linear(self.encoder.embed_dims, self.encoder.text.vocab_size)
        self.mask_rate = mask_rate
        self.label_smoothing = label_smoothing
        self.drop_worst_ratio = drop_worst_ratio
        self.drop_worst_after = drop_worst_after
        tokenizer = getattr(self.data_preprocessor, "tokenizer", None)
        longest = self.encoder.text.max_tokens if tokenizer is None else tokenizer.max_length
        generation = dict(max_length=longest) | dict(generation or {})
        self.decoding = self._check_length(Decoding().changed(**generation))
        # The final LN of the image's half reaches no word; with a gradient that never comes,
        # several processes would wait for it.
        for param in self.encoder.vision.norm.parameters():
            param.requires_grad = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the data preprocessor.

        Raises:
            InputError: There is none.
        """
        tokenizer = getattr(self.data_preprocessor, "tokenizer", None)
        if tokenizer is None:
            raise InputError(
                "the model has no tokenizer: set "
                "model.data_preprocessor.tokenizer=dict(file='beit3.spm')"
            )
        return tokenizer

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
            inputs (Tensor, optional): (B, 3, H, W) images. Defaults to None.
            ids (Tensor, optional): (B, N) captions, one of each image; not needed for "predict".
                Defaults to None.
            padding_mask (Tensor, optional): (B, N), True at padding. Defaults to None.
            data_samples (list, optional): B samples. Defaults to None.
            mode (str): "loss", "predict" or "tensor". Defaults to "tensor".

        Returns:
            dict | list | Tensor: Of "loss" ``dict(loss_caption=...)``. Of "predict" the samples,
            each with ``pred_caption`` (str) and ``pred_score`` (float). Of "tensor" the logits
            (B, N, V) of each word, with all words up to itself seen.

        Raises:
            InputError: A batch has no images, or not one caption of each.
        """
        if inputs is None:
            raise InputError("a batch has no images")
        if mode == "predict":
            samples = data_samples or []
            for sample, caption in zip(samples, self.generate(inputs), strict=True):
                sample.set_data(dict(pred_caption=caption.text, pred_score=caption.score))
            return samples
        if mode not in ("loss", "tensor"):
            raise InputError(f"mode is {mode!r}; expected 'loss', 'predict' or 'tensor'")
        if ids is None or len(ids) != len(inputs):
            raise InputError(
                f"a batch has {len(inputs)} images and {0 if ids is None else len(ids)} captions; "
                "training takes pairs: test_mode=False of the data set"
            )
        if mode == "loss":
            return self.loss(inputs, ids, padding_mask)
        return self.mlm_head(self.encoder.encode_pair(inputs, ids, padding_mask, causal=True)[1])

    def loss(self, inputs: Tensor, ids: Tensor, padding_mask: Tensor | None) -> dict[str, Tensor]:
        """Guess masked words of pairs; arguments and result as in :meth:`forward`."""
        hidden, chosen = mask_words(ids, padding_mask, self.mask_rate, self.tokenizer.mask_id)
        # As numbers: a mask as an index would wait for a GPU at each use, and in the backward pass.
        places = chosen.nonzero(as_tuple=True)
        states = self.encoder.encode_pair(inputs, hidden, padding_mask, causal=True)[1]
        iteration = MessageHub.get_current_instance().runtime_info.get("iter", 0)
        drops = iteration > self.drop_worst_after  # the first iteration is 0
        loss = caption_loss(
            self.mlm_head(states[places]),
            ids[places],
            self.label_smoothing,
            self.drop_worst_ratio if drops else 0.0,
        )
        return dict(loss_caption=loss)

    def generate(self, images: Tensor, **options: Any) -> list[Caption]:
        """Write the best caption of each image.

        Args:
            images (Tensor): (B, 3, H, W), normalized.
            **options: Those of ``generation`` that shall be others than the model's.

        Returns:
            list[Caption]: B captions; of the same images and options always the same.

        Raises:
            InputError: There is no such option, or a value is out of range.
        """
        decoding = self.changed_decoding(**options)
        tokenizer = self.tokenizer
        vocabulary = Vocabulary(tokenizer.mask_id, tokenizer.blank_ids)
        found = write_captions(self.encoder, self.mlm_head, images, vocabulary, decoding)
        return [Caption(tokenizer.decode(ids), score, ids) for ids, score in found]

    def changed_decoding(self, **options: Any) -> Decoding:
        """The model's ``decoding`` with other options; see :meth:`generate`."""
        return self._check_length(self.decoding.changed(**options))

    def init_heads(self) -> None:
        """Draw the head."""
        init_head(self.mlm_head)

    def _check_length(self, decoding: Decoding) -> Decoding:
        if decoding.max_length > self.encoder.text.max_tokens:
            raise InputError(
                f"max_length of the generation is {decoding.max_length} and the encoder has "
                f"{self.encoder.text.max_tokens} positions of text; expected no more: lower "
                "max_length, or raise the encoder's max_tokens"
            )
        return decoding
