#pragma once
/// Files that appear complete or not at all: bytes go to a temporary file beside the target, are flushed to disk, and
/// the temporary is renamed over the target. A crash or a full disk leaves an existing file as it was.

#include <cstddef>
#include <string>
#include <string_view>

#include "solvent/core/export.h"

namespace solvent {

/// A file under construction.
///
///     AtomicFile file("run/metrics.csv");
///     file.write(header);
///     file.write(values.data(), values.size() * sizeof(double));
///     file.commit();   // without this the temporary is removed and `path` stays untouched
class SOLVENT_API AtomicFile {
 public:
  /// Creates a temporary file in the folder of `path`. @throws IoError if that is not possible.
  explicit AtomicFile(std::string path);
  /// Removes the temporary file unless commit() succeeded.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. @throws IoError (disk full, quota, device errors); the target is not touched.
  void write(const void* data, std::size_t bytes);
  /// Appends text. @throws IoError as above.
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Flushes to disk and replaces `path`; keeps the permissions of a file that is replaced. Call once. @throws IoError
  void commit();

  /// Where the bytes go until commit(): for libraries that insist on writing to a path themselves.
  [[nodiscard]] const std::string& temporary_path() const noexcept { return temporary_; }

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

/// AtomicFile for contents that are already in memory. @throws IoError
SOLVENT_API void write_file_atomically(const std::string& path, std::string_view bytes);

/// Reads a whole file. @throws IoError naming the path and the reason (missing, a folder, not readable).
SOLVENT_API std::string read_file(const std::string& path);

}  // namespace solvent
