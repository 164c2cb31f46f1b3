"""Names of the 1,000 classes of ImageNet, each one a text of its own."""

from __future__ import annotations

from functools import cache

# WordNet's first word for these is that of another class, too, at least in lower case: a model that
# reads names could not tell them apart.
LONGER_NAMES = {
    "n02012849": "crane bird",
    "n03126707": "construction crane",
    "n02113186": "Cardigan Welsh corgi",
    "n02963159": "cardigan jacket",
    "n03710637": "maillot tights",
    "n03710721": "maillot tank suit",
}


@cache
def imagenet_class_names() -> dict[str, str]:
    """Name the classes of ImageNet-1K: WordNet's first word for each, as timm has them.

    Returns:
        dict[str, str]: WordNet id, as folders of ImageNet are called, to name, in the usual order
        0 to 999. No two are equal, in lower case either: six have a longer name,
        :data:`LONGER_NAMES`.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    lines = {wnid: info.label_name_to_description(wnid) for wnid in info.label_names()}
    return {wnid: line.partition(",")[0].strip() for wnid, line in lines.items()} | LONGER_NAMES
