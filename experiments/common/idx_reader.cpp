#include <array>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "solvent/experiments/common/compressed_file.h"
#include "solvent/experiments/common/datasets.h"
#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr int kMaxIdxRank = 8;

[[noreturn]] void fail(const CompressedFile& file, std::uint64_t offset, const std::string& problem) {
  throw DataError(fmt::format("[read_idx] {}: byte {}: {}", file.path().string(), offset, problem));
}

std::int64_t read_big_endian(CompressedFile& file, const char* what) {
  std::array<std::uint8_t, 4> bytes{};
  const std::uint64_t offset = file.offset();
  if (file.read(bytes.data(), bytes.size()) != bytes.size()) {
    fail(file, offset, fmt::format("the file ends inside the {}; expected 4 bytes. Fetch it again.", what));
  }
  std::int64_t value = 0;
  for (const std::uint8_t byte : bytes) value = value * 256 + byte;
  return value;
}

}  // namespace

IdxData read_idx(const std::filesystem::path& path) {
  CompressedFile file(path);
  const std::int64_t magic = read_big_endian(file, "magic number");
  const std::int64_t type = magic >> 8, rank = magic & 0xff;
  if (magic >> 16 != 0 || rank < 1 || rank > kMaxIdxRank) {
    fail(file, 0,
         fmt::format("magic number 0x{:08x}; expected 0x000008NN with 1 to {} axes. Is this an idx file?", magic,
                     kMaxIdxRank));
  }
  if (type != 0x08) fail(file, 2, fmt::format("element type 0x{:02x}; expected 0x08 (unsigned bytes)", type));

  IdxData data;
  std::uint64_t count = 1;
  for (std::int64_t axis = 0; axis < rank; ++axis) {
    const std::uint64_t offset = file.offset();
    const std::int64_t extent = read_big_endian(file, "sizes");
    data.shape.push_back(extent);
    // The product is bounded by what the file can hold before it can overflow: max_size < 2^54, extent < 2^32.
    if (extent != 0 && count > file.max_size() / static_cast<std::uint64_t>(extent)) {
      fail(file, offset,
           fmt::format("the sizes claim more than the at most {} bytes that this file can hold; the "
                       "header is corrupt. Fetch it again.",
                       file.max_size()));
    }
    count *= static_cast<std::uint64_t>(extent);
  }
  const std::uint64_t start = file.offset();
  data.bytes.resize(count);
  const std::size_t got = file.read(data.bytes.data(), data.bytes.size());
  if (got != count) {
    fail(file, start + got, fmt::format("the file ends after {} of {} elements. Fetch it again.", got, count));
  }
  char surplus = 0;
  if (file.read(&surplus, 1) != 0) {
    fail(file, start + got, fmt::format("there are bytes behind the {} elements that the header announces", count));
  }
  return data;
}

SequenceData read_mnist(const std::filesystem::path& images_file, const std::filesystem::path& labels_file,
                        std::int64_t max_series) {
  constexpr std::int64_t kNumDigits = 10;
  const IdxData images = read_idx(images_file), labels = read_idx(labels_file);
  if (images.shape.size() != 3 || labels.shape.size() != 1 || images.shape[0] != labels.shape[0]) {
    throw DataError(fmt::format(
        "[read_mnist] {} has shape ({}) and {} has shape ({}); expected (n, height, width) and "
        "(n)",
        images_file.string(), fmt::join(images.shape, ", "), labels_file.string(), fmt::join(labels.shape, ", ")));
  }
  SequenceData data;
  data.name = "mnist";
  for (int digit = 0; digit < kNumDigits; ++digit) data.class_names.push_back(std::to_string(digit));
  const std::int64_t pixels = images.shape[1] * images.shape[2];
  if (pixels == 0) throw DataError(fmt::format("[read_mnist] {} holds images without pixels", images_file.string()));
  const std::int64_t count = max_series > 0 ? std::min(max_series, images.shape[0]) : images.shape[0];
  data.values.reserve(static_cast<std::size_t>(count * pixels));
  std::vector<float> series(static_cast<std::size_t>(pixels));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = labels.bytes[static_cast<std::size_t>(i)];
    if (label >= kNumDigits) {
      throw DataError(fmt::format("[read_mnist] {}: label {} is {}; expected 0 to 9", labels_file.string(), i, label));
    }
    const std::uint8_t* image = images.bytes.data() + i * pixels;
    for (std::size_t p = 0; p < series.size(); ++p) series[p] = static_cast<float>(image[p]) / 255.0F;
    data.append(series, label);
  }
  return data;
}

}  // namespace solvent::experiments
