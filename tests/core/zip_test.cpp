#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/npy.h"
#include "solvent/core/io/npz.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/core/io/zip.h"
#include "solvent/core/rng.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/zip_writer.h"

using namespace solvent;
using Catch::Contains;
using tests::deflate_stored;
using tests::zip_bytes;
using tests::ZipItem;

namespace {

std::span<const std::byte> span_of(const std::string& bytes) { return std::as_bytes(std::span(bytes)); }

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const IoError& e) {
    return e.what();
  }
  return "(no IoError)";
}

/// Opens an archive and reads everything.
void read_all(const std::string& bytes) {
  const ZipArchive archive(span_of(bytes));
  for (const ZipEntry& entry : archive.entries()) (void)archive.read(entry, 1 << 20);
}

std::string slurp(const std::string& path) { return read_file(path); }

/// Bytes of an npy file of uint8.
std::string npy_bytes(const std::string& shape, const std::string& data) {
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return "\x93NUMPY" + std::string("\x01\x00", 2) + tests::little_endian(header.size(), 2) + header + data;
}

bool has_zlib() {
  const std::string bytes = zip_bytes({{.name = "a", .content = "x", .packed = deflate_stored("x"), .method = 8}});
  return error_of([&] { read_all(bytes); }) == "(no IoError)";
}

}  // namespace

TEST_CASE("zip: stored and deflated members, folders, a comment, zip64") {
  std::vector<ZipItem> items = {{.name = "folder/", .content = ""},
                                {.name = "folder/a.txt", .content = "hello"},
                                {.name = "empty", .content = ""}};
  if (has_zlib()) items.push_back({.name = "d", .content = "packed", .packed = deflate_stored("packed"), .method = 8});
  for (const bool zip64 : {false, true}) {
    const std::string bytes = zip_bytes(items, {.comment = "PK\x05\x06 a comment", .zip64 = zip64});
    const ZipArchive archive(span_of(bytes));
    REQUIRE(archive.entries().size() == items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      CHECK(archive.entries()[i].name == items[i].name);
      CHECK(text_of(archive.read(archive.entries()[i], 100)) == items[i].content);
    }
    CHECK(archive.find("folder/a.txt")->size == 5);
    CHECK(archive.find("a.txt") == nullptr);
  }
  CHECK(ZipArchive(span_of(zip_bytes({}))).entries().empty());
}

TEST_CASE("zip: a member as a stream in small pieces") {
  const std::string content(1000, 'q'), bytes = zip_bytes({{.name = "a", .content = content}});
  const ZipArchive archive(span_of(bytes));
  ZipMember member = archive.open(archive.entries()[0]);
  std::string back;
  char piece[7];
  while (const std::size_t got = member.read(piece, sizeof piece)) back.append(piece, got);
  CHECK(back == content);
  CHECK(member.read(piece, 1) == 0);
}

