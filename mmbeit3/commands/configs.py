"""List the configs of this package: ``mmbeit3 configs [WORD ...]``."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
import textwrap

from mmbeit3.utils.packaged_configs import PREFIX, configs_folder

HELP = "list the configs of this package by name"
DESCRIPTION = (
    "List the configs that come with this package: what they are for, the data they are for, and "
    "whether anyone has trained them. A name can stand wherever a command takes a config."
)
TASKS = {
    "beit3_vitdet": "detection",
    "beit3_mask2former": "segmentation",
    "beit3_imagenet": "classification",
    "beit3_retrieval": "retrieval",
    "beit3_vqa": "vqa",
    "beit3_nlvr2": "nlvr2",
    "beit3_captioning": "captioning",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="list only configs that have all these words in name, task or data",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with what each config reproduces"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 means that no config has the words."""
    rows = [row for row in list_configs() if _has(row, args.words)]
    if args.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print(rows)
    else:
        print("no config has these words; `mmbeit3 configs` lists all")
    return int(not rows)


def list_configs() -> list[dict[str, str]]:
    """Describe each config, from the metafiles and the head of the config.

    Returns:
        Rows with ``name``, ``task``, ``data``, ``state``, ``reproduces`` and ``base``, the text to
        inherit from it.
    """
    import yaml

    root, rows = configs_folder(), []
    for metafile in sorted(root.glob("*/metafile.yml")):
        for model in yaml.safe_load(metafile.read_text(encoding="utf-8"))["Models"]:
            path = model["Config"].removeprefix("configs/")
            rows.append(
                {
                    "name": model["Name"],
                    "task": TASKS.get(metafile.parent.name, metafile.parent.name),
                    "data": model["Metadata"]["Training Data"],
                    "state": model["Metadata"]["State"],
                    "reproduces": _reproduces((root / path).read_text(encoding="utf-8")),
                    "base": PREFIX + path,
                }
            )
    return rows


def _reproduces(code: str) -> str:
    """What the head of a config says that it reproduces, up to the next point of the head."""
    head = ast.get_docstring(ast.parse(code)) or ""
    found = re.search(r"^Reproduces: (.*?)(?=^(?:Run|Copy)\b|\n\n|\Z)", head, re.S | re.M)
    return " ".join(found[1].split()) if found else ""


def _has(row: dict[str, str], words: list[str]) -> bool:
    line = " ".join((row["name"], row["task"], row["data"])).lower()
    return all(word.lower() in line for word in words)


def _print(rows: list[dict[str, str]]) -> None:
    columns = ("name", "task", "data", "state")
    widths = [
        max(len(row[column]) for row in [*rows, dict(zip(columns, columns, strict=True))])
        for column in columns
    ]
    wide = shutil.get_terminal_size((160, 24)).columns
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        cells = [row[column].ljust(width) for column, width in zip(columns, widths, strict=True)]
        print("  ".join(cells).rstrip() if sum(widths) + 6 <= wide else _narrow(row))
    print(f'\n{len(rows)} configs. To inherit from one in any folder: _base_ = "{rows[0]["base"]}"')


def _narrow(row: dict[str, str]) -> str:
    rest = f"{row['task']}; {row['data']}; {row['state']}"
    return f"{row['name']}\n{textwrap.indent(rest, '    ')}"
