"""Tests of scripts/get-data against a server on this machine: download, continuation, and each kind of failure."""
import contextlib
import gzip
import hashlib
import http.server
import importlib.machinery
import importlib.util
import io
import pathlib
import sys
import tempfile
import threading
import unittest
import zipfile

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "get-data"


def load_script():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("get_data", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("get_data", loader))
    loader.exec_module(module)
    return module


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files; understands "Range: bytes=N-"; breaks off after server.break_after bytes, once."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range"):
            start = int(self.headers["Range"][len("bytes="):-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if self.server.break_after:
            end, self.server.break_after = start + self.server.break_after, 0
        self.wfile.write(content[start:end])

    def log_message(self, *arguments):
        pass


SERIES = b"# text\n@problemName ACSF1\n@data\n1,2.5,-3:a\n4e-1,0:b\n"


class GetDataTest(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.files, self.server.requests, self.server.break_after = {}, [], 0
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

        self.module = load_script()
        base = f"http://127.0.0.1:{self.server.server_port}/"
        self.module.MNIST_ADDRESSES = [base + "gone/", base + "mnist/"]
        self.module.UCR_ADDRESS = base
        self.labels = bytes(range(256)) * 40
        self.module.MNIST_FILES = {"labels": hashlib.sha256(self.labels).hexdigest()}
        self.module.SERIES_FILES = {"ACSF1_TRAIN.ts": self.module.digest_of_series(SERIES)}
        self.server.files["/mnist/labels.gz"] = gzip.compress(self.labels)
        self.server.files["/ACSF1.zip"] = self.zip_of(SERIES)

    @staticmethod
    def zip_of(series):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("ACSF1/ACSF1_TRAIN.ts", series)
        return buffer.getvalue()

    def run_script(self, *sets):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.module.main(["--dir", str(self.folder), "--timeout", "5", *sets])
        return code, out.getvalue(), err.getvalue()

    def test_downloads_from_the_second_address_when_the_first_has_nothing(self):
        code, _, _ = self.run_script("mnist")
        self.assertEqual(code, 0)
        self.assertEqual(gzip.decompress((self.folder / "mnist/labels.gz").read_bytes()), self.labels)

    def test_takes_series_out_of_the_zip_file(self):
        code, _, _ = self.run_script("acsf1")
        self.assertEqual(code, 0)
        self.assertEqual((self.folder / "timeseries/ACSF1_TRAIN.ts").read_bytes(), SERIES)

    def test_fetches_nothing_when_everything_is_there(self):
        self.run_script("mnist", "acsf1")
        self.server.requests.clear()
        self.assertEqual(self.run_script("mnist", "acsf1")[0], 0)
        self.assertEqual(self.server.requests, [])

    def test_accepts_other_headers_and_number_formats_but_not_other_values(self):
        self.server.files["/ACSF1.zip"] = self.zip_of(SERIES.replace(b"# text", b"# other").replace(b"4e-1", b"0.40"))
        self.assertEqual(self.run_script("acsf1")[0], 0)
        (self.folder / "timeseries/ACSF1_TRAIN.ts").unlink()
        self.server.files["/ACSF1.zip"] = self.zip_of(SERIES.replace(b"2.5", b"2.6"))
        code, _, err = self.run_script("acsf1")
        self.assertEqual(code, 3)
        self.assertIn("wrong content", err)
        self.assertFalse((self.folder / "timeseries/ACSF1_TRAIN.ts").exists())

    def test_continues_a_broken_download(self):
        self.server.break_after = 100
        code, _, err = self.run_script("acsf1")
        self.assertEqual(code, 3)
        self.assertIn("run again to continue", err)
        self.assertEqual(self.run_script("acsf1")[0], 0)
        self.assertEqual(self.server.requests[-1], ("/ACSF1.zip", "bytes=100-"))

    def test_replaces_a_damaged_file(self):
        self.run_script("mnist")
        path = self.folder / "mnist/labels.gz"
        path.write_bytes(path.read_bytes()[:-20])
        code, out, _ = self.run_script("mnist")
        self.assertEqual(code, 0)
        self.assertIn("fetching it again", out)
        self.assertEqual(gzip.decompress(path.read_bytes()), self.labels)

    def test_says_what_the_server_answered_and_what_to_do(self):
        self.server.files.clear()
        code, _, err = self.run_script("mnist", "acsf1")
        self.assertEqual(code, 3)
        self.assertIn("404", err)
        self.assertIn("SOLVENT_DATA", err)

    def test_refuses_damaged_archives(self):
        self.server.files["/ACSF1.zip"] = self.zip_of(SERIES)[:-30]
        self.assertIn("not a complete zip file", self.run_script("acsf1")[2])
        self.server.files["/mnist/labels.gz"] = b"<html>moved</html>"
        self.assertIn("not a complete gzip file", self.run_script("mnist")[2])


if __name__ == "__main__":
    unittest.main()
