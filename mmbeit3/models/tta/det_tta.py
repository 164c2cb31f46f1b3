"""Test-time augmentation of detectors: one NMS over the boxes of all views, masks averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip, scale_boxes
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmbeit3.models.roi_heads.vitdet_cascade_roi_head import ViTDetCascadeRoIHead, select_boxes
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

Levels = tuple[Tensor, ...]
Scale = tuple[float, float]  # (x, y), pixels of the network's input per pixel of an image

# The axes of a mask that a flip turns around.
FLIPPED_AXES = {"horizontal": (-1,), "vertical": (-2,), "diagonal": (-2, -1)}


@MODELS.register_module()
class DetTTAModel(BaseTTAModel):
    """Merge scaled and flipped views of an image; arguments as ``BaseTTAModel``'s.

    1. Each view alone: its proposals go through the box heads on its own features, which gives
       every proposal a box and the probabilities of the classes.
    2. The boxes of all views, turned and scaled back, pass the threshold and the NMS of
       ``test_cfg.rcnn`` once, together, and the ``max_per_img`` best of them are the result. No
       view has an NMS of its own: Soft-NMS would lower the same score twice.
    3. These boxes, mapped into each view, go through the mask head on that view's features. The
       probabilities are turned back and averaged over the views; the mean is enlarged to the image
       and compared with ``mask_thr_binary`` once. Enlarging is linear, so that this is the mean
       at the size of the image.

    So does ViT-Adapter (``HybridTaskCascadeAug.aug_test_vote`` in its
    ``detection/mmdet_custom/models/detectors/htc_aug.py``), and EVA-02 for boxes
    (``GeneralizedRCNNWithTTA`` with ``keep_all_before_merge`` in its ``EVA-02/det``), whose masks
    come from one view. Both also drop boxes of some sizes at some scales, which this does not.
    mmdet 2's HTC merges proposals and averages the boxes that the views make of each; detectron2
    merges what is left after an NMS in each view.

    A single view gives what the detector gives without this, bit for bit. One view's features are
    held at a time, so that memory does not grow with the number of views, but for their images and
    boxes (1,000 with 80 classes: 0.3 MB). Features are computed a second time for the masks, save
    those of the last view.

    Raises:
        InputError: The detector has another RoI head than :class:`ViTDetCascadeRoIHead`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        roi_head = getattr(self.module, "roi_head", None)
        if not isinstance(roi_head, ViTDetCascadeRoIHead):
            raise InputError(
                f"the model is a {type(self.module).__name__} with the RoI head "
                f"{type(roi_head).__name__}; expected mmbeit3.ViTDetCascadeRoIHead, whose views "
                "DetTTAModel merges: test without augmentation"
            )

    def test_step(self, data: dict[str, list]) -> list[DetDataSample]:
        """Run the views of a batch one after the other and merge them.

        Args:
            data: ``inputs`` and ``data_samples``, each a list of views, which are lists of images.
                The samples have ``scale_factor``, ``img_shape``, ``flip`` and ``flip_direction``.

        Returns:
            The samples of the first view, with ``pred_instances`` in pixels of the image as read.

        Raises:
            InputError: A sample does not say whether its view is flipped.
        """
        roi_head, last = self.module.roi_head, len(data["inputs"]) - 1
        # Boxes are merged where the detector alone would: with masks in pixels of its input.
        frames = [
            sample.scale_factor if roi_head.with_mask else (1.0, 1.0)
            for sample in data["data_samples"][0]
        ]
        found: list[list[InstanceData]] = []
        first: list[DetDataSample] = []
        for index in range(last + 1):
            levels: Levels = ()  # make room before the next are computed
            levels, samples = self._run_tower(data, index)
            first = first or samples
            found.append(self._candidates(levels, samples, frames))
        results = [
            select_boxes(one.bboxes, one.scores, roi_head.test_cfg)
            for one in map(InstanceData.cat, zip(*found, strict=True))
        ]
        if roi_head.with_mask:
            metas = [sample.metainfo for sample in first]
            if not any(map(len, results)):
                results = roi_head.predict_mask(levels, metas, results, rescale=True)
                return self.module.add_pred_to_datasample(first, results)
            totals = self._masks(levels, samples, results, frames)
            for index in range(last):
                levels = ()
                levels, samples = self._run_tower(data, index)
                masks = self._masks(levels, samples, results, frames)
                for total, one in zip(totals, masks, strict=True):
                    total += one
            head = roi_head.mask_head
            channels = 1 if head.class_agnostic else head.num_classes
            results = head.predict_by_feat(
                [total.div_(last + 1)[:, None].expand(-1, channels, -1, -1) for total in totals],
                results,
                metas,
                roi_head.test_cfg,
                rescale=True,
                activate_map=True,
            )
        return self.module.add_pred_to_datasample(first, results)

    def merge_preds(self, data_samples_list: list[list[DetDataSample]]) -> list[DetDataSample]:
        """Not possible: boxes are merged before any NMS, see :meth:`test_step`."""
        raise NotImplementedError("results of views cannot be merged after their NMS: test_step()")

    def _run_tower(self, data: dict[str, list], index: int) -> tuple[Levels, list[DetDataSample]]:
        """Pyramid levels (B, C, H_l, W_l) and samples of a view."""
        view = {key: views[index] for key, views in data.items()}
        view = self.module.data_preprocessor(view, False)
        if any("flip" not in sample for sample in view["data_samples"]):
            raise InputError(
                "the samples of the views have no 'flip'; expected it and 'flip_direction' in "
                "meta_keys of the tta_pipeline's PackDetInputs, and a RandomFlip in every view, of "
                "prob=0.0 where it is not flipped"
            )
        return self.module.extract_feat(view["inputs"]), view["data_samples"]

    def _candidates(
        self, levels: Levels, samples: list[DetDataSample], frames: Sequence[Scale]
    ) -> list[InstanceData]:
        """Boxes (N, 4) of the last stage and all scores (N, classes + 1), by image."""
        metas = [sample.metainfo for sample in samples]
        proposals = self.module.rpn_head.predict(levels, samples, rescale=False)
        results = self.module.roi_head.predict_bbox(levels, metas, proposals, rcnn_test_cfg=None)
        for one, meta, frame in zip(results, metas, frames, strict=True):
            one.bboxes = _scaled(_flipped(one.bboxes, meta), meta["scale_factor"], frame)
        return results

    def _masks(
        self,
        levels: Levels,
        samples: list[DetDataSample],
        results: list[InstanceData],
        frames: Sequence[Scale],
    ) -> list[Tensor]:
        """Probabilities (N, h, w) of the masks of merged boxes in one view, by image."""
        metas = [sample.metainfo for sample in samples]
        boxes = [
            _flipped(_scaled(one.bboxes, frame, meta["scale_factor"]), meta)
            for one, meta, frame in zip(results, metas, frames, strict=True)
        ]
        masks = self.module.roi_head.mask_probabilities(levels, boxes, [r.labels for r in results])
        return [
            one.flip(FLIPPED_AXES[meta["flip_direction"]]) if meta["flip"] else one
            for one, meta in zip(masks, metas, strict=True)
        ]


def _flipped(boxes: Tensor, meta: dict[str, Any]) -> Tensor:
    """Turn boxes (N, 4) as a view is turned, which also turns them back."""
    if not meta["flip"]:
        return boxes
    return bbox_flip(boxes, meta["img_shape"], meta["flip_direction"])


def _scaled(boxes: Tensor, of: Scale, to: Scale) -> Tensor:
    """Take boxes (N, 4) from one scale of the image to another."""
    return scale_boxes(boxes, [new / old for old, new in zip(of, to, strict=True)])
