"""Where training reaches a global minimum: over the ratio epsilon and the number of neurons, by the exact flow.

    python examples/regime_atlas.py                 # 12 ratios x 8 numbers of neurons x 64 starts = 6,144 flows
    python examples/regime_atlas.py --coarse        # 3 x 2 x 4, to see that it works

The data set stays in out/regime-atlas.zarr. Interrupted, the same command goes on where it was.
"""

import argparse

import jax
import numpy as np
from matplotlib.figure import Figure

import tts_jax as tts
from tts_jax.theory import probability_of_good_start

TARGET = tts.PiecewiseConstant([0.2, 0.35, 0.5, 0.65, 0.8], [1, 5, 1, 3, 1, 5])
SLOW_TIMES = [0.0, 0.03, 0.1, 0.3, 1.0, 3.0]


def draw(dataset) -> Figure:
    """The share of starts that converge against the number of neurons, with the probability of a good start."""
    figure = Figure(figsize=(5.5, 2.9), layout="constrained")
    axes = figure.add_subplot()
    share = dataset.converged.where(dataset.status == 0).mean("seed")
    for epsilon, shade in zip(dataset.epsilon.values, np.linspace(0.9, 0.0, dataset.sizes["epsilon"]), strict=True):
        colour = (0.85 * shade, 0.45 + 0.2 * shade, 0.7 + 0.2 * shade)
        axes.plot(dataset.neurons, share.sel(epsilon=epsilon), ".-", color=colour, label=f"ε = {epsilon:.2g}")
    neurons = np.arange(int(dataset.neurons.min()), int(dataset.neurons.max()) + 1)
    theory = [probability_of_good_start(TARGET, int(m)) for m in neurons]
    axes.plot(neurons, theory, "k--", label="two neurons in every piece\n(exact probability)")
    axes.set(xlabel="neurons", ylabel=f"share converged at slow time {SLOW_TIMES[-1]:g}", ylim=(-0.02, 1.02))
    figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--coarse", action="store_true")
    coarse = parser.parse_args().coarse
    jax.config.update("jax_enable_x64", True)
    name = "out/regime-atlas-coarse" if coarse else "out/regime-atlas"
    dataset = tts.sweep(
        tts.GradientFlow(1.0, rtol=1e-6, atol=1e-6),
        tts.Regression(TARGET),
        SLOW_TIMES,
        epsilon=np.geomspace(1.0, 1e-5, 3 if coarse else 12),
        neurons=[5, 8] if coarse else [5, 8, 12, 16, 20, 30, 40, 60],
        seeds=4 if coarse else 64,
        store=f"{name}.zarr",
    )
    draw(dataset).savefig(f"{name}.png", dpi=200)
    print(f"{name}.png")


if __name__ == "__main__":
    main()
