"""Where a result comes from."""

import importlib.metadata
import pathlib
import platform
import subprocess

import equinox as eqx
import jax

PACKAGES = ("tts-jax", "jax", "jaxlib", "equinox", "diffrax", "optax", "numpy")


class Provenance(eqx.Module):
    versions: dict[str, str]
    device: str
    dtype: str
    commit: str | None
    """Of the code, with `+changes` where the work tree differs from it; None outside its Git repository."""

    @classmethod
    def here(cls) -> "Provenance":
        versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
        return cls(versions, jax.devices()[0].device_kind, jax.numpy.asarray(0.0).dtype.name, _commit())


def _commit() -> str | None:
    source = pathlib.Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
