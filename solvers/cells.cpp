// Cells of nn/ as solvers see them, with their fused kernels.

#include <algorithm>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/ops/gru.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/cpu/gru_shooting.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/gru.h"
#include "solvent/solvers/cuda/gru_adjoint.h"
#include "solvent/solvers/cuda/gru_newton.h"
#include "solvent/solvers/cuda/gru_shooting.h"
#endif
#include "solvent/solvers/sequence.h"

namespace solvent::solvers {

namespace {

cpu::GruShape gru_shape(const Tensor& xs, const Tensor& h0) {
  return {.T = xs.size(0), .B = xs.size(1), .I = xs.size(2), .H = h0.size(1)};
}

FusedResult to_result(Tensor value, cpu::GruSolveReport report) {
  FusedResult r;
  r.value = std::move(value);
  r.residual = std::move(report.residual);
  r.ratio = std::move(report.ratio);
  r.passes = report.passes;
  r.max_passes = report.max_passes;
  r.windows = static_cast<int>(report.windows);
  return r;
}

// Runs `kernel(shape, weights, xs, h0, hs, tag)` on contiguous memory of the tensors' type.
template <class Kernel>
FusedResult run_gru(const Tensor& h0, const Tensor& xs, const Tensors& theta, Kernel&& kernel) {
  FusedResult result;
  dispatch_float(h0.dtype(), "gru", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Tensor x = engine::contiguous(xs), h = engine::contiguous(h0);
    Tensors w;
    for (const Tensor& t : theta) w.push_back(engine::contiguous(t));
    const cpu::GruWeights<T> weights{.w_ih = engine::ptr<T>(w[0]),
                                     .w_hh = engine::ptr<T>(w[1]),
                                     .b = engine::ptr<T>(w[2]),
                                     .b_hn = engine::ptr<T>(w[3])};
    Tensor hs = engine::empty({xs.size(0), xs.size(1), h0.size(1)}, h0.dtype());
    T* out = engine::mutable_ptr<T>(hs);
    result = to_result(std::move(hs), kernel(gru_shape(x, h), weights, engine::ptr<T>(x), engine::ptr<T>(h), out));
  });
  return result;
}

// The kernels trust their inputs; arguments that do not fit are left to the generic path, which reports them.
bool fits(const Tensor& h0, const Tensor& xs, const Tensors& theta) {
  if (xs.rank() != 3 || h0.rank() != 2 || theta.size() != 4) return false;
  const std::int64_t hidden = h0.size(1);
  if (!(theta[0].shape() == Shape{3 * hidden, xs.size(2)} && theta[1].shape() == Shape{3 * hidden, hidden} &&
        theta[2].shape() == Shape{3 * hidden} && theta[3].shape() == Shape{hidden}))
    return false;
  const auto like_h0 = [&](const Tensor& t) { return t.dtype() == h0.dtype() && t.device() == h0.device(); };
  return like_h0(xs) && std::all_of(theta.begin(), theta.end(), like_h0);
}

#if SOLVENT_WITH_CUDA
FusedResult gru_shooting_on_gpu(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& o) {
  if (h0.size(1) > solvent::cuda::kGruPersistentHidden) return {};
  Tensor hs = engine::empty({xs.size(0), xs.size(1), h0.size(1)}, h0.dtype(), h0.device());
  cpu::GruSolveReport report = cuda::gru_shooting(
      h0, xs, theta, hs,
      {.atol = o.atol, .rtol = o.rtol, .max_passes = o.max_passes, .chunk = o.chunk, .burn_in = o.burn_in});
  return to_result(std::move(hs), std::move(report));
}
#endif

FusedResult gru_shooting(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& o) {
  if (!fits(h0, xs, theta)) return {};
#if SOLVENT_WITH_CUDA
  if (!(h0.device() == cpu_device)) return gru_shooting_on_gpu(h0, xs, theta, o);
#endif
  return run_gru(h0, xs, theta, [&](const auto& shape, const auto& weights, const auto* x, const auto* h, auto* hs) {
    return cpu::gru_shooting(
        shape, weights, x, h, hs,
        {.atol = o.atol, .rtol = o.rtol, .max_passes = o.max_passes, .chunk = o.chunk, .burn_in = o.burn_in});
  });
}

FusedResult gru_newton(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& o) {
  if (!fits(h0, xs, theta)) return {};
#if SOLVENT_WITH_CUDA
  if (!(h0.device() == cpu_device))
    return h0.size(1) > cuda::kGruNewtonMaxHidden ? FusedResult{} : cuda::gru_newton(h0, xs, theta, o);
#endif
  if (h0.size(1) > cpu::kGruNewtonMaxHidden || o.damping != 0.0 || o.guess.defined()) return {};
  return run_gru(h0, xs, theta, [&](const auto& shape, const auto& weights, const auto* x, const auto* h, auto* hs) {
    return cpu::gru_newton(shape, weights, x, h, hs,
                           {.atol = o.atol, .rtol = o.rtol, .max_steps = o.max_passes, .window = o.chunk});
  });
}

Tensor gru_adjoint([[maybe_unused]] const Tensor& hs, const Tensor& h0, const Tensor& xs, const Tensors& theta,
                   const Tensor& g) {
  if (!fits(h0, xs, theta)) return {};
  const auto like_h0 = [&](const Tensor& t) { return t.dtype() == h0.dtype() && t.device() == h0.device(); };
  if (!like_h0(hs) || !like_h0(g) || g.rank() != 3) return {};
#if SOLVENT_WITH_CUDA
  if (!(h0.device() == cpu_device) && h0.size(1) <= cuda::kGruAdjointMaxHidden)
    return cuda::gru_adjoint(hs, h0, xs, theta, g);
#endif
  return {};
}

}  // namespace

SequenceCell sequence_cell(const nn::RecurrentCell& cell) {
  SequenceCell c;
  const bool projected = static_cast<bool>(cell.project);
  c.project = cell.project;
  c.step = projected ? cell.step_projected : cell.step;
  c.jacobian = projected ? cell.jacobian_projected : cell.jacobian;
  c.jacobian_diagonal = projected ? cell.jacobian_diagonal_projected : cell.jacobian_diagonal;
  c.jacobian_blocks = projected ? cell.jacobian_blocks_projected : cell.jacobian_blocks;
  c.components = cell.components;
  c.channelwise = cell.channelwise;
  if (cell.kind == nn::CellKind::gru) {
    c.sequence = [](const Tensor& h0, const Tensor& xs, const Tensors& t) {
      return gru_sequence(xs, h0, t[0], t[1], t[2], t[3]);
    };
    // All rows as sequences of one step. On the CPU that takes longer for few units (n = 1: 28 instead of 20 ms for the value
    // and gradients of 300,000 steps; n = 4: equal; n = 16: 11 instead of 14 ms for 2000 steps of 16 sequences).
    c.fused_step = [step = cell.step](const Tensor& h, const Tensor& x, const Tensors& t) {
      if (h.device() == cpu_device && h.size(1) < 16) return step(h, x, t);
      return select(gru_sequence(unsqueeze(x, 0), h, t[0], t[1], t[2], t[3]), 0, 0);
    };
    c.fused_shooting = gru_shooting;
    c.fused_newton = gru_newton;
    c.fused_adjoint = gru_adjoint;
  }
  return c;
}

Solution solve_sequence(const nn::RecurrentCell& cell, const Tensor& h0, const Tensor& xs, const SequenceMethod& method,
                        const Options& options) {
  return solve_sequence(sequence_cell(cell), h0, xs, cell.theta, method, options);
}

}  // namespace solvent::solvers
