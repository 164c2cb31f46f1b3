"""How well a pretraining tells the masked tokens of held-out samples, counted exactly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmbeit3.evaluation.samples import GatheredMetric, check_complete, once_each
from mmbeit3.registry import METRICS
from mmbeit3.utils import InputError

PARTS = ("image", "text", "pair_image", "pair_text", "blind_pair_text")
WHY = "a share of fewer samples is not comparable"


class _Sample(NamedTuple):
    """What a model told of a sample's masked tokens, by the part that they are of."""

    id: int | str
    path: str
    sample_idx: int | None
    tokens: dict[str, dict[str, Any]]


@METRICS.register_module()
class MaskedTokenMetric(GatheredMetric):
    """Share of masked tokens told rightly, and their mean loss, of each part.

    For each of ``image``, ``text``, ``pair_image`` and ``pair_text`` that the data have it reports
    ``masked/acc_<part>``, a mean over all masked tokens from 0 to 1; ``masked/loss_<part>``, their
    mean cross-entropy without ``loss_weights``; and of images ``masked/codes_used_<part>``, the
    share of all codes that the masked patches of the whole set have, and ``masked/guess_<part>``,
    the share of the masked patches with the most frequent code: a model with no better
    ``acc_<part>`` tells nothing of what is hidden. ``blind_pair_text`` are the words of
    ``pair_text``, told with all patches masked: a model with no better ``acc_pair_text`` reads
    nothing from the images. Samples of all processes are gathered, and each counts once.

    Args:
        collect_device (str): "cpu" or "gpu"; results are gathered as objects in either case.
            Defaults to "cpu".
        prefix (str, optional): In front of the names. Defaults to None, "masked".

    Raises:
        InputError: Samples are missing, or were not masked.
    """

    default_prefix = "masked"
    headlines = tuple(
        f"{what}_{part}"
        for part in PARTS
        for what in (("acc", "guess") if part.endswith("image") else ("acc",))
    )  # what a terminal shows of a validation
    results: list[_Sample]

    @classmethod
    def metric_names(
        cls, settings: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> list[str]:
        """Find the names, without prefix, of the metrics that an evaluation of all parts gives.

        Args:
            settings: Not used.
            classes: Not used.
        """
        names = [f"{what}_{part}" for what in ("acc", "loss") for part in PARTS]
        images = [part for part in PARTS if part.endswith("image")]
        return [*names, *(f"{what}_{part}" for what in ("codes_used", "guess") for part in images)]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the counts of a batch.

        Args:
            data_batch: Not used.
            data_samples: The samples, with ``sample_idx`` and ``masked_tokens``.
        """
        for sample in data_samples:
            number, tokens = sample.get("sample_idx"), sample.get("masked_tokens")
            path = sample.get("img_path") or f"sample {number}"
            if number is None or not tokens:
                raise InputError(
                    f"{path} has no masked_tokens or no sample_idx: MaskedTokenMetric is for "
                    "models such as mmbeit3.BEiT3Pretraining and data of "
                    "mmbeit3.PretrainingDataset with test_mode=True"
                )
            self.results.append(_Sample(number, path, number, tokens))

    def compute_metrics(self, results: list[_Sample], size: int | None = None) -> dict[str, float]:
        """Count.

        Args:
            results: The samples, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name.
        """
        samples = once_each(results, "sample")
        check_complete(samples, size, "sample", WHY)
        found: dict[str, float] = {}
        for part in PARTS:
            tokens = [sample.tokens[part] for sample in samples if part in sample.tokens]
            count = sum(each["count"] for each in tokens)
            if not count:
                continue
            found[f"acc_{part}"] = sum(each["right"] for each in tokens) / count
            found[f"loss_{part}"] = math.fsum(each["loss"] for each in tokens) / count
            if part.endswith("image"):
                found[f"codes_used_{part}"] = share_of_codes(tokens)
                codes = Counter(code for each in tokens for code in each["codes"])
                found[f"guess_{part}"] = codes.most_common(1)[0][1] / count
        return found


def share_of_codes(samples: Sequence[Mapping[str, Any]]) -> float:
    """Which share of ``num_codes`` the ``codes`` of all samples together are."""
    used = {code for sample in samples for code in sample["codes"]}
    return len(used) / samples[0]["num_codes"]
