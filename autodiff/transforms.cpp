#include "solvent/autodiff/transforms.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <string>

#include "solvent/autodiff/basis.h"
#include "solvent/autodiff/level.h"
#include "solvent/autodiff/tape.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"

namespace solvent {

namespace detail {

// What one output (or input) of a recorded function was: enough to check cotangents and to materialise zeros.
struct Slot {
  Tensor meta;
  std::int32_t value = -1;
};

struct TapeOwner {
  Tape tape;
  std::vector<Slot> inputs;
  std::vector<Slot> outputs;
  Tensors values;

  [[nodiscard]] static std::vector<std::int32_t> ids(const std::vector<Slot>& slots) {
    std::vector<std::int32_t> v;
    for (const Slot& s : slots) v.push_back(s.value);
    return v;
  }
};

}  // namespace detail

namespace {

using detail::LevelScope;
using detail::Peeled;
using detail::Slot;
using detail::TapeOwner;

Tensor zeros_for(const Tensor& meta, std::int64_t directions = 0) {
  const Shape shape = directions > 0 ? prepend(directions, meta.shape()) : meta.shape();
  Tensor zero = zeros(Dims::filled(shape.rank(), 1), {meta.dtype(), meta.device()});
  return engine::view(zero, shape, Dims::filled(shape.rank(), 0), 0);
}

void check_inputs(const char* transform, const Tensors& xs) {
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (!xs[i].defined())
      throw ValueError(std::string("[") + transform + "] input " + std::to_string(i) +
                       " is an empty tensor handle; expected a tensor.");
}

void check_differentiable(const char* transform, const Tensors& xs) {
  check_inputs(transform, xs);
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (!is_floating(xs[i].dtype()))
      throw DtypeError(std::string("[") + transform + "] got input " + std::to_string(i) + " of type " +
                       std::string(to_string(xs[i].dtype())) +
                       "; expected float32 or float64 (or the storage type bfloat16) to differentiate. Capture integer "
                       "tensors in the function instead.");
}

void check_like(const char* transform, const char* what, std::size_t i, const Tensor& got, const Tensor& meta,
                std::int64_t directions) {
  const Shape expected = directions > 0 ? prepend(directions, meta.shape()) : meta.shape();
  if (!(got.shape() == expected))
    throw ShapeError(std::string("[") + transform + "] got " + what + " " + std::to_string(i) + " of shape " +
                     to_string(got.shape()) + "; expected " + to_string(expected) + ".");
  if (got.dtype() != meta.dtype())
    throw DtypeError(std::string("[") + transform + "] got " + what + " " + std::to_string(i) + " of type " +
                     std::string(to_string(got.dtype())) + "; expected " + std::string(to_string(meta.dtype())) +
                     ". Use cast(x, dtype).");
}

void check_count(const char* transform, const char* what, std::size_t got, std::size_t expected) {
  if (got != expected)
    throw ShapeError(std::string("[") + transform + "] got " + std::to_string(got) + " " + what + "; expected " +
                     std::to_string(expected) + ".");
}

// Runs f once on boxed inputs and keeps the tape.
std::unique_ptr<TapeOwner> record(const TensorsFn& f, const Tensors& xs) {
  auto owner = std::make_unique<TapeOwner>();
  const LevelScope scope(&owner->tape);
  Tensors boxed;
  for (const Tensor& x : xs) {
    const std::int32_t id = owner->tape.new_value();
    owner->inputs.push_back({engine::meta(x), id});
    boxed.push_back(is_floating(x.dtype()) ? scope.box_reverse(x, id) : x);
  }
  Tensors ys = f(boxed);
  for (Tensor& y : ys) {
    Peeled p = detail::peel(scope.level(), y);
    y.reset();
    owner->outputs.push_back({engine::meta(p.primal), p.value});
    owner->values.push_back(std::move(p.primal));
  }
  return owner;
}

Tensors run_sweep(TapeOwner& owner, const char* name, const Tensors& cotangents, bool retain) {
  check_count(name, "cotangents", cotangents.size(), owner.outputs.size());
  for (std::size_t i = 0; i < cotangents.size(); ++i)
    if (cotangents[i].defined()) check_like(name, "cotangent", i, cotangents[i], owner.outputs[i].meta, 0);
  const std::vector<std::int32_t> out_ids = TapeOwner::ids(owner.outputs);
  const std::vector<std::int32_t> in_ids = TapeOwner::ids(owner.inputs);
  Tensors grads = owner.tape.sweep(out_ids, cotangents, in_ids, retain);
  for (std::size_t i = 0; i < grads.size(); ++i)
    if (!grads[i].defined()) grads[i] = zeros_for(owner.inputs[i].meta);
  return grads;
}

}  // namespace

// --- reverse --------------------------------------------------------------------------------------------------------------

Pullback::Pullback() = default;
Pullback::Pullback(Pullback&&) noexcept = default;
Pullback& Pullback::operator=(Pullback&&) noexcept = default;
Pullback::~Pullback() = default;

Tensors Pullback::operator()(const Tensors& cotangents, bool retain) {
  if (!owner_) throw AutodiffError("[pullback] is empty; expected one returned by vjp(f, xs).");
  return run_sweep(*owner_, "pullback", cotangents, retain);
}

Tensor Pullback::operator()(const Tensor& cotangent, bool retain) {
  Tensors grads = (*this)(detail::one(cotangent), retain);
  check_count("pullback", "inputs of the function", grads.size(), 1);
  return std::move(grads[0]);
}

std::int64_t Pullback::num_nodes() const noexcept { return owner_ ? owner_->tape.num_nodes() : 0; }
const detail::Tape* Pullback::tape() const noexcept { return owner_ ? &owner_->tape : nullptr; }

VjpResult vjp(const TensorsFn& f, const Tensors& xs) {
  check_inputs("vjp", xs);
  VjpResult result;
  result.pullback.owner_ = record(f, xs);
  result.values = std::move(result.pullback.owner_->values);
  return result;
}

ValueAndGrad value_and_grad_aux(const TensorsFn& f, const Tensors& xs) {
  check_differentiable("value_and_grad", xs);
  VjpResult r = vjp(f, xs);
  if (r.values.empty()) throw ShapeError("[value_and_grad] the function returned nothing; expected a scalar first.");
  const Tensor& value = r.values[0];
  if (value.numel() != 1)
    throw ShapeError("[value_and_grad] the function returned " + describe(value) +
                     "; expected one element. Reduce it with sum or mean, or use vjp, jacfwd or jacrev.");
  if (!is_floating(value.dtype()))
    throw DtypeError("[value_and_grad] the function returned " + describe(value) + "; expected a floating type.");
  Tensors seeds(r.values.size());
  seeds[0] = ones(value.shape(), {value.dtype(), value.device()});
  ValueAndGrad out;
  out.grads = r.pullback(seeds);
  out.value = std::move(r.values[0]);
  out.aux.assign(std::make_move_iterator(r.values.begin() + 1), std::make_move_iterator(r.values.end()));
  return out;
}

// --- forward ----------------------------------------------------------------------------------------------------------------

JvpResult jvp_batched(const TensorsFn& f, const Tensors& xs, const Tensors& tangents, std::int64_t directions) {
  check_inputs("jvp", xs);
  check_count("jvp", "tangents", tangents.size(), xs.size());
  if (directions < 0) throw ValueError("[jvp] got " + std::to_string(directions) + " directions; expected at least 0.");
  const LevelScope scope(nullptr, directions);
  Tensors boxed;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (tangents[i].defined()) {
      if (!is_floating(xs[i].dtype())) check_differentiable("jvp", xs);
      check_like("jvp", "tangent", i, tangents[i], xs[i], directions);
    }
    boxed.push_back(scope.box_forward(xs[i], tangents[i]));
  }
  Tensors ys = f(boxed);
  JvpResult result;
  for (Tensor& y : ys) {
    Peeled p = detail::peel(scope.level(), y);
    y.reset();
    result.tangents.push_back(p.tangent.defined() ? std::move(p.tangent) : zeros_for(p.primal, directions));
    result.values.push_back(std::move(p.primal));
  }
  return result;
}

