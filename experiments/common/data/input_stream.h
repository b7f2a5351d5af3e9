#pragma once
/// Sequential reading of plain, gzip or xz data from a file or from memory, with errors that name file and offset.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace solvent::experiments {

/// Called now and then while a file is read: its name, and how much of it (before decompression) is done, of how much.
using ReadProgress = std::function<void(const std::string& name, std::uint64_t done, std::uint64_t total)>;

/// Bytes in order. Compression is recognised by the content, not by the name.
///
/// Memory: two buffers of together 320 KiB, and for xz the dictionary that the file asks for, at most 128 MiB of address
/// space that fills as data come.
class InputStream {
 public:
  /// @throws MissingDataError if there is no such file, DataError if it is a directory or cannot be opened.
  explicit InputStream(const std::filesystem::path& file, ReadProgress progress = {});
  /// Reads `bytes`, which must outlive the stream; `name` stands for the path in messages.
  InputStream(std::span<const std::byte> bytes, std::string name);
  ~InputStream();
  InputStream(const InputStream&) = delete;
  InputStream& operator=(const InputStream&) = delete;

  /// Reads up to `bytes`; fewer only at the end.
  /// @throws DataError if the compressed stream is truncated or corrupt, or needs too much memory.
  std::size_t read(void* data, std::size_t bytes);
  /// Appends up to `bytes` to `out`, which grows with the data that come, whatever was claimed. Returns how many came.
  std::size_t append(std::vector<std::uint8_t>& out, std::uint64_t bytes);
  /// Reads and forgets. Returns how many bytes came.
  std::uint64_t skip(std::uint64_t bytes);
  /// Reads a line without its end (LF or CRLF) into `line`; false at the end of the file.
  /// @throws DataError for a line above 8 MiB (not a text file) and as read().
  bool read_line(std::string& line);

  /// Bytes handed out so far, after decompression.
  [[nodiscard]] std::uint64_t offset() const;
  /// No more bytes than this can come; check claims against it. Far above what usually comes: allocate by append().
  [[nodiscard]] std::uint64_t max_size() const;
  /// Path or name.
  [[nodiscard]] const std::string& name() const;

 private:
  bool refill();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace solvent::experiments
