"""What a docstring of a public name says: its arguments, what it raises, and examples that do what they show."""

import ast
import doctest
import importlib
import inspect
import pathlib
import re

import jax
import pytest
from test_docs import shown

import tts_jax as tts

PACKAGE = pathlib.Path(tts.__file__).parent

ELSEWHERE = {
    "tts_jax.cache": "changes settings of the process",
    "tts_jax.Stats": "Trajectory",
    "tts_jax.dynamics.AbstractDynamics": "an interface",
    "tts_jax.dynamics.Task": "an interface",
    "tts_jax.problems.AbstractProblem": "an interface",
    "tts_jax.problems.Structure": "an interface",
    "tts_jax.problems.SampleGradient": "an interface",
    "tts_jax.problems.SampleLaw": "an interface",
    "tts_jax.diagnostics.Order": "order",
    "tts_jax.diagnostics.Stiffness": "stiffness",
    "tts_jax.solvers.AbstractShiftedJacobian": "an interface",
    "tts_jax.solvers.DenseJacobian": "Rodas5P",
    "tts_jax.plot.functions": "notebooks",
    "tts_jax.plot.animation": "writes a file",
    "tts_jax.plot.moves": "notebooks",
    "tts_jax.plot.sweep": "notebooks",
    "tts_jax.plot.heat_map": "notebooks",
    "tts_jax.plot.statuses": "notebooks",
    "tts_jax.plot.convergence": "notebooks",
}
"""Names without an example of their own: where one is, or why there is none. Experiments run from `preset`."""

HARMLESS = {"as_float", "called", "concrete", "first_line", "one_line", "shown"}
"""Of `_checks`: they raise nothing."""


def documented():
    """Classes and functions on the pages of the API, by their names there."""
    for name in shown():
        module, _, last = name.rpartition(".")
        value = getattr(importlib.import_module(module), last)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


def nodes():
    """Of each class and function: where it is defined, and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield module, node


def callables():
    """Public ones, from the sources: what they are called, the docstring that is to name their arguments, the tree."""
    modules = [(module, node) for module, node in nodes() if isinstance(node, ast.Module)]
    trees = {(module, getattr(each, "name", None)): each for module, node in modules for each in node.body}
    for name, value in documented():
        tree = trees[value.__module__, value.__name__]
        text = ast.get_docstring(tree)
        if isinstance(tree, ast.FunctionDef):
            yield pytest.param(text, tree, id=name)
            continue
        for method in tree.body:
            if not isinstance(method, ast.FunctionDef):
                continue
            inherits = any(hasattr(base, method.name) for base in value.__mro__[1:])
            if method.name == "__init__":
                yield pytest.param(text, method, id=name)
            elif not method.name.startswith("_") and not inherits and ".experiments." not in name:
                yield pytest.param(ast.get_docstring(method), method, id=f"{name}.{method.name}")


def refuses(node):
    """Whether it raises, by itself or by a check."""
    checks = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "checks"
    return isinstance(node, ast.Raise) or (checks and node.attr not in HARMLESS)


@pytest.mark.parametrize(("text", "tree"), list(callables()))
def test_arguments_and_errors_are_named(text, tree):
    """An argument stands in backticks, as `name` or within an expression."""
    assert text is not None
    arguments = [each.arg for each in ast.walk(tree.args) if isinstance(each, ast.arg)]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert {*arguments} - {"self", "cls", "_"} <= named
    if any(refuses(node) for node in ast.walk(tree)):
        assert re.search(r"\b[Rr]aises?\b", text)


def test_every_name_has_an_example():
    """In its docstring, or where `ELSEWHERE` says."""
    without = [name for name, value in documented() if ">>>" not in (inspect.getdoc(value) or "")]
    missing = [name for name in without if name not in ELSEWHERE and ".experiments." not in name]
    assert not missing, f"add an example to {', '.join(missing)}"
    assert {*ELSEWHERE} <= {*without}


def examples():
    """From the sources: a docstring lies deep in what the run-time checker wraps."""
    for module, node in nodes():
        text = ast.get_docstring(node)
        if text is not None and ">>>" in text:
            yield pytest.param(module, text, id=".".join([module, getattr(node, "name", "")]).rstrip("."))


@pytest.mark.parametrize(("module", "text"), list(examples()))
def test_an_example_gives_what_it_shows(module, text):
    names = vars(importlib.import_module(module)).copy()
    example = doctest.DocTestParser().get_doctest(text, names, module, None, 0)
    printed = []
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # a reader's own
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        failed, tried = runner.run(example, out=printed.append)
    assert tried > 0
    assert failed == 0, "".join(printed)


def test_there_are_examples():
    assert {"tts_jax.problems.dataset.Dataset", "tts_jax.theory.probability_of_good_start"} <= {
        parameters.id for parameters in examples()
    }
