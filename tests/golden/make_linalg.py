#!/usr/bin/env python3
"""Makes linalg.safetensors: SciPy's factorisations and matrix functions in float64.

    python3 tests/golden/make_linalg.py        # needs numpy, scipy, mpmath, safetensors; versions are in the metadata

Matrix functions are checked in 60 digits by mpmath, so that the tolerances stored beside them are about the conditioning of
the problem and not about SciPy's error. Signs of vectors follow Solvent's convention (largest component positive).
"""
import pathlib

import mpmath
import numpy as np
import safetensors.numpy
import scipy
import scipy.linalg

mpmath.mp.dps = 60


def exact(a, function):
    """f(a) by the Taylor series of the block matrix [[a, 1], [0, 0]], whose exponential is [[e^a, phi1(a)], [0, 1]]."""
    n = len(a)
    block = mpmath.zeros(2 * n)
    for i in range(n):
        block[i, n + i] = 1
        for j in range(n):
            block[i, j] = mpmath.mpf(float(a[i, j]))
    halvings = max(0, int(mpmath.ceil(mpmath.log(mpmath.mnorm(block, 1), 2))) + 4)
    block /= mpmath.mpf(2) ** halvings
    term = mpmath.eye(2 * n)
    total = mpmath.eye(2 * n)
    for k in range(1, 60):
        term = term * block / k
        total += term
    for _ in range(halvings):
        total = total * total
    first = n if function == "phi1" else 0
    return np.array([[float(total[i, first + j]) for j in range(n)] for i in range(n)])


def exact_frechet(a, e):
    n = len(a)
    block = np.block([[a, e], [np.zeros((n, n)), a]])
    return exact(block, "expm")[:n, n:]


def positive_largest(vectors):
    at = np.abs(vectors).argmax(axis=0)
    return np.where(vectors[at, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


def matrix_functions(out, rng):
    n = 6
    gallery = np.array([[-131, 19, 18], [-390, 56, 54], [-387, 57, 52.0]])  # Ward 1977, test 2: condition about 1e4
    triangular = np.triu(rng.standard_normal((n, n)) * 20) - np.diag(np.arange(n) * 5.0)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    stiff = q @ np.diag([0, -1e-8, -1, -40, -300, -1000.0]) @ q.T
    jordan = np.diag(np.full(n, -0.1)) + np.diag(np.full(n - 1, 30.0), 1)
    # Tolerance: about 100 times the error that rounding the matrix itself causes.
    cases = {"gallery": (gallery, 1e-10), "triangular": (triangular, 1e-11), "stiff": (stiff, 1e-11),
             "random": (rng.standard_normal((20, 20)), 1e-13), "jordan": (jordan, 1e-13)}
    for name, (a, tolerance) in cases.items():
        e = rng.standard_normal(a.shape)
        values = {"expm": exact(a, "expm"), "phi1": exact(a, "phi1"), "frechet": exact_frechet(a, e)}
        theirs = {"expm": scipy.linalg.expm(a), "frechet": scipy.linalg.expm_frechet(a, e)[1]}
        for key, value in theirs.items():
            error = np.abs(value - values[key]).max() / np.abs(values[key]).max()
            print(f"{name}.{key}: SciPy's error {error:.1e}, tolerance {tolerance:.0e}")
            assert error < 100 * tolerance
        out[f"{name}.a"], out[f"{name}.e"] = a, e
        out[f"{name}.tolerance"] = np.array(tolerance)
        out.update({f"{name}.{key}": value for key, value in values.items()})


def factorisations(out, rng):
    n = 8
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    ill = q @ np.diag(np.logspace(0, -12, n)) @ q.T
    cases = {"hilbert": scipy.linalg.hilbert(n), "ill": (ill + ill.T) / 2, "moler": np.minimum.outer(
        np.arange(n), np.arange(n)) + 1.0, "large": (lambda x: x @ x.T / 40 + np.eye(40))(rng.standard_normal((40, 40)))}
    for name, a in cases.items():
        w, v = scipy.linalg.eigh(a)
        out[f"{name}.a"] = a
        out[f"{name}.cholesky"] = scipy.linalg.cholesky(a, lower=True)
        out[f"{name}.eigenvalues"] = w
        out[f"{name}.logdet"] = np.array(np.linalg.slogdet(a)[1])
    for name, shape in {"tall": (12, 5), "wide": (4, 9), "square": (24, 24)}.items():
        a, b = rng.standard_normal(shape), rng.standard_normal((shape[0], 2))
        u, s, vt = scipy.linalg.svd(a, full_matrices=False)
        signs = positive_largest(u if shape[0] >= shape[1] else vt.T)
        qa, ra = scipy.linalg.qr(a, mode="economic")
        diagonal = np.where(np.diag(ra) < 0, -1.0, 1.0)
        out.update({f"{name}.a": a, f"{name}.b": b, f"{name}.u": u * signs, f"{name}.s": s,
                    f"{name}.vt": vt * signs[:, None], f"{name}.q": qa * diagonal, f"{name}.r": ra * diagonal[:, None],
                    f"{name}.lstsq": scipy.linalg.lstsq(a, b)[0]})
        if shape[0] == shape[1]:
            symmetric = (a + a.T) / 2
            w, v = scipy.linalg.eigh(symmetric)
            out.update({f"{name}.eigh.values": w, f"{name}.eigh.vectors": v * positive_largest(v),
                        f"{name}.det": np.array(np.linalg.det(a)), f"{name}.inverse": np.linalg.inv(a)})


def main():
    rng = np.random.default_rng(20)
    out = {}
    matrix_functions(out, rng)
    factorisations(out, rng)
    path = pathlib.Path(__file__).with_name("linalg.safetensors")
    out = {key: np.ascontiguousarray(value, dtype=np.float64).reshape(np.shape(value)) for key, value in out.items()}
    safetensors.numpy.save_file(out, path, metadata={"scipy": scipy.__version__, "numpy": np.__version__,
                                                      "mpmath": mpmath.__version__, "script": "make_linalg.py"})
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
