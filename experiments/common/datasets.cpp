#include "solvent/experiments/common/datasets.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/sampler.h"
#include "solvent/experiments/common/text.h"
#include "solvent/experiments/common/two_body.h"

namespace solvent::experiments {

namespace fs = std::filesystem;

fs::path data_directory(const std::string& requested) {
  if (!requested.empty()) return requested;
  const char* from_environment = std::getenv("SOLVENT_DATA");
  if (from_environment && *from_environment) return from_environment;
  return "data";
}

namespace {

/// Empty if none exists.
fs::path first_existing(const fs::path& directory, std::span<const std::string> names) {
  for (const std::string& name : names) {
    for (const char* suffix : {"", ".gz"}) {
      fs::path candidate = directory / (name + suffix);
      std::error_code error;
      if (fs::is_regular_file(candidate, error)) return candidate;
    }
  }
  return {};
}

}  // namespace

fs::path find_data_file(const fs::path& directory, std::span<const std::string> names, const std::string& dataset) {
  fs::path found = first_existing(directory, names);
  if (!found.empty()) return found;
  // The archive offers no stable address of single large sets, so get-data does not fetch this one.
  const std::string how = dataset == "eigenworms"
                              ? "Download it from timeseriesclassification.com (EigenWorms) and unpack it there"
                              : fmt::format("Fetch it with `scripts/get-data {}`", dataset);
  throw MissingDataError(
      fmt::format("[data] {} not found: looked in {} for {} (also with .gz). {}, or say where it is "
                  "with --data-dir DIR or SOLVENT_DATA.",
                  dataset, fs::absolute(directory).string(), join(names, ", "), how));
}

namespace {

struct ArchiveSet {
  const char* name;     // as typed
  const char* problem;  // as the archive spells it
};
constexpr std::array<ArchiveSet, 3> kArchiveSets = {
    {{"acsf1", "ACSF1"}, {"plaid", "PLAID"}, {"eigenworms", "EigenWorms"}}};

const ArchiveSet* archive_set(const std::string& name) {
  const auto* it =
      std::find_if(kArchiveSets.begin(), kArchiveSets.end(), [&](const ArchiveSet& s) { return s.name == name; });
  return it == kArchiveSets.end() ? nullptr : &*it;
}

/// Where the two parts of an archive set may lie: our layout, the archive's zip, the folder itself.
std::vector<std::string> ts_names(const ArchiveSet& set, const char* part) {
  const std::string file = fmt::format("{}_{}.ts", set.problem, part);
  return {"timeseries/" + file, std::string(set.problem) + "/" + file, file};
}

std::vector<std::string> mnist_names(const char* file) { return {std::string("mnist/") + file, file}; }

constexpr const char* kMnistFiles[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                       "t10k-labels-idx1-ubyte"};

SequenceData first_shuffled(SequenceData data, std::int64_t max_series) {
  if (max_series <= 0 || data.size() <= max_series) return data;
  // Archive files are often sorted by class: a fixed shuffle keeps a part of one representative.
  std::vector<std::int64_t> order =
      EpochSampler({.num_examples = data.size(), .batch_size = 1, .seed = 0}).permutation(0);
  order.resize(static_cast<std::size_t>(max_series));
  return subset(data, order);
}

DataSplits load_archive(const ArchiveSet& set, const fs::path& directory, std::int64_t max_series) {
  const fs::path train_file = find_data_file(directory, ts_names(set, "TRAIN"), set.name);
  const fs::path test_file = find_data_file(directory, ts_names(set, "TEST"), set.name);
  DataSplits splits{read_ts(train_file), read_ts(test_file), train_file.parent_path().string()};
  const bool fit =
      splits.train.class_names == splits.test.class_names && splits.train.num_channels == splits.test.num_channels;
  if (!fit) {
    throw DataError(fmt::format("[data] {} and {} differ in classes or channels; expected two parts of one data set",
                                train_file.string(), test_file.string()));
  }
  splits.train = first_shuffled(std::move(splits.train), max_series);
  splits.test = first_shuffled(std::move(splits.test), max_series);
  return splits;
}

DataSplits load_mnist(const fs::path& directory, std::int64_t max_series) {
  std::vector<fs::path> files;
  for (const char* file : kMnistFiles) files.push_back(find_data_file(directory, mnist_names(file), "mnist"));
  return {read_mnist(files[0], files[1], max_series), read_mnist(files[2], files[3], max_series),
          files[0].parent_path().string()};
}

DataSplits generate_orbits(std::int64_t max_series) {
  OrbitTask task;
  if (max_series > 0) {
    task.num_train = std::min(task.num_train, max_series);
    task.num_test = std::min(task.num_test, max_series);
  }
  return make_orbit_task(task);
}

}  // namespace

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> kNames = {"acsf1", "plaid", "mnist", "eigenworms", "orbits"};
  return kNames;
}

bool has_dataset(const std::string& name, const std::string& data_dir) {
  if (name == "orbits") return true;
  const fs::path directory = data_directory(data_dir);
  if (name == "mnist") {
    return std::all_of(std::begin(kMnistFiles), std::end(kMnistFiles),
                       [&](const char* file) { return !first_existing(directory, mnist_names(file)).empty(); });
  }
  const ArchiveSet* set = archive_set(name);
  return set && !first_existing(directory, ts_names(*set, "TRAIN")).empty() &&
         !first_existing(directory, ts_names(*set, "TEST")).empty();
}

DataSplits load_dataset(const std::string& name, const std::string& data_dir, std::int64_t max_series) {
  const fs::path directory = data_directory(data_dir);
  if (name == "orbits") return generate_orbits(max_series);
  if (name == "mnist") return load_mnist(directory, max_series);
  if (const ArchiveSet* set = archive_set(name)) return load_archive(*set, directory, max_series);
  const auto nearest = nearest_name(name, dataset_names());
  throw ValueError(fmt::format("[load_dataset] got \"{}\"; expected one of {}{}", name, join(dataset_names(), ", "),
                               nearest ? fmt::format("; did you mean {}?", *nearest) : ""));
}

}  // namespace solvent::experiments
