#pragma once
/// NumPy `.npy` files (format 1.0 to 3.0, C and Fortran order, little-endian f4, f8, i8, b1, u1).

#include <cstddef>
#include <span>
#include <string>

#include "solvent/core/tensor.h"

namespace solvent {

/// Writes format 1.0, C order, atomically (temporary file + rename). @throws IoError; DtypeError for bfloat16,
/// which the format does not know.
SOLVENT_API void save_npy(const std::string& path, const Tensor& t);

/// Reads a file; the claimed size is checked against the file size before allocating. @throws IoError
SOLVENT_API Tensor load_npy(const std::string& path);

/// The same from bytes in memory; `name` stands for the path in messages. @throws IoError
SOLVENT_API Tensor parse_npy(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace solvent
