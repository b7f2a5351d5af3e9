#pragma once
/// What a training loop measures, in every form that people want it: CSV, JSON lines, TensorBoard.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/core/tensor.h"
#include "solvent/experiments/common/image_grid.h"
#include "solvent/experiments/common/run_dir.h"
#include "solvent/experiments/common/tensorboard.h"

namespace solvent::experiments {

/// Writes metrics.csv, metrics.jsonl and tensorboard/ of a run directory.
///
/// ```cpp
/// Recorder recorder(run, {{"loss", "nat"}, {"test accuracy", ""}}, first_step);
/// recorder.append(step, {{loss, kNan}});           // NaN: not measured at this step
/// recorder.images("samples", step, samples);      // samples-00000100.png, and in TensorBoard
/// recorder.sync();                                // before a checkpoint, which must not be ahead of its metrics
/// ```
class Recorder {
 public:
  struct Outputs {
    bool jsonl = true;
    bool tensorboard = true;
  };

  /// Starts the files, or goes on with those of a run that is resumed after `last_step` (> 0): later rows are dropped.
  /// @throws as MetricsWriter and TensorBoardWriter
  Recorder(const RunDir& run, std::vector<MetricColumn> columns, std::int64_t last_step, Outputs outputs);
  Recorder(const RunDir& run, std::vector<MetricColumn> columns, std::int64_t last_step)
      : Recorder(run, std::move(columns), last_step, Outputs{}) {}

  /// One row. @throws as MetricsWriter::append
  void append(std::int64_t step, std::span<const double> values);
  /// A grid of images as `name-STEP.png` and in TensorBoard. @throws as image_grid
  void images(const std::string& name, std::int64_t step, const Tensor& images, const GridOptions& options = {});
  /// Flushes everything to disk.
  void sync();

 private:
  RunDir run_;
  std::vector<std::string> tags_;
  MetricsWriter csv_;
  std::unique_ptr<MetricsWriter> jsonl_;
  std::unique_ptr<TensorBoardWriter> events_;
};

}  // namespace solvent::experiments
