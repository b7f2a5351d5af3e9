#!/usr/bin/env python3
"""Writes tests/fuzz/corpus: for every reader some good files and every known way to fool such a reader.

    python3 tests/fuzz/make_corpus.py [FOLDER]      the standard library suffices; the same bytes every time
"""
import gzip
import json
import pathlib
import struct
import sys
import zlib

FILES = {}


def add(target, name, data):
    FILES[f"{target}/{name}"] = data if isinstance(data, bytes) else data.encode()


# --- safetensors --------------------------------------------------------------------------------------------------------


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def make_safetensors():
    four = bytes(4)
    good = {"a": entry([2, 1], [0, 8]), "b": entry([], [8, 9], "BOOL"), "__metadata__": {"k": "v"}}
    add("safetensors", "good", safetensors(good, bytes(9)))
    add("safetensors", "good-empty", safetensors({}))
    add("safetensors", "nothing", b"")
    add("safetensors", "length-overflow", safetensors({"a": entry([1], [0, 4])}, four, 2**64 - 1))
    add("safetensors", "length-wraps", safetensors({"a": entry([1], [0, 4])}, four, 2**64 - 8))
    add("safetensors", "length-huge", safetensors(b"{}", b"", 1 << 60))
    add("safetensors", "length-beyond-end", safetensors(b"{}", b"", 3))
    add("safetensors", "offsets-outside", safetensors({"a": entry([2], [0, 8])}, four))
    add("safetensors", "offsets-huge", safetensors({"a": entry([1], [2**64 - 4, 2**64 - 1])}, four))
    add("safetensors", "offsets-reversed", safetensors({"a": entry([1], [4, 0])}, four))
    add("safetensors", "offsets-overlap", safetensors({"a": entry([1], [0, 4]), "b": entry([1], [2, 6])}, bytes(6)))
    add("safetensors", "offsets-gap", safetensors({"a": entry([1], [4, 8])}, bytes(8)))
    add("safetensors", "offsets-negative", safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', four))
    add("safetensors", "shape-overflow", safetensors({"a": entry([2**32, 2**32, 4], [0, 4])}, four))
    add("safetensors", "shape-wraps-to-fit", safetensors({"a": entry([2**62 + 1, 4], [0, 16], "U8")}, bytes(16)))
    add("safetensors", "shape-zero-times-huge", safetensors({"a": entry([0, 2**62, 2**62], [0, 0])}))
    add("safetensors", "shape-huge", safetensors({"a": entry([2**40], [0, 2**42])}, four))
    add("safetensors", "shape-nine-axes", safetensors({"a": entry([1] * 9, [0, 4])}, four))
    add("safetensors", "shape-fraction", safetensors({"a": entry([1.5], [0, 4])}, four))
    add("safetensors", "dtype-unknown", safetensors({"a": entry([1], [0, 2], "BF16")}, bytes(2)))
    deep = b'{"a":{"dtype":' + b"[" * 20000 + b"]" * 20000 + b',"shape":[1],"data_offsets":[0,4]}}'
    add("safetensors", "dtype-nested-deeply", safetensors(deep, four))
    add("safetensors", "nested-deeply", safetensors(b'{"a":' + b"[" * 20000, b""))
    add("safetensors", "keys-twice", safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', four))
    add("safetensors", "keys-twice-inside", safetensors(
        b'{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}}', four))
    add("safetensors", "not-utf-8", safetensors(b'{"\xff\xfe":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', four))
    add("safetensors", "nan-in-json", safetensors(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', four))
    add("safetensors", "number-huge", safetensors(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', four))
    add("safetensors", "bool-of-two", safetensors({"a": entry([1], [0, 1], "BOOL")}, b"\2"))
    add("safetensors", "surplus", safetensors({"a": entry([1], [0, 4])}, bytes(5)))
    add("safetensors", "metadata-number", safetensors({"__metadata__": {"x": 1}}))


# --- npy, npz -----------------------------------------------------------------------------------------------------------


def npy(header, data=b"", version=1, length=None):
    text = header.encode("latin-1")
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + text + data


def npy_array(shape, data, descr="<f4", order="False"):
    return npy(f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n", data)


def make_npy():
    add("npy", "good", npy_array("(2,)", bytes(8)))
    add("npy", "good-fortran", npy_array("(2, 3)", bytes(48), "<f8", "True"))
    add("npy", "good-scalar", npy_array("()", b"\1", "|b1"))
    add("npy", "good-version-3", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }", b"x", 3))
    add("npy", "nothing", b"")
    add("npy", "magic-only", b"\x93NUMPY")
    add("npy", "length-overflow", npy("{}", b"", 2, 0xFFFFFFFF))
    add("npy", "length-beyond-end", npy("{}", b"", 1, 0xFFFF))
    add("npy", "length-cut", b"\x93NUMPY\2\0\xff\xff")
    add("npy", "version-9", npy("{}", b"", 9))
    for name, shape in {
            "shape-overflow": "(4294967296, 4294967296)", "shape-wraps-to-fit": "(4611686018427387905, 4)",
            "shape-huge": "(1099511627776,)", "shape-beyond-int64": "(99999999999999999999,)", "shape-negative": "(-2,)",
            "shape-nine-axes": "(1,1,1,1,1,1,1,1,1)", "shape-zero-times-huge": "(0, 4611686018427387904, 8)",
            "shape-unclosed": "(1", "shape-fraction": "(1.5,)"}.items():
        add("npy", name, npy_array(shape, bytes(8)))
    add("npy", "keys-twice", npy("{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", bytes(4)))
    add("npy", "key-unknown", npy("{'descr': '<f4', 'x': 1, 'fortran_order': False, 'shape': (1,), }", bytes(4)))
    add("npy", "structured", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", bytes(4)))
    add("npy", "object-pickle", npy_array("(1,)", b"\x80\4K\1.", "|O"))
    add("npy", "string-unclosed", npy("{'descr: ", b""))
    add("npy", "not-utf-8", npy("{'\xff\xfe': '<f4', ", b""))
    add("npy", "nested-deeply", npy("(" * 20000, b""))
    add("npy", "bool-of-two", npy_array("(1,)", b"\2", "|b1"))
    add("npy", "surplus", npy_array("(1,)", bytes(5)))


def zip_file(members, comment=b"", claims=None):
    """members: (name, data, deflated); claims: {(index, field): value} changes what the directory says."""
    body, directory, claims = b"", b"", claims or {}
    for index, (name, data, deflated) in enumerate(members):
        if deflated:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = packer.compress(data) + packer.flush()
        else:
            packed = data
        crc = claims.get((index, "crc"), zlib.crc32(data))
        size = claims.get((index, "size"), len(data))
        packed_size = claims.get((index, "packed"), len(packed))
        offset = claims.get((index, "offset"), len(body))
        method = claims.get((index, "method"), 8 if deflated else 0)
        flags = claims.get((index, "flags"), 0)
        common = struct.pack("<HHHHHIII", 20, flags, method, 0, 33, crc, packed_size, size)
        body += b"PK\3\4" + common + struct.pack("<HH", len(name), 0) + name + packed
        directory += b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name
    count = claims.get("count", len(members))
    start = claims.get("start", len(body))
    length = claims.get("length", len(directory))
    return body + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, length, start, len(comment)) + comment


def make_npz():
    array = npy_array("(2,)", bytes(8))
    one = [(b"a.npy", array, False)]
    add("npz", "good", zip_file([(b"a.npy", array, False), (b"b.npy", npy_array("(0, 3)", b""), True)]))
    add("npz", "good-empty", zip_file([]))
    add("npz", "good-comment", zip_file(one, b"a comment PK\5\6 in it"))
    add("npz", "nothing", b"")
    add("npz", "names-twice", zip_file([(b"a.npy", array, False), (b"a.npy", array, True)]))
    add("npz", "name-not-utf-8", zip_file([(b"\xff\xfe.npy", array, False)]))
    add("npz", "name-outside", zip_file([(b"../../a.npy", array, False)]))
    add("npz", "bomb", zip_file([(b"a.npy", npy_array("(5000000,)", bytes(5000000), "|u1"), True)]))
    add("npz", "bomb-claims-little", zip_file([(b"a.npy", bytes(2000000), True)], claims={(0, "size"): 100}))
    add("npz", "bomb-claims-much", zip_file([(b"a.npy", array, True)], claims={(0, "size"): 0xFFFFFFF0}))
    quoted = [(b"%d.npy" % i, array, False) for i in range(3)]
    add("npz", "members-overlap", zip_file(quoted, claims={(i, "offset"): 0 for i in range(3)}))
    add("npz", "offset-outside", zip_file(one, claims={(0, "offset"): 0x7FFFFFFF}))
    add("npz", "packed-outside", zip_file(one, claims={(0, "packed"): 0x7FFFFFFF}))
    add("npz", "directory-outside", zip_file(one, claims={"start": 0xFFFFFFF0}))
    add("npz", "directory-huge", zip_file(one, claims={"length": 0xFFFFFFFE}))
    add("npz", "count-huge", zip_file(one, claims={"count": 0xFFFF}))
    add("npz", "checksum-wrong", zip_file(one, claims={(0, "crc"): 1}))
    add("npz", "encrypted", zip_file(one, claims={(0, "flags"): 1}))
    add("npz", "method-unknown", zip_file(one, claims={(0, "method"): 99}))
    add("npz", "deflate-cut", zip_file([(b"a.npy", array, True)], claims={(0, "packed"): 5}))
    add("npz", "shape-overflow", zip_file([(b"a.npy", npy_array("(4294967296, 4294967296)", b""), False)]))
    add("npz", "shape-zero-times-huge", zip_file([(b"a.npy", npy_array("(0, 4611686018427387904, 8)", b""), False)]))
    add("npz", "cut", zip_file(one)[:-10])


# --- idx, CIFAR -----------------------------------------------------------------------------------------------------------


def idx(extents, data, kind=8, axes=None):
    return bytes([0, 0, kind, len(extents) if axes is None else axes]) + b"".join(
        struct.pack(">I", e) for e in extents) + data


def make_idx():
    add("idx", "good", idx([2, 2], bytes(4)))
    add("idx", "good-gzip", gzip.compress(idx([3], b"abc"), mtime=0))
    add("idx", "good-int32", idx([2], bytes(8), 0x0C))
    add("idx", "nothing", b"")
    add("idx", "header-cut", idx([2, 2], b"")[:6])
    add("idx", "shape-overflow", idx([0xFFFFFFFF] * 4, b"x"))
    add("idx", "shape-wraps-to-fit", idx([0x80000000, 0x80000000, 4], b"x"))
    add("idx", "shape-huge", idx([0xFFFFFFFF], b"x"))
    add("idx", "shape-zero-times-huge", idx([0, 0xFFFFFFFF, 0xFFFFFFFF], b""))
    add("idx", "axes-none", idx([], b""))
    add("idx", "axes-255", idx([1], b"x", axes=255))
    add("idx", "type-float", idx([1], bytes(4), 0x0D))
    add("idx", "magic-wrong", b"\1\0\x08\1" + bytes(8))
    add("idx", "data-cut", idx([10], b"123"))
    add("idx", "surplus", idx([2], b"123"))
    add("idx", "bomb-gzip", gzip.compress(idx([5000000], bytes(5000000)), mtime=0))
    add("idx", "bomb-claims-more", gzip.compress(idx([0xFFFFFFF0], bytes(3000000)), mtime=0))
    add("idx", "gzip-cut", gzip.compress(idx([300], bytes(range(100)) * 3), mtime=0)[:-12])
    add("idx", "gzip-checksum", gzip.compress(idx([3], b"abc"), mtime=0)[:-8] + bytes(8))
    add("idx", "xz-garbage", b"\xfd7zXZ\0" + bytes(40))


def make_cifar():
    record = bytes([3]) + bytes(range(256)) * 12
    add("cifar", "good-gzip", gzip.compress(record * 2, mtime=0))
    add("cifar", "good-hundred-gzip", gzip.compress(bytes([1, 99]) + bytes(3072), mtime=0))
    add("cifar", "nothing", b"")
    add("cifar", "record-cut-gzip", gzip.compress(record[:-1], mtime=0))
    add("cifar", "label-outside-gzip", gzip.compress(b"\xff" + bytes(3072), mtime=0))
    add("cifar", "bomb-gzip", gzip.compress(bytes(3073 * 1500), mtime=0))
    add("cifar", "gzip-in-gzip", gzip.compress(gzip.compress(record, mtime=0), mtime=0))
    add("cifar", "text", "label,pixels\n1,2,3\n")


# --- series, configurations -------------------------------------------------------------------------------------------------


TS = "@problemName x\n@timeStamps false\n@univariate true\n@equalLength false\n@classLabel true a b\n@data\n"


def make_ts():
    add("ts", "good", TS + "1,2,3:a\n4.5,-1e3:b\n")
    add("ts", "good-channels", TS.replace("univariate true", "univariate false") + "1,2:3,4:a\n")
    add("ts", "good-crlf", (TS + "1,2:a\n").replace("\n", "\r\n"))
    add("ts", "good-byte-order-mark", b"\xef\xbb\xbf" + (TS + "1:a\n").encode())
    add("ts", "nothing", b"")
    for name, line in {
            "nan": "NaN,1:a", "infinite": "inf,1:a", "number-huge": "1e999:a", "missing": "1,?,3:a", "hexadecimal": "0x1p3:a",
            "class-unknown": "1:c", "class-absent": "1,2", "value-empty": "1,,2:a", "colons": ":::::", "commas": ",,,,:a",
            "number-long": "1" * 5000 + ":a", "number-of-dots": "1.2.3:a"}.items():
        add("ts", name, TS + line + "\n")
    add("ts", "not-utf-8", TS.encode() + b"\xff\xfe1:a\n")
    add("ts", "class-not-utf-8", TS.encode().replace(b" a b", b" \xff b") + b"1:\xff\n")
    add("ts", "class-twice", TS.replace("a b", "a a") + "1:a\n")
    add("ts", "zero-bytes", TS.encode() + b"1\0002:a\n")
    add("ts", "no-header", "1,2:a\n")
    add("ts", "data-twice", TS + "@data\n1:a\n")
    add("ts", "channels-differ", TS.replace("univariate true", "univariate false") + "1,2:3:a\n1:b\n")
    add("ts", "length-claimed", TS.replace("equalLength false", "equalLength true\n@seriesLength 99999999999999999999") + "1:a\n")
    add("ts", "dimensions-huge", TS.replace("univariate true", "univariate false\n@dimensions 9223372036854775807") + "1:a\n")
    add("ts", "line-without-end", TS + "1," * 5000)
    add("ts", "bomb-gzip", gzip.compress(b"#" * 3000000, mtime=0))


ARFF = "@relation x\n@attribute t0 numeric\n@attribute t1 numeric\n@attribute target {a,b}\n@data\n"
RELATIONAL = "@relation x\n@attribute r relational\n@attribute t0 numeric\n@attribute t1 numeric\n@end r\n" \
             "@attribute c {a,b}\n@data\n"


def make_arff():
    add("arff", "good", ARFF + "1,2,a\n3,4,b\n")
    add("arff", "good-relational", RELATIONAL + "'1,2\\n3,4',a\n")
    add("arff", "good-crlf", (ARFF + "% comment\n1,2,a\n").replace("\n", "\r\n"))
    add("arff", "good-padding", ARFF + "1,?,a\n")
    add("arff", "nothing", b"")
    for name, line in {
            "nan": "NaN,1,a", "infinite": "1,-inf,a", "number-huge": "1e999,1,a", "missing": "?,1,a", "class-unknown": "1,2,c",
            "too-few": "1,a", "too-many": "1,2,3,a", "sparse": "{0 1, 2 a}", "quote-unclosed": "'1,2,a", "empty-fields": ",,"
    }.items():
        add("arff", name, ARFF + line + "\n")
    for name, line in {"channels-differ": "'1,2\\n3',a", "quote-unclosed": "'1,2\\n3,4,a", "backslash-last": "'1,2\\",
                       "nothing-quoted": "'',a"}.items():
        add("arff", "relational-" + name, RELATIONAL + line + "\n")
    add("arff", "not-utf-8", ARFF.encode() + b"\xff,2,a\n")
    add("arff", "class-not-utf-8", ARFF.encode().replace(b"{a,b}", b"{\xff,b}") + b"1,2,\xff\n")
    add("arff", "class-twice", ARFF.replace("{a,b}", "{a,a}") + "1,2,a\n")
    add("arff", "classes-unclosed", ARFF.replace("{a,b}", "{a,b") + "1,2,a\n")
    add("arff", "relation-nested", RELATIONAL.replace("@end r", "@attribute s relational\n@end s\n@end r") + "'1,2',a\n")
    add("arff", "end-without-begin", "@relation x\n@end r\n@data\n")
    add("arff", "no-attributes", "@relation x\n@data\n1,2\n")
    add("arff", "zero-bytes", ARFF.encode() + b"1\0,2,a\n")
    add("arff", "attributes-many", "@relation x\n" + "@attribute a numeric\n" * 500 + "@attribute c {a}\n@data\n1,a\n")


def make_config():
    add("config", "good", '[model]\nflag = true\ncount = 3\nrate = 0.25\nname = "b"\n[lists]\nsizes = [3, 4]\nnames = ["é"]\n')
    add("config", "good-crlf", "[model]\r\ncount = 3\r\n")
    add("config", "nothing", b"")
    for name, line in {
            "nan": "rate = nan", "infinite": "rate = inf", "integer-huge": "count = 99999999999999999999",
            "integer-outside": "count = 101", "key-unknown": "coutn = 1", "key-twice": "count = 1\ncount = 2",
            "table-inside": "count = {a = 1}", "date": "count = 1979-05-27", "text-unclosed": 'name = "b',
            "escapes": 'name = "\\uD800"', "zero": 'name = "\\u0000"', "list-mixed": "rates = [1, 'a']",
            "hexadecimal": "count = 0x1f", "fraction-for-integer": "count = 1.0"}.items():
        add("config", name, "[model]\n" + line + "\n")
    add("config", "table-twice", "[model]\n[model]\n")
    add("config", "lists-empty", "[lists]\nsizes = []\nnames = []\n")
    add("config", "lists-of-lists", "[lists]\nsizes = [[1], [2]]\n")
    add("config", "nested-deeply", "[lists]\nsizes = " + "[" * 5000 + "]" * 5000 + "\n")
    add("config", "tables-nested-deeply", "a = " + "{a = " * 2000 + "1" + "}" * 2000 + "\n")
    add("config", "keys-dotted-deeply", ".".join(["a"] * 5000) + " = 1\n")
    add("config", "not-utf-8", b'[model]\nname = "\xff\xfe"\n')
    add("config", "zero-bytes", b"[model]\0\ncount = 1\n")
    add("config", "text-of-all-kinds", '[lists]\nnames = ["\\t\\n\\"\\\\ \\u00e9", \'\', "a,b"]\n')


# --- checkpoints (first byte: see checkpoint_target.cpp) --------------------------------------------------------------------


def make_checkpoint():
    manifest = {"format": "solvent-checkpoint-1", "step": 2, "tensors": {"bytes": 1, "crc32c": 0}, "state": {}}
    values = {"n": -3, "x": 0.5, "t": "text", "f": True, "k": {"key": [2**64 - 1, 7]}, "i": {"number": "-inf"}}
    add("checkpoint", "manifest-without-checksum", b"\0" + json.dumps(manifest).encode())
    add("checkpoint", "manifest-checksum-wrong", b"\0" + json.dumps({**manifest, "crc32c": 1}).encode())
    add("checkpoint", "manifest-cut", b"\0{\"step\": ")
    add("checkpoint", "manifest-nested-deeply", b"\0" + b"[" * 10000 + b"]" * 10000)
    add("checkpoint", "manifest-not-utf-8", b"\0{\"\xff\": 1}")
    add("checkpoint", "manifest-of-another-step", b"\1" + json.dumps({**manifest, "step": 2**63}).encode())
    add("checkpoint", "manifest-of-another-format", b"\1" + json.dumps({**manifest, "format": "x"}).encode())
    add("checkpoint", "manifest-with-state", b"\1" + json.dumps({**manifest, "state": values}).encode())
    add("checkpoint", "manifest-state-of-lists", b"\1" + json.dumps({**manifest, "state": [1]}).encode())
    add("checkpoint", "values", b"\2" + json.dumps(values).encode())
    add("checkpoint", "values-key-of-one", b'\2{"k": {"key": [1]}}')
    add("checkpoint", "values-beyond-int64", b'\2{"n": 18446744073709551615}')
    add("checkpoint", "values-number-huge", b'\2{"x": 1e999}')
    add("checkpoint", "values-keys-twice", b'\2{"x": 1, "x": 2}')
    add("checkpoint", "values-nested-deeply", b"\2" + b'{"a":' * 5000 + b"1" + b"}" * 5000)
    add("checkpoint", "tensors", b"\3" + safetensors({"t/x": entry([1], [0, 4])}, bytes(4)))
    add("checkpoint", "tensors-of-no-part", b"\3" + safetensors({"x": entry([1], [0, 4])}, bytes(4)))
    add("checkpoint", "tensors-cut", b"\3" + safetensors({"t/x": entry([1], [0, 4])}, bytes(3)))


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("corpus")
    for make in (make_safetensors, make_npy, make_npz, make_idx, make_cifar, make_ts, make_arff, make_config, make_checkpoint):
        make()
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(FILES)} files, {sum(map(len, FILES.values()))} bytes in {root}")


if __name__ == "__main__":
    main()
