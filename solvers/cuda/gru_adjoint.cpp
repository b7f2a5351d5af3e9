// The adjoint recurrence of the GRU: maps of all chunks, a scan over them, and a walk through every chunk from what the later
// ones hand to it (gru_adjoint_walk-inl.h).

#include "solvent/solvers/cuda/gru_adjoint.h"

#include "solvent/core/engine/view.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/cuda/gru_adjoint_walk.h"
#include "solvent/solvers/cuda/gru_chunks.h"

namespace solvent::solvers::cuda {
namespace {

template <class T>
Tensor run(const Tensor& hs, const Tensor& h0, const Tensor& xs, const Tensors& theta, const Tensor& g) {
  const std::int64_t steps = xs.size(0), batch = xs.size(1), hidden = h0.size(1);
  const Device device = h0.device();
  const auto make = [&](const Shape& shape) { return engine::empty(shape, dtype_of<T>, device); };
  const Tensor dense_g = engine::contiguous(g);
  if (steps == 1) return dense_g;
  const Tensor xw = engine::contiguous(matmul(reshape(xs, {steps * batch, xs.size(2)}), mT(theta[0])));
  const Tensor w_hh = engine::contiguous(theta[1]), b = engine::contiguous(theta[2]),
               b_hn = engine::contiguous(theta[3]), first = engine::contiguous(h0), states = engine::contiguous(hs);
  Tensor adjoint = make({steps, batch, hidden});
  AdjointWalk<T> walk{};
  walk.steps = steps;
  walk.batch = batch;
  walk.hidden = hidden;
  walk.length = gru_chunk_length(steps, hidden);
  walk.chunks = (steps + walk.length - 1) / walk.length;
  walk.xw = engine::ptr<T>(xw);
  walk.w_hh = engine::ptr<T>(w_hh);
  walk.b = engine::ptr<T>(b);
  walk.b_hn = engine::ptr<T>(b_hn);
  walk.before = engine::ptr<T>(first);
  walk.hs = engine::ptr<T>(states);
  walk.g = engine::ptr<T>(dense_g);
  walk.adjoint = engine::mutable_ptr<T>(adjoint);
  Tensor matrices, offsets, carries;
  if (walk.chunks > 1) {
    const std::int64_t maps = walk.chunks - 1;
    matrices = make({maps, batch, hidden, hidden});
    offsets = make({maps, batch, hidden});
    carries = make({maps, batch, hidden});
    walk.matrices = engine::mutable_ptr<T>(matrices);
    walk.offsets = engine::mutable_ptr<T>(offsets);
    adjoint_maps(walk, device);
    scan_chunk_maps(maps, batch, hidden, walk.matrices, walk.offsets, engine::mutable_ptr<T>(carries), device);
    walk.carries = engine::ptr<T>(carries);
  }
  adjoint_replay(walk, device);
  return adjoint;
}

}  // namespace

Tensor gru_adjoint(const Tensor& hs, const Tensor& h0, const Tensor& xs, const Tensors& theta, const Tensor& g) {
  return dispatch_float(h0.dtype(), "solve_sequence",
                        [&](auto tag) { return run<typename decltype(tag)::type>(hs, h0, xs, theta, g); });
}

}  // namespace solvent::solvers::cuda
