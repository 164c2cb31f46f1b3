"""Pages with plots that answer to clicks, in one file that opens from disk."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.visualization.picture_page import STYLE


def page_packages(use: str) -> tuple[ModuleType, ModuleType]:
    """Import what a page needs; called before there is work to lose, it is the check for it.

    Args:
        use (str): What needs them.

    Returns:
        tuple: ``jinja2`` and ``plotly.offline``.

    Raises:
        InputError: One is not installed.
    """
    return optional_package("jinja2", use, "report"), optional_package(
        "plotly.offline", use, "report"
    )


def interactive_page(template: str, title: str, note: str, data: Any) -> str:
    """Fill a page of ``pages/``; plotly.js, 5 MB, is in it.

    Args:
        template (str): Its name.
        title (str): What stands above.
        note (str): A line below the title.
        data (Any): What the page's script reads as ``data``, of JSON's types.

    Returns:
        str: The page; texts are escaped.
    """
    jinja2, plotly = page_packages("a page with plots")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmbeit3.visualization", "pages"), autoescape=True
    )
    # a text could end the script that holds it
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.get_template(template).render(
        title=title, note=note, style=STYLE, data=content, plotly=plotly.get_plotlyjs()
    )
