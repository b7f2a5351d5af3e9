#!/usr/bin/env python3
"""What nvcc made of the kernels: registers, stack frames, shared memory, and how many warps fit on a multiprocessor.

  kernel_resources.py build/cuda             check all kernels of the build; the table of those that break a rule
  kernel_resources.py build/cuda --table     every kernel
  kernel_resources.py build/cuda --only TEXT only kernels whose name contains TEXT

Reads the machine code inside of the object files below the folder; no GPU and no tool of NVIDIA's is needed. The rule: no
kernel for sm_90 has a stack frame (arrays that do not live in registers, or spilled registers), as every access to one goes
through the caches and takes the place of loads that count; but for ALLOWED below. Exit code 0: kept; 1: broken; 77: nothing
to read.
"""
import argparse
import collections
import fnmatch
import pathlib
import shutil
import struct
import subprocess
import sys

SKIPPED = 77
# Kernels that may have a stack frame: pattern of "file: kernel", largest frame in bytes, why.
ALLOWED = [
    ("elementwise_unary_*: *kernel<*Unary<(solvent::functor::UnaryFn)1[89],*", 64,
     "CUDA's sin and cos keep the product with 2/pi of large arguments in an array; small ones do not reach it"),
    ("elementwise_binary_*: *kernel<*Binary<(solvent::functor::BinaryFn)1[67],*", 64, "calls of CUDA's sin and cos"),
    ("conv_gather.cu: *gather_tiles_kernel<double, 1, true>*", 24, "a few registers, outside of the loop over the channels"),
    ("conv_gather.cu: *gather_tiles_kernel<float, 1, false>*", 16, "a few registers, outside of the loop over the channels"),
    ("gru_adjoint_f64.cu: *adjoint_threads_kernel<double, 4, false>*", 72, "four states in double and their cotangents"),
    ("scan_diagonal.cu: *walk_kernel<double>*", 8, "a register pair, outside of the walk"),
    ("gru_newton_f64.cu: *walk_lanes_kernel<double, 32, 32>*", 16, "two register pairs: a row of the weights fills the others"),
    ("elementwise.cu: *dense_kernel<*Fmod<double>*", 64, "registers around the call of fmod"),
    ("elementwise.cu: *dense_kernel<*Logical,*", 64, "the bytes of two packs"),
    ("layer_norm_f64.cu: *", 8, "a register pair around the call of a division"),
    ("softmax_f64.cu: *", 8, "a register pair around the call of a division"),
]

EM_CUDA = 190
# Attributes in .nv.info sections; their format byte says that two bytes of length follow.
WITH_LENGTH, MAX_THREADS, FRAME_SIZE, REGISTERS = 4, 0x05, 0x11, 0x2F
# The low 12 bits of an instruction, of 16 bytes, and the field of its width in the upper half.
LOAD_LOCAL, STORE_LOCAL, LOAD_GLOBAL, STORE_GLOBAL = 0x983, 0x387, 0x981, 0x986
WIDTHS = {4: 4, 5: 8, 6: 16}
RULED = 90  # the architecture that the rule is about
# A multiprocessor of compute capability 8.0 or 9.0.
SM_REGISTERS, SM_WARPS, REGISTER_UNIT = 65536, 64, 256
SM_SHARED = {80: 164 << 10, 86: 100 << 10, 89: 100 << 10, 90: 228 << 10}

Kernel = collections.namedtuple("Kernel", "file arch name registers frame local shared threads loads stores instructions")


def images(data):
    """The machine code (ELF files for EM_CUDA) inside of an object file; what is compressed is not found."""
    at = data.find(b"\x7fELF", 1)
    while at >= 0:
        if struct.unpack_from("<H", data, at + 18)[0] == EM_CUDA:
            yield data[at:]
        at = data.find(b"\x7fELF", at + 4)


def attributes(section):
    at = 0
    while at + 4 <= len(section):
        form, kind, length = struct.unpack_from("<BBH", section, at)
        payload = section[at + 4 : at + 4 + length] if form == WITH_LENGTH else b""
        yield kind, payload
        at += 4 + len(payload)


def instructions(code):
    """Counts of the accesses to local memory, and bytes -> number for loads and stores of global memory."""
    local, loads, stores = 0, collections.Counter(), collections.Counter()
    words = memoryview(code).cast("Q")
    for i in range(0, len(words) - 1, 2):
        operation = words[i] & 0xFFF
        if operation in (LOAD_LOCAL, STORE_LOCAL):
            local += 1
        elif operation in (LOAD_GLOBAL, STORE_GLOBAL):
            width = WIDTHS.get(words[i + 1] >> 9 & 7, 2)
            (loads if operation == LOAD_GLOBAL else stores)[width] += 1
    return local, loads, stores


