"""Pages in a real browser: Chromium without a window runs a script and tells what came of it.

A page on disk is opened by :func:`run_in_browser`; one that a server keeps talking to by
:class:`Tab`, which is told what to do meanwhile.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

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


def find_browser() -> str:
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("there is no Chromium")
    return browser


def run_in_browser(page: Path, script: str, dark: bool = False) -> Any:
    """Open a page from disk, run the body of an async function in it, and give what it returns."""
    browser = find_browser()
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</html>", PROBE.format(script=script)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    flags += [f"--user-data-dir={page.parent / 'browser'}", "--virtual-time-budget=20000"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command = [browser, *flags, "--dump-dom", f"file://{probed}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="probe">(.*?)</pre>', answer.stdout, re.S)
    assert found and found[1], f"the script did not end: {answer.stderr[-2000:]}"
    return json.loads(html.unescape(found[1]))


class Tab:
    """A page in Chromium, driven by the DevTools protocol.

    Args:
        address: Of the page.
        folder: For the browser's own files.
        dark: Whether the person prefers dark pages.
    """

    def __init__(self, address: str, folder: Path, dark: bool = False) -> None:
        client = pytest.importorskip("websockets.sync.client")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,900"]
        flags += [f"--user-data-dir={folder / 'browser'}", "--remote-debugging-port=0"]
        command = [find_browser(), *flags, "about:blank"]
        self.requested: list[str] = []  # addresses of all that the page loads
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        lines = iter(self._process.stderr.readline, "")
        found = next(filter(None, (re.search(r"listening on ws://(\S+?)/", one) for one in lines)))
        with urlopen(f"http://{found[1]}/json/list") as answer:
            [page] = [one for one in json.load(answer) if one["type"] == "page"]
        self._ending = ExitStack()
        connection = client.connect(page["webSocketDebuggerUrl"], max_size=None)
        self._socket = self._ending.enter_context(connection)
        self._number = 0
        for domain in ("Page", "Network", "DOM", "Runtime"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.wait("location.href != 'about:blank' && document.readyState == 'complete'")

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()
        self._process.terminate()
        self._process.wait()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(request))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("method") in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                params = message["params"]
                self.requested.append(
                    params["url"] if "url" in params else params["request"]["url"]
                )
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def run(self, expression: str) -> Any:
        """Give the value of an expression of JavaScript."""
        options = {"awaitPromise": True, "returnByValue": True}
        found = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """Wait until an expression is true, and give its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"{expression}: {self.run('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def upload(self, *files: Path, selector: str = "input[type=file]") -> None:
        """Choose files of an input."""
        self.wait(f"!!document.querySelector('{selector}')")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        paths = [str(file.resolve()) for file in files]
        self.call("DOM.setFileInputFiles", files=paths, nodeId=node)

    def download(self, folder: Path, click: str) -> Path:
        """Run an expression that starts a download, and give the file."""
        folder.mkdir()
        options = {"behavior": "allow", "downloadPath": str(folder)}
        self.call("Browser.setDownloadBehavior", **options)
        self.run(click)
        end = time.monotonic() + 60
        while not (files := [one for one in folder.iterdir() if one.suffix != ".crdownload"]):
            assert time.monotonic() < end, self.run("document.body.innerText")
            time.sleep(0.1)
        return files[0]

    def press(self, selector: str, key: str, times: int = 1) -> None:
        """Press a key, such as ArrowRight, on an element."""
        self.wait(f"!!document.querySelector('{selector}')")
        self.run(f"document.querySelector('{selector}').focus()")
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                code = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}[key]
                options = {"key": key, "code": key, "windowsVirtualKeyCode": code}
                self.call("Input.dispatchKeyEvent", type=kind, **options)

    def write(self, selector: str, text: str) -> None:
        """Type a text into an element, and Enter."""
        self.wait(f"!!document.querySelector('{selector}')")
        self.run(f"document.querySelector('{selector}').focus()")
        self.call("Input.insertText", text=text)
        self.press(selector, "Enter")

    def screenshot(self, file: Path) -> None:
        """Write what is shown as PNG."""
        content = self.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(content))
