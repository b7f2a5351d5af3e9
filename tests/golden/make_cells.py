#!/usr/bin/env python3
"""Makes cells.safetensors: states and gradients of recurrent cells and layers in float64.

    python3 tests/golden/make_cells.py        # needs torch and safetensors; their versions are in the file's metadata

LSTM and stacked bidirectional layers are PyTorch's own; LEM, ParaGRU and ParaLSTM are written here from their papers'
formulas, with PyTorch's automatic gradients. Every loss is sum(output * weights) with random weights.
"""
import pathlib

import safetensors.torch
import torch

T, B, I, H = 6, 2, 4, 6


def record(out, name, tensors, output, generator):
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    (output * weights).sum().backward()
    out[f"{name}.output"] = output.detach().clone()
    out[f"{name}.weights"] = weights
    for key, x in tensors.items():
        out[f"{name}.{key}"] = x.detach().clone()
        out[f"{name}.grad.{key}"] = x.grad.clone()


def unroll(step, xs, s):
    states = []
    for x in xs:
        s = step(s, x)
        states.append(s)
    return torch.stack(states)


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(11)
    generator = torch.Generator().manual_seed(12)
    out = {}

    def randn(*shape, scale=1.0):
        return (scale * torch.randn(shape, generator=generator)).requires_grad_()

    # LSTM: the joint state (h, c) at all steps, not only the outputs.
    cell = torch.nn.LSTMCell(I, H)
    xs, s0 = randn(T, B, I), randn(B, 2 * H)
    states = unroll(lambda s, x: torch.cat(cell(x, tuple(s.split(H, -1))), -1), xs, s0)
    record(out, "lstm", {"xs": xs, "s0": s0} | dict(cell.named_parameters()), states, generator)

    # Two bidirectional layers, from the zero state.
    for name, layer in (("bi_gru", torch.nn.GRU(I, 3, num_layers=2, bidirectional=True)),
                        ("bi_lstm", torch.nn.LSTM(I, 3, num_layers=2, bidirectional=True))):
        xs = randn(T, B, I)
        record(out, name, {"xs": xs} | dict(layer.named_parameters()), layer(xs)[0], generator)

    # LEM, with rows in the order rate of y, rate of z, candidate of z, candidate of y.
    dt = 0.7
    p = {"w_ih": randn(4 * H, I, scale=0.5), "w_hh": randn(3 * H, H, scale=0.5), "w_z": randn(H, H, scale=0.5),
         "b": randn(4 * H, scale=0.5)}

    def lem(s, x):
        y, z = s.split(H, -1)
        x1, x2, xz, xy = (x @ p["w_ih"].T + p["b"]).split(H, -1)
        v1, v2, vz = p["w_hh"].split(H, 0)
        d1 = dt * torch.sigmoid(x1 + y @ v1.T)
        d2 = dt * torch.sigmoid(x2 + y @ v2.T)
        z = (1 - d2) * z + d2 * torch.tanh(xz + y @ vz.T)
        y = (1 - d1) * y + d1 * torch.tanh(xy + z @ p["w_z"].T)
        return torch.cat((y, z), -1)

    xs, s0 = randn(T, B, I), randn(B, 2 * H)
    record(out, "lem", {"xs": xs, "s0": s0} | p, unroll(lem, xs, s0), generator)

    # ParaRNN cells; B as a block-diagonal matrix per row of b.
    heads = 2

    def project(p, x):
        inputs = x.split(I // heads, -1)
        per_head = [inputs[k] @ p["w_in"][k].T for k in range(heads)]  # (B, 3 H / heads)
        rows = [torch.cat([u.split(H // heads, -1)[row] for u in per_head], -1) + p["b"][row] for row in range(3)]
        return rows

    def para(names):
        p = {"w_in": randn(heads, 3 * H // heads, I // heads, scale=0.7), "a": randn(3, H, scale=0.7)}
        if "p" in names:
            p["p"] = randn(2, H, scale=0.7)
        p["b"] = randn(3, H, scale=0.7)
        return p

    g = para(["a"])

    def para_gru(h, x):
        uz, ur, uc = project(g, x)
        z, r = torch.sigmoid(g["a"][0] * h + uz), torch.sigmoid(g["a"][1] * h + ur)
        c = torch.tanh(g["a"][2] * h * r + uc)
        return z * c + (1 - z) * h

    xs, s0 = randn(T, B, I), randn(B, H)
    record(out, "para_gru", {"xs": xs, "s0": s0} | g, unroll(para_gru, xs, s0), generator)

    q = para(["a", "p"])

    def para_lstm(s, x):
        h, c = s.split(H, -1)
        uf, uo, ug = project(q, x)
        f = torch.sigmoid(q["a"][0] * h + q["p"][0] * c + uf)
        c = f * c + (1 - f) * torch.tanh(q["a"][2] * h + ug)
        o = torch.sigmoid(q["a"][1] * h + q["p"][1] * c + uo)
        return torch.cat((o * torch.tanh(c), c), -1)

    xs, s0 = randn(T, B, I), randn(B, 2 * H)
    record(out, "para_lstm", {"xs": xs, "s0": s0} | q, unroll(para_lstm, xs, s0), generator)

    path = pathlib.Path(__file__).with_name("cells.safetensors")
    safetensors.torch.save_file(out, path, metadata={"torch": torch.__version__, "script": "make_cells.py"})


if __name__ == "__main__":
    main()
