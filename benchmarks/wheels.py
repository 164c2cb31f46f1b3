"""A folder of wheels for a machine that has torch and no network: ``python -m benchmarks.wheels``.

What :mod:`benchmarks.gpu` needs, in the versions of this environment, without torch, torchvision
and what these bring along. Whatever has no wheel is built here, and must have no compiled part.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NEEDED = ("mmbeit3", "pytest", "torchscale")
THERE = ("torch", "torchvision")
#: Of timm for other uses, or of a version that nobody needs any more.
ALONE = ("torchscale",)
GLIBC = (17, 24, 27, 28, 31, 34)  # 2.x, of the tags manylinux_2_x that wheels have


def required(names: Iterable[str], without: Collection[str] = ()) -> dict[str, str]:
    """Packages that are needed for others, these among them, with their installed versions."""
    found: dict[str, str] = {}
    left = [canonicalize_name(name) for name in names]
    while left:
        name = left.pop()
        if name in found or name in without:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an extra
        found[name] = package.version
        if name not in ALONE:
            left += _requirements(package.requires or ())
    return found


def _requirements(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def download(name: str, version: str, folder: Path, python: str) -> None:
    """Put the wheel of a package into a folder.

    Args:
        name (str): The package.
        version (str): Its version.
        folder (Path): Where to put it.
        python (str): Version of the Python that it is for, "3.12".

    Raises:
        RuntimeError: There is no wheel for it, and none that is for every machine can be built.
    """
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    target = [f"--python-version={python}", "--implementation=cp", *platforms]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wanted = ["--no-deps", f"{name}=={version}"]
    fetch = [*pip, "download", "--only-binary=:all:", *target, "-d", str(folder), *wanted]
    if subprocess.run(fetch, stderr=subprocess.DEVNULL).returncode == 0:
        return
    before = set(folder.glob("*.whl"))
    subprocess.run([*pip, "wheel", "-w", str(folder), *wanted], check=True)
    for wheel in set(folder.glob("*.whl")) - before:
        if not wheel.name.endswith("-none-any.whl"):
            wheel.unlink()
            raise RuntimeError(f"{name} {version} has no wheel for Python {python}: {wheel.name}")


def main() -> None:
    """Download them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wheels", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("wheels"), help="default: wheels")
    parser.add_argument("--python", default="3.12", help="that of the machine (default: 3.12)")
    parser.add_argument(
        "--has", nargs="*", default=[], metavar="NAME", help="other packages that the machine has"
    )
    parser.add_argument("--list", action="store_true", help="only print what would be downloaded")
    args = parser.parse_args()
    there = {*required(THERE), *map(canonicalize_name, args.has)}
    wanted = required(NEEDED, there)
    del wanted["mmbeit3"]  # runs from the checkout
    args.out.mkdir(parents=True, exist_ok=True)
    for name, version in sorted(wanted.items()):
        print(f"{name}=={version}", flush=True)
        if not args.list:
            download(name, version, args.out, args.python)


if __name__ == "__main__":
    main()
