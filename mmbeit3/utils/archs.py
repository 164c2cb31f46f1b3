"""The sizes of BEiT-3."""

from __future__ import annotations

from mmbeit3.utils import InputError

# base and large: microsoft/unilm beit3/modeling_utils.py; giant: Table 11 of arXiv 2208.10442, with
# the sub-LNs of the released sizes (its own weights and code were never published); tiny and
# small: ours, for trials and for own data on a CPU.
ARCH_ZOO = {
    "tiny": dict(embed_dims=192, num_layers=4, num_heads=6, feedforward_channels=768),
    "small": dict(embed_dims=384, num_layers=8, num_heads=6, feedforward_channels=1536),
    "base": dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    "large": dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
    "giant": dict(embed_dims=1408, num_layers=40, num_heads=16, feedforward_channels=6144),
}


def resolve_arch(arch: str | dict) -> dict[str, int]:
    """Look up a size.

    Args:
        arch (str | dict): A name in :data:`ARCH_ZOO`, or a dict with the keys of one.

    Returns:
        dict[str, int]: ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.

    Raises:
        InputError: There is no such size, or the heads do not divide the width.
    """
    if isinstance(arch, str):
        if arch not in ARCH_ZOO:
            raise InputError(f"arch is {arch!r}; it must be one of {sorted(ARCH_ZOO)} or a dict")
        return ARCH_ZOO[arch]
    keys = set(ARCH_ZOO["base"])
    if set(arch) != keys:
        raise InputError(f"arch has the keys {sorted(arch)}; it must have {sorted(keys)}")
    if arch["embed_dims"] % arch["num_heads"]:
        raise InputError(
            f"embed_dims {arch['embed_dims']} cannot be shared among {arch['num_heads']} heads; "
            "choose num_heads that divides it"
        )
    return arch
