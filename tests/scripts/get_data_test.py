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
            if start >= len(content):
                self.send_error(416)
                return
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

    def test_every_set_with_published_digests_comes_from_its_address(self):
        contents = {}
        for folder, files in (("fashion-mnist", "FASHION_FILES"), ("cifar10", "CIFAR10_FILES"),
                              ("cifar100", "CIFAR100_FILES"), ("omniglot", "OMNIGLOT_FILES")):
            names = list(getattr(self.module, files))
            for name in names:
                contents[f"{folder}/{name}"] = content = f"content of {name}".encode() * 1000
                self.server.files["/official/" + folder + "/" + name] = content
            digests = {name: hashlib.md5(contents[f"{folder}/{name}"]).hexdigest() for name in names}
            setattr(self.module, files, digests)
        base = f"http://127.0.0.1:{self.server.server_port}/official/"
        self.module.FASHION_ADDRESSES = [base + "fashion-mnist/"]
        self.module.OMNIGLOT_ADDRESSES = [base + "omniglot/"]
        for name in ("cifar10", "cifar100"):
            self.module.CIFAR_ADDRESSES = [base + name + "/"]
            self.assertEqual(self.run_script(name)[0], 0)
        self.assertEqual(self.run_script("fashion-mnist", "omniglot")[0], 0)
        for path, content in contents.items():
            self.assertEqual((self.folder / path).read_bytes(), content)
        self.server.files["/official/omniglot/images_background.zip"] = b"other"
        (self.folder / "omniglot/images_background.zip").unlink()
        code, _, err = self.run_script("omniglot")
        self.assertEqual(code, 3)
        self.assertIn("wrong content: MD5", err)
        self.assertEqual(list((self.folder / "omniglot").glob("*background*")), [])

    def test_continues_a_large_file_from_the_byte_where_it_broke(self):
        content = bytes(range(256)) * 20000  # several pieces
        self.module.CIFAR10_FILES = {"cifar-10-binary.tar.gz": hashlib.md5(content).hexdigest()}
        self.module.CIFAR_ADDRESSES = [f"http://127.0.0.1:{self.server.server_port}/"]
        self.server.files["/cifar-10-binary.tar.gz"] = content
        for broken in (1500000, 2000000):
            self.server.break_after = broken
            code, _, err = self.run_script("cifar10")
            self.assertEqual(code, 3)
            self.assertIn("run again to continue", err)
        self.assertEqual(self.run_script("cifar10")[0], 0)
        self.assertEqual([request[1] for request in self.server.requests], [None, "bytes=1500000-", "bytes=3500000-"])
        self.assertEqual((self.folder / "cifar10/cifar-10-binary.tar.gz").read_bytes(), content)
        self.assertEqual(list((self.folder / "cifar10").iterdir()), [self.folder / "cifar10/cifar-10-binary.tar.gz"])

    def test_starts_over_when_the_begun_file_is_of_another_content(self):
        content = b"right" * 1000
        self.module.CIFAR10_FILES = {"cifar-10-binary.tar.gz": hashlib.md5(content).hexdigest()}
        self.module.CIFAR_ADDRESSES = [f"http://127.0.0.1:{self.server.server_port}/"]
        self.server.files["/cifar-10-binary.tar.gz"] = content
        (self.folder / "cifar10").mkdir()
        (self.folder / "cifar10/cifar-10-binary.tar.gz.part").write_bytes(b"wrong" * 10)
        self.assertEqual(self.run_script("cifar10")[0], 0)
        self.assertEqual([request[1] for request in self.server.requests], ["bytes=50-", None])

    def test_a_complete_begun_file_is_accepted_without_more_bytes(self):
        content = b"right" * 1000
        self.module.CIFAR10_FILES = {"cifar-10-binary.tar.gz": hashlib.md5(content).hexdigest()}
        self.module.CIFAR_ADDRESSES = [f"http://127.0.0.1:{self.server.server_port}/"]
        self.server.files["/cifar-10-binary.tar.gz"] = content
        (self.folder / "cifar10").mkdir()
        (self.folder / "cifar10/cifar-10-binary.tar.gz.part").write_bytes(content)  # the server answers 416
        self.assertEqual(self.run_script("cifar10")[0], 0)
        self.assertEqual((self.folder / "cifar10/cifar-10-binary.tar.gz").read_bytes(), content)

    def test_a_set_that_needs_an_account_says_how_to_get_it(self):
        code, _, err = self.run_script("imagenet32")
        self.assertEqual(code, 3)
        for text in ("make an account at https://image-net.org/login", "Imagenet32_train_npz.zip", "val_data.npz",
                     str(self.folder / "imagenet32")):
            self.assertIn(text, err)
        for name in self.module.IMAGENET32_FILES:
            place = self.folder / "imagenet32" / ("Imagenet32_val_npz" if "val" in name else "Imagenet32_train_npz")
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"")
        self.assertEqual(self.run_script("imagenet32")[0], 0)
        self.assertEqual(self.server.requests, [])

    def test_series_without_a_published_digest_are_checked_by_their_shape(self):
        self.module.SERIES_SHAPES = {"EigenWorms_TRAIN.ts": (2, 2, 3, 2)}
        good = b"@data\n1,2,3:4,5,6:a\n1,2,3:4,5,6:b\n"

        def serve(content):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("EigenWorms_TRAIN.ts", content)
            self.server.files["/EigenWorms.zip"] = buffer.getvalue()

        for wrong, message in ((good[:-14], "1 series of 1 classes, expected 2 of 2"),
                               (good.replace(b"5,6:b", b"5:b"), "series 2 is not 2 channels of 3 steps"),
                               (good.replace(b"1,2", b"1,x"), "not a .ts file of numbers")):
            serve(wrong)
            self.assertIn(message, self.run_script("eigenworms")[2])
        serve(good)
        self.assertEqual(self.run_script("eigenworms")[0], 0)
        self.assertEqual((self.folder / "timeseries/EigenWorms_TRAIN.ts").read_bytes(), good)

    def test_optdigits_and_mnist_count_when_they_are_there_in_another_wrapping(self):
        self.module.OPTDIGITS_FILES = {"optdigits.tra": hashlib.sha256(b"1,2").hexdigest()}
        (self.folder / "optdigits").mkdir()
        (self.folder / "optdigits/optdigits.tra.gz").write_bytes(gzip.compress(b"1,2"))
        (self.folder / "mnist").mkdir()
        (self.folder / "mnist/labels").write_bytes(self.labels)
        self.assertEqual(self.run_script("optdigits", "mnist")[0], 0)
        self.assertEqual(self.server.requests, [])

    def test_a_mirror_is_tried_first_and_the_official_address_after_it(self):
        base = f"http://127.0.0.1:{self.server.server_port}/copy"
        self.server.files["/copy/mnist/labels.gz"] = gzip.compress(self.labels)
        self.server.files["/copy/timeseries/ACSF1_TRAIN.ts.gz"] = gzip.compress(SERIES)
        self.assertEqual(self.run_script("--mirror", base, "mnist", "acsf1")[0], 0)
        self.assertEqual([path for path, _ in self.server.requests],
                         ["/copy/mnist/labels.gz", "/copy/timeseries/ACSF1_TRAIN.ts.gz"])
        (self.folder / "timeseries/ACSF1_TRAIN.ts.gz").unlink()
        del self.server.files["/copy/timeseries/ACSF1_TRAIN.ts.gz"]
        self.assertEqual(self.run_script("--mirror", base, "acsf1")[0], 0)
        self.assertEqual(self.server.requests[-1][0], "/ACSF1.zip")

    def test_unknown_names_are_wrong_usage(self):
        with self.assertRaises(SystemExit) as raised:
            self.run_script("cifar")
        self.assertEqual(raised.exception.code, 2)

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
