"""What `flow_vs_solvers.py` found, as tables of text, from its result file alone."""

import numpy as np

TARGET_ERROR = 1e-6
OURS = "ours"
NUMBA = ("LSODA", "CVODE BDF", "SciPy BDF", "SciPy Radau")
"""With the closed forms of the velocity and the Jacobian in Numba."""
QUADRATURE = ("LSODA, quadrature", "CVODE BDF, quadrature")
"""With a quadrature in Numba and difference quotients: what one uses today."""
DIFFRAX = ("Tsit5", "Dopri8", "Kvaerno5")
"""With the closed form of the velocity of `tts_jax`, Jacobians by automatic differentiation."""
DIFFRAX_QUADRATURE = ("Tsit5, quadrature", "Kvaerno5, quadrature")
SOLVERS = (OURS, *NUMBA, *QUADRATURE, *DIFFRAX, *DIFFRAX_QUADRATURE)

POOLED = ("LSODA", "CVODE BDF", *QUADRATURE)
"""The peers worth a pool."""


def reading(curve, field, at=TARGET_ERROR):
    """The field where the curve reaches the error `at`, between measured points linear in both logarithms."""
    points = [point for point in curve if point["error"] is not None and np.isfinite(point["error"])]
    if not points or min(point["error"] for point in points) > at:
        return None
    errors = np.minimum.accumulate([point["error"] for point in points])
    return float(np.exp(np.interp(-np.log(at), -np.log(errors), np.log([point[field] for point in points]))))


def summary(results):
    """All tables, as Markdown."""
    first = results["compilation"]
    cached = f"{first['first_solve_cached_on_disk']:.1f} s where another process has filled the cache on disk"
    return "\n\n".join(
        [
            f"Milliseconds for an error of {TARGET_ERROR:g}, one trajectory, one thread (CPU time):",
            _single(results["regimes"]),
            "Milliseconds per trajectory of many starts, the same error, two cores:",
            _many(results["regimes"]),
            "Gradient of the final risk by every start and epsilon / forward solve:",
            _gradient(results["regimes"]),
            f"First solve of a process: {first['first_solve']:.1f} s; {cached}.",
            "Where the time goes, at the same error (CPU time):",
            _work(results["regimes"]),
            _pieces(results["pieces"]),
            "Goals (ratios are geometric means over epsilon):",
            _goals(results),
        ]
    )


