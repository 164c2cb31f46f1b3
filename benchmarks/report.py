"""What was measured, as tables in Markdown, as JSON, and as pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Candidate, Case, Comparison, Measured, difference

GIGA = 1e9
GIB = 2**30


def summarize(case: Case, measured: dict[str, Measured]) -> dict[str, Any]:
    """All numbers of a case, as written to JSON."""
    return {
        "name": case.name,
        "title": case.title,
        "x_label": case.x_label,
        "candidates": [_candidate(case, c, measured) for c in case.candidates],
        "comparisons": [_comparison(entry, measured) for entry in case.comparisons],
    }


def failure(name: str, error: str) -> dict[str, Any]:
    """The entry of a case that failed."""
    empty: dict[str, Any] = {"candidates": [], "comparisons": []}
    return {"name": name, "title": name, "x_label": "", **empty, "error": error}


def _candidate(case: Case, candidate: Candidate, measured: dict[str, Measured]) -> dict[str, Any]:
    found = measured[candidate.name]
    entry: dict[str, Any] = {
        "name": candidate.name,
        "seconds": found.seconds,
        "median": found.median,
        "shortest": found.spread[0],
        "longest": found.spread[1],
    }
    if candidate.items:
        entry["items_per_second"] = candidate.items / found.median
    if candidate.series:
        entry |= {"series": candidate.series, "x": candidate.x}
    if found.memory:
        entry |= {"memory_total": found.memory.total, "memory_working": found.memory.working}
    for key, most in (
        ("median", candidate.seconds_at_most),
        ("memory_total", candidate.memory_at_most),
    ):
        if most is not None and key in entry:
            entry[f"{key}_at_most"] = most
            entry["met"] = entry.get("met", True) and entry[key] <= most
    if candidate.flops:
        entry["flops"] = candidate.flops
        entry["flops_per_second"] = candidate.flops / found.median
    if candidate.limit:
        limit = next(c for c in case.candidates if c.name == candidate.limit)
        rate = limit.flops / measured[limit.name].median
        entry |= {"limit": limit.name, "share": entry["flops_per_second"] / rate}
        if candidate.name in case.share:
            entry["share_at_least"] = case.share[candidate.name]
            entry["met"] = entry["share"] >= entry["share_at_least"]
    return entry


def _comparison(comparison: Comparison, measured: dict[str, Measured]) -> dict[str, Any]:
    ours, peer = measured[comparison.ours], measured[comparison.peer]
    entry = {"ours": comparison.ours, "peer": comparison.peer, "faster": peer.median / ours.median}
    checks = []
    if comparison.speed is not None:
        entry["faster_at_least"] = comparison.speed
        checks.append(entry["faster"] >= comparison.speed)
    if ours.memory and peer.memory:
        entry["memory_ratio"] = ours.memory.total / peer.memory.total
        entry["memory_working_ratio"] = ours.memory.working / max(peer.memory.working, 1)
        if comparison.memory is not None:
            entry["memory_at_most"] = comparison.memory
            checks.append(entry["memory_ratio"] <= comparison.memory)
    if comparison.tolerance is not None:
        entry["difference"] = difference(ours.output, peer.output)
        entry["difference_at_most"] = comparison.tolerance
        checks.append(entry["difference"] <= comparison.tolerance)
    if checks:
        entry["met"] = all(checks)
    return entry


def in_words(summary: dict[str, Any]) -> str:
    """The tables of a case, in Markdown."""
    lines = [f"### {summary['title']}", ""]
    if summary["candidates"]:
        lines.append(_times(summary["candidates"]))
    failed = summary.get("failed", {}) | ({"": summary["error"]} if "error" in summary else {})
    for name, error in failed.items():
        lines += ["", f"{name} failed: {error}".strip()]
    if summary["comparisons"]:
        lines += ["", _demands(summary["comparisons"])]
    return "\n".join(lines)


def _times(entries: Sequence[dict[str, Any]]) -> str:
    rows = [["", "median", "shortest - longest", "images/s", "memory", "without weights"]]
    rows[0] += ["GFLOP/s", "of the limit"]
    for entry in entries:
        share = f"{entry['share']:.0%}" if "share" in entry else ""
        if "share_at_least" in entry:
            share += f" (target: {entry['share_at_least']:.0%})"
        rows.append(
            [
                entry["name"],
                _seconds(entry["median"]) + _most(entry, "median", _seconds),
                f"{_seconds(entry['shortest'])} - {_seconds(entry['longest'])}",
                f"{entry['items_per_second']:.3g}" if "items_per_second" in entry else "",
                _gib(entry.get("memory_total")) + _most(entry, "memory_total", _gib),
                _gib(entry.get("memory_working")),
                f"{entry['flops_per_second'] / GIGA:.0f}" if "flops_per_second" in entry else "",
                share,
            ]
        )
    return table(rows)


def _demands(entries: Sequence[dict[str, Any]]) -> str:
    rows = [["", "next to", "faster", "memory", "difference", "met"]]
    for entry in entries:
        met = {True: "yes", False: "**no**", None: ""}[entry.get("met")]
        rows.append(
            [
                entry["ours"],
                entry["peer"],
                f"{entry['faster']:.2f}x" + _target(entry, "faster_at_least", "{:g}x"),
                f"{entry['memory_ratio']:.2f}x" + _target(entry, "memory_at_most", "{:g}x")
                if "memory_ratio" in entry
                else "",
                f"{entry['difference']:.1e}" + _target(entry, "difference_at_most", "{:.0e}")
                if "difference" in entry
                else "",
                met,
            ]
        )
    return table(rows)


def _most(entry: dict[str, Any], key: str, form: Callable[[Any], str]) -> str:
    """What was asked for of a number that is to be small, and whether it was missed."""
    most = entry.get(f"{key}_at_most")
    if most is None:
        return ""
    return f" (target: {form(most)}{'' if entry[key] <= most else ', **missed**'})"


def _target(entry: dict[str, Any], key: str, form: str) -> str:
    return f" (target: {form.format(entry[key])})" if key in entry else ""


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _gib(value: int | None) -> str:
    return "" if value is None else f"{value / GIB:.2f} GiB"


def table(rows: list[list[str]]) -> str:
    """Rows, the first of them the head, as a Markdown table without its empty columns."""
    kept = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    rows = [[row[column] for column in kept] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(kept))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def plot(summary: dict[str, Any], path: Path) -> None:
    """Draw time and memory of every series; both axes are logarithmic.

    Args:
        summary (dict): What :func:`summarize` returned.
        path (Path): The picture.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    series: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in summary["candidates"]:
        if "series" in entry:
            series[entry["series"]].append(entry)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5))
    labels = ("seconds", "working memory, GiB")
    values = (lambda entry: entry["median"], lambda entry: entry["memory_working"] / GIB)
    for axis, label, value in zip(axes, labels, values, strict=True):
        for name, entries in series.items():
            points = [
                (e["x"], value(e)) for e in entries if label == "seconds" or "memory_total" in e
            ]
            axis.plot(*zip(*points, strict=True), marker="o", label=name) if points else None
        ticks = sorted({entry["x"] for entries in series.values() for entry in entries})
        axis.set(xscale="log", yscale="log", xlabel=summary["x_label"], ylabel=label)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(summary["title"])
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
