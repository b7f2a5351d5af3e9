"""Tests of the tool solvent-info. Usage: solvent_info_test.py <path of the program>"""
import json
import os
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop(1)


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)


class SolventInfoTest(unittest.TestCase):
    def test_prints_the_build_information(self):
        result = run()
        self.assertEqual(result.returncode, 0)
        for key in ("solvent: ", "compiler: ", "flags: ", "BLAS: ", "vector targets: ", "threads: "):
            self.assertIn("\n" + key, "\n" + result.stdout)
        self.assertEqual(result.stdout.splitlines()[0], "solvent: " + run("--version").stdout.strip())

    def test_number_of_threads_follows_the_environment_and_the_processors_allowed(self):
        def threads(environment, processors):
            clean = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
            result = subprocess.run([PROGRAM], capture_output=True, text=True, check=True, env={**clean, **environment},
                                    preexec_fn=lambda: os.sched_setaffinity(0, processors))
            return int(result.stdout.split("\nthreads: ")[1])

        if "\nOpenMP: off\n" in run().stdout:
            self.assertEqual(threads({"OMP_NUM_THREADS": "3"}, os.sched_getaffinity(0)), 1)
            return
        one = {min(os.sched_getaffinity(0))}
        self.assertEqual(threads({}, one), 1)
        self.assertLessEqual(threads({}, os.sched_getaffinity(0)), len(os.sched_getaffinity(0)))
        self.assertEqual(threads({"OMP_NUM_THREADS": "3,2"}, os.sched_getaffinity(0)), 3)
        if "\ncompiler: Clang" not in run().stdout:  # LLVM 14's OpenMP ends such a process itself, or never ends
            self.assertEqual(threads({"OMP_NUM_THREADS": "many"}, one), 1)

    def test_lists_every_operation_as_json(self):
        result = run("ops", "--json")
        self.assertEqual(result.returncode, 0)
        ops = json.loads(result.stdout)
        names = [op["name"] for op in ops]
        self.assertEqual(names, sorted(set(names)))
        for name in ("add", "matmul", "tanh", "affine_scan"):
            self.assertIn(name, names)
        for op in ops:
            self.assertEqual(list(op), ["name", "cpu", "cuda", "vjp", "jvp", "tested"])
            self.assertTrue(op["cpu"], op)
            self.assertTrue(op["tested"], op)

    def test_table_and_json_agree(self):
        rows = run("ops").stdout.splitlines()[1:]
        self.assertEqual([row.split()[0] for row in rows], [op["name"] for op in json.loads(run("ops", "--json").stdout)])

    def test_wrong_use_is_answered_with_the_usage(self):
        for arguments in (["op"], ["ops", "--yaml"], ["ops", "--json", "more"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn(arguments[0], result.stderr)
            self.assertIn("usage: solvent-info", result.stderr)
        self.assertEqual(run("--help").returncode, 0)


if __name__ == "__main__":
    unittest.main()
