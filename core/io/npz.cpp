#include "solvent/core/io/npz.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/io/npy_reader.h"
#include "solvent/core/io/zip.h"

namespace solvent {

namespace {

constexpr std::string_view kSuffix = ".npy";

// A member of the archive as the npy parser wants it.
class MemberSource final : public detail::SequentialSource {
 public:
  MemberSource(const ZipArchive& archive, const ZipEntry& entry, std::string where)
      : member_(archive.open(entry)), size_(entry.size), where_(std::move(where)) {}

  [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
  void read(void* to, std::uint64_t bytes) override {
    const std::size_t got = member_.read(to, static_cast<std::size_t>(bytes));
    offset_ += got;
    if (got < bytes)
      fail(fmt::format("ends at byte {}, {} bytes too early; the file is truncated", offset_, bytes - got));
    // The checksum is verified at the member's end: step over it, or a corrupt last block would go unnoticed.
    if (offset_ == size_) {
      char surplus = 0;
      if (member_.read(&surplus, 1) != 0) fail("goes on behind its claimed size; the file is corrupt");
    }
  }
  [[nodiscard]] std::string prefix() const override { return "[load_npz] " + where_; }

 private:
  ZipMember member_;
  std::uint64_t size_, offset_ = 0;
  std::string where_;
};

}  // namespace

struct NpzFile::State {
  ZipArchive archive;
  std::string path;
  std::vector<std::string> names;
  std::unordered_map<std::string_view, const ZipEntry*> by_name;  // keys point into the archive's directory

  State(ZipArchive opened, std::string file) : archive(std::move(opened)), path(std::move(file)) {
    for (const ZipEntry& entry : archive.entries()) {
      if (!entry.name.ends_with(kSuffix)) continue;
      const std::string_view name = entry.name.substr(0, entry.name.size() - kSuffix.size());
      if (!by_name.emplace(name, &entry).second)
        throw IoError(fmt::format("[load_npz] '{}': holds two arrays named '{}'", path, name));
      names.emplace_back(name);
    }
  }
};

NpzFile::NpzFile(const std::string& path) : state_(std::make_unique<State>(ZipArchive(path), path)) {}
NpzFile::NpzFile(std::span<const std::byte> bytes, const std::string& name)
    : state_(std::make_unique<State>(ZipArchive(bytes, name), name)) {}
NpzFile::~NpzFile() = default;
NpzFile::NpzFile(NpzFile&&) noexcept = default;
NpzFile& NpzFile::operator=(NpzFile&&) noexcept = default;

const std::vector<std::string>& NpzFile::names() const noexcept { return state_->names; }
bool NpzFile::contains(std::string_view name) const noexcept { return state_->by_name.count(name) > 0; }

Tensor NpzFile::load(std::string_view name) const {
  const auto it = state_->by_name.find(name);
  if (it == state_->by_name.end())
    throw IoError(fmt::format("[load_npz] '{}': holds no array '{}'; there are: {}", state_->path, name,
                              fmt::join(state_->names, ", ")));
  MemberSource source(state_->archive, *it->second, fmt::format("'{}', array '{}'", state_->path, name));
  return detail::read_npy(source);
}

namespace {

std::vector<std::pair<std::string, Tensor>> load_all(const NpzFile& file) {
  std::vector<std::pair<std::string, Tensor>> arrays;
  for (const std::string& name : file.names()) arrays.emplace_back(name, file.load(name));
  return arrays;
}

}  // namespace

std::vector<std::pair<std::string, Tensor>> load_npz(const std::string& path) { return load_all(NpzFile(path)); }

std::vector<std::pair<std::string, Tensor>> parse_npz(std::span<const std::byte> bytes, const std::string& name) {
  return load_all(NpzFile(bytes, name));
}

}  // namespace solvent
