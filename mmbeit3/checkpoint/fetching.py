"""Turn the location of a checkpoint, which may be an address, into a file on this machine.

Files from the web go below the folder that torch.hub and mmengine keep theirs in, and enter it only
whole and checked. Files of the Hugging Face Hub go to the cache of ``huggingface_hub``.
"""

from __future__ import annotations

import functools
import hashlib
import re
import ssl
import string
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mmbeit3.utils import InputError

#: Raises an InputError unless the file can be a checkpoint; the second argument is what to call it.
Check = Callable[[Path, str], None]

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20
LOG_INTERVAL = 10.0  # seconds between two lines of progress where there is no terminal
HUB_FILE = "model.safetensors"  # timm's name for the weights of a repository
HUB_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>refs/\w+/\w+|[^/@]+))?(/(?P<file>.+))?"
)
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.(pth|pt|safetensors)$")
# The OSErrors beside these are those of the disk. UnicodeError: a name that no host can have.
NETWORK_ERRORS = (
    URLError,
    HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    UnicodeError,
)
OFFLINE = "this machine is offline, or a proxy or firewall is in the way"


def fetch(location: str | Path, check: Check) -> Path:
    """Make a checkpoint a local file, downloading it once where it is elsewhere.

    Several processes may ask for the same address at once: one downloads, the others wait for it.

    Args:
        location: A path; ``http(s)://...``; or ``hf://OWNER/REPO[@REVISION][/FILE]`` on the Hugging
            Face Hub, where FILE is ``model.safetensors`` unless given.
        check: What a file from the web must pass before it enters the cache, and each time it is
            taken from there: a function of the file and of what to call it in messages.

    Returns:
        The file. A path comes back with ``~`` expanded, whether or not something is there.

    Raises:
        InputError: The address cannot be used, the download failed, or ``check`` raised it.
    """
    address = str(location)
    scheme, is_address, _ = address.partition("://")
    if not is_address:
        return Path(location).expanduser()
    if scheme.lower() in ("http", "https"):
        return _from_web(address, check)
    if scheme == "hf":
        return _from_hub(address)
    raise InputError(
        f"{address}: {scheme}:// is no known kind of address; expected a path, http://..., "
        "https://... or hf://OWNER/REPO[@REVISION][/FILE]"
    )


def fetch_beside(location: str | Path, name: str) -> Path | None:
    """Find another file of a checkpoint's folder, or of its repository on the Hub.

    Args:
        location: The checkpoint, as :func:`fetch` takes it.
        name: The other file, without a folder.

    Returns:
        It on this machine; None where it is not there, or the checkpoint is elsewhere on the web.
    """
    address = str(location)
    match = HUB_ADDRESS.fullmatch(address)
    if match is not None:
        folder = PurePosixPath(match["file"] or HUB_FILE).parent
        revision = f"@{match['revision']}" if match["revision"] else ""
        try:
            return _from_hub(f"hf://{match['repo']}{revision}/{folder / name}")
        except InputError as error:
            print_log(f"{name} is not taken from beside {address}: {error}", "current")
            return None
    found = Path(address).expanduser().parent / name
    return found if "://" not in address and found.is_file() else None


def hub_repo(address: str) -> str:
    """Give the repository on the Hugging Face Hub that an address without a file names.

    Raises:
        InputError: It names none, or more than one.
    """
    match = HUB_ADDRESS.fullmatch(address)
    if match is None or match["revision"] or match["file"]:
        raise InputError(
            f"{address} is no address of a repository on the Hugging Face Hub; expected "
            "hf://OWNER/NAME"
        )
    return match["repo"]


def _from_web(address: str, check: Check) -> Path:
    cached = _place(address)
    shown = without_secrets(address)
    try:
        if _downloaded(address, cached, check):
            return cached
    except OSError as error:
        raise InputError(
            f"{cached} cannot be written ({error.strerror or error}): make room there, or set "
            "TORCH_HOME to a folder on another disk"
        ) from error
    _announce(shown, cached)
    try:
        check(cached, str(cached))
    except InputError as error:
        raise InputError(f"{error}. To download it anew from {shown}, delete it") from error
    return cached


def _downloaded(address: str, cached: Path, check: Check) -> bool:
    """Download unless the file is there; say whether this process did."""
    if cached.is_file():
        return False
    cached.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cached}.lock"):
        if cached.is_file():
            return False
        _download(address, cached, check)
    return True


def _download(address: str, cached: Path, check: Check) -> None:
    shown = without_secrets(address)
    print_log(f"downloading {shown} to {cached}", "current")
    # Unique, for file systems where locks do nothing; the name's end stays, which tells the format.
    partial = cached.with_name(f".partial-{uuid.uuid4().hex[:8]}-{cached.name}")
    try:
        sha256 = _receive(address, partial, cached)
        check(partial, shown)
        _check_hash(shown, cached, sha256)
        partial.replace(cached)
    finally:
        partial.unlink(missing_ok=True)


