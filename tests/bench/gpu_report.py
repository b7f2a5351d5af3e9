"""What scripts/gpu-check makes of the output of bench_cuda and of the peers in peers/: rows with ratios, the targets of the
project's GPU benchmarks, one JSON document and one table. No dependencies besides the standard library.
"""

import json
import re

from report import duration, rows_of

# Targets that compare several rows, or rows with peers from other processes. `rows` are patterns of row names, the best
# (smallest) time of which counts; `peer` is the name of a peer of any of them, at the same size.
BEST_TIMES = [
    ("GRU n=16 B=16 T=10k forward to residual 1e-6, best method", r"gru/n16_B16_T10000/", 0.5e-3),
    ("GRU n=1 T=300k value and gradients, best method", r"gru/n1_B1_T300000_gradient/", 1.0e-3),
]
BEST_RATIOS = [
    ("GRU n=16 B=16 T=10k forward, best method against cuDNN's GRU", r"gru/n16_B16_T10000/", "PyTorch cuDNN GRU", 20.0),
    ("GRU n=16 B=16 T=10k forward, best method against JAX associative_scan Deer", r"gru/n16_B16_T10000/",
     "JAX associative_scan Deer", 5.0),
]
for _model in ("mlp_784_512_512_10_B128", "cnn_3x32x32_B64", "gru_5x32_T1460_B16"):
    BEST_RATIOS.append((f"training step {_model} against PyTorch eager", f"training/{_model}/", "PyTorch eager", 1.0))
    BEST_RATIOS.append((f"training step {_model} against CUDA-graphed PyTorch", f"training/{_model}/",
                        "PyTorch CUDA graph", 1 / 1.2))


def row_name(benchmark):
    return re.sub(r"/(iterations:\d+|manual_time)", "", benchmark["name"])


def salvage(text):
    """The rows of Google Benchmark's JSON, also if the program was ended while it wrote: (context, benchmarks)."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        start = text.find('"benchmarks"')
        end = text.rfind("\n    }")
        if start < 0 or end < start:
            return {}, []
        whole = json.loads(text[: end + 6] + "]}")
    return whole.get("context", {}), whole["benchmarks"]


def peer_lines(text):
    """The objects that a peer script printed, one per line; other lines and half a last line are left out."""
    objects = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def add_peers(benchmarks, measured):
    """Enters rows of other processes ({"row", "peer", "seconds"}) as peers of ours; returns those without a row of ours."""
    by_name = {row_name(b): b for b in benchmarks}
    alone = []
    for entry in measured:
        ours = by_name.get(entry["row"])
        if ours is None or "ours_s" not in ours:
            alone.append(entry)
            continue
        ours["peer_s:" + entry["peer"]] = entry["seconds"]
        ours["ratio:" + entry["peer"]] = entry["seconds"] / ours["ours_s"]
    return alone


def verdicts(benchmarks):
    """All targets as {"what", "value", "need", "met"}; met is None where nothing was measured."""
    result = []
    for benchmark in benchmarks:
        if benchmark.get("error_occurred"):
            result.append({"what": row_name(benchmark), "value": benchmark.get("error_message", "failed"),
                           "need": "a result", "met": False})
            continue
        for name, ours, peer, figure, need, met in rows_of(benchmark):
            if met is not None:
                what = " ".join(word for word in (name, "against " + peer.rsplit(" ", 2)[0] if peer else "") if word)
                result.append({"what": what, "value": figure or ours, "need": need, "met": met})
    timed = [(row_name(b), b) for b in benchmarks if "ours_s" in b]
    for what, pattern, limit in BEST_TIMES:
        best = min((b["ours_s"] for name, b in timed if name.startswith(pattern)), default=None)
        result.append({"what": what, "value": duration(best) if best is not None else "not measured",
                       "need": "≤ " + duration(limit), "met": None if best is None else best <= limit})
    for what, pattern, peer, least in BEST_RATIOS:
        rows = [b for name, b in timed if name.startswith(pattern)]
        theirs = min((b["peer_s:" + peer] for b in rows if "peer_s:" + peer in b), default=None)
        if theirs is None:
            result.append({"what": what, "value": "not measured", "need": f"≥ {least:.2f}", "met": None})
            continue
        ratio = theirs / min(b["ours_s"] for b in rows)
        result.append({"what": what, "value": f"{ratio:.2f}", "need": f"≥ {least:.2f}", "met": ratio >= least})
    return result


def markdown_table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def figure(benchmark):
    words = []
    if benchmark.get("gflops", 0) > 0:
        words.append(f"{benchmark['gflops'] * 1e-3:.3g} TFLOP/s")
    if benchmark.get("gbytes", 0) > 0:
        words.append(f"{benchmark['gbytes']:.4g} GB/s")
    words += [f"{key[2:]} {benchmark[key]:.3g}" for key in sorted(benchmark) if key.startswith("x:")]
    return ", ".join(words)


def table(report):
    """The report for people, as Markdown."""
    gpu = report["gpu"]
    lines = [f"# GPU check: {gpu['name']}, {report['date']}", ""]
    lines += [f"- {key}: {value}" for key, value in (
        ("driver", gpu.get("driver")), ("CUDA of the driver", gpu.get("cuda")), ("memory", gpu.get("memory")),
        ("sizes", report["size"]), ("seconds in all", f"{report['seconds']:.0f}")) if value]
    lines += [f"- {key}: {value}" for key, value in report["versions"].items()]
    missed = [t for t in report["targets"] if t["met"] is False]
    open_ones = [t for t in report["targets"] if t["met"] is None]
    lines += ["", f"**{sum(t['met'] is True for t in report['targets'])} targets met, {len(missed)} missed, "
              f"{len(open_ones)} not measured.**", "", "## Parts", ""]
    lines += markdown_table(("part", "result", "seconds", "limit", ""), (
        (p["name"], p["status"], f"{p['seconds']:.1f}", f"{p['limit']:.0f}", p.get("detail", "")) for p in report["parts"]))
    if report.get("sanitizers"):
        lines += ["", "## compute-sanitizer", ""]
        lines += markdown_table(("tool", "result", "errors", "test cases", "first errors"), (
            (s["tool"], s["status"], "" if s["errors"] is None else str(s["errors"]), str(s["test_cases"]),
             "; ".join(s["first"]).replace("|", "\\|")) for s in report["sanitizers"]))
    lines += ["", "## Targets", ""]
    lines += markdown_table(("what", "measured", "target", ""), (
        (t["what"], t["value"], t["need"], {True: "met", False: "**missed**", None: "not measured"}[t["met"]])
        for t in report["targets"]))
    lines += ["", "## Rows", ""]
    rows = []
    for benchmark in report["rows"]:
        name = row_name(benchmark)
        if benchmark.get("error_occurred"):
            rows.append((name, "failed", "", "", benchmark.get("error_message", "")))
            continue
        peers = [key[7:] for key in sorted(benchmark) if key.startswith("peer_s:")]
        rows.append((name, duration(benchmark["ours_s"]), "", "", figure(benchmark)))
        rows += [("", "", f"{peer} {duration(benchmark['peer_s:' + peer])}", f"{benchmark['ratio:' + peer]:.2f}", "")
                 for peer in peers]
    lines += markdown_table(("row", "ours", "peer", "ratio", ""), rows)
    if report["peers_alone"]:
        lines += ["", "Peers without a row of ours: " + ", ".join(
            f"{e['row']} ({e['peer']} {duration(e['seconds'])})" for e in report["peers_alone"]) + "."]
    return "\n".join(lines) + "\n"
