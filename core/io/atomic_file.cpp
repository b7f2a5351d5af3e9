#include "solvent/core/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/io/file_calls.h"

namespace solvent {

detail::FileCalls& detail::file_calls() noexcept {
  static FileCalls calls{::write, ::fsync, ::close, std::rename};
  return calls;
}

namespace {

std::string folder_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

const char* advice(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "free some space or choose another folder; the previous file, if any, is unchanged";
    case EFBIG:
      return "the file size limit of this process or file system is too small; the previous file is unchanged";
    case ENOENT: return "create the folder first";
    case EACCES:
    case EPERM:
    case EROFS: return "choose a folder that you may write to";
    case EISDIR: return "give the name of a file, not of a folder";
    default: return "the previous file, if any, is unchanged";
  }
}

// A name that is a link must keep being one: replace what it points to.
std::string resolve_link(std::string path) {
  std::error_code error;
  if (std::filesystem::is_symlink(path, error)) {
    const auto target = std::filesystem::canonical(path, error);
    if (!error) return target.string();
  }
  return path;
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(resolve_link(std::move(path))) {
  struct stat info {};
  if (::stat(path_.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) fail("write", EISDIR);
  static std::atomic<unsigned> counter{0};
  do {  // not mkstemp: it ignores the umask
    temporary_ = fmt::format("{}.tmp-{}-{}", path_, ::getpid(), counter.fetch_add(1, std::memory_order_relaxed));
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail("create a temporary file beside", errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action, int error) const {
  throw IoError(fmt::format("[write_file] cannot {} '{}': {}; {}", action, path_, std::strerror(error), advice(error)));
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    // Linux writes at most 2 GiB - 4 KiB per call.
    const ssize_t n =
        detail::file_calls().write(descriptor_, p, bytes < (std::size_t{1} << 30) ? bytes : (std::size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", errno);
    if (n == 0) fail("write", ENOSPC);  // no progress and no reason: trying again would not end
    p += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void AtomicFile::commit() {
  struct stat info {};
  if (::stat(path_.c_str(), &info) == 0 && ::fchmod(descriptor_, info.st_mode & 07777) != 0)
    fail("set the permissions of", errno);
  if (detail::file_calls().fsync(descriptor_) != 0) fail("flush", errno);
  if (detail::file_calls().close(std::exchange(descriptor_, -1)) != 0) fail("close", errno);
  if (detail::file_calls().rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace", errno);
  temporary_.clear();
  // Makes the rename itself durable; some file systems cannot, and the contents are safe either way.
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    (void)::fsync(folder);
    ::close(folder);
  }
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

std::string read_file(const std::string& path) {
  const auto fail = [&](int error) {
    throw IoError(fmt::format("[read_file] cannot read '{}': {}", path, std::strerror(error)));
  };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(errno);
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};
  std::string contents;
  // Grows with what arrives: the size a file claims (0 for /proc, wrong while it grows) is not trusted.
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(descriptor, buffer, sizeof buffer);
    if (n == 0) return contents;
    if (n > 0) {
      contents.append(buffer, static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      fail(errno);
    }
  }
}

}  // namespace solvent
