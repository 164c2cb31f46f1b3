"""What models that are given a text with an image have in common: they say which texts they cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from typing import Any

from mmbeit3.datasets.checks.captions import describe_long
from mmbeit3.inference.asked_images import AskedSource
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.inference.result import Failed, Predicted
from mmbeit3.utils import warn
from mmbeit3.utils.text_files import printable


class AskedModel(Inferencer):
    """A model with trained weights that texts are given to; see :class:`Inferencer`."""

    model: Any

    def run(
        self, sources: Iterable[Source], batch_size: int, pool: Executor, num_workers: int
    ) -> Iterator[Predicted | Failed]:
        """Predict images, see :meth:`Inferencer.run`, after a warning of texts that are cut."""
        sources = list(sources)
        tokenizer = self.model.data_preprocessor.tokenizer
        texts = list(dict.fromkeys(one.text for one in sources if isinstance(one, AskedSource)))
        if long := describe_long(texts, tokenizer.lengths(texts), tokenizer.max_length):
            warn(printable(long))
        return super().run(sources, batch_size, pool, num_workers)
