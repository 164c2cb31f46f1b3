"""Run cases, print their tables, and write JSON, Markdown and pictures."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.benchmark import run, without
from benchmarks.cases import make_case
from benchmarks.machine import describe, in_words
from benchmarks.memory import silence_initialization
from benchmarks.options import Options
from benchmarks.report import failure, plot, summarize
from benchmarks.report import in_words as tables
from mmbeit3.inference.pipeline import write_json
from mmbeit3.utils.whole_files import make_folder

RESULTS = "benchmark.json"


def benchmark(
    names: Sequence[str],
    options: Options,
    rounds: int,
    out_dir: str | Path,
    plots: bool,
    command: Sequence[str],
    keep_going: bool = False,
) -> dict[str, Any]:
    """Measure cases one after the other.

    After each of them ``benchmark.json`` and ``benchmark.md`` in ``out_dir`` are written anew, with
    all that was measured until then.

    Args:
        names (Sequence[str]): Of :data:`benchmarks.cases.CASES`.
        options (Options): How large the work is.
        rounds (int): Rounds that count.
        out_dir (str | Path): Where results go; made if absent.
        plots (bool): Whether to draw the cases that have curves.
        command (Sequence[str]): Arguments of the command line, to be written next to the results.
        keep_going (bool): Whether cases and candidates that fail are written down, and the others
            go on. Defaults to False.

    Returns:
        dict: The content of ``benchmark.json``.

    Raises:
        InputError: If a case's data or packages are not there.
    """
    out_dir = Path(out_dir)
    make_folder(out_dir)
    machine = describe(options.device)
    results: dict[str, Any] = {"command": shlex.join(command), "machine": machine}
    results |= {"rounds": rounds, "cases": []}
    print(in_words(machine))
    silence_initialization()
    for name in names:
        start = time.perf_counter()
        try:
            summary = _measure(name, options, rounds, keep_going)
        except Exception as error:
            if not keep_going:
                raise
            summary = failure(name, f"{type(error).__name__}: {error}")
        summary["seconds"] = round(time.perf_counter() - start, 1)
        results["cases"].append(summary)
        print(f"\n{tables(summary)}")
        write_json(out_dir / RESULTS, results)
        _write_markdown(out_dir / "benchmark.md", results)
        if plots and summary["x_label"]:
            picture = out_dir / f"{name}.png"
            plot(summary, picture)
            print(f"\ncurves are in {picture}")
    print(f"\nresults are in {out_dir}: {RESULTS}, benchmark.md")
    return results


def _measure(name: str, options: Options, rounds: int, keep_going: bool) -> dict[str, Any]:
    case = make_case(name, options)
    print(f"\n{case.title}: {len(case.candidates)} candidates, {rounds} rounds")
    failed: dict[str, str] = {}
    say = partial(print, flush=True)
    measured = run(case, rounds, options.device, say, failed if keep_going else None)
    summary = summarize(without(case, failed), measured)
    return summary | ({"failed": failed} if failed else {})


def _write_markdown(path: Path, results: dict[str, Any]) -> None:
    text = [in_words(results["machine"]), f"`python -m benchmarks {results['command']}`"]
    text += [tables(summary) for summary in results["cases"]]
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def all_met(results: dict[str, Any]) -> bool:
    """Whether all targets were met."""
    return all(
        entry.get("met") is not False
        for case in results["cases"]
        for entry in (*case["candidates"], *case["comparisons"])
    )
