#pragma once
/// The parser of `.npy` data behind load_npy, parse_npy and the members of `.npz` files. Internal to core.

#include "solvent/core/io/file_reader.h"
#include "solvent/core/tensor.h"

namespace solvent::detail {

/// Reads one array, which must fill the source. @throws IoError
Tensor read_npy(SequentialSource& file);

}  // namespace solvent::detail
