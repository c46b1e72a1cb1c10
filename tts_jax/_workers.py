"""Threads that compute for a caller who may be interrupted."""

import atexit
import concurrent.futures
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

from typing_extensions import override

INTERRUPTED = 130
"""The exit code of a process that ends by Ctrl-C."""

_abandoned: list[threading.Thread] = []


@contextlib.contextmanager
def workers(count: int) -> Iterator[concurrent.futures.Executor]:
    """So many threads. Where the body fails, what has not begun is dropped, and what has is waited for.

    Ctrl-C waits for nothing. Nobody can stop a program of XLA, which Python would wait for at the end of the process:
    so a process that still computes what was interrupted ends without further ado, with the exit code 130.
    """
    pool = _Daemons(count)
    try:
        yield pool
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _abandoned.extend(pool.threads)
        raise
    pool.shutdown()


class _Daemons(concurrent.futures.Executor):
    """`ThreadPoolExecutor`, but that Python does not wait for its threads."""

    def __init__(self, count: int):
        self.waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    @override
    def submit(self, fn, /, *args, **kwargs):
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.waiting.put((future, lambda: fn(*args, **kwargs)))
        return future

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while True:
                    future, _ = self.waiting.get_nowait()
                    future.cancel()
        for _ in self.threads:
            self.waiting.put(None)
        if wait:
            for thread in self.threads:
                thread.join()

    def _work(self) -> None:
        while (item := self.waiting.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del item, future, call


@atexit.register
def _leave() -> None:
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
