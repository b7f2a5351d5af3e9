#include <zlib.h>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/experiments/common/batch_tensors.h"
#include "solvent/experiments/common/compressed_file.h"
#include "solvent/experiments/common/datasets.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;
using solvent::experiments::testing::read_text;
using solvent::experiments::testing::TemporaryDirectory;

namespace fs = std::filesystem;

namespace {

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);  // + 16: gzip wrapper
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24U), static_cast<char>(value >> 16U), static_cast<char>(value >> 8U),
          static_cast<char>(value)};
}

std::string idx_bytes(const std::vector<std::uint32_t>& shape, const std::string& data, std::uint32_t type = 0x08) {
  std::string bytes = big_endian(type << 8U | static_cast<std::uint32_t>(shape.size()));
  for (const std::uint32_t extent : shape) bytes += big_endian(extent);
  return bytes + data;
}

const std::string kTs =
    "\xef\xbb\xbf# a comment\r\n"
    "@problemName Demo\r\n"
    "@timeStamps false\r\n"
    "@missing false\r\n"
    "@univariate false\r\n"
    "@dimensions 2\r\n"
    "@equalLength false\r\n"
    "@classLabel true left right\r\n"
    "@data\r\n"
    "1,2,3:4,5,6:right\r\n"
    "\r\n"
    "# between\r\n"
    " 1.5E0 , -2e-1 : +7,8 : left \r\n";

/// A one-channel file with the given data lines.
std::string univariate(const std::string& lines, const std::string& header = "@classLabel true a b\n") {
  return "@problemName P\n@univariate true\n" + header + "@data\n" + lines;
}

/// Folder with the real data, or empty.
fs::path real_data() {
  const char* folder = std::getenv("SOLVENT_DATA");
  return folder ? folder : "";
}

bool skip_without(const fs::path& file) {
  if (!real_data().empty() && fs::exists(file)) return false;
  WARN("skipped: set SOLVENT_DATA to the folder with " << file.filename().string());
  return true;
}

/// Sets an environment variable for a scope.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    const char* before = std::getenv(name);
    had_ = before != nullptr;
    if (before) previous_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() { had_ ? setenv(name_, previous_.c_str(), 1) : unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::string previous_;
  bool had_ = false;
};

}  // namespace

// ---- compressed files -----------------------------------------------------------------------------------------------

TEST_CASE("compressed file: plain and gzip deliver the same bytes and lines") {
  const TemporaryDirectory dir;
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i) + (i % 2 ? "\r\n" : "\n");
  text += "last";
  for (const auto& file : {dir.write("a.txt", text), dir.write("a.gz", gzip(text))}) {
    CompressedFile lines(file);
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
    CompressedFile bytes(file);
    std::string back(text.size() + 10, '\0');
    CHECK(bytes.read(back.data(), back.size()) == text.size());
    back.resize(text.size());
    CHECK(back == text);
  }
}

TEST_CASE("compressed file: missing files, folders and an empty file") {
  const TemporaryDirectory dir;
  CHECK_THAT(message_of<MissingDataError>([&] { CompressedFile(dir / "none.gz"); }),
             Contains("none.gz does not exist"));
  CHECK_THAT(message_of<DataError>([&] { CompressedFile(dir.path()); }), Contains("is a directory"));
  CompressedFile empty(dir.write("empty", ""));
  std::string line;
  CHECK_FALSE(empty.read_line(line));
}

TEST_CASE("compressed file: every truncation of a gzip stream is noticed") {
  const TemporaryDirectory dir;
  std::string text;
  for (std::uint64_t i = 0; i < 2000; ++i) text += std::to_string(solvent::Key(1).bits(i)) + "\n";
  const std::string packed = gzip(text);
  for (std::size_t length = 2; length < packed.size(); length += 97) {
    const fs::path file = dir.write("cut.gz", packed.substr(0, length));
    std::string back(text.size(), '\0');
    const std::string message = message_of<DataError>([&] {
      CompressedFile stream(file);
      while (stream.read(back.data(), back.size()) > 0) {
      }
    });
    INFO("cut after " << length << " of " << packed.size() << ": " << message);
    CHECK_THAT(message, Contains("cut.gz is truncated or corrupt after"));
  }
}

TEST_CASE("compressed file: a flipped bit in the data is noticed") {
  const TemporaryDirectory dir;
  std::string packed = gzip(std::string(5000, 'a') + "bcd");
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // the checksum
  const fs::path file = dir.write("bad.gz", packed);
  CHECK_THAT(message_of<DataError>([&] {
               CompressedFile stream(file);
               std::string line;
               while (stream.read_line(line)) {
               }
             }),
             Contains("truncated or corrupt") && Contains("Fetch it again"));
}

