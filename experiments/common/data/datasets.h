#pragma once
/// Data sets by name: where their files are looked for, and how they are loaded.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "solvent/experiments/common/data/image_set.h"
#include "solvent/experiments/common/data/sequence_data.h"

namespace solvent::experiments {

/// The folder with data: `requested` if not empty, else $SOLVENT_DATA, else `data`. It need not exist.
std::filesystem::path data_directory(const std::string& requested);

/// The first of `names` that exists below `directory`; each is tried as it is and with `.gz` and `.xz`.
/// @throws MissingDataError listing the places and the command that fetches `dataset`.
std::filesystem::path find_data_file(const std::filesystem::path& directory, std::span<const std::string> names,
                                     const std::string& dataset);

/// Series that load_dataset knows: "acsf1", "plaid", "mnist", "cifar10", "eigenworms", "orbits". Images are series of
/// pixels; the archive's sets are read from `.ts` or `.arff` files.
const std::vector<std::string>& dataset_names();

/// Whether the files of a data set are there ("orbits" is generated and always is).
bool has_dataset(const std::string& name, const std::string& data_dir);

/// Loads the training and test part of a data set by name.
/// @param data_dir    as for data_directory()
/// @param max_series  at most so many per part, 0 for all
/// @throws MissingDataError, DataError; ValueError for an unknown name.
DataSplits load_dataset(const std::string& name, const std::string& data_dir, std::int64_t max_series = 0,
                        const ReadProgress& progress = {});

/// Images that load_images knows: "mnist", "fashion-mnist", "cifar10", "cifar100", "imagenet32", "optdigits", "patterns"
/// (generated: make_patterns). Omniglot has classes of its own in each part: see omniglot.h.
const std::vector<std::string>& image_dataset_names();

/// Whether the files of a set of images are there ("patterns" is generated and always is).
bool has_images(const std::string& name, const std::string& data_dir);

/// Loads the training and test part of a set of images by name.
/// @param data_dir    as for data_directory()
/// @param max_images  the first so many of each part, 0 for all
/// @throws MissingDataError, DataError; ValueError for an unknown name.
ImageSplits load_images(const std::string& name, const std::string& data_dir, std::int64_t max_images = 0,
                        const ReadProgress& progress = {});

}  // namespace solvent::experiments
