#!/usr/bin/env python3
"""Makes bfloat16.safetensors: what PyTorch rounds float32 values to, and a product of bfloat16 matrices.

    python3 tests/golden/make_bfloat16.py        # needs torch and safetensors; their versions are in the file's metadata

The values are ties and their neighbours, infinities, subnormal and largest numbers, and random bits.
"""
import pathlib
import struct

import safetensors.torch
import torch

SPECIAL = [0x00000000, 0x80000000, 0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7F7FFF, 0x7F7F8000,
           0x7F7FFFFF, 0xFF7F8000, 0x7F800000, 0xFF800000, 0x00008000, 0x00008001, 0x00018000, 0x80018000, 0x007FFFFF,
           0x00000001]


def from_bits(patterns):
    return torch.tensor([struct.unpack("<f", struct.pack("<I", p))[0] for p in patterns], dtype=torch.float32)


def main():
    generator = torch.Generator().manual_seed(16)
    random = torch.randint(0, 1 << 32, (256,), generator=generator, dtype=torch.int64).tolist()
    values = from_bits(SPECIAL + [p for p in random if p & 0x7F800000 != 0x7F800000])
    a = torch.randn(5, 7, generator=generator).bfloat16()
    b = torch.randn(7, 3, generator=generator).bfloat16()
    tensors = {"values": values, "rounded": values.bfloat16(), "nan": torch.tensor([float("nan")]).bfloat16(), "a": a,
               "b": b, "product": (a.double() @ b.double()).float().bfloat16()}
    versions = {"torch": torch.__version__, "safetensors": safetensors.__version__}
    safetensors.torch.save_file(tensors, pathlib.Path(__file__).parent / "bfloat16.safetensors", versions)


if __name__ == "__main__":
    main()
