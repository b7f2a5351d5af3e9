// CheckpointStore and StateValues. The checksums would keep random bytes from getting far, so most inputs are given right
// ones: the first byte says what the rest is.
//   0  the JSON file as it is
//   1  the JSON file, whose checksums are corrected
//   2  the text of StateValues
//   3  the tensors, with a JSON file that fits them

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "solvent/core/error.h"
#include "solvent/core/io/crc32c.h"
#include "solvent/core/tensor.h"
#include "solvent/nn/checkpoint_store.h"
#include "solvent/tests/fuzz/targets.h"

namespace solvent::fuzz {

namespace {

using Json = nlohmann::json;

/// A folder in memory, if there is one; removed at the end of the process.
class Folder {
 public:
  Folder() {
    const char* const root = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
    path_ = std::string(root) + "/solvent-fuzz-" + std::to_string(::getpid());
    std::filesystem::create_directories(path_);
    nn::CheckpointStore store(path_);
    nn::StateDict tensors = {{"x", ones({3})}};
    store.save(1, {.tensors = {{"t", &tensors}}});
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  void write(const std::string& name, std::string_view text) const {
    std::FILE* const file = std::fopen((path_ + "/" + name).c_str(), "wb");
    require(file != nullptr, "a file can be written");
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
  }

 private:
  std::string path_;
};

Json manifest_of(std::string_view tensors) {
  return {{"format", "solvent-checkpoint-1"},
          {"step", 2},
          {"tensors", {{"bytes", tensors.size()}, {"crc32c", crc32c(tensors.data(), tensors.size())}}},
          {"state", Json::object()}};
}

void write_manifest(const Folder& folder, Json manifest) {
  manifest.erase("crc32c");
  const std::string body = manifest.dump();
  manifest["crc32c"] = crc32c(body.data(), body.size());
  folder.write("step-00000002.json", manifest.dump());
}

}  // namespace

void run_checkpoint(Bytes bytes) {
  static const Folder folder;
  if (bytes.empty()) return;
  const std::string_view rest(reinterpret_cast<const char*>(bytes.data()) + 1, bytes.size() - 1);
  const int kind = std::to_integer<int>(bytes[0]) & 3;
  if (kind == 2) {
    try {
      const nn::StateValues state = nn::StateValues::from_json(rest, "fuzz");
      const std::string text = state.to_json();
      require(nn::StateValues::from_json(text, "again").to_json() == text, "values that come back");
    } catch (const IoError&) {
    }
    return;
  }
  folder.write("step-00000002.safetensors", kind == 3 ? rest : std::string_view("0"));
  if (kind == 0) folder.write("step-00000002.json", rest);
  if (kind == 3) write_manifest(folder, manifest_of(rest));
  if (kind == 1) {
    // Depth is limited here as there, because dump() recurses.
    Json manifest = Json::parse(
        rest, [](int depth, Json::parse_event_t, Json&) { return depth < 12; }, false);
    if (!manifest.is_object()) return;
    if (manifest.contains("tensors") && manifest["tensors"].is_object())
      manifest["tensors"] = manifest_of("0")["tensors"];
    try {
      write_manifest(folder, manifest);
    } catch (const Json::exception&) {
      return;  // not UTF-8
    }
  }
  nn::StateDict tensors;
  try {
    nn::CheckpointStore store(folder.path());
    const auto found = store.load({.tensors = {{"t", &tensors}}});
    require(found.has_value(), "the intact checkpoint of step 1 is found");
    require(found->step == 2 || found->warnings.size() == 2, "a damaged checkpoint is reported");
    require(found->step == 2 || (tensors.size() == 1 && tensors[0].second.numel() == 3), "the intact one is loaded");
  } catch (const IoError&) {
    require(kind == 3 || kind == 1,
            "a damaged checkpoint does not end the search");  // a checksum fits, the tensors do not
  }
}

}  // namespace solvent::fuzz
