#pragma once
/// Checkpoints in the safetensors format (8-byte little-endian header length, JSON header, raw data). Files open in
/// Python's `safetensors`, and the reverse. dtypes: F32, F64, BF16, I64, BOOL, U8.

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "solvent/core/tensor.h"

namespace solvent {

/// Contents of a safetensors file.
struct SafetensorsFile {
  std::vector<std::pair<std::string, Tensor>> tensors;  ///< in the order of the file's data
  std::map<std::string, std::string> metadata;          ///< the "__metadata__" entry
};

/// Writes to a temporary file beside `path`, flushes it to disk and renames it, so a full disk or a crash leaves an
/// existing file intact. @throws IoError; ValueError for duplicate or reserved names.
SOLVENT_API void save_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                                  const std::map<std::string, std::string>& metadata = {});

/// Reads and verifies everything before allocating: header length, JSON, dtypes, shapes, offsets (in range, no overlap,
/// no holes). @throws IoError saying what is wrong and where.
SOLVENT_API SafetensorsFile load_safetensors(const std::string& path);

/// The same from bytes in memory; `name` stands for the path in messages. @throws IoError
SOLVENT_API SafetensorsFile parse_safetensors(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace solvent
