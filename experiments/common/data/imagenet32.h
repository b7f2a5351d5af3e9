#pragma once
/// ImageNet downsampled to 32 x 32 (Chrabaszcz, Loshchilov and Hutter 2017), the distributor's batches in `.npz` form:
/// `data` uint8 (n, 3072) as red, green and blue planes, `labels` int64 (n) from 1 to 1000.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "solvent/experiments/common/data/image_set.h"

namespace solvent::experiments {

struct ImageNet32Options {
  /// Keep these classes only (0-based), relabelled 0, 1, ... in this order; empty: all. Memory is that of what is kept,
  /// plus one batch.
  std::vector<std::int64_t> classes = {};
  ReadProgress progress = {};  ///< counts batches, not bytes
};

/// Images of one batch. Labels become 0 to 999.
/// @throws DataError naming the file if arrays are missing or have another shape or dtype, or a label is out of range.
ImageSet read_imagenet32(const std::filesystem::path& file, const ImageNet32Options& options = {});
/// The same from bytes in memory; `name` stands for the path in messages.
ImageSet parse_imagenet32(std::span<const std::byte> bytes, const std::string& name = "memory",
                          const ImageNet32Options& options = {});

/// Training and validation images from `folder` or `imagenet32/` in it: `train_data_batch_1.npz` to `..._10.npz` and
/// `val_data.npz`, there or in `out_data_train/` (`Imagenet32_train_npz/`) and `out_data_val/` (`Imagenet32_val_npz/`),
/// where the validation set may also be ten `train_data_batch_N.npz`. Training batches that are missing are left out:
/// `train.origin` says how many were found. The complete set takes 3.9 GB of memory.
/// @throws MissingDataError saying how to register for it; DataError as read_imagenet32().
ImageSplits load_imagenet32(const std::filesystem::path& folder, const ImageNet32Options& options = {});

/// Whether load_imagenet32() would find a training and a validation file.
bool has_imagenet32(const std::filesystem::path& folder);

}  // namespace solvent::experiments
