"""The flow of `tts_jax` compiled by Numba, for the solvers of SciPy and SUNDIALS: the peers' side of the benchmark.

`velocity` and `jacobian` are the closed forms of `tts_jax.quadratic`, written for a scalar compiler: pairs of neurons
whose windows do not meet, nearly all of them, cost a few additions. `quadrature_velocity` is what one writes without
the closed forms.

The state is (bias, weights, positions), time is slow time. Everything else is one array, `parameters(...)`.
"""

import numpy as np
from numba import njit

compiled = njit(fastmath=True, error_model="numpy", cache=True)
NODES, NODE_WEIGHTS = (np.asarray(part) for part in np.polynomial.legendre.leggauss(4))


def parameters(epsilon, eta, jumps, values):
    lengths = np.diff(np.concatenate([[0.0], jumps, [1.0]]))
    return np.concatenate([[epsilon, eta, values[0], np.dot(values, lengths)], jumps, np.diff(values)])


@compiled
def _step(z):
    """Antiderivative, value, slope and curvature of the activation."""
    if z <= -0.5:
        return 0.0, 0.0, 0.0, 0.0
    if z >= 0.5:
        return z, 1.0, 0.0, 0.0
    w = 0.5 - abs(z)
    if z <= 0.0:
        return w**4, 4 * w**3, 12 * w**2, 24 * w
    return z + w**4, 1 - 4 * w**3, 12 * w**2, -24 * w


@compiled
def _neurons(u, p, out):
    """Integral of each neuron, and of its product with the target, with two derivatives each: rows of `out`."""
    eta, scale, jumps = p[1], 1 / p[1], (len(p) - 4) // 2
    for j in range(len(u)):
        top, top_1, top_2, _ = _step((1 - u[j]) * scale)
        low, low_1, low_2, _ = _step(-u[j] * scale)
        s, s_1, s_2 = eta * (top - low), low_1 - top_1, (top_2 - low_2) * scale
        b, b_1, b_2 = p[2] * s, p[2] * s_1, p[2] * s_2
        for i in range(jumps):
            low, low_1, low_2, _ = _step((p[4 + i] - u[j]) * scale)
            height = p[4 + jumps + i]
            b += height * eta * (top - low)
            b_1 += height * (low_1 - top_1)
            b_2 += height * (top_2 - low_2) * scale
        out[0, j], out[1, j], out[2, j], out[3, j], out[4, j], out[5, j] = s, s_1, s_2, b, b_1, b_2


@compiled
def _beyond(al, be):
    """`Phi(al, be)` of MATH.md, al >= be > -1/2 and al < 1/2, and its derivatives: a, b, aa, ab, bb."""
    d, w, v = al - be, be + 0.5, max(be, 0.0)
    m_1, m0, m1 = 12 * w**2 - 24 * v, 4 * w**3 - 12 * v**2, w**4 - 4 * v**3
    m2, m3, m4 = w**5 / 5 - v**4, w**6 / 30 - v**5 / 5, w**7 / 210 - v**6 / 30
    _, value, s1, s2 = _step(al)
    rest, jump = 1 - value, max(0.5 - d, 0.0) if al > 0 else 0.0
    phi = rest * m1 + s1 * m2 - s2 * m3 + 24 * m4 - 0.8 * jump**6
    a = -s1 * m1 + s2 * m2 - 24 * m3 + 4.8 * jump**5
    aa = -s2 * m1 + 24 * m2 - 24 * jump**4
    ab = -s1 * m0 - aa
    return phi, a, rest * m0 - a, aa, ab, rest * m_1 - ab


