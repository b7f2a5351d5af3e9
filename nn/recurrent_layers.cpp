#include "solvent/nn/recurrent_layers.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/gru.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

void check_sequence(const char* op, const Tensor& xs) {
  if (xs.rank() != 3 || xs.size(0) < 1)
    throw ShapeError(fmt::format("[{}] got xs {}; expected (T, B, I) with T >= 1.", op, describe(xs)));
}

}  // namespace

Tensor run_steps(const RecurrentCell& cell, const Tensor& h0, const Tensor& xs) {
  check_sequence("run_steps", xs);
  if (cell.kind == CellKind::gru)
    return gru_sequence(xs, h0, cell.theta[0], cell.theta[1], cell.theta[2], cell.theta[3]);
  const bool projected = static_cast<bool>(cell.project);
  const RecurrentCell::StepFn& step = projected ? cell.step_projected : cell.step;
  Tensor h = h0;
  Tensors states;
  for (const Tensor& x : unstack(projected ? cell.project(xs, cell.theta) : xs)) {
    h = step(h, x, cell.theta);
    states.push_back(h);
  }
  return stack(std::move(states), 0);
}

Tensor run_outputs(const RecurrentCell& cell, const Tensor& xs, const Recurrence& run, Direction direction) {
  check_sequence("run_outputs", xs);
  const bool backward = direction == Direction::backward;
  const Tensor h0 = zeros({xs.size(1), cell.state_size}, {xs.dtype(), xs.device()});
  Tensor y = run(cell, h0, backward ? flip(xs, 0) : xs);
  if (cell.output_size > 0 && cell.output_size < cell.state_size) y = slice(std::move(y), -1, 0, cell.output_size);
  return backward ? flip(std::move(y), 0) : y;
}

Tensor merge(const Tensor& forward, const Tensor& backward, Merge how) {
  if (how == Merge::concat) return concat({forward, backward}, -1);
  return (forward + backward) * 0.5;
}

Tensor interleaved(const Tensor& xs, std::int64_t stride) {
  check_sequence("interleaved", xs);
  const std::int64_t steps = xs.size(0), batch = xs.size(1);
  if (stride < 1 || steps % stride != 0)
    throw ShapeError(
        fmt::format("[interleaved] got xs {} and stride {}; expected a stride that divides T = {}. Pad the "
                    "sequence, or use fewer strides.",
                    describe(xs), stride, steps));
  return reshape(xs, {steps / stride, stride * batch, xs.size(2)});
}

Tensor joined(const Tensor& ys, std::int64_t stride) {
  check_sequence("joined", ys);
  if (stride < 1 || ys.size(1) % stride != 0)
    throw ShapeError(
        fmt::format("[joined] got ys {} and stride {}; expected (T / stride, stride B, O).", describe(ys), stride));
  return reshape(ys, {ys.size(0) * stride, ys.size(1) / stride, ys.size(2)});
}

namespace detail {

void check_heads(std::int64_t heads, std::int64_t num_strides) {
  if (heads < 1 || num_strides < 1 || num_strides > 32)
    throw ValueError(
        fmt::format("[StridedHeads] got {} heads and {} strides; expected at least one head and 1 to 32 "
                    "strides.",
                    heads, num_strides));
}

Tensor side_by_side(Tensors outputs) { return concat(std::move(outputs), -1); }

}  // namespace detail

}  // namespace solvent::nn
