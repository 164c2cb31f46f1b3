from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from PIL import Image

import mmbeit3
from mmbeit3.apis import publishing
from mmbeit3.apis.publishing import publish_to_hub, write_repository
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.cli import main
from mmbeit3.utils import InputError
from tests import small_tokenizer
from tests.hub_server import Answer, Server, give_back, hub_file, set_hub
from tests.small_dual_encoder import write_dual_encoder

REPO = "hf://someone/color-finder"
NUMBERS = {"coco/bbox_mAP": 0.5, "coco/bbox_mAP_l": -1.0}


@pytest.fixture
def trained(color_cfg: Config, color_checkpoint: Path) -> Path:
    """A checkpoint as a training leaves it, with its log; its config names folders."""
    color_cfg.work_dir = str(color_checkpoint.parent)
    for split in ("train", "test", "val"):
        dataset = {**color_cfg.test_dataloader.dataset, "data_root": f"{color_checkpoint.parent}/"}
        color_cfg[f"{split}_dataloader"] = dict(
            batch_size=2, dataset={**dataset, "ann_file": f"annotations/{split}.json"}
        )
    content = torch.load(color_checkpoint)
    content["meta"] |= {"cfg": color_cfg.pretty_text, "iter": 20, "seed": 1}
    torch.save(content | {"optimizer": {"state": {}}}, color_checkpoint)
    log = color_checkpoint.parent / "20260101_000000" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    lines = [
        {"loss": 1.0, "lr": 0.1, "step": 20},
        {"coco/bbox_mAP": 0.25, "step": 10},
        {**NUMBERS, "time": 1.0, "step": 20},
        {"coco/bbox_mAP": 0.75, "step": 30},
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    return color_checkpoint


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    server.start()
    before = set_hub(server, tmp_path / "hf", monkeypatch)
    yield server
    give_back(before)
    server.stop()


def serve(hub: Server, repo: str, folder: Path) -> None:
    for file in folder.iterdir():
        hub.answers[f"/{repo}/resolve/main/{file.name}"] = hub_file(file.read_bytes())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image with a red rectangle, alone in its folder."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:15, 8:20, 0] = 255
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "red.png"
    Image.fromarray(image).save(path)
    return path


def card(folder: Path) -> tuple[dict, str]:
    """Metadata and text of a model card."""
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_a_repository_holds_weights_config_and_card(trained: Path, tmp_path: Path) -> None:
    files = write_repository(trained, REPO, tmp_path / "to", license="mit", data_note="By hand.")
    assert sorted(files) == sorted(os.listdir(tmp_path / "to"))
    assert set(files) == {"README.md", "config.py", "model.safetensors"}
    assert Config.fromfile(tmp_path / "to" / "config.py").model.type == "ColorDetector"
    metadata, text = card(tmp_path / "to")
    assert metadata["license"] == "mit" and metadata["library_name"] == "mmbeit3"
    assert metadata["pipeline_tag"] == "object-detection"
    [result] = metadata["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [0.5]  # not that of no object
    assert result["dataset"]["name"] == "weights/val.json"
    assert 'load("hf://someone/color-finder")' in text and "By hand." in text
    assert "red thing, green thing" in text and "`mit`" in text
    assert "validation at iteration 20" in text and "| coco/bbox_mAP | 0.5 |" in text


def test_numbers_of_a_test_of_the_checkpoint_come_first(trained: Path, tmp_path: Path) -> None:
    tested = {"checkpoint": str(trained), "metrics": {"coco/bbox_mAP": 0.625}}
    (trained.parent / "metrics.json").write_text(json.dumps(tested))
    write_repository(trained, REPO, tmp_path / "to")
    text = card(tmp_path / "to")[1]
    assert "From `mmbeit3 test`, on weights/test.json" in text and "0.625" in text
    (trained.parent / "metrics.json").write_text(json.dumps(tested | {"checkpoint": "other.pth"}))
    write_repository(trained, REPO, tmp_path / "to")
    assert "0.625" not in card(tmp_path / "to")[1]


def test_a_card_says_what_is_not_known(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved" / "w.pth"
    moved.parent.mkdir()
    trained.rename(moved)
    write_repository(moved, REPO, tmp_path / "to")
    metadata, text = card(tmp_path / "to")
    assert "license" not in metadata and "model-index" not in metadata
    assert "Not stated" in text and "None were found" in text and "has not described" in text


def test_no_folder_of_the_machine_is_published(trained: Path, tmp_path: Path) -> None:
    write_repository(trained, REPO, tmp_path / "to")
    for file in (tmp_path / "to").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file
    config = Config.fromfile(tmp_path / "to" / "config.py")
    assert config.test_dataloader.dataset.data_root == "weights/"
    assert config.test_dataloader.dataset.ann_file == "annotations/test.json"


def test_other_files_are_not_uploaded_along(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "private.txt").touch()
    with pytest.raises(InputError, match=r"holds private.txt, which would be .* a new folder"):
        write_repository(trained, REPO, tmp_path / "to")
    assert os.listdir(tmp_path / "to") == ["private.txt"]


@pytest.mark.parametrize("repo", ["hf://someone", "hf://a/b@v1", "hf://a/b/w.pth", "a/b"])
def test_only_a_repository_is_published_to(repo: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected hf://OWNER/NAME"):
        write_repository(trained, repo, tmp_path / "to")


def test_weights_alone_are_no_model_to_publish(color_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="carries no config"):
        write_repository(color_checkpoint, REPO, tmp_path / "to")


def test_a_published_model_is_loaded_from_the_hub(
    trained: Path, tmp_path: Path, hub: Server, picture: Path
) -> None:
    write_repository(trained, REPO, tmp_path / "to")
    serve(hub, "someone/color-finder", tmp_path / "to")
    expected = mmbeit3.load(trained)(picture)
    for model in (mmbeit3.load(REPO), mmbeit3.load(tmp_path / "to" / "model.safetensors")):
        found = model(picture)
        assert list(found.names) == list(expected.names) == ["red thing"]
        np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_commands_take_a_model_of_the_hub(
    trained: Path, color_cfg: Config, tmp_path: Path, hub: Server, picture: Path
) -> None:
    write_repository(trained, REPO, tmp_path / "to")
    serve(hub, "someone/color-finder", tmp_path / "to")
    color_cfg.dump(tmp_path / "own.py")
    for place, model in (("a", [REPO]), ("b", [str(tmp_path / "own.py"), REPO])):
        out = tmp_path / place
        command = ["infer", *model, str(picture.parent), "--out-dir", str(out)]
        assert main([*command, "--device", "cpu"]) == 0
        assert len(json.loads((out / "results.json").read_text())) == 1
        assert json.loads((out / "summary.json").read_text())["checkpoint"] == REPO


def test_a_test_takes_a_checkpoint_that_holds_its_config(
    trained: Path, color_cfg: Config, tmp_path: Path, hub: Server, picture: Path
) -> None:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 5, 12, 10], "area": 120}
    coco = {
        "images": [{"id": 1, "file_name": "red.png", "height": 30, "width": 40}],
        "annotations": [{**annotation, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "red thing"}, {"id": 2, "name": "green thing"}],
    }
    (tmp_path / "photos.json").write_text(json.dumps(coco))
    content = torch.load(trained)
    cfg = Config.fromstring(content["meta"]["cfg"], ".py")
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.pop("train_dataloader"), cfg.pop("val_dataloader")
    cfg.test_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(
            type="mmbeit3.CocoDataset",
            data_root="photos",
            ann_file="../photos.json",
            data_prefix=dict(img=""),
            test_mode=True,
            pipeline=pipeline,
        ),
    )
    cfg.test_cfg = dict(type="TestLoop")
    cfg.test_evaluator = dict(
        type="mmbeit3.CocoMetric", ann_file="photos.json", metric="bbox", classwise=False
    )
    cfg.model.masks = False
    content["meta"]["cfg"] = cfg.pretty_text
    torch.save(content, trained)
    write_repository(trained, REPO, tmp_path / "to")
    serve(hub, "someone/color-finder", tmp_path / "to")
    root = f"test_dataloader.dataset.data_root={tmp_path / 'photos'}"
    truth = f"test_evaluator.ann_file={tmp_path / 'photos.json'}"
    command = ["test", REPO, "--work-dir", str(tmp_path / "work"), "--cfg-options", root, truth]
    assert main(command) == 0
    metrics = json.loads((tmp_path / "work" / "metrics.json").read_text())["metrics"]
    assert metrics["coco/bbox_mAP"] == pytest.approx(1.0)


def test_a_tokenizer_goes_along(
    tmp_path: Path, hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    tokenizer = small_tokenizer.train(tmp_path / "own" / "words.spm")
    _, checkpoint = write_dual_encoder(tmp_path, tokenizer)
    expected = mmbeit3.load(checkpoint).encode_text(["two red stars"])
    files = write_repository(checkpoint, "hf://someone/words", tmp_path / "to")
    assert "words.spm" in files and card(tmp_path / "to")[0]["pipeline_tag"]
    tokenizer.unlink()
    serve(hub, "someone/words", tmp_path / "to")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.spm").write_text("another file of the same name")
    for place in ("hf://someone/words", tmp_path / "to" / "model.safetensors"):
        found = mmbeit3.load(place).encode_text(["two red stars"])
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
    with pytest.raises(InputError, match=r"tokenizer .*words.spm of the config does not exist"):
        write_repository(checkpoint, "hf://someone/words", tmp_path / "again")


CREATE, COMMIT_TO = "/api/repos/create", "/api/models/someone/color-finder/commit/main"
PREUPLOAD = "/api/models/someone/color-finder/preupload/main"


def takes_uploads(hub: Server) -> None:
    files = ("README.md", "config.py", "model.safetensors")
    modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]
    commit = {"commitUrl": f"{hub.url}/someone/color-finder/commit/abc", "commitOid": "abc"}
    made = {"url": f"{hub.url}/someone/color-finder", "id": "1", "name": "someone/color-finder"}
    for path, answer in (
        (CREATE, made),
        (PREUPLOAD, {"files": modes}),
        (COMMIT_TO, {**commit, "success": True}),
        ("/api/validate-yaml", {"errors": [], "warnings": []}),
    ):
        hub.answers[path] = Answer(json.dumps(answer).encode())


def test_what_is_uploaded_is_what_a_dry_run_writes(
    trained: Path, tmp_path: Path, hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes_uploads(hub)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    write_repository(trained, REPO, tmp_path / "to", license="mit")
    assert publish_to_hub(trained, REPO, private=True, license="mit").endswith("/commit/abc")
    assert json.loads(hub.bodies[CREATE])["visibility"] == "private"
    sent = {}
    for line in hub.bodies[COMMIT_TO].splitlines():
        entry = json.loads(line)
        if entry["key"] == "file":
            sent[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
    assert sent == {file.name: file.read_bytes() for file in (tmp_path / "to").iterdir()}


def refuse(status: int, text: str = "") -> Callable[[Server], None]:
    def answer(hub: Server) -> None:
        takes_uploads(hub)
        path = COMMIT_TO if status == 400 else CREATE
        hub.answers[path] = Answer(json.dumps({"error": text}).encode(), status)

    return answer


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (refuse(401), "the Hub wants a login .*`hf auth login`"),
        (refuse(403), "you may not write there .*your own name.*token with write access"),
        (refuse(400, "license is odd"), "the Hub does not take it: .*license is odd"),
        (refuse(500), "the upload failed .*try again, or write the files by --to FOLDER"),
        (Server.stop, "the Hub cannot be reached .*offline.*by --to FOLDER and run `hf upload"),
    ],
    ids=["no login", "not theirs", "refused", "server", "offline"],
)
def test_failed_uploads_are_told_with_their_cure(
    setting: Callable[[Server], None],
    message: str,
    trained: Path,
    hub: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    setting(hub)
    with pytest.raises(InputError, match=f"{REPO}: {message}") as caught:
        publish_to_hub(trained, REPO)
    assert "hf_secret" not in str(caught.value)


def test_the_command_sends_nothing_with_a_folder(
    trained: Path, tmp_path: Path, hub: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(trained), REPO, "--to", str(tmp_path / "to")]) == 0
    assert "nothing was sent" in capsys.readouterr().out and hub.asked == []
    assert main(["publish", str(trained), REPO]) == 2
    assert "`hf auth login`" in capsys.readouterr().err and hub.asked == []
    assert main(["publish", str(trained), str(tmp_path / "w.pth"), "--license", "mit"]) == 2
    assert "--license: it is for hf://OWNER/NAME" in capsys.readouterr().err


def test_a_published_file_is_read_as_any_other(trained: Path, tmp_path: Path) -> None:
    write_repository(trained, REPO, tmp_path / "to")
    found = read_checkpoint(tmp_path / "to" / publishing.HUB_FILE)
    assert set(found) == {"meta", "state_dict"} and found["meta"]["iter"] == 20
