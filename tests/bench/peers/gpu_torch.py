#!/usr/bin/env python3
"""The rows of bench_cuda in PyTorch on a GPU: eager, as CUDA graphs, and with cuDNN's GRU.

    python3 tests/bench/peers/gpu_torch.py [--size full|quick|smoke] [--cpu]

Prints one JSON object per line: {"row", "peer", "seconds"}, with the names and sizes of bench_cuda's rows, and {"versions"};
without a GPU {"skipped": why}. Float32 is not reduced to TF32 unless the row says so. --cpu runs on the CPU, to see that the
rows work.
"""
import argparse
import json
import statistics
import sys
import time

try:
    import torch
    from torch import nn
except ImportError as error:
    print(json.dumps({"skipped": f"PyTorch: {error}"}))
    sys.exit(0)

CASES = (  # as in cuda_conv_bench.cpp: n, c, o, map, kernel, stride, padding
    ("7x7s2_3_64_224", 32, 3, 64, 224, 7, 2, 3), ("1x1_64_256_56", 32, 64, 256, 56, 1, 1, 0),
    ("3x3_64_64_56", 32, 64, 64, 56, 3, 1, 1), ("3x3_128_128_28", 32, 128, 128, 28, 3, 1, 1),
    ("3x3s2_128_128_56", 32, 128, 128, 56, 3, 2, 1), ("3x3_256_256_14", 32, 256, 256, 14, 3, 1, 1),
    ("3x3_512_512_7", 32, 512, 512, 7, 3, 1, 1), ("1x1_2048_512_7", 32, 2048, 512, 7, 1, 1, 0))


