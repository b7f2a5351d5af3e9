// Streams, idx files, MNIST.
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/experiments/common/data/idx.h"
#include "solvent/experiments/common/data/input_stream.h"
#include "solvent/experiments/common/data/mnist.h"
#include "solvent/experiments/common/data/read_progress.h"
#include "solvent/experiments/common/data/time_series.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/tests/experiments/data_tools.h"

using namespace solvent::experiments;
using namespace solvent::experiments::testing;

namespace fs = std::filesystem;

// ---- streams -------------------------------------------------------------------------------------------------------

TEST_CASE("input stream: plain, gzip and xz deliver the same bytes and lines") {
  const TemporaryDirectory dir;
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i) + (i % 2 ? "\r\n" : "\n");
  text += "last";
  for (const auto& file : {dir.write("a.txt", text), dir.write("a.gz", gzip(text)), dir.write("a.xz", xz(text))}) {
    InputStream lines(file);
    std::string line;
    int count = 0;
    bool all_equal = true;
    while (lines.read_line(line)) {
      all_equal = all_equal && (count == 100000 ? line == "last" : line == std::to_string(count));
      ++count;
    }
    CHECK(all_equal);
    CHECK(count == 100001);
    CHECK(lines.offset() == text.size());
    CHECK(lines.max_size() >= text.size());
    InputStream bytes(file);
    std::string back(text.size() + 10, '\0');
    CHECK(bytes.read(back.data(), back.size()) == text.size());
    back.resize(text.size());
    CHECK(back == text);
  }
}

TEST_CASE("input stream: missing files, folders and an empty file") {
  const TemporaryDirectory dir;
  CHECK_THAT(message_of<MissingDataError>([&] { InputStream(dir / "none.gz"); }), Contains("none.gz does not exist"));
  CHECK_THAT(message_of<DataError>([&] { InputStream(dir.path()); }), Contains("is a directory"));
  InputStream empty(dir.write("empty", ""));
  std::string line;
  CHECK_FALSE(empty.read_line(line));
}

TEST_CASE("input stream: every truncation of a gzip stream is noticed") {
  const TemporaryDirectory dir;
  std::string text;
  for (std::uint64_t i = 0; i < 2000; ++i) text += std::to_string(solvent::Key(1).bits(i)) + "\n";
  const std::string packed = gzip(text);
  for (std::size_t length = 2; length < packed.size(); length += 97) {
    const fs::path file = dir.write("cut.gz", packed.substr(0, length));
    std::string back(text.size(), '\0');
    const std::string message = message_of<DataError>([&] {
      InputStream stream(file);
      while (stream.read(back.data(), back.size()) > 0) {
      }
    });
    INFO("cut after " << length << " of " << packed.size() << ": " << message);
    CHECK_THAT(message, Contains("cut.gz is truncated or corrupt after"));
  }
}

TEST_CASE("input stream: a flipped bit in the data is noticed") {
  const TemporaryDirectory dir;
  std::string packed = gzip(std::string(5000, 'a') + "bcd");
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // the checksum
  const fs::path file = dir.write("bad.gz", packed);
  CHECK_THAT(message_of<DataError>([&] {
               InputStream stream(file);
               std::string line;
               while (stream.read_line(line)) {
               }
             }),
             Contains("truncated or corrupt") && Contains("Fetch it again"));
}

TEST_CASE("input stream: a line without end in a small compressed file does not eat the memory") {
  const TemporaryDirectory dir;
  const fs::path file = dir.write("bomb.ts.gz", gzip(std::string(80U << 20U, ' ')));
  CHECK_THAT(message_of<DataError>([&] { read_ts(file); }), Contains("has a line above 8 MiB"));
}

TEST_CASE("input stream: several gzip members, padding, and what follows") {
  const std::string text = "first", more = "second";
  const auto all = [](const std::string& bytes) {
    InputStream stream(span_of(bytes), "x");
    std::string out(100, '\0');
    out.resize(stream.read(out.data(), out.size()));
    return out;
  };
  CHECK(all(gzip(text) + gzip(more)) == "firstsecond");
  CHECK(all(gzip(text) + std::string(600, '\0')) == "first");
  CHECK(all(xz(text) + xz(more)) == "firstsecond");
  CHECK_THAT(message_of<DataError>([&] { all(gzip(text) + "junk"); }), Contains("other data behind the end"));
  CHECK(all("") == "");
  CHECK(all("\x1f") == "\x1f");
}

