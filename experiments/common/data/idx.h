#pragma once
/// The idx format of MNIST: big-endian header (two zero bytes, element type, number of axes, extents), row-major data.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "solvent/experiments/common/data/input_stream.h"

namespace solvent::experiments {

/// The array of an idx file of integers.
struct IdxData {
  std::vector<std::int64_t> shape;
  int element_bytes = 1;            ///< 1, 2 or 4
  bool is_signed = false;           ///< only bytes can be unsigned
  std::vector<std::uint8_t> bytes;  ///< elements as in the file, big-endian

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(bytes.size()) / element_bytes; }
  /// Element i in row-major order.
  [[nodiscard]] std::int64_t integer(std::int64_t i) const;
};

/// Reads an idx file, plain, gzip or xz. @throws DataError naming file and offset for a bad magic number, an element type
/// other than the integers 0x08, 0x09, 0x0b, 0x0c, sizes that the file cannot hold, missing or surplus bytes;
/// MissingDataError if there is no file.
IdxData read_idx(const std::filesystem::path& file, const ReadProgress& progress = {});

/// The same from bytes in memory; `name` stands for the path in messages.
IdxData parse_idx(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace solvent::experiments