JvpResult jvp(const TensorsFn& f, const Tensors& xs, const Tensors& tangents) {
  return jvp_batched(f, xs, tangents, 0);
}

// --- Jacobians --------------------------------------------------------------------------------------------------------------

namespace {

// Unit directions [first, first + count) of a tensor with n elements, as (count, *shape).
Tensor unit_directions(const Tensor& x, std::int64_t first, std::int64_t count) {
  const std::int64_t n = x.numel();
  const TensorOptions options{x.dtype(), x.device()};
  Tensor seeds = zeros({count, n}, options);
  Tensor units = engine::view(seeds, {count}, {n + 1}, first);
  engine::copy_into(ones({count}, options), units);
  return reshape(std::move(seeds), prepend(count, x.shape()));
}

// (K, *y) -> (*y, K)
Tensor directions_last(Tensor t) {
  Axes order;
  for (int i = 1; i < t.rank(); ++i) order.push_back(i);
  order.push_back(0);
  return permute(std::move(t), order);
}

Shape joined(const Shape& a, const Shape& b) {
  Shape s = a;
  for (const std::int64_t n : b) s.push_back(n);
  return s;
}

}  // namespace

Tensor jacfwd_of(const TensorsFn& f, const Tensor& x, std::int64_t chunk) {
  check_differentiable("jacfwd", {x});
  const std::int64_t n = x.numel();
  const auto columns = [&](std::int64_t first, std::int64_t count) {  // (*y, count)
    JvpResult r = jvp_batched(f, {x}, {unit_directions(x, first, count)}, count);
    check_count("jacfwd", "outputs", r.values.size(), 1);
    return directions_last(std::move(r.tangents[0]));
  };
  if (n == 0) {
    const Tensors y = f({x});
    return zeros(joined(y.at(0).shape(), x.shape()), {y[0].dtype(), y[0].device()});
  }
  const std::int64_t step = chunk > 0 ? std::min(chunk, n) : n;
  Tensor part = columns(0, step);
  Shape y_shape = part.shape();
  y_shape.pop_back();
  // Chunks are copied into the result, which only plain values allow; under an outer transform all go in one pass.
  if (step == n || is_differentiated(part))
    return reshape(step == n ? std::move(part) : columns(0, n), joined(y_shape, x.shape()));
  Shape all_shape = y_shape;
  all_shape.push_back(n);
  Tensor all = engine::empty(all_shape, part.dtype(), part.device());
  for (std::int64_t first = 0; first < n; first += step) {
    if (first > 0) part = columns(first, std::min(step, n - first));
    Tensor target = engine::view(all, part.shape(), all.strides(), first);
    engine::copy_into(part, target);
  }
  return reshape(std::move(all), joined(y_shape, x.shape()));
}

