#!/usr/bin/env python3
"""Runs benchmark programs and records their results: one JSON file and the table of README.md.

Called by scripts/bench. Each program prints its own table as it goes; this script merges their JSON files and compares
every figure with its target. Counters are described in compare.h.
"""

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
# Name of the processor for people; the kernel's text may be empty on other architectures.
CPU_INFO = pathlib.Path("/proc/cpuinfo")


def cpu_model():
    found = re.search(r"model name\s*:\s*(.+)", CPU_INFO.read_text()) if CPU_INFO.exists() else None
    return found.group(1).strip() if found else "unknown"


def duration(seconds):
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def run_program(program, threads):
    """Runs one program; returns its JSON."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        command = [str(program), f"--benchmark_out={out}", "--benchmark_out_format=json"]
        if threads:
            command.append(f"--threads={threads}")
        try:
            subprocess.run(command, check=True)
            return json.loads(out.read_text())
        except (OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
            sys.exit(f"bench: {program.name}: {error}")


def rows_of(benchmark):
    """Lines of the table for one benchmark: (what, ours, peer, figure, target, met or None)."""
    name = re.sub(r"/(iterations:\d+|manual_time)", "", benchmark["name"])
    if benchmark.get("error_occurred"):
        return [(name, "", "", benchmark.get("error_message", "failed"), "", False)]
    ours = duration(benchmark["ours_s"])
    rows = []
    if "limit_s" in benchmark:
        limit = benchmark["limit_s"]
        rows.append((name, ours, "", "", f"≤ {duration(limit)}", benchmark["ours_s"] <= limit))
    if "gflops_min" in benchmark:
        least, rate = benchmark["gflops_min"], benchmark["gflops"]
        rows.append((name, ours, "", f"{rate:.0f} GFLOP/s", f"≥ {least:.0f} GFLOP/s", rate >= least))
    for key in sorted(k for k in benchmark if k.startswith("max:")):
        value = benchmark["x:" + key[4:]]
        rows.append((name, ours, "", f"{key[4:]} {value:.2f}", f"≤ {benchmark[key]:g}", value <= benchmark[key]))
    for key in sorted(k for k in benchmark if k.startswith("peer_s:")):
        peer = key[7:]
        ratio, least = benchmark["ratio:" + peer], benchmark.get("min:" + peer)
        rows.append((name, ours, f"{peer} {duration(benchmark[key])}", f"{ratio:.2f}",
                     f"≥ {least:.2f}" if least else "", ratio >= least if least else None))
    return rows


def table(results):
    lines = ["| row | ours | peer | ratio or figure | target | |", "|---|---|---|---|---|---|"]
    for benchmark in results["benchmarks"]:
        for row in rows_of(benchmark):
            mark = {True: "met", False: "**missed**", None: ""}[row[5]]
            lines.append("| " + " | ".join((*row[:5], mark)) + " |")
    return lines


def summary(results):
    context = results["context"]
    lines = [f"{results['cpu']}, {context['num_cpus']} cores, {context['threads']} threads, {results['date']}; "
             f"libtorch: {context['libtorch']}."]
    lines += [f"{key[len('solvent_'):]}: {context[key]}" for key in sorted(context) if key.startswith("solvent_")]
    load = context.get("load_avg") or []
    if load and load[0] > 0.5:
        lines.append(f"The machine was not idle (load {load[0]:.1f} at the start): figures are provisional.")
    return lines


def record(results):
    model = re.sub(r"[^a-z0-9]+", "-", results["cpu"].lower()).strip("-")
    path = FOLDER / "results" / f"cpu-{model}-{results['date']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    readme = FOLDER / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"bench: {readme} lacks the lines {BEGIN} and {END}; the results are in {path}")
    body = "\n".join(["", *(f"- {line}" for line in summary(results)), "", *table(results), ""])
    readme.write_text(text[: text.index(BEGIN) + len(BEGIN)] + "\n" + body + "\n" + text[text.index(END):])
    print(f"\nwrote {path}\nwrote {readme}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="+")
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of the programs")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    results = {"cpu": cpu_model(), "date": datetime.date.today().isoformat(), "context": None, "benchmarks": []}
    for group in arguments.groups:
        one = run_program(arguments.bin / f"bench_{group}", arguments.threads)
        results["context"] = results["context"] or one["context"]
        results["context"].pop("executable", None)  # a path of this machine, and of the first program only
        results["benchmarks"] += one["benchmarks"]
    missed = [row for b in results["benchmarks"] for row in rows_of(b) if row[5] is False]
    print(f"\n{len(missed)} targets missed" + "".join(f"\n  {r[0]}: {r[3] or r[1]}, target {r[4]}" for r in missed))
    if not arguments.no_record:
        record(results)


if __name__ == "__main__":
    main()
