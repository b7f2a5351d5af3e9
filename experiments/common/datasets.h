#pragma once
/// Readers of the data sets' own files, and the places where they are looked for.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "solvent/experiments/common/sequence_data.h"

namespace solvent::experiments {

/// An idx file of unsigned bytes (MNIST's format: big-endian header, then row-major data).
struct IdxData {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;
};

/// Reads an idx file, plain or gzip. @throws DataError naming file and offset for a bad magic number, an element type
/// other than u8, sizes that the file cannot hold, missing or surplus bytes; MissingDataError if there is no file.
IdxData read_idx(const std::filesystem::path& file);

/// Reads images and labels as series of height * width steps, row by row, one channel, values 0..1 (the sequential
/// MNIST task). At most `max_series` of them, 0 for all. @throws DataError if the two files do not belong together.
SequenceData read_mnist(const std::filesystem::path& images, const std::filesystem::path& labels,
                        std::int64_t max_series = 0);

/// Reads a `.ts` file of the UCR/UEA archive (timeseriesclassification.com), plain or gzip: uni- or multivariate, equal
/// or unequal length, class labels. Classes are numbered in the order of `@classLabel`.
/// @throws DataError naming file, line and what was expected; for missing values (`?`), time stamps, and targets that
/// are not classes, which are not supported. MissingDataError if there is no file.
SequenceData read_ts(const std::filesystem::path& file);

/// The folder with data: `requested` if not empty, else $SOLVENT_DATA, else `data`. It need not exist.
std::filesystem::path data_directory(const std::string& requested);

/// The first of `names` that exists below `directory`; each is tried with and without `.gz`.
/// @throws MissingDataError listing the places and the command that fetches `dataset`.
std::filesystem::path find_data_file(const std::filesystem::path& directory, std::span<const std::string> names,
                                     const std::string& dataset);

/// Data sets that load_dataset knows: "acsf1", "plaid", "mnist", "eigenworms", "orbits".
const std::vector<std::string>& dataset_names();

/// Whether the files of a data set are there ("orbits" is generated and always is).
bool has_dataset(const std::string& name, const std::string& data_dir);

/// Loads the training and test part of a data set by name.
/// @param data_dir    as for data_directory()
/// @param max_series  at most so many per part, 0 for all
/// @throws MissingDataError, DataError; ValueError for an unknown name.
DataSplits load_dataset(const std::string& name, const std::string& data_dir, std::int64_t max_series = 0);

}  // namespace solvent::experiments