TEST_CASE("zip: damaged archives are refused with the reason") {
  const ZipItem a{.name = "a", .content = "hello"}, b{.name = "b", .content = "world"};
  const std::string good = zip_bytes({a, b});
  ZipItem item = a;
  const auto with = [&](auto change) {
    ZipItem changed = a;
    change(changed);
    return zip_bytes({changed, b});
  };
  struct Case {
    const char* name;
    std::string bytes, expected;
  };
  const std::vector<Case> cases = {
      {"empty", "", "has 0 bytes; a zip file has at least 22"},
      {"text", std::string(100, 'x'), "has no end record; it is no zip file or is truncated"},
      {"truncated", good.substr(0, good.size() - 1), "has no end record"},
      {"huge count", zip_bytes({a, b}, {.count = 65535 - 1}), "claims 65534 members in a directory of"},
      {"huge zip64 count", zip_bytes({a, b}, {.count = 1LL << 60, .zip64 = true}), "expected at most 131072"},
      {"zip64 offset", zip_bytes({a, b}, {.offset = 1LL << 62, .zip64 = true}), "lies outside the file"},
      {"zip64 bytes", zip_bytes({a, b}, {.bytes = INT64_MAX, .zip64 = true}), "lies outside the file"},
      {"directory outside", zip_bytes({a, b}, {.offset = 5000}), "lies outside the file"},
      {"directory elsewhere", zip_bytes({a, b}, {.offset = 3}), "no entry where one is announced"},
      {"too many", zip_bytes({a, b}, {.count = 1, .bytes = 47}), "(no IoError)"},
      {"cut entry", zip_bytes({a, b}, {.count = 1, .bytes = 46}), "an entry goes beyond its end"},
      {"encrypted", with([](ZipItem& z) { z.flags = 1; }), "member 'a' is encrypted"},
      {"method", with([](ZipItem& z) { z.method = 14, z.packed = "hello"; }), "uses compression method 14"},
      {"stored size", with([](ZipItem& z) { z.claimed_size = 6; }), "is stored, but claims 5 bytes packed and 6"},
      {"offset", with([](ZipItem& z) { z.claimed_offset = 1 << 30; }), "outside the file"},
      {"packed size", with([](ZipItem& z) { z.claimed_size = z.claimed_packed = 1 << 30; }), "outside the file"},
      {"bomb", with([](ZipItem& z) { z.method = 8, z.packed = "hello", z.claimed_size = 0xfffffff0; }),
       "claims to unpack 5 bytes to 4294967280, more than deflate can"},
      {"overlap", zip_bytes({a, {.name = "a", .content = "hello", .claimed_offset = 0}}), "overlap"},
      {"other name", with([](ZipItem& z) { z.local_name = "c"; }), "has no matching local header at byte 0"},
      {"checksum", with([](ZipItem& z) { z.claimed_crc = 1; }), "has checksum 3610a686; expected 00000001"},
      {"control name", with([](ZipItem& z) { z.name = std::string("a\0\n", 3), z.flags = 1; }), "'a\\x00\\x0a'"},
  };
  for (const Case& c : cases) {
    const std::string message = error_of([&] { read_all(c.bytes); });
    INFO(c.name << ": " << message);
    CHECK_THAT(message, Contains(c.expected));
  }
  const ZipArchive archive(span_of(good), "x.zip");
  CHECK_THAT(error_of([&] { (void)archive.read(archive.entries()[0], 4); }),
             Contains("'x.zip'") && Contains("unpacks to 5 bytes; expected at most 4"));
}

TEST_CASE("zip: deflated members that lie about their size") {
  if (!has_zlib()) {
    WARN("skipped: this build has no zlib");
    return;
  }
  const auto packed = [](const std::string& content, std::int64_t claimed) {
    return zip_bytes(
        {{.name = "a", .content = content, .packed = deflate_stored(content), .method = 8, .claimed_size = claimed}});
  };
  CHECK_THAT(error_of([&] { read_all(packed("hello", 4)); }), Contains("unpacks to more than the 4 bytes it claims"));
  CHECK_THAT(error_of([&] { read_all(packed("hello", 6)); }), Contains("unpacks to 5 bytes; expected the 6"));
  std::string cut = deflate_stored("hello");
  cut.resize(7);
  const std::string bytes = zip_bytes({{.name = "a", .content = "hello", .packed = cut, .method = 8}});
  CHECK_THAT(error_of([&] { read_all(bytes); }), Contains("is truncated or corrupt after 2 unpacked bytes"));
  const std::string noise = zip_bytes({{.name = "a", .content = "hello", .packed = "\xff\xff\xff", .method = 8}});
  CHECK_THAT(error_of([&] { read_all(noise); }), Contains("is truncated or corrupt"));
}

