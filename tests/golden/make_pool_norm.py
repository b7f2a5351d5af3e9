#!/usr/bin/env python3
"""Makes pool_norm.safetensors: pooling, resizing, normalisation and dense blocks of PyTorch in float64.

    python3 tests/golden/make_pool_norm.py     # needs torch and safetensors; their versions are in the file's metadata

Gradients are of sum(output * weights) with random weights.
"""
import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(4)
    out = {}

    def randn(*shape):
        return torch.randn(shape, generator=generator, requires_grad=True)

    def record(name, output, inputs):
        weights = torch.randn(output.shape, generator=generator)
        names = list(inputs)
        gradients = torch.autograd.grad((output * weights).sum(), [inputs[n] for n in names])
        out[f"{name}.output"] = output
        out[f"{name}.weights"] = weights
        for n, g in zip(names, gradients):
            out[f"{name}.{n}"] = inputs[n].clone()
            out[f"{name}.grad.{n}"] = g

    x = randn(2, 3, 9, 11)
    y, index = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    out["max_stem.index"] = index
    record("max_stem", y, {"x": x})
    # Few distinct values: ties in most windows.
    ties = torch.randint(0, 2, (2, 2, 8, 8), generator=generator).double()
    y, index = F.max_pool2d(ties, 2, return_indices=True)
    out["max_ties.x"], out["max_ties.index"] = ties, index
    record("avg", F.avg_pool2d(x, 3, 2, 1), {"x": x})
    record("avg_inside", F.avg_pool2d(x, (2, 3), (2, 1), (1, 1), count_include_pad=False), {"x": x})

    image = randn(1, 28, 28)
    for name, options in {"bilinear": {}, "corners": {"align_corners": True}, "antialias": {"antialias": True}}.items():
        record(f"resize_{name}", F.interpolate(image[None], (10, 10), mode="bilinear", **options)[0], {"x": image})
    small = randn(2, 5, 7)
    record("resize_up", F.interpolate(small[None], (8, 10), mode="bilinear")[0], {"x": small})
    record("resize_nearest", F.interpolate(small[None], (8, 3), mode="nearest")[0], {"x": small})

    for name, shape in {"batch_norm": (4, 3, 5, 2), "batch_norm_flat": (6, 3)}.items():
        layer = torch.nn.BatchNorm2d(3, eps=1e-3) if len(shape) == 4 else torch.nn.BatchNorm1d(3, eps=1e-3)
        with torch.no_grad():
            layer.weight.normal_(generator=generator)
            layer.bias.normal_(generator=generator)
        x = randn(*shape)
        record(name, layer(x), {"x": x, "weight": layer.weight, "bias": layer.bias})
        layer(x.detach() * 2 + 1)
        layer.eval()
        out[f"{name}.running_mean"], out[f"{name}.running_var"] = layer.running_mean, layer.running_var
        out[f"{name}.eval"] = layer(x)

    # Densely connected 1x1 layers (batch norm, relu, convolution), growth 2.
    x = randn(3, 4, 2, 3)
    features, inputs = [x], {"x": x}
    for i in range(3):
        norm, conv = torch.nn.BatchNorm2d(4 + 2 * i), torch.nn.Conv2d(4 + 2 * i, 2, 1, bias=False)
        with torch.no_grad():
            norm.weight.normal_(generator=generator)
            norm.bias.normal_(generator=generator)
            conv.weight.normal_(generator=generator)
        features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        prefix = f"denselayer{i + 1}"
        inputs |= {f"{prefix}.norm.weight": norm.weight, f"{prefix}.norm.bias": norm.bias, f"{prefix}.conv": conv.weight}
    record("dense", torch.cat(features, 1), inputs)

    v, g = randn(3, 2, 2, 3), randn(3)
    record("weight_norm", torch._weight_norm(v, g.reshape(3, 1, 1, 1), 0), {"v": v, "g": g})
    v, g = randn(3, 4, 2), randn(4)
    record("weight_norm_input", torch._weight_norm(v, g.reshape(1, 4, 1), 1), {"v": v, "g": g})

    path = pathlib.Path(__file__).with_name("pool_norm.safetensors")
    safetensors.torch.save_file({k: v.detach().contiguous() for k, v in out.items()}, path,
                                metadata={"torch": torch.__version__, "script": "make_pool_norm.py"})


if __name__ == "__main__":
    main()
