// Order of events in save():
//   1. step-N.safetensors   temporary, fsync, rename      (killed here: tensors without a JSON file, ignored later)
//   2. step-N.json          temporary, fsync, rename      (from here on N is the newest checkpoint)
//   3. checkpoints beyond `keep` are removed, JSON first  (killed here: tensors without a JSON file)
// No file of a complete checkpoint is ever written to: saving step N again makes step-N-2.
#include "solvent/nn/checkpoint_store.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "solvent/core/error.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/crc32c.h"

namespace solvent::nn {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::json;

constexpr std::string_view kFormat = "solvent-checkpoint-1";
constexpr std::string_view kTensorsEnding = ".safetensors";
constexpr std::string_view kManifestEnding = ".json";
constexpr std::size_t kMaxStateBytes = 1 << 18;
constexpr std::uintmax_t kMaxManifestBytes = 1 << 20;  // indentation included
constexpr int kMaxDepth = 16;

/// Bytes and checksum of a file. @throws IoError if it cannot be read
struct FileSum {
  std::uint64_t bytes = 0;
  std::uint32_t crc = 0;
};

FileSum sum_of(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file) throw IoError(fmt::format("'{}' is missing or not readable", path));
  FileSum sum;
  std::vector<char> buffer(std::size_t{1} << 20);
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    sum.crc = crc32c(buffer.data(), n, sum.crc);
    sum.bytes += n;
  }
  if (std::ferror(file.get()) != 0) throw IoError(fmt::format("'{}' cannot be read to its end", path));
  return sum;
}

/// "00000120" or "00000120-2" -> step and repeat.
bool parse_numbers(std::string_view text, std::int64_t& step, std::int64_t& repeat) {
  const char* const end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, step);
  if (error != std::errc{} || step < 0) return false;
  repeat = 1;
  if (stop == end) return true;
  if (*stop != '-') return false;
  const auto [last, repeat_error] = std::from_chars(stop + 1, end, repeat);
  return repeat_error == std::errc{} && last == end && repeat > 1;
}

std::string stem_of(std::int64_t step, std::int64_t repeat) {
  return repeat == 1 ? fmt::format("step-{:08}", step) : fmt::format("step-{:08}-{}", step, repeat);
}

std::uint32_t crc_of(const std::string& text) { return crc32c(text.data(), text.size()); }

}  // namespace

/// What is in the folder.
struct CheckpointStore::Listing {
  std::vector<Entry> complete;           // newest first
  std::vector<std::string> unfinished;   // stems of tensors without a manifest
  std::vector<std::string> temporaries;  // file names left by a process that was killed
};

struct CheckpointStore::Manifest {
  std::int64_t step = 0;
  FileSum tensors;
  StateValues state;
};

CheckpointStore::CheckpointStore(std::string directory, Options options)
    : directory_(std::move(directory)), options_(options) {
  if (options_.keep < 1)
    throw ValueError(fmt::format("[CheckpointStore] got keep = {}; expected at least 1.", options_.keep));
}

CheckpointStore::Listing CheckpointStore::list() const {
  Listing listing;
  std::vector<std::string> tensors;
  std::error_code error;
  for (fs::directory_iterator it(directory_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("step-")) continue;
    if (name.find(".tmp-") != std::string::npos) {
      listing.temporaries.push_back(name);
      continue;
    }
    const std::size_t dot = name.find('.');
    Entry entry;
    if (dot == std::string::npos || !parse_numbers(std::string_view(name).substr(5, dot - 5), entry.step, entry.repeat))
      continue;
    entry.stem = name.substr(0, dot);
    if (name.substr(dot) == kManifestEnding) listing.complete.push_back(entry);
    if (name.substr(dot) == kTensorsEnding) tensors.push_back(entry.stem);
  }
  if (error && error != std::errc::no_such_file_or_directory)
    throw IoError(fmt::format("[CheckpointStore] cannot read the folder '{}': {}.", directory_, error.message()));
  std::sort(listing.complete.begin(), listing.complete.end(),
            [](const Entry& a, const Entry& b) { return a.step != b.step ? a.step > b.step : a.repeat > b.repeat; });
  for (const std::string& stem : tensors)
    if (std::none_of(listing.complete.begin(), listing.complete.end(), [&](const Entry& e) { return e.stem == stem; }))
      listing.unfinished.push_back(stem);
  std::sort(listing.unfinished.begin(), listing.unfinished.end());
  return listing;
}

bool CheckpointStore::is_damaged(const Entry& entry) const {
  return std::find(damaged_.begin(), damaged_.end(), entry.stem) != damaged_.end();
}

