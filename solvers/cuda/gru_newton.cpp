// Newton's method (DEER) for the GRU: windows, steps and the tests after each of them, as in the driver of the generic path
// (sequence.cpp). A step is a scan over the maps of the chunks and one walk over time (gru_newton_walk-inl.h); then the host
// reads two numbers per sequence and decides.
//
// Iterate k is in buffer k % 2. A best iterate is copied only when a later one is worse and the next would overwrite it.
// The chunks depend on T and H only, not on the batch.

#include "solvent/solvers/cuda/gru_newton.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/cuda/gru_chunks.h"
#include "solvent/solvers/cuda/gru_newton_walk.h"
#include "solvent/solvers/termination.h"

namespace solvent::solvers::cuda {
namespace {

using detail::Monitor;
using Verdict = Monitor::Verdict;
namespace device = solvent::cuda;

Status status_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::converged: return Status::converged;
    case Verdict::stalled: return Status::stalled;
    case Verdict::diverged: return Status::diverged;
    case Verdict::non_finite: return Status::non_finite;
    case Verdict::max_steps:
    case Verdict::running: break;
  }
  return Status::max_steps;
}

// Flags of the sequences of a batch, on the device.
class Marks {
 public:
  Marks(std::int64_t batch, Device where)
      : host_(static_cast<std::size_t>(batch)), tensor_(engine::empty(Shape{batch}, DType::boolean, where)) {}

  void set(const std::vector<int>& items) {
    std::fill(host_.begin(), host_.end(), std::uint8_t{0});
    for (const int item : items) host_[static_cast<std::size_t>(item)] = 1;
    device::copy_to_device(engine::mutable_ptr<bool>(tensor_), host_.data(), host_.size(), tensor_.device());
  }
  [[nodiscard]] const bool* get() const { return engine::ptr<bool>(tensor_); }

 private:
  std::vector<std::uint8_t> host_;
  Tensor tensor_;
};

// Where the best iterate of a sequence is.
struct Best {
  int step = 0;
  double residual = 0, ratio = 0;
  bool saved = false;  // copied out of the buffers
};

template <class T>
class Window {
 public:
  // `walk`: weights and inputs of this window, states before it, tolerances. The first iterate is `guess`, or the state before
  // if that is null. The result goes to `states`.
  Window(const NewtonWalk<T>& walk, Monitor monitor, const T* guess, T* states, Device where)
      : walk_(walk),
        guess_(guess),
        monitor_(std::move(monitor)),
        device_(where),
        marks_(walk.batch, where),
        active_(walk.batch, where) {
    walk_.length = gru_chunk_length(walk.steps, walk.hidden);
    walk_.chunks = (walk.steps + walk_.length - 1) / walk_.length;
    other_ = make({walk.steps, walk.batch, walk.hidden});
    buffers_[0] = states;
    buffers_[1] = engine::mutable_ptr<T>(other_);
    const std::int64_t maps = walk_.chunks - 1;
    matrices_ = make({maps, walk.batch, walk.hidden, walk.hidden});
    offsets_ = make({maps, walk.batch, walk.hidden});
    deltas_ = make({maps, walk.batch, walk.hidden});
    norms_ = make({2, walk.batch});
    walk_.matrices = engine::mutable_ptr<T>(matrices_);
    walk_.offsets = engine::mutable_ptr<T>(offsets_);
    walk_.deltas = engine::ptr<T>(deltas_);
    walk_.norms = reinterpret_cast<NormBits<T>*>(engine::mutable_ptr<T>(norms_));
    walk_.active = active_.get();
    best_.resize(static_cast<std::size_t>(walk.batch));
    last_.assign(best_.size(), 0);
    verdicts_.assign(best_.size(), Verdict::running);
    for (std::size_t i = 0; i < best_.size(); ++i) items_.push_back(static_cast<int>(i));
  }

  // Adds what this window did to `result`.
  void run(FusedResult& result) {
    active_.set(items_);
    for (int k = 0;; ++k) {
      walk(k);
      settle(k, result);
      if (items_.empty()) break;
      save_best(k);
      if (walk_.chunks > 1)
        scan_chunk_maps(walk_.chunks - 1, walk_.batch, walk_.hidden, walk_.matrices, walk_.offsets,
                        engine::mutable_ptr<T>(deltas_), device_);
    }
    collect();
    for (std::size_t i = 0; i < best_.size(); ++i) {
      if (result.status[i] == Status::converged) result.status[i] = status_of(verdicts_[i]);  // the first is the cause
      result.residual[i] = std::max(result.residual[i], best_[i].residual);
      result.ratio[i] = std::max(result.ratio[i], best_[i].ratio);
      result.steps[i] = std::max(result.steps[i], last_[i]);
      result.passes = std::max(result.passes, last_[i]);
      result.best_step = std::max(result.best_step, best_[i].step);
    }
  }

 private:
  Tensor make(const Shape& shape) const { return engine::empty(shape, dtype_of<T>, device_); }

  void walk(int k) {
    device::set_bytes(walk_.norms, 0, 2 * best_.size() * sizeof(T), device_);
    walk_.from = k == 0 ? guess_ : buffers_[(k + 1) % 2];
    walk_.corrects = k > 0;
    walk_.to = buffers_[k % 2];
    newton_walk(walk_, device_);
  }

