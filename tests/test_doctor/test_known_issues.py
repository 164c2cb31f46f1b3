"""Every known issue is named with its fix, and a sound environment raises no alarm."""

from __future__ import annotations

import pytest

from mmbeit3.doctor import known_issues

FORKS = {
    "onedl-mmengine": "0.10.12",
    "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1",
    "onedl-mmsegmentation": "1.4.2",
    "torch": "2.14.1",
    "torchvision": "0.29.2",
    "numpy": "2.2.6",
    "opencv-python": "4.12.0.88",
    "opencv-python-headless": "4.12.0.88",
    "setuptools": "84.0.0",
}
ORIGINALS = {
    "mmengine": "0.10.7",
    "mmcv-lite": "2.1.0",
    "mmdet": "3.3.0",
    "mmsegmentation": "1.2.2",
    "torch": "2.14.1",
    "numpy": "1.26.4",
    "setuptools": "80.10.2",
}


@pytest.mark.parametrize("installed", [FORKS, ORIGINALS, {}])
def test_sound_environments_raise_no_alarm(installed: dict[str, str]) -> None:
    assert known_issues.check_duplicates(installed) == []
    assert known_issues.check_opencv(installed) == []
    assert known_issues.check_torch(installed) == []
    assert known_issues.check_numpy(installed) == []
    assert known_issues.check_mmcv_range(installed) == []
    assert known_issues.check_pkg_resources(installed, available="mmengine" in installed) == []
    assert known_issues.check_probes({}, installed) == []
    assert known_issues.check_operators("cpu", {}, installed) == []


@pytest.mark.parametrize(
    ("name", "extra", "kept"),
    [
        ("mmdet", {"mmdet": "3.3.0"}, "onedl-mmdetection==3.5.1"),
        ("mmcv", {"mmcv": "2.1.0"}, "onedl-mmcv==2.3.6"),
        ("mmcv", {"mmcv-lite": "2.1.0", "mmcv-full": "1.7.2"}, "onedl-mmcv==2.3.6"),
        ("mmengine", {"mmengine-lite": "0.10.7"}, "onedl-mmengine==0.10.12"),
        ("mmseg", {"mmsegmentation": "1.2.2"}, "onedl-mmsegmentation==1.4.2"),
    ],
)
def test_two_distributions_behind_one_import_name(
    name: str, extra: dict[str, str], kept: str
) -> None:
    (problem,) = known_issues.check_duplicates(FORKS | extra)
    assert problem.is_error
    assert f"`import {name}`" in problem.what
    remove, install = problem.fix.split(" && ")
    assert remove.startswith("pip uninstall -y ")
    assert set(extra) | {kept.split("==")[0]} == set(remove.split()[3:])
    assert install == f"pip install --no-deps {kept}"


def test_opencv_versions_that_differ_are_a_warning() -> None:
    (problem,) = known_issues.check_opencv(FORKS | {"opencv-python-headless": "5.0.0.93"})
    assert not problem.is_error
    assert "opencv-python 4.12.0.88, opencv-python-headless 5.0.0.93" in problem.what
    assert problem.fix.endswith(" opencv-python-headless==4.12.0.88")


@pytest.mark.parametrize("version", ["2.7.1", "1.13.1+cu117"])
def test_old_torch(version: str) -> None:
    (problem,) = known_issues.check_torch(FORKS | {"torch": version})
    assert problem.is_error and version in problem.what and "torch>=2.8" in problem.fix


@pytest.mark.parametrize("version", ["2.8.0", "2.14.1+cu130", "2.15.0a0+git1", "3.0"])
def test_new_torch(version: str) -> None:
    assert known_issues.check_torch({"torch": version}) == []


def test_numpy_1_with_the_forks() -> None:
    (problem,) = known_issues.check_numpy(FORKS | {"numpy": "1.26.4"})
    assert problem.is_error and "numpy>=2" in problem.fix


@pytest.mark.parametrize(
    "mmcv", [{"mmcv": "2.2.0"}, {"mmcv-lite": "1.7.1"}, {"onedl-mmcv": "2.3.6"}]
)
def test_mmcv_that_the_original_mmdet_refuses(mmcv: dict[str, str]) -> None:
    installed = {"mmdet": "3.3.0", "mmsegmentation": "1.2.2"} | mmcv
    (problem,) = known_issues.check_mmcv_range(installed)
    assert problem.is_error and next(iter(mmcv.values())) in problem.what
    assert problem.fix == (
        "pip uninstall -y mmdet mmsegmentation && "
        "pip install onedl-mmdetection onedl-mmsegmentation"
    )


def test_original_mmengine_without_pkg_resources() -> None:
    (problem,) = known_issues.check_pkg_resources(
        ORIGINALS | {"setuptools": "84.0.0"}, available=False
    )
    assert problem.is_error and "setuptools 84.0.0" in problem.what
    assert problem.fix == 'pip install "setuptools<81"'
    assert known_issues.check_pkg_resources(FORKS, available=False) == []


