"""Ctrl-C, as the system sends it, ends a process whatever it computes; and what a run tells of its progress."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import equinox as eqx
import jax
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax import _pace
from tts_jax.dynamics.flow import side_by_side

PATIENCE = 20.0
"""Seconds, on a machine that does much else; the shortest of these runs takes minutes."""
SCRIPT = """
    import sys
    import jax
    jax.config.update("jax_enable_x64", True)
    import equinox as eqx, jax.numpy as jnp
    import tts_jax as tts

    key = jax.random.key(0)
    problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]))
    model = tts.ShallowNetwork.init(key, {neurons}, tts.SmoothStep(0.01))
    {setup}

    def run(end, **options):
        return {run}

    run(1e-9)
    print("ready", flush=True)
    run({end})
"""
CASES = {
    "SGD": {"run": "tts.simulate(tts.SGD(1e-4, 1e-4), model, problem, [0.0, end], key=key)", "end": 20.0},
    "a flow": {
        "setup": "flow = tts.GradientFlow(1e-9, rtol=1e-15, atol=1e-15, max_steps=10**9)",
        "run": "tts.simulate(flow, model, problem, [0.0, end])",
        "end": 1e3,
        "neurons": 300,
    },
    "a flow by Diffrax": {
        "setup": """data = tts.Dataset(*problem.sample(key, 500))
    model = eqx.nn.MLP(1, "scalar", 8, 1, activation=jnp.tanh, key=key)
    flow = tts.GradientFlow(1e-6, slow=lambda model: model.layers[0], max_steps=10**9, rtol=1e-13, atol=1e-13)""",
        "run": "tts.simulate(flow, model, data, [0.0, end])",
        "end": 1e6,
    },
    "run_each": {
        "run": "tts.run_each(lambda key: tts.simulate(tts.SGD(1e-4, 1e-4), model, problem, jnp.array([end]), key=key), "
        "jax.random.split(key, 4))",
        "end": 20.0,
    },
}


def started(script, *arguments, **environment):
    """Listening to the signal also where the tests run in the background of a shell, which ignores it."""
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"])}
    return subprocess.Popen(
        [sys.executable, "-c", listens + textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | cache | environment,
    )


def interrupted(process, after=1.0):
    """Seconds until it has ended, and what it said."""
    time.sleep(after)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    begin = time.perf_counter()
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode in (-signal.SIGINT, 130), err
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    return time.perf_counter() - begin, out


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ctrl_c_ends_a_run(case):
    process = started(SCRIPT.format(**({"setup": "", "neurons": 20} | case)))
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    interrupted(process, after=4.0)


@pytest.mark.parametrize("said", ["traced", "Finished jaxpr to MLIR module conversion jit(_stretch)"])
def test_ctrl_c_ends_a_run_that_is_being_compiled(said):
    """For a minute: thousands of products of matrices and their derivatives, optimised. Garbage is collected all the
    time while they are traced, which JAX listens to; an interruption of what listens is lost."""
    process = started(
        """
        import gc, sys
        import jax
        import equinox as eqx, jax.numpy as jnp
        import tts_jax as tts

        class Deep(eqx.Module):
            weights: jax.Array

            def __call__(self, x):
                if sys.argv[1] == "traced":
                    print("traced", file=sys.stderr, flush=True)
                    gc.set_threshold(1)
                y = self.weights * x
                for _ in range(3000):
                    y = jnp.sin(y @ y)
                return jnp.sum(y)

        sgd = tts.SGD(1.0, 1e-3, slow=lambda model: model.weights)
        data = tts.Dataset([0.0, 1.0], [0.0, 1.0])
        jax.config.update("jax_log_compiles", True)
        tts.simulate(sgd, Deep(jnp.eye(3)), data, [0.0, 1e-3], key=jax.random.key(0))
        """,
        said,
        XLA_FLAGS="",
    )
    assert any(said in line for line in process.stderr)
    interrupted(process)


def test_ctrl_c_ends_a_sweep_and_keeps_what_is_done(tmp_path):
    pytest.importorskip("zarr")
    store = tmp_path / "run.zarr"
    process = started(
        """
        import sys
        import jax
        jax.config.update("jax_enable_x64", True)
        import tts_jax as tts

        problem = tts.Regression(tts.PiecewiseConstant([0.4], [0.0, 1.0]))
        tts.sweep(tts.SGD(1.0, 1e-4), problem, [0.0, 0.05], seeds=8, neurons=3, epsilon=[1.0, 1e-6],
                  store=sys.argv[1], progress=lambda done, total: print(done, flush=True))
        """,
        store,
    )
    assert process.stdout.readline() == "0\n", process.stderr.read()
    assert process.stdout.readline() == "8\n"
    interrupted(process)
    kept = tts.load(store)
    np.testing.assert_array_equal(kept.status, [[0] * 8, [-1] * 8])
    assert np.isfinite(kept.risk.sel(epsilon=1.0)).all()


FLOWS = {
    "local": tts.GradientFlow(0.05),
    "by Diffrax": tts.GradientFlow(0.05, slow=lambda model: (model.positions, model.bias)),
    "reduced": tts.ReducedFlow(),
    "limit": tts.TwoTimescaleLimit(),
}
TIMES = np.array([0.0, 0.0, 0.05, 0.3])


@pytest.mark.parametrize("dynamics", FLOWS.values(), ids=FLOWS)
def test_a_flow_in_parts_takes_the_steps_of_one_solve(dynamics, monkeypatch):
    """Thousandths of the slow time, up to all of it."""
    monkeypatch.setattr(_pace, "SECONDS", 1e-3)
    monkeypatch.setattr(side_by_side, "FIRST", 1)
    model, problem = reference.build(reference.small_case())
    seen = []
    got = tts.simulate(dynamics, model, problem, TIMES, progress=lambda *report: seen.append(report))
    want = eqx.filter_jit(lambda: tts.simulate(dynamics, model, problem, TIMES))()
    np.testing.assert_allclose(reference.states(got), reference.states(want), rtol=0, atol=1e-10)
    assert (got.stats.steps, got.stats.rejected, got.status) == (want.stats.steps, want.stats.rejected, want.status)
    done, total = np.transpose(seen)
    assert set(total) == {1000}
    assert (np.diff(done) >= 0).all()
    assert done[-1] == 1000
    assert len(done) > 2 or isinstance(dynamics, tts.TwoTimescaleLimit)


@pytest.mark.parametrize("max_steps", [7, 30])
@pytest.mark.parametrize("name", ["local", "by Diffrax"])
def test_a_flow_in_parts_ends_where_its_steps_do(name, max_steps, monkeypatch):
    monkeypatch.setattr(_pace, "SECONDS", 1e-3)
    monkeypatch.setattr(side_by_side, "FIRST", 1)
    flow = FLOWS[name]
    flow = tts.GradientFlow(flow.epsilon, flow.slow, max_steps=max_steps)
    model, problem = reference.build(reference.small_case())
    with pytest.warns(UserWarning, match="raise max_steps"):
        got = tts.simulate(flow, model, problem, TIMES)
    assert got.status == tts.Status.MAX_STEPS
    assert got.stats.steps + got.stats.rejected == max_steps
    assert np.isfinite(got.risk[:2]).all()
    assert np.isnan(got.risk[-1])


def test_a_bar_is_asked_for_by_true():
    """In a pipe, a line for each tenth at most; nothing of it goes to the standard output."""
    model, problem = reference.build(reference.small_case())
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
        tts.simulate(FLOWS["local"], model, problem, TIMES, progress=True)
        tts.simulate(tts.SGD(0.05, 1e-2), model, problem, TIMES, key=jax.random.key(0), progress=True)
        tts.run_each(lambda x: x + 1, jax.numpy.arange(3.0), progress=True)
    first, *_, last_of_flow = (line for line in err.getvalue().splitlines() if "GradientFlow" in line)
    assert first == "GradientFlow"
    assert re.fullmatch(r"GradientFlow: 1,000 of 1,000, [\d,]+ steps, \S+/s, 0:00:00 left", last_of_flow)
    assert re.search(r"\nSGD\n(SGD: .*\n)*SGD: 600 of 600, \S+/s, 0:00:00 left\n", err.getvalue())
    assert "runs: 3 of 3" in err.getvalue()
    assert out.getvalue() == ""


@pytest.mark.usefixtures("annotations_off")
def test_what_is_no_progress_is_refused_at_once():
    model, problem = reference.build(reference.small_case())
    flow = FLOWS["local"]
    for call in (
        lambda: tts.simulate(flow, model, problem, TIMES, progress=3),
        lambda: tts.sweep(flow, problem, TIMES, seeds=1, progress=3),
        lambda: tts.run_each(lambda x: x, jax.numpy.ones(1), progress=3),
    ):
        reference.refuses(call, "progress", "got 3", "progress=True")
    under_jit = jax.jit(lambda times: tts.simulate(flow, model, problem, times, progress=True).risk)
    reference.refuses(lambda: under_jit(TIMES), "progress", "jax.jit")
