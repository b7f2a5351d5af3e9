#!/usr/bin/env python3
"""Draws the curves of a run directory with matplotlib: one panel per unit in metrics.csv, one line per column. A run
without metrics.csv is read from metrics.jsonl, which has no units: one panel per column.

  experiments/plot.py RUN_DIR [RUN_DIR ...]      several runs share the panels
  experiments/plot.py RUN --columns loss,accuracy --log-y loss --smooth 0.05 --out figure.pdf

The programs draw their own PNG pictures without Python; this script is for other columns, comparisons of runs, and
vector formats. Needs matplotlib (Debian: apt-get install python3-matplotlib).
"""
import argparse
import csv
import json
import math
import pathlib
import sys


class PlotError(Exception):
    """What went wrong, in words for the user."""


def split_header(cell):
    """'loss [nat]' -> ('loss', 'nat')"""
    name, _, unit = cell.partition(" [")
    return name.strip(), unit.rstrip("]")


def read_metrics(run):
    """{name: values}, {name: unit}; empty cells are NaN, an unfinished last line is left out."""
    path = run / "metrics.csv"
    if not path.exists() and (run / "metrics.jsonl").exists():
        return read_json_lines(run / "metrics.jsonl")
    try:
        text = path.read_text()
    except OSError as error:
        raise PlotError(f"cannot read {path}: {error.strerror}; expected the directory of a run") from error
    rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if len(rows) < 2:
        raise PlotError(f"{path} holds no rows yet")
    header = [split_header(cell) for cell in rows[0]]
    columns = {name: [] for name, _ in header}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise PlotError(f"{path}:{number}: {len(row)} cells; expected {len(header)}")
        for (name, _), cell in zip(header, row):
            try:
                columns[name].append(float(cell) if cell else math.nan)
            except ValueError as error:
                raise PlotError(f'{path}:{number}: "{cell}" is not a number') from error
    return columns, dict(header)


def read_json_lines(path):
    """The same from one JSON object per line."""
    text = path.read_text()
    rows = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            rows.append({name: float(value) for name, value in json.loads(line).items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise PlotError(f"{path}:{number}: not an object of numbers: {error}") from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    if "step" not in names:
        raise PlotError(f"{path} holds no rows yet")
    return {name: [row.get(name, math.nan) for row in rows] for name in names}, dict.fromkeys(names, "")


def smooth(values, weight):
    """Exponential mean without the bias of its start; NaNs are passed over."""
    result, total, mean = [], 0.0, 0.0
    for value in values:
        if not math.isnan(value):
            mean += weight * (value - mean)
            total += weight * (1 - total)
        result.append(mean / total if total else value)
    return result


def finite_points(steps, values):
    return zip(*[(s, v) for s, v in zip(steps, values) if not math.isnan(v)]) if any(
        not math.isnan(v) for v in values) else ((), ())


def draw(runs, options, plt):
    data = {run: read_metrics(run) for run in runs}
    units = {}
    for _, run_units in data.values():
        units.update(run_units)
    wanted = options.columns.split(",") if options.columns else [name for name in units if name != "step"]
    for name in wanted:
        if name not in units:
            raise PlotError(f'no column "{name}"; there are {", ".join(n for n in units if n != "step")}')
    log_columns = set(options.log_y.split(",")) if options.log_y else set()
    # Columns of one unit share a panel, unless only some of them are logarithmic.
    panels = {}
    for name in wanted:
        panels.setdefault((units[name] or name, name in log_columns), []).append(name)

    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(6 * columns, 3.8 * rows), squeeze=False, layout="constrained")
    for axis, ((unit, is_log), names) in zip(axes.flat, panels.items()):
        for run, (values, _) in data.items():
            for name in names:
                if name not in values:
                    continue
                label = name if len(runs) == 1 else f"{run.name}: {name}"
                steps, points = finite_points(values["step"], values[name])
                if options.smooth < 1 and len(points) > 20:
                    (line,) = axis.plot(steps, smooth(points, options.smooth), label=label)
                    axis.plot(steps, points, color=line.get_color(), alpha=0.25, linewidth=0.8)
                else:
                    axis.plot(steps, points, label=label)
        axis.set(xlabel="step", ylabel=names[0] + f" [{unit}]" if len(names) == 1 and units[names[0]] else unit)
        axis.set_yscale("log" if is_log else "linear")
        axis.grid(color="#e6e9ed")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize="small")
    for axis in axes.flat[len(panels):]:
        axis.set_visible(False)
    return figure


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN_DIR")
    parser.add_argument("--columns", help="columns to draw, separated by commas (default: all)")
    parser.add_argument("--log-y", help="columns with a logarithmic axis")
    parser.add_argument("--smooth", type=float, default=0.1,
                        help="weight of the newest value, 1: raw only (default 0.1)")
    parser.add_argument("--out", type=pathlib.Path, help="PNG, PDF or SVG (default: RUN_DIR/metrics.png)")
    options = parser.parse_args(arguments)
    if not 0 < options.smooth <= 1:
        parser.error("--smooth needs a number above 0 and at most 1")
    try:
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("plot.py needs matplotlib: apt-get install python3-matplotlib", file=sys.stderr)
        return 1
    try:
        figure = draw(options.runs, options, plt)
        out = options.out or options.runs[0] / "metrics.png"
        figure.savefig(out, dpi=160)
    except (PlotError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, PlotError) else 1
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
