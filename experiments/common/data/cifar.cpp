#include "solvent/experiments/common/data/cifar.h"

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "solvent/experiments/common/data/tar_reader.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kImageBytes = 3072, kRecordsAtOnce = 64;

/// Where a set lies and what its files are called.
struct Layout {
  const char* name;
  const char* archive;
  std::vector<std::string> folders, train_files, test_files;
  const char* names_file;
  const char* coarse_names_file;  // or null
  std::int64_t num_classes;
};

const Layout& layout_of(Cifar kind) {
  static const Layout kTen = {"cifar10",
                              "cifar-10-binary.tar.gz",
                              {"cifar10", "cifar-10-batches-bin", ""},
                              {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"},
                              {"test_batch"},
                              "batches.meta.txt",
                              nullptr,
                              10};
  static const Layout kHundred = {"cifar100",
                                  "cifar-100-binary.tar.gz",
                                  {"cifar100", "cifar-100-binary", ""},
                                  {"train"},
                                  {"test"},
                                  "fine_label_names.txt",
                                  "coarse_label_names.txt",
                                  100};
  return kind == Cifar::ten ? kTen : kHundred;
}

constexpr std::int64_t kNumCoarse = 20;

ImageSet empty_set(Cifar kind) {
  ImageSet set;
  set.name = layout_of(kind).name;
  set.channels = 3;
  set.height = set.width = 32;
  set.class_names = numbered_classes(layout_of(kind).num_classes);
  if (kind == Cifar::hundred) set.coarse_class_names = numbered_classes(kNumCoarse);
  return set;
}

std::int64_t checked_label(std::uint8_t label, std::int64_t num_classes, const char* what, const std::string& file,
                           std::int64_t record) {
  if (label < num_classes) return label;
  throw DataError(fmt::format("[read_cifar] {}: record {}: {} label {}; expected 0 to {}. Is it the binary version?",
                              file, record, what, label, num_classes - 1));
}

/// Records until `read(to, bytes)` delivers no more.
void append_records(const std::function<std::size_t(void*, std::size_t)>& read, const std::string& file, Cifar kind,
                    ImageSet& set) {
  const std::size_t label_bytes = kind == Cifar::ten ? 1 : 2, record_bytes = label_bytes + kImageBytes;
  std::vector<std::uint8_t> records(record_bytes * kRecordsAtOnce);
  const std::int64_t first = set.size();
  for (std::size_t got = records.size(); got == records.size();) {
    got = read(records.data(), records.size());
    if (got % record_bytes != 0) {
      throw DataError(
          fmt::format("[read_cifar] {}: the file ends inside record {}; expected records of {} bytes. Fetch it again.",
                      file, set.size() - first + static_cast<std::int64_t>(got / record_bytes), record_bytes));
    }
    for (std::size_t at = 0; at < got; at += record_bytes) {
      const std::uint8_t* record = records.data() + at;
      const std::int64_t index = set.size() - first;
      if (kind == Cifar::hundred) {
        set.coarse_labels.push_back(checked_label(record[0], kNumCoarse, "coarse", file, index));
      }
      set.labels.push_back(checked_label(record[label_bytes - 1], layout_of(kind).num_classes,
                                         kind == Cifar::ten ? "class" : "fine", file, index));
      set.pixels.insert(set.pixels.end(), record + label_bytes, record + record_bytes);
    }
  }
}

void append_file(InputStream& stream, Cifar kind, ImageSet& set) {
  const std::int64_t before = set.size();
  append_records([&](void* to, std::size_t bytes) { return stream.read(to, bytes); }, stream.name(), kind, set);
  if (set.size() == before) throw DataError(fmt::format("[read_cifar] {} is empty", stream.name()));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  Pieces pieces(text, '\n');
  for (std::string_view piece; pieces.next(piece);) {
    if (!trim(piece).empty()) lines.emplace_back(trim(piece));
  }
  return lines;
}

/// Takes the names over if there are as many as classes.
void use_names(const std::vector<std::string>& names, std::vector<std::string>& class_names) {
  const bool fits = names.size() == class_names.size() &&
                    std::all_of(names.begin(), names.end(), [](const std::string& name) { return is_utf8(name); });
  if (fits) class_names = names;
}

fs::path existing(const fs::path& file) {
  for (const char* suffix : {".bin", ".bin.gz", ".bin.xz"}) {
    fs::path candidate = file;
    candidate += suffix;
    std::error_code error;
    if (fs::is_regular_file(candidate, error)) return candidate;
  }
  return {};
}

std::vector<fs::path> existing(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<fs::path> files;
  for (const std::string& name : names) {
    if (fs::path file = existing(folder / name); !file.empty()) files.push_back(std::move(file));
  }
  return files;
}

/// What there is: files of one folder, or an archive.
struct Found {
  fs::path folder, archive;
  std::vector<fs::path> train, test;
};

Found find(const fs::path& folder, Cifar kind) {
  const Layout& layout = layout_of(kind);
  Found found;
  for (const std::string& name : layout.folders) {
    std::error_code error;
    const fs::path archive = folder / name / layout.archive;
    if (found.archive.empty() && fs::is_regular_file(archive, error)) found.archive = archive;
  }
  for (const std::string& name : layout.folders) {
    found.folder = folder / name;
    found.train = existing(found.folder, layout.train_files);
    found.test = existing(found.folder, layout.test_files);
    // A part of the batches is used where nothing complete is at hand.
    const bool is_complete = found.train.size() == layout.train_files.size();
    if (!found.train.empty() && !found.test.empty() && (is_complete || found.archive.empty())) return found;
  }
  found.train.clear();
  found.test.clear();
  return found;
}

std::string origin_of(const fs::path& place, std::size_t num_found, std::size_t num_all, std::int64_t num_images) {
  if (num_all == 1) return place.string();
  return fmt::format("{} ({} of {} batches, {} images)", place.string(), num_found, num_all, num_images);
}

std::string small_text_file(const fs::path& file) {
  std::string text, line;
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return text;
  InputStream stream(file);
  while (text.size() < 65536 && stream.read_line(line)) text += line + "\n";
  return text;
}

ImageSplits load_files(const Found& found, Cifar kind, const ReadProgress& progress) {
  const Layout& layout = layout_of(kind);
  ImageSplits splits{empty_set(kind), empty_set(kind)};
  for (const auto& [files, set] : {std::pair(&found.train, &splits.train), std::pair(&found.test, &splits.test)}) {
    for (const fs::path& file : *files) {
      InputStream stream(file, progress);
      append_file(stream, kind, *set);
    }
    use_names(lines_of(small_text_file(found.folder / layout.names_file)), set->class_names);
    if (layout.coarse_names_file) {
      use_names(lines_of(small_text_file(found.folder / layout.coarse_names_file)), set->coarse_class_names);
    }
  }
  splits.train.origin = origin_of(found.folder, found.train.size(), layout.train_files.size(), splits.train.size());
  splits.test.origin = found.test.front().string();
  return splits;
}

ImageSplits load_archive(const fs::path& archive, Cifar kind, const ReadProgress& progress) {
  const Layout& layout = layout_of(kind);
  ImageSplits splits{empty_set(kind), empty_set(kind)};
  // Members come in any order, but batches belong in theirs.
  std::vector<std::pair<std::string, ImageSet>> batches;
  std::vector<std::string> names, coarse_names;
  InputStream stream(archive, progress);
  for (TarReader tar(stream); tar.next();) {
    const fs::path member(tar.name());
    const auto read = [&](void* to, std::size_t bytes) { return tar.read(to, bytes); };
    const std::string base = member.filename().string(), where = stream.name() + ":" + tar.name();
    const auto is_one_of = [&](const std::vector<std::string>& files) {
      return member.extension() == ".bin" && std::find(files.begin(), files.end(), member.stem()) != files.end();
    };
    if (is_one_of(layout.train_files)) {
      batches.emplace_back(base, empty_set(kind));
      append_records(read, where, kind, batches.back().second);
    } else if (is_one_of(layout.test_files)) {
      append_records(read, where, kind, splits.test);
    } else if (base == layout.names_file || (layout.coarse_names_file && base == layout.coarse_names_file)) {
      std::string text(std::min<std::size_t>(65536, static_cast<std::size_t>(tar.size())), '\0');
      text.resize(tar.read(text.data(), text.size()));
      (base == layout.names_file ? names : coarse_names) = lines_of(text);
    }
  }
  std::stable_sort(batches.begin(), batches.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [name, batch] : batches) {
    ImageSet& train = splits.train;
    train.pixels.insert(train.pixels.end(), batch.pixels.begin(), batch.pixels.end());
    train.labels.insert(train.labels.end(), batch.labels.begin(), batch.labels.end());
    train.coarse_labels.insert(train.coarse_labels.end(), batch.coarse_labels.begin(), batch.coarse_labels.end());
  }
  if (splits.train.size() == 0 || splits.test.size() == 0) {
    throw DataError(fmt::format("[load_cifar] {} holds {} training and {} test images; expected the archive {}",
                                archive.string(), splits.train.size(), splits.test.size(), layout.archive));
  }
  for (ImageSet* set : {&splits.train, &splits.test}) {
    use_names(names, set->class_names);
    use_names(coarse_names, set->coarse_class_names);
    set->origin = archive.string();
  }
  splits.train.origin = origin_of(archive, batches.size(), layout.train_files.size(), splits.train.size());
  return splits;
}

}  // namespace