def _receive(address: str, partial: Path, cached: Path) -> str:
    """Write what the server sends to ``partial``; return its SHA-256."""
    shown = without_secrets(address)
    elsewhere = f"download it on another machine and give the file's path, or put it at {cached}"
    # Blanks and letters beyond ASCII may stand in an address that a user typed.
    request = Request(quote(address, safe=string.punctuation), headers={"User-Agent": "mmbeit3"})
    sha256 = hashlib.sha256()
    try:
        with urlopen(request, timeout=TIMEOUT) as answer, partial.open("wb") as file:
            total = answer.length
            with _progress(cached.name, total) as advance:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    sha256.update(chunk)
                    advance(len(chunk))
    except HTTPError as error:
        cure = _cure_of_status(error.code)
        raise InputError(f"{shown}: the server says {error.code} {error.reason}: {cure}") from error
    except NETWORK_ERRORS as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise InputError(
            f"{shown} could not be downloaded ({reason}): {OFFLINE}; {elsewhere}"
        ) from error
    received = partial.stat().st_size
    if total is not None and received < total:
        raise InputError(
            f"{shown}: the connection broke after {received:,} of {total:,} bytes: try again, or "
            f"{elsewhere}"
        )
    return sha256.hexdigest()


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how much of a file has come, as a bar, or as lines where there is no terminal."""
    console = Console(stderr=True)
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        received, logged = 0, time.monotonic()

        def advance(num_bytes: int) -> None:
            nonlocal received, logged
            received += num_bytes
            progress.advance(task, num_bytes)
            if not console.is_terminal and time.monotonic() - logged >= LOG_INTERVAL:
                logged = time.monotonic()
                size = "" if total is None else f" of {total / 1e6:,.0f}"
                print(f"{name}: {received / 1e6:,.0f}{size} MB", file=sys.stderr, flush=True)

        yield advance


def _cure_of_status(code: int) -> str:
    if code in (401, 403):
        return (
            "it wants a login, or the address has expired: download the file with a browser and "
            "give its path"
        )
    if code in (404, 410):
        return "check the address"
    return "try again later"


def _check_hash(shown: str, cached: Path, sha256: str) -> None:
    """Hold the file to the start of its SHA-256 that mm's and torch's names end with."""
    named = HASH_IN_NAME.search(cached.name)
    if named and not sha256.startswith(named[1]):
        raise InputError(
            f"{shown}: by its name the file's SHA-256 begins with {named[1]}, but it is {sha256}: "
            "the file was changed or damaged. If you trust it, download it yourself and give its "
            "path"
        )


@functools.cache  # a checkpoint is opened several times in a run
def _announce(shown: str, cached: Path) -> None:
    print_log(f"{shown} is taken from the cache: {cached}", "current")


def _place(address: str) -> Path:
    """Where the cache keeps a file: under host and path, for many are called model.safetensors."""
    try:
        parts = urlsplit(address)
        path = PurePosixPath(unquote(parts.path))
        host = f"{parts.hostname}_{parts.port}" if parts.port else parts.hostname
    except ValueError as error:
        raise InputError(f"{address} is no valid address: {error}") from error
    inner = [part for part in path.parts if part not in ("/", "..")]
    usable = inner and path.name != ".." and str(path).isprintable()
    if not host or not usable or "@" in parts.netloc:
        raise InputError(
            f"{without_secrets(address)} cannot be used; expected http(s)://HOST/FILE, without "
            "user and password"
        )
    return Path(torch.hub.get_dir(), "checkpoints", host, *inner)


def without_secrets(address: str) -> str:
    """Leave out user, password and query, where access tokens stand; logs are shown to others."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _from_hub(address: str) -> Path:
    from huggingface_hub import hf_hub_download  # reads the environment, and needs a while

    match = HUB_ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(
            f"{address} is no address of the Hugging Face Hub; expected "
            "hf://OWNER/REPO[@REVISION][/FILE]"
        )
    repo, revision, file = match["repo"], match["revision"] or "main", match["file"] or HUB_FILE
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # also those of its HTTP library, which differs between versions
        failure = _hub_failure(error, repo, revision, file)
        raise InputError(f"{address}: {failure}") from error


def _hub_failure(error: Exception, repo: str, revision: str, file: str) -> str:
    """Cause and cure of a failed download from the Hub."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    by_hand = f"download {page}/resolve/{revision}/{file} on another machine and give its path"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"access is restricted: accept the conditions at {page}, then run `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            f"the Hub has no {repo}, or it is private: check the spelling; for a private one run "
            "`hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}: see {page}/tree/main for its branches"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"it is not in the cache {constants.HF_HUB_CACHE}, and the Hub cannot be reached "
            f"({first_line(error.__cause__ or error)}): {OFFLINE}; {by_hand}"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repo} has no file {file!r}: see {page}/tree/{revision} for its files"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return (
            f"the cache {constants.HF_HUB_CACHE} cannot be written ({error.strerror}): make room "
            "there, or set HF_HOME to a folder on another disk"
        )
    return f"the download failed ({first_line(error)}): try again, or {by_hand}"


def first_line(error: BaseException) -> str:
    """Name an error in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
