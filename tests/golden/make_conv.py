#!/usr/bin/env python3
"""Makes conv.safetensors: values and gradients of PyTorch's convolutions in float64, and of masked and shifted ones
written out in PyTorch.

    python3 tests/golden/make_conv.py        # needs torch and safetensors; their versions are in the file's metadata

Every loss is sum(output * weights) with random weights, so that all outputs matter differently.
"""
import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(8)
    out = {}

    def randn(*shape):
        return torch.randn(shape, generator=generator, requires_grad=True)

    def record(name, inputs, output):
        weights = torch.randn(output.shape, generator=generator)
        (output * weights).sum().backward()
        out[f"{name}.output"] = output.detach()
        out[f"{name}.weights"] = weights
        for key, value in inputs.items():
            out[f"{name}.{key}"] = value.detach()
            out[f"{name}.grad.{key}"] = value.grad

    def layer(name, module, x):
        record(name, {"x": x, **dict(module.named_parameters())}, module(x))

    layer("conv2d", torch.nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
          randn(2, 4, 6, 5))
    layer("conv1d", torch.nn.Conv1d(3, 4, 3, stride=2, padding=2), randn(2, 3, 8))
    layer("conv_transpose2d",
          torch.nn.ConvTranspose2d(4, 6, (2, 3), stride=(2, 3), padding=(0, 1), output_padding=(1, 2), groups=2),
          randn(2, 4, 3, 2))

    # PixelCNN's first layer on two colours: 3x3, nothing at or after the centre but, for the second colour, the first.
    mask = torch.zeros(4, 2, 3, 3)
    mask[:, :, 0] = 1
    mask[:, :, 1, 0] = 1
    mask[2:, :1, 1, 1] = 1
    x, w, b = randn(2, 2, 4, 4), randn(4, 2, 3, 3), randn(4)
    record("masked_a", {"x": x, "weight": w, "bias": b}, F.conv2d(x, w * mask, b, padding=1))
    out["masked_a.mask"] = mask

    # PixelCNN++: padded above (and left, or on both sides), weight normalisation per filter, then moved.
    def normalised(v, g):
        return v * (g / v.flatten(1).norm(dim=1))[:, None, None, None]

    x, v, g, b = randn(2, 3, 5, 4), randn(4, 3, 2, 3), randn(4), randn(4)
    y = F.conv2d(F.pad(x, (1, 1, 1, 0)), normalised(v, g), b)
    record("down_shifted", {"x": x, "weight": v, "gain": g, "bias": b}, F.pad(y[:, :, :-1], (0, 0, 1, 0)))
    x, v, g, b = randn(2, 3, 4, 6), randn(4, 3, 2, 2), randn(4), randn(4)
    record("down_right_shifted", {"x": x, "weight": v, "gain": g, "bias": b},
           F.conv2d(F.pad(x, (1, 0, 1, 0)), normalised(v, g), b, stride=2))

    # Doubling: cut off the last row, and the first and last column (down) or the last one (down and right).
    x, v, g, b = randn(1, 3, 3, 2), randn(3, 2, 2, 3), randn(3), randn(2)
    y = F.conv_transpose2d(x, normalised(v, g), b, stride=2, output_padding=1)
    record("down_shifted_transpose", {"x": x, "weight": v, "gain": g, "bias": b}, y[:, :, :-1, 1:-1])
    x, v, g, b = randn(1, 3, 2, 3), randn(3, 2, 2, 2), randn(3), randn(2)
    y = F.conv_transpose2d(x, normalised(v, g), b, stride=2, output_padding=1)
    record("down_right_shifted_transpose", {"x": x, "weight": v, "gain": g, "bias": b}, y[:, :, :-1, :-1])

    path = pathlib.Path(__file__).with_name("conv.safetensors")
    safetensors.torch.save_file({k: t.contiguous() for k, t in out.items()}, path,
                                metadata={"torch": torch.__version__, "script": "make_conv.py"})


if __name__ == "__main__":
    main()