@compiled
def _excess(high, low, eta):
    """What separates `G(high, low)` from `S(high)`, over eta, and its derivatives: high, low, hh, hl, ll."""
    d = (high - low) / eta
    if d >= 1 or low <= -eta / 2 or high >= 1 + eta / 2:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    full, half = 1 - d, max(0.5 - d, 0.0)
    x = 4 / 35 * full**7 - 1.6 * half**6
    x_h = -0.8 * full**6 + 9.6 * half**5
    x_hh = 4.8 * full**5 - 48 * half**4
    x_l, x_hl, x_ll = -x_h, -x_hh, x_hh
    if low > 1 - eta / 2:
        e, a, b, aa, ab, bb = _beyond((high - 1) / eta, (low - 1) / eta)
        x, x_h, x_l, x_hh, x_hl, x_ll = x - e, x_h - a, x_l - b, x_hh - aa, x_hl - ab, x_ll - bb
    if high < eta / 2:
        e, a, b, aa, ab, bb = _beyond(-low / eta, -high / eta)
        x, x_h, x_l, x_hh, x_hl, x_ll = x - e, x_h + b, x_l + a, x_hh - bb, x_hl - ab, x_ll - aa
    return x, x_h, x_l, x_hh, x_hl, x_ll


@compiled
def velocity(t, y, out, p):
    m, epsilon, eta = len(y) // 2, p[0], p[1]
    bias, a, u = y[0], y[1 : m + 1], y[m + 1 :]
    of = np.empty((6, m))
    _neurons(u, p, of)
    d_a, d_u = out[1 : m + 1], out[m + 1 :]  # the sums of G a - b and of d_1 G a - b' first
    total = bias - p[3]
    for j in range(m):
        x, x_h, _, _, _, _ = _excess(u[j], u[j], eta)
        total += a[j] * of[0, j]
        d_a[j] = bias * of[0, j] - of[3, j] + a[j] * (of[0, j] - eta * x)
        d_u[j] = bias * of[1, j] - of[4, j] + a[j] * (of[1, j] - x_h)
    for j in range(m):
        for k in range(j):
            h, i = (j, k) if u[j] >= u[k] else (k, j)
            value, slope = of[0, h], of[1, h]
            if u[h] - u[i] < eta:
                x, x_h, x_l, _, _, _ = _excess(u[h], u[i], eta)
                value, slope = value - eta * x, slope - x_h
                d_u[i] -= a[h] * x_l
            d_a[h] += a[i] * value
            d_a[i] += a[h] * value
            d_u[h] += a[i] * slope
    out[0] = -2 / epsilon * total
    for j in range(m):
        d_a[j] *= -2 / epsilon
        d_u[j] *= -2 * a[j]


@compiled
def jacobian(t, y, out, p):
    """All n x n entries of `out`, for n = 2 m + 1."""
    m, epsilon, eta = len(y) // 2, p[0], p[1]
    bias, a, u = y[0], y[1 : m + 1], y[m + 1 :]
    of, slope, bend = np.empty((6, m)), np.empty(m), np.empty(m)
    _neurons(u, p, of)
    fast = -2 / epsilon
    out[0, 0] = fast
    for j in range(m):
        x, x_h, _, x_hh, x_hl, _ = _excess(u[j], u[j], eta)
        slope[j] = bias * of[1, j] - of[4, j] + a[j] * (of[1, j] - x_h)
        bend[j] = bias * of[2, j] - of[5, j] + a[j] * (of[2, j] - x_hh / eta)
        out[0, 1 + j] = out[1 + j, 0] = fast * of[0, j]
        out[0, 1 + m + j] = fast * a[j] * of[1, j]
        out[1 + m + j, 0] = -2 * a[j] * of[1, j]
        out[1 + j, 1 + j] = fast * (of[0, j] - eta * x)
        out[1 + j, 1 + m + j] = a[j] * (of[1, j] - x_h)
        out[1 + m + j, 1 + m + j] = -a[j] * x_hl / eta
    for j in range(m):
        for k in range(j):
            h, i = (j, k) if u[j] >= u[k] else (k, j)
            value, d_h, d_l, d_hl = of[0, h], of[1, h], 0.0, 0.0
            bend[h] += a[i] * of[2, h]
            if u[h] - u[i] < eta:
                x, x_h, x_l, x_hh, x_hl, x_ll = _excess(u[h], u[i], eta)
                value, d_h, d_l, d_hl = value - eta * x, d_h - x_h, -x_l, -x_hl / eta
                bend[h] -= a[i] * x_hh / eta
                bend[i] -= a[h] * x_ll / eta
                slope[i] += a[h] * d_l
            slope[h] += a[i] * d_h
            out[1 + h, 1 + i] = out[1 + i, 1 + h] = fast * value
            out[1 + i, 1 + m + h], out[1 + m + h, 1 + i] = fast * a[h] * d_h, -2 * a[h] * d_h
            out[1 + h, 1 + m + i], out[1 + m + i, 1 + h] = fast * a[i] * d_l, -2 * a[i] * d_l
            out[1 + m + h, 1 + m + i] = out[1 + m + i, 1 + m + h] = -2 * a[h] * a[i] * d_hl
    for j in range(m):
        mixed = out[1 + j, 1 + m + j] + slope[j]
        out[1 + j, 1 + m + j], out[1 + m + j, 1 + j] = fast * mixed, -2 * mixed
        out[1 + m + j, 1 + m + j] = -2 * a[j] * (out[1 + m + j, 1 + m + j] + bend[j])


