#include "solvent/experiments/common/recorder.h"

#include <fmt/format.h>

#include "solvent/experiments/common/canvas.h"

namespace solvent::experiments {

Recorder::Recorder(const RunDir& run, std::vector<MetricColumn> columns, std::int64_t last_step, Outputs outputs)
    : run_(run), csv_(run.file("metrics.csv"), columns, last_step) {
  for (const MetricColumn& column : columns) tags_.push_back(column.name);
  if (outputs.jsonl) jsonl_ = std::make_unique<MetricsWriter>(run.file("metrics.jsonl"), columns, last_step);
  if (outputs.tensorboard)
    events_ = std::make_unique<TensorBoardWriter>(run.file("tensorboard"), last_step > 0 ? last_step : -1);
}

void Recorder::append(std::int64_t step, std::span<const double> values) {
  csv_.append(step, values);
  if (jsonl_) jsonl_->append(step, values);
  if (events_) events_->scalars(tags_, step, values);
}

void Recorder::images(const std::string& name, std::int64_t step, const Tensor& images, const GridOptions& options) {
  const Raster grid = image_grid(images, options);
  write_png(run_.file(fmt::format("{}-{:08}.png", name, step)), grid.width, grid.height, grid.channels, grid.pixels);
  if (events_) events_->image(name, step, grid.width, grid.height, grid.channels, grid.pixels);
}

void Recorder::sync() {
  csv_.sync();
  if (jsonl_) jsonl_->sync();
  if (events_) events_->sync();
}

}  // namespace solvent::experiments
