#!/usr/bin/env python3
"""Rows of bench_cuda in JAX on a GPU: Newton's method on a GRU's trajectory with associative_scan (DEER, Lim et al. 2024,
arXiv:2309.12252), the linear recurrence, elementwise functions and products.

    python3 tests/bench/peers/gpu_jax.py [--size full|quick|smoke] [--cpu]

Prints one JSON object per line: {"row", "peer", "seconds"}, with the names and sizes of bench_cuda's rows, and {"versions"};
without a GPU {"skipped": why}. Solutions are checked before they are timed. --cpu runs on the CPU, to see that the rows work.
"""
import argparse
import functools
import json
import os
import statistics
import sys
import time

try:
    import jax
    import jax.numpy as jnp
    import numpy as np
except ImportError as error:
    print(json.dumps({"skipped": f"JAX: {error}"}))
    sys.exit(0)

TOLERANCE = 1e-6


class Bench:
    """Times jitted functions and prints rows."""

    def __init__(self, size):
        self.size = size
        self.seconds = {"full": 0.5, "quick": 0.2, "smoke": 0.0}[size]

    def by_size(self, full, quick, smoke):
        return {"full": full, "quick": quick, "smoke": smoke}[self.size]

    def row(self, row, peer, f, *xs):
        """Median over rounds of at least 5 ms, many calls in flight; the first call compiles."""
        try:
            jax.block_until_ready(f(*xs))

            def elapsed(calls):
                start = time.perf_counter()
                for _ in range(calls):
                    y = f(*xs)
                jax.block_until_ready(y)
                return (time.perf_counter() - start) / calls

            once = elapsed(1)
            calls, times, begin = max(1, min(200, int(5e-3 / max(once, 1e-9)))), [], time.perf_counter()
            least = 3 if once < 0.3 else 1
            while len(times) < least or (len(times) < 21 and time.perf_counter() - begin < self.seconds):
                times.append(elapsed(calls))
        except Exception as error:  # out of memory and the compiler's own: the other rows go on
            print(f"{row} ({peer}): {error}", file=sys.stderr, flush=True)
            return
        print(json.dumps({"row": row, "peer": peer, "seconds": statistics.median(times)}), flush=True)


# --- the GRU and its solution in parallel over time -----------------------------------------------------------------------

def gru_theta(n):
    keys = jax.random.split(jax.random.PRNGKey(2), 4)
    scale = n ** -0.5
    return {"w_ih": scale * jax.random.normal(keys[0], (3 * n, n)), "w_hh": scale * jax.random.normal(keys[1], (3 * n, n)),
            "b": 0.1 * jax.random.normal(keys[2], (3 * n,)), "b_n": 0.1 * jax.random.normal(keys[3], (n,))}


def gru_cell(h, x, theta):
    """h (n), x (n) -> (n), the form of PyTorch and Equinox."""
    xr, xz, xn = jnp.split(theta["w_ih"] @ x + theta["b"], 3)
    hr, hz, hn = jnp.split(theta["w_hh"] @ h, 3)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    return (1 - z) * jnp.tanh(xn + r * (hn + theta["b_n"])) + z * h


def shifted(hs):
    """(T, B, n) -> the states before each step, from 0."""
    return jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])


def solve_linear(a, b):
    """d[t] = a[t] d[t-1] + b[t] from 0: a (T, B, n, n), b (T, B, n)."""

    def compose(first, second):
        a1, b1 = first
        a2, b2 = second
        return a2 @ a1, (a2 @ b1[..., None])[..., 0] + b2

    return jax.lax.associative_scan(compose, (a, b))[1]


def rows(cell):
    """A function of one state and input on (T, B, n)."""
    return jax.vmap(jax.vmap(cell, (0, 0, None)), (0, 0, None))


def newton(xs, theta, max_steps=100):
    """The trajectory, to a residual of TOLERANCE."""
    step, jacobian = rows(gru_cell), rows(jax.jacfwd(gru_cell))

    def residual(hs):
        return step(shifted(hs), xs, theta) - hs

    def body(state):
        hs, r, i = state
        hs = hs + solve_linear(jacobian(shifted(hs), xs, theta), r)
        return hs, residual(hs), i + 1

    def unfinished(state):
        return (jnp.max(jnp.abs(state[1])) > TOLERANCE) & (state[2] < max_steps)

    start = jnp.zeros(xs.shape)
    return jax.lax.while_loop(unfinished, body, (start, residual(start), 0))


