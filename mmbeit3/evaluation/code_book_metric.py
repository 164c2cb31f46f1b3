"""How well an image tokenizer tells its teacher's features of held-out images, counted exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmbeit3.evaluation.masked_token_metric import WHY, share_of_codes
from mmbeit3.evaluation.samples import GatheredMetric, check_complete, once_each
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError


class _Image(NamedTuple):
    """The codes of an image, and how near its features are to the teacher's."""

    id: int | str
    path: str
    sample_idx: int | None
    codes: list[int]
    num_codes: int
    cosine: float | None


@METRICS.register_module()
class CodeBookMetric(GatheredMetric):
    """Cosine to the teacher's features, and share of the codes that images have.

    It reports ``codes/cosine``, the mean over all patches, where the tokenizer has a teacher, and
    ``codes/used``, the share of all codes that the patches of the whole set have. Images of all
    processes are gathered, and each counts once.

    Args:
        collect_device (str): "cpu" or "gpu"; results are gathered as objects in either case.
            Defaults to "cpu".
        prefix (str, optional): In front of the names. Defaults to None, "codes".

    Raises:
        InputError: Images are missing, or have no codes.
    """

    default_prefix = "codes"
    headlines = ("cosine", "used")  # what a terminal shows of a validation
    results: list[_Image]

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation gives.

        Args:
            settings: Not used.
            classes: Not used.
        """
        return list(cls.headlines)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the codes of a batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, with ``img_path``, ``codes``, ``num_codes`` and ``cosine``.
        """
        for sample in data_samples:
            path = sample.get("img_path")
            if path is None or "codes" not in sample:
                raise InputError(
                    f"{path or 'a sample'} has no codes or no img_path: CodeBookMetric is for "
                    "image tokenizers such as mmbeit3.VQKD"
                )
            index, cosine = sample.get("sample_idx"), sample.get("cosine")
            self.results.append(
                _Image(path, path, index, sample["codes"], sample["num_codes"], cosine)
            )

    def compute_metrics(self, results: list[_Image], size: int | None = None) -> dict[str, float]:
        """Count.

        Args:
            results: The images, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name.
        """
        images = once_each(results)
        check_complete(images, size, "image", WHY)
        cosines = [image.cosine for image in images if image.cosine is not None]
        found = {"cosine": math.fsum(cosines) / len(images)} if len(cosines) == len(images) else {}
        return found | {"used": share_of_codes([image._asdict() for image in images])}
