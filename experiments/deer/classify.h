#pragma once
/// `deer classify`: trains the GRU classifier with the recurrence evaluated by a chosen method.

#include "solvent/experiments/common/check.h"
#include "solvent/experiments/common/program.h"

namespace solvent::experiments {

struct ClassifySettings {
  std::string dataset = "acsf1", data_dir;
  std::int64_t max_series = 0, pool = 1;
  bool log_scale = false;
  std::int64_t hidden = 32, layers = 5;
  std::string method = "deer";
  std::int64_t window = 0;
  double atol = 1e-6, rtol = 1e-6;
  std::int64_t max_iterations = 200;
  std::int64_t steps = 1000, batch_size = 4, eval_batch_size = 25;
  double learning_rate = 3e-5, clip_norm = 1.0, final_rate_factor = 1.0;
  std::int64_t warmup_steps = 0;
  std::int64_t eval_every = 100, checkpoint_every = 100, parity_steps = 50;
  std::int64_t seed = 0, threads = 0;
  std::string device = "cpu", out, resume;
  bool tensorboard = true;
  CheckSettings check;
};

/// Adds the options of `settings`.
void describe(ClassifySettings& settings, Options& options);
ExitCode classify(const ClassifySettings& settings, const Invocation& invocation);

}  // namespace solvent::experiments
