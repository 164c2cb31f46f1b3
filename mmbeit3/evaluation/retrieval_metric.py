"""The retrieval metric of configs: features of all processes, scored once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmbeit3.evaluation.retrieval import KS, feature_ranks, feature_recall, recall_names
from mmbeit3.evaluation.samples import GatheredMetric, check_complete, once_each
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole


class _Image(NamedTuple):
    """What a model made of an image and its texts."""

    id: int | str
    path: str
    sample_idx: int | None
    text_ids: list
    image_feature: Tensor
    text_features: Tensor


@METRICS.register_module()
class RetrievalMetric(GatheredMetric):
    """Recall at 1, 5 and 10 of retrieval, text by image (TR) and image by text (IR), in percent.

    It reports ``TR@k``, ``IR@k`` and ``mean_recall``, the mean of these six, as
    :func:`mmbeit3.evaluation.retrieval_recall` defines them. The features of all processes are
    gathered, images that the sampler gave out twice count once, and the product is computed in
    float32: the numbers are those of one process, bit for bit.

    Samples have ``image_id``, ``img_path``, ``text_ids``, ``image_feature`` (D,) and
    ``text_features`` (M, D).

    Args:
        fold_size (int, optional): Also report the mean over folds of so many images each, in the
            order of the data set, as ``fold1k/TR@1`` (of 1,000) and so on: COCO's "1K" numbers,
            which are higher than those of all images. Defaults to None, not reported.
        out_file (str, optional): Where to write as JSON what is found: of each of ``images`` and
            ``texts`` the ``rank`` of what belongs to it, 1 if that comes first, and what does come
            ``first``, a ``text_id`` or an ``image_id``. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'; results are gathered as objects in either case.
            Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to None, 'retrieval'.

    Raises:
        InputError: Images are missing, an id stands for two images or texts, a feature is NaN, or
            the images do not divide into the folds.
    """

    default_prefix = "retrieval"
    results: list[_Image]

    def __init__(
        self,
        fold_size: int | None = None,
        out_file: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        if fold_size is not None and fold_size < 2:
            raise InputError(f"fold_size is {fold_size}, expected a number of images, such as 1000")
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.fold_size = fold_size
        self.out_file = out_file

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Arguments of the metric, as a config has them.
            classes: Not used.
        """
        fold_size = settings.get("fold_size")
        folds = [f"{fold_name(fold_size)}/{name}" for name in recall_names()] if fold_size else []
        return [*recall_names(), *folds]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features of one batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, see the class.
        """
        for sample in data_samples:
            feature, features = sample["image_feature"], sample["text_features"]
            ids = [getattr(number, "item", lambda n=number: n)() for number in sample["text_ids"]]
            path = sample.get("img_path") or f"image {sample['image_id']}"
            if len(ids) != len(features) or not ids:
                raise InputError(
                    f"{path} has {len(ids)} texts and {len(features)} features of texts; expected "
                    "as many, one at least: evaluation needs a data set with test_mode=True"
                )
            self.results.append(
                _Image(
                    sample["image_id"],
                    path,
                    sample.get("sample_idx"),
                    ids,
                    feature.detach().float().cpu(),
                    features.detach().float().cpu(),
                )
            )

    def compute_metrics(self, results: list[_Image], size: int | None = None) -> dict[str, float]:
        """Score what was gathered.

        Args:
            results: The images, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name, in percent.
        """
        images = once_each(results)
        check_complete(images, size, "image", "the recall of fewer images would be higher")
        _check_texts(images)
        metrics = _score(images)
        if self.out_file is not None:
            write_whole(self.out_file, json.dumps(_rankings(images)) + "\n")
        if self.fold_size:
            metrics |= _score_folds(images, self.fold_size)
        return metrics


def fold_name(size: int) -> str:
    """What folds of so many images are called: ``fold1k`` of 1,000."""
    return f"fold{size // 1000}k" if size % 1000 == 0 else f"fold{size}"


def _score_folds(images: list[_Image], fold_size: int) -> dict[str, float]:
    count, rest = divmod(len(images), fold_size)
    if rest or not count:
        raise InputError(
            f"{len(images)} images do not divide into folds of {fold_size}: set fold_size of the "
            "metric to a divisor, or leave it out"
        )
    starts = range(0, len(images), fold_size)
    folds = [_score(images[start : start + fold_size]) for start in starts]
    name = fold_name(fold_size)
    return {f"{name}/{key}": sum(fold[key] for fold in folds) / count for key in folds[0]}


def _check_texts(images: list[_Image]) -> None:
    texts: dict[int | str, _Image] = {}
    for image in images:
        for number in image.text_ids:
            first = texts.setdefault(number, image)
            if first is not image or image.text_ids.count(number) > 1:
                raise InputError(
                    f"the text id {number} is there twice, of {first.path} and of {image.path}: "
                    "number the texts anew"
                )


def _check_widths(images: list[_Image]) -> None:
    first = images[0]
    width = first.image_feature.shape[-1]
    for image in images:
        found = tuple(image.image_feature.shape), tuple(image.text_features.shape)
        if found != ((width,), (len(image.text_ids), width)):
            raise InputError(
                f"the features of {image.path} and of its texts have the shapes {found[0]} and "
                f"{found[1]}; expected ({width},) and ({len(image.text_ids)}, {width}), of one "
                f"width as those of {first.path}: does the model project both to one space?"
            )


def _rankings(images: list[_Image]) -> dict[str, list[dict[str, Any]]]:
    """What :class:`RetrievalMetric` writes."""
    ranks = feature_ranks(*_features(images))
    text_ids = [number for image in images for number in image.text_ids]
    of_images = zip(images, ranks.of_images.tolist(), ranks.first_texts.tolist(), strict=True)
    of_texts = zip(text_ids, ranks.of_texts.tolist(), ranks.first_images.tolist(), strict=True)
    return {
        "images": [
            {"image_id": image.id, "text_ids": image.text_ids}
            | {"rank": ahead + 1, "first": text_ids[first]}
            for image, ahead, first in of_images
        ],
        "texts": [
            {"text_id": number, "rank": ahead + 1, "first": images[first].id}
            for number, ahead, first in of_texts
        ],
    }


def _score(images: list[_Image]) -> dict[str, float]:
    return feature_recall(*_features(images), KS)


def _features(images: list[_Image]) -> tuple[Tensor, Tensor, Tensor]:
    """Features of the images and of their texts, and which belong together."""
    counts = torch.tensor([len(image.text_ids) for image in images])
    _check_widths(images)
    rows = torch.arange(len(images)).repeat_interleave(counts)
    features = torch.stack([image.image_feature for image in images])
    texts = torch.cat([image.text_features for image in images])
    for kind, values, owners in (("image", features, range(len(images))), ("text", texts, rows)):
        wrong = (~values.isfinite().all(1)).nonzero()[:, 0]
        if len(wrong):
            path = images[int(owners[int(wrong[0])])].path
            raise InputError(
                f"{len(wrong)} of {len(values)} {kind} features are not finite, the first is of "
                f"{path}: did the training diverge?"
            )
    return features, texts, torch.stack([rows, torch.arange(len(rows))], 1)
