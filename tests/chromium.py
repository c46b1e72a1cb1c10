"""A page in a headless Chromium, which tests read and click by its DevTools protocol, over a pair of pipes."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
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
    """Its path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


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
def opened(browser, address, folder):
    """A `Page` of 1280 by 900 pixels, in a profile of its own, of a reader who prefers things not to move."""
    ends = os.pipe() + os.pipe()
    commands, write, read, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in ends)
    for end in ends:
        os.close(end)
    flags = (*QUIET, "--remote-debugging-pipe", "--window-size=1280,900", f"--user-data-dir={folder}")
    command = (sys.executable, "-c", START, str(commands), str(answers), browser, *flags, "about:blank")
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
