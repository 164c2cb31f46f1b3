"""Generated scenes of shapes, each drawn when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from mmbeit3.datasets.shape_captions import CAPTIONS, write_sentences
from mmbeit3.datasets.shapes import (
    SPLITS,
    check_scenes,
    draw_sample,
    encode_image,
    find_things,
    sentence_generator,
)
from mmbeit3.datasets.transforms.loading import content_loader
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

NO_END = 2**62  # scenes


@DATASETS.register_module()
class ShapesDataset(Dataset):
    """Scenes of shapes without files: scene i of a seed is drawn when it is asked for.

    Its image and its sentences are, to the bit, those that ``mmbeit3 make-shapes`` writes with the
    same seed and size for its image i, JPEG file and all; the pipeline begins with
    :class:`mmbeit3.datasets.LoadImageFromFile`. With ``captions`` an item is a pair: a scene with
    one of its sentences, drawn where augmentation is drawn, or with ``test_mode`` all of them, in
    the keys ``texts`` and ``text_ids``.

    Args:
        num_scenes (int, optional): How many there are. Defaults to None: no end, so that no scene
            comes twice; training goes through them from the first on.
        captions (bool): Whether an item has sentences, too. Defaults to False.
        size (int): Width and height in pixels. Defaults to 128.
        seed (int): See :func:`mmbeit3.datasets.make_shapes`. Defaults to 0.
        split (str): 'train' or 'val', whose scenes are others. Defaults to 'train'.
        plain (bool): See there. Defaults to False.
        test_mode (bool): Whether items have all sentences. Defaults to False.
        pipeline (Sequence[dict]): Transforms. Defaults to none.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        num_scenes: int | None = None,
        captions: bool = False,
        size: int = 128,
        seed: int = 0,
        split: str = "train",
        plain: bool = False,
        test_mode: bool = False,
        pipeline: Sequence[Any] = (),
    ) -> None:
        if num_scenes is not None and not 1 <= num_scenes < NO_END:
            raise InputError(f"num_scenes is {num_scenes}; expected 1 or more, or None for no end")
        if split not in SPLITS:
            raise InputError(f"split is {split!r}; expected {' or '.join(map(repr, SPLITS))}")
        check_scenes(size, seed)
        self.num_scenes, self.captions, self.plain = num_scenes, captions, plain
        self.size, self.seed, self.split, self.test_mode = size, seed, split, test_mode
        self.pipeline = Compose(list(pipeline))
        content_loader(self.pipeline.transforms)
        self.metainfo: dict[str, Any] = {}

    @property
    def endless(self) -> bool:
        """bool: Whether there is a scene of every number."""
        return self.num_scenes is None

    @property
    def source(self) -> str:
        """str: What to call the data in messages."""
        return f"generated scenes of seed {self.seed}{', without end' if self.endless else ''}"

    def __len__(self) -> int:
        return self.num_scenes or NO_END

    def __getitem__(self, index: int) -> Any:
        """Draw a scene, and send it through the pipeline."""
        return self.pipeline(self.read(index))

    def read(self, index: int) -> dict[str, Any]:
        """Draw a scene.

        Args:
            index (int): Its number, from 0 on.

        Returns:
            dict: ``img_bytes``, its JPEG file; ``img_path``, what to call it; ``image_id`` and
            ``sample_idx``, its number; and the sentences.

        Raises:
            IndexError: There is no such scene.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        split = SPLITS.index(self.split)
        rng = np.random.default_rng([self.seed, split, index])
        drawing = draw_sample(rng, self.size, self.plain)
        item = {
            "img_bytes": encode_image(drawing),
            "img_path": f"scene {index} of seed {self.seed}",
            "image_id": index,
            "sample_idx": index,
        }
        if not self.captions:
            return item
        rng = sentence_generator(self.seed, split, index)
        texts = [one.text for one in write_sentences(find_things(drawing), rng)]
        text_ids = [index * CAPTIONS + number for number in range(len(texts))]
        if not self.test_mode:
            chosen = int(np.random.randint(len(texts)))
            texts, text_ids = [texts[chosen]], [text_ids[chosen]]
        return item | {"texts": texts, "text_ids": text_ids}