TEST_CASE("compressed file: a line without end in a small compressed file does not eat the memory") {
  const TemporaryDirectory dir;
  const fs::path file = dir.write("bomb.ts.gz", gzip(std::string(80U << 20U, ' ')));
  CHECK_THAT(message_of<DataError>([&] { read_ts(file); }), Contains("has a line above 64 MiB"));
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
  const SequenceData data = read_mnist(images, labels);
  CHECK(data.size() == 3);
  CHECK(data.num_channels == 1);
  CHECK(data.lengths == std::vector<std::int64_t>{4, 4, 4});
  CHECK(data.labels == std::vector<std::int64_t>{7, 0, 9});
  CHECK(data.series(0)[1] == 1.0F);
  CHECK(data.series(0)[2] == Approx(0.2));
  CHECK(read_mnist(images, labels, 2).size() == 2);
  CHECK_THAT(message_of<DataError>([&] { read_mnist(images, dir.write("l2", idx_bytes({2}, "\x01\x02"))); }),
             Contains("has shape (3, 2, 2)") && Contains("has shape (2)"));
  CHECK_THAT(message_of<DataError>([&] { read_mnist(images, dir.write("l3", idx_bytes({3}, "\x01\x02\x0a"))); }),
             Contains("label 2 is 10; expected 0 to 9"));
  CHECK_THROWS_AS(read_mnist(images, images), DataError);
}

// ---- ts -------------------------------------------------------------------------------------------------------------

TEST_CASE("ts: comments, CRLF, byte order mark, several channels, unequal lengths") {
  const TemporaryDirectory dir;
  for (const auto& file : {dir.write("d.ts", kTs), dir.write("d.ts.gz", gzip(kTs))}) {
    const SequenceData data = read_ts(file);
    CHECK(data.name == "Demo");
    CHECK(data.num_channels == 2);
    CHECK(data.lengths == std::vector<std::int64_t>{3, 2});
    CHECK(data.labels == std::vector<std::int64_t>{1, 0});
    CHECK(data.class_names == std::vector<std::string>{"left", "right"});
    CHECK(data.values == std::vector<float>{1, 4, 2, 5, 3, 6, 1.5F, 7, -0.2F, 8});
  }
}

TEST_CASE("ts: one channel without the optional headers, no newline at the end") {
  const TemporaryDirectory dir;
  const SequenceData data = read_ts(dir.write("u.ts", "@classLabel true a b\n@data\n1,2:a\n3:b"));
  CHECK(data.num_channels == 1);
  CHECK(data.lengths == std::vector<std::int64_t>{2, 1});
  CHECK(data.name == "u.ts");
}

