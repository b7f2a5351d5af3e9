// Protobuf's wire format: each field is a key (number << 3 | wire type) and a value; wire types 0 varint, 1 eight bytes,
// 2 length and bytes, 5 four bytes. Field numbers from tensorflow/core/util/event.proto and core/framework/summary.proto,
// tensor.proto.
#include "solvent/experiments/common/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/io/crc32c.h"
#include "solvent/experiments/common/canvas.h"

namespace solvent::experiments {

namespace {

// Event
constexpr std::uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
// Summary, Summary.Value
constexpr std::uint32_t kValue = 1;
constexpr std::uint32_t kTag = 1, kSimpleValue = 2, kImage = 4, kHistogram = 5, kTensor = 8, kMetadata = 9;
// SessionLog
constexpr std::uint32_t kStatus = 1;
constexpr std::uint64_t kStart = 1;

class Message {
 public:
  Message& integer(std::uint32_t field, std::uint64_t value) {
    key(field, 0);
    varint(value);
    return *this;
  }
  Message& real(std::uint32_t field, double value) {
    key(field, 1);
    raw(&value, sizeof value);
    return *this;
  }
  Message& small_real(std::uint32_t field, float value) {
    key(field, 5);
    raw(&value, sizeof value);
    return *this;
  }
  Message& bytes(std::uint32_t field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    text_ += value;
    return *this;
  }
  Message& message(std::uint32_t field, const Message& value) { return bytes(field, value.text_); }
  Message& reals(std::uint32_t field, std::span<const double> values) {  // packed
    return bytes(field, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void key(std::uint32_t field, std::uint32_t wire_type) { varint(field << 3 | wire_type); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
    text_ += static_cast<char>(value);
  }
  void raw(const void* data, std::size_t bytes) { text_.append(static_cast<const char*>(data), bytes); }

  std::string text_;
};

// TFRecord stores checksums masked, because a checksum of data that hold checksums is weak.
std::uint32_t masked_crc(const void* data, std::size_t bytes) {
  const std::uint32_t crc = crc32c(data, bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

float narrow(double value) {
  const auto limit = static_cast<double>(std::numeric_limits<float>::max());
  if (std::abs(value) <= limit || !std::isfinite(value)) return static_cast<float>(value);
  return value > 0 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "localhost";
}

Message summary_of(std::string_view tag, std::uint32_t field, const Message& content) {
  Message value;
  value.bytes(kTag, tag).message(field, content);
  return Message().message(kValue, value);
}

}  // namespace

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& directory, std::int64_t resumed_after) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  static std::atomic<int> count{0};  // TensorBoard reads the files of a folder in the order of their names
  file_ = directory / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", now, host_name(), ::getpid(), count++);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    throw IoError(fmt::format("[tensorboard] cannot make {}: {}; is the run directory writable?", file_.string(),
                              std::strerror(errno)));
  write_event(0, kFileVersion, "brain.Event:2");
  if (resumed_after >= 0) write_event(resumed_after + 1, kSessionLog, Message().integer(kStatus, kStart).text());
}

TensorBoardWriter::~TensorBoardWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void TensorBoardWriter::scalar(std::string_view tag, std::int64_t step, double value) {
  Message entry;
  entry.bytes(kTag, tag).small_real(kSimpleValue, narrow(value));
  write_event(step, kSummary, Message().message(kValue, entry).text());
}

void TensorBoardWriter::scalars(std::span<const std::string> tags, std::int64_t step, std::span<const double> values) {
  if (tags.size() != values.size())
    throw ValueError(
        fmt::format("[tensorboard] got {} tags and {} values; expected as many", tags.size(), values.size()));
  Message summary;
  for (std::size_t i = 0; i < tags.size(); ++i) {
    if (std::isnan(values[i])) continue;
    Message entry;
    entry.bytes(kTag, tags[i]).small_real(kSimpleValue, narrow(values[i]));
    summary.message(kValue, entry);
  }
  if (!summary.text().empty()) write_event(step, kSummary, summary.text());
}

void TensorBoardWriter::image(std::string_view tag, std::int64_t step, int width, int height, int channels,
                              std::span<const std::uint8_t> pixels) {
  Message image;  // height, width, colorspace (1 grey, 3 RGB, 4 RGBA), encoded_image_string
  image.integer(1, static_cast<std::uint64_t>(height))
      .integer(2, static_cast<std::uint64_t>(width))
      .integer(3, static_cast<std::uint64_t>(channels))
      .bytes(4, encode_png(width, height, channels, pixels));
  write_event(step, kSummary, summary_of(tag, kImage, image).text());
}

void TensorBoardWriter::text(std::string_view tag, std::int64_t step, std::string_view markdown) {
  constexpr std::uint64_t kString = 7;  // DataType DT_STRING
  Message shape;                        // one axis of extent 1
  shape.message(2, Message().integer(1, 1));
  Message tensor;  // dtype, tensor_shape, string_val
  tensor.integer(1, kString).message(2, shape).bytes(8, markdown);
  Message metadata;  // plugin_data { plugin_name }
  metadata.message(1, Message().bytes(1, "text"));
  Message value;
  value.bytes(kTag, tag).message(kTensor, tensor).message(kMetadata, metadata);
  write_event(step, kSummary, Message().message(kValue, value).text());
}

void TensorBoardWriter::histogram(std::string_view tag, std::int64_t step, std::span<const double> values, int bins) {
  if (bins < 1) throw ValueError(fmt::format("[tensorboard] got {} bins; expected at least 1", bins));
  double low = std::numeric_limits<double>::infinity(), high = -low, total = 0, squares = 0;
  double count = 0;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    low = std::min(low, v);
    high = std::max(high, v);
    total += v;
    squares += v * v;
    count += 1;
  }
  if (count == 0) return;
  const double width = high > low ? (high - low) / bins : 1;
  std::vector<double> limits(static_cast<std::size_t>(bins)), counts(static_cast<std::size_t>(bins));
  for (std::size_t i = 0; i < limits.size(); ++i) limits[i] = low + width * static_cast<double>(i + 1);
  limits.back() = std::max(limits.back(), high);
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    const auto bin = static_cast<std::size_t>((v - low) / width);
    counts[std::min(bin, counts.size() - 1)] += 1;
  }
  Message histogram;  // min, max, num, sum, sum_squares, bucket_limit, bucket
  histogram.real(1, low).real(2, high).real(3, count).real(4, total).real(5, squares);
  histogram.reals(6, limits).reals(7, counts);
  write_event(step, kSummary, summary_of(tag, kHistogram, histogram).text());
}

