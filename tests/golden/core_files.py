"""Files of core's io tests, seen from Python.

    python3 core_files.py write DIR   writes core.safetensors and core_*.npy (run in tests/golden to renew the golden files)
    python3 core_files.py check DIR   checks files of the same content that Solvent wrote

Made with numpy 2.4.6 and safetensors 0.8.0.
"""
import os
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

ARRAYS = {
    "f32": (np.arange(6, dtype=np.float32) / 4 - 1).reshape(2, 3),
    "f64": np.array([[np.nan, -np.inf], [np.pi, 1e-300]]),
    "i64": np.array([-(2**63), 2**63 - 1, 0], dtype=np.int64),
    "bool": np.array([True, False, True]),
    "u8": np.array([[[0], [255]]], dtype=np.uint8),
    "scalar": np.array(2.5, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "name with ünïcode": np.array([7], dtype=np.int64),
}
METADATA = {"format": "pt", "note": "a \"quoted\" text"}


def write(folder):
    save_file(ARRAYS, os.path.join(folder, "core.safetensors"), metadata=METADATA)
    for name in ("f32", "f64", "i64", "bool", "u8", "scalar", "empty"):
        np.save(os.path.join(folder, f"core_{name}.npy"), ARRAYS[name])
    np.save(os.path.join(folder, "core_fortran.npy"), np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)))
    arrays = {name: ARRAYS[name] for name in ("f32", "f64", "i64", "bool", "u8", "scalar", "empty")}
    arrays["folder/fortran"] = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    np.savez(os.path.join(folder, "core_stored.npz"), **arrays)
    np.savez_compressed(os.path.join(folder, "core_deflated.npz"), zeros=np.zeros(4096, dtype=np.float32), **arrays)


def check(folder):
    path = os.path.join(folder, "core.safetensors")
    loaded = load_file(path)
    assert set(loaded) == set(ARRAYS), sorted(loaded)
    with safe_open(path, framework="np") as f:
        assert f.metadata() == METADATA, f.metadata()
    for name in ("f32", "f64", "i64", "bool", "u8", "scalar", "empty"):
        for array in (loaded[name], np.load(os.path.join(folder, f"core_{name}.npy"))):
            expected = ARRAYS[name]
            assert array.dtype == expected.dtype and array.shape == expected.shape, (name, array)
            assert array.tobytes() == expected.tobytes(), (name, array)


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](sys.argv[2])
