#!/usr/bin/env python3
"""Makes dense_net.safetensors: two layers of a dense block and the transition behind them, by PyTorch in float64.

    python3 tests/golden/make_dense_net.py     # needs torch and safetensors; their versions are in the file's metadata

Written with torch.nn in the order of torchvision's densenet.py and with its names. In training, growth 3, bottleneck 2;
gradients are of sum(output * weights) with random weights. State after the call: running statistics of every normalisation.
"""
import collections
import pathlib

import safetensors.torch
import torch
from torch import nn


class DenseLayer(nn.Module):
    def __init__(self, channels, growth, bottleneck):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, bottleneck * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))


class DenseBlock(nn.Module):
    def __init__(self, channels, growth, bottleneck, layers):
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(channels + i * growth, growth, bottleneck))

    def forward(self, x):
        features = [x]
        for layer in self.children():
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    transition = nn.Sequential(collections.OrderedDict(
        norm=nn.BatchNorm2d(10), relu=nn.ReLU(), conv=nn.Conv2d(10, 5, 1, bias=False), pool=nn.AvgPool2d(2, 2)))
    net = nn.Sequential(collections.OrderedDict(denseblock1=DenseBlock(4, 3, 2, 2), transition1=transition))
    for name, parameter in net.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter)
    out = {f"state.{name}": p.detach().clone() for name, p in net.named_parameters()}
    x = torch.randn(3, 4, 5, 4, requires_grad=True)
    y = net(x)
    weights = torch.randn(y.shape)
    (y * weights).sum().backward()
    out |= {"x": x, "weights": weights, "output": y, "grad.x": x.grad}
    out |= {f"grad.{name}": p.grad for name, p in net.named_parameters()}
    out |= {f"running.{name}": b for name, b in net.named_buffers() if "running" in name}
    net.eval()
    out["evaluated"] = net(x)

    path = pathlib.Path(__file__).with_name("dense_net.safetensors")
    safetensors.torch.save_file({k: v.detach().contiguous() for k, v in out.items()}, path,
                                metadata={"torch": torch.__version__, "script": "make_dense_net.py"})


if __name__ == "__main__":
    main()
