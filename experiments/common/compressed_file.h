#pragma once
/// Sequential reading of plain or gzip-compressed files, with errors that name file and offset.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace solvent::experiments {

/// A file opened for reading; gzip is recognised by its content, not by its name.
class CompressedFile {
 public:
  /// @throws MissingDataError if there is no such file, DataError if it is a directory or cannot be opened.
  explicit CompressedFile(std::filesystem::path file);
  ~CompressedFile();
  CompressedFile(const CompressedFile&) = delete;
  CompressedFile& operator=(const CompressedFile&) = delete;

  /// Reads up to `bytes`; fewer only at the end of the file.
  /// @throws DataError if the compressed stream is truncated or corrupt.
  std::size_t read(void* data, std::size_t bytes);
  /// Reads a line without its end (LF or CRLF) into `line`; false at the end of the file.
  /// @throws DataError for a line above 64 MiB (not a text file) and as read().
  bool read_line(std::string& line);

  /// Bytes handed out so far, after decompression.
  [[nodiscard]] std::uint64_t offset() const;
  /// No more bytes than this can come out of the file; check claims against it before allocating.
  [[nodiscard]] std::uint64_t max_size() const;
  [[nodiscard]] const std::filesystem::path& path() const;

 private:
  bool refill();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace solvent::experiments