@compiled
def quadrature_velocity(t, y, out, p):
    """Four Gauss nodes between the kinks, which are exact."""
    m, epsilon, eta, jumps = len(y) // 2, p[0], p[1], (len(p) - 4) // 2
    bias, a, u = y[0], y[1 : m + 1], y[m + 1 :]
    kinks = np.empty(3 * m + jumps + 2)
    kinks[0], kinks[1] = 0.0, 1.0
    kinks[2 : jumps + 2] = p[4 : 4 + jumps]
    for j in range(m):
        for shift in range(3):
            kinks[jumps + 2 + 3 * j + shift] = min(max(u[j] + 0.5 * (shift - 1) * eta, 0.0), 1.0)
    kinks.sort()
    value, slope, total = np.empty(m), np.empty(m), np.zeros(2 * m + 1)
    for i in range(len(kinks) - 1):
        half = (kinks[i + 1] - kinks[i]) / 2
        if half == 0.0:
            continue
        for q in range(4):
            x = kinks[i] + half * (1 + NODES[q])
            residual = bias - p[2]
            for jump in range(jumps):
                if x >= p[4 + jump]:
                    residual -= p[4 + jumps + jump]
            for j in range(m):
                z = (x - u[j]) / eta
                w = max(0.5 - abs(z), 0.0)
                cube = 4 * w**3
                value[j] = cube if z <= 0 else 1 - cube
                slope[j] = 12 * w**2
                residual += a[j] * value[j]
            weight = half * NODE_WEIGHTS[q] * residual
            total[0] += weight
            for j in range(m):
                total[1 + j] += weight * value[j]
                total[1 + m + j] += weight * slope[j]
    for j in range(m + 1):
        out[j] = -2 / epsilon * total[j]
    for j in range(m):
        out[1 + m + j] = 2 / eta * a[j] * total[1 + m + j]


# The signatures of SciPy (results are returned, and `odeint` likes the transposed Jacobian) and of scikit-sundae
# (which cannot pass a bare array).


@compiled
def velocity_scipy(t, y, p):
    out = np.empty(len(y))
    velocity(t, y, out, p)
    return out


@compiled
def jacobian_scipy(t, y, p):
    out = np.empty((len(y), len(y)))
    jacobian(t, y, out, p)
    return out


@compiled
def jacobian_transposed(t, y, p):
    out = np.empty((len(y), len(y)))
    jacobian(t, y, out.T, p)
    return out


@compiled
def quadrature_scipy(t, y, p):
    out = np.empty(len(y))
    quadrature_velocity(t, y, out, p)
    return out


@compiled
def velocity_sundials(t, y, out, data):
    velocity(t, y, out, data[0])


@compiled
def jacobian_sundials(t, y, velocity_at_y, out, data):
    jacobian(t, y, out, data[0])


@compiled
def quadrature_sundials(t, y, out, data):
    quadrature_velocity(t, y, out, data[0])
