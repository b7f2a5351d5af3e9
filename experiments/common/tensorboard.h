#pragma once
/// TensorBoard event files, written without TensorFlow: `tensorboard --logdir runs` shows them.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace solvent::experiments {

/// One event file. Every event goes to the file at once, so a killed run keeps what it wrote.
///
/// ```cpp
/// TensorBoardWriter events(run.file("tensorboard"), first_step);
/// events.scalar("loss", step, 0.31);
/// events.image("samples", step, width, height, 3, pixels);
/// ```
/// The file is a sequence of records (length, masked CRC-32C of the length, data, masked CRC-32C of the data: TensorFlow's
/// core/lib/io/record_writer), each an Event message of core/util/event.proto in protobuf's wire format.
class TensorBoardWriter {
 public:
  /// Makes the folder and a new file in it. With `resumed_after` >= 0 it tells TensorBoard to forget what earlier files
  /// say about later steps. @throws IoError
  explicit TensorBoardWriter(const std::filesystem::path& directory, std::int64_t resumed_after = -1);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  /// A point of a curve; curves whose tags share what stands before a slash share a section. float32 in the file.
  /// @throws IoError (disk full), as all below
  void scalar(std::string_view tag, std::int64_t step, double value);
  /// Several curves at one step as one event; `tags` and `values` have the same length; NaNs are left out.
  void scalars(std::span<const std::string> tags, std::int64_t step, std::span<const double> values);
  /// 8-bit pixels (height, width, channels), 1, 3 or 4 channels. @throws ValueError for a wrong size
  void image(std::string_view tag, std::int64_t step, int width, int height, int channels,
             std::span<const std::uint8_t> pixels);
  /// A note, shown on the page of texts (Markdown).
  void text(std::string_view tag, std::int64_t step, std::string_view markdown);
  /// The distribution of some numbers, in `bins` equal bins from the smallest to the largest. Non-finite ones are left out.
  void histogram(std::string_view tag, std::int64_t step, std::span<const double> values, int bins = 30);
  /// Flushes to disk.
  void sync();

  [[nodiscard]] const std::filesystem::path& file() const { return file_; }

 private:
  void write_event(std::int64_t step, std::uint32_t field, std::string_view payload);
  void write_record(std::string_view data);

  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace solvent::experiments