TEST_CASE("ts: damaged and unsupported files are refused with line and expectation") {
  const TemporaryDirectory dir;
  struct Case {
    std::string text, expected;
  };
  const std::vector<Case> cases = {
      {"", "bad.ts:0: the file ends before @data"},
      {"@problemName X\n", "bad.ts:1: the file ends before @data"},
      {univariate(""), "there is no series after @data"},
      {"1,2,3\n", "bad.ts:1: \"1,2,3\" before @data"},
      {"@data\n1:a\n", "bad.ts:1: @data without @classLabel"},
      {"@classLabel false\n@data\n1\n", "bad.ts:1: series without class labels are not supported"},
      {"@classLabel true\n", "expected @classLabel true NAME ..."},
      {"@classLabel true a b a\n", "class \"a\" is named twice"},
      {"@targetLabel true\n", "bad.ts:1: @targetLabel marks a regression problem"},
      {"@timeStamps true\n", "time stamps are not supported"},
      {"@univariate perhaps\n", "@univariate needs true or false"},
      {"@dimensions 0\n", "@dimensions needs a positive integer"},
      {"@dimensions 99999999999999999999\n", "@dimensions needs a positive integer"},
      {"@seriesLength -3\n", "@seriesLength needs a positive integer"},
      {univariate("1,2,3\n"), "bad.ts:5: no colon with a class label"},
      {univariate("1,2:a\n1,2:c\n"), "bad.ts:6: class \"c\" behind the last colon; expected one of a, b"},
      {univariate("1,2:\n"), "class \"\" behind the last colon"},
      {univariate("1,?,3:a\n"), "value 2 of channel 1 is missing (?); missing values are not supported"},
      {univariate("1,x,3:a\n"), "value 2 of channel 1 is \"x\"; expected a finite number"},
      {univariate("1,,3:a\n"), "value 2 of channel 1 is \"\""},
      {univariate("1,2,:a\n"), "value 3 of channel 1 is \"\""},
      {univariate(":a\n"), "value 1 of channel 1 is \"\""},
      {univariate("1,nan:a\n"), "value 2 of channel 1 is \"nan\"; expected a finite number"},
      {univariate("1,1e39:a\n"), "is \"1e39\"; expected a finite number"},
      {univariate("1,1e999:a\n"), "is \"1e999\""},
      {univariate("0x10:a\n"), "is \"0x10\""},
      {univariate("1,2:3,4:a\n"), "the series has 2 channels; expected 1"},
      {"@dimensions 3\n@classLabel true a\n@data\n1:2:a\n", "the series has 2 channels; expected 3"},
      {"@classLabel true a\n@data\n1,2:3:a\n", "channel 2 has 1 values, channel 1 has 2; expected equally many"},
      {"@classLabel true a\n@data\n1:3,4,5:a\n", "channel 2 has 3 values, channel 1 has 1"},
      {"@equalLength true\n@classLabel true a\n@data\n1,2:a\n1:a\n",
       "bad.ts:5: the series has 1 steps; expected 2 (@equalLength true)"},
      {"@equalLength true\n@seriesLength 3\n@classLabel true a\n@data\n1,2:a\n", "the series has 2 steps; expected 3"},
      {std::string("@classLabel true a\n@data\n1,\0,2:a\n", 33), "is \"\\x00\"; expected a finite number"},
      {univariate("1,2:" + std::string(500, 'z') + "\n"), "zzz...\" behind the last colon"},
      {"(2020-01-01,1):a\n", "before @data"},
  };
  for (const Case& c : cases) {
    const std::string message = message_of<DataError>([&] { read_ts(dir.write("bad.ts", c.text)); });
    INFO(c.text << " -> " << message);
    CHECK_THAT(message, Contains("[read_ts]") && Contains(c.expected));
    CHECK(message.size() < 400);
  }
}

TEST_CASE("ts: no mutation of a valid file crashes the reader") {
  const TemporaryDirectory dir;
  const solvent::Key key(20240131);
  int accepted = 0, refused = 0;
  for (std::uint64_t trial = 0; trial < 1500; ++trial) {
    const solvent::Key own = key.fold_in(trial);
    std::string text = kTs;
    const int edits = 1 + static_cast<int>(own.bits(0) % 4);
    for (int e = 0; e < edits; ++e) {
      const auto word = static_cast<std::uint64_t>(1 + 3 * e);
      const std::size_t at = own.bits(word) % text.size();
      constexpr std::string_view kPieces = ",:?@\n\r\0 -e9.#\xff";
      const char piece = kPieces[own.bits(word + 1) % kPieces.size()];
      switch (own.bits(word + 2) % 4) {
        case 0: text[at] = piece; break;
        case 1: text.insert(at, 1, piece); break;
        case 2: text.erase(at, 1 + own.bits(word + 1) % 9); break;
        default: text.resize(at + 1); break;
      }
      if (text.empty()) text = " ";
    }
    const fs::path file = dir.write("fuzz.ts", text);
    try {
      const SequenceData data = read_ts(file);
      ++accepted;
      const std::int64_t steps = std::accumulate(data.lengths.begin(), data.lengths.end(), std::int64_t{0});
      REQUIRE(static_cast<std::int64_t>(data.values.size()) == steps * data.num_channels);
      REQUIRE(data.labels.size() == data.lengths.size());
      for (const float value : data.values) REQUIRE(std::isfinite(value));
    } catch (const DataError& e) {
      ++refused;
      REQUIRE(std::string(e.what()).find("[read_ts]") == 0);
    }
  }
  CHECK(accepted > 100);
  CHECK(refused > 500);
}

TEST_CASE("idx: no mutation of a valid file crashes the reader") {
  const TemporaryDirectory dir;
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
      const IdxData data = read_idx(dir.write("fuzz.idx", bytes));
      std::int64_t count = 1;
      for (const std::int64_t extent : data.shape) count *= extent;
      REQUIRE(count == static_cast<std::int64_t>(data.bytes.size()));
    } catch (const DataError&) {
      ++refused;
    }
  }
  CHECK(refused > 300);
}

// ---- finding data ---------------------------------------------------------------------------------------------------

TEST_CASE("data: the folder is the option's, else SOLVENT_DATA, else data") {
  {
    const Environment environment("SOLVENT_DATA", "/from/environment");
    CHECK(data_directory("/asked") == "/asked");
    CHECK(data_directory("") == "/from/environment");
  }
  const Environment environment("SOLVENT_DATA", "");
  CHECK(data_directory("") == "data");
}

