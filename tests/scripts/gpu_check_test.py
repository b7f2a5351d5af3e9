"""Tests of scripts/gpu-check without a GPU: its report from a recorded sample, limits, libraries, and wrong use."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gpu-check"
# A run of bench_cuda at its smallest sizes on the emulator; the times mean nothing.
SAMPLE = (pathlib.Path(__file__).resolve().parent / "gpu_check_sample.json").read_text()


def load_script():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("gpu_check", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
    loader.exec_module(module)
    return module


gpu_check = load_script()
gpu_report = gpu_check.gpu_report


def run(*arguments, **environment):
    return subprocess.run([sys.executable, "-B", str(SCRIPT), *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})


def row(name, seconds, **counters):
    return {"name": name + "/iterations:1/manual_time", "ours_s": seconds, **counters}


def verdict(benchmarks, what):
    return next(v for v in gpu_report.verdicts(benchmarks) if what in v["what"])


def has_driver():
    try:
        gpu_check.find_gpu()
    except gpu_check.Failure:
        return False
    return True


class ReportTest(unittest.TestCase):
    def sample(self):
        return gpu_report.salvage(SAMPLE)[1]

    def test_rows_of_an_interrupted_program_are_kept(self):
        context, rows = gpu_report.salvage(SAMPLE)
        self.assertEqual(context["solvent_CUDA"], "emulated on the CPU")
        self.assertEqual([gpu_report.row_name(r) for r in rows],
                         ["overhead/add_8/untaped", "memory/copy_4096", "memory/add_4096", "memory/softmax_4096_by_64"])
        cut = SAMPLE[: SAMPLE.index('"name": "memory/add_4096') + 100]
        context, rows = gpu_report.salvage(cut)
        self.assertEqual(context["solvent_CUDA"], "emulated on the CPU")
        self.assertEqual([gpu_report.row_name(r) for r in rows], ["overhead/add_8/untaped", "memory/copy_4096"])
        self.assertEqual(gpu_report.salvage(SAMPLE[:200]), ({}, []))
        self.assertEqual(gpu_report.salvage(""), ({}, []))

    def test_peers_are_entered_by_row_and_the_rest_is_kept(self):
        rows = self.sample()
        alone = gpu_report.add_peers(rows, [
            {"row": "memory/copy_4096", "peer": "X", "seconds": rows[1]["ours_s"] * 2},
            {"row": "memory/softmax_4096_by_64", "peer": "X", "seconds": 1.0},  # ours has no result
            {"row": "memory/nothing", "peer": "X", "seconds": 1.0}])
        self.assertAlmostEqual(rows[1]["ratio:X"], 2)
        self.assertEqual([e["row"] for e in alone], ["memory/softmax_4096_by_64", "memory/nothing"])

    def test_targets_of_rows(self):
        met = row("memory/exp_1", 1.0, **{"peer_s:device copy": 0.95, "ratio:device copy": 0.95, "min:device copy": 0.9})
        missed = row("overhead/add_8/untaped", 4e-6, limit_s=3e-6)
        share = row("training/m/graph", 1.0, **{"x:host_share": 0.04, "max:host_share": 0.05})
        rows = [met, missed, share]
        self.assertEqual(verdict(rows, "memory/exp_1 against device copy")["met"], True)
        self.assertEqual(verdict(rows, "overhead/add_8/untaped")["met"], False)
        self.assertEqual(verdict(rows, "training/m/graph")["met"], True)
        wrong = verdict(self.sample(), "memory/softmax")
        self.assertEqual((wrong["need"], wrong["met"]), ("a result", False))

    def test_targets_over_several_rows(self):
        def entered(rows, *peers):
            self.assertEqual(gpu_report.add_peers(rows, [dict(zip(("row", "peer", "seconds"), p)) for p in peers]), [])
            return rows

        rows = entered([row("gru/n16_B16_T10000/sequential", 2e-3), row("gru/n16_B16_T10000/deer", 0.4e-3)],
                       ("gru/n16_B16_T10000/sequential", "PyTorch cuDNN GRU", 9e-3),
                       ("gru/n16_B16_T10000/deer", "JAX associative_scan Deer", 1.9e-3))
        self.assertEqual(verdict(rows, "best method against cuDNN's GRU")["value"], "22.50")
        self.assertTrue(verdict(rows, "best method against cuDNN's GRU")["met"])
        self.assertFalse(verdict(rows, "best method against JAX")["met"])
        self.assertTrue(verdict(rows, "to residual 1e-6, best method")["met"])
        self.assertIsNone(verdict(rows, "T=300k")["met"])
        self.assertIsNone(verdict(rows, "mlp_784_512_512_10_B128 against PyTorch eager")["met"])
        rows = entered([row("training/mlp_784_512_512_10_B128/eager", 3.0), row("training/mlp_784_512_512_10_B128/graph", 1.0)],
                       ("training/mlp_784_512_512_10_B128/eager", "PyTorch eager", 2.0),
                       ("training/mlp_784_512_512_10_B128/graph", "PyTorch CUDA graph", 0.7))
        self.assertTrue(verdict(rows, "mlp_784_512_512_10_B128 against PyTorch eager")["met"])
        self.assertFalse(verdict(rows, "mlp_784_512_512_10_B128 against CUDA-graphed")["met"])

    def test_lines_of_peers(self):
        text = 'warning\n{"versions": {"JAX": "1"}}\n{"row": "a", "peer": "b", "seconds": 1}\n3\n{"row": "c", "pe'
        self.assertEqual([sorted(o) for o in gpu_report.peer_lines(text)], [["versions"], ["peer", "row", "seconds"]])

    def test_both_files_are_written(self):
        rows = self.sample()
        parts = [{"name": "memory", "status": "stopped at its time limit", "seconds": 45.0, "limit": 45.0, "detail": "3 rows"},
                 {"name": "torch", "status": "skipped", "seconds": 0.0, "limit": 0.0, "detail": "no python3 with torch"}]
        report = {"kit": 1, "date": "2026-11-21", "gpu": {"name": "NVIDIA Test 1", "cuda": "13.0", "driver": "1.2"},
                  "size": "full", "seconds": 12.0, "versions": {"commit": "abc"}, "parts": parts,
                  "targets": gpu_report.verdicts(rows), "rows": rows,
                  "peers_alone": [{"row": "memory/nothing", "peer": "X", "seconds": 1.0}]}
        with tempfile.TemporaryDirectory() as name, mock.patch("builtins.print"):
            folder = pathlib.Path(name) / "new"
            self.assertEqual(gpu_check.write(report, folder), 0)
            written = json.loads((folder / "nvidia-test-1-2026-11-21.json").read_text())
            text = (folder / "nvidia-test-1-2026-11-21.md").read_text()
            self.assertEqual(written, report)
            parts.append({"name": "tests", "status": "failed (exit code 1)", "seconds": 1.0, "limit": 2.0})
            self.assertEqual(gpu_check.write(report, folder), 1)
        for expected in ("# GPU check: NVIDIA Test 1, 2026-11-21", "stopped at its time limit", "no python3 with torch",
                         "**missed**", "not measured", "| memory/copy_4096 |", "[softmax] no kernel for cuda:0", "GB/s",
                         "memory/nothing (X 1 s)"):
            self.assertIn(expected, text)


class RunnerTest(unittest.TestCase):
    def runner(self, total=100, **limits):
        return gpu_check.Runner(limits, total)

    def test_a_part_is_stopped_with_all_it_started_and_its_output_kept(self):
        runner = self.runner(part=3)
        command = ["bash", "-c", "echo begun; sleep 60 & sleep 60"]
        started = time.monotonic()
        with mock.patch("builtins.print"):
            code, output = runner.run("part", command)
        self.assertLess(time.monotonic() - started, 30)
        self.assertIsNone(code)
        self.assertEqual(output, "begun\n")
        self.assertEqual(runner.parts[0]["status"], "stopped at its time limit")

    def test_results_of_parts(self):
        runner = self.runner(part=60, late=60)
        with mock.patch("builtins.print"):
            self.assertEqual(runner.run("part", ["bash", "-c", "echo out; exit 3"]), (3, "out\n"))
            self.assertEqual(runner.run("part", ["true"])[0], 0)
            runner.end = time.monotonic() + 1
            self.assertEqual(runner.run("late", ["true"]), (None, ""))
        self.assertEqual([p["status"] for p in runner.parts], ["failed (exit code 3)", "ok", "skipped"])
        self.assertEqual(runner.parts[2]["detail"], "no time left")

    def test_programs_that_cannot_use_the_device_are_named(self):
        with tempfile.TemporaryDirectory() as name, mock.patch("builtins.print"):
            program = pathlib.Path(name) / "test_cuda"
            program.write_text("#!/usr/bin/env bash\necho 'skipped: no CUDA device (driver too old)'\necho 'All tests passed'\n")
            program.chmod(0o755)
            with self.assertRaisesRegex(gpu_check.Failure, "no CUDA device .driver too old."):
                gpu_check.run_tests(self.runner(tests=30), "tests", pathlib.Path(name), dict(os.environ), name)

    def test_limits_keep_the_promise(self):
        for size, minutes in (("full", 8), ("quick", 3)):
            self.assertLess(gpu_check.TOTAL[size], 60 * minutes)
            limits = gpu_check.LIMITS[size]
            # The benchmarks run even if everything before them takes all of its time.
            self.assertLessEqual(limits["tests"] + sum(limits[group] for group in gpu_check.GROUPS), gpu_check.TOTAL[size])

    def test_benchmarks_of_a_stopped_program_are_read(self):
        with tempfile.TemporaryDirectory() as name, mock.patch("builtins.print"):
            folder = pathlib.Path(name)
            (folder / "sample.json").write_text(SAMPLE[: SAMPLE.index('"name": "memory/add_4096')])
            program = folder / "bench_cuda"
            program.write_text("#!/usr/bin/env bash\n"
                               f'for a in "$@"; do case $a in --benchmark_out=*) cp {name}/sample.json "${{a#*=}}";; esac; done\n'
                               "sleep 60\n")
            program.chmod(0o755)
            runner = self.runner(**{group: 4 for group in gpu_check.GROUPS})
            runner.end = time.monotonic() + 6
            context, rows = gpu_check.run_benches(runner, folder, dict(os.environ), "smoke")
        self.assertEqual(len(rows), 2)
        self.assertEqual(context["threads"], "2")
        self.assertEqual(runner.parts[0]["detail"], "2 rows")
        self.assertEqual(runner.parts[-1]["status"], "skipped")


class SanitizerTest(unittest.TestCase):
    """With programs that print what the real ones print."""

    def status_of(self, script, seconds):
        with tempfile.TemporaryDirectory() as name, mock.patch("builtins.print"):
            tool = pathlib.Path(name) / "compute-sanitizer"
            tool.write_text("#!/usr/bin/env bash\n" + script)
            tool.chmod(0o755)
            runner = gpu_check.Runner({"sanitizer": seconds}, 4 * seconds)
            with mock.patch.object(gpu_check, "find_sanitizer", lambda: str(tool)), \
                    mock.patch.object(gpu_check, "SANITIZERS", ("memcheck",)):
                runner.end = time.monotonic() + seconds
                gpu_check.run_sanitizers(runner, pathlib.Path(name), dict(os.environ), name)
        return runner.parts[0]

    def test_results(self):
        part = self.status_of("echo '========= ERROR SUMMARY: 0 errors'", 30)
        self.assertEqual((part["status"], part["detail"]), ("ok", "ERROR SUMMARY: 0 errors"))
        part = self.status_of("echo '========= Invalid __global__ read'; exit 7", 30)
        self.assertEqual(part["status"], "failed (exit code 7)")
        part = self.status_of("echo begun; sleep 60", 4)
        self.assertEqual((part["status"], part["detail"]), ("stopped at its time limit", "no error until then, in 0 test cases"))
        part = self.status_of("echo '0.100 s: cuda: one'; echo '========= Invalid __global__ read'; sleep 60", 4)
        self.assertEqual((part["status"], part["detail"]),
                         ("failed, stopped at its time limit", "errors until then, in 1 test cases"))

    def report_of(self, script, *arguments):
        """Exit code, report and text of --sanitize with a compute-sanitizer that is `script`."""
        with tempfile.TemporaryDirectory() as name, mock.patch("builtins.print"):
            folder = pathlib.Path(name)
            for program, text in (("compute-sanitizer", script), ("test_cuda", ""), ("bench_cuda", "")):
                (folder / program).write_text("#!/usr/bin/env bash\n" + text)
                (folder / program).chmod(0o755)
            out = folder / "out"
            with mock.patch.object(gpu_check, "find_gpu", lambda: {"name": "NVIDIA Test 1", "cuda": "13.0"}), \
                    mock.patch.object(gpu_check, "find_python", lambda: (None, set())), \
                    mock.patch.object(gpu_check, "find_sanitizer", lambda: str(folder / "compute-sanitizer")), \
                    mock.patch.object(sys, "argv", ["gpu-check", "--sanitize", "--bin", name, "--out", str(out), *arguments]):
                code = gpu_check.main()
            return code, json.loads(next(out.glob("*.json")).read_text()), next(out.glob("*.md")).read_text()

    def test_all_tools_over_all_tests(self):
        script = ('[ "$SOLVENT_CUDA_CACHE" = 0 ] && [ "$6 $7" = "20 $(dirname "$0")/test_cuda" ] && [ "$8" = "~[slow]" ] || exit 9\n'
                  'echo "0.100 s: cuda: one"; echo "0.200 s: cuda: two"\n'
                  'case $2 in racecheck) echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)";;\n'
                  'initcheck) echo "========= Uninitialized __global__ memory read of size 4 bytes"\n'
                  'echo "========= ERROR SUMMARY: 3 errors"; exit 7;;\n*) echo "========= ERROR SUMMARY: 0 errors";; esac\n')
        code, report, text = self.report_of(script)
        self.assertEqual(code, 1)
        found = {entry["tool"]: entry for entry in report["sanitizers"]}
        self.assertEqual(tuple(found), gpu_check.SANITIZERS)
        for name in ("memcheck", "racecheck", "synccheck"):
            self.assertEqual((found[name]["status"], found[name]["errors"], found[name]["test_cases"]), ("ok", 0, 2))
        self.assertEqual((found["initcheck"]["status"], found["initcheck"]["errors"]), ("failed (exit code 7)", 3))
        self.assertEqual(found["initcheck"]["first"], ["Uninitialized __global__ memory read of size 4 bytes"])
        self.assertIn("## compute-sanitizer", text)
        self.assertIn("Uninitialized", text)
        self.assertEqual(report["parts"][1]["limit"], gpu_check.SANITIZE["full"]["racecheck"])

    def test_dry_run(self):
        listed = run("--sanitize", "--list")
        self.assertEqual(listed.returncode, 0)
        for name in gpu_check.SANITIZERS:
            self.assertIn(f"--tool {name} --error-exitcode 7", listed.stdout)
        self.assertEqual(listed.stdout.count("SOLVENT_CUDA_CACHE=0"), 4)
        self.assertIn("'~[slow]'", listed.stdout)
        self.assertIn(gpu_check.SANITIZER_TESTS, run("--sanitize", "--quick", "--list").stdout)
        for size, minutes in (("full", 50), ("quick", 4)):
            self.assertLessEqual(sum(gpu_check.SANITIZE[size].values()), 60 * minutes)


class UseTest(unittest.TestCase):
    @unittest.skipIf(has_driver(), "this machine has a GPU")
    def test_without_a_gpu(self):
        result = run("--out", "/nonexistent")
        self.assertEqual(result.returncode, 2)
        self.assertTrue(result.stderr.startswith("gpu-check: no CUDA device: "), result.stderr)

    def test_wrong_use(self):
        for arguments in (["--fast"], ["--package", "x", "--quick"], ["--package", "x", "--bin", "y"],
                          ["--package", "x", "--sanitize"], ["more"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn("usage: gpu-check", result.stderr)
        self.assertEqual(run("--help").returncode, 0)
        self.assertIn("in all", run("--list").stdout)

    def test_folders_of_programs(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            with self.assertRaisesRegex(gpu_check.Failure, "test_cuda and bench_cuda.*--package"):
                gpu_check.find_programs(folder)
            (folder / "bin").mkdir()
            for program in ("test_cuda", "bench_cuda"):
                (folder / "bin" / program).touch()
            self.assertEqual(gpu_check.find_programs(folder), (folder / "bin").resolve())
            self.assertEqual(gpu_check.find_programs(folder / "bin"), (folder / "bin").resolve())

    def test_libraries_are_found_beside_python_packages(self):
        with tempfile.TemporaryDirectory() as name:
            good = pathlib.Path(name) / "nvidia" / "cublas" / "lib"
            good.mkdir(parents=True)
            (good / "libcublas.so.13").touch()

            def ldd(program, environment=None):
                found = environment is not None and str(good) in environment.get("LD_LIBRARY_PATH", "")
                return {"libm.so.6": "/lib/libm.so.6", "libcublas.so.13": str(good) if found else None}

            with mock.patch.object(gpu_check, "ldd", ldd):
                with mock.patch.object(gpu_check, "library_folders", lambda python: [good.parent, good]):
                    path = gpu_check.library_environment(["p"], None)["LD_LIBRARY_PATH"]
                    self.assertEqual(path.split(":")[-1], str(good))
                with mock.patch.object(gpu_check, "library_folders", lambda python: []):
                    with self.assertRaisesRegex(gpu_check.Failure, "libcublas.so.13.*LD_LIBRARY_PATH"):
                        gpu_check.library_environment(["p"], None)

    def test_peers_without_a_gpu_say_so(self):
        if has_driver():
            self.skipTest("this machine has a GPU")
        for name in ("torch", "jax"):
            script = ROOT / "tests" / "bench" / "peers" / f"gpu_{name}.py"
            result = subprocess.run([sys.executable, "-B", str(script)], capture_output=True, text=True, check=False)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("skipped", gpu_report.peer_lines(result.stdout)[0])


if __name__ == "__main__":
    unittest.main()
