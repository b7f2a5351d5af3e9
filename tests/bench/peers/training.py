#!/usr/bin/env python3
"""Training steps of tests/bench/training_bench.cpp in PyTorch, for comparison by hand with a newer version than libtorch's.

    python3 tests/bench/peers/training.py [--threads 2] [--rounds 15]

Prints the median milliseconds of one step (forward, backward, optimizer) of each model, and the version.
"""
import argparse
import statistics
import time

import torch
from torch import nn


class GruNet(nn.Module):
    def __init__(self, hidden=32, layers=5, classes=10):
        super().__init__()
        self.gru = nn.GRU(1, hidden, num_layers=layers)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x):
        return self.head(self.gru(x)[0].mean(0))


def conv_net():
    layers = []
    for i, o in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def median_step(model, x, batch, optimizer, rounds):
    labels = (torch.arange(batch) * 7 + 3) % 10
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[2:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print("PyTorch", torch.__version__, torch.backends.cpu.get_cpu_capability(), args.threads, "threads")
    model = mlp()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    print(f"mlp_784_512_512_10_B128  {median_step(model, torch.randn(128, 784), 128, sgd, 10 * args.rounds):.3f} ms")
    model = conv_net()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    print(f"cnn_3x32x32_B64          {median_step(model, torch.randn(64, 3, 32, 32), 64, adam, args.rounds):.3f} ms")
    model = GruNet()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    print(f"gru_5x32_T1460_B16       {median_step(model, torch.randn(1460, 16, 1), 16, adam, 3):.3f} ms")


if __name__ == "__main__":
    main()
