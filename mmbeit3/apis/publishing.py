"""Put a trained model into a repository of the Hugging Face Hub, with a card that describes it."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.apis.curves import read_metrics
from mmbeit3.apis.model_card import Metrics, ModelFacts, card_text
from mmbeit3.apis.testing import METRICS_FILE
from mmbeit3.checkpoint import dataset_meta_of, read_checkpoint
from mmbeit3.checkpoint.fetching import HUB_FILE, OFFLINE, first_line, hub_repo
from mmbeit3.checkpoint.saving import save_checkpoint, weights_and_meta
from mmbeit3.config.saved_config import saved_config, tokenizers
from mmbeit3.inference.task import find_task
from mmbeit3.text.templates import read_templates
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.text_files import read_small_json
from mmbeit3.utils.whole_files import make_folder, write_whole

CARD = "README.md"
CONFIG = "config.py"
FOLDER = re.compile(r"(?:~?[\\/]|[A-Za-z]:[\\/])")  # how a path begins that is of one machine


def write_repository(
    source: str | Path,
    repo: str,
    folder: str | Path,
    *,
    license: str | None = None,
    data_note: str | None = None,
    trust: bool = False,
    half: bool = False,
) -> list[str]:
    """Write what a repository of the Hugging Face Hub is to hold; nothing is sent.

    ``model.safetensors`` holds the weights and, as plain values, config and classes, so that
    ``mmbeit3.load("hf://OWNER/NAME")`` needs nothing else; ``config.py`` is the same config, to be
    read; ``README.md`` the model card; and a tokenizer goes along where the model has one. Of
    folders of this machine that the config names the last part stays.

    Args:
        source: The checkpoint of a training, a path or an address.
        repo: ``hf://OWNER/NAME``, for the card.
        folder: Where to write; absent, empty, or of an earlier call.
        license: The license of the weights, as the Hub spells it. Defaults to None: not stated.
        data_note: What to say of the training data. Defaults to None.
        trust: Whether the source may build any Python object. Defaults to False.
        half: Whether to round the weights to float16, half the size. Defaults to False.

    Returns:
        The names of the files.

    Raises:
        InputError: The source cannot be read, holds no config or NaN, or the folder holds others'
            files or cannot be written.
    """
    name, folder = hub_repo(repo), Path(folder).expanduser()
    content = read_checkpoint(source, trust)
    kept = weights_and_meta(content, source, half)
    cfg = saved_config(content, source)
    further = _bring_along(cfg)
    files = [CARD, CONFIG, HUB_FILE, *further]
    make_folder(folder)
    if others := {path.name for path in folder.iterdir()} - set(files):
        raise InputError(
            f"{folder} holds {listed(sorted(others))}, which would be in the repository, too; "
            "expected a new folder"
        )
    text = Config(_without_folders(cfg.to_dict())).pretty_text
    meta = _without_folders(kept["meta"]) | {"cfg": text}
    save_checkpoint(kept | {"meta": meta}, folder / HUB_FILE)
    write_whole(folder / CONFIG, f"# As trained; {HUB_FILE} holds it, too.\n{text}\n")
    for file, path in further.items():
        write_whole(folder / file, path.read_bytes())
    classes = dataset_meta_of(meta).get("classes") or ()
    facts = ModelFacts(
        repo=name,
        cfg=cfg,
        task=find_task(cfg),
        classes=[str(entry) for entry in classes],
        parameters=sum(value.numel() for value in kept["state_dict"].values()),
        meta=meta,
        metrics=_metrics(cfg, source, meta),
        license=license,
        data_note=data_note,
    )
    write_whole(folder / CARD, card_text(facts))
    return files


def publish_to_hub(
    source: str | Path,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,
    data_note: str | None = None,
    trust: bool = False,
    half: bool = False,
) -> str:
    """Upload a trained model, in one commit; a repository that is not there is made.

    Args:
        source: As in :func:`write_repository`, as the others.
        repo: ``hf://OWNER/NAME``.
        private: Whether a new repository is for its owner alone. Defaults to False.
        license: The license of the weights. Defaults to None.
        data_note: What to say of the training data. Defaults to None.
        trust: Whether the source may build any Python object. Defaults to False.
        half: Whether to round the weights to float16, half the size. Defaults to False.

    Returns:
        The address of the commit.

    Raises:
        InputError: The source cannot be used, or the Hub does not take it.
    """
    from huggingface_hub import HfApi  # reads the environment, and needs a while

    name = hub_repo(repo)
    with tempfile.TemporaryDirectory() as folder:
        about = {"license": license, "data_note": data_note}
        write_repository(source, repo, folder, **about, trust=trust, half=half)
        try:
            api = HfApi(library_name="mmbeit3")
            # None leaves the setting of the owner's organization.
            api.create_repo(name, private=private or None, exist_ok=True)
            message = "Upload a model by mmbeit3 publish"
            commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
        except Exception as error:  # also those of its HTTP library, which differs between versions
            raise InputError(f"{repo}: {_upload_failure(error, name)}") from error
    return str(commit.commit_url)


def _bring_along(cfg: Config) -> dict[str, Path]:
    """Have a config name its tokenizers without a folder, in place; the files by these names."""
    found: dict[str, Path] = {}
    for given in tokenizers(cfg.model):
        path = Path(given["file"]).expanduser()
        if not path.is_file():
            raise InputError(
                f"the tokenizer {path} of the config does not exist; expected the file that the "
                "model was trained with, which is published with it"
            )
        if found.setdefault(path.name, path) != path:
            raise InputError(f"{path} and {found[path.name]} have one name; expected two names")
        given["file"] = path.name
    templates = cfg.model.get("templates")
    if isinstance(templates, str) and templates != "default":
        cfg.model.templates = list(read_templates(templates))
    return found


def _without_folders(value: Any) -> Any:
    """Leave the last part of paths of this machine, which tell others of its users."""
    if isinstance(value, Mapping):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_folders(entry) for entry in value)
    if isinstance(value, str) and FOLDER.match(value) and "\n" not in value:
        parts = [part for part in re.split(r"[\\/]", value) if part]
        end = "/" if value.endswith(("/", "\\")) else ""
        return f"{parts[-1]}{end}" if parts else value
    return copy.copy(value)


def _metrics(cfg: Config, source: str | Path, meta: Mapping[str, Any]) -> Metrics:
    """Numbers of a checkpoint and where they are from: a test of it, else its validation."""
    if "://" in str(source):
        return Metrics({}, "", "test")
    path = Path(source).expanduser().resolve()
    try:
        tested = read_small_json(path.parent / METRICS_FILE)
        if Path(tested["checkpoint"]).resolve() == path:
            return Metrics(_shown(tested["metrics"]), "`mmbeit3 test`", "test")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    unit = "epoch" if (cfg.get("train_cfg") or {}).get("max_epochs") else "iter"
    step = meta.get(unit, -1)
    name = {"epoch": "epoch", "iter": "iteration"}[unit]
    found = _shown(read_metrics(path.parent, step))
    return Metrics(found, f"the validation at {name} {step} of the training", "val")


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without those of nothing: -1 is pycocotools's AP of a size without objects."""
    return {key: value for key, value in metrics.items() if value not in (-1, None)}


def _upload_failure(error: Exception, repo: str) -> str:
    """Cause and cure of a failed upload."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    page, reason = constants.ENDPOINT, first_line(error)
    by_hand = f"write the files by --to FOLDER and run `hf upload {repo} FOLDER` where it works"
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return f"the Hub wants a login ({reason}): run `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return (
            f"you may not write there ({reason}): expected your own name or that of your "
            f"organization before the slash, and a token with write access ({page}/settings/tokens)"
        )
    if status == 400:
        return f"the Hub does not take it: {json.dumps(str(error).strip()[-300:])}"
    if status is None:
        return f"the Hub cannot be reached ({reason}): {OFFLINE}; {by_hand}"
    return f"the upload failed ({reason}): try again, or {by_hand}"
