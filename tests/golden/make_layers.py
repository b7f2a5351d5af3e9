#!/usr/bin/env python3
"""Makes layers.safetensors: values and gradients of PyTorch's layers in float64.

    python3 tests/golden/make_layers.py        # needs torch and safetensors; their versions are in the file's metadata

Every loss is sum(output * weights) with random weights, so that all outputs matter differently.
"""
import pathlib

import safetensors.torch
import torch


def record(out, name, module, inputs, output, generator):
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    (output * weights).sum().backward()
    out[f"{name}.output"] = output.detach()
    out[f"{name}.weights"] = weights
    for key, x in inputs.items():
        out[f"{name}.{key}"] = x.detach()
        out[f"{name}.grad.{key}"] = x.grad
    for key, p in module.named_parameters():
        out[f"{name}.{key}"] = p.detach()
        out[f"{name}.grad.{key}"] = p.grad


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(8)
    out = {}

    def randn(*shape):
        return torch.randn(shape, generator=generator, requires_grad=True)

    gru = torch.nn.GRU(3, 5)
    xs, h0 = randn(6, 2, 3), randn(1, 2, 5)
    record(out, "gru", gru, {"xs": xs, "h0": h0}, gru(xs, h0)[0], generator)

    rnn = torch.nn.RNN(3, 5)  # tanh; bias_ih and bias_hh only appear as their sum
    xs, h0 = randn(6, 2, 3), randn(1, 2, 5)
    record(out, "rnn", rnn, {"xs": xs, "h0": h0}, rnn(xs, h0)[0], generator)

    norm = torch.nn.LayerNorm(5, eps=1e-4)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    x = randn(2, 4, 5)
    record(out, "layer_norm", norm, {"x": x}, norm(x), generator)

    mlp = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.GELU(), torch.nn.Linear(8, 4), torch.nn.GELU(),
                              torch.nn.Linear(4, 2), torch.nn.Softplus())
    x = randn(2, 3, 3)
    record(out, "mlp", mlp, {"x": x}, mlp(x), generator)

    path = pathlib.Path(__file__).with_name("layers.safetensors")
    safetensors.torch.save_file({k: v.contiguous() for k, v in out.items()}, path,
                                metadata={"torch": torch.__version__, "script": "make_layers.py"})


if __name__ == "__main__":
    main()
