"""BEiT-3 whole: a vision and a language expert with one joint attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmbeit3.checkpoint import load_experts, load_towers, read_checkpoint
from mmbeit3.checkpoint.fetching import without_secrets
from mmbeit3.models.backbones import BEiT3
from mmbeit3.models.layers import FFN, EncoderLayer
from mmbeit3.models.layers.checkpointing import recomputed
from mmbeit3.models.multimodal.text import BEiT3Text
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

#: Keys and values (B, heads, N, head_dim) of a layer, and of all layers.
State = tuple[Tensor, Tensor]
States = list[State]


class FusionFFN(nn.Module):
    """The vision-language expert of a layer: LN and FFN of all tokens of a pair.

    Args:
        embed_dims (int): Width C of a token.
        feedforward_channels (int): Hidden width.
    """

    def __init__(self, embed_dims: int, feedforward_channels: int) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-5)
        self.ffn = FFN(embed_dims, feedforward_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, N, C) -> what the layer adds to it, (B, N, C)."""
        return self.ffn(self.norm2(x))


@MODELS.register_module()
class BEiT3Multiway(BaseModule):
    """Vision and language tower of BEiT-3 (arXiv 2208.10442), for either alone and for pairs.

    ``vision`` is a :class:`mmbeit3.models.BEiT3` and ``text`` a :class:`BEiT3Text`, with their
    names of weights. In a pair each token passes through the expert of its modality, and all tokens
    attend to each other in one softmax. Nothing is kept between calls.

    Args:
        arch (str | dict): Of both towers, see :class:`mmbeit3.models.BEiT3`. Defaults to "base".
        img_size (int | tuple[int, int]): As there. Defaults to 224.
        patch_size (int): As there. Defaults to 16.
        in_channels (int): Channels of the image. Defaults to 3.
        vocab_size (int): See :class:`BEiT3Text`. Defaults to 64010.
        max_tokens (int): See :class:`BEiT3Text`. Defaults to 1022.
        attention (str): "decoupled", attention and its LN of each expert for itself, as in the
            released files; or "shared", as in the paper's giant. Defaults to "decoupled".
        vl_layers (int): How many of the last layers have a vision-language expert in the place of
            the two FFNs for pairs; 3 in the paper's giant. Defaults to 0, as in the released files.
        drop_path_rate (float): Drop path of the last layer; it grows linearly from 0 at the first.
            Defaults to 0.
        final_norm (bool): Apply the LN after the last layer. Defaults to True; official ImageNet
            and VQA files have none.
        with_mask_token (bool): See :class:`mmbeit3.models.BEiT3`. Defaults to False.
        with_cp (bool | str): See :class:`mmbeit3.models.BEiT3`. Defaults to False.
        init_cfg (dict, optional): ``dict(type="Pretrained", checkpoint=FILE)`` starts from both
            branches of an official file, or of one of this project. Defaults to None.

    Raises:
        InputError: The sizes or options given cannot work together, or the weights are of another
            model.
    """

    def __init__(
        self,
        arch: str | dict = "base",
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        vocab_size: int = 64010,
        max_tokens: int = 1022,
        attention: str = "decoupled",
        vl_layers: int = 0,
        drop_path_rate: float = 0.0,
        final_norm: bool = True,
        with_mask_token: bool = False,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if attention not in ("decoupled", "shared"):
            raise InputError(f"attention is {attention!r}; expected 'decoupled' or 'shared'")
        common: dict[str, Any] = dict(
            drop_path_rate=drop_path_rate, final_norm=final_norm, with_cp=with_cp
        )
        self.vision = BEiT3(
            arch,
            img_size,
            patch_size,
            in_channels,
            window_size=0,
            with_cls_token=True,
            with_mask_token=with_mask_token,
            **common,
        )
        self.text = BEiT3Text(arch, vocab_size, max_tokens, **common)
        self.embed_dims, self.num_layers = self.vision.embed_dims, self.vision.num_layers
        self.with_cp = with_cp
        if not 0 <= vl_layers <= self.num_layers:
            raise InputError(
                f"vl_layers is {vl_layers}; expected 0 to {self.num_layers}, the number of layers"
            )
        if attention == "shared":
            for vision, text in zip(self.vision.layers, self.text.layers, strict=True):
                text.attn, text.norm1 = vision.attn, vision.norm1
        self.vl_layers = nn.ModuleList(
            FusionFFN(self.embed_dims, self.vision.layers[0].ffn.fc1.out_features)
            for _ in range(vl_layers)
        )

    def encode_image(self, images: Tensor, patch_mask: Tensor | None = None) -> Tensor:
        """Encode images alone.

        Args:
            images (Tensor): (B, in_channels, H, W) normalized images of any H and W.
            patch_mask (Tensor, optional): (B, Nv - 1), True where the mask token is in a patch's
                place; needs ``with_mask_token``. Defaults to None, no mask.

        Returns:
            Tensor: (B, Nv, C), CLS first, then patches row by row.
        """
        feature_map, cls = self.vision.encode(images, patch_mask)
        assert cls is not None
        return torch.cat([cls[:, None], feature_map.flatten(2).transpose(1, 2)], 1)

    def encode_text(self, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode texts alone.

        Args:
            ids (Tensor): (B, Nt) int64 ids as :class:`mmbeit3.text.Tokenizer` makes them.
            padding_mask (Tensor, optional): (B, Nt), True or 1 where ``ids`` is padding. Defaults
                to None, no padding.

        Returns:
            Tensor: (B, Nt, C); what stands at padding means nothing.

        Raises:
            InputError: There are more tokens than positions, or a text is all padding.
        """
        return self.text(ids, padding_mask)

    def encode_pair(
        self,
        images: Tensor,
        ids: Tensor,
        padding_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        causal: bool = False,
        patch_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode each image together with its text.

        Args:
            images (Tensor): (B, in_channels, H, W), as in :meth:`encode_image`.
            ids (Tensor): (B, Nt), as in :meth:`encode_text`; a text may be all padding here.
            padding_mask (Tensor, optional): (B, Nt), as in :meth:`encode_text`. Defaults to None.
            attention_mask (Tensor, optional): (Nv + Nt, Nv + Nt), True or not 0 where the token of
                the row must not see that of the column, the same for all pairs. Defaults to None,
                all see all.
            causal (bool): Whether the image sees itself alone, and is what it is without a text;
                and a word sees the image and the words up to itself, as in captioning. Not together
                with ``attention_mask``. Defaults to False.
            patch_mask (Tensor, optional): (B, Nv - 1), as in :meth:`encode_image`. Defaults to
                None.

        Returns:
            tuple[Tensor, Tensor]: (B, Nv, C) of the image, CLS first, and (B, Nt, C) of the text.

        Raises:
            InputError: There are not as many texts as images, more tokens than positions, or
                a mask is of another shape.
        """
        if len(images) != len(ids):
            raise InputError(f"there are {len(images)} images and {len(ids)} texts; expected pairs")
        image = self.vision.embed(images, patch_mask)[0]
        x = torch.cat([image, self.text.embed(ids, padding_mask)], 1)
        split, total = image.shape[1], x.shape[1]
        keep = self._seen(split, total, padding_mask, attention_mask)
        if causal:
            if attention_mask is not None:
                raise InputError("attention_mask is given and causal is True; expected one of them")
            seen = torch.ones(total - split, total, dtype=torch.bool, device=x.device).tril(split)
            keep = seen if keep is None else keep & seen  # of the words; the image needs none
        for vision, text, fusion in self._experts():
            math = partial(_joint_layer, vision, text, fusion, split, causal, keep=keep)
            layer = partial(_call_both, vision, text, math)
            if self.with_cp and self.training:
                x = recomputed(layer, x, offload=self.with_cp == "offload")
            else:
                x = layer(x)
        return self.vision.norm(x[:, :split]), self.text.norm(x[:, split:])

    def encode_image_states(self, images: Tensor) -> States:
        """Encode images for texts that :meth:`encode_words` is going to write to them.

        It computes what :meth:`encode_pair` with ``causal`` does of the image, in the mode of
        inference: no branch is dropped.

        Args:
            images (Tensor): (B, in_channels, H, W), as in :meth:`encode_image`.

        Returns:
            list[tuple[Tensor, Tensor]]: Keys and values (B, heads, Nv, head_dim) of each layer.
        """
        x, states = self.vision.embed(images)[0], []
        for index, (vision, _, fusion) in enumerate(self._experts()):
            is_last = index + 1 == self.num_layers
            x, state = vision(x, joint=partial(_image_layer, vision, fusion, is_last))
            states.append(state)
        return states

    def encode_words(
        self, ids: Tensor, image: States, before: States | None = None
    ) -> tuple[Tensor, States]:
        """Encode the next words of texts about images, each seeing the image and words up to it.

        Several texts of an image use its states without copies of them. Nothing is kept but in what
        is returned.

        Args:
            ids (Tensor): (B * R, N) int64; R texts of each image in a row.
            image (list): Of B images, from :meth:`encode_image_states`.
            before (list, optional): Of the words before, as they are returned. Defaults to None,
                ``ids`` are the first.

        Returns:
            tuple[Tensor, list]: (B * R, N, C); keys and values (B * R, heads, M, head_dim) of each
            layer, of all M words to the last of ``ids``.

        Raises:
            InputError: There are more words than positions.
        """
        start = before[0][0].shape[2] if before else 0
        total = start + ids.shape[1]
        x, states = self.text.embed(ids, start=start), []
        keep = torch.ones(total - start, total, dtype=torch.bool, device=x.device).tril(start)
        for index, (_, text, fusion) in enumerate(self._experts()):
            past = before[index] if before else None
            math = partial(_word_layer, text, fusion, image[index], past, keep)
            x, state = text(x, joint=math)
            states.append(state)
        return self.text.norm(x), states

    def _experts(self) -> Iterator[tuple[EncoderLayer, EncoderLayer, FusionFFN | None]]:
        """Vision, text and maybe vision-language expert of each layer."""
        none = [None] * (self.num_layers - len(self.vl_layers))
        return zip(self.vision.layers, self.text.layers, [*none, *self.vl_layers], strict=True)

    @staticmethod
    def _seen(
        split: int, total: int, padding_mask: Tensor | None, attention_mask: Tensor | None
    ) -> Tensor | None:
        """(B or 1, 1, N or 1, N) bool: which query sees which key; None for all."""
        keep = None
        if padding_mask is not None:
            keep = nn.functional.pad(~padding_mask.bool(), (split, 0), value=True)[:, None, None]
        if attention_mask is not None:
            if attention_mask.shape != (total, total):
                raise InputError(
                    f"attention_mask has the shape {tuple(attention_mask.shape)}; expected "
                    f"({total}, {total}), {split} tokens of the image and {total - split} of the "
                    "text"
                )
            allowed = ~attention_mask.bool()[None, None]
            keep = allowed if keep is None else keep & allowed
        return keep

    @property
    def repeated_layers(self) -> nn.ModuleList:
        """The layers of both towers, for what treats them one by one."""
        return nn.ModuleList([*self.vision.layers, *self.text.layers])

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Tell how deep a parameter lies, as :meth:`mmbeit3.models.BEiT3.get_layer_depth` does.

        Depths are counted in each tower from its own input; a vision-language expert is as deep as
        its layer.
        """
        for name in ("vision", "text"):
            inner = f"{prefix}{name}."
            if param_name.startswith(inner):
                return self.get_submodule(name).get_layer_depth(param_name, inner)
        after = self.num_layers + 1
        if param_name.startswith(f"{prefix}vl_layers."):
            index = int(param_name.removeprefix(f"{prefix}vl_layers.").partition(".")[0])
            return self.num_layers - len(self.vl_layers) + index + 1, after + 1
        return after, after + 1

    def init_weights(self) -> None:
        """Initialize both towers for training from nothing, then as ``init_cfg`` says.

        A vision-language expert starts as the vision expert of its layer, unless the file has it.
        """
        self.text.init_weights()
        self.vision.init_weights()  # after the text tower: of a shared layer the last one counts
        origin, content = "", None
        if (self.init_cfg or {}).get("type") == "Pretrained":
            content = read_checkpoint(self.init_cfg["checkpoint"])
            origin = without_secrets(str(self.init_cfg["checkpoint"]))
            load_towers(self, content, origin=origin)
        for vision, _, fusion in self._experts():
            if fusion is not None:
                fusion.norm2.load_state_dict(vision.norm2.state_dict())
                fusion.ffn.load_state_dict(vision.ffn.state_dict())
        if content is not None and len(self.vl_layers):
            load_experts(self.vl_layers, content, origin)


def _call_both(
    vision: EncoderLayer, text: EncoderLayer, joint: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Run a function on ``x`` inside a call of both layers, see :class:`EncoderLayer`."""
    return vision(x, joint=lambda inside: text(inside, joint=joint))


def _joint_layer(
    vision: EncoderLayer,
    text: EncoderLayer,
    fusion: FusionFFN | None,
    split: int,
    causal: bool,
    x: Tensor,
    keep: Tensor | None,
) -> Tensor:
    """One layer over the tokens (B, N, C) of pairs, of which the first ``split`` are the image's.

    The branches are dropped for a pair as a whole, hence the concatenations. Where the image sees
    itself alone (``causal``), it attends by itself, and ``keep`` is that of the words.
    """
    image, words = x[:, :split], x[:, split:]
    projected = (e.attn.project(e.norm1(part)) for e, part in ((vision, image), (text, words)))
    q, k, v = (torch.cat(parts, 2) for parts in zip(*projected, strict=True))
    if causal:
        alone = vision.attn.attend(*(part[:, :, :split] for part in (q, k, v)))
        attended = torch.cat([alone, text.attn.attend(q[:, :, split:], k, v, keep)], 1)
    else:
        attended = vision.attn.attend(q, k, v, keep)
    attended = [vision.attn.output(attended[:, :split]), text.attn.output(attended[:, split:])]
    x = x + vision.drop_path(torch.cat(attended, 1))
    if fusion is not None:
        return x + vision.drop_path(fusion(x))
    image, words = x[:, :split], x[:, split:]
    added = [vision.ffn(vision.norm2(image)), text.ffn(text.norm2(words))]
    return x + vision.drop_path(torch.cat(added, 1))


def _image_layer(
    expert: EncoderLayer, fusion: FusionFFN | None, is_last: bool, x: Tensor
) -> tuple[Tensor, State]:
    """One layer over the image's half (B, N, C) of pairs, and its keys and values.

    What comes after the last keys, no word sees; it is left out.
    """
    q, k, v = expert.attn.project(expert.norm1(x))
    if not is_last:
        x = _after_attention(expert, fusion, x, expert.attn.attend(q, k, v))
    return x, (k.contiguous(), v.contiguous())


def _word_layer(
    expert: EncoderLayer,
    fusion: FusionFFN | None,
    image: State,
    before: State | None,
    keep: Tensor,
    x: Tensor,
) -> tuple[Tensor, State]:
    """One layer over words (B * R, N, C) behind others, and keys and values of all so far."""
    q, k, v = expert.attn.project(expert.norm1(x))
    if before is not None:
        k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
    attended = expert.attn.attend_shared(q, image, (k, v), keep)
    return _after_attention(expert, fusion, x, attended), (k, v)


def _after_attention(
    expert: EncoderLayer, fusion: FusionFFN | None, x: Tensor, attended: Tensor
) -> Tensor:
    """The rest of a layer, of tokens (B, N, C) of one expert of a pair, with nothing dropped."""
    x = x + expert.attn.output(attended)
    return x + (expert.ffn(expert.norm2(x)) if fusion is None else fusion(x))