def _table(head, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _ms(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"


def _geometric_mean(ratios):
    return float(np.exp(np.mean(np.log(ratios))))


def _read(regime, names, field):
    """What each curve reads at the error wanted, of the solvers that reach it."""
    values = {name: reading(regime["single"]["curves"][name], field) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _to_fastest(regime, field):
    return _read(regime, [OURS], field)[OURS] / min(_read(regime, NUMBA, field).values())


def _single(regimes):
    rows = []
    for regime in regimes:
        cpu = _read(regime, SOLVERS, "cpu_seconds")
        ratios = [f"{_to_fastest(regime, field):.2f}" for field in ("seconds", "cpu_seconds")]
        rows.append([f"{regime['epsilon']:g}", *(_ms(cpu.get(name)) for name in SOLVERS), *ratios])
    return _table(["epsilon", *SOLVERS, "ours / fastest with closed form, wall", "the same, CPU"], rows)


def _peers(regime):
    """Seconds per trajectory of many starts on two cores, of each peer of `run_each`."""
    pool = regime["batch"]["pool_of_two"]
    plain = _read(regime, DIFFRAX_QUADRATURE, "seconds").values()
    peers = {
        "fastest pool with closed form": min(pool[name] for name in NUMBA if name in pool),
        **{name: pool[name] for name in QUADRATURE},
    }
    return peers | ({"Diffrax with quadrature": min(plain) / 2} if plain else {})


def _many(regimes):
    rows = []
    for regime in regimes:
        batch, peers = regime["batch"], _peers(regime)
        seconds = [batch["run_each"], batch["mapped_one_core"], *batch["pool_of_two"].values()]
        ratio = batch["run_each"] / peers["fastest pool with closed form"]
        rows.append([f"{regime['epsilon']:g}", *map(_ms, seconds), f"{ratio:.2f}"])
    pools = [f"pool: {name}" for name in regimes[0]["batch"]["pool_of_two"]]
    return _table(
        ["epsilon", "run_each", "lax.map, one core", *pools, "run_each / fastest pool with closed form"], rows
    )


def _gradient(regimes):
    rows = []
    for regime in regimes:
        two, one = regime["gradient"], regime["gradient_one_core"]
        cells = [f"{_ms(run['gradient'])} / {_ms(run['forward'])} = {run['ratio']:.1f}" for run in (two, one)]
        rows.append([f"{regime['epsilon']:g}", *cells, f"{two['ratio_cpu']:.1f}"])
    return _table(["epsilon", "two cores (ms)", "one core (ms)", "CPU time on two cores"], rows)


def _work(regimes):
    peers = NUMBA[:2]

    def steps(regime, name, field):
        count, seconds = (_read(regime, [name], what)[name] for what in (field, "cpu_seconds"))
        return f"{count:.0f} x {1e6 * seconds / count:.1f} µs"

    def evaluations(regime, name):
        return ", ".join(f"{_read(regime, [name], field)[name]:.0f}" for field in ("velocities", "jacobians"))

    rows = []
    for regime in regimes:
        of_peers = [f"{steps(regime, name, 'steps')} ({evaluations(regime, name)})" for name in peers]
        rows.append([f"{regime['epsilon']:g}", steps(regime, OURS, "attempts"), *of_peers])
    heads = [f"{name}: steps (velocities, Jacobians)" for name in peers]
    return _table(["epsilon", "ours: attempts", *heads], rows)


def _pieces(pieces):
    names = {
        "velocity": "velocity, XLA",
        "numba_velocity": "velocity, Numba",
        "solve": "one solve with kept factors, XLA",
        "factor_and_solve": "Hessian, its factors and one solve, XLA",
        "numba_jacobian": "Jacobian, Numba",
    }
    return _table(["piece", "µs"], [[label, f"{1e6 * pieces[name]:.2f}"] for name, label in names.items()])


def _goals(results):
    regimes, compilation = results["regimes"], results["compilation"]

    def ratio(peer):
        ratios = [regime["batch"]["run_each"] / _peers(regime)[peer] for regime in regimes if peer in _peers(regime)]
        return _geometric_mean(ratios)

    wall, cpu = (
        _geometric_mean([_to_fastest(regime, field) for regime in regimes]) for field in ("seconds", "cpu_seconds")
    )
    many = [
        ("the fastest pool with closed form", 0.7, ratio("fastest pool with closed form")),
        ("a pool of LSODA with quadrature", 1 / 15, ratio("LSODA, quadrature")),
        ("a pool of CVODE with quadrature", 1 / 7, ratio("CVODE BDF, quadrature")),
        ("Diffrax with quadrature", 0.05, ratio("Diffrax with quadrature")),
    ]
    goals = [
        ("one trajectory / fastest peer with closed form, CPU (wall)", 1.2, cpu, f"{cpu:.2f} ({wall:.2f})"),
        *((f"many starts / {peer}", most, found, f"{found:.3g}") for peer, most, found in many),
    ]
    gradient = [regime["gradient"]["ratio"] for regime in regimes]
    goals.append(("gradient / forward solve, the largest", 6.0, max(gradient), f"{max(gradient):.1f}"))
    for name, first in compilation.items():
        if name != "warm":
            goals.append((f"{name.replace('_', ' ')}, seconds", 10.0, first, f"{first:.1f}"))
    rows = [[name, f"{most:.2g}", shown, "yes" if found <= most else "no"] for name, most, found, shown in goals]
    return _table(["goal", "at most", "measured", "met"], rows)
