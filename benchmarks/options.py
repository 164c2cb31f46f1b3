"""What the command line says of all cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How large the work is, and where it runs.

    Attributes:
        device: A device of PyTorch. Defaults to "cpu".
        arch: Size of the tower. Defaults to "base".
        size: Side of an image in pixels. Defaults to 1024.
        coco: Folder of a COCO data set, in MMDetection's layout. Defaults to "data/coco".
        ade20k: Folder of ADE20K, in MMSegmentation's layout. Defaults to
            "data/ade/ADEChallengeData2016".
        captions: Captions in the format of COCO. Defaults to
            "data/coco/annotations/captions_val2017.json".
        tokenizer: A SentencePiece model. Defaults to "beit3.spm".
        num_images: Images that whole models work on. Defaults to 4.
    """

    device: str = "cpu"
    arch: str = "base"
    size: int = 1024
    coco: Path = Path("data/coco")
    ade20k: Path = Path("data/ade/ADEChallengeData2016")
    captions: Path = Path("data/coco/annotations/captions_val2017.json")
    tokenizer: Path = Path("beit3.spm")
    num_images: int = 4
