#include "solvent/experiments/common/data/datasets.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include <fmt/format.h>

#include "solvent/experiments/common/data/cifar.h"
#include "solvent/experiments/common/data/imagenet32.h"
#include "solvent/experiments/common/data/mnist.h"
#include "solvent/experiments/common/data/optdigits.h"
#include "solvent/experiments/common/data/patterns.h"
#include "solvent/experiments/common/data/sampler.h"
#include "solvent/experiments/common/data/time_series.h"
#include "solvent/experiments/common/data/two_body.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

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
    for (const char* suffix : {"", ".gz", ".xz"}) {
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
  throw MissingDataError(
      fmt::format("[data] {0} not found: looked in {1} for {2} (also with .gz or .xz). Fetch it with `scripts/get-data "
                  "{0}`, or say where it is with --data-dir DIR or SOLVENT_DATA.",
                  dataset, fs::absolute(directory).string(), join(names, ", ")));
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
std::vector<std::string> archive_names(const ArchiveSet& set, const char* part) {
  std::vector<std::string> names;
  for (const char* ending : {"ts", "arff"}) {
    const std::string file = fmt::format("{}_{}.{}", set.problem, part, ending);
    names.insert(names.end(), {"timeseries/" + file, std::string(set.problem) + "/" + file, file});
  }
  return names;
}

/// The idx files of MNIST and of the sets that copy its form.
struct IdxSet {
  const char* name;
  std::vector<std::string> folders;
};

const IdxSet* idx_set(const std::string& name) {
  static const std::array<IdxSet, 2> kIdxSets = {
      {{"mnist", {"mnist/", ""}}, {"fashion-mnist", {"fashion-mnist/", "FashionMNIST/raw/"}}}};
  const auto* it = std::find_if(kIdxSets.begin(), kIdxSets.end(), [&](const IdxSet& s) { return s.name == name; });
  return it == kIdxSets.end() ? nullptr : &*it;
}

constexpr const char* kIdxFiles[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                     "t10k-labels-idx1-ubyte"};

std::vector<std::string> in_folders(const std::vector<std::string>& folders, const std::string& file) {
  std::vector<std::string> names;
  for (const std::string& folder : folders) names.push_back(folder + file);
  return names;
}

const std::vector<std::string> kOptdigitsFolders = {"optdigits/", ""};
constexpr const char* kOptdigitsFiles[] = {"optdigits.tra", "optdigits.tes"};

SequenceData first_shuffled(SequenceData data, std::int64_t max_series) {
  if (max_series <= 0 || data.size() <= max_series) return data;
  // Archive files are often sorted by class: a fixed shuffle keeps a part of one representative.
  std::vector<std::int64_t> order =
      EpochSampler({.num_examples = data.size(), .batch_size = 1, .seed = 0}).permutation(0);
  order.resize(static_cast<std::size_t>(max_series));
  return subset(data, order);
}

SequenceData read_archive_file(const fs::path& file, const ReadProgress& progress) {
  const SeriesOptions options{.progress = progress};
  return file.filename().string().find(".arff") != std::string::npos ? read_arff(file, options)
                                                                     : read_ts(file, options);
}

DataSplits load_archive(const ArchiveSet& set, const fs::path& directory, std::int64_t max_series,
                        const ReadProgress& progress) {
  const fs::path train_file = find_data_file(directory, archive_names(set, "TRAIN"), set.name);
  const fs::path test_file = find_data_file(directory, archive_names(set, "TEST"), set.name);
  DataSplits splits{read_archive_file(train_file, progress), read_archive_file(test_file, progress),
                    train_file.parent_path().string()};
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

DataSplits generate_orbits(std::int64_t max_series) {
  OrbitTask task;
  if (max_series > 0) {
    task.num_train = std::min(task.num_train, max_series);
    task.num_test = std::min(task.num_test, max_series);
  }
  return make_orbit_task(task);
}

[[noreturn]] void fail_unknown(const char* op, const std::string& name, const std::vector<std::string>& names) {
  const auto nearest = nearest_name(name, names);
  throw ValueError(fmt::format("[{}] got \"{}\"; expected one of {}{}", op, name, join(names, ", "),
                               nearest ? fmt::format("; did you mean {}?", *nearest) : ""));
}

}  // namespace

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> kNames = {"acsf1", "plaid", "mnist", "cifar10", "eigenworms", "orbits"};
  return kNames;
}