TEST_CASE("data: a missing set names the places and the command that fetches it") {
  const TemporaryDirectory dir;
  const std::string folder = dir.path().string();
  CHECK_FALSE(has_dataset("acsf1", folder));
  const std::string message = message_of<MissingDataError>([&] { load_dataset("acsf1", folder); });
  CHECK_THAT(message, Contains(folder) && Contains("timeseries/ACSF1_TRAIN.ts") &&
                          Contains("`scripts/get-data acsf1`") && Contains("--data-dir DIR or SOLVENT_DATA"));
  CHECK_THAT(message_of<MissingDataError>([&] { load_dataset("mnist", folder); }),
             Contains("`scripts/get-data mnist`"));
  CHECK_THAT(message_of<MissingDataError>([&] { load_dataset("eigenworms", folder + "/none"); }),
             Contains("Download it from timeseriesclassification.com"));
  CHECK_THAT(message_of<solvent::ValueError>([&] { load_dataset("acfs1", folder); }), Contains("did you mean acsf1?"));
}

TEST_CASE("data: archive sets are found in three layouts and must fit together") {
  const std::string train = univariate("1,2:a\n3,4:b\n5,6:a\n"), test = univariate("7,8:b\n");
  for (const std::string layout : {"timeseries/", "ACSF1/", ""}) {
    const TemporaryDirectory dir;
    dir.write(layout + "ACSF1_TRAIN.ts", train);
    dir.write(layout + "ACSF1_TEST.ts.gz", gzip(test));
    REQUIRE(has_dataset("acsf1", dir.path().string()));
    const DataSplits data = load_dataset("acsf1", dir.path().string());
    CHECK(data.train.size() == 3);
    CHECK(data.test.labels == std::vector<std::int64_t>{1});
    CHECK(load_dataset("acsf1", dir.path().string(), 2).train.size() == 2);
  }
  const TemporaryDirectory dir;
  dir.write("ACSF1_TRAIN.ts", train);
  dir.write("ACSF1_TEST.ts", univariate("1:z\n", "@classLabel true z\n"));
  CHECK_THAT(message_of<DataError>([&] { load_dataset("acsf1", dir.path().string()); }),
             Contains("differ in classes or channels"));
}

TEST_CASE("data: generated orbits need no files and are balanced") {
  const DataSplits data = load_dataset("orbits", "/nowhere", 20);
  CHECK(data.origin == "generated");
  CHECK(data.train.size() == 20);
  CHECK(data.train.class_counts() == std::vector<std::int64_t>{4, 4, 4, 4, 4});
  CHECK(data.test.class_names == data.train.class_names);
  CHECK(data.train.class_names.front() == "e 0.42-0.51");
  CHECK(data.train.class_names.back() == "e 0.00-0.12");
}

// ---- series and batches ---------------------------------------------------------------------------------------------

TEST_CASE("series: batches are time-major and padded with zeros") {
  const TemporaryDirectory dir;
  const SequenceData data = read_ts(dir.write("d.ts", kTs));
  const std::vector<std::int64_t> both = {1, 0};
  const SequenceBatch batch = gather_batch(data, both);
  CHECK(batch.num_steps == 3);
  CHECK(batch.batch == 2);
  CHECK(batch.num_channels == 2);
  CHECK(batch.values == std::vector<float>{1.5F, 7, 1, 4, -0.2F, 8, 2, 5, 0, 0, 3, 6});
  CHECK(batch.lengths == std::vector<std::int64_t>{2, 3});
  CHECK(batch.labels == std::vector<std::int64_t>{0, 1});
  CHECK(gather_batch(data, both, 5).values.size() == 20);
  CHECK_THAT(message_of<solvent::ValueError>([&] { gather_batch(data, both, 2); }),
             Contains("a series has 3 steps; expected at most num_steps = 2"));
  const std::vector<std::int64_t> wrong = {2};
  CHECK_THROWS_AS(gather_batch(data, wrong), solvent::ValueError);
  CHECK_THROWS_AS(gather_batch(data, {}), solvent::ValueError);
}

