// Memory that training steps of the small convolutional network need, in a process that does nothing else: 20 steps at
// B = 64 with Adam. tests/bench/peers/memory.py runs this and the same in PyTorch, each in a fresh process.
//
//     bench_memory [STEPS] [THREADS]
//
// Prints one line of JSON: what the resident set grew by from before the first step to its maximum, and the most bytes of
// tensors alive beyond those before the first step.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "solvent/core/allocator.h"
#include "solvent/core/parallel.h"
#include "solvent/tests/bench/conv_net.h"

namespace {

// A value of /proc/self/status in bytes ("VmRSS:", "VmHWM:"); 0 where there is none.
double status_bytes(const char* name) {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return 0;
  char line[256];
  double kilobytes = 0;
  while (std::fgets(line, sizeof line, file) != nullptr)
    if (std::strncmp(line, name, std::strlen(name)) == 0) kilobytes = std::strtod(line + std::strlen(name), nullptr);
  std::fclose(file);
  return kilobytes * 1024;
}

// Makes VmHWM start again from the present size.
void reset_peak_resident() {
  if (std::FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace solvent;
  const int steps = argc > 1 ? std::atoi(argv[1]) : 20;
  const int threads = argc > 2 ? std::atoi(argv[2]) : num_threads();
  if (steps < 1 || threads < 1 || argc > 3) {
    std::fprintf(stderr, "usage: bench_memory [STEPS] [THREADS], both at least 1\n");
    return 2;
  }
  set_num_threads(threads);
  constexpr std::int64_t kBatch = 64;
  bench::ConvNet model(Key(2));
  nn::Adam optimizer({.learning_rate = 1e-3});
  const Tensor x = normal(Key(1), {kBatch, 3, 32, 32});
  std::vector<std::int64_t> classes;
  for (std::int64_t i = 0; i < kBatch; ++i) classes.push_back((7 * i + 3) % 10);
  const Tensor labels = from_vector(classes, {kBatch});

  reset_peak_resident();
  reset_peak_memory();
  const double resident = status_bytes("VmRSS:");
  const auto active = static_cast<double>(memory_stats().active);
  double loss = 0;
  for (int i = 0; i < steps; ++i) {
    const ValueAndGrad r = nn::value_and_grad(model, [&] { return cross_entropy(model(x), labels); });
    optimizer.step(model, r.grads);
    loss = r.value.item();
  }
  std::printf("{\"resident_growth\": %.0f, \"tensor_peak\": %.0f, \"loss\": %.6f}\n", status_bytes("VmHWM:") - resident,
              static_cast<double>(memory_stats().peak) - active, loss);
}
