#pragma once
/// `deer demo`: evaluates one recurrence by every method, and prints times, iterations, residuals and deviations.

#include "solvent/experiments/common/check.h"
#include "solvent/experiments/common/program.h"

namespace solvent::experiments {

struct DemoSettings {
  std::int64_t seed = 0;
  std::string cell = "gru";
  std::int64_t input_size = 2, batch_size = 16, length = 10000;
  std::string dtype = "float32", device = "cpu";
  std::vector<std::string> methods = {"steps", "sequential", "jacobi", "quasi-deer", "deer", "shooting"};
  std::int64_t threads = 0, repetitions = 3;
  std::string out;
  CheckSettings check;
};

void describe(DemoSettings& settings, Options& options);
ExitCode demo(const DemoSettings& settings, const Invocation& invocation);

}  // namespace solvent::experiments