bool has_dataset(const std::string& name, const std::string& data_dir) {
  if (name == "orbits") return true;
  if (name == "mnist" || name == "cifar10") return has_images(name, data_dir);
  const fs::path directory = data_directory(data_dir);
  const ArchiveSet* set = archive_set(name);
  return set && !first_existing(directory, archive_names(*set, "TRAIN")).empty() &&
         !first_existing(directory, archive_names(*set, "TEST")).empty();
}

DataSplits load_dataset(const std::string& name, const std::string& data_dir, std::int64_t max_series,
                        const ReadProgress& progress) {
  if (name == "orbits") return generate_orbits(max_series);
  if (const ArchiveSet* set = archive_set(name)) {
    return load_archive(*set, data_directory(data_dir), max_series, progress);
  }
  if (name == "mnist" || name == "cifar10") {
    const ImageSplits images = load_images(name, data_dir, max_series, progress);
    return {pixel_series(images.train), pixel_series(images.test), images.train.origin};
  }
  fail_unknown("load_dataset", name, dataset_names());
}

// --- images -------------------------------------------------------------------------------------------------------------

namespace {

const std::vector<std::string> kFashionNames = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                                "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

ImageSplits load_idx_set(const IdxSet& set, const fs::path& directory, const ReadProgress& progress) {
  std::vector<fs::path> files;
  for (const char* file : kIdxFiles)
    files.push_back(find_data_file(directory, in_folders(set.folders, file), set.name));
  ImageSplits splits{read_mnist(files[0], files[1], progress), read_mnist(files[2], files[3], progress)};
  for (ImageSet* part : {&splits.train, &splits.test}) {
    part->name = set.name;
    if (part->name == "fashion-mnist") part->class_names = kFashionNames;
  }
  return splits;
}

ImageSplits load_all(const std::string& name, const fs::path& directory, const ReadProgress& progress) {
  if (const IdxSet* set = idx_set(name)) return load_idx_set(*set, directory, progress);
  if (name == "cifar10") return load_cifar(directory, Cifar::ten, progress);
  if (name == "cifar100") return load_cifar(directory, Cifar::hundred, progress);
  if (name == "imagenet32") return load_imagenet32(directory, {.progress = progress});
  if (name == "patterns") return make_patterns({});
  if (name == "optdigits") {
    const auto file = [&](int i) {
      return find_data_file(directory, in_folders(kOptdigitsFolders, kOptdigitsFiles[i]), name);
    };
    return {read_optdigits(file(0), progress), read_optdigits(file(1), progress)};
  }
  fail_unknown("load_images", name, image_dataset_names());
}

void keep_first(ImageSet& set, std::int64_t max_images) {
  if (max_images <= 0 || set.size() <= max_images) return;
  std::vector<std::int64_t> first(static_cast<std::size_t>(max_images));
  std::iota(first.begin(), first.end(), std::int64_t{0});
  set = subset(set, first);
}

}  // namespace

const std::vector<std::string>& image_dataset_names() {
  static const std::vector<std::string> kNames = {"mnist",      "fashion-mnist", "cifar10", "cifar100",
                                                  "imagenet32", "optdigits",     "patterns"};
  return kNames;
}

bool has_images(const std::string& name, const std::string& data_dir) {
  const fs::path directory = data_directory(data_dir);
  const auto has_all = [&](std::span<const char* const> files, const std::vector<std::string>& folders) {
    return std::all_of(files.begin(), files.end(),
                       [&](const char* file) { return !first_existing(directory, in_folders(folders, file)).empty(); });
  };
  if (const IdxSet* set = idx_set(name)) return has_all(kIdxFiles, set->folders);
  if (name == "optdigits") return has_all(kOptdigitsFiles, kOptdigitsFolders);
  if (name == "cifar10") return has_cifar(directory, Cifar::ten);
  if (name == "cifar100") return has_cifar(directory, Cifar::hundred);
  if (name == "imagenet32") return has_imagenet32(directory);
  return name == "patterns";
}

ImageSplits load_images(const std::string& name, const std::string& data_dir, std::int64_t max_images,
                        const ReadProgress& progress) {
  ImageSplits splits = load_all(name, data_directory(data_dir), progress);
  keep_first(splits.train, max_images);
  keep_first(splits.test, max_images);
  return splits;
}

}  // namespace solvent::experiments
