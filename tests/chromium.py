"""Chromium without a window: what a page shows, or a page that tests read and click by the DevTools protocol."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads commands from 3, and writes answers to 4."""


def found():
    """Its path; where there is none the test skips."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine: `make browser` installs it")
    return browser


def shown(file, profile):
    """A page on disk as it stands when its scripts have run."""
    command = [
        found(),
        *FLAGS,
        "--virtual-time-budget=10000",
        "--dump-dom",
        f"--user-data-dir={profile}",
        file.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


class Page:
    def __init__(self, read, write):
        self.read, self.write = read, write
        self.rest, self.count, self.session = b"", 0, {}
        self.requests, self.complaints = [], []

    def call(self, method, **params):
        """Answers to other calls do not come: there is one at a time. Events are looked at on the way."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params} | self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.count:
            about = answer.get("params", {})
            if answer["method"] == "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            if answer["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(about))
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self):
        while b"\0" not in self.rest:
            got = self.read.read(2**16)
            assert got, "the browser has ended"
            self.rest += got
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition, seconds=60.0):
        """Until a script gives true."""
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"{condition} has not come true: {self.evaluate('document.body.innerText')}"
            time.sleep(0.02)

    def click(self, selector):
        place = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.evaluate(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({place})")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self):
        """A PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def opened(address, profile):
    """A `Page` of 1280 by 900 pixels, in a profile of its own, of a reader who prefers things not to move."""
    ends = os.pipe() + os.pipe()
    commands, write, read, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in ends)
    for end in ends:
        os.close(end)
    flags = (*FLAGS, "--remote-debugging-pipe", "--window-size=1280,900", f"--user-data-dir={profile}")
    arguments = (found(), *flags, "about:blank")
    command = (sys.executable, "-c", START, str(commands), str(answers), *arguments)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        os.fdopen(read, "rb", 0) as reader,
        os.fdopen(write, "wb", 0) as writer,
        subprocess.Popen(command, pass_fds=(commands, answers), **quiet) as process,
    ):
        os.close(commands)
        os.close(answers)
        try:
            page = Page(reader, writer)
            (target,) = [each for each in page.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
            attached = page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            page.session = {"sessionId": attached["sessionId"]}
            for domain in ("Page", "Network", "Runtime", "Log"):
                page.call(f"{domain}.enable")
            calm = {"name": "prefers-reduced-motion", "value": "reduce"}
            page.call("Emulation.setEmulatedMedia", features=[calm])
            page.call("Page.navigate", url=address)
            page.wait("document.readyState === 'complete'")
            yield page
        finally:
            process.terminate()