Tensor jacrev_of(const TensorsFn& f, const Tensor& x) {
  check_differentiable("jacrev", {x});
  VjpResult r = vjp(f, {x});
  check_count("jacrev", "outputs", r.values.size(), 1);
  const Tensor& y = r.values[0];
  const std::int64_t m = y.numel();
  if (m == 0) return zeros(joined(y.shape(), x.shape()), {y.dtype(), y.device()});
  // The pullback is linear: its derivative along unit cotangents is the Jacobian, whatever the point.
  const JvpResult j = jvp_batched([&r](const Tensors& g) { return r.pullback(g); },
                                  {zeros(y.shape(), {y.dtype(), y.device()})}, {unit_directions(y, 0, m)}, m);
  return reshape(j.tangents[0], joined(y.shape(), x.shape()));
}

namespace {

// Unit tangents of rows (N, n): (n, N, n), a stride-0 view over the rows.
Tensor row_directions(std::int64_t rows, std::int64_t n, const Tensor& like) {
  const Tensor unit = eye(n, {like.dtype(), like.device()});
  return engine::view(unit, {n, rows, n}, {n, 0, 1}, 0);
}

RowsJacobian rows_block(const std::function<Tensor(const Tensor&, std::int64_t)>& f, const Tensor& rows,
                        std::int64_t first) {
  JvpResult r = jvp_batched([&](const Tensors& xs) { return detail::one(f(xs[0], first)); }, {rows},
                            {row_directions(rows.size(0), rows.size(1), rows)}, rows.size(1));
  const Tensor& y = r.values[0];
  if (y.rank() != 2 || y.size(0) != rows.size(0))
    throw ShapeError("[jacfwd_rows] the function maps " + to_string(rows.shape()) + " to " + to_string(y.shape()) +
                     "; expected (" + std::to_string(rows.size(0)) + ", m): one output row per input row.");
  return {y, permute(std::move(r.tangents[0]), {1, 2, 0})};  // (n, N, m) -> (N, m, n)
}

// Rows per block: temporaries of a block, about n tangents of n floats per row, stay in the second-level cache.
std::int64_t rows_per_block(std::int64_t n) {
  constexpr std::int64_t kElements = 16384;
  return std::clamp<std::int64_t>(kElements / std::max<std::int64_t>(n * n, 1), 16, 4096);
}

// Writes a block's value and Jacobian into the results.
void store_rows(const RowsJacobian& block, std::int64_t first, Tensor& value, Tensor& jacobian) {
  const std::int64_t rows = block.value.size(0);
  Tensor value_rows = engine::view(value, block.value.shape(), value.strides(), first * value.strides()[0]);
  Tensor jacobian_rows = engine::view(jacobian, prepend(rows, {jacobian.size(1), jacobian.size(2)}), jacobian.strides(),
                                      first * jacobian.strides()[0]);
  engine::copy_into(block.value, value_rows);
  engine::copy_into(block.jacobian, jacobian_rows);
}

}  // namespace

