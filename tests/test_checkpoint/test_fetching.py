from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from mmbeit3.checkpoint import check_checkpoint, fetching, read_checkpoint
from mmbeit3.utils import InputError
from tests.hub_server import Answer, Server, give_back, hub_file, set_hub, take_out_hub_modules

WEIGHTS = {"layer.weight": torch.arange(600.0).reshape(20, 30)}
SAFETENSORS = save(WEIGHTS, {"format": "pt"})
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": WEIGHTS}, buffer)
    return buffer.getvalue()


PTH = torch_file()
SHA256 = hashlib.sha256(PTH).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def site(server: Server) -> Server:
    server.start()
    return server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of the server are kept."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return (
        tmp_path / "torch" / "hub" / "checkpoints" / server.url.rpartition("/")[2].replace(":", "_")
    )


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(fetching, "print_log", lambda text, *_: lines.append(text))
    return lines


def files(folder: Path) -> list[str]:
    """Every file below a folder but the locks, which stay."""
    found = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]
    return [file.relative_to(folder).as_posix() for file in found]


def test_a_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")

    def check(*_: object) -> None:
        pytest.fail("a path of the user's is not the cache's to check")

    assert fetching.fetch("~/w.pth", check) == Path("/home/someone/w.pth")
    assert fetching.fetch(Path("a/../w.pth"), check) == Path("a/../w.pth")


@pytest.mark.parametrize(
    ("address", "name", "body"),
    [
        ("/a/weights.pth", "a/weights.pth", PTH),
        ("/weights.safetensors", "weights.safetensors", SAFETENSORS),
        ("/beit3.zip?sv=2021-10-04&sig=dG9w%2BSecret%3D", "beit3.zip", PTH),
        ("/my%20weights.pth", "my weights.pth", PTH),
        ("/my weights-ä.pth", "my weights-ä.pth", PTH),
        ("/x%2F..%2F..%2Fweights.pth", "x/weights.pth", PTH),
        (f"/weights-{SHA256[:8]}.pth", f"weights-{SHA256[:8]}.pth", PTH),
    ],
)
def test_a_file_is_downloaded_once_and_then_taken_from_the_cache(
    site: Server, cache: Path, logged: list[str], address: str, name: str, body: bytes
) -> None:
    asked = fetching.quote(address.partition("?")[0], safe="/%")
    site.answers[asked] = Answer(body)
    for _ in range(3):
        found = read_checkpoint(site.url + address)
        assert torch.equal(found["state_dict"]["layer.weight"], WEIGHTS["layer.weight"])
    assert check_checkpoint(site.url + address) == cache / name
    assert site.asked == [f"GET {asked}"]
    assert files(cache) == [name]
    download, reuse = logged  # once each
    assert download.startswith("downloading") and download.endswith(f" to {cache / name}")
    assert reuse.endswith(f"is taken from the cache: {cache / name}")
    assert "Secret" not in download + reuse


def test_files_of_one_name_from_two_places_are_two(site: Server, cache: Path) -> None:
    for folder, value in (("base", 1.0), ("large", 2.0)):
        body = save({"layer.weight": torch.full((2,), value)})
        site.answers[f"/{folder}/model.safetensors"] = Answer(body)
    for folder, value in (("base", 1.0), ("large", 2.0)):
        found = read_checkpoint(f"{site.url}/{folder}/model.safetensors")["state_dict"]
        assert found["layer.weight"][0] == value