ImageSet read_cifar(const fs::path& file, Cifar kind, const ReadProgress& progress) {
  ImageSet set = empty_set(kind);
  InputStream stream(file, progress);
  append_file(stream, kind, set);
  set.origin = file.string();
  return set;
}

ImageSet parse_cifar(std::span<const std::byte> bytes, Cifar kind, const std::string& name) {
  ImageSet set = empty_set(kind);
  InputStream stream(bytes, name);
  append_file(stream, kind, set);
  set.origin = name;
  return set;
}

ImageSplits load_cifar(const fs::path& folder, Cifar kind, const ReadProgress& progress) {
  const Found found = find(folder, kind);
  if (!found.train.empty()) return load_files(found, kind, progress);
  if (!found.archive.empty()) return load_archive(found.archive, kind, progress);
  const Layout& layout = layout_of(kind);
  throw MissingDataError(
      fmt::format("[data] {0} not found: looked in {1} for {0}/{2}.bin and {3}.bin (also with .gz or .xz) and for "
                  "{0}/{4}. Fetch it "
                  "with `scripts/get-data {0}`, or say where it is with --data-dir DIR or SOLVENT_DATA.",
                  layout.name, fs::absolute(folder).string(), layout.train_files.front(), layout.test_files.front(),
                  layout.archive));
}

bool has_cifar(const fs::path& folder, Cifar kind) {
  const Found found = find(folder, kind);
  return !found.train.empty() || !found.archive.empty();
}

}  // namespace solvent::experiments
