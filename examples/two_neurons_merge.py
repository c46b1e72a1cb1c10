"""Two neurons on one jump draw a step steeper than their activation: the flow through a merger.

Their gap falls far below the width of the activation, like epsilon^(1/4), and their weights grow with opposite signs.
Writes `out/two-neurons-merge.png`, or where `--out` says.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import tts_jax as tts

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("out", "two-neurons-merge.png"), help="the picture"
)
options = parser.parse_args()

ETA = 4e-3
EPSILONS = {1e-5: "#E69F00", 1e-7: "#009E73", 1e-9: "#0072B2"}
target = tts.PiecewiseConstant(jumps=[0.2, 0.35, 0.5, 0.65, 0.8], values=[1, 5, 1, 3, 1, 5])
positions = jnp.array([0.010997, 0.325749, 0.355626, 0.360542, 0.490099, 0.643395])[:, None]
start = tts.ShallowNetwork(jnp.zeros((6, 1)), positions, jnp.zeros(()), tts.SmoothStep(ETA))
times = jnp.linspace(0, 3, 301)
runs = {
    epsilon: tts.simulate(tts.GradientFlow(epsilon, rtol=1e-8, atol=1e-8), start, tts.Regression(target), times)
    for epsilon in EPSILONS
}

figure = Figure(figsize=(9, 2.8), layout="constrained")
FigureCanvasAgg(figure)
gaps, weights, right = figure.subplots(1, 3)
for epsilon, run in runs.items():
    colour, label = EPSILONS[epsilon], f"ε = {epsilon:g}"
    pair = run.model.positions[:, 2:4, 0]
    gaps.semilogy(times, jnp.abs(pair[:, 1] - pair[:, 0]) / ETA, color=colour, label=label)
    weights.plot(times, run.model.weights[:, 2:4, 0], color=colour)
gaps.set(xlabel="slow time τ", ylabel="gap of the two neurons / η")
weights.set(xlabel="slow time τ", ylabel="their weights")
gaps.legend(frameon=False, fontsize=7)

x = jnp.linspace(0.342, 0.358, 801)
end = runs[1e-9].at(-1)
right.plot(x, target(x), color="0.6", linewidth=3, label="target")
right.plot(x, jax.vmap(end)(x), color="#0072B2", label="network, ε = 1e-09")
low, high = (float(end(jnp.array(place))) for place in (x[0], x[-1]))
one = low + (high - low) * tts.SmoothStep(ETA)(x - 0.35)
right.plot(x, one, color="#D55E00", linestyle="--", label="one neuron's step")
right.set(xlabel="input x", ylabel="near the jump at 0.35")
right.legend(frameon=False, fontsize=7, loc="lower left")
options.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=150)
first, *_, last = (float(jnp.abs(jnp.diff(run.model.positions[-1, 2:4, 0]))[0]) / ETA for run in runs.values())
print(f"gap at the end, in widths: {first:.4f} for epsilon 1e-05, {last:.4f} for 1e-09")
