#include "solvent/experiments/common/data/imagenet32.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "solvent/core/io/npz.h"
#include "solvent/core/tensor.h"
#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kNumClasses = 1000, kPixels = 3072, kNumBatches = 10;

ImageSet empty_set(const ImageNet32Options& options) {
  ImageSet set;
  set.name = "imagenet32";
  set.channels = 3;
  set.height = set.width = 32;
  if (options.classes.empty()) {
    set.class_names = numbered_classes(kNumClasses);
  } else {
    for (const std::int64_t c : options.classes) set.class_names.push_back(std::to_string(c));
  }
  return set;
}

/// New label of each class, -1 for those left out.
std::vector<std::int64_t> relabelling(const ImageNet32Options& options) {
  std::vector<std::int64_t> label(kNumClasses, options.classes.empty() ? 0 : -1);
  if (options.classes.empty()) {
    for (std::size_t i = 0; i < label.size(); ++i) label[i] = static_cast<std::int64_t>(i);
  }
  for (std::size_t i = 0; i < options.classes.size(); ++i) {
    const std::int64_t c = options.classes[i];
    if (c < 0 || c >= kNumClasses || label[static_cast<std::size_t>(c)] >= 0) {
      throw ValueError(fmt::format("[read_imagenet32] got class {}; expected distinct classes 0 to 999", c));
    }
    label[static_cast<std::size_t>(c)] = static_cast<std::int64_t>(i);
  }
  return label;
}

void append_batch(const NpzFile& file, const std::string& name, const std::vector<std::int64_t>& new_label,
                  ImageSet& set) {
  const Tensor labels = file.load("labels"), data = file.load("data");
  const bool fits = data.dtype() == DType::uint8 && data.rank() == 2 && data.shape()[1] == kPixels &&
                    labels.dtype() == DType::int64 && labels.rank() == 1 && labels.shape()[0] == data.shape()[0];
  if (!fits) {
    throw DataError(fmt::format(
        "[read_imagenet32] {}: data is {} {} and labels {} {}; expected uint8 (n, 3072) and int64 "
        "(n)",
        name, to_string(data.dtype()), to_string(data.shape()), to_string(labels.dtype()), to_string(labels.shape())));
  }
  const std::int64_t* label = labels.data<std::int64_t>();
  const std::uint8_t* pixels = data.data<std::uint8_t>();
  for (std::int64_t i = 0; i < data.shape()[0]; ++i) {
    if (label[i] < 1 || label[i] > kNumClasses) {
      throw DataError(
          fmt::format("[read_imagenet32] {}: label {} is {}; expected 1 to {}", name, i, label[i], kNumClasses));
    }
    const std::int64_t kept = new_label[static_cast<std::size_t>(label[i] - 1)];
    if (kept < 0) continue;
    set.labels.push_back(kept);
    set.pixels.insert(set.pixels.end(), pixels + i * kPixels, pixels + (i + 1) * kPixels);
  }
}

/// Errors of the file format become DataError, which programs end with "missing data".
template <class F>
void as_data_error(F&& action) {
  try {
    action();
  } catch (const DataError&) {
    throw;
  } catch (const IoError& error) {
    throw DataError(fmt::format("{}. Fetch it again.", error.what()));
  }
}

struct Found {
  std::vector<fs::path> train, validation;
};

std::vector<fs::path> batches_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (std::int64_t i = 1; i <= kNumBatches; ++i) {
    fs::path file = folder / fmt::format("train_data_batch_{}.npz", i);
    std::error_code error;
    if (fs::is_regular_file(file, error)) files.push_back(std::move(file));
  }
  return files;
}

Found find(const fs::path& folder) {
  for (const fs::path& root : {folder / "imagenet32", folder}) {
    Found found;
    for (const char* place : {"", "out_data_train", "Imagenet32_train_npz"}) {
      if (found.train.empty()) found.train = batches_in(root / place);
    }
    for (const char* place : {"", "out_data_val", "Imagenet32_val_npz"}) {
      std::error_code error;
      if (!found.validation.empty()) break;
      if (fs::path file = root / place / "val_data.npz"; fs::is_regular_file(file, error)) {
        found.validation.push_back(std::move(file));
      } else if (*place) {
        found.validation = batches_in(root / place);
      }
    }
    if (!found.train.empty() && !found.validation.empty()) return found;
  }
  return {};
}

ImageSet read_files(const std::vector<fs::path>& files, const ImageNet32Options& options) {
  ImageSet set = empty_set(options);
  const std::vector<std::int64_t> new_label = relabelling(options);
  for (std::size_t i = 0; i < files.size(); ++i) {
    as_data_error([&] { append_batch(NpzFile(files[i].string()), files[i].string(), new_label, set); });
    if (options.progress) options.progress(files[i].string(), i + 1, files.size());
  }
  set.origin = files.front().parent_path().string();
  return set;
}

}  // namespace

ImageSet read_imagenet32(const fs::path& file, const ImageNet32Options& options) {
  ImageSet set = empty_set(options);
  as_data_error([&] { append_batch(NpzFile(file.string()), file.string(), relabelling(options), set); });
  set.origin = file.string();
  return set;
}

ImageSet parse_imagenet32(std::span<const std::byte> bytes, const std::string& name, const ImageNet32Options& options) {
  ImageSet set = empty_set(options);
  as_data_error([&] { append_batch(NpzFile(bytes, name), name, relabelling(options), set); });
  set.origin = name;
  return set;
}

ImageSplits load_imagenet32(const fs::path& folder, const ImageNet32Options& options) {
  const Found found = find(folder);
  if (found.train.empty()) {
    throw MissingDataError(fmt::format(
        "[data] imagenet32 not found: looked in {} for imagenet32/train_data_batch_1.npz to ..._10.npz and "
        "val_data.npz. "
        "It needs an account: `scripts/get-data imagenet32` says how to get it. Or say where it is with --data-dir DIR "
        "or SOLVENT_DATA.",
        fs::absolute(folder).string()));
  }
  ImageSplits splits{read_files(found.train, options), read_files(found.validation, options)};
  splits.train.origin +=
      fmt::format(" ({} of {} batches, {} images)", found.train.size(), kNumBatches, splits.train.size());
  return splits;
}

bool has_imagenet32(const fs::path& folder) { return !find(folder).train.empty(); }

}  // namespace solvent::experiments
