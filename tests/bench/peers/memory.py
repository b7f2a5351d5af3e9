#!/usr/bin/env python3
"""Peak memory of training steps of the small convolutional network (tests/bench/conv_net.h, B = 64, Adam) beside PyTorch.

    python3 tests/bench/peers/memory.py [--bench build/release/bin/bench_memory] [--threads 2] [--rounds 3]

Each run is a fresh process that builds model, optimizer and batch, then does 20 steps. Two figures, medians over the rounds:

  resident   largest resident set during the steps minus the resident set before the first: tensors, scratch of the
             convolutions, generated code, what allocators keep
  tensors    most bytes of tensors alive during the steps, without those made before the first: Solvent's allocator
             (memory_stats().peak), PyTorch's profiler

Exit code 1 if one of ours is above PyTorch's. Needs Linux (/proc/self/status) and torch.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile


def status_bytes(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")


def torch_steps(steps, threads, profile):
    """{"resident_growth": bytes} of this process, or {"tensor_peak": bytes} by the profiler, which needs memory itself."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers = []
    for i, o in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, labels = torch.randn(64, 3, 32, 32), (torch.arange(64) * 7 + 3) % 10

    def run():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            loss.item()

    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            run()
        with tempfile.TemporaryDirectory() as folder:
            trace = pathlib.Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(trace))
            events = json.loads(trace.read_text())["traceEvents"]
        # Totals count from the start of the profile.
        return {"tensor_peak": max(e["args"]["Total Allocated"] for e in events if e.get("name") == "[memory]")}
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the maximum starts again from the present size
    before = status_bytes("VmRSS:")
    run()
    return {"resident_growth": status_bytes("VmHWM:") - before, "version": torch.__version__}


def result_of(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=pathlib.Path, default=pathlib.Path("build/release/bin/bench_memory"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", choices=["steps", "profile"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        print(json.dumps(torch_steps(args.steps, args.threads, args.torch == "profile")))
        return 0

    ours, peers = [], []
    peer = [sys.executable, "-B", __file__, "--steps", str(args.steps), "--threads", str(args.threads), "--torch"]
    for _ in range(args.rounds):
        ours.append(result_of([args.bench, str(args.steps), str(args.threads)]))
        peers.append(result_of(peer + ["steps"]))
    profiled = result_of(peer + ["profile"])
    rows = [("resident", statistics.median(r["resident_growth"] for r in ours),
             statistics.median(r["resident_growth"] for r in peers)),
            ("tensors", statistics.median(r["tensor_peak"] for r in ours), profiled["tensor_peak"])]
    print(f"{'cnn_3x32x32_B64':16} {'Solvent':>10} {'PyTorch ' + peers[0]['version']:>20}")
    for name, mine, theirs in rows:
        print(f"{name:16} {mine / 2**20:6.1f} MiB {theirs / 2**20:16.1f} MiB  {'ok' if mine <= theirs else 'ABOVE'}")
    return int(any(mine > theirs for _, mine, theirs in rows))


if __name__ == "__main__":
    sys.exit(main())
