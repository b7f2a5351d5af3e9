#include "solvent/experiments/common/tensorboard.h"

#include <sys/wait.h>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/io/crc32c.h"
#include "solvent/tests/experiments/test_tools.h"

using solvent::experiments::TensorBoardWriter;
using solvent::experiments::testing::message_of;
using solvent::experiments::testing::read_text;
using solvent::experiments::testing::TemporaryDirectory;

namespace fs = std::filesystem;

namespace {

/// The data of all records; checks lengths and checksums.
std::vector<std::string> records_of(const fs::path& file) {
  const std::string bytes = read_text(file);
  std::vector<std::string> records;
  const auto crc_at = [&](std::size_t at) {
    std::uint32_t masked = 0;
    std::memcpy(&masked, bytes.data() + at, 4);
    masked -= 0xa282ead8u;
    return (masked >> 17) | (masked << 15);
  };
  for (std::size_t at = 0; at < bytes.size();) {
    REQUIRE(bytes.size() - at >= 16);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, 8);
    REQUIRE(length <= bytes.size() - at - 16);
    REQUIRE(crc_at(at + 8) == solvent::crc32c(bytes.data() + at, 8));
    REQUIRE(crc_at(at + 12 + length) == solvent::crc32c(bytes.data() + at + 12, length));
    records.push_back(bytes.substr(at + 12, length));
    at += 16 + length;
  }
  return records;
}

struct Field {
  std::uint64_t number = 0, integer = 0;
  std::string bytes;  // of wire types 1, 2, 5
};

/// Splits a protobuf message.
std::vector<Field> fields_of(std::string_view text) {
  std::vector<Field> fields;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      REQUIRE_FALSE(text.empty());
      const auto byte = static_cast<unsigned char>(text.front());
      text.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (!text.empty()) {
    const std::uint64_t key = varint();
    Field field{key >> 3, 0, {}};
    if ((key & 7) == 0) {
      field.integer = varint();
    } else {
      const std::size_t size = (key & 7) == 2 ? varint() : (key & 7) == 1 ? 8 : 4;
      REQUIRE(size <= text.size());
      field.bytes = text.substr(0, size);
      text.remove_prefix(size);
    }
    fields.push_back(field);
  }
  return fields;
}

float float_of(const std::string& bytes) {
  float value = 0;
  REQUIRE(bytes.size() == 4);
  std::memcpy(&value, bytes.data(), 4);
  return value;
}

}  // namespace

TEST_CASE("tensorboard: records, checksums and messages are as the formats say") {
  const TemporaryDirectory dir;
  fs::path file;
  {
    TensorBoardWriter writer(dir / "events");
    writer.scalars(std::vector<std::string>{"a", "b", "c"}, 300, std::vector<double>{0.5, std::nan(""), 1e300});
    writer.sync();
    file = writer.file();
  }
  CHECK_THAT(file.filename().string(), Catch::Matchers::StartsWith("events.out.tfevents."));
  const std::vector<std::string> records = records_of(file);
  REQUIRE(records.size() == 2);
  const std::vector<Field> version = fields_of(records[0]);
  REQUIRE(version.size() == 2);
  CHECK(version[1].number == 3);
  CHECK(version[1].bytes == "brain.Event:2");

  const std::vector<Field> event = fields_of(records[1]);
  REQUIRE(event.size() == 3);
  double wall_time = 0;
  std::memcpy(&wall_time, event[0].bytes.data(), 8);
  CHECK(wall_time > 1.6e9);
  CHECK(event[1].number == 2);
  CHECK(event[1].integer == 300);
  CHECK(event[2].number == 5);
  const std::vector<Field> values = fields_of(event[2].bytes);
  REQUIRE(values.size() == 2);  // the NaN is left out
  CHECK(fields_of(values[0].bytes)[0].bytes == "a");
  CHECK(float_of(fields_of(values[0].bytes)[1].bytes) == 0.5F);
  CHECK(fields_of(values[1].bytes)[0].bytes == "c");
  CHECK(std::isinf(float_of(fields_of(values[1].bytes)[1].bytes)));
}

TEST_CASE("tensorboard: wrong arguments and places are refused") {
  const TemporaryDirectory dir;
  TensorBoardWriter writer(dir / "events");
  const std::vector<std::uint8_t> pixels(12);
  CHECK_THROWS_AS(writer.image("x", 0, 2, 2, 4, pixels), solvent::ValueError);
  CHECK_THROWS_AS(writer.scalars(std::vector<std::string>{"a"}, 0, std::vector<double>{}), solvent::ValueError);
  CHECK_THROWS_AS(writer.histogram("x", 0, std::vector<double>{1}, 0), solvent::ValueError);
  dir.write("file", "");
  CHECK_THAT(message_of<solvent::IoError>([&] { TensorBoardWriter(dir / "file"); }),
             Catch::Contains("[tensorboard] cannot make") && Catch::Contains("writable"));
}

TEST_CASE("tensorboard: TensorBoard reads what was written") {
  const TemporaryDirectory dir;
  const std::vector<std::uint8_t> pixels(5 * 4 * 3, 128);
  {
    TensorBoardWriter first(dir / "events");
    for (int step = 0; step <= 8; ++step) {
      first.scalar("loss", step, step / 4.0);
      if (step % 2 == 0 && step < 5) first.scalar("test/accuracy", step, 0.5);
    }
    first.image("samples", 3, 5, 4, 3, pixels);
    first.histogram("weights", 4, std::vector<double>{-1, 0, 1, 2, 3, std::nan("")}, 4);
    first.text("note", 4, "gr\u00f6\u00dfer");
    TensorBoardWriter second(dir / "events", 5);  // resumed after step 5
    second.scalar("loss", 6, 100);
    second.scalar("loss", 7, 101);
  }
  const char* python = std::getenv("SOLVENT_PYTHON");
  const std::string command = std::string(python ? python : "python3") + " -B experiments/tensorboard_check.py '" +
                              (dir / "events").string() + "'";
  const int status = std::system(command.c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    WARN("skipped: tensorboard is not installed; SOLVENT_PYTHON may name a Python that has it");
    return;
  }
  CHECK(status == 0);
}
