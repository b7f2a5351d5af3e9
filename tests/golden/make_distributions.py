#!/usr/bin/env python3
"""Makes distributions.safetensors: log probabilities and gradients of distributions with 60 digits.

    python3 tests/golden/make_distributions.py     # needs mpmath, numpy and safetensors; versions are in the metadata

All inputs are float32 numbers, so that both types can be tested against the same values. Rows of the mixtures: moderate
parameters first, then extreme ones (far means, narrow and wide scales, components that hardly count), each with pixels on
the grid, at both ends too. Gradients in the pixels hold the first and last bin's rule fixed, as the library does.
"""
import pathlib

import mpmath
import numpy as np
import safetensors.numpy
from mpmath import mp, mpf

mp.dps = 60
LEVELS = 256


def sigmoid(z):
    return 1 / (1 + mp.exp(-z)) if z > 0 else mp.exp(z) / (1 + mp.exp(z))


def log_sigmoid(z):
    return -mp.log1p(mp.exp(-z)) if z > 0 else z - mp.log1p(mp.exp(z))


def bin_probability(d, s, place):
    """Of the bin around distance d from the mean; place: -1 first, 0 inner, 1 last bin."""
    half = mpf(1) / (LEVELS - 1)
    p = (d + half) * mp.exp(-s)
    q = (d - half) * mp.exp(-s)
    if place < 0:
        return sigmoid(p)
    if place > 0:
        return sigmoid(-q)
    return sigmoid(p) - sigmoid(q) if q < 0 else sigmoid(-q) - sigmoid(-p)  # in the tail that is small


def unpack(l, channels):
    m = len(l) // (3 if channels == 1 else 10)
    rows = [l[m + c * (len(l) - m) // channels:m + (c + 1) * (len(l) - m) // channels] for c in range(channels)]
    means = [r[:m] for r in rows]
    scales = [[max(s, mpf(-7)) for s in r[m:2 * m]] for r in rows]
    coefficients = [[mp.tanh(c) for c in r[2 * m:]] for r in rows]
    weights = [mp.exp(v) for v in l[:m]]
    return means, scales, coefficients, [w / sum(weights) for w in weights]


def conditional_means(x, means, coefficients, j):
    mu = [row[j] for row in means]
    if len(x) == 3:
        mu[1] += coefficients[0][j] * x[0]
        mu[2] += coefficients[1][j] * x[0] + coefficients[2][j] * x[1]
    return mu


def log_prob(x, l, places):
    means, scales, coefficients, weights = unpack(l, len(x))
    total = mpf(0)
    for j, weight in enumerate(weights):
        mu = conditional_means(x, means, coefficients, j)
        for c in range(len(x)):
            weight *= bin_probability(x[c] - mu[c], scales[c][j], places[c])
        total += weight
    return mp.log(total)


def density(x, l):
    means, scales, coefficients, weights = unpack(l, len(x))
    total = mpf(0)
    for j, weight in enumerate(weights):
        mu = conditional_means(x, means, coefficients, j)
        for c in range(len(x)):
            z = (x[c] - mu[c]) * mp.exp(-scales[c][j])
            weight *= mp.exp(log_sigmoid(z) + log_sigmoid(-z) - scales[c][j])
        total += weight
    return mp.log(total)


def logit_cdf(x, l):
    means, scales, coefficients, weights = unpack(l, len(x))
    noise = []
    for c in range(len(x)):
        below = above = mpf(0)
        after = []
        for j, weight in enumerate(weights):
            z = (x[c] - conditional_means(x, means, coefficients, j)[c]) * mp.exp(-scales[c][j])
            below += weight * sigmoid(z)
            above += weight * sigmoid(-z)
            after.append(weight * sigmoid(z) * sigmoid(-z) * mp.exp(-scales[c][j]))
        noise.append(mp.log(below) - mp.log(above))
        weights = after
    return noise


def gradient(f, at):
    out = []
    for i in range(len(at)):
        step = mpf(10) ** -25
        ends = []
        for sign in (1, -1):
            moved = list(at)
            moved[i] += sign * step
            ends.append(f(moved))
        out.append((ends[0] - ends[1]) / (2 * step))
    return out


def mixture_rows(channels, components, rng):
    width = components * (3 if channels == 1 else 10)
    rows = [rng.normal(size=width) for _ in range(6)]
    for scale in (-9.0, -6.5, -3.0, 0.0, 4.0, 12.0):
        for far in (0.0, 3.0, 60.0):
            l = rng.normal(size=width)
            parts = l[components:].reshape(channels, -1, components)
            parts[:, 1] = scale + 0.3 * rng.normal(size=(channels, components))
            parts[:, 0] += far * rng.choice([-1, 1], size=(channels, components))
            rows.append(l)
    for logit in (-80.0, 80.0):
        l = rng.normal(size=width)
        l[0] = logit
        rows.append(l)
    return np.array(rows, dtype=np.float32).astype(np.float64)


def mixture(out, channels, components, rng):
    ls = mixture_rows(channels, components, rng)
    levels = rng.integers(0, LEVELS, size=(len(ls), channels))
    levels[::4, 0] = 0
    levels[1::4, -1] = LEVELS - 1
    xs = (-1 + 2 * levels / (LEVELS - 1)).astype(np.float32).astype(np.float64)
    values, to_l, to_x, densities, noise = [], [], [], [], []
    for l, x, level in zip(ls, xs, levels):
        place = [-1 if v == 0 else 1 if v == LEVELS - 1 else 0 for v in level]
        l, x = [mpf(float(v)) for v in l], [mpf(float(v)) for v in x]
        values.append(log_prob(x, l, place))
        to_l.append(gradient(lambda t: log_prob(x, t, place), l))
        to_x.append(gradient(lambda t: log_prob(t, l, place), x))
        densities.append(density(x, l))
        noise.append(logit_cdf(x, l))
    prefix = f"mixture{channels}."
    for name, data in (("parameters", ls), ("x", xs), ("log_prob", values), ("grad_parameters", to_l),
                       ("grad_x", to_x), ("density", densities), ("logit_cdf", noise)):
        out[prefix + name] = np.array([[float(v) for v in r] if isinstance(r, (list, np.ndarray)) else float(r)
                                       for r in data])


def simple(out):
    z = np.array([-5000, -90, -17, -1.5, 0, 0.25, 3, 40, 700, 9000], dtype=np.float64)
    out["tails.z"] = z
    out["tails.logistic"] = np.array([float(log_sigmoid(mpf(v)) + log_sigmoid(-mpf(v))) for v in z])
    out["tails.bernoulli"] = np.array([float(log_sigmoid(mpf(v))) for v in z])
    logits = np.array([[0, 0, 0], [50, 0, -50], [-3, 1, 2], [800, 0, -800], [1e-3, 0, 7]], dtype=np.float64)
    entropies = []
    for row in logits:
        p = [mp.exp(mpf(v)) for v in row]
        p = [v / sum(p) for v in p]
        entropies.append(float(-sum(v * mp.log(v) for v in p)))
    out["entropy.logits"] = logits
    out["entropy.value"] = np.array(entropies)


def main():
    rng = np.random.default_rng(7)
    out = {}
    simple(out)
    mixture(out, 1, 3, rng)
    mixture(out, 3, 2, rng)
    path = pathlib.Path(__file__).with_name("distributions.safetensors")
    metadata = {"mpmath": mpmath.__version__, "numpy": np.__version__, "script": "make_distributions.py"}
    safetensors.numpy.save_file(out, path, metadata=metadata)


if __name__ == "__main__":
    main()
