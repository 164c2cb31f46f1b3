"""What a checkpoint file holds: model, classes, training state; for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmbeit3.checkpoint import check_checkpoint, find_layout, read_checkpoint, state_dict_of
from mmbeit3.checkpoint.reading import RESUME_KEYS
from mmbeit3.checkpoint.tasks import TASKS, find_task
from mmbeit3.utils import listed
from mmbeit3.utils.archs import ARCH_ZOO

# Without these a training cannot go on (mmbeit3/engine/runner.py).
SIZES = (  # of a layer, by layout
    (
        "official",
        r"encoder\.layers\.(\d+)\.",
        r"vision_embed\.proj\.weight$",
        r"\.ffn\.A\.fc1\.weight$",
    ),
    ("timm", r"^blocks\.(\d+)\.", r"^patch_embed\.proj\.weight$", r"\.mlp\.fc1\.weight$"),
    (
        "mmbeit3",
        r"^(?:backbone\.|(?:\w+\.)*vision\.)?layers\.(\d+)\.",
        r"patch_embed\.proj\.weight$",
        r"\.ffn\.fc1\.weight$",
    ),
)
INITIALIZES = {
    "official": "the backbone, by model.backbone.init_cfg (the text branch and heads are left "
    "out); both towers, by model.encoder.init_cfg; all of a model of its task, by model.init_cfg",
    "timm": "the backbone, by model.backbone.init_cfg; heads are left out",
}


def describe_checkpoint(path: str | Path) -> dict[str, Any]:
    """Describe a checkpoint file without running any code of it.

    Args:
        path (str | Path): A .pth or .safetensors file, or an address.

    Returns:
        dict: ``file``, ``bytes``, ``layout``, ``task`` (one that was released), ``weights``,
        ``parameters``, ``dtypes``, ``tower`` (its sizes), ``initializes``, ``model``, ``classes``,
        ``config``, ``training`` and
        ``resumable``; None where the file does not tell.

    Raises:
        InputError: The file cannot be read, would run code, or holds no weights.
    """
    file = check_checkpoint(path)
    content = read_checkpoint(file)
    weights = state_dict_of(content)
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    settings = meta.get("settings") or {}
    dataset = meta.get("dataset_meta") or {}
    model = settings.get("model") or {}
    layout = find_layout(weights)
    parts = ("backbone.", "encoder.")
    whole = layout == "mmbeit3" and any(name.startswith(parts) for name in weights)
    name = re.sub(r"_\d{8}_\d{6}.*$", "", str(meta.get("experiment_name") or ""))
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "layout": layout,
        "task": TASKS[task].title if (task := find_task(weights)) not in (None, "towers") else None,
        "weights": len(weights),
        "parameters": sum(value.numel() for value in weights.values()),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()}),
        "tower": _tower(weights, layout),
        "initializes": "a whole model, by load_from"
        if whole
        else INITIALIZES.get(
            layout or "", "the backbone, by model.backbone.init_cfg" if layout else None
        ),
        "model": model.get("type"),
        "classes": list(dataset.get("classes") or ()) or None,
        "config": name or None,
        "training": _training(content, meta, settings) if meta else None,
        "resumable": all(key in content for key in RESUME_KEYS),
    }


def checkpoint_text(found: Mapping[str, Any]) -> str:
    """Write what :func:`describe_checkpoint` found as lines for a person."""
    tower, training = found["tower"] or {}, found["training"] or {}
    sizes = (
        f"{tower['arch']}: {tower['layers']} layers, {tower['channels']} channels, patches of "
        f"{tower['patch_size']} pixels"
        if tower
        else "no BEiT-3 vision tower"
    )
    lines = {
        "file": f"{found['file']} ({found['bytes'] / 1e6:.1f} MB)",
        "weights": f"{found['parameters'] / 1e6:.1f} M numbers in {found['weights']} tensors, "
        f"{' and '.join(found['dtypes'])}",
        "layout": found["layout"] or "unknown",
        "task": found["task"],
        "tower": sizes,
        "model": found["model"],
        "initializes": found["initializes"],
        "config": found["config"],
        "classes": found["classes"]
        and f"{len(found['classes'])}: {listed(found['classes'], limit=8)}",
    }
    lines |= {key.replace("_", " "): value for key, value in training.items()}
    lines["resumable"] = "yes, by --resume" if found["resumable"] else "no"
    width = max(map(len, lines))
    return "\n".join(
        f"{key.ljust(width)}  {value}" for key, value in lines.items() if value is not None
    )


def _tower(weights: Mapping[str, Tensor], layout: str | None) -> dict[str, Any] | None:
    for name, layer, patches, ffn in SIZES:
        if name != layout:
            continue
        numbers = [int(found[1]) for key in weights if (found := re.search(layer, key))]
        proj = next((value for key, value in weights.items() if re.search(patches, key)), None)
        hidden = next((value for key, value in weights.items() if re.search(ffn, key)), None)
        if proj is None or hidden is None or not numbers:
            return None
        sizes = (proj.shape[0], max(numbers) + 1, hidden.shape[0])
        arch = next(
            (
                arch
                for arch, size in ARCH_ZOO.items()
                if sizes == (size["embed_dims"], size["num_layers"], size["feedforward_channels"])
            ),
            "own size",
        )
        return dict(arch=arch, layers=sizes[1], channels=sizes[0], patch_size=proj.shape[-1])
    return None


def _training(
    content: Mapping[str, Any], meta: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    hub = content.get("message_hub")
    info = hub.get("runtime_info") if isinstance(hub, Mapping) else None
    info = info if isinstance(info, Mapping) else {}
    batch, data = settings.get("batch") or {}, settings.get("data") or {}
    of = f" of {info['max_iters']}" if info.get("max_iters") and meta.get("iter") else ""
    found = {
        "iteration": f"{meta['iter']}{of}" if "iter" in meta else None,
        "epoch": meta.get("epoch") or None,
        "seed": meta.get("seed"),
        "best_score": info.get("best_score"),
        "images_per_step": batch.get("images"),
        "training_images": data.get("samples"),
        "written": meta.get("time"),
        "mmengine": meta.get("mmengine_version"),
        "mmbeit3": meta.get("mmbeit3_version"),
    }
    return {key: value for key, value in found.items() if value is not None}
