"""The known issues of an installation: each check takes plain facts and returns problems.

Nothing here looks at the machine: ``doctor.py`` gathers the facts. In every signature ``installed``
maps each installed distribution (lower case, dashes) to its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Import name -> the distributions that provide it, the one to keep first.
PROVIDERS = {
    "mmengine": ("onedl-mmengine", "mmengine", "mmengine-lite"),
    "mmcv": ("onedl-mmcv", "mmcv-lite", "mmcv", "mmcv-full"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "faster_coco_eval": ("faster-coco-eval",),
    "PIL": ("pillow",),
    "yaml": ("pyyaml",),
}
MIN_TORCH = (2, 8)
# Modules that take mmcv's operators when they are imported, so must come after mmbeit3.
OPERATOR_USERS = ("mmcv.ops", "mmdet.models", "mmdet.structures", "mmseg.models")


@dataclass(frozen=True)
class Problem:
    """One finding and what to do about it; an error makes the command fail, a warning does not."""

    what: str
    fix: str
    is_error: bool = True


def check_duplicates(installed: Mapping[str, str]) -> list[Problem]:
    """Two distributions that write into the same package folder: pip lets it happen silently."""
    problems = []
    for name, providers in PROVIDERS.items():
        found = [provider for provider in providers if provider in installed]
        if name == "cv2" or len(found) < 2:
            continue
        remove, keep = " ".join(found), f"{found[0]}=={installed[found[0]]}"
        problems.append(
            Problem(
                f"`import {name}` is provided by {len(found)} distributions at once: "
                + ", ".join(found),
                # All go first: removing one deletes files that the other needs.
                f"pip uninstall -y {remove} && pip install --no-deps {keep}",
            )
        )
    return problems


def check_opencv(installed: Mapping[str, str]) -> list[Problem]:
    """OpenCV builds share the folder ``cv2``; harmless only when their versions agree."""
    found = {name: installed[name] for name in PROVIDERS["cv2"] if name in installed}
    if len(set(found.values())) < 2:
        return []
    first = next(iter(found))
    pins = " ".join(f"{name}=={found[first]}" for name in found if name != first)
    listing = ", ".join(f"{name} {version}" for name, version in found.items())
    return [
        Problem(
            f"OpenCV is installed in different versions over each other: {listing}",
            f"pip install --force-reinstall --no-deps {pins}",
            is_error=False,
        )
    ]


def check_torch(installed: Mapping[str, str]) -> list[Problem]:
    """A torch older than the oldest supported one (a missing torch is a failed probe)."""
    version = installed.get("torch")
    if version is None or release(version) >= MIN_TORCH:
        return []
    needed = ".".join(map(str, MIN_TORCH))
    return [
        Problem(
            f"torch {version} is too old; mmbeit3 needs {needed} or newer",
            f'pip install --upgrade "torch>={needed}" torchvision',
        )
    ]


def check_numpy(installed: Mapping[str, str]) -> list[Problem]:
    """The maintained forks are written for numpy 2."""
    version = installed.get("numpy")
    forks = [name for name in sorted(installed) if name.startswith("onedl-mm")]
    if version is None or release(version) >= (2,) or not forks:
        return []
    return [
        Problem(
            f"numpy {version} with {', '.join(forks)}, which need numpy 2",
            'pip install --upgrade "numpy>=2"',
        )
    ]


def check_mmcv_range(installed: Mapping[str, str]) -> list[Problem]:
    """The original mmdet and mmsegmentation refuse to be imported with mmcv 2.2 or newer."""
    originals = [name for name in ("mmdet", "mmsegmentation") if name in installed]
    mmcv = next((name for name in PROVIDERS["mmcv"] if name in installed), None)
    if not originals or mmcv is None or (2,) <= release(installed[mmcv]) < (2, 2):
        return []
    listing = " and ".join(f"{name} {installed[name]}" for name in originals)
    forks = {"mmdet": "onedl-mmdetection", "mmsegmentation": "onedl-mmsegmentation"}
    return [
        Problem(
            f"{listing} accept mmcv >=2.0, <2.2, but {mmcv} {installed[mmcv]} is installed",
            f"pip uninstall -y {' '.join(originals)} && pip install "
            + " ".join(forks[name] for name in originals),
        )
    ]


def check_pkg_resources(installed: Mapping[str, str], available: bool) -> list[Problem]:
    """The original mmengine needs ``pkg_resources``, which setuptools 82 no longer has."""
    original = next((n for n in ("mmengine", "mmengine-lite") if n in installed), None)
    if original is None or available:
        return []
    return [
        Problem(
            f"{original} {installed[original]} needs pkg_resources, which setuptools "
            f"{installed.get('setuptools', '(not installed)')} does not provide",
            'pip install "setuptools<81"',
        )
    ]


def check_import_order(modules: Iterable[str]) -> list[Problem]:
    """Modules that took mmcv's operators before ``import mmbeit3`` could supply them.

    Args:
        modules: Names in the order of their import (the keys of ``sys.modules``).
    """
    names = list(modules)
    ours = names.index("mmbeit3") if "mmbeit3" in names else 0
    before = [name for name in names[:ours] if name in OPERATOR_USERS]
    if not before:
        return []
    return [
        Problem(
            f"imported before mmbeit3, so perhaps without operators: {', '.join(before)}",
            "put `import mmbeit3` before any import of mmdet or mmseg (here: in sitecustomize.py "
            "or a .pth file of this environment)",
        )
    ]


def check_gpu(torch_cuda: str | None, available: bool, has_driver: bool) -> list[Problem]:
    """An NVIDIA driver is there, but torch cannot use it.

    Args:
        torch_cuda: CUDA version torch was built for, None for a build without CUDA.
        available: What ``torch.cuda.is_available()`` says.
        has_driver: Whether the machine has ``nvidia-smi``.
    """
    if available or not has_driver:
        return []
    build = f"CUDA {torch_cuda}" if torch_cuda else "the CPU only"
    return [
        Problem(
            f"this machine has an NVIDIA driver, but torch (built for {build}) finds no GPU",
            "compare with the CUDA version that nvidia-smi prints: install a torch and torchvision "
            "built for that version or an older one, or update the driver",
            is_error=False,
        )
    ]


def check_compiled_mmcv(failure: str | None, installed: Mapping[str, str]) -> list[Problem]:
    """A compiled ``mmcv._ext`` that cannot be loaded (None: it loads, or there is none)."""
    if failure is None:
        return []
    remove = " ".join(name for name in PROVIDERS["mmcv"] if name in installed) or "mmcv"
    plain = "mmcv-lite==2.1.0" if "mmdet" in installed else "onedl-mmcv"
    return [
        Problem(
            f"mmcv has compiled operators, but they do not load: {failure}",
            f"they were built for another torch: pip uninstall -y {remove} && pip install "
            f"--no-cache-dir {plain} (mmbeit3 brings its own operators), or compile mmcv again",
        )
    ]


def check_probes(failures: Mapping[str, str], installed: Mapping[str, str]) -> list[Problem]:
    """Packages whose import or first use failed: package -> error message."""
    problems = [explain(name, error, installed) for name, error in failures.items()]
    return list(dict.fromkeys(problems))  # one missing package makes several imports fail


def check_operators(
    device: str, failures: Mapping[str, str], installed: Mapping[str, str]
) -> list[Problem]:
    """Operators that failed their trial on a device: operator -> error message."""
    return [
        Problem(f"{operator} fails on {device}: {error}", explain("mmcv", error, installed).fix)
        for operator, error in failures.items()
    ]


def explain(name: str, error: str, installed: Mapping[str, str]) -> Problem:
    """Turn the message of a failed import or call into a problem with a fix."""
    torchvision = _torchvision_for(installed.get("torch", ""))
    missing = re.search(r"No module named '([^'.]+)'", error)
    if missing and missing[1] != "pkg_resources":
        package = missing[1]
        requirement = torchvision if package == "torchvision" else _provider(package, {})
        return Problem(f"{package} is not installed", f"pip install {requirement}")
    provider = _provider(name, installed)
    fix = f"pip install --upgrade --force-reinstall --no-deps {provider}"
    for pattern, known_fix in _KNOWN_ERRORS:
        if re.search(pattern, error):
            fix = known_fix.format(provider=provider, torchvision=torchvision)
            break
    return Problem(f"{name} does not work: {error}", fix)


_KNOWN_ERRORS = (
    (r"pkg_resources", 'pip install "setuptools<81"'),
    (r"torchvision::|torchvision.*compiled", "pip install --upgrade {torchvision}"),
    (
        r"lib(GL|gthread|xcb|X11)",
        "OpenCV misses desktop libraries: pip uninstall -y opencv-python && pip install "
        "--force-reinstall --no-deps opencv-python-headless",
    ),
    (
        r"Numpy is not available|_ARRAY_API|compiled using NumPy 1|multiarray|dtype size changed",
        "{provider} was built for another numpy: pip install --upgrade --force-reinstall --no-deps "
        "{provider} (and numpy>=2)",
    ),
    (
        r"is used but incompatible",
        "the original mmdet/mmsegmentation limit mmcv: pip uninstall -y mmdet mmsegmentation && "
        "pip install onedl-mmdetection onedl-mmsegmentation",
    ),
    (
        r"no kernel image|CUDA error",
        "this torch was not built for this GPU: install the build that pytorch.org names for it",
    ),
    (
        r"undefined symbol|DLL load failed|symbol not found",
        "{provider} was built for another torch: pip install --upgrade --force-reinstall --no-deps "
        "--no-cache-dir {provider}",
    ),
)


def _provider(import_name: str, installed: Mapping[str, str]) -> str:
    """The distribution behind an import name: the installed one, else the one to install."""
    providers = PROVIDERS.get(import_name, (import_name,))
    return next((name for name in providers if name in installed), providers[0])


def _torchvision_for(torch_version: str) -> str:
    """The requirement that fits: torch 2.N goes with torchvision 0.(N + 15).

    From 0.29 on torchvision is built on torch's stable interface: it accepts any torch >= 2.14.
    """
    numbers = release(torch_version)
    if len(numbers) < 2:
        return "torch torchvision"
    return '"torchvision>=0.29"' if numbers >= (2, 14) else f'"torchvision==0.{numbers[1] + 15}.*"'


def release(version: str) -> tuple[int, ...]:
    """The numbers at the front of a version: ``'2.14.1+cu130'`` -> ``(2, 14, 1)``."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
