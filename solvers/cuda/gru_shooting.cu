// Multiple shooting for the GRU. Rollouts are the persistent kernel of ops/cuda/gru_steps.cu with a block per chunk and
// sequence, so a pass takes as long as `length` steps of one sequence while there are fewer rollouts than the GPU holds. The
// partition depends on sizes only.

#include "solvent/solvers/cuda/gru_shooting.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/gru.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::solvers::cuda {
namespace {

using namespace solvent::cuda;
using solvent::cpu::GruShootingOptions;
using solvent::cpu::GruSolveReport;

// Chunk c has the steps [c length, (c + 1) length) that there are.
struct Plan {
  std::int64_t count, length, burn_in;
};

Plan make_plan(std::int64_t steps, std::int64_t batch, const GruShootingOptions& options) {
  constexpr std::int64_t kShortest = 128;  // as long as the burn-in, which costs as much as a chunk
  constexpr std::int64_t kRollouts = 8192;
  Plan plan{};
  const std::int64_t count = std::clamp<std::int64_t>(std::min(steps / kShortest, kRollouts / batch), 1, steps);
  plan.length = options.chunk > 0 ? std::min(options.chunk, steps) : (steps + count - 1) / count;
  plan.count = (steps + plan.length - 1) / plan.length;
  plan.burn_in = std::min<std::int64_t>(options.burn_in < 0 ? 128 : options.burn_in, plan.length);
  return plan;
}

// One border: |end of the chunk before - start|, largest ratio to the tolerance, and 1 if the chunk has to be rolled out
// again. NaN wins over every number; one that both sides share came from the cell, and another rollout would not change it.
// `broken` is 1 in the last chunk if the last state is not finite: NaN never leaves a state again, so it tells whether one
// appeared anywhere. The host reads all of it at once, for each wait costs as much as some 60 steps.
struct Border {
  double residual, ratio, wrong, broken;
};

template <class T>
__global__ void borders_kernel(const T* hs, T* starts, std::int64_t steps, std::int64_t batch, std::int64_t hidden,
                               Plan plan, double atol, double rtol, Border* borders, bool* active) {
  for (std::int64_t e = global_thread(); e < plan.count * batch; e += grid_threads()) {
    const std::int64_t chunk = e / batch;
    Border border{0, 0, 0, 0};
    if (chunk > 0) {
      const T* const end = hs + ((chunk * plan.length - 1) * batch + e % batch) * hidden;
      T* const start = starts + e * hidden;
      bool same = true;
      for (std::int64_t i = 0; i < hidden; ++i) {
        const bool both_nan = end[i] != end[i] && start[i] != start[i];
        same = same && (end[i] == start[i] || both_nan);
        const double difference = std::fabs(static_cast<double>(start[i]) - static_cast<double>(end[i]));
        const double scale = atol + rtol * std::fabs(static_cast<double>(end[i]));
        const double ratio = difference == 0 ? 0 : difference / scale;
        if (border.residual == border.residual && !(difference <= border.residual)) border.residual = difference;
        if (border.ratio == border.ratio && !(ratio <= border.ratio)) border.ratio = ratio;
      }
      if (!(border.ratio <= 1) && !same) {
        border.wrong = 1;
        for (std::int64_t i = 0; i < hidden; ++i) start[i] = end[i];
      }
    }
    if (chunk + 1 == plan.count) {
      const T* const last = hs + ((steps - 1) * batch + e % batch) * hidden;
      for (std::int64_t i = 0; i < hidden; ++i)
        if (!(std::fabs(last[i]) <= std::numeric_limits<T>::max())) border.broken = 1;
    }
    borders[e] = border;
    active[e] = border.wrong != 0;
  }
}

// Per sequence into `report`; true if a chunk has to be rolled out again.
bool check_borders(const std::vector<Border>& borders, std::size_t batch, GruSolveReport& report) {
  std::fill(report.residual.begin(), report.residual.end(), 0.0);
  std::fill(report.ratio.begin(), report.ratio.end(), 0.0);
  bool wrong = false;
  for (std::size_t e = 0; e < borders.size(); ++e) {
    double& residual = report.residual[e % batch];
    double& ratio = report.ratio[e % batch];
    if (!std::isnan(residual) && !(borders[e].residual <= residual)) residual = borders[e].residual;
    if (!std::isnan(ratio) && !(borders[e].ratio <= ratio)) ratio = borders[e].ratio;
    wrong = wrong || borders[e].wrong != 0;
  }
  return wrong;
}

void report_broken(const std::vector<Border>& borders, std::size_t batch, GruSolveReport& report) {
  for (std::size_t b = 0; b < batch; ++b) {
    if (borders[borders.size() - batch + b].broken == 0) continue;
    report.residual[b] = std::numeric_limits<double>::quiet_NaN();
    report.ratio[b] = std::numeric_limits<double>::quiet_NaN();
  }
}

template <class T>
GruSolveReport run(const Tensor& h0, const Tensor& xs, const Tensors& theta, Tensor& hs,
                   const GruShootingOptions& options) {
  const std::int64_t steps = xs.size(0), batch = xs.size(1), hidden = h0.size(1);
  const Device device = h0.device();
  const Plan plan = make_plan(steps, batch, options);
  GruSolveReport report;
  report.residual.assign(static_cast<std::size_t>(batch), 0.0);
  report.ratio.assign(static_cast<std::size_t>(batch), 0.0);
  report.chunks = plan.count;
  report.max_passes = options.max_passes > 0 ? options.max_passes : static_cast<int>(plan.count);

  const Tensor xw = engine::contiguous(matmul(reshape(xs, {steps * batch, xs.size(2)}), mT(theta[0])));
  const Tensor w_hh = engine::contiguous(theta[1]), b = engine::contiguous(theta[2]),
               b_hn = engine::contiguous(theta[3]);
  const Tensor first = engine::contiguous(h0);
  Tensor starts = engine::empty(Shape{plan.count, batch, hidden}, h0.dtype(), device);
  Tensor active = engine::empty(Shape{plan.count, batch}, DType::boolean, device);
  Tensor borders = engine::empty(Shape{plan.count, batch, 4}, DType::float64, device);
  T* const start = engine::mutable_ptr<T>(starts);
  bool* const wanted = engine::mutable_ptr<bool>(active);
  auto* const border = reinterpret_cast<Border*>(engine::mutable_ptr<double>(borders));
  const std::size_t row = static_cast<std::size_t>(batch * hidden) * sizeof(T);

  GruStates<T> call{};
  call.batch = batch;
  call.hidden = hidden;
  call.xw = engine::ptr<T>(xw);
  call.w_hh = engine::ptr<T>(w_hh);
  call.b = engine::ptr<T>(b);
  call.b_hn = engine::ptr<T>(b_hn);
  call.length = plan.length;
  set_bytes(start, 0, static_cast<std::size_t>(plan.count) * row, device);
  copy_on_device(start, engine::ptr<T>(first), row, device);
  if (plan.count > 1 && plan.burn_in > 0) {
    GruStates<T> burn = call;
    burn.steps = plan.burn_in;
    burn.chunks = plan.count - 1;
    burn.shift = plan.length - plan.burn_in;
    burn.last = start + batch * hidden;
    gru_states(burn, device);
  }
  call.steps = plan.length;
  call.chunks = plan.count;
  call.total = steps;
  call.before = start;
  call.hs = engine::mutable_ptr<T>(hs);
  std::vector<Border> found(static_cast<std::size_t>(plan.count * batch));
  bool wrong = true;
  while (wrong && report.passes < report.max_passes) {
    gru_states(call, device);
    call.active = wanted;
    ++report.passes;
    launch(over_elements("gru_shooting", plan.count * batch, device), borders_kernel<T>, call.hs, start, steps, batch,
           hidden, plan, options.atol, options.rtol, border, wanted);
    copy_to_host(found.data(), border, found.size() * sizeof(Border), device);
    wrong = check_borders(found, static_cast<std::size_t>(batch), report);
  }
  report_broken(found, static_cast<std::size_t>(batch), report);
  return report;
}

}  // namespace

GruSolveReport gru_shooting(const Tensor& h0, const Tensor& xs, const Tensors& theta, Tensor& hs,
                            const GruShootingOptions& options) {
  return dispatch_float(h0.dtype(), "solve_sequence",
                        [&](auto tag) { return run<typename decltype(tag)::type>(h0, xs, theta, hs, options); });
}

}  // namespace solvent::solvers::cuda
