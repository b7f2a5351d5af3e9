#include "solvent/experiments/common/compressed_file.h"

#include <zlib.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr std::size_t kBufferBytes = 1U << 18U;
constexpr std::size_t kMaxLineBytes = 64U << 20U;
// Deflate expands one byte to at most 1032 (zlib's technical notes, "maximum expansion factor").
constexpr std::uint64_t kMaxExpansion = 1032;

}  // namespace

struct CompressedFile::State {
  std::filesystem::path path;
  gzFile handle = nullptr;
  std::vector<char> buffer;
  std::size_t begin = 0, end = 0;  // unread part of the buffer
  std::uint64_t offset = 0, max_size = 0;
};

CompressedFile::CompressedFile(std::filesystem::path file) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = std::move(file);
  std::error_code error;
  const auto status = std::filesystem::status(s.path, error);
  if (!std::filesystem::exists(status)) {
    throw MissingDataError(fmt::format("[read] {} does not exist; check the path", s.path.string()));
  }
  if (std::filesystem::is_directory(status)) {
    throw DataError(fmt::format("[read] {} is a directory; expected a file", s.path.string()));
  }
  const std::uint64_t size = std::filesystem::file_size(s.path, error);
  char magic[2] = {};
  std::ifstream(s.path, std::ios::binary).read(magic, 2);
  const bool is_gzip = magic[0] == '\x1f' && magic[1] == '\x8b';
  s.max_size = is_gzip ? size * kMaxExpansion : size;
  s.handle = error ? nullptr : gzopen(s.path.c_str(), "rb");
  if (!s.handle) {
    throw DataError(fmt::format("[read] cannot open {}: {}", s.path.string(), std::strerror(errno)));
  }
  s.buffer.resize(kBufferBytes);
}

CompressedFile::~CompressedFile() {
  if (state_->handle) gzclose(state_->handle);
}

bool CompressedFile::refill() {
  State& s = *state_;
  const int count = gzread(s.handle, s.buffer.data(), static_cast<unsigned>(s.buffer.size()));
  int code = Z_OK;
  const char* message = gzerror(s.handle, &code);
  // A truncated stream delivers what it has, then returns 0 and Z_BUF_ERROR rather than a failure.
  if (count < 0 || (count == 0 && code != Z_OK && code != Z_STREAM_END)) {
    throw DataError(fmt::format("[read] {} is truncated or corrupt after {} decompressed bytes: {}. Fetch it again.",
                                s.path.string(), s.offset, code == Z_ERRNO ? std::strerror(errno) : message));
  }
  s.begin = 0;
  s.end = static_cast<std::size_t>(count);
  return count > 0;
}

std::size_t CompressedFile::read(void* data, std::size_t bytes) {
  State& s = *state_;
  std::size_t done = 0;
  while (done < bytes) {
    if (s.begin == s.end && !refill()) break;
    const std::size_t count = std::min(bytes - done, s.end - s.begin);
    std::memcpy(static_cast<char*>(data) + done, s.buffer.data() + s.begin, count);
    s.begin += count;
    s.offset += count;
    done += count;
  }
  return done;
}

bool CompressedFile::read_line(std::string& line) {
  State& s = *state_;
  line.clear();
  bool has_any = false;
  while (true) {
    if (s.begin == s.end && !refill()) break;
    has_any = true;
    const char* first = s.buffer.data() + s.begin;
    const auto* newline = static_cast<const char*>(std::memchr(first, '\n', s.end - s.begin));
    const std::size_t count = newline ? static_cast<std::size_t>(newline - first) : s.end - s.begin;
    if (line.size() + count > kMaxLineBytes) {
      throw DataError(fmt::format("[read] {} has a line above {} MiB at byte {}; expected a text file", s.path.string(),
                                  kMaxLineBytes >> 20U, s.offset));
    }
    line.append(first, count);
    s.begin += count + (newline ? 1 : 0);
    s.offset += count + (newline ? 1 : 0);
    if (newline) break;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return has_any;
}

std::uint64_t CompressedFile::offset() const { return state_->offset; }
std::uint64_t CompressedFile::max_size() const { return state_->max_size; }
const std::filesystem::path& CompressedFile::path() const { return state_->path; }

}  // namespace solvent::experiments
