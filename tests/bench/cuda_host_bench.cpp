// What the host spends on work for a GPU, and which calls it makes, without a GPU: the program runs on a CUDA runtime that does
// nothing (null_cuda/calls.h). Times are those of Solvent's own code, without the driver's 1.5 to 2.5 us per launch. Numbers of
// calls do not depend on the machine, and have limits: exit code 1 above them.
//
//   build/cuda/bin/bench_cuda_host [--calls]      --calls: every function of the runtime; kernels with SOLVENT_NULL_CUDA_KERNELS=1

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/stream.h"
#include "solvent/tests/bench/conv_net.h"
#include "solvent/tests/bench/cuda_training_step.h"
#include "solvent/tests/bench/null_cuda/calls.h"

namespace solvent::bench {
namespace {

constexpr Device kGpu{DeviceType::cuda, 0};
constexpr int kLength = 100;

struct Case {
  std::string name;
  std::function<void()> run;
  double items = 1;          // of one call; times and numbers are per item
  double most_launches = 0;  // per item
};

// --- what is counted ------------------------------------------------------------------------------------------------------

bool is_launch(const std::string& call) {
  return call.starts_with("cudaLaunchKernel") || call.starts_with("__cudaLaunchKernel") ||
         call.starts_with("cublasGemm") || (call.starts_with("cudnnConvolution") && !call.ends_with("Size")) ||
         call == "cudaGraphLaunch";
}
bool is_copy(const std::string& call) { return call.starts_with("cudaMem") && call.ends_with("Async"); }
bool is_wait(const std::string& call) { return call.ends_with("Synchronize") || call == "cudaMemcpy"; }
bool is_memory(const std::string& call) {
  return call == "cudaMalloc" || call == "cudaFree" || call == "cudaHostAlloc" || call == "cudaFreeHost";
}
// Not a function of the runtime.
bool is_note(const std::string& call) { return call.find(' ') != std::string::npos || call.starts_with("_Z"); }

struct Figures {
  double seconds = 0;
  double launches = 0, copies = 0, waits = 0, memory = 0, others = 0, replayed = 0, allocations = 0;
  null_cuda::Calls calls;
};

double seconds_of(const std::function<void()>& run, int times) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Figures measure(const Case& c) {
  constexpr int kRounds = 200;
  for (int i = 0; i < 3; ++i) c.run();  // fills caches
  const int times = std::clamp(static_cast<int>(2e-3 / (seconds_of(c.run, 3) / 3)), 1, 1000);
  std::vector<double> rounds;
  const std::uint64_t allocations = memory_stats(kGpu).allocations;
  const null_cuda::Calls before = null_cuda::calls();
  for (int i = 0; i < kRounds; ++i) rounds.push_back(seconds_of(c.run, times));
  Figures f;
  f.calls = null_cuda::calls();
  std::sort(rounds.begin(), rounds.end());
  const double items = c.items * times;
  f.seconds = rounds[kRounds / 10] / items;  // other programs disturb only upwards
  f.allocations = static_cast<double>(memory_stats(kGpu).allocations - allocations) / (items * kRounds);
  for (auto& [call, count] : f.calls) {
    const auto found = before.find(call);
    count -= found == before.end() ? 0 : found->second;
    const double each = static_cast<double>(count) / (items * kRounds);
    if (call == "nodes replayed") f.replayed = each;
    if (is_note(call)) continue;
    (is_launch(call)   ? f.launches
     : is_copy(call)   ? f.copies
     : is_wait(call)   ? f.waits
     : is_memory(call) ? f.memory
                       : f.others) += each;
  }
  return f;
}

// False if a limit is exceeded. A step that waits, or asks for memory, or launches more than it did is a mistake.
bool report(const Case& c, bool every_call) {
  const Figures f = measure(c);
  const bool met = f.waits == 0 && f.memory == 0 && f.launches <= c.most_launches;
  fmt::print("{:<26}{:>10.2f} us{:>10.2f}{:>8.2f}{:>8.2f}{:>8.2f}{:>8.2f}{:>8.2f}{:>8.0f}  {}\n", c.name,
             f.seconds * 1e6, f.launches, f.copies, f.allocations, f.others, f.waits, f.memory, f.replayed,
             met ? "" : fmt::format("MISSED: no waits, no memory, at most {} launches", c.most_launches));
  if (every_call)
    for (const auto& [call, count] : f.calls)
      if (count > 0) fmt::print("    {:<46}{}\n", call, count);
  std::fflush(stdout);
  return met;
}

// --- what is measured -----------------------------------------------------------------------------------------------------

Tensor chain(Tensor h, const Tensor& b) {
  for (int i = 0; i < kLength; ++i) h = h + b;
  return h;
}

void add_operations(std::vector<Case>& cases) {
  const Tensor x = ones({8}, {float32, kGpu}), b = ones({8}, {float32, kGpu});
  const auto f = [b](const Tensor& h) { return chain(h, b); };
  cases.push_back({"add_8/untaped",
                   [=] {
                     for (int i = 0; i < kLength; ++i) const Tensor y = x + b;
                   },
                   kLength, 1});
  cases.push_back({"add_8/recorded", [=] { const Tensor y = vjp(f, x).value; }, kLength, 1});
  cases.push_back({"add_8/backward", [=] { const Tensor g = vjp(f, x).pullback(x); }, kLength, 1});
  auto replay = std::make_shared<Graph>(graph([](const Tensors& in) { return Tensors{chain(in[0], in[1])}; }, {x, b}));
  cases.push_back({"add_8/graph", [=] { const Tensors y = (*replay)({x, b}); }, kLength, 1});
}

template <class Model>
void add_training(std::vector<Case>& cases, const std::string& name, Model model, const Shape& x_shape,
                  std::int64_t batch, double eager_launches, double optimizer_launches, double graph_launches) {
  model = on_device(model, kGpu);
  const Tensor x = zeros(x_shape, {float32, kGpu}), labels = zeros({batch}, {int64, kGpu});
  const Step step = step_of(model, x, labels);
  auto state = std::make_shared<Tensors>(model.parameter_values());
  for (const Tensor& p : model.parameter_values()) state->push_back(zeros(p.shape(), {p.dtype(), kGpu}));
  const auto run_with = [state](auto&& any_step) {
    *state = any_step(*state);
    state->pop_back();  // the loss stays on the device
  };
  cases.push_back({name + "/eager", [=] { run_with(step); }, 1, eager_launches});
  auto trained = std::make_shared<Model>(model);
  auto sgd = std::make_shared<nn::Sgd>(nn::SgdOptions{.learning_rate = kRate, .momentum = kMomentum});
  cases.push_back({name + "/optimizer",
                   [=] {
                     const auto r = nn::value_and_grad(*trained, [&] { return cross_entropy((*trained)(x), labels); });
                     sgd->step(*trained, r.grads);
                   },
                   1, optimizer_launches});
  auto replay = std::make_shared<Graph>(graph(step, *state));
  cases.push_back({name + "/graph", [=] { run_with(*replay); }, 1, graph_launches});
}

int run(bool every_call) {
  std::vector<Case> cases;
  add_operations(cases);
  add_training(cases, "mlp_784_512_512_10_B128", nn::Mlp({784, 512, 512, kClasses}, Key(1)), {128, 784}, 128, 27, 27,
               3);
  add_training(cases, "cnn_3x32x32_B64", ConvNet(Key(2)), {64, 3, 32, 32}, 64, 40, 40, 3);
  add_training(cases, "gru_5x32_T1460_B16", GruNet(Key(3)), {1460, 16, 1}, 16, 88, 88, 3);
  fmt::print("{:<26}{:>13}{:>10}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}\n", "per operation or step", "host", "launches",
             "copies", "blocks", "others", "waits", "memory", "replayed");
  bool met = true;
  for (const Case& c : cases) met = report(c, every_call) && met;
  return met ? 0 : 1;
}

}  // namespace
}  // namespace solvent::bench

int main(int argc, char** argv) {
  try {
    return solvent::bench::run(argc > 1 && std::strcmp(argv[1], "--calls") == 0);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_cuda_host: %s\n", e.what());
    return 2;
  }
}