def test_a_file_that_was_put_into_the_cache_needs_no_network(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "weights.pth").write_bytes(PTH)
    server.stop()
    assert check_checkpoint(f"{server.url}/weights.pth") == cache / "weights.pth"


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("w.pth", Answer(HTML), "is a web page.*open the address in a browser"),
        ("w.pth", Answer(LFS), "is a Git LFS pointer"),
        ("w.pth", Answer(b""), "is empty"),
        ("w.pth", Answer(PTH[:-9], length=len(PTH)), "broke after [0-9,]+ of [0-9,]+ bytes: try"),
        ("w.pth", Answer(PTH[:-9], length=-1), "is incomplete: a zip archive whose end"),
        ("w.safetensors", Answer(SAFETENSORS[:-9], length=-1), "incomplete or damaged safetensors"),
        ("w.safetensors", Answer(SAFETENSORS[:50], length=-1), "incomplete or damaged safetensors"),
        ("w.pth", Answer(b"", 404), "the server says 404 Not Found: check the address"),
        ("w.pth", Answer(b"", 403), "says 403 Forbidden: it wants a login, or the address has exp"),
        ("w.pth", Answer(b"", 503), "says 503 Service Unavailable: try again later"),
        ("w-0badc0de.pth", Answer(PTH), f"begins with 0badc0de, but it is {SHA256}"),
        ("w-0badc0de.pt", Answer(PTH), f"begins with 0badc0de, but it is {SHA256}"),
    ],
)
def test_a_bad_download_is_named_and_leaves_nothing(
    site: Server, cache: Path, name: str, answer: Answer, message: str
) -> None:
    site.answers[f"/{name}"] = answer
    address = f"{site.url}/{name}"
    with pytest.raises(InputError, match=f"{address}.*{message}") as caught:
        check_checkpoint(f"{address}?sig=Secret")
    assert "Secret" not in str(caught.value) and ".partial" not in str(caught.value)
    assert files(cache) == []


def test_a_bad_file_in_the_cache_is_named_and_stays(site: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "w.pth").write_bytes(HTML)
    with pytest.raises(InputError, match=rf"{cache}/w.pth is a web page.*delete it"):
        check_checkpoint(f"{site.url}/w.pth")
    assert site.asked == [] and files(cache) == ["w.pth"]


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(
    site: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/w.pth"] = Answer(PTH)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetching.Progress, "advance", interrupt)
        check_checkpoint(f"{site.url}/w.pth")
    assert files(cache) == []
    check_checkpoint(f"{site.url}/w.pth")
    assert files(cache) == ["w.pth"]


def test_processes_that_ask_at_once_download_once(server: Server, cache: Path) -> None:
    server.answers["/w.pth"] = Answer(PTH, delay=0.5)
    fork = multiprocessing.get_context("fork")  # importing torch anew would take seconds
    askers = [
        fork.Process(target=check_checkpoint, args=(f"{server.url}/w.pth",)) for _ in range(3)
    ]
    for asker in askers:
        asker.start()
    server.start()  # not earlier: a fork of a process with threads may hang
    for asker in askers:
        asker.join(timeout=20)
    assert [asker.exitcode for asker in askers] == [0, 0, 0]
    assert server.asked == ["GET /w.pth"]
    assert (cache / "w.pth").read_bytes() == PTH


def test_without_network_the_message_says_where_to_put_the_file(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = "offline, or a proxy.*another machine and give the file's path, or put it at"
    server.stop()
    with pytest.raises(InputError, match=rf"Connection refused\): .*{offline} {cache}/w.pth"):
        check_checkpoint(f"{server.url}/w.pth")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        InputError, match=rf"Name or service not known\): .*{offline} .*/weights.example.org/w.pth"
    ):
        check_checkpoint("https://weights.example.org/w.pth")
    assert files(cache) == []


def test_a_server_that_stops_sending_is_given_up(
    site: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.1)
    site.answers["/w.pth"] = Answer(PTH, delay=1.0)
    with pytest.raises(InputError, match=r"w.pth could not be downloaded \(timed out\): .*offline"):
        check_checkpoint(f"{site.url}/w.pth")
    assert files(cache) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_named(site: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.answers["/w.pth"] = Answer(PTH)
    monkeypatch.setattr(Path, "open", lambda *_: io.FileIO("/dev/full", "w"))
    with pytest.raises(InputError, match=r"w.pth cannot be written \(No space left.*TORCH_HOME"):
        check_checkpoint(f"{site.url}/w.pth")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host/w.pth", "ftp:// is no known kind.*https://... or hf://OWNER/REPO"),
        ("open-mmlab://resnet50", "open-mmlab:// is no known kind"),
        ("https://host/", "https://host/ cannot be used; expected http.*//HOST"),
        ("https://host/a/%2E%2E", "cannot be used; expected"),
        ("https://host/a%00.pth", "cannot be used; expected"),
        ("https:///w.pth", "cannot be used; expected"),
        ("https://user:word@host/w.pth", "https://host/w.pth cannot be used.*without user and"),
        ("https://[host/w.pth", "is no valid address"),
        ("https://host:port/w.pth", "is no valid address"),
        ("https://a..b/w.pth", "could not be downloaded .*label empty"),
        ("hf://timm", "is no address of the Hugging Face Hub; expected hf://OWNER/REPO"),
        ("hf://owner/re po", "is no address of the Hugging Face Hub"),
    ],
)
def test_other_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_checkpoint(address)


COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40


@pytest.fixture
def hub(site: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers as the Hugging Face Hub does, and the environment that names it."""
    before = set_hub(site, tmp_path / "hf", monkeypatch)
    for revision, file, body, commit in (
        ("main", "model.safetensors", SAFETENSORS, COMMIT),
        ("v1.0", "sub/w.pth", PTH, OTHER_COMMIT),
        ("refs%2Fpr%2F3", "model.safetensors", SAFETENSORS, OTHER_COMMIT),
    ):
        site.answers[f"/owner/repo/resolve/{revision}/{file}"] = hub_file(body, commit)
    for path, status, code in (
        ("/owner/repo/resolve/main/absent.pth", 404, "EntryNotFound"),
        ("/owner/repo/resolve/v9/model.safetensors", 404, "RevisionNotFound"),
        ("/owner/absent/resolve/main/model.safetensors", 401, "RepoNotFound"),
        ("/owner/gated/resolve/main/model.safetensors", 403, "GatedRepo"),
    ):
        site.answers[path] = Answer(b"", status, headers={"X-Error-Code": code})
    yield site
    give_back(before)


@pytest.mark.parametrize(
    ("address", "snapshot"),
    [
        ("hf://owner/repo", f"{COMMIT}/model.safetensors"),
        ("hf://owner/repo/model.safetensors", f"{COMMIT}/model.safetensors"),
        ("hf://owner/repo@v1.0/sub/w.pth", f"{OTHER_COMMIT}/sub/w.pth"),
        ("hf://owner/repo@refs/pr/3", f"{OTHER_COMMIT}/model.safetensors"),
    ],
)
def test_files_of_the_hub_come_through_its_own_cache(
    hub: Server, tmp_path: Path, address: str, snapshot: str
) -> None:
    path = check_checkpoint(address)
    assert path == tmp_path / "hf" / "hub" / "models--owner--repo" / "snapshots" / snapshot
    found = read_checkpoint(address)["state_dict"]
    assert torch.equal(found["layer.weight"], WEIGHTS["layer.weight"])
    asked = [line.partition(" ")[0] for line in hub.asked if "/owner/repo/" in line]
    assert asked == ["HEAD", "GET", "HEAD"], hub.asked


def test_a_cached_file_of_the_hub_is_read_offline(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = check_checkpoint("hf://owner/repo")
    asked = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    take_out_hub_modules()
    assert check_checkpoint("hf://owner/repo") == path
    with pytest.raises(InputError, match=r"not in the cache .*cannot be reached.*HF_HUB_OFFLINE"):
        check_checkpoint("hf://owner/repo@v1.0/sub/w.pth")
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://owner/repo/absent.pth", "owner/repo has no file 'absent.pth': see .*/tree/main"),
        ("hf://owner/repo@v9", "owner/repo has no revision 'v9': see"),
        ("hf://owner/absent", "the Hub has no owner/absent, or it is private.*`hf auth login`"),
        ("hf://owner/gated", "access is restricted: accept.*owner/gated.*`hf auth login`"),
        ("hf://owner/re--po", "the download failed .*HFValidationError.*try again, or download"),
    ],
)
def test_failures_of_the_hub_are_told_with_their_cure(
    hub: Server, address: str, message: str
) -> None:
    with pytest.raises(InputError, match=f"{address}: {message}"):
        check_checkpoint(address)


def test_a_cache_that_cannot_be_written_is_named(hub: Server, tmp_path: Path) -> None:
    (tmp_path / "hf").touch()
    (tmp_path / "torch").touch()
    with pytest.raises(InputError, match=r"hf/hub cannot be written \(Not a directory\).*HF_HOME"):
        check_checkpoint("hf://owner/repo")
    with pytest.raises(InputError, match=r"w.pth cannot be written \(Not a dir.*TORCH_HOME"):
        check_checkpoint(f"{hub.url}/w.pth")