class Bench:
    """Times functions and prints rows. Sizes are chosen as by_size() of cuda_compare.h does."""

    def __init__(self, device, size):
        self.device, self.size = device, size
        self.seconds = {"full": 0.5, "quick": 0.2, "smoke": 0.0}[size]

    def by_size(self, full, quick, smoke):
        return {"full": full, "quick": quick, "smoke": smoke}[self.size]

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def elapsed(self, run, calls):
        """Seconds per call on the device's stream."""
        if self.device.type != "cuda":
            start = time.perf_counter()
            for _ in range(calls):
                run()
            return (time.perf_counter() - start) / calls
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e-3 / calls

    def enqueue(self, run, calls):
        """Seconds of the host per call."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls

    def row(self, row, peer, run, timer=None):
        """Median over rounds of at least 2 ms; a peer that fails says so on stderr and is left out."""
        timer = timer or self.elapsed
        try:
            once = timer(run, 1)
            if once < 0.3:  # else too slow to be worth a second warm-up
                once = timer(run, 2)
            calls, times, begin = max(1, min(200, int(2e-3 / max(once, 1e-9)))), [], time.perf_counter()
            least = 3 if once < 0.3 else 1
            while len(times) < least or (len(times) < 21 and time.perf_counter() - begin < self.seconds):
                times.append(timer(run, calls))
            self.synchronize()
        except RuntimeError as error:
            print(f"{row} ({peer}): {error}", file=sys.stderr, flush=True)
            return
        print(json.dumps({"row": row, "peer": peer, "seconds": statistics.median(times)}), flush=True)

    def values(self, *shape, dtype=torch.float32):
        return torch.rand(*shape, device=self.device, dtype=dtype) * 2 - 1


def overhead(b):
    x, y = b.values(8), b.values(8)
    b.row("overhead/add_8/untaped", "PyTorch eager", lambda: x + y, b.enqueue)
    r = b.values(8).requires_grad_()
    b.row("overhead/add_8/recorded", "PyTorch eager", lambda: r + y, b.enqueue)


def memory(b):
    n, width = b.by_size(1 << 28, 1 << 26, 1 << 12), b.by_size(4096, 4096, 64)
    x, y = b.values(n), b.values(n)
    b.row(f"memory/add_{n}", "PyTorch eager", lambda: x + y)
    del y
    for name, f in (("exp", torch.exp), ("tanh", torch.tanh), ("gelu", nn.functional.gelu), ("sum", torch.sum)):
        b.row(f"memory/{name}_{n}", "PyTorch eager", lambda f=f: f(x))
    rows = x.reshape(-1, width)
    for name, f in (("row_sums", lambda v: v.sum(-1)), ("column_sums", lambda v: v.sum(0)),
                    ("softmax", lambda v: v.softmax(-1)), ("layer_norm", lambda v: nn.functional.layer_norm(v, (width,)))):
        b.row(f"memory/{name}_{n}_by_{width}", "PyTorch eager", lambda f=f: f(rows))


def gemm(b):
    for kind, precision, dtype in (("float32", "highest", torch.float32), ("tf32", "high", torch.float32),
                                   ("bf16", "medium", torch.float32), ("float64", "highest", torch.float64),
                                   ("bfloat16", "highest", torch.bfloat16)):
        torch.set_float32_matmul_precision(precision)
        for n in b.by_size((1024, 2048, 4096, 8192), (1024, 4096), (16, 32)):
            x, y = b.values(n, n, dtype=dtype), b.values(n, n, dtype=dtype)
            b.row(f"gemm/{kind}/{n}", "PyTorch eager", lambda: x @ y)
    torch.set_float32_matmul_precision("highest")


def conv(b):
    backward = torch.ops.aten.convolution_backward
    for name, n, c, o, extent, k, stride, padding in CASES:
        if b.size != "full" and name not in ("3x3_64_64_56", "3x3s2_128_128_56", "1x1_2048_512_7"):
            continue
        if b.size == "smoke":
            n, c, o, extent = 2, min(c, 4), min(o, 6), 9
        x, w = b.values(n, c, extent, extent), b.values(o, c, k, k)
        g = torch.rand_like(nn.functional.conv2d(x, w, stride=stride, padding=padding))

        def gradient(mask):
            return backward(g, x, w, None, (stride,) * 2, (padding,) * 2, (1, 1), False, (0, 0), 1, mask)

        b.row(f"conv/{name}/forward", "PyTorch eager", lambda: nn.functional.conv2d(x, w, stride=stride, padding=padding))
        b.row(f"conv/{name}/input_grad", "PyTorch eager", lambda: gradient((True, False, False)))
        b.row(f"conv/{name}/weight_grad", "PyTorch eager", lambda: gradient((False, True, False)))
        torch.backends.cudnn.allow_tf32 = True
        b.row(f"conv/{name}/forward/tf32", "PyTorch eager", lambda: nn.functional.conv2d(x, w, stride=stride, padding=padding))
        torch.backends.cudnn.allow_tf32 = False


def scan(b):
    for power in b.by_size((16, 20, 24, 28, 30), (16, 20, 24), (9,)):
        x = b.values(1 << power)
        b.row(f"scan/cumsum/2^{power}", "PyTorch eager", lambda: x.cumsum(0))


def gru(b):
    steps, longest = b.by_size(10000, 10000, 40), b.by_size(300000, 30000, 60)
    model = nn.GRU(16, 16, device=b.device)
    x = torch.randn(steps, 16, 16, device=b.device)
    with torch.no_grad():
        b.row(f"gru/n16_B16_T{steps}/sequential", "PyTorch cuDNN GRU", lambda: model(x)[0])
    one = nn.GRU(1, 1, device=b.device)
    y = torch.randn(longest, 1, 1, device=b.device, requires_grad=True)

    def gradients():
        one.zero_grad()
        y.grad = None
        one(y)[0].square().sum().backward()

    b.row(f"gru/n1_B1_T{longest}_gradient/sequential", "PyTorch cuDNN GRU", gradients)


class GruNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(1, 32, num_layers=5), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.gru(x)[0].mean(0))


def conv_net():
    layers = []
    for i, o in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))


def training_step(model, x, batch):
    """One step of stochastic gradient descent with momentum."""
    labels = (torch.arange(batch, device=x.device) * 7 + 3) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def graphed(step):
    """The step as a CUDA graph, recorded as PyTorch's manual says."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def training(b):
    width, batch = b.by_size(512, 512, 8), b.by_size(128, 128, 4)
    images, steps, sequences = b.by_size(64, 64, 2), b.by_size(1460, 1460, 7), b.by_size(16, 16, 2)
    mlp = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    for name, model, x, n in (
            ("mlp_784_512_512_10_B128", mlp, b.values(batch, 784), batch),
            ("cnn_3x32x32_B64", conv_net(), b.values(images, 3, 32, 32), images),
            ("gru_5x32_T1460_B16", GruNet(), b.values(steps, sequences, 1), sequences)):
        step = training_step(model.to(b.device), x, n)
        b.row(f"training/{name}/eager", "PyTorch eager", step)
        if b.device.type == "cuda":
            try:
                b.row(f"training/{name}/graph", "PyTorch CUDA graph", graphed(step))
            except RuntimeError as error:
                print(f"training/{name}/graph: {error}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("full", "quick", "smoke"), default="full")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        print(json.dumps({"skipped": f"PyTorch {torch.__version__} finds no CUDA device"}))
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    versions = {"PyTorch": torch.__version__, "PyTorch's cuDNN": str(torch.backends.cudnn.version())}
    print(json.dumps({"versions": versions}), flush=True)
    bench = Bench(torch.device("cpu" if arguments.cpu else "cuda"), arguments.size)
    # What targets depend on comes first, should the time run out.
    for group in (gru, training, overhead, conv, gemm, scan, memory):
        group(bench)
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
