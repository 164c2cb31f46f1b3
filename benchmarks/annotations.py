"""Starts with an annotation file of any size: time and memory with its index, and read whole.

``python -m benchmarks.annotations --images 2000000 --boxes 30000000 --folder DIR`` makes a file
like Objects365's, in which annotations stand in no order, and loads it for training, each time in
a process of its own. Images are not made, and their files not looked at. ``--whole`` reads it
without an index, too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.memory import STATUS
from mmbeit3.utils.processes import in_new_process

NUM_CLASSES, NUM_READ, AT_ONCE = 365, 1000, 100_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotations", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--boxes", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    file = args.folder / f"annotations-{args.images}-{args.boxes}.json"
    if not file.exists():
        make_annotations(file, args.images, args.boxes)
    print(f"{file.name}: {file.stat().st_size / 1e9:.2f} GB")
    starts = ["first start", "later start", *(["read whole"] if args.whole else [])]
    for name in starts:
        print(f"{name}: {in_new_process(load, str(file), name == 'read whole')}")


def make_annotations(file: Path, num_images: int, num_boxes: int) -> None:
    """Write a COCO file of images of 365 classes without masks; the same at every call."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(400, 1200, (num_images, 2))
    with file.open("w") as stream:
        stream.write('{"info": {"year": 2026}, "images": [')
        for start in range(0, num_images, AT_ONCE):
            rows = range(start, min(num_images, start + AT_ONCE))
            lines = (
                f'{{"id": {row + 1}, '
                f'"file_name": "patch{row * 50 // num_images}/v2_{row:08d}.jpg", '
                f'"width": {sizes[row, 0]}, "height": {sizes[row, 1]}}}'
                for row in rows
            )
            stream.write(", " * bool(start) + ", ".join(lines))
        stream.write('], "annotations": [')
        for start in range(0, num_boxes, AT_ONCE):
            count = min(num_boxes - start, AT_ONCE)
            images, labels = (
                draw.integers(0, num_images, count),
                draw.integers(0, NUM_CLASSES, count),
            )
            sides = draw.uniform(0.02, 0.5, (count, 2)) * sizes[images]
            corners = draw.random((count, 2)) * (sizes[images] - sides)
            table = np.hstack([corners, sides, sides.prod(axis=1, keepdims=True)]).tolist()
            crowds = (draw.random(count) < 0.03).astype(int).tolist()
            columns = zip(images.tolist(), labels.tolist(), table, crowds, strict=True)
            lines = (
                f'{{"id": {number}, "image_id": {image + 1}, "category_id": {label + 1}, "bbox": '
                f"[{x:.4f}, {y:.4f}, {width:.4f}, {height:.4f}], "
                f'"area": {area:.4f}, "iscrowd": {crowd}}}'
                for number, (image, label, (x, y, width, height, area), crowd) in enumerate(
                    columns, start + 1
                )
            )
            stream.write(", " * bool(start) + ", ".join(lines))
        classes = (f'{{"id": {n}, "name": "class {n}"}}' for n in range(1, NUM_CLASSES + 1))
        stream.write(f'], "categories": [{", ".join(classes)}]}}')


def load(file: str, whole: bool) -> str:
    """Load the data set for training and read some items; what it took, in words."""
    from mmbeit3.datasets import CocoDataset, coco, coco_index

    coco.check_image_files = lambda *args: None
    coco_index.LARGE = 10**12 if whole else 0
    before, start, busy = _memory("VmRSS"), time.perf_counter(), time.process_time()
    filters = {"filter_empty_gt": True, "min_size": 32}
    dataset = CocoDataset(
        ann_file=file, data_prefix={"img": "images"}, pipeline=[], filter_cfg=filters
    )
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    after, peak = _memory("VmRSS"), _memory("VmHWM")
    rows = np.random.default_rng(0).integers(0, len(dataset), NUM_READ).tolist()
    start = time.perf_counter()
    for row in rows:
        dataset.get_data_info(row)
    each = (time.perf_counter() - start) / NUM_READ
    return (
        f"{len(dataset):,} images in {seconds:.1f} s ({busy:.1f} s of the processor), resident "
        f"{after:.2f} GB ({before:.2f} before), {peak:.2f} at most; an item {each * 1e6:.0f} us"
    )


def _memory(key: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
