"""The caption metric of configs: captions of all processes, scored once or written for a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log

from mmbeit3.datasets.checks.captions import CaptionedImage
from mmbeit3.evaluation.captions.java import check_java
from mmbeit3.evaluation.captions.scores import format_scores, score_captions, score_names
from mmbeit3.evaluation.samples import GatheredMetric, check_complete, once_each
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError, listed, warn
from mmbeit3.utils.terminal import Table
from mmbeit3.utils.whole_files import write_whole


class _Image(NamedTuple):
    """What a model wrote of an image, and what people did."""

    id: int | str
    path: str
    sample_idx: int | None
    texts: list[str]
    domain: str | None
    caption: str


@METRICS.register_module()
class CaptionMetric(GatheredMetric):
    """BLEU, ROUGE-L and CIDEr of captions, as :func:`mmbeit3.evaluation.caption_scores` has them.

    It reports ``caption/CIDEr``, ``ROUGE-L`` and ``BLEU-1`` to ``BLEU-4`` (papers print 100 times
    as much), the same of each domain of NoCaps as ``caption/in-domain/CIDEr``, and logs a table
    that names the tokenizer. Captions of all processes are gathered, and images that the sampler
    gave out twice count once.

    Samples have ``image_id``, ``img_path``, ``texts`` (what people wrote) and ``pred_caption``.
    Without ``texts``, as in NoCaps' test, nothing is scored and ``out_file`` is what a test is for.

    Args:
        java (bool): Whether to split words by the official tokenizer, and to add METEOR; needs Java
            and pycocoevalcap. Defaults to False.
        out_file (str, optional): Where to write the results, a JSON list of ``image_id`` and
            ``caption`` as the servers of COCO captions and NoCaps take it. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'; results are gathered as objects in either case.
            Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names. Defaults to None, 'caption'.

    Raises:
        InputError: Images are missing, an id stands for two, images have no texts and there is no
            ``out_file``, or Java is wanted and absent.
    """

    default_prefix = "caption"
    headlines = ("CIDEr", "BLEU-4")  # what a terminal shows of a validation
    results: list[_Image]

    def __init__(
        self,
        java: bool = False,
        out_file: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        if java:
            check_java()
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.java = java
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
        return score_names(bool(settings.get("java")))

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the captions of one batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, see the class.
        """
        for sample in data_samples:
            number, texts = sample["image_id"], list(sample.get("texts") or ())
            path = sample.get("img_path") or f"image {number}"
            caption = sample.get("pred_caption")
            if not isinstance(caption, str):
                raise InputError(
                    f"{path} has the pred_caption {caption!r}, expected a text: CaptionMetric is "
                    "for models that write captions, such as mmbeit3.BEiT3Captioning"
                )
            if not texts and self.out_file is None:
                raise InputError(
                    f"{path} has no caption to compare with: write the results to a file (--out of "
                    "the command test, out_file of the metric), or give ann_file with captions"
                )
            index, domain = sample.get("sample_idx"), sample.get("domain")
            self.results.append(_Image(number, path, index, texts, domain, caption))

    def compute_metrics(self, results: list[_Image], size: int | None = None) -> dict[str, float]:
        """Score what was gathered, and write it if ``out_file`` says where.

        Args:
            results: The images, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name; none if the images have no texts.
        """
        images = once_each(results)
        check_complete(images, size, "image", "scores of fewer images are not comparable")
        if self.out_file is not None:
            write_results(self.out_file, {image.id: image.caption for image in images})
        empty = [image.path for image in images if not image.caption.strip()]
        if empty:
            warn(f"{len(empty):,} of {len(images):,} captions are empty: {listed(empty, 3)}")
        without = [image.path for image in images if not image.texts]
        if len(without) == len(images):
            name = Path(str(self.out_file)).name
            print_log(f"the images have no captions: {name} is written, nothing scored", "current")
            return {}
        if without:
            raise InputError(
                f"{len(without):,} of the {len(images):,} images have no caption to compare with, "
                f"the first is {without[0]}: leave require_captions of the data set out, so that "
                "it takes those with captions alone"
            )
        scores = score_captions(
            [CaptionedImage(i.id, i.path, i.path, i.texts, domain=i.domain) for i in images],
            [image.caption for image in images],
            self.java,
        )
        print_log(Table(f"\n{format_scores(scores)}"), "current")
        names = score_names(self.java)
        return {name: scores[name] for name in names} | {
            f"{domain}/{name}": values[name]
            for domain, values in scores.get("domains", {}).items()
            for name in names
        }


def write_results(path: str | Path, captions: Mapping[int | str, str]) -> None:
    """Write captions as the servers of COCO captions and NoCaps take them.

    Args:
        path: The JSON file.
        captions: Captions by image id.
    """
    entries = [{"image_id": number, "caption": caption} for number, caption in captions.items()]
    write_whole(path, json.dumps(entries, ensure_ascii=False, indent=0) + "\n")
