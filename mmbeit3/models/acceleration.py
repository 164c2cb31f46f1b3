"""What makes a finished model faster: kernels for the CPU, fewer bits, and torch.compile."""

from __future__ import annotations

import torch
from mmcv.cnn import Linear
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as MMDetFCNMaskHead
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import Tensor, nn

from mmbeit3.models.decode_heads.mask2former_head import Mask2FormerHead
from mmbeit3.models.decode_heads.quick_mask2former_head import QuickMask2FormerHead
from mmbeit3.models.layers import FFN, Attention, DeformableAttention
from mmbeit3.models.layers.interaction import ConvFFN
from mmbeit3.models.roi_heads import FCNMaskHead, PreciseRoIExtractor
from mmbeit3.ops.cpu.choices import INPUTS, OUTPUTS, onednn_pays
from mmbeit3.ops.cpu.int8 import Int8Linear, fits_int8, int8_product, outer_dtype
from mmbeit3.ops.cpu.linear import BFloat16Linear, OneDNNLinear
from mmbeit3.ops.cpu.pasting import paste_masks
from mmbeit3.ops.cpu.processor import bfloat16_obstacle, int8_obstacle
from mmbeit3.ops.cpu.roi_align import multi_level_roi_align
from mmbeit3.utils import InputError
from mmbeit3.utils.towers import find_layers

#: What autocast computes in; int8 layers are inside it, where there are instructions for bfloat16.
#: float16 is no choice: the residual stream of sub-LN models can leave its range (65504).
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.bfloat16}

# Tokens that an FFN of bytes takes at once: the hidden ones stay in the cache.
_BLOCK = 256


