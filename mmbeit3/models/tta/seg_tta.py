"""Test-time augmentation of segmentors: the views' probabilities are averaged."""

from __future__ import annotations

from typing import Any

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

    mmengine's ``test_step`` keeps the scores of all views until the last one is done: of 14 views
    of a photograph of 6 megapixels with 150 classes they take 50 GB. Here a view is added to the
    sum as soon as it is done, so that only its scores and the sum are there.
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
        samples, totals = self._run_view(data, 0)
        for index in range(1, num_views):
            self._add_view(totals, data, index)
        for sample, total in zip(samples, totals, strict=True):
            self._set_result(sample, total.div_(num_views))
        return samples

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image: one list of them for each, unflipped and at its size."""
        for views in data_samples_list:
            total = sum(self._probabilities(view.seg_logits.data) for view in views)
            self._set_result(views[0], total / len(views))
        return [views[0] for views in data_samples_list]

    def _run_view(
        self, data: dict[str, list], index: int
    ) -> tuple[list[SegDataSample], list[Tensor]]:
        """Return the samples of a view, and their probabilities, which they hold no longer."""
        view: dict[str, Any] = {key: views[index] for key, views in data.items()}
        samples = self.module.test_step(view)
        return samples, [self._take_probabilities(sample) for sample in samples]

    def _add_view(self, totals: list[Tensor], data: dict[str, list], index: int) -> None:
        # A method of its own: what it names is let go before the next view is run.
        _, found = self._run_view(data, index)
        for total, probabilities in zip(totals, found, strict=True):
            total += probabilities

    def _take_probabilities(self, sample: SegDataSample) -> Tensor:
        scores = sample.seg_logits.data
        del sample.seg_logits
        return self._probabilities(scores)

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
            labels = mean.argmax(dim=0, keepdim=True)
        else:
            labels = (mean > self.module.decode_head.threshold).to(mean)
        sample.set_data({"pred_sem_seg": PixelData(data=labels)})
        sample.set_data({"seg_logits": PixelData(data=mean)})
