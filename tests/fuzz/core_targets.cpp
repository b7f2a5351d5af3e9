// Readers of core: safetensors, npy, npz.

#include <cstring>
#include <set>
#include <string>

#include "solvent/core/error.h"
#include "solvent/core/io/npy.h"
#include "solvent/core/io/npz.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/core/io/zip.h"
#include "solvent/tests/fuzz/targets.h"

namespace solvent::fuzz {

namespace {

std::size_t bytes_of(const Tensor& t) { return static_cast<std::size_t>(t.numel()) * size_of(t.dtype()); }

/// Touches every element, so that a tensor larger than its memory is noticed.
void read_all(const Tensor& t) {
  switch (t.dtype()) {
    case DType::float32: static_cast<void>(t.to_vector<float>()); break;
    case DType::float64: static_cast<void>(t.to_vector<double>()); break;
    case DType::int64: static_cast<void>(t.to_vector<std::int64_t>()); break;
    case DType::uint8: static_cast<void>(t.to_vector<std::uint8_t>()); break;
    case DType::bfloat16: static_cast<void>(t.to_vector<BFloat16>()); break;
    case DType::boolean: static_cast<void>(t.to_vector<bool>()); break;
  }
}

}  // namespace

void run_safetensors(Bytes bytes) {
  try {
    const SafetensorsFile file = parse_safetensors(bytes);
    std::set<std::string> names;
    std::size_t total = 0;
    for (const auto& [name, tensor] : file.tensors) {
      require(names.insert(name).second, "two tensors of one name");
      require(tensor.is_contiguous(), "tensor with gaps");
      total += bytes_of(tensor);
      read_all(tensor);
    }
    require(total <= bytes.size(), "more data than the file has");
  } catch (const IoError&) {
  }
}

void run_npy(Bytes bytes) {
  try {
    const Tensor tensor = parse_npy(bytes);
    require(bytes_of(tensor) <= bytes.size(), "more data than the file has");
    read_all(tensor);
  } catch (const IoError&) {
  }
}

void run_npz(Bytes bytes) {
  constexpr std::uint64_t kMaxUnpacked = 1 << 20;  // what unpacks further is data that was asked for, not overhead
  try {
    const ZipArchive archive(bytes);
    std::uint64_t total = 0;
    for (const ZipEntry& entry : archive.entries()) {
      require(entry.header_offset < bytes.size() && entry.packed_size <= bytes.size(), "a member outside the file");
      total += entry.size < kMaxUnpacked ? entry.size : kMaxUnpacked;
      if (total >= kMaxUnpacked) return;
    }
    for (const ZipEntry& entry : archive.entries()) try {
        require(archive.read(entry, kMaxUnpacked).size() == entry.size, "a member of another size than it claims");
      } catch (const IoError&) {
      }
    for (const auto& [name, tensor] : parse_npz(bytes)) read_all(tensor);
  } catch (const IoError&) {
  }
}

}  // namespace solvent::fuzz
