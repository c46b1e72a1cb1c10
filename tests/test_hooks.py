"""What the documentation makes of results: the gallery, and the tables of benchmarks."""

import importlib.util
import json
import pathlib
import re

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


def hook(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The gallery of two experiments that found nothing true."""
    results, gallery = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("gallery")
    findings = {
        "two-timescale": [("a | b < c", "holds"), ("second", "undecided")],
        "orders": [("third", "fails")],
    }
    for name, claims in findings.items():
        (results / name).mkdir()
        Image.new("RGB", (1100, 600), "red").save(results / name / "risks.png")
        frames = [Image.new("RGB", (75, 29), "white") for _ in range(118)]
        for k, frame in enumerate(frames):
            frame.putpixel((k % 75, k // 75), (0, 0, 0))
        frames[0].save(results / name / "animation.gif", save_all=True, append_images=frames[1:])
        summary = {
            "configuration": {"name": name, "profile": "paper", "shows": "figure", "description": f"what {name} is"},
            "findings": [{"claim": claim, "measured": "0.1", "verdict": verdict} for claim, verdict in claims],
            "files": ["risks.png", "animation.gif", "summary.json"],
            "seconds": 42.0,
            "provenance": {"versions": dict.fromkeys(("jax", "diffrax", "equinox"), "1.0"), "dtype": "float64"}
            | {"commit": "0123456789abcdef"},
        }
        (results / name / "summary.json").write_text(json.dumps(summary))
    (gallery / "of-an-experiment-that-is-gone.png").write_text("")
    hook("gallery").write(results, gallery)
    return gallery


def test_the_gallery_has_pages_and_pictures(written):
    assert sorted(path.name for path in written.glob("*.md")) == ["index.md", "others.md", "paper.md"]
    pages = {path.stem: path.read_text() for path in written.glob("*.md")}
    linked = {name for page in pages.values() for name in re.findall(r"\]\(([^)#]+)", page)}
    assert linked == {path.name for path in written.iterdir()} - {"index.md"}
    assert "Claims: holds 1, undecided 1." in pages["index"]
    assert "commit `0123456789`" in pages["index"]
    assert r"| a \| b < c | 0.1 | holds |" in pages["paper"]
    assert "| second | 0.1 | **undecided** |" in pages["paper"]
    assert "Of 1 claims: fails 1." in pages["others"]


def test_pictures_are_small(written):
    with Image.open(written / "orders-risks-small.png") as small, Image.open(written / "orders-risks.png") as large:
        assert (small.width, large.size) == (480, (1100, 600))
    with Image.open(written / "orders-animation.gif") as animation:
        assert animation.n_frames == 60  # every other, and the last


def test_the_committed_gallery_is_what_the_hook_writes():
    gallery = ROOT / "docs" / "gallery"
    pages = {path.stem: path.read_text() for path in gallery.glob("*.md")}
    linked = {name for page in pages.values() for name in re.findall(r"\]\(([^)#]+)", page)}
    assert linked == {path.name for path in gallery.iterdir()} - {"index.md"}
    assert sum(path.stat().st_size for path in gallery.iterdir()) < 6e6


def test_every_result_of_a_benchmark_is_a_table():
    results = ROOT / "benchmarks" / "results"
    tables = {path.stem: hook("benchmark_tables").shown(path) for path in results.glob("*.json")}
    for name, table in tables.items():
        header = json.loads((results / f"{name}.json").read_text())
        header = header.get("header", header)
        assert header["commit"][:10] in table
        assert len(re.findall(r"^ *\| -", table, re.MULTILINE)) >= 1, name
    growth = json.loads((results / "flow_growth.json").read_text())["growth"]
    seconds = {row["solver"]: row["seconds"] for row in growth if (row["neurons"], row["epsilon"]) == (20, 0.01)}
    ratio = seconds["tts_jax"] / min(seconds["LSODA"], seconds["CVODE BDF"])
    (row,) = re.findall(r"\| 0\.01 \| 20 \|.*", tables["flow_growth"])
    assert row.split(" | ")[-1].rstrip(" |") == f"{ratio:.3g}"