TEST_CASE("npz: what numpy wrote, stored and deflated") {
  for (const std::string name : {"golden/core_stored.npz", "golden/core_deflated.npz"}) {
    if (name == "golden/core_deflated.npz" && !has_zlib()) continue;
    const auto arrays = load_npz(name);
    const NpzFile file(name);
    CHECK(file.names().size() == arrays.size());
    CHECK(file.contains("i64"));
    for (const auto& [key, value] : arrays) {
      INFO(name << " " << key);
      if (key == "zeros") {
        CHECK(value.to_vector<float>() == std::vector<float>(4096, 0.0F));
        continue;
      }
      const Tensor expected =
          load_npy(key == "folder/fortran" ? "golden/core_fortran.npy" : "golden/core_" + key + ".npy");
      CHECK(value.dtype() == expected.dtype());
      CHECK(value.shape() == expected.shape());
      const auto* a = static_cast<const std::byte*>(value.impl()->storage->data);
      const auto* b = static_cast<const std::byte*>(expected.impl()->storage->data);
      CHECK(std::memcmp(a, b, static_cast<std::size_t>(value.numel()) * size_of(value.dtype())) == 0);
    }
    CHECK(parse_npz(span_of(slurp(name))).size() == arrays.size());
    CHECK_THAT(error_of([&] { (void)file.load("f33"); }),
               Contains("holds no array 'f33'; there are: ") && Contains("f32, f64, i64"));
  }
}

TEST_CASE("npz: damaged arrays are refused with file and array") {
  const auto npz = [](const std::string& content, std::int64_t crc = -1) {
    return zip_bytes({{.name = "x.npy", .content = content, .claimed_crc = crc}, {.name = "readme", .content = "?"}});
  };
  const std::string good = npz(npy_bytes("(5,)", "hello"));
  REQUIRE(parse_npz(span_of(good)).size() == 1);
  struct Case {
    std::string bytes, expected;
  };
  const std::vector<Case> cases = {
      {npz(npy_bytes("(6,)", "hello")), "claims uint8 of shape (6,), 6 bytes, but has 5 bytes of data"},
      {npz(npy_bytes("(4294967296, 4294967296)", "hello")), "whose size overflows 64 bits"},
      {npz("no array"), "has 8 bytes; an npy file has at least 10"},
      {npz("\x93NUMPY\x01"), "has 7 bytes"},
      {npz(npy_bytes("(5,)", "hello"), 7), "has checksum"},
      {zip_bytes({{.name = "x.npy", .content = "a"}, {.name = "x.npy", .content = "b"}}), "two arrays named 'x'"},
      {"PK", "has 2 bytes; a zip file"},
  };
  for (const Case& c : cases) {
    const std::string message = error_of([&] { parse_npz(span_of(c.bytes), "bad.npz"); });
    INFO(message);
    CHECK_THAT(message, Contains("bad.npz") && Contains(c.expected));
  }
}

TEST_CASE("npz: no mutation of a valid file crashes the reader") {
  const std::string good = zip_bytes({{.name = "x.npy", .content = npy_bytes("(5,)", "hello")},
                                      {.name = "y.npy",
                                       .content = npy_bytes("(2, 2)", "abcd"),
                                       .packed = deflate_stored(npy_bytes("(2, 2)", "abcd")),
                                       .method = 8}});
  const Key key(99);
  int refused = 0;
  for (std::uint64_t trial = 0; trial < 4000; ++trial) {
    const Key own = key.fold_in(trial);
    std::string bytes = good;
    const auto edits = 1 + own.bits(0) % 3;
    for (std::uint64_t e = 0; e < edits; ++e)
      bytes[own.bits(2 * e + 1) % bytes.size()] = static_cast<char>(own.bits(2 * e + 2));
    if (own.bits(20) % 4 == 0) bytes.resize(own.bits(21) % bytes.size());
    try {
      (void)parse_npz(span_of(bytes));
    } catch (const IoError&) {
      ++refused;
    }
  }
  CHECK(refused > 2000);
}

TEST_CASE("npy and safetensors: from memory as from a file") {
  const std::string npy = slurp("golden/core_f64.npy"), safetensors = slurp("golden/core.safetensors");
  CHECK(parse_npy(span_of(npy)).shape() == load_npy("golden/core_f64.npy").shape());
  CHECK(parse_safetensors(span_of(safetensors)).tensors.size() ==
        load_safetensors("golden/core.safetensors").tensors.size());
  CHECK_THAT(error_of([&] { parse_npy(span_of(npy).first(20), "cut.npy"); }), Contains("[parse_npy] 'cut.npy'"));
  CHECK_THAT(error_of([&] { parse_safetensors(span_of(safetensors).first(safetensors.size() - 1), "cut"); }),
             Contains("[parse_safetensors] 'cut'"));
}
