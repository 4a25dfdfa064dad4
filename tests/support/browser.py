"""A real browser without a window: Chromium, driven through its DevTools protocol over a pair of pipes."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no browser to open pages in: install Chromium (on Debian, apt-get install chromium)"
PATIENCE = 120.0
"""Seconds that an answer may take, on a machine that does much else."""
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
_KEYS = {" ": ("Space", 32), "ArrowLeft": ("ArrowLeft", 37), "ArrowRight": ("ArrowRight", 39), "Home": ("Home", 36)}
_KEYS |= {"End": ("End", 35), "ArrowUp": ("ArrowUp", 38), "ArrowDown": ("ArrowDown", 40)}


class Browser:
    """A tab of a browser.

    Attributes:
        requests: The addresses that pages have asked for.
        complaints: What pages have written to the console as a warning or an error, or thrown.
    """

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self.commands, self.answers = commands, answers
        self.number = 0
        self.session: str | None = None
        self.waiting = bytearray()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        """The next message."""
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.waiting:
            assert select.select([self.answers], [], [], max(0.0, end - time.monotonic()))[0], "the browser is silent"
            received = os.read(self.answers.fileno(), 1 << 20)
            assert received, "the browser has ended"
            self.waiting += received
        message, _, rest = bytes(self.waiting).partition(b"\0")
        self.waiting = bytearray(rest)
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what a test wants to know."""
        params = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])

    def open(self, path: Path, fragment: str = "") -> Self:
        """Open a file, and wait until it says that it is drawn."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=path.resolve().as_uri() + (f"#{fragment}" if fragment else ""))
        self.wait("document.documentElement?.dataset.ready === 'yes'")
        return self

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code, number = _KEYS.get(key, ("", ord(key[0])))
        text = key if len(key) == 1 else ""
        named = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def centre(self, selector: str, *, part: float = 0.5) -> tuple[float, float]:
        """Where the first such element is on the screen, at so much of its width and half of its height."""
        x, y, width, height = self.evaluate(
            f"(({{x, y, width, height}}) => [x, y, width, height])(document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect())"
        )
        return x + part * width, y + height / 2

    def click(self, selector: str, *, part: float = 0.5) -> None:
        """Move the mouse onto the first such element, and click."""
        x, y = self.hover(selector, part=part)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str, *, part: float = 0.5) -> tuple[float, float]:
        """Move the mouse onto the first such element, and return where that is."""
        x, y = self.centre(selector, part=part)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def wheel(self, selector: str, by: float) -> None:
        """Turn the mouse's wheel over the first such element; upwards if `by` is negative."""
        x, y = self.centre(selector)
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    def resize(self, width: int, height: int) -> None:
        """Give the page another size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> Path:
        """Write what is on the screen into a PNG file."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path


@contextmanager
def browser(profile: Path, width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """A browser that keeps what it has to keep in a folder, and ends afterwards.

    Raises:
        FileNotFoundError: If none is installed, with a line that says what to install.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise FileNotFoundError(MISSING)
    inner_in, commands = _pipe()
    answers, inner_out = _pipe()
    # Chromium reads commands from 3 and answers on 4, to which a shell moves the ends of pipes that were handed down.
    script = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
    options = [*_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", str(inner_in), str(inner_out), program, *options],
        pass_fds=(inner_in, inner_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(inner_in)
    os.close(inner_out)
    with os.fdopen(commands, "wb") as to_browser, os.fdopen(answers, "rb") as from_browser:
        try:
            tab = Browser(to_browser, from_browser)
            tab.resize(width, height)
            yield tab
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, at numbers that are none of those that a shell moves them to."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends[0], ends[1]
