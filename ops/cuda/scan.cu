// The affine scans on tensors: operands in dense memory, or, for many diagonal chains, in the memory where they lie; then the
// kernels for diagonal, small or large matrices.

#include "solvent/ops/cuda/scan.h"

#include <optional>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/scan_diagonal.h"

namespace solvent::cuda {
namespace {

constexpr int kDiagonalRank = 3;
constexpr int kBlocksRank = 5;
constexpr std::int64_t kSmall = 4;          // largest matrices of small_scan
constexpr std::int64_t kReadsColumns = 64;  // dense_scan reads transposed matrices up to this size
constexpr std::int64_t kFewSteps = 32;      // shorter scans do not fill the tiles of walk_scan
constexpr std::int64_t kShortChain = 64;    // shorter ones are walked by a thread

// `a` with its last two axes exchanged, without moving data.
Tensor columns_of(const Tensor& a) {
  const int last = a.rank() - 1;
  Strides swapped = a.strides();
  std::swap(swapped[last - 1], swapped[last]);
  return engine::view(a, a.shape(), swapped, a.impl()->offset);  // matrices are square
}

// `a` as dense memory; turns `transposed` over if its matrices lie there column by column.
Tensor dense_matrices(const Tensor& a, bool& transposed) {
  if (a.rank() == kDiagonalRank) return engine::contiguous(a);
  const Tensor columns = columns_of(a);
  const bool lies_turned = !a.is_contiguous() && columns.is_contiguous();
  if (transposed != lies_turned && a.size(-1) > kReadsColumns) {
    transposed = false;
    return engine::contiguous(lies_turned ? a : columns);
  }
  transposed = transposed != lies_turned;
  return lies_turned ? columns : engine::contiguous(a);
}

cpu::ScanShape shape_of(const Tensor& a, const Tensor& b) {
  cpu::ScanShape s;
  s.T = b.size(-3);
  s.B = b.size(-2);
  s.n = b.size(-1);
  for (int axis = 0; axis < b.rank() - 3; ++axis) s.lead *= b.shape()[axis];
  s.block = a.rank() == kDiagonalRank ? 1 : a.rank() == kBlocksRank ? a.size(-1) : 0;
  return s;
}

// Strides of ([lead,] T, B, n) whose last two axes step through the chains, if these can be merged and either chains or steps
// lie side by side (or are one number).
std::optional<DiagonalStrides> strides_of_chains(const Tensor& t) {
  if (t.rank() > kDiagonalRank + 1) return std::nullopt;
  const Strides& stride = t.strides();
  const int last = t.rank() - 1;
  DiagonalStrides s;
  s.lead = t.rank() > kDiagonalRank ? stride[0] : 0;
  s.time = stride[last - 2];
  s.chain = t.size(-1) == 1 ? stride[last - 1] : stride[last];
  if (t.size(-1) != 1 && t.size(-2) != 1 && stride[last - 1] != stride[last] * t.size(-1)) return std::nullopt;
  const auto is_near = [](std::int64_t step) { return step == 0 || step == 1; };
  if (!is_near(s.time) && !is_near(s.chain)) return std::nullopt;
  return s;
}

template <class T>
DiagonalCall<T> diagonal_call(const cpu::ScanShape& shape, const T* a, const T* b, const T* h0, T* h) {
  DiagonalCall<T> call;
  call.a = a;
  call.b = b;
  call.h0 = h0;
  call.h = h;
  call.steps = shape.T;
  call.chains = shape.B * shape.n;
  call.lead = shape.lead;
  call.reversed = shape.reversed;
  call.shift_a = shape.shift_a;
  call.of_a = {call.chains, 1, 0};
  call.of_b = call.of_h = {call.chains, 1, call.steps * call.chains};
  return call;
}

bool is_walked(const cpu::ScanShape& shape) {
  return shape.block == 1 && shape.T > kFewSteps && are_many(shape.B * shape.n, shape.lead);
}

// Many chains in memory of any order: null if the operands' axes cannot be merged.
Tensor walk(const cpu::ScanShape& shape, const Tensor& a, Tensor& b, const Tensor* h0) {
  const auto of_a = strides_of_chains(a), of_b = strides_of_chains(b);
  if (!of_a || !of_b) return {};
  return dispatch_float(b.dtype(), "affine_scan", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const T* const from = engine::ptr<T>(b);
    const Tensor start = h0 != nullptr ? engine::contiguous(*h0) : Tensor();
    Tensor h = engine::take_or_empty(b, b.shape(), b.dtype());  // only dense memory is taken: states lie where b did
    DiagonalCall<T> call = diagonal_call<T>(shape, engine::ptr<T>(a), from,
                                            h0 != nullptr ? engine::ptr<T>(start) : nullptr, engine::mutable_ptr<T>(h));
    call.of_a = *of_a;
    call.of_b = *of_b;
    walk_scan(call, h.device());
    return h;
  });
}

Tensor run(cpu::ScanShape shape, const Tensor& a, Tensor b, const Tensor* h0) {
  if (b.numel() == 0) return engine::empty(b.shape(), b.dtype(), b.device());
  if (is_walked(shape)) {
    Tensor h = walk(shape, a, b, h0);
    if (h.defined()) return h;
  }
  const Tensor matrices = dense_matrices(a, shape.transposed);
  if (!b.is_contiguous()) b = engine::contiguous(b);
  return dispatch_float(b.dtype(), "affine_scan", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const T* const from = engine::ptr<T>(b);
    Tensor start;
    if (h0 != nullptr) start = engine::contiguous(*h0);
    Tensor h = engine::take_or_empty(b, b.shape(), b.dtype());  // the states may be written over b
    scan(shape, engine::ptr<T>(matrices), from, h0 != nullptr ? engine::ptr<T>(start) : nullptr,
         engine::mutable_ptr<T>(h), h.device());
    return h;
  });
}

template <class T>
void scan_typed(cpu::ScanShape shape, const T* a, const T* b, const T* h0, T* h, Device device) {
  if (shape.block == 0 && shape.n > kSmall) return dense_scan(shape, a, b, h0, h, device);
  if (shape.block == 0) shape.block = shape.n;  // one block per sequence
  if (is_walked(shape)) return walk_scan(diagonal_call(shape, a, b, h0, h), device);
  if (shape.block == 1 && shape.B * shape.n == 1 && shape.T > kShortChain)
    return chain_scan(diagonal_call(shape, a, b, h0, h), device);
  shape.B *= shape.n / shape.block;
  shape.n = shape.block;
  small_scan(shape, a, b, h0, h, device);
}

}  // namespace

void scan(const cpu::ScanShape& shape, const float* a, const float* b, const float* h0, float* h, Device device) {
  scan_typed(shape, a, b, h0, h, device);
}
void scan(const cpu::ScanShape& shape, const double* a, const double* b, const double* h0, double* h, Device device) {
  scan_typed(shape, a, b, h0, h, device);
}

TensorVec affine_scan(std::span<Tensor> inputs, const Attrs*) {
  const cpu::ScanShape shape = shape_of(inputs[0], inputs[1]);  // first: arguments are made in any order
  return run(shape, inputs[0], std::move(inputs[1]), &inputs[2]);
}

TensorVec affine_scan_reversed(std::span<Tensor> inputs, const Attrs*) {
  cpu::ScanShape shape = shape_of(inputs[0], inputs[1]);
  shape.reversed = true;
  shape.transposed = true;
  shape.shift_a = true;
  return run(shape, inputs[0], std::move(inputs[1]), nullptr);
}

}  // namespace solvent::cuda
