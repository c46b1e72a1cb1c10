"""The documentation names every public name once, and asks for nothing from elsewhere."""

import ast
import collections
import importlib
import inspect
import operator
import pathlib
import re
import sys

import tts_jax as tts

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DIRECTIVE = re.compile(r"^::: (tts_jax\.\S+)$", re.MULTILINE)
FETCHES = re.compile(
    r"""<(?:script|link|iframe|img)\b[^>]*(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|!\[[^\]]*\]\(https?:"""
    r"""|url\(\s*["']?(?:https?:)?//"""
)
"""What a browser would load from another host."""
VARIES = r"^(?:SGD|GradientFlow|slow|frozen|epsilon|x) |\.\.\.|\b(?:MLP|int32|nan|\d+)\b"
"""What a message fills in."""


def shown():
    return [name for page in PAGES for name in DIRECTIVE.findall(page.read_text())]


def public_names():
    """Of the package and its public modules; what the package shows itself is named there alone.

    A function of the same name as its file is named with the file.
    """
    modules = [importlib.import_module(f"tts_jax.{name}") for name in tts.MODULES]
    own = [name for name in dir(tts) if not name.startswith("_") and name not in tts.MODULES]
    known = [getattr(tts, name) for name in own]
    names = [f"tts_jax.{name}" for name in own]
    for module in modules:
        is_room = hasattr(module, "__path__")
        for name, value in vars(module).items():
            is_own = not inspect.ismodule(value) if is_room else getattr(value, "__module__", None) == module.__name__
            if is_own and not name.startswith("_") and not any(value is other for other in known):
                names.append(f"{module.__name__}.{name}")
    return [f"{name}.{name.rpartition('.')[2]}" if name in sys.modules else name for name in names]


def test_every_public_name_is_on_one_page():
    pages, public = collections.Counter(shown()), public_names()
    missing = [f"::: {name}" for name in public if not pages[name]]
    assert not missing, f"add to a page of docs/api: {', '.join(missing)}"
    twice = [name for name, count in pages.items() if count > 1]
    assert not twice, f"keep one of each directive in docs/api: {', '.join(twice)}"


def test_every_name_on_a_page_exists():
    for name in shown():
        module, _, path = name.removeprefix("tts_jax.").rpartition(".")
        assert operator.attrgetter(path)(importlib.import_module(f"tts_jax.{module}".rstrip("."))), name


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    absent = [name for page in PAGES if (name := page.relative_to(ROOT / "docs").as_posix()) not in navigation]
    assert not absent, f"add to nav in mkdocs.yml: {', '.join(absent)}"


def test_nothing_is_fetched_from_elsewhere():
    built = ROOT / "out" / "docs"  # where it has been built
    sources = [
        *PAGES,
        ROOT / "mkdocs.yml",
        *(ROOT / "docs").glob("*.css"),
        *built.rglob("*.html"),
        *built.rglob("*.css"),
    ]
    fetches = {path.name: found[0] for path in sources if (found := FETCHES.search(path.read_text()))}
    assert fetches == {}
    assert FETCHES.search('<script async src="https://example.org/a.js">')


def strings(path):
    """In the code, without docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]


def test_the_messages_are_those_that_are_raised():
    """Each begins a row of the table, as far as the first name or number that depends on the call."""
    table = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text().split("## Messages")[1].split("##")[0]
    said = "\n".join(text for path in (ROOT / "tts_jax").rglob("*.py") for text in strings(path))
    stretches = [
        max(re.split(VARIES, row), key=len).strip() for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    ]
    assert len(stretches) > 10
    assert [stretch for stretch in stretches if stretch not in said] == []


def test_the_fonts_are_those_of_the_reader():
    assert re.search(r"^  font: false\b", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