void TensorBoardWriter::sync() {
  if (::fsync(descriptor_) != 0)
    throw IoError(fmt::format("[tensorboard] cannot flush {}: {}", file_.string(), std::strerror(errno)));
}

void TensorBoardWriter::write_event(std::int64_t step, std::uint32_t field, std::string_view payload) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  Message event;
  event.real(kWallTime, now.count());
  if (step != 0) event.integer(kStep, static_cast<std::uint64_t>(step));
  event.bytes(field, payload);
  write_record(event.text());
}

void TensorBoardWriter::write_record(std::string_view data) {
  const std::uint64_t length = data.size();
  const std::uint32_t length_crc = masked_crc(&length, sizeof length), data_crc = masked_crc(data.data(), data.size());
  std::string record(reinterpret_cast<const char*>(&length), sizeof length);
  record.append(reinterpret_cast<const char*>(&length_crc), sizeof length_crc);
  record.append(data);
  record.append(reinterpret_cast<const char*>(&data_crc), sizeof data_crc);
  for (std::string_view rest = record; !rest.empty();) {  // one call unless the disk is full or a signal arrives
    const ssize_t n = ::write(descriptor_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      throw IoError(fmt::format("[tensorboard] cannot write {}: {}; events written before are intact", file_.string(),
                                std::strerror(errno)));
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace solvent::experiments
