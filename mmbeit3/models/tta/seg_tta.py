"""Test-time augmentation of segmentors: the views' probabilities are averaged."""

from __future__ import annotations

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmbeit3.registry import MODELS


@MODELS.register_module()
class SegTTAModel(BaseTTAModel):
    """Average the probabilities of the views of an image; arguments as ``BaseTTAModel``'s.

    mmseg's own takes a softmax of whatever the head returns. Mask2Former's scores are probabilities
    already: another softmax would flatten them, so that no view could outvote another.
    """

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image: one list of them for each, unflipped and at its size."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: list[SegDataSample]) -> SegDataSample:
        total = self._probabilities(views[0].seg_logits.data)
        for view in views[1:]:
            total = total + self._probabilities(view.seg_logits.data)
        mean = total / len(views)
        merged = views[0]
        if len(mean) > 1:
            labels = mean.argmax(dim=0, keepdim=True)
        else:
            labels = (mean > self.module.decode_head.threshold).to(mean)
        merged.set_data({"pred_sem_seg": PixelData(data=labels)})
        merged.set_data({"seg_logits": PixelData(data=mean)})
        return merged

    def _probabilities(self, scores: Tensor) -> Tensor:
        """(num_classes, H, W) scores of the head as probabilities, in float32."""
        scores = scores.float()
        if getattr(self.module.decode_head, "predicts_probabilities", False):
            return scores
        # Of a single channel mmseg's segmentor has taken the sigmoid already.
        return scores.softmax(dim=0) if len(scores) > 1 else scores
