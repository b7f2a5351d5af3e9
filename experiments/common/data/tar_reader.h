#pragma once
/// Tar archives as a stream: nothing is unpacked to disk, one member at a time is in reach.

#include <cstdint>
#include <string>

#include "solvent/experiments/common/data/input_stream.h"

namespace solvent::experiments {

/// Walks the regular files of a tar archive (ustar, pax and GNU headers), whatever its compression.
///
///     InputStream stream("cifar-10-binary.tar.gz");
///     for (TarReader tar(stream); tar.next();)
///       if (tar.name() == "cifar-10-batches-bin/test_batch.bin") use(tar);
class TarReader {
 public:
  /// `stream` must outlive this and not be read by anyone else.
  explicit TarReader(InputStream& stream) : stream_(stream) {}

  /// Moves to the next regular file; false at the end. @throws DataError naming archive and byte for a damaged header, a
  /// size that the archive cannot hold, or a missing end.
  bool next();
  /// Up to `bytes` of the file's rest. @throws DataError if the archive ends too early.
  std::size_t read(void* data, std::size_t bytes);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }

 private:
  [[noreturn]] void fail(const std::string& problem) const;
  void skip_rest();
  std::string read_long_name();

  InputStream& stream_;
  std::string name_;
  std::uint64_t size_ = 0, left_ = 0, padding_ = 0;
};

}  // namespace solvent::experiments