def test_models_imported_before_mmbeit3() -> None:
    (problem,) = known_issues.check_import_order(
        ["sys", "mmcv", "mmdet.models", "mmbeit3", "mmcv.ops"]
    )
    assert problem.is_error and "mmdet.models" in problem.what and "mmcv.ops" not in problem.what
    assert (
        known_issues.check_import_order(["sys", "mmcv", "mmdet", "mmbeit3", "mmdet.models"]) == []
    )
    assert known_issues.check_import_order(["mmdet.models"]) == []


def test_gpu_that_torch_cannot_use() -> None:
    (problem,) = known_issues.check_gpu("13.0", available=False, has_driver=True)
    assert not problem.is_error and "CUDA 13.0" in problem.what
    (problem,) = known_issues.check_gpu(None, available=False, has_driver=True)
    assert "the CPU only" in problem.what
    assert known_issues.check_gpu("13.0", available=True, has_driver=True) == []
    assert known_issues.check_gpu("13.0", available=False, has_driver=False) == []


@pytest.mark.parametrize(
    ("installed", "fix"),
    [
        (FORKS, "pip uninstall -y onedl-mmcv && pip install --no-cache-dir onedl-mmcv "),
        (
            {"mmdet": "3.3.0", "mmcv": "2.1.0"},
            "pip uninstall -y mmcv && pip install --no-cache-dir mmcv-lite==2.1.0 ",
        ),
    ],
)
def test_compiled_mmcv_that_does_not_load(installed: dict[str, str], fix: str) -> None:
    error = "ImportError: _ext.so: undefined symbol: _ZN3c10"
    (problem,) = known_issues.check_compiled_mmcv(error, installed)
    assert problem.is_error and error in problem.what
    assert "another torch" in problem.fix and fix in problem.fix
    assert known_issues.check_compiled_mmcv(None, installed) == []


@pytest.mark.parametrize(
    ("package", "error", "fix"),
    [
        ("torchvision", "No module named 'torchvision'", 'pip install "torchvision>=0.29"'),
        (
            "torchvision",
            "operator torchvision::nms does not exist",
            'pip install --upgrade "torchvision>=0.29"',
        ),
        ("mmdet", "No module named 'mmdet'", "pip install onedl-mmdetection"),
        ("faster_coco_eval", "No module named 'faster_coco_eval'", "pip install faster-coco-eval"),
        (
            "faster_coco_eval",
            "cannot import name 'COCOeval_faster' from 'faster_coco_eval'",
            "pip install --upgrade --force-reinstall --no-deps faster-coco-eval",
        ),
        ("mmengine", "No module named 'pkg_resources'", 'pip install "setuptools<81"'),
        ("timm", "No module named 'PIL'", "pip install pillow"),
        ("cv2", "libGL.so.1: cannot open shared object file", "opencv-python-headless"),
        ("numpy", "Numpy is not available", "numpy>=2"),
        (
            "pycocotools",
            "numpy.dtype size changed, may indicate binary incompatibility",
            "--force-reinstall --no-deps pycocotools",
        ),
        ("mmdet", "MMCV==2.3.6 is used but incompatible.", "pip install onedl-mmdetection"),
        ("mmcv", "undefined symbol: _ZN3c10", "--no-cache-dir onedl-mmcv"),
    ],
)
def test_failed_probe_is_explained(package: str, error: str, fix: str) -> None:
    (problem,) = known_issues.check_probes({package: error}, FORKS)
    assert problem.is_error and (package in problem.what or error.split("'")[1] in problem.what)
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("torch", "torchvision"),
    [("2.8.0+cu129", '"torchvision==0.23.*"'), ("2.13.0", '"torchvision==0.28.*"')],
)
def test_torchvision_is_named_in_the_version_that_fits(torch: str, torchvision: str) -> None:
    error = "No module named 'torchvision'"
    (problem,) = known_issues.check_probes({"torchvision": error}, {"torch": torch})
    assert problem.fix == f"pip install {torchvision}"


def test_one_missing_package_is_named_once() -> None:
    error = "No module named 'torch'"
    problems = known_issues.check_probes({"torch": error, "torchvision": error, "timm": error}, {})
    assert problems == [known_issues.Problem("torch is not installed", "pip install torch")]


def test_fix_names_the_stack_that_is_installed() -> None:
    (problem,) = known_issues.check_probes({"mmcv": "undefined symbol: x"}, ORIGINALS)
    assert problem.fix.endswith(" mmcv-lite")


def test_operator_that_fails_on_a_device() -> None:
    failures = {"RoIAlign": "Could not run 'torchvision::roi_align' with the 'CUDA' backend"}
    (problem,) = known_issues.check_operators("cuda:0", failures, FORKS)
    assert problem.is_error and problem.what.startswith("RoIAlign fails on cuda:0")
    assert problem.fix == 'pip install --upgrade "torchvision>=0.29"'


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.14.1+cu130", (2, 14, 1)), ("2.0.0rc4", (2, 0, 0)), ("5", (5,)), ("main", ())],
)
def test_release(version: str, numbers: tuple[int, ...]) -> None:
    assert known_issues.release(version) == numbers
