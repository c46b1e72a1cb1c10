"""The gallery, from the results of experiments.

    python docs/hooks/gallery.py            # runs every experiment into out/gallery first
    python docs/hooks/gallery.py FOLDER     # of results that are there: NAME/summary.json and pictures of each

It writes `docs/gallery`, which is kept in the repository, and nothing there is edited by hand.
"""

import collections
import json
import math
import pathlib
import sys
import time

import jax
from PIL import Image, ImageSequence

import tts_jax
from tts_jax.experiments import Verdict, every_experiment, figures_of_the_paper, preset
from tts_jax.experiments.claims import RULE

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import report  # noqa: E402, from the folder above

OF_THE_PAPER = tuple(each.name for each in figures_of_the_paper("paper"))
SHORT = (*OF_THE_PAPER, "regime-atlas")
"""Their paper profile takes two minutes at most; all others are shown in the quick one."""
NAMES = tuple(each.name for each in every_experiment("paper"))
WIDTH, COLOURS, FRAMES = 480, 128, 60


def run(folder: pathlib.Path) -> None:
    jax.config.update("jax_enable_x64", True)
    tts_jax.cache()
    for name in NAMES:
        outcome = preset(name, "paper" if name in SHORT else "quick").run(folder / name)
        print(f"{name}: {outcome.seconds:.1f} s", flush=True)


def write(folder: pathlib.Path, gallery: pathlib.Path) -> None:
    """Pages and pictures of what is in the folder."""
    paths = [path for name in NAMES if (path := folder / name / "summary.json").exists()]
    results = [json.loads(path.read_text()) for path in paths]
    gallery.mkdir(exist_ok=True)
    for old in gallery.iterdir():
        old.unlink()
    for result in results:
        for name in _figures(result):
            _picture(folder / result["configuration"]["name"] / name, gallery / _file(result, name))
        _thumbnail(gallery / _file(result, _figures(result)[0]))
    origin = _origin(results[0]["provenance"], max(path.stat().st_mtime for path in paths))
    pages = {
        "index": _cards(results, origin),
        "paper": _page("The figures of the paper", [each for each in results if _of_the_paper(each)], origin),
        "others": _page("Beyond the paper", [each for each in results if not _of_the_paper(each)], origin),
    }
    for name, text in pages.items():
        (gallery / f"{name}.md").write_text(text, encoding="utf-8")


def _cards(results: list[dict], origin: str) -> str:
    """One picture of each experiment, and one sentence."""
    cards = []
    for result in results:
        name, description = (result["configuration"][key] for key in ("name", "description"))
        page = "paper" if _of_the_paper(result) else "others"
        picture = _small(_file(result, _figures(result)[0]))
        cards.append(
            f"[![{name}]({picture})]({page}.md#{name})\n**[{name}]({page}.md#{name})**: {description}. {_tally(result)}"
        )
    animations = [
        f"![{result['configuration']['description']}]({_file(result, name)})"
        for result in results
        for name in _figures(result)
        if name.endswith(".gif")
    ]
    return "\n\n".join(
        [
            "# Gallery",
            "Every experiment of `tts-jax list`, and what became of its claims: [the figures of the paper](paper.md), "
            "and what is [beyond it](others.md). A picture leads to all of its experiment, and to what was measured. "
            f"{origin}",
            "Neurons find the jumps where positions are slow, and miss them where both layers learn at one speed:",
            *animations,
            '<div class="gallery" markdown>',
            *cards,
            "</div>\n",
        ]
    )


def _page(title: str, results: list[dict], origin: str) -> str:
    """All pictures and all claims of each experiment."""
    tallies = collections.Counter(finding["verdict"] for result in results for finding in result["findings"])
    took = sum(result["seconds"] for result in results)
    parts = [
        f"# {title}",
        f"{len(results)} experiments, in {_duration(took)} with compiling and drawing. Of {tallies.total()} claims: "
        f"{_counted(tallies)}. {origin}",
        RULE,
    ]
    for result in results:
        name, profile, shows, description = (
            result["configuration"][key] for key in ("name", "profile", "shows", "description")
        )
        parts += [
            f"## {name}",
            f"**{_capital(shows)}.** {_capital(description)}. `tts-jax run {name} --profile {profile}` took "
            f"{_duration(result['seconds'])}.",
            *(f"![{description}: {each}]({_file(result, each)})" for each in _figures(result)),
        ]
        if result["findings"]:
            rows = [[finding[key] for key in ("claim", "measured", "verdict")] for finding in result["findings"]]
            rows = [[*row, verdict if verdict == "holds" else f"**{verdict}**"] for *row, verdict in rows]
            parts.append(_table([("claim", "measured", "verdict"), ("---",) * 3, *rows]))
    return "\n\n".join(parts) + "\n"


def _table(rows) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _origin(provenance: dict, seconds: float) -> str:
    header = report.header()
    versions = ", ".join(f"{name} {provenance['versions'][name]}" for name in ("jax", "diffrax", "equinox"))
    day = time.strftime("%d %B %Y", time.gmtime(seconds)).lstrip("0")
    commit = (provenance["commit"] or "unknown")[:10]
    return (
        f"Measured on {day} on {header['cores']} cores of {header['cpu']}, in {provenance['dtype']}, {versions}, "
        f"commit `{commit}`. Written by `make gallery`, never by hand."
    )


def _tally(result: dict) -> str:
    counts = collections.Counter(finding["verdict"] for finding in result["findings"])
    return f"Claims: {_counted(counts)}." if counts else "No claim."


def _counted(counts: collections.Counter) -> str:
    return ", ".join(f"{verdict} {counts[verdict]}" for verdict in Verdict if counts[verdict])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _of_the_paper(result: dict) -> bool:
    return result["configuration"]["name"] in OF_THE_PAPER


def _figures(result: dict) -> list[str]:
    return [name for name in result["files"] if name.endswith((".png", ".gif"))]


def _file(result: dict, name: str) -> str:
    return f"{result['configuration']['name']}-{name}"


def _small(name: str) -> str:
    return name.replace(".png", "-small.png")


def _thumbnail(path: pathlib.Path) -> None:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    _save(small, path.with_name(_small(path.name)))


def _picture(source: pathlib.Path, path: pathlib.Path) -> None:
    """A picture of few colours, or an animation of few frames."""
    with Image.open(source) as image:
        if source.suffix == ".png":
            return _save(image.convert("RGB"), path)
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    kept = [*frames[:: math.ceil(len(frames) / FRAMES)], frames[-1]]
    palette = kept[-1].quantize(COLOURS // 2)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept)
    first.save(path, save_all=True, append_images=others, duration=100, loop=0, optimize=True)


def _save(image: Image.Image, path: pathlib.Path) -> None:
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    given = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "out" / "gallery"
    if len(sys.argv) == 1:
        run(given)
    write(given, ROOT / "docs" / "gallery")