TEST_CASE("series: tensors of a batch carry weights that average over the valid steps") {
  const TemporaryDirectory dir;
  const std::vector<std::int64_t> both = {1, 0};
  const SequenceBatch batch = gather_batch(read_ts(dir.write("d.ts", kTs)), both);
  const BatchTensors single = to_tensors(batch), twice = to_tensors(batch, solvent::float64);
  CHECK(single.values.shape() == solvent::Shape{3, 2, 2});
  CHECK(single.values.to_vector<float>() == batch.values);
  CHECK(twice.values.dtype() == solvent::float64);
  CHECK(single.labels.to_vector<std::int64_t>() == batch.labels);
  CHECK(twice.time_weights.shape() == solvent::Shape{3, 2, 1});
  CHECK(twice.time_weights.to_vector<double>() == std::vector<double>{0.5, 1.0 / 3, 0.5, 1.0 / 3, 0, 1.0 / 3});
  CHECK_THROWS_AS(to_tensors(batch, solvent::int64), solvent::DtypeError);
}

TEST_CASE("series: subset, pooling and standardisation") {
  const TemporaryDirectory dir;
  SequenceData data = read_ts(dir.write("d.ts", kTs));
  const std::vector<std::int64_t> second = {1};
  CHECK(subset(data, second).values == std::vector<float>{1.5F, 7, -0.2F, 8});
  const SequenceData pooled = mean_pool(data, 2);
  CHECK(pooled.lengths == std::vector<std::int64_t>{2, 1});
  CHECK(pooled.values == std::vector<float>{1.5F, 4.5F, 3, 6, 0.65F, 7.5F});
  CHECK_THROWS_AS(mean_pool(data, 0), solvent::ValueError);
  const ChannelStatistics before = channel_statistics(data);
  CHECK(before.mean[1] == Approx(6));
  standardize(data, before);
  const ChannelStatistics after = channel_statistics(data);
  for (int c = 0; c < 2; ++c) {
    CHECK(after.mean[static_cast<std::size_t>(c)] == Approx(0).margin(1e-6));
    CHECK(after.stddev[static_cast<std::size_t>(c)] == Approx(1));
  }
  SequenceData constant;
  constant.class_names = {"a"};
  constant.append(std::vector<float>{3, 3, 3}, 0);
  standardize(constant, channel_statistics(constant));
  CHECK(constant.values == std::vector<float>{0, 0, 0});
  CHECK_THROWS_AS(constant.append(std::vector<float>{}, 0), solvent::ValueError);
  CHECK_THROWS_AS(constant.append(std::vector<float>{1}, 1), solvent::ValueError);
}

// ---- the real files -------------------------------------------------------------------------------------------------

TEST_CASE("real data: ACSF1 and PLAID as their archive describes them") {
  if (skip_without(real_data() / "timeseries/ACSF1_TRAIN.ts.gz")) return;
  const DataSplits acsf1 = load_dataset("acsf1", "");
  for (const SequenceData* part : {&acsf1.train, &acsf1.test}) {
    CHECK(part->name == "ACSF1");
    CHECK(part->size() == 100);
    CHECK(part->min_length() == 1460);
    CHECK(part->max_length() == 1460);
    CHECK(part->class_counts() == std::vector<std::int64_t>(10, 10));
  }
  const DataSplits plaid = load_dataset("plaid", "");
  CHECK(plaid.train.size() == 537);
  CHECK(plaid.test.size() == 537);
  CHECK(plaid.train.num_classes() == 11);
  CHECK(plaid.train.min_length() == 100);
  CHECK(plaid.train.max_length() == 1344);
  CHECK(plaid.test.min_length() == 134);
  CHECK(plaid.test.max_length() == 1000);
  CHECK(plaid.train.series(0)[0] == 0.17339F);
}

TEST_CASE("real data: MNIST") {
  if (skip_without(real_data() / "mnist/train-images-idx3-ubyte.gz")) return;
  const DataSplits mnist = load_dataset("mnist", "", 1000);
  CHECK(mnist.train.size() == 1000);
  CHECK(mnist.train.max_length() == 784);
  CHECK(std::vector<std::int64_t>(mnist.train.labels.begin(), mnist.train.labels.begin() + 8) ==
        std::vector<std::int64_t>{5, 0, 4, 1, 9, 2, 1, 3});
  CHECK(std::vector<std::int64_t>(mnist.test.labels.begin(), mnist.test.labels.begin() + 5) ==
        std::vector<std::int64_t>{7, 2, 1, 0, 4});
  const IdxData images = read_idx(real_data() / "mnist/train-images-idx3-ubyte.gz");
  CHECK(images.shape == std::vector<std::int64_t>{60000, 28, 28});
  double sum = 0;
  for (const std::uint8_t byte : images.bytes) sum += byte;
  CHECK(sum / 255 / static_cast<double>(images.bytes.size()) == Approx(0.1306604762738429));  // the published mean
}