/// Throws IoError saying what is wrong with the checkpoint.
CheckpointStore::Manifest CheckpointStore::read_intact(const Entry& entry) const {
  const std::string path = file(entry.stem + std::string(kManifestEnding));
  std::error_code error;
  if (fs::file_size(path, error) > kMaxManifestBytes || error)
    throw IoError(fmt::format("'{}' is not a readable file of at most {} bytes", path, kMaxManifestBytes));
  Json json;
  try {
    json = Json::parse(read_file(path), [&](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxDepth) throw IoError(fmt::format("'{}' is nested too deeply", path));
      return true;
    });
  } catch (const Json::exception& e) {
    throw IoError(fmt::format("'{}' is not valid JSON ({})", path, e.what()));
  }
  const auto is_count = [](const Json& object, const char* name) {
    return object.is_object() && object.contains(name) && object[name].is_number_unsigned();
  };
  if (!is_count(json, "crc32c")) throw IoError(fmt::format("'{}' has no checksum", path));
  const auto crc = json["crc32c"].get<std::uint64_t>();
  json.erase("crc32c");
  // Strings with bytes that are not UTF-8 cannot come from here; `replace` keeps dump from throwing.
  if (crc_of(json.dump(-1, ' ', false, Json::error_handler_t::replace)) != crc)
    throw IoError(fmt::format("'{}' does not match its own checksum", path));
  if (!json.contains("format") || json["format"] != kFormat || !is_count(json, "step") || !json.contains("tensors") ||
      !is_count(json["tensors"], "bytes") || !is_count(json["tensors"], "crc32c") || !json.contains("state"))
    throw IoError(fmt::format("'{}' is not of the format {}", path, kFormat));

  Manifest manifest;
  manifest.step = json["step"].get<std::int64_t>();
  if (manifest.step != entry.step)
    throw IoError(fmt::format("'{}' belongs to step {}; the file was renamed", path, manifest.step));
  manifest.tensors = {json["tensors"]["bytes"].get<std::uint64_t>(), json["tensors"]["crc32c"].get<std::uint32_t>()};
  manifest.state = StateValues::from_json(json["state"].dump(), path);
  const std::string tensors = file(entry.stem + std::string(kTensorsEnding));
  const FileSum found = sum_of(tensors);
  if (found.bytes != manifest.tensors.bytes)
    throw IoError(fmt::format("'{}' has {} bytes instead of {}", tensors, found.bytes, manifest.tensors.bytes));
  if (found.crc != manifest.tensors.crc) throw IoError(fmt::format("'{}' does not match its checksum", tensors));
  return manifest;
}

void CheckpointStore::save(std::int64_t step, const CheckpointParts& parts, const StateValues& state) {
  if (step < 0) throw ValueError(fmt::format("[CheckpointStore::save] got step {}; expected a step >= 0.", step));
  const std::string state_text = state.to_json();
  if (state_text.size() > kMaxStateBytes)
    throw ValueError(
        fmt::format("[CheckpointStore::save] the state values take {} bytes; expected at most {}. Put large data into "
                    "CheckpointParts::tensors.",
                    state_text.size(), kMaxStateBytes));
  std::error_code error;
  fs::create_directories(directory_, error);
  if (error)
    throw IoError(fmt::format("[CheckpointStore::save] cannot make the folder '{}': {}.", directory_, error.message()));
  const Listing before = list();
  std::int64_t repeat = 1;
  for (const Entry& entry : before.complete) {
    if (is_damaged(entry)) continue;
    if (entry.step > step)
      throw ValueError(fmt::format(
          "[CheckpointStore::save] got step {}, but '{}' has a checkpoint of step {}; load it first, or use "
          "another folder.",
          step, directory_, entry.step));
    if (entry.step == step) repeat = std::max(repeat, entry.repeat + 1);
  }
  for (const Entry& entry : before.complete)
    if (is_damaged(entry)) remove(entry);
  damaged_.clear();
  for (const std::string& name : before.temporaries) fs::remove(file(name), error);
  for (const std::string& stem : before.unfinished) fs::remove(file(stem + std::string(kTensorsEnding)), error);

  const std::string stem = stem_of(step, repeat);
  const std::string tensors = file(stem + std::string(kTensorsEnding));
  save_checkpoint(tensors, parts, {{"step", std::to_string(step)}});
  const FileSum sum = sum_of(tensors);
  Json manifest = {{"format", kFormat},
                   {"step", step},
                   {"tensors", {{"bytes", sum.bytes}, {"crc32c", sum.crc}}},
                   {"state", Json::parse(state_text)}};
  manifest["crc32c"] = crc_of(manifest.dump());
  write_file_atomically(file(stem + std::string(kManifestEnding)), manifest.dump(2) + "\n");
  const std::vector<Entry> complete = list().complete;
  for (std::size_t i = static_cast<std::size_t>(options_.keep); i < complete.size(); ++i) remove(complete[i]);
}

void CheckpointStore::remove(const Entry& entry) const {
  std::error_code ignored;  // what cannot be removed now is tried again after a later checkpoint
  fs::remove(file(entry.stem + std::string(kManifestEnding)), ignored);
  fs::remove(file(entry.stem + std::string(kTensorsEnding)), ignored);
}

std::optional<CheckpointStore::Loaded> CheckpointStore::load(const CheckpointParts& parts) {
  const Listing listing = list();
  Loaded loaded;
  for (const std::string& stem : listing.unfinished)
    loaded.warnings.push_back(
        fmt::format("[CheckpointStore] '{}' was never completed (the run ended while it was written); it is ignored.",
                    file(stem + std::string(kTensorsEnding))));
  damaged_.clear();
  for (const Entry& entry : listing.complete) {
    Manifest manifest;
    try {
      manifest = read_intact(entry);
    } catch (const IoError& e) {
      damaged_.push_back(entry.stem);
      loaded.warnings.push_back(
          fmt::format("[CheckpointStore] the checkpoint of step {} is damaged: {}.", entry.step, e.what()));
      continue;
    }
    load_checkpoint(file(entry.stem + std::string(kTensorsEnding)), parts);
    loaded.step = entry.step;
    loaded.state = std::move(manifest.state);
    if (!damaged_.empty())
      loaded.warnings.push_back(fmt::format("[CheckpointStore] going on from the checkpoint of step {}.", loaded.step));
    return loaded;
  }
  if (listing.complete.empty()) return std::nullopt;
  std::string text = fmt::format("[CheckpointStore::load] no checkpoint in '{}' can be used:", directory_);
  for (const std::string& warning : loaded.warnings) text += "\n  " + warning;
  throw IoError(text);
}

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> result;
  for (const Entry& entry : list().complete) result.push_back(entry.step);
  return result;
}

}  // namespace solvent::nn
