"""Test-time augmentation of segmentors: the views' probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmbeit3.models.segmentors import EncoderDecoder
from mmbeit3.registry import MODELS

# the number of an image in the batch, rows of it, and their scores (num_classes, rows, W)
Band = tuple[int, slice, Tensor]


@MODELS.register_module()
class SegTTAModel(BaseTTAModel):
    """Average the probabilities of the views of an image; arguments as ``BaseTTAModel``'s.

    mmseg's own takes a softmax of whatever the head returns. Mask2Former's scores are probabilities
    already: another softmax would flatten them, so that no view could outvote another.

    mmengine's ``test_step`` keeps the scores of all views until the last one is done: of 14 views
    of a photograph of 6 megapixels with 150 classes they take 50 GB. Here a view is added to the
    sum as soon as it is done; of :class:`mmbeit3.models.segmentors.EncoderDecoder`, whose scores
    come in bands of rows, every band. Of that model no more than the sum and a band is there.
    """

    def test_step(self, data: dict[str, list]) -> list[SegDataSample]:
        """Run the views of a batch one after the other and merge them.

        Args:
            data: ``inputs`` and ``data_samples``, each a list of views, which are lists of images.

        Returns:
            The samples of the first view, with the merged ``seg_logits`` (num_classes, H, W) and
            ``pred_sem_seg`` (1, H, W).
        """
        num_views = len(data["inputs"])
        totals: dict[int, Tensor] = {}
        samples = self._add_view(totals, data, 0)
        for index in range(1, num_views):
            self._add_view(totals, data, index)
        for image, sample in enumerate(samples):
            self._set_result(sample, totals.pop(image).div_(num_views))
        return samples

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image: one list of them for each, unflipped and at its size."""
        for views in data_samples_list:
            total = sum(self._probabilities(view.seg_logits.data) for view in views)
            self._set_result(views[0], total / len(views))
        return [views[0] for views in data_samples_list]

    def _add_view(
        self, totals: dict[int, Tensor], data: dict[str, list], index: int
    ) -> list[SegDataSample]:
        """Add the probabilities of a view to the sum of each image; return its samples."""
        samples, bands = self._run({key: views[index] for key, views in data.items()})
        for image, rows, scores in bands:
            if image not in totals:
                size = samples[image].get("ori_shape", scores.shape[1:])
                totals[image] = scores.new_zeros((len(scores), *size), dtype=torch.float32)
            totals[image][:, rows] += self._probabilities(scores)
        return samples

    def _run(self, view: dict[str, Any]) -> tuple[list[SegDataSample], Iterator[Band]]:
        """Run a view: its samples, and the scores, which they do not hold."""
        if not isinstance(self.module, EncoderDecoder):
            samples = self.module.test_step(view)
            return samples, ((i, slice(None), _take(s)) for i, s in enumerate(samples))
        view = self.module.data_preprocessor(view, False)
        samples = view["data_samples"]
        metas = [sample.metainfo for sample in samples]
        return samples, self.module.score_bands(view["inputs"], metas)

    def _probabilities(self, scores: Tensor) -> Tensor:
        """(num_classes, H, W) scores of the head as probabilities, in float32."""
        scores = scores.float()
        if getattr(self.module.decode_head, "predicts_probabilities", False):
            return scores
        # Of a single channel mmseg's segmentor has taken the sigmoid already.
        return scores.softmax(dim=0) if len(scores) > 1 else scores

    def _set_result(self, sample: SegDataSample, mean: Tensor) -> None:
        """Put probabilities (num_classes, H, W) and the classes that they speak for in place."""
        if len(mean) > 1:
            labels = mean.max(dim=0, keepdim=True).indices  # faster than argmax()
        else:
            labels = (mean > self.module.decode_head.threshold).to(mean)
        sample.set_data({"pred_sem_seg": PixelData(data=labels)})
        sample.set_data({"seg_logits": PixelData(data=mean)})


def _take(sample: SegDataSample) -> Tensor:
    """Scores of a sample, which no longer holds them."""
    scores = sample.seg_logits.data
    del sample.seg_logits
    return scores