RowsJacobian jacfwd_rows(const std::function<Tensor(const Tensor&, std::int64_t)>& f, const Tensor& x) {
  check_differentiable("jacfwd_rows", {x});
  if (x.rank() != 2)
    throw ShapeError("[jacfwd_rows] got x of shape " + to_string(x.shape()) + "; expected (N, n): one row per sample.");
  const std::int64_t total = x.size(0);
  const std::int64_t block = rows_per_block(x.size(1));
  // Inside another transform the result must stay differentiable: one pass, recorded as ordinary operations.
  if (is_differentiated(x) || total <= block) {
    RowsJacobian whole = rows_block(f, x, 0);
    if (is_differentiated(whole.value) || is_differentiated(whole.jacobian)) return whole;
    return {engine::contiguous(whole.value), engine::contiguous(whole.jacobian)};
  }
  const auto rows_of = [&](std::int64_t first) {
    const std::int64_t count = std::min(block, total - first);
    return engine::view(x, {count, x.size(1)}, x.strides(), x.impl()->offset + first * x.strides()[0]);
  };
  RowsJacobian head = rows_block(f, rows_of(0), 0);
  if (is_differentiated(head.value) || is_differentiated(head.jacobian))
    return rows_block(f, x, 0);  // f captures outer levels
  const std::int64_t m = head.value.size(1);
  RowsJacobian result{engine::empty({total, m}, x.dtype(), x.device()),
                      engine::empty({total, m, x.size(1)}, x.dtype(), x.device())};
  store_rows(head, 0, result.value, result.jacobian);
  const std::int64_t blocks = (total + block - 1) / block;
  std::exception_ptr failure;  // of the first failing block, so that errors are deterministic
  std::int64_t failed_at = blocks;
  std::mutex mutex;
  parallel_for(blocks - 1, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin + 1; i <= end; ++i) {
      try {
        store_rows(rows_block(f, rows_of(i * block), i * block), i * block, result.value, result.jacobian);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed_at) {
          failed_at = i;
          failure = std::current_exception();
        }
      }
    }
  });
  if (failure) std::rethrow_exception(failure);
  return result;
}

// --- linearize --------------------------------------------------------------------------------------------------------------

Linearized::Linearized() = default;
Linearized::Linearized(Linearized&&) noexcept = default;
Linearized& Linearized::operator=(Linearized&&) noexcept = default;
Linearized::~Linearized() = default;

const Tensors& Linearized::values() const noexcept { return owner_->values; }

Tensors Linearized::jvp(const Tensors& tangents, std::int64_t directions) const {
  check_count("linearize", "tangents", tangents.size(), owner_->inputs.size());
  for (std::size_t i = 0; i < tangents.size(); ++i)
    if (tangents[i].defined()) check_like("linearize", "tangent", i, tangents[i], owner_->inputs[i].meta, directions);
  const std::vector<std::int32_t> in_ids = TapeOwner::ids(owner_->inputs);
  const std::vector<std::int32_t> out_ids = TapeOwner::ids(owner_->outputs);
  Tensors out = owner_->tape.replay(in_ids, tangents, out_ids, directions);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (!out[i].defined()) out[i] = zeros_for(owner_->outputs[i].meta, directions);
  return out;
}

Tensors Linearized::vjp(const Tensors& cotangents) const { return run_sweep(*owner_, "linearize", cotangents, true); }

Linearized linearize(const TensorsFn& f, const Tensors& xs) {
  check_differentiable("linearize", xs);
  Linearized l;
  l.owner_ = record(f, xs);
  return l;
}

}  // namespace solvent
