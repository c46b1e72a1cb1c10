"""Online SGD in overlaps as a loop in Numba: explicit Euler steps in alpha, as public programs take them.

The equations are those of Saad and Solla (1995) in the conventions of the literature, with their symmetries used: the
quadratic term once for each pair of neurons and of fields, and nothing allocated in the loop.
"""

import math

import numpy as np
from numba import njit


@njit(fastmath=True, error_model="numpy")
def euler(c, error, units, lr, lr2, noise, dt, steps):
    """`c`, the covariance of all fields, and `error`, the weights and minus those of the teacher, change in place."""
    n = len(error)
    outer, d = np.empty(units), np.empty((units, n))
    under, both, scale = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    square = np.empty((units, units))
    two = 2 / math.pi
    for _ in range(steps):
        for i in range(n):
            scale[i] = 1 / math.sqrt(1 + c[i, i])
        for i in range(units):
            total = 0.0
            for m in range(n):
                total += error[m] * math.asin(c[i, m] * scale[i] * scale[m])
            outer[i] = -lr2 * two * total
            free = scale[i] ** 2
            for p in range(n):
                for m in range(p, n):
                    under[p, m] = under[m, p] = c[p, m] - c[i, p] * c[i, m] * free
            for p in range(n):
                d[i, p] = 0.0
            for m in range(n):
                slope = two * scale[i] / math.sqrt(1 + under[m, m]) * error[m]
                for p in range(n):
                    d[i, p] += slope * under[p, m]
            for p in range(n):
                d[i, p] *= -lr * error[i]
            for k in range(i, units):
                j2 = two * scale[i] / math.sqrt(1 + under[k, k])
                free = 1 / (1 + under[k, k])
                for p in range(n):
                    both[p, p] = 1 / math.sqrt(1 + under[p, p] - under[k, p] ** 2 * free)
                total = 0.0
                for p in range(n):
                    variance = 1 / both[p, p] ** 2 - 1
                    total += error[p] ** 2 * math.asin(variance * both[p, p] ** 2)
                    for q in range(p + 1, n):
                        covariance = under[p, q] - under[k, p] * under[k, q] * free
                        total += 2 * error[p] * error[q] * math.asin(covariance * both[p, p] * both[q, q])
                square[i, k] = lr * lr * error[i] * error[k] * j2 * (two * total + noise * noise)
        for i in range(units):
            for k in range(i, units):
                c[i, k] += dt * (d[i, k] + d[k, i] + square[i, k])
                c[k, i] = c[i, k]
            for p in range(units, n):
                c[i, p] += dt * d[i, p]
                c[p, i] = c[i, p]
        for i in range(units):
            error[i] += dt * outer[i]