def kernels(file, elf):
    """The kernels of one image."""
    flags, = struct.unpack_from("<I", elf, 48)
    start, = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQII", elf, start + i * size) for i in range(count)]
    names_at = headers[names][4]

    def text(at):
        return elf[at : elf.index(b"\0", at)].decode()

    sections = {text(names_at + h[0]): (i, h) for i, h in enumerate(headers)}

    def content(name):
        header = sections[name][1]
        return elf[header[4] : header[4] + header[5]]

    symbols, strings = content(".symtab"), sections[".strtab"][1][4]
    symbol_names = {i: text(strings + struct.unpack_from("<I", symbols, 24 * i)[0]) for i in range(len(symbols) // 24)}
    frames, registers = {}, {}
    for kind, payload in attributes(content(".nv.info")):
        if kind in (FRAME_SIZE, REGISTERS):
            symbol, value = struct.unpack("<II", payload)
            (frames if kind == FRAME_SIZE else registers)[symbol_names[symbol]] = value
    arch = flags >> 8 & 0xFF if flags >> 24 else flags & 0xFF  # where it lies changed with CUDA 13
    for name in sections:
        if not name.startswith(".text."):
            continue
        kernel = name[len(".text."):]
        if ".nv.info." + kernel not in sections:
            continue  # a function that kernels call; their frames hold its own
        threads = 1024
        for kind, payload in attributes(content(".nv.info." + kernel)):
            if kind == MAX_THREADS:
                threads = struct.unpack("<III", payload)[0]
        shared = sections.get(".nv.shared." + kernel)
        code = content(name)
        local, loads, stores = instructions(code)
        yield Kernel(file, arch, kernel, registers.get(kernel, sections[name][1][7] >> 24), frames.get(kernel, 0), local,
                     shared[1][5] if shared else 0, threads, loads, stores, len(code) // 16)


def demangled(found):
    tool = shutil.which("c++filt") or shutil.which("llvm-cxxfilt")
    if tool is None:
        sys.exit("kernel_resources: c++filt is missing; it belongs to binutils")
    names = subprocess.run([tool], input="\n".join(k.name for k in found), capture_output=True, text=True, check=True)
    lines = [line.replace("(anonymous namespace)::", "") for line in names.stdout.split("\n")]
    return [k._replace(name=line.replace("void ", "", 1)) for k, line in zip(found, lines)]


def warps_of(kernel):
    """Warps that fit on a multiprocessor, by registers and static shared memory, in blocks of at most 256 threads."""
    of_block = max(min(kernel.threads, 256) // 32, 1)
    of_warp = -(-max(kernel.registers, 1) * 32 // REGISTER_UNIT) * REGISTER_UNIT
    blocks = min(SM_REGISTERS // of_warp // of_block, SM_WARPS // of_block, 32)
    shared = SM_SHARED.get(kernel.arch, 0)
    if shared:
        blocks = min(blocks, shared // (kernel.shared + 1024))
    return blocks * of_block


def allowance(kernel):
    label = f"{kernel.file}: {kernel.name}"
    return max((most for pattern, most, _ in ALLOWED if fnmatch.fnmatchcase(label, pattern)), default=0)


def widths(counter):
    return " ".join(f"{n}x{width}" for width, n in sorted(counter.items(), reverse=True)) or "-"


def print_table(found):
    print(f"{'sm':>3} {'regs':>4} {'warps':>5} {'frame':>5} {'local':>5} {'shared':>6} {'code':>6} {'loads':<20} {'stores':<14} "
          "kernel")
    for k in found:
        print(f"{k.arch:>3} {k.registers:>4} {warps_of(k):>5} {k.frame:>5} {k.local:>5} {k.shared:>6} {k.instructions:>6} "
              f"{widths(k.loads):<20} {widths(k.stores):<14} {k.file}: {k.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="a build folder")
    parser.add_argument("--table", action="store_true", help="print every kernel")
    parser.add_argument("--only", default="", help="only kernels whose name or file contains this")
    arguments = parser.parse_args()
    found = []
    objects = sorted(p for p in arguments.folder.rglob("*.cu.o") if "tests" not in p.relative_to(arguments.folder).parts)
    for path in objects:
        for elf in images(path.read_bytes()):
            found += kernels(path.name[: -len(".o")], elf)
    if not found:
        why = "no machine code that is not compressed" if objects else "no object files of .cu sources"
        print(f"skipped: {why} below {arguments.folder}")
        return SKIPPED
    found = [k for k in demangled(found) if arguments.only in f"{k.file}: {k.name}"]
    if arguments.table:
        print_table(found)
    ruled = [k for k in found if k.arch == RULED]
    if not ruled:
        print(f"skipped: no machine code for sm_{RULED} below {arguments.folder}")
        return SKIPPED
    broken = [k for k in ruled if k.frame > allowance(k)]
    if broken:
        print("These kernels have stack frames, which none should have (see ALLOWED in this script):")
        print_table(broken)
    print(f"{len(ruled)} kernels for sm_{RULED} in {len(objects)} files, {len(broken)} with a stack frame that is not allowed")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
