#!/usr/bin/env python3
"""Makes optim.safetensors: parameters after 1, 10 and 50 steps of PyTorch's optimizers in float64.

    python3 tests/golden/make_optim.py        # needs torch and safetensors; their versions are in the file's metadata

The gradients do not depend on the parameters, so every optimizer sees the same ones and errors do not feed back.
"""
import pathlib

import safetensors.torch
import torch

STEPS = 50
SHAPES = [(3, 4), (7,)]
CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.02),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam_decay": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}


def main():
    generator = torch.Generator().manual_seed(20240)
    start = [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]
    grads = [torch.randn((STEPS, *s), generator=generator, dtype=torch.float64) for s in SHAPES]
    out = {f"start.{i}": t for i, t in enumerate(start)} | {f"grads.{i}": t for i, t in enumerate(grads)}
    for name, make in CASES.items():
        params = [torch.nn.Parameter(t.clone()) for t in start]
        optimizer = make(params)
        for step in range(STEPS):
            for p, g in zip(params, grads):
                p.grad = g[step].clone()
            optimizer.step()
            if step + 1 in (1, 10, STEPS):
                for i, p in enumerate(params):
                    out[f"{name}.{step + 1}.{i}"] = p.detach().clone()
    for step in range(3):
        params = [torch.nn.Parameter(t.clone()) for t in start]
        for p, g in zip(params, grads):
            p.grad = g[step].clone()
        norm = torch.nn.utils.clip_grad_norm_(params, 2.5)
        out[f"clip_norm.{step}"] = norm.detach().reshape(())
        for i, p in enumerate(params):
            out[f"clip.{step}.{i}"] = p.grad.clone()
    path = pathlib.Path(__file__).with_name("optim.safetensors")
    safetensors.torch.save_file(out, path, metadata={"torch": torch.__version__, "script": "make_optim.py"})


if __name__ == "__main__":
    main()
