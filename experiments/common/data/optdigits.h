#pragma once
/// UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998): 8 x 8 images with values 0 to 16.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "solvent/experiments/common/data/image_set.h"

namespace solvent::experiments {

/// Reads `optdigits.tra` or `.tes`: per line 64 integers 0 to 16 and the digit, separated by commas; plain, gzip or xz.
/// @throws DataError naming file, line and what was expected; MissingDataError.
ImageSet read_optdigits(const std::filesystem::path& file, const ReadProgress& progress = {});
/// The same from bytes in memory; `name` stands for the path in messages.
ImageSet parse_optdigits(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace solvent::experiments