def differentiable_newton(xs, theta):
    """The same, with the implicit function theorem's derivative: one linear solve around the solution."""
    hs = jax.lax.stop_gradient(newton(jax.lax.stop_gradient(xs), jax.lax.stop_gradient(theta))[0])
    before = shifted(hs)
    a = jax.lax.stop_gradient(rows(jax.jacfwd(gru_cell))(before, xs, theta))
    offset = rows(gru_cell)(before, xs, theta) - (a @ before[..., None])[..., 0]
    return solve_linear(a, offset)


def gru(b):
    steps, longest = b.by_size(10000, 10000, 40), b.by_size(300000, 30000, 60)
    theta, xs = gru_theta(16), jax.random.normal(jax.random.PRNGKey(1), (steps, 16, 16))
    solve = jax.jit(newton)
    hs, r, _ = solve(xs, theta)
    worst = float(jnp.max(jnp.abs(r)))
    if not worst <= TOLERANCE:
        print(f"gru/n16_B16_T{steps}: residual {worst}", file=sys.stderr, flush=True)
    else:
        name = f"gru/n16_B16_T{steps}/deer"
        b.row(name, "JAX associative_scan Deer", solve, xs, theta)

        @jax.jit
        def sequential(inputs, parameters):
            def one(h, x):
                h = jax.vmap(gru_cell, (0, 0, None))(h, x, parameters)
                return h, h
            return jax.lax.scan(one, jnp.zeros(inputs.shape[1:]), inputs)[1]

        difference = float(jnp.max(jnp.abs(sequential(xs, theta) - hs)))
        if difference > 1e-4:
            print(f"{name}: differs from the loop by {difference}", file=sys.stderr, flush=True)
        b.row(f"gru/n16_B16_T{steps}/sequential", "JAX lax.scan", sequential, xs, theta)
    one_theta, ys = gru_theta(1), jax.random.normal(jax.random.PRNGKey(1), (longest, 1, 1))
    gradient = jax.jit(jax.value_and_grad(lambda x, t: jnp.sum(jnp.square(differentiable_newton(x, t))), argnums=(0, 1)))
    b.row(f"gru/n1_B1_T{longest}_gradient/deer", "JAX associative_scan Deer", gradient, ys, one_theta)


# --- the rest -----------------------------------------------------------------------------------------------------------

@jax.jit
def diagonal_scan(a, x):
    return jax.lax.associative_scan(lambda f, g: (f[0] * g[0], g[0] * f[1] + g[1]), (a, x))[1]


def scan(b):
    for power in b.by_size((16, 20, 24, 28), (16, 20, 24), (9, 11)):
        a = jax.random.uniform(jax.random.PRNGKey(3), (1 << power,), minval=-0.95, maxval=0.95)
        x = jax.random.normal(jax.random.PRNGKey(4), (1 << power,))
        b.row(f"scan/one_chain/2^{power}", "JAX associative_scan", diagonal_scan, a, x)


def memory(b):
    n, width = b.by_size(1 << 28, 1 << 26, 1 << 12), b.by_size(4096, 4096, 64)
    x = jax.random.uniform(jax.random.PRNGKey(5), (n,), minval=-1.0, maxval=1.0)
    for name, f in (("exp", jnp.exp), ("tanh", jnp.tanh), ("gelu", functools.partial(jax.nn.gelu, approximate=False)),
                    ("sum", jnp.sum)):
        b.row(f"memory/{name}_{n}", "JAX jit", jax.jit(f), x)
    table = x.reshape(-1, width)
    b.row(f"memory/row_sums_{n}_by_{width}", "JAX jit", jax.jit(lambda v: v.sum(-1)), table)
    b.row(f"memory/softmax_{n}_by_{width}", "JAX jit", jax.jit(jax.nn.softmax), table)
    b.row(f"memory/layer_norm_{n}_by_{width}", "JAX jit", jax.jit(lambda v: jax.nn.standardize(v, epsilon=1e-5)), table)


def gemm(b):
    for kind, precision in (("float32", "highest"), ("tf32", "high")):
        for n in b.by_size((1024, 2048, 4096, 8192), (1024, 4096), (16, 32)):
            x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (n, n)), jnp.float32)
            b.row(f"gemm/{kind}/{n}", "JAX jit", jax.jit(functools.partial(jnp.matmul, precision=precision)), x, x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("full", "quick", "smoke"), default="full")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    # Without this JAX takes three quarters of the card's memory at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if arguments.cpu:
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        print(json.dumps({"skipped": f"JAX {jax.__version__} finds no CUDA device (its backend is {jax.default_backend()})"}))
        return
    print(json.dumps({"versions": {"JAX": jax.__version__}}), flush=True)
    jax.config.update("jax_default_matmul_precision", "highest")
    bench = Bench(arguments.size)
    for group in (gru, scan, gemm, memory):  # what targets depend on comes first, should the time run out
        group(bench)


if __name__ == "__main__":
    main()
