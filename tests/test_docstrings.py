"""The examples in docstrings do what they show."""

import ast
import doctest
import importlib
import pathlib

import jax
import pytest

import tts_jax as tts

PACKAGE = pathlib.Path(tts.__file__).parent


def examples():
    """From the sources: a docstring lies deep in what the run-time checker wraps."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
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
