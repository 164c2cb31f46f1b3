"""Names of classes as texts: whether they can be told apart, and the feature of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.text import Tokenizer
from mmbeit3.text.templates import SLOT
from mmbeit3.utils import InputError


class TextEncoder(Protocol):
    """A model with a text tower and its head."""

    language_head: nn.Linear

    def encode_text(self, ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Texts (M, N) of ids, True in the mask at padding -> (M, D) features of length 1."""


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Make sure that class names are texts, each once.

    Args:
        names (Sequence[str]): The names.

    Returns:
        tuple[str, ...]: They, without white space at their ends.

    Raises:
        InputError: They are no list of texts, one is empty, or there twice.
    """
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_list or not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"the class names are {names!r:.200}; expected a list of texts, such as "
            '["dog", "fire hydrant"]'
        )
    stripped = tuple(name.strip() for name in names)
    if "" in stripped:
        raise InputError(
            f"class name {stripped.index('')} of {len(names)} is empty; expected a word at least: "
            "leave it out"
        )
    if twice := sorted(name for name, number in Counter(stripped).items() if number > 1):
        raise InputError(
            f"class names are there more than once: {', '.join(twice[:5])}; expected each once: "
            "leave the others out, or say what tells them apart"
        )
    return stripped


def check_told_apart(names: Sequence[str], templates: Sequence[str], tokenizer: Tokenizer) -> None:
    """Make sure that the sentences of no two classes are the same to a tokenizer.

    Args:
        names (Sequence[str]): Names of the classes.
        templates (Sequence[str]): Sentences with ``{}`` for the name.
        tokenizer (Tokenizer): What makes ids of them.

    Raises:
        InputError: They are.
    """
    first: dict[tuple[tuple[int, ...], ...], str] = {}
    for name in names:
        ids = tuple(tuple(tokenizer.encode(t.replace(SLOT, name))) for t in templates)
        if first.setdefault(ids, name) != name:
            raise InputError(
                f"the classes {first[ids]!r} and {name!r} have the same tokens, as letters that "
                f"{tokenizer.file} does not know are all one to it, and words after its "
                f"{tokenizer.max_length} tokens are cut: give one of them another name"
            )


def encode_classes(
    names: Sequence[str],
    templates: Sequence[str],
    tokenizer: Tokenizer,
    model: TextEncoder,
    size: int = 256,
) -> Tensor:
    """Encode classes: the mean of the features of their sentences, of length 1 again.

    Args:
        names (Sequence[str]): K names.
        templates (Sequence[str]): Sentences with ``{}`` for the name.
        tokenizer (Tokenizer): What makes ids of them.
        model (TextEncoder): What makes features of these.
        size (int): Texts, of nearly the same length, that are encoded at once. Defaults to 256.

    Returns:
        Tensor: (K, D), in float32 at least.
    """
    texts = [template.replace(SLOT, name) for name in names for template in templates]
    weight = model.language_head.weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    total = weight.new_zeros(len(names), len(weight), dtype=dtype)
    for places, ids, padding_mask in tokenizer.batches(texts, size):
        # without waiting for what a GPU still has to do
        ids, padding_mask, owners = (
            part.to(weight.device, non_blocking=True)
            for part in (ids, padding_mask, torch.tensor(places) // len(templates))
        )
        features = model.encode_text(ids, padding_mask)
        total = total.index_add(0, owners, features.to(dtype))
    return total if len(templates) == 1 else F.normalize(total, dim=-1)
