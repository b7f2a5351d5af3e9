#include "solvent/core/io/file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::detail {

FileReader::FileReader(const char* op, std::string path)
    : op_(op), path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) {
    const int error = errno;
    fail(fmt::format("cannot open: {}{}", std::strerror(error), error == ENOENT ? "; check the path" : ""));
  }
  struct stat info {};
  const bool is_regular = ::fstat(descriptor_, &info) == 0 && S_ISREG(info.st_mode);
  if (!is_regular) {
    ::close(descriptor_);  // the destructor of a half-made object does not run
    fail("not a regular file; expected a file on disk, not a folder or a pipe");
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
}

FileReader::FileReader(const char* op, std::span<const std::byte> bytes, std::string name)
    : op_(op), path_(std::move(name)), descriptor_(-1), memory_(bytes.data()), size_(bytes.size()) {}

FileReader::~FileReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

SequentialSource::~SequentialSource() = default;

void FileReader::read(std::uint64_t offset, void* to, std::uint64_t bytes) const {
  if (descriptor_ < 0) {
    const std::uint64_t present = offset < size_ ? std::min(bytes, size_ - offset) : 0;
    if (present < bytes)
      fail(fmt::format("ends at byte {}, {} bytes too early; the file is truncated", size_, bytes - present));
    if (bytes > 0) std::memcpy(to, memory_ + offset, static_cast<std::size_t>(bytes));
    return;
  }
  char* p = static_cast<char*>(to);
  while (bytes > 0) {
    const std::size_t piece = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, std::uint64_t{1} << 30));
    const ssize_t n = ::pread(descriptor_, p, piece, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(fmt::format("cannot read: {}", std::strerror(errno)));
    if (n == 0) fail(fmt::format("ends at byte {}, {} bytes too early; the file is truncated", offset, bytes));
    p += n;
    offset += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::uint64_t>(n);
  }
}

std::string FileReader::prefix() const { return fmt::format("[{}] '{}'", op_, path_); }

void SequentialSource::fail(const std::string& message) const { throw IoError(prefix() + ": " + message); }

void FileReader::fail(const std::string& message) const { throw IoError(prefix() + ": " + message); }

}  // namespace solvent::detail
