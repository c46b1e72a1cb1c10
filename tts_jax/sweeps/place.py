"""Where a store lies: in a folder, or at a URL."""

import abc
import contextlib
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from .. import _checks as checks

METADATA = "zarr.json"
PATIENCE = 120.0
"""Seconds that other processes wait for the first one to make the store."""


class Place(abc.ABC):
    """Files are named by their path within it, with `/`."""

    suffix: str

    @abc.abstractmethod
    def opened(self, name: str = "") -> Any:
        """What Zarr opens, of the whole or of what has that name in it."""

    @abc.abstractmethod
    def has(self, file: str) -> bool: ...

    @abc.abstractmethod
    def read(self, file: str) -> bytes: ...

    @abc.abstractmethod
    def remove(self, file: str) -> None:
        """Where it is there."""

    @abc.abstractmethod
    def make(self, fill: Callable[[Callable[[str], Any]], None]) -> None:
        """By `fill`, which is given `opened` and writes the metadata of the group last, so that no half of a store is
        ever seen. Raises `ValueError` for a place that holds something else, or cannot be written to."""

    def tidy(self) -> None:  # noqa: B027, most places write files whole
        """Throws away files that were not written to their end."""

    def lock(self) -> int | None:
        """Until `os.close`, or the process ends; None where there are no such locks."""
        return None

    def writable(self) -> None:  # noqa: B027, most places tell by writing
        """Raises `ValueError` where it is not."""

    def wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.has(METADATA):
            if time.monotonic() > end:
                raise ValueError(f"process 0 has made no store {self} in {PATIENCE:g} s: is the folder shared?")
            time.sleep(0.05)


class Folder(Place):
    def __init__(self, path: pathlib.Path):
        self.path, self.suffix = path, path.suffix

    def __str__(self) -> str:
        return str(self.path)

    @override
    def opened(self, name: str = "") -> pathlib.Path:
        return self.path / name

    @override
    def has(self, file: str) -> bool:
        return (self.path / file).is_file()

    @override
    def read(self, file: str) -> bytes:
        return (self.path / file).read_bytes()

    @override
    def remove(self, file: str) -> None:
        (self.path / file).unlink(missing_ok=True)

    @override
    def make(self, fill: Callable[[Callable[[str], Any]], None]) -> None:
        """Under another name first."""
        path = self.path
        if path.is_file() or (path.exists() and any(path.iterdir())):
            raise ValueError(f"{path} is not the store of a sweep: choose another name")
        checks.writable_folder(path.parent)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            fill(lambda name: draft / name)
            os.replace(draft, path)
        except OSError as error:
            raise ValueError(f"cannot make the store {path} ({error.strerror}): choose another place") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @override
    def tidy(self) -> None:
        for rest in self.path.glob("**/*.partial"):
            rest.unlink(missing_ok=True)

    @override
    def lock(self) -> int | None:
        try:
            import fcntl
        except ImportError:
            return None
        handle = os.open(self.path / METADATA, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ValueError(
                f"another sweep is writing into {self.path}: wait until it ends, or choose another name"
            ) from None
        except OSError:  # a file system without locks
            os.close(handle)
            return None
        return handle

    @override
    def writable(self) -> None:
        checks.writable_folder(self.path)


class Url(Place):
    """What fsspec reaches. Nothing there locks out another sweep."""

    def __init__(self, url: str):
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ImportError(f"{url} needs the package fsspec: pip install 'tts-jax[cluster]'") from None
        try:
            self.system, self.path = url_to_fs(url)
        except ImportError as error:  # of the package that fsspec takes for such URLs, as its message says
            raise ImportError(f"{url} needs another package: {checks.first_line(error)}") from None
        except ValueError as error:
            raise ValueError(
                f"{url} cannot be opened ({checks.first_line(error)}): pass e.g. s3://mine/run.zarr"
            ) from None
        self.url, self.suffix = url, pathlib.PurePosixPath(url).suffix

    def __str__(self) -> str:
        return self.url

    @override
    def opened(self, name: str = "") -> Any:
        from zarr.storage import FsspecStore

        options = {"auto_mkdir": True} if "file" in self.system.protocol else {}
        return FsspecStore.from_url(f"{self.url}/{name}".rstrip("/"), storage_options=options)

    @override
    def has(self, file: str) -> bool:
        return self.system.isfile(f"{self.path}/{file}")

    @override
    def read(self, file: str) -> bytes:
        return self.system.cat_file(f"{self.path}/{file}")

    @override
    def remove(self, file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.system.rm_file(f"{self.path}/{file}")

    @override
    def make(self, fill: Callable[[Callable[[str], Any]], None]) -> None:
        """What an earlier attempt left is written again."""
        try:
            fill(self.opened)
        except OSError as error:
            raise ValueError(
                f"cannot make the store {self} ({error.strerror or checks.first_line(error)}): choose another place"
            ) from None


def place_of(name: str, value: Any, example: str) -> Place:
    if isinstance(value, str) and "://" in value:
        return Url(value)
    return Folder(checks.path(name, value, example))