TEST_CASE("input stream: every truncation of an xz stream is noticed") {
  std::string text;
  for (std::uint64_t i = 0; i < 2000; ++i) text += std::to_string(solvent::Key(2).bits(i)) + "\n";
  const std::string packed = xz(text);
  for (std::size_t length = 6; length < packed.size(); length += 97) {
    const std::string cut = packed.substr(0, length);
    const std::string message = message_of<DataError>([&] {
      InputStream stream(span_of(cut), "cut.xz");
      std::string line;
      while (stream.read_line(line)) {
      }
    });
    INFO("cut after " << length << " of " << packed.size() << ": " << message);
    CHECK_THAT(message, Contains("cut.xz is truncated or corrupt after"));
  }
  std::string flipped = packed;
  flipped[packed.size() / 2] = static_cast<char>(flipped[packed.size() / 2] ^ 4);
  InputStream stream(span_of(flipped), "bad.xz");
  CHECK_THROWS_AS(stream.skip(1U << 20U), DataError);
}

TEST_CASE("input stream: an xz dictionary above the limit is refused, the largest preset is not") {
  std::string packed = xz("hello", 9);
  InputStream good(span_of(packed), "good.xz");
  std::string line;
  CHECK(good.read_line(line));
  // Block header from byte 12: its size / 4 - 1, flags, two sizes, filter 0x21, one byte of properties (37 asks for 1.5 GiB),
  // padding, checksum.
  REQUIRE(packed[16] == 0x21);
  packed[18] = 37;
  const std::size_t header = 4 * static_cast<std::size_t>(packed[12]);
  packed.replace(12 + header, 4, solvent::tests::little_endian(solvent::tests::crc32_of(packed.substr(12, header)), 4));
  InputStream bad(span_of(packed), "bad.xz");
  CHECK_THAT(message_of<DataError>([&] { bad.read_line(line); }), Contains("needs more than 128 MiB to decompress"));
}

TEST_CASE("input stream: progress counts the bytes before decompression and reaches the end") {
  const TemporaryDirectory dir;
  std::string text;
  for (std::uint64_t i = 0; i < 400000; ++i) text += std::to_string(solvent::Key(3).bits(i));
  const fs::path file = dir.write("a.gz", gzip(text));
  std::vector<std::uint64_t> seen;
  InputStream stream(file, [&](const std::string& name, std::uint64_t done, std::uint64_t total) {
    CHECK(name == file.string());
    CHECK(total == fs::file_size(file));
    CHECK((seen.empty() || done > seen.back()));
    seen.push_back(done);
  });
  stream.skip(text.size() + 1);
  CHECK(seen.size() >= 2);
  CHECK(seen.back() == fs::file_size(file));
}

TEST_CASE("read progress: a line on a terminal after half a second, gone at the end") {
  double now = 0;
  std::ostringstream out;
  const ReadProgress show = show_read_progress(out, true, [&] { return now; });
  show("dir/a.bin.xz", 10, 100);
  CHECK(out.str().empty());
  now = 0.7;
  show("dir/a.bin.xz", 43, 100);
  CHECK_THAT(out.str(), Contains("reading a.bin.xz  43%"));
  show("dir/a.bin.xz", 100, 100);
  CHECK_THAT(out.str(), Catch::Matchers::EndsWith("\r\x1b[K"));
  std::ostringstream plain;
  const ReadProgress lines = show_read_progress(plain, false, [&] { return now; });
  lines("b", 1, 100);
  now += 5;
  lines("b", 50, 100);
  CHECK(plain.str() == "reading b  50%\n");
}

// ---- idx ------------------------------------------------------------------------------------------------------------

TEST_CASE("idx: shape and bytes, plain and gzip") {
  const TemporaryDirectory dir;
  const std::string bytes = idx_bytes({2, 3}, "abcdef");
  for (const auto& file : {dir.write("a", bytes), dir.write("a.gz", gzip(bytes))}) {
    const IdxData data = read_idx(file);
    CHECK(data.shape == std::vector<std::int64_t>{2, 3});
    CHECK(data.bytes == std::vector<std::uint8_t>{'a', 'b', 'c', 'd', 'e', 'f'});
  }
  CHECK(read_idx(dir.write("none", idx_bytes({0, 28, 28}, ""))).bytes.empty());
}

