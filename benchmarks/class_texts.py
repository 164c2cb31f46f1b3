"""Memory and time of the texts of ImageNet's classes: ``python -m benchmarks.class_texts FILE``.

The 1,000 names in as many sentences each as ``--templates`` says, encoded at base size by random
weights, as :class:`mmbeit3.models.BEiT3TextClassifier` does before its first image.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time

import torch

from mmbeit3.datasets import imagenet_class_names
from mmbeit3.models import BEiT3TextClassifier
from mmbeit3.text.templates import TEMPLATES

WORDS = ("good", "bad", "bright", "dark", "large", "small", "clean", "old", "single", "nice")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tokenizer", help="beit3.spm")
    parser.add_argument("--templates", type=int, default=80, help="sentences a class (default 80)")
    parser.add_argument("--classes", type=int, default=1000, help="classes (default 1000)")
    parser.add_argument("--arch", default="base", help="size of the model (default base)")
    args = parser.parse_args()
    pairs = itertools.product(WORDS, TEMPLATES)
    sentences = [text.replace("{}", f"{word} {{}}") for word, text in pairs][: args.templates]
    sentences = ["{}"] if args.templates == 1 else sentences
    model = BEiT3TextClassifier(
        dict(type="mmbeit3.BEiT3Multiway", arch=args.arch),
        class_names=list(imagenet_class_names().values())[: args.classes],
        templates=sentences,
        data_preprocessor=dict(
            type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file=args.tokenizer)
        ),
    ).eval()
    tokens = []
    encode = model.encode_text
    model.encode_text = lambda ids, mask: tokens.append(ids.numel()) or encode(ids, mask)
    before, start = _peak(), time.perf_counter()
    with torch.no_grad():
        features = model.class_features()
    seconds = time.perf_counter() - start
    print(
        f"{len(features)} classes in {len(sentences)} sentences each: {len(tokens)} batches, "
        f"{sum(tokens)} tokens, {seconds:.0f} s on {torch.get_num_threads()} threads; memory of "
        f"the process before {before:.2f} GB, at most {_peak():.2f} GB"
    )


def _peak() -> float:
    """Largest resident memory of the process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