  void settle(int k, FusedResult& result) {
    const std::size_t batch = best_.size();
    std::vector<T> norms(2 * batch);
    device::copy_to_host(norms.data(), walk_.norms, norms.size() * sizeof(T), device_);
    detail::ItemNorms of_active;
    for (const int item : items_) {
      of_active.ratio.push_back(static_cast<double>(norms[static_cast<std::size_t>(item)]));
      of_active.residual.push_back(static_cast<double>(norms[batch + static_cast<std::size_t>(item)]));
    }
    const std::vector<Verdict> verdicts = monitor_.check(k, of_active, items_, std::vector<bool>(items_.size(), true));
    result.history.push_back(*std::max_element(of_active.ratio.begin(), of_active.ratio.end()));
    std::vector<int> keep;
    for (std::size_t c = 0; c < items_.size(); ++c) {
      const auto item = static_cast<std::size_t>(items_[c]);
      last_[item] = k;
      if (monitor_.is_best(items_[c]) || verdicts[c] == Verdict::converged)
        best_[item] = {k, of_active.residual[c], of_active.ratio[c], false};
      if (verdicts[c] == Verdict::running)
        keep.push_back(items_[c]);
      else
        verdicts_[item] = verdicts[c];
    }
    if (keep.size() < items_.size() && !keep.empty()) active_.set(keep);
    items_ = std::move(keep);
  }

  // Iterate k - 1 is about to be overwritten.
  void save_best(int k) {
    std::vector<int> items;
    for (const int item : items_) {
      Best& best = best_[static_cast<std::size_t>(item)];
      if (best.step != k - 1) continue;
      best.saved = true;
      items.push_back(item);
    }
    if (items.empty()) return;
    if (!saved_.defined()) saved_ = make({walk_.steps, walk_.batch, walk_.hidden});
    copy(buffers_[(k + 1) % 2], engine::mutable_ptr<T>(saved_), items);
  }

  void collect() {
    std::vector<int> from_other, from_saved;
    for (std::size_t i = 0; i < best_.size(); ++i) {
      if (best_[i].saved)
        from_saved.push_back(static_cast<int>(i));
      else if (best_[i].step % 2 == 1)
        from_other.push_back(static_cast<int>(i));
    }
    copy(buffers_[1], buffers_[0], from_other);
    if (!from_saved.empty()) copy(engine::ptr<T>(saved_), buffers_[0], from_saved);
  }

  void copy(const T* from, T* to, const std::vector<int>& items) {
    if (items.empty()) return;
    marks_.set(items);
    copy_sequences(from, to, marks_.get(), walk_.steps, walk_.batch, walk_.hidden, device_);
  }

  NewtonWalk<T> walk_;
  const T* guess_;
  Monitor monitor_;
  Device device_;
  Marks marks_, active_;
  Tensor other_, saved_, matrices_, offsets_, deltas_, norms_;
  T* buffers_[2];
  std::vector<Best> best_;
  std::vector<int> last_, items_;
  std::vector<Verdict> verdicts_;
};

template <class T>
FusedResult run(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& options) {
  const std::int64_t steps = xs.size(0), batch = xs.size(1), hidden = h0.size(1), row = batch * hidden;
  const std::int64_t window = options.chunk > 0 ? std::min(options.chunk, steps) : steps;
  const auto items = static_cast<std::size_t>(batch);
  FusedResult result;
  result.max_passes = options.max_passes > 0
                          ? options.max_passes
                          : static_cast<int>(std::min<std::int64_t>(window + 1, std::int64_t{1} << 20));
  result.windows = static_cast<int>((steps + window - 1) / window);
  result.status.assign(items, Status::converged);
  result.residual.assign(items, 0.0);
  result.ratio.assign(items, 0.0);
  result.steps.assign(items, 0);

  const Tensor xw = engine::contiguous(matmul(reshape(xs, {steps * batch, xs.size(2)}), mT(theta[0])));
  const Tensor w_hh = engine::contiguous(theta[1]), b = engine::contiguous(theta[2]),
               b_hn = engine::contiguous(theta[3]), first = engine::contiguous(h0);
  result.value = engine::empty({steps, batch, hidden}, h0.dtype(), h0.device());
  T* const hs = engine::mutable_ptr<T>(result.value);
  NewtonWalk<T> walk{};
  walk.batch = batch;
  walk.hidden = hidden;
  walk.w_hh = engine::ptr<T>(w_hh);
  walk.b = engine::ptr<T>(b);
  walk.b_hn = engine::ptr<T>(b_hn);
  walk.atol = static_cast<T>(options.atol);
  walk.rtol = static_cast<T>(options.rtol);
  walk.keep = static_cast<T>(1.0 - options.damping);
  Tensor guess;
  if (options.guess.defined()) guess = engine::contiguous(options.guess);
  Termination termination;
  termination.patience = options.patience;
  termination.divergence_factor = options.divergence_factor;
  for (std::int64_t t = 0; t < steps; t += window) {
    walk.steps = std::min(window, steps - t);
    walk.xw = engine::ptr<T>(xw) + t * 3 * row;
    walk.before = t == 0 ? engine::ptr<T>(first) : hs + (t - 1) * row;
    Window<T>(walk, Monitor(termination, result.max_passes, static_cast<int>(batch)),
              guess.defined() ? engine::ptr<T>(guess) + t * row : nullptr, hs + t * row, h0.device())
        .run(result);
  }
  return result;
}

}  // namespace

FusedResult gru_newton(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& options) {
  return dispatch_float(h0.dtype(), "solve_sequence",
                        [&](auto tag) { return run<typename decltype(tag)::type>(h0, xs, theta, options); });
}

}  // namespace solvent::solvers::cuda
