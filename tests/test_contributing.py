"""The recipes of CONTRIBUTING.md fit the code that they change."""

import itertools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = {
    re.search(r"^\+\+\+ b/(\S+)$", text, re.M)[1]: text for text in re.findall(r"```diff\n(.*?)\n```", TEXT, re.S)
}


def patched(source, recipe):
    """As `patch` does it, wherever the lines that stay are found; it fails where they are not found once."""
    for hunk in re.split(r"^@@.*$\n?", recipe, flags=re.M)[1:]:
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        assert source.count(before) == 1, hunk
        source = source.replace(before, after)
    return source


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_applies(path):
    compile(patched((ROOT / path).read_text(), RECIPES[path]), path, "exec")


def test_one_is_shown():
    assert list(RECIPES) == ["tts_jax/activations.py"]


def test_every_file_and_room_that_is_named_exists():
    named = set(re.findall(r"`((?:\w+/)*\w+(?:\.py|/))`", TEXT))
    bases = [ROOT, ROOT / "tts_jax", *(ROOT / "tts_jax").iterdir()]
    assert len(named) > 20
    missing = [name for name, found in ((n, any((b / n).exists() for b in bases)) for n in named) if not found]
    assert missing == []


def test_every_word_has_one_meaning():
    words = [line.split("|")[1].strip() for line in TEXT.split("## One word a thing")[1].splitlines() if "|" in line][
        2:
    ]
    flat = list(itertools.chain.from_iterable(word.split(", ") for word in words))
    assert len(flat) == len(set(flat)) > 15
