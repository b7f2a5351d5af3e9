#pragma once
/// Readers of the text formats of the UCR/UEA archive (timeseriesclassification.com): `.ts`, `.arff`, and the plain text
/// of the 2018 UCR archive. All read plain, gzip or xz files; CRLF and a byte order mark are accepted.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "solvent/experiments/common/data/input_stream.h"
#include "solvent/experiments/common/data/sequence_data.h"

namespace solvent::experiments {

/// What to do with a missing value (`?`; in .ts and text files also `NaN`).
enum class MissingValues {
  error,  ///< refuse the file
  nan,    ///< keep it as NaN
};

struct SeriesOptions {
  MissingValues missing = MissingValues::error;
  ReadProgress progress = {};
};

/// Reads a `.ts` file: uni- or multivariate, equal or unequal length, class labels. Classes are numbered in the order of
/// `@classLabel`.
/// @throws DataError naming file, line and what was expected; for time stamps and targets that are not classes, which are
/// not supported. MissingDataError if there is no file.
SequenceData read_ts(const std::filesystem::path& file, const SeriesOptions& options = {});
/// The same from bytes in memory; `name` stands for the path in messages.
SequenceData parse_ts(std::span<const std::byte> bytes, const std::string& name = "memory",
                      const SeriesOptions& options = {});

/// Reads an `.arff` file of the archive: numeric attributes (one per step) or one relational attribute (channels separated
/// by `\n` in a quoted field), and a nominal class at the end. Missing values at the end of all channels are the padding
/// of a shorter series and are cut off; other ones follow `options.missing`.
/// @throws DataError naming file, line and what was expected; for sparse data, strings and dates. MissingDataError.
SequenceData read_arff(const std::filesystem::path& file, const SeriesOptions& options = {});
/// The same from bytes in memory; `name` stands for the path in messages.
SequenceData parse_arff(std::span<const std::byte> bytes, const std::string& name = "memory",
                        const SeriesOptions& options = {});

/// Reads a text file with one univariate series per line: class label, then values, separated by blanks, tabs or commas.
/// Classes are numbered in ascending order of their labels, which must be integers. NaN at the end of a line is padding.
/// @throws DataError naming file, line and what was expected; MissingDataError.
SequenceData read_ucr_text(const std::filesystem::path& file, const SeriesOptions& options = {});
/// The same from bytes in memory; `name` stands for the path in messages.
SequenceData parse_ucr_text(std::span<const std::byte> bytes, const std::string& name = "memory",
                            const SeriesOptions& options = {});

}  // namespace solvent::experiments
