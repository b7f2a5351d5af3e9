#include "solvent/experiments/common/data/idx.h"

#include <array>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr int kMaxIdxRank = 8;

[[noreturn]] void fail(const InputStream& file, std::uint64_t offset, const std::string& problem) {
  throw DataError(fmt::format("[read_idx] {}: byte {}: {}", file.name(), offset, problem));
}

std::int64_t read_big_endian(InputStream& file, const char* what) {
  std::array<std::uint8_t, 4> bytes{};
  const std::uint64_t offset = file.offset();
  if (file.read(bytes.data(), bytes.size()) != bytes.size()) {
    fail(file, offset, fmt::format("the file ends inside the {}; expected 4 bytes. Fetch it again.", what));
  }
  std::int64_t value = 0;
  for (const std::uint8_t byte : bytes) value = value * 256 + byte;
  return value;
}

void set_element_type(const InputStream& file, std::int64_t type, IdxData& data) {
  data.is_signed = type != 0x08;
  switch (type) {
    case 0x08:
    case 0x09: data.element_bytes = 1; return;
    case 0x0b: data.element_bytes = 2; return;
    case 0x0c: data.element_bytes = 4; return;
    default:
      fail(file, 2,
           fmt::format("element type 0x{:02x}; expected 0x08 (unsigned bytes) or 0x09, 0x0b, 0x0c (integers of 1, 2, 4 "
                       "bytes)",
                       type));
  }
}

IdxData read(InputStream& file) {
  const std::int64_t magic = read_big_endian(file, "magic number");
  const std::int64_t type = magic >> 8, rank = magic & 0xff;
  if (magic >> 16 != 0 || rank < 1 || rank > kMaxIdxRank) {
    fail(file, 0,
         fmt::format("magic number 0x{:08x}; expected 0x000008NN with 1 to {} axes. Is this an idx file?", magic,
                     kMaxIdxRank));
  }
  IdxData data;
  set_element_type(file, type, data);
  auto bytes = static_cast<std::uint64_t>(data.element_bytes);
  for (std::int64_t axis = 0; axis < rank; ++axis) {
    const std::uint64_t offset = file.offset();
    const std::int64_t extent = read_big_endian(file, "sizes");
    data.shape.push_back(extent);
    // Bounded by what the file can hold before the product can overflow: max_size < 2^54, extent < 2^32.
    if (extent != 0 && bytes > file.max_size() / static_cast<std::uint64_t>(extent)) {
      fail(file, offset,
           fmt::format("the sizes claim more than the at most {} bytes that this file can hold; the header is corrupt. "
                       "Fetch it again.",
                       file.max_size()));
    }
    bytes *= static_cast<std::uint64_t>(extent);
  }
  const std::uint64_t start = file.offset();
  const std::uint64_t got = file.append(data.bytes, bytes);
  const auto size = static_cast<std::uint64_t>(data.element_bytes);
  if (got != bytes) {
    fail(file, start + got,
         fmt::format("the file ends after {} of {} elements. Fetch it again.", got / size, bytes / size));
  }
  char surplus = 0;
  if (file.read(&surplus, 1) != 0) {
    fail(file, start + got,
         fmt::format("there are bytes behind the {} elements that the header announces", bytes / size));
  }
  return data;
}

}  // namespace

std::int64_t IdxData::integer(std::int64_t i) const {
  const std::uint8_t* p = bytes.data() + i * element_bytes;
  std::int64_t value = is_signed && p[0] >= 0x80 ? -1 : 0;
  for (int k = 0; k < element_bytes; ++k) value = value * 256 + p[k];
  return value;
}

IdxData read_idx(const std::filesystem::path& path, const ReadProgress& progress) {
  InputStream file(path, progress);
  return read(file);
}

IdxData parse_idx(std::span<const std::byte> bytes, const std::string& name) {
  InputStream file(bytes, name);
  return read(file);
}

}  // namespace solvent::experiments
