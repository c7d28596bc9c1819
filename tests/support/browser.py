"""Headless Chromium, driven over its debugging pipe: what a page says, asks for and draws. No package is needed."""

import base64
import contextlib
import fcntl
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MISSING = "no Chromium: apt-get install chromium"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "headless_shell")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-pipe",
)
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")


@functools.cache
def find() -> str | None:
    """Path of a Chromium that starts: UIPAD_CHROMIUM, else the first of the usual names in PATH."""
    for name in filter(None, (os.environ.get("UIPAD_CHROMIUM"), *_NAMES)):
        path = shutil.which(name)
        # Ubuntu's chromium-browser may be a script that only says how to get a snap
        if path and subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0:
            return path
    return None


@dataclass
class Tab:
    """An open page: what it said (`level: text`), which addresses it asked for, how long until its load event."""

    browser: "Browser"
    session: str
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    seconds: float = float("nan")
    loaded: bool = False

    def evaluate(self, script: str) -> object:
        """Value of an expression, a promise waited for. Raises RuntimeError where the script throws."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(_exception(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 10) -> object:
        """Value of an expression as soon as it is true. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.evaluate(script)
            if value:
                return value
            time.sleep(0.05)
        raise TimeoutError(f"still not true after {seconds} s: {script}; the page said {self.messages}")

    def screenshot(self, path: Path, full: bool = False) -> None:
        """Writes a PNG of what is in the window, or of the full page."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Presses the left button at start, moves to end in ten steps and lets go; places in CSS pixels."""
        self.mouse("mousePressed", *start)
        for step in range(1, 11):
            at = (begin + (stop - begin) * step / 10 for begin, stop in zip(start, end, strict=True))
            self.mouse("mouseMoved", *at, buttons=1)
        self.mouse("mouseReleased", *end)

    def mouse(self, kind: str, x: float, y: float, **more: float) -> None:
        """One event of the mouse: mouseMoved, mousePressed, mouseReleased or mouseWheel (with deltaX and deltaY)."""
        button = "left" if kind in ("mousePressed", "mouseReleased") else "none"
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1, **more)

    def key(self, name: str) -> None:
        """Presses a key of this name and lets it go."""
        codes = {"Enter": {"windowsVirtualKeyCode": 13, "text": "\r"}, "Tab": {"windowsVirtualKeyCode": 9}}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=name, **codes.get(name, {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name)

    def close(self) -> None:
        """Closes the page; what it said and asked for stays readable."""
        self.send("Page.close")

    def send(self, method: str, **parameters: object) -> dict:
        return self.browser.send(method, self.session, **parameters)

    def hear(self, method: str, said: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {_exception(said['exceptionDetails'])}")
        elif method == "Log.entryAdded":
            self.messages.append(f"{said['entry']['level']}: {said['entry']['text']}")
        elif method == "Runtime.consoleAPICalled":
            words = (str(word.get("value", word.get("description", ""))) for word in said["args"])
            self.messages.append(f"{said['type']}: {' '.join(words)}")

    @property
    def complaints(self) -> list[str]:
        """What the page said at level warning or error, and its uncaught exceptions."""
        return [line for line in self.messages if line.split(":")[0] in ("warning", "error", "assert", "exception")]

    @property
    def fetched(self) -> list[str]:
        """Addresses asked for, without those that a page carries in itself."""
        return [address for address in self.requests if not address.startswith(("data:", "about:"))]


class Browser:
    """A running Chromium; leaving the context ends it and removes its profile."""

    def __init__(self, flags: tuple[str, ...] = SOFTWARE_WEBGL, seconds: float = 60) -> None:
        path = find()
        if path is None:
            raise RuntimeError(MISSING)
        self._command = [path, *_FLAGS, *flags]
        self._patience = seconds
        self._sent, self._buffer = 0, b""
        self._answers: dict[int, dict] = {}
        self._tabs: dict[str, Tab] = {}

    def __enter__(self) -> "Browser":
        self._profile = tempfile.mkdtemp(prefix="uipad-chromium-")
        theirs_in, self._out = _pipe()
        self._in, theirs_out = _pipe()
        try:
            self._process = os.posix_spawn(
                self._command[0],
                [*self._command, f"--user-data-dir={self._profile}", "about:blank"],
                os.environ,
                file_actions=[
                    *((os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)),
                    (os.POSIX_SPAWN_DUP2, theirs_in, 3),  # where the browser reads commands; it answers on 4
                    (os.POSIX_SPAWN_DUP2, theirs_out, 4),
                ],
                setpgroup=0,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            self._patience = 5
            self.send("Browser.close")
        end = time.monotonic() + 5
        while os.waitpid(self._process, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.killpg(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                break
            time.sleep(0.02)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: Path, width: int = 1100, height: int = 900, dark: bool = False) -> Tab:
        """Opens a file in a window of this size in CSS pixels, and returns after its load event."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.send(f"{domain}.enable")
        tab.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.send("Emulation.setEmulatedMedia", features=[scheme])
        tab.send("Page.bringToFront")
        tab.loaded = False
        begun = time.monotonic()
        tab.send("Page.navigate", url=Path(path).resolve().as_uri())
        while not tab.loaded:
            self._read(begun + self._patience)
        tab.seconds = time.monotonic() - begun
        return tab

    def send(self, method: str, session: str | None = None, **parameters: object) -> dict:
        """Answer to one command. Raises RuntimeError for a refusal, TimeoutError, EOFError where the browser ended."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        end = time.monotonic() + self._patience
        while self._sent not in self._answers:
            self._read(end)
        answer = self._answers.pop(self._sent)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self, end: float) -> None:
        if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError(f"Chromium was silent for {self._patience} s")
        data = os.read(self._in, 1 << 20)
        if not data:
            raise EOFError(f"Chromium ended: {' '.join(self._command)}")
        *whole, self._buffer = (self._buffer + data).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self._tabs:
                self._tabs[message["sessionId"]].hear(message["method"], message["params"])


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, numbered above 9: none of them lies where the browser wants its own."""
    ends = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return reading, writing


def _exception(details: dict) -> str:
    return str(details.get("exception", {}).get("description", details["text"]))
