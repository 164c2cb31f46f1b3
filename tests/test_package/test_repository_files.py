"""The files around the package say the same as the package: versions, references, commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmbeit3 import __version__

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_pre_commit_runs_the_version_that_make_lint_runs() -> None:
    pins = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    revisions = {
        entry["repo"]: entry.get("rev") for entry in read(".pre-commit-config.yaml")["repos"]
    }
    (ruff,) = (rev for repo, rev in revisions.items() if repo.endswith("ruff-pre-commit"))
    assert f"ruff=={ruff.removeprefix('v')}" in pins


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == __version__
    assert citation["message"] and citation["title"] and citation["authors"]
    (paper,) = citation["references"]
    assert paper["url"].endswith("2208.10442")


def test_the_hosted_workflow_runs_what_a_clean_clone_runs() -> None:
    workflow = read(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert "3.10" in job["strategy"]["matrix"]["python"]  # the oldest that setup.py takes
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_issue_forms_can_be_filled_in() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert len(forms) == 2
    for form in forms:
        content = read(str(form.relative_to(ROOT)))
        assert content["name"] and content["description"]
        fields = [field["id"] for field in content["body"] if field["type"] != "markdown"]
        assert len(fields) == len(set(fields))