TEST_CASE("idx: damaged files are refused with offset and expectation") {
  const TemporaryDirectory dir;
  struct Case {
    const char* name;
    std::string bytes, expected;
  };
  const std::string good = idx_bytes({2, 3}, "abcdef");
  const std::vector<Case> cases = {
      {"empty", "", "byte 0: the file ends inside the magic number"},
      {"short magic", good.substr(0, 3), "ends inside the magic number"},
      {"bad magic", "PNG\r" + good, "magic number 0x504e470d; expected 0x000008NN"},
      {"rank 0", big_endian(0x0800), "expected 0x000008NN with 1 to 8 axes"},
      {"rank 9", big_endian(0x0809), "expected 0x000008NN with 1 to 8 axes"},
      {"floats", idx_bytes({1}, "abcd", 0x0d), "byte 2: element type 0x0d; expected 0x08"},
      {"no sizes", good.substr(0, 6), "byte 4: the file ends inside the sizes"},
      {"truncated", good.substr(0, good.size() - 1), "byte 17: the file ends after 5 of 6 elements"},
      {"surplus", good + "g", "byte 18: there are bytes behind the 6 elements"},
      {"huge", idx_bytes({0xffffffff}, "ab"), "byte 4: the sizes claim more than the at most 10 bytes"},
      {"overflow", idx_bytes({0xffffffff, 0xffffffff, 0xffffffff}, "ab"), "the header is corrupt"},
      {"huge rank 8", idx_bytes({65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536}, ""), "the header is corrupt"},
  };
  for (const Case& c : cases) {
    const std::string message = message_of<DataError>([&] { read_idx(dir.write("bad.idx", c.bytes)); });
    INFO(c.name << ": " << message);
    CHECK_THAT(message, Contains("[read_idx]") && Contains("bad.idx") && Contains(c.expected));
  }
  // Compressed, the same few bytes may legally claim more, but not four gigabytes.
  CHECK_THAT(message_of<DataError>([&] { read_idx(dir.write("b.gz", gzip(idx_bytes({0xfffffff0}, "ab")))); }),
             Contains("the sizes claim more"));
}

TEST_CASE("mnist: images become series with values 0..1") {
  const TemporaryDirectory dir;
  const fs::path images =
      dir.write("i", idx_bytes({3, 2, 2}, std::string("\x00\xff\x33\x00", 4) + std::string(8, '\x01')));
  const fs::path labels = dir.write("l", idx_bytes({3}, std::string("\x07\x00\x09", 3)));
  const SequenceData data = pixel_series(read_mnist(images, labels));
  CHECK(data.size() == 3);
  CHECK(data.num_channels == 1);
  CHECK(data.lengths == std::vector<std::int64_t>{4, 4, 4});
  CHECK(data.labels == std::vector<std::int64_t>{7, 0, 9});
  CHECK(data.series(0)[1] == 1.0F);
  CHECK(data.series(0)[2] == Approx(0.2));
  CHECK(pixel_series(read_mnist(images, labels), 2).size() == 2);
  CHECK_THAT(message_of<DataError>([&] { read_mnist(images, dir.write("l2", idx_bytes({2}, "\x01\x02"))); }),
             Contains("have shapes (3, 2, 2) and (2)"));
  CHECK_THAT(message_of<DataError>([&] { read_mnist(images, dir.write("l3", idx_bytes({3}, "\x01\x02\x0a"))); }),
             Contains("label 2 is 10; expected 0 to 9"));
  CHECK_THROWS_AS(read_mnist(images, images), DataError);
}

TEST_CASE("idx: no mutation of a valid file crashes the reader") {
  const solvent::Key key(7);
  const std::string good = idx_bytes({3, 2, 2}, "abcdefghijkl");
  int refused = 0;
  for (std::uint64_t trial = 0; trial < 1000; ++trial) {
    const solvent::Key own = key.fold_in(trial);
    std::string bytes = good;
    bytes[own.bits(0) % bytes.size()] = static_cast<char>(own.bits(1));
    if (own.bits(2) % 3 == 0) bytes.resize(own.bits(3) % bytes.size());
    if (own.bits(4) % 2 == 0) bytes = gzip(bytes);
    try {
      const IdxData data = parse_idx(span_of(bytes));
      std::int64_t count = 1;
      for (const std::int64_t extent : data.shape) count *= extent;
      REQUIRE(count == static_cast<std::int64_t>(data.bytes.size()));
    } catch (const DataError&) {
      ++refused;
    }
  }
  CHECK(refused > 300);
}