def accelerate(
    model: nn.Module, dtype: str = "float32", compile: bool = False, force: bool = False
) -> str:
    """Have a finished model compute in a faster way, on the device that it is on.

    Modules of this project get a subclass of their class that has a faster way for inference:
    their weights, names and training stay as they are. On the CPU these are linear layers (by
    oneDNN, where :func:`mmbeit3.ops.cpu.choices.onednn_pays`), RoIAlign and Mask2Former's head; on
    every device it is the pasting of masks. Whoever exports a model, or replaces its layers (LoRA),
    does so with one that is not accelerated.

    In bfloat16 matrix products and convolutions are computed in that type (autocast); weights,
    residual stream, norms and box coordinates stay in float32, and on the CPU linear layers keep
    their weights in bfloat16 besides. On a CPU without instructions for
    bfloat16 that is slower (with AVX2, products take about 3 times as long and convolutions up to
    hundreds of times), and an error unless forced. In int8 the linear layers
    of towers multiply 8-bit integers, on CPUs with instructions for that; all else is as in
    bfloat16, or in float32 where the CPU has no bfloat16. Compiled are the
    backbone's layers, for any image size: a further size costs no compilation, only a new kind of
    split into windows (rest on the right, below, both, none) or a batch of another kind (one,
    several) does.

    Args:
        model (nn.Module): A detector, segmentor or tower, maybe inside a wrapper. It is changed.
        dtype (str): 'float32', 'bfloat16' or 'int8'. Defaults to 'float32'.
        compile (bool): Whether to compile the layers of the backbone. Defaults to False.
        force (bool): Whether to compute in bfloat16 on a CPU without instructions for it, too.
            Defaults to False.

    Returns:
        str: ``dtype``.

    Raises:
        InputError: The type is not known, bfloat16 would be slower than float32, int8 cannot be
            had, the model has no layers to compile, or torch.compile does not work here.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    device = next((param.device for param in model.parameters()), torch.device("cpu"))
    if dtype == "int8":
        _check_int8(model, device, compile)
    if dtype == "bfloat16" and device.type == "cpu" and not force:
        _check_bfloat16()
    _use_kernels(model, device, dtype)
    if compile:
        _compile_layers(model, device)
    if dtype != "float32":
        name = "test_step" if hasattr(model, "test_step") else "forward"
        setattr(model, name, autocast_of(device, dtype)(getattr(model, name)))
    return dtype


def autocast_of(device: torch.device, dtype: str) -> torch.autocast:
    """The context in which a model of a ``dtype`` of :func:`accelerate` runs on a device."""
    enabled = dtype == "bfloat16" or (dtype == "int8" and bfloat16_obstacle() is None)
    return torch.autocast(device.type, DTYPES[dtype], enabled=enabled)


def _check_bfloat16() -> None:
    obstacle = bfloat16_obstacle()
    if obstacle is not None:
        raise InputError(
            f"{obstacle}, and bfloat16 is slower than float32 here; expected float32: leave it "
            "out, or compute in bfloat16 all the same by --force (force=True)",
            "dtype",
        )


def _check_int8(model: nn.Module, device: torch.device, compile: bool) -> None:
    found = int8_obstacle()
    if device.type != "cpu":
        found = f"int8 is for CPUs, and the model is on {device}"
    elif compile:
        found = "layers in int8 cannot be compiled"
    elif not any(isinstance(module, (Attention, FFN)) for module in model.modules()):
        found = f"{type(model).__name__} has no layers of this project's towers, which int8 is for"
    if found is not None:
        cure = "leave --compile out" if compile else "leave it out, or give bfloat16"
        raise InputError(f"{found}; expected float32 or bfloat16 here: {cure}", "dtype")


def _use_kernels(model: nn.Module, device: torch.device, dtype: str) -> None:
    """Give modules their faster class; one of a class that is not known here stays as it is."""
    faster = {MMDetFCNMaskHead: _PastingMMDetMaskHead, FCNMaskHead: _PastingMaskHead}
    if device.type == "cpu":
        faster |= {FFN: _FusedFFN, PreciseRoIExtractor: _RoIExtractor}
        faster |= {Mask2FormerHead: QuickMask2FormerHead}
        low = dtype != "float32" and bfloat16_obstacle() is None
        kind = BFloat16Linear if low else OneDNNLinear
        for module in model.modules():
            heads = isinstance(module, (BBoxHead, Mask2FormerHead))
            if heads and (low or onednn_pays(INPUTS, OUTPUTS)):
                for layer in module.modules():
                    # mmcv's is another only without input
                    if type(layer) in (nn.Linear, Linear, OneDNNLinear):
                        layer.__class__ = kind
            if isinstance(module, (Attention, FFN, DeformableAttention, ConvFFN)):
                for layer in module.children():
                    if type(layer) not in (nn.Linear, OneDNNLinear):
                        continue
                    if dtype == "int8" and isinstance(module, (Attention, FFN)):
                        layer.__class__ = Int8Linear
                    elif low or onednn_pays(layer.in_features, layer.out_features):
                        layer.__class__ = kind
    for module in model.modules():
        module.__class__ = faster.get(type(module), type(module))


class _FusedFFN(FFN):
    """Applies GELU while the product is written."""

    def forward(self, x: Tensor) -> Tensor:
        fc1, fc2 = self.fc1, self.fc2
        # A layer that was replaced, or that someone listens to, is called.
        listened = any(m._forward_hooks or m._forward_pre_hooks for m in self.children())
        if listened or type(self.act) is not nn.GELU:
            return super().forward(x)
        if type(fc1) is type(fc2) is Int8Linear and fits_int8(fc1, x):
            return self._by_blocks(fc1, fc2, x)
        if type(fc1) in (OneDNNLinear, BFloat16Linear) and fc1.fits(x):
            return fc2(self.norm(fc1.product(x, True)))
        return super().forward(x)

    def _by_blocks(self, fc1: Int8Linear, fc2: Int8Linear, x: Tensor) -> Tensor:
        """Blocks of the tokens of one image, each with scales of its own, in bytes."""
        dtype, parts = outer_dtype(), []
        for image in x.reshape(-1, *x.shape[-2:]) if x.ndim > 2 else [x]:
            for rows in image.split(_BLOCK):
                hidden = self.norm(int8_product(fc1, rows, True, torch.float32))
                parts.append(int8_product(fc2, hidden, False, dtype))
        return torch.cat(parts).view(*x.shape[:-1], -1)


class _RoIExtractor(PreciseRoIExtractor):
    """Pools all levels by one kernel where there is nothing to be differentiated."""

    def pool(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None
    ) -> Tensor:
        layer = self.roi_layers[0]
        needs_grad = torch.is_grad_enabled() and any(feat.requires_grad for feat in feats)
        averages = isinstance(layer, RoIAlign) and layer.pool_mode == "avg"
        on_cpu = feats[0].device.type == "cpu"
        if needs_grad or torch.jit.is_tracing() or not (averages and on_cpu):
            return super().pool(feats, rois, roi_scale_factor)
        levels = torch.zeros(len(rois), dtype=torch.long)
        if len(feats) > 1:  # mmdet rescales none where there is one level
            levels = self.map_roi_levels(rois, len(feats))
            if roi_scale_factor is not None:
                rois = self.roi_rescale(rois, roi_scale_factor)
        scales = [layer.spatial_scale for layer in self.roi_layers[: len(feats)]]
        return multi_level_roi_align(
            feats, rois, levels, layer.output_size, scales, layer.sampling_ratio, layer.aligned
        )


class _Pasting:
    """Enlarges the masks of an image by :func:`mmbeit3.ops.paste_masks`."""

    class_agnostic: bool

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Tensor:
        scale = bboxes.new_tensor(img_meta["scale_factor"])
        height, width = img_meta["ori_shape"][:2]
        if rescale:
            bboxes /= scale.repeat(2)  # in place, as mmdet does
        else:
            height, width = (
                round(length * factor)
                for length, factor in zip((height, width), scale.flip(0).tolist(), strict=True)
            )
        classes = 0 if self.class_agnostic else labels
        masks = mask_preds[torch.arange(len(mask_preds), device=mask_preds.device), classes]
        masks = masks if activate_map else masks.sigmoid()
        return paste_masks(masks, bboxes, height, width, rcnn_test_cfg.mask_thr_binary)


# One for each class, since the two start from different weights.
class _PastingMMDetMaskHead(_Pasting, MMDetFCNMaskHead):
    pass


class _PastingMaskHead(_Pasting, FCNMaskHead):
    pass


def _compile_layers(model: nn.Module, device: torch.device) -> None:
    layers = find_layers(model)
    if not layers:
        raise InputError(
            f"{type(getattr(model, 'backbone', model)).__name__} has no list of layers to compile: "
            "leave --compile out, it is for mmbeit3.BEiT3 and mmbeit3.BEiT3Adapter"
        )
    _try_compiler(device)
    for layer in layers.values():
        layer.compile(dynamic=True)
    print_log(
        f"the {len(layers)} layers of the backbone are compiled while the first images run, which "
        "takes a minute or so",
        "current",
    )


def _try_compiler(device: torch.device) -> None:
    """Compile something small, so that a missing compiler is found before the run."""
    try:
        torch.compile(torch.square)(torch.ones(2, device=device))
    except Exception as error:  # torch's errors here come from many modules
        reason = str(error).strip().partition("\n")[0]
        needs = "a C++ compiler" if device.type == "cpu" else "Triton"
        raise InputError(
            f"torch.compile does not work on {device} here; it needs {needs}: {reason}. Leave "
            "--compile out"
        ) from None
    finally:
        torch.compiler.reset()
