"""Pages in a real browser: Chromium without a window runs a script and tells what came of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Clicks on a cell of a grid as a person does, given what the grid shows.
CLICK_CELL = """
const clickCell = async (id, row, column) => {
  const box = $(id).querySelector(".nsewdrag").getBoundingClientRect(), { x, y } = $(id).data[0];
  const at = { clientX: box.left + box.width * (x.indexOf(String(column)) + .5) / x.length,
               clientY: box.top + box.height * (y.indexOf(String(row)) + .5) / y.length,
               bubbles: true };
  for (const [kind, time] of [["mousemove", 300], ["mousedown", 30], ["mouseup", 500]]) {
    $(id).querySelector(".nsewdrag").dispatchEvent(new MouseEvent(kind, at));
    await pause(time);
  }
};
"""
PROBE = """<script>
const pause = time => new Promise(done => setTimeout(done, time));
window.addEventListener("load", async () => {{
  const probe = document.body.appendChild(document.createElement("pre"));
  probe.id = "probe";
  try {{ probe.textContent = JSON.stringify(await (async () => {{ {script} }})()); }}
  catch (error) {{ probe.textContent = JSON.stringify(String(error.stack)); }}
}});
</script></html>"""


def run_in_browser(page: Path, script: str) -> Any:
    """Open a page from disk, run the body of an async function in it, and give what it returns."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("there is no Chromium")
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</html>", PROBE.format(script=script)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    flags += [f"--user-data-dir={page.parent / 'browser'}", "--virtual-time-budget=20000"]
    command = [browser, *flags, "--dump-dom", f"file://{probed}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="probe">(.*?)</pre>', answer.stdout, re.S)
    assert found and found[1], f"the script did not end: {answer.stderr[-2000:]}"
    return json.loads(html.unescape(found[1]))
