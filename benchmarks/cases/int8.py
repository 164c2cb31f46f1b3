"""Tower and detector in 8-bit integers, next to bfloat16 and float32."""

from __future__ import annotations

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.cases import detector
from benchmarks.cases.tower import build_tower, count
from benchmarks.data import require
from benchmarks.options import Options

DTYPES = ("float32", "bfloat16", "int8")


def int8(options: Options) -> Case:
    """One image through the tower, and photographs through the detector where a recipe has one."""
    arch, size, device = options.arch, options.size, options.device
    whole = arch in ("base", "large", "giant")
    photographs = dict(arch=arch, num_images=options.num_images, device=device)
    if whole:
        photographs |= dict(folder=require(options.coco / "val2017", "--coco"))
    candidates, comparisons = [], []
    for dtype in DTYPES:
        image = dict(arch=arch, size=size, device=device, kind="windows", dtype=dtype)
        flops = count(arch, size, "windows")
        candidates.append(Candidate(f"tower, {dtype}", build_tower, image, flops=flops))
        if whole:
            given = photographs | dict(dtype=dtype)
            candidates.append(Candidate(f"detector, {dtype}", detector.build, given, memory=False))
    for dtype in DTYPES[1:]:
        asked = dtype == "int8"
        comparisons.append(
            Comparison(
                f"tower, {dtype}", "tower, float32", speed=1.8 if asked else None, tolerance=0.1
            )
        )
        if whole:
            comparisons.append(
                Comparison(f"detector, {dtype}", "detector, float32", speed=1.5 if asked else None)
            )
    model = f"; Cascade Mask R-CNN, {options.num_images} images of COCO val2017" if whole else ""
    return Case(
        "int8",
        f"{arch} tower, one image of {size} x {size}{model}",
        tuple(candidates),
        tuple(comparisons),
    )
