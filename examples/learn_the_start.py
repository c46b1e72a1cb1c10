"""Which start should training have had? Gradients through the whole flow, and Optax, find out.

Training stops before the neurons have reached the jumps of the target. Adam moves the start positions down the
gradient of the risk at the end of training. Writes `out/learn-the-start.png`, or where `--out` says.
"""

import argparse
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import tts_jax as tts

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--iterations", type=int, default=100, help="of Adam (default: 100)")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out", "learn-the-start.png"), help="the picture")
options = parser.parse_args()

target = tts.PiecewiseConstant(jumps=[0.3, 0.5, 0.8], values=[1, 4, 2, 3])
problem = tts.Regression(target)
positions = jnp.array([[0.05], [0.2], [0.42], [0.6], [0.7], [0.92]])
start = tts.ShallowNetwork(jnp.zeros((6, 1)), positions, jnp.zeros(()), tts.SmoothStep(0.05))
times = jnp.array([0.01])


def train(positions):
    model = eqx.tree_at(lambda m: m.positions, start, positions)
    return tts.simulate(tts.GradientFlow(epsilon=1e-3, rtol=1e-7, atol=1e-7), model, problem, times)


@jax.jit
def improve(positions, state):
    risk, gradient = jax.value_and_grad(lambda u: train(u).risk[-1])(positions)
    updates, state = adam.update(gradient, state)
    return optax.apply_updates(positions, updates), state, risk


adam = optax.adam(0.01)
state, risks, path = adam.init(positions), [], [positions]
for _ in range(options.iterations):
    positions, state, risk = improve(positions, state)
    risks.append(float(risk))
    path.append(positions)

figure = Figure(figsize=(7.5, 2.6), layout="constrained")
FigureCanvasAgg(figure)
left, middle, right = figure.subplots(1, 3)
left.semilogy(risks, color="#0072B2")
left.set(xlabel="iteration of Adam", ylabel="risk at the end of training")
middle.plot(jnp.stack(path)[:, :, 0], color="#0072B2", linewidth=1)
middle.hlines(target.jumps, 0, len(risks), color="0.6", linestyle="--", linewidth=1, label="jumps of the target")
middle.set(xlabel="iteration of Adam", ylabel="start positions", ylim=(0, 1))
middle.legend(frameon=False, fontsize=7)
x = jnp.linspace(0, 1, 801)
right.plot(x, target(x), color="0.6", linewidth=3, label="target")
for label, u, colour in (("from the given start", path[0], "#D55E00"), ("from the learned start", path[-1], "#0072B2")):
    right.plot(x, jax.vmap(train(u).at(-1))(x), color=colour, label=label)
right.set(xlabel="input x", ylabel="network after training", ylim=(0, 6))
right.legend(frameon=False, fontsize=7, loc="upper left")
options.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=150)
print(f"risk at the end of training: {risks[0]:.4f} from the given start, {risks[-1]:.4f} from the learned one")
