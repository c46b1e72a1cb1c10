"""What a user gets: the archives in `dist` are complete, and the wheel works where nothing else is installed.

`make package` builds them first. The wheel goes into an empty environment, with what it depends on and no extra, and
runs from an empty folder, from which the checkout cannot be imported.
"""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
DIST = ROOT / "dist"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def sources(*folders: str) -> set[str]:
    """Files that Git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in names if (ROOT / name).exists()}


def check_wheel(path: pathlib.Path) -> None:
    """Every file of the package, Python or not, and no other."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    about = f"tts_jax-{PROJECT['version']}.dist-info"
    inside = {name for name in names if not name.startswith(f"{about}/")}
    assert inside == sources("tts_jax"), inside ^ sources("tts_jax")
    assert {f"{about}/{name}" for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")} <= names


def check_sdist(path: pathlib.Path) -> None:
    """The whole checkout: tests, documentation, benchmarks, examples and notebooks too."""
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    missing = sources() - names
    assert not missing, missing
    assert names - sources() == {"PKG-INFO"}, names - sources()


def check_installed(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    venv.create(folder / "environment", with_pip=False)
    programs = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "--disable-pip-version-check"]
    run("install the wheel", folder, *pip, "install", "--quiet", "--no-compile", "--constraint", CONSTRAINTS, wheel)
    empty = folder / "empty"
    empty.mkdir()
    version = run("tts-jax --version", empty, programs / "tts-jax", "--version")
    assert version.split() == ["tts-jax", PROJECT["version"]], version
    run("import everything, without extras", empty, programs / "python", ROOT / ".ci" / "without_extras.py")
    run("the example of the README", empty, programs / "python", "-c", f"{example()}\n{SHOWN}")
    run("tts-jax run same-step", empty, programs / "tts-jax", "run", "same-step", "--profile", "quick", "--out", "out")
    assert (empty / "out" / "summary.json").exists()


CONSTRAINTS = ROOT / "constraints.txt"
SHOWN = "assert flow.risk.shape == (101,) and plt.get_fignums()"


def example() -> str:
    """The first of the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]


def run(what: str, folder: pathlib.Path, *command: str | pathlib.Path) -> str:
    """From a folder, with none of the paths of this process."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment | {"MPLBACKEND": "Agg"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stdout}{done.stderr}")
    print(f"{what}: {time.perf_counter() - begin:.0f} s", flush=True)
    return done.stdout


def main() -> None:
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    if (ROOT / ".git").exists():  # which knows what belongs there
        check_wheel(wheel)
        check_sdist(sdist)
    with tempfile.TemporaryDirectory() as folder:
        check_installed(wheel, pathlib.Path(folder))


if __name__ == "__main__":
    main()
