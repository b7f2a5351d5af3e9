#pragma once
/// Reading binary files whose claims are not trusted. Internal to core.

#include <cstdint>
#include <string>

namespace solvent::detail {

/// A regular file opened for reading. Every error is an IoError that starts with the operation and the path.
class FileReader {
 public:
  FileReader(const char* op, std::string path);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  /// Bytes in the file when it was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Exactly `bytes` bytes from `offset`; anything less is an error.
  void read(std::uint64_t offset, void* to, std::uint64_t bytes) const;
  /// Throws IoError "[op] 'path': <message>".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const char* op_;
  std::string path_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace solvent::detail
