#!/usr/bin/env python3
"""Makes optim.safetensors: PyTorch's optimizers, schedules, clipping and weight averages over 50 steps in float64.

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
    "adam_amsgrad": lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.05, amsgrad=True),
    "adamw_amsgrad": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1, betas=(0.7, 0.8), amsgrad=True),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.02),
    "adamax_decay": lambda p: torch.optim.Adamax(p, lr=0.02, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.05),
    # own rates and decays per parameter
    "sgd_groups": lambda p: torch.optim.SGD(
        [{"params": [p[0]], "lr": 0.01, "weight_decay": 0.3}, {"params": [p[1]]}], lr=0.05, momentum=0.9),
    "adamw_groups": lambda p: torch.optim.AdamW(
        [{"params": [p[0]], "lr": 0.04}, {"params": [p[1]], "weight_decay": 0.0}], lr=0.02, weight_decay=0.1),
}
# The second parameter gets no gradient in these steps: moments and step counts rest.
FROZEN = range(5, 25)
FROZEN_CASES = {
    "sgd_frozen": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.02),
    "adam_frozen": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamax_frozen": lambda p: torch.optim.Adamax(p, lr=0.02),
}
# The base rate of all is 0.1.
S = torch.optim.lr_scheduler
SCHEDULES = {
    "constant": lambda o: S.LambdaLR(o, lambda step: 1.0),
    "step": lambda o: S.StepLR(o, step_size=7, gamma=0.6),
    "multi_step": lambda o: S.MultiStepLR(o, milestones=[5, 6, 30], gamma=0.3),
    "exponential": lambda o: S.ExponentialLR(o, gamma=0.95),
    "linear": lambda o: S.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=31),
    "cosine": lambda o: S.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.003),
    "warmup_cosine": lambda o: S.SequentialLR(o, [S.LinearLR(o, start_factor=0.01, end_factor=1.0, total_iters=9),
                                                  S.CosineAnnealingLR(o, T_max=41, eta_min=0.003)], milestones=[9]),
    "restarts": lambda o: S.CosineAnnealingWarmRestarts(o, T_0=8, eta_min=0.003),
    "restarts_growing": lambda o: S.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2, eta_min=0.003),
    "triangular": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=6, step_size_down=9, cycle_momentum=False),
    "triangular2": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=6, mode="triangular2", cycle_momentum=False),
    "exp_range": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=6, step_size_down=3, mode="exp_range", gamma=0.97,
                                      cycle_momentum=False),
    "one_cycle": lambda o: S.OneCycleLR(o, max_lr=0.1, total_steps=STEPS),
    "one_cycle_linear": lambda o: S.OneCycleLR(o, max_lr=0.1, total_steps=STEPS, pct_start=0.37,
                                               anneal_strategy="linear", div_factor=10, final_div_factor=100),
    "one_cycle_three": lambda o: S.OneCycleLR(o, max_lr=0.1, total_steps=STEPS, pct_start=0.4, three_phase=True),
}


def rates_of(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    rates, momenta = [], []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step + 1 < STEPS:
            scheduler.step()
    return torch.tensor(rates, dtype=torch.float64), torch.tensor(momenta, dtype=torch.float64)


def main():
    generator = torch.Generator().manual_seed(20240)
    start = [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]
    grads = [torch.randn((STEPS, *s), generator=generator, dtype=torch.float64) for s in SHAPES]
    out = {f"start.{i}": t for i, t in enumerate(start)} | {f"grads.{i}": t for i, t in enumerate(grads)}
    for name, make in (CASES | FROZEN_CASES).items():
        params = [torch.nn.Parameter(t.clone()) for t in start]
        optimizer = make(params)
        for step in range(STEPS):
            for p, g in zip(params, grads):
                p.grad = g[step].clone()
            if name in FROZEN_CASES and step in FROZEN:
                params[1].grad = None
            optimizer.step()
            if step + 1 in (1, 10, STEPS):
                for i, p in enumerate(params):
                    out[f"{name}.{step + 1}.{i}"] = p.detach().clone()
    # A schedule in use: rate and momentum change at every step.
    params = [torch.nn.Parameter(t.clone()) for t in start]
    optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    scheduler = SCHEDULES["one_cycle"](optimizer)
    average = torch.optim.swa_utils.AveragedModel(
        torch.nn.ParameterList(params), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for step in range(STEPS):
        for p, g in zip(params, grads):
            p.grad = g[step].clone()
        optimizer.step()
        average.update_parameters(torch.nn.ParameterList(params))
        if step + 1 < STEPS:
            scheduler.step()
        if step + 1 in (1, 10, STEPS):
            for i, (p, e) in enumerate(zip(params, average.module)):
                out[f"sgd_one_cycle.{step + 1}.{i}"] = p.detach().clone()
                out[f"ema.{step + 1}.{i}"] = e.detach().clone()
    for name, make in SCHEDULES.items():
        out[f"rates.{name}"], momenta = rates_of(make)
        if name.startswith("one_cycle"):
            out[f"momenta.{name}"] = momenta
    for step in range(3):
        params = [torch.nn.Parameter(t.clone()) for t in start]
        for p, g in zip(params, grads):
            p.grad = g[step].clone()
        norm = torch.nn.utils.clip_grad_norm_(params, 2.5)
        out[f"clip_norm.{step}"] = norm.detach().reshape(())
        for i, p in enumerate(params):
            out[f"clip.{step}.{i}"] = p.grad.clone()
        for i, (p, g) in enumerate(zip(params, grads)):
            p.grad = g[step].clone()
            torch.nn.utils.clip_grad_norm_([p], 1.5)
            out[f"clip_each.{step}.{i}"] = p.grad.clone()
            p.grad = g[step].clone()
            torch.nn.utils.clip_grad_value_([p], 0.4)
            out[f"clip_value.{step}.{i}"] = p.grad.clone()
    path = pathlib.Path(__file__).with_name("optim.safetensors")
    safetensors.torch.save_file(out, path, metadata={"torch": torch.__version__, "script": "make_optim.py"})


if __name__ == "__main__":
    main()
