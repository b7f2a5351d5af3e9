// Windowed dense Newton (DEER) for one GRU layer: see gru_shooting.h for the method.
//
// A window is kChunks chunks of equal length, one per vector lane. Per Newton step there is one walk over the window: it
// applies the correction d_t = J_t d_{t-1} + r_t of the step before (J and r are stored), and with the corrected states
// at once evaluates r and J anew and composes them to the chunk's affine map. The maps of the kChunks chunks are then
// chained by a short scalar loop, which gives every chunk its first d and the state before it.
// Decomposition: vectors of chunks run in parallel for a lone sequence, else sequences do; a sequence never looks at the
// batch around it. Memory per window: H^2 + 5H values per step, sized to stay in the L2 caches.
// Deterministic: kChunks and the window depend on sizes only.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/solvers/cpu/gru_newton.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/gru_lanes-inl.h"
#include "solvent/solvers/cpu/gru_shooting.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

inline constexpr std::size_t kChunks = 64;  // a multiple of every vector width

template <class T>
struct NewtonProblem {
  const GruShape& shape;
  const GruNewtonOptions& options;
  const LaneWeights<T>& w;
  const T* xs;
  const T* h0;
  T* hs;
  std::size_t max_length;  // steps per chunk of a full window
};

/// What one sequence's solve reports.
struct SequenceReport {
  double residual = 0, ratio = 0;
  int max_steps = 0;
  std::int64_t windows = 0, steps = 0;
};

/// The windows of one sequence, one after the other.
template <std::size_t kHidden, class T>
class NewtonSequence {
 public:
  explicit NewtonSequence(const NewtonProblem<T>& problem)
      : p_(problem), w_(problem.w), n_(problem.w.hidden), batch_(static_cast<std::size_t>(problem.shape.B)) {
    // Per group: x, xw, y, r, J of all steps; P, v, d twice, the state before the chunk, maxima, gates of a block.
    const std::size_t per_step = w_.input + 3 * n_ + 2 * n_ + n_ * n_;
    group_size_ = (p_.max_length * per_step + 2 * n_ * n_ + (5 + 4 * kBlock) * n_ + 3) * N;
    memory_ = allocate<T>(kGroups * group_size_);
  }

  SequenceReport run(std::size_t sequence) {
    sequence_ = sequence;
    SequenceReport report;
    std::vector<T> state(n_, T{0});
    if (p_.h0 != nullptr) std::copy_n(p_.h0 + sequence * n_, n_, state.data());
    const std::size_t main = static_cast<std::size_t>(p_.shape.T) / kChunks * kChunks;
    for (std::size_t t0 = 0; t0 < main; t0 += length_ * kChunks) {
      length_ = std::min(p_.max_length, (main - t0) / kChunks);
      const int steps = solve_window(t0, state.data(), report);
      report.windows += 1;
      report.steps += steps;
      report.max_steps = std::max(report.max_steps, steps);
      if (std::isnan(report.residual)) {  // the cell itself is not finite here: show its true values, and stop
        roll_out(t0, main, state.data());
        return report;
      }
      std::copy_n(p_.hs + row(t0 + length_ * kChunks - 1) * n_, n_, state.data());
    }
    return report;
  }

 private:
  using D = GruTag<T>;
  using V = hn::Vec<D>;
  static constexpr std::size_t N = kLanes<T>;
  static constexpr std::size_t kGroups = kChunks / N;

  static constexpr std::size_t kBlock = 8;  // steps per block of a walk

  /// Largest |r|, largest |r| / tolerance, and NaN as soon as one r is not finite, and ever after.
  struct Maxima {
    V worst, ratio, finite;

    HWY_INLINE void add(D d, V defect, V state, const GruNewtonOptions& options) {
      const V size = hn::Abs(defect);
      worst = hn::Max(worst, size);
      if (options.rtol > 0) {
        const V scale = hn::MulAdd(hn::Set(d, static_cast<T>(options.rtol)), hn::Abs(state),
                                   hn::Set(d, static_cast<T>(options.atol)));
        ratio = hn::Max(ratio, hn::Div(size, scale));
      }
      finite = hn::MulAdd(defect, hn::Zero(d), finite);
    }
  };

  struct Group {
    T *x, *xw, *y, *r, *jac;                       // (length, ., N)
    T *product, *next_product;                     // (n, n, N)
    T *offset, *next_offset, *delta, *next_delta;  // (n, N)
    T* before;                                     // (n, N): state before the chunk
    T *worst, *worst_ratio, *finite;               // (N): see Maxima
    T *gates, *z;                                  // (kBlock, 3n, N), (kBlock, n, N)
  };

  Group group(std::size_t g) const {
    T* m = memory_.get() + g * group_size_;
    const auto take = [&m](std::size_t count) {
      T* p = m;
      m += count * N;
      return p;
    };
    const std::size_t length = p_.max_length, n2 = n_ * n_;
    Group q;
    q.x = take(length * w_.input), q.xw = take(length * 3 * n_), q.y = take(length * n_), q.r = take(length * n_);
    q.jac = take(length * n2), q.product = take(n2), q.next_product = take(n2);
    q.offset = take(n_), q.next_offset = take(n_), q.delta = take(n_), q.next_delta = take(n_), q.before = take(n_);
    q.worst = take(1), q.worst_ratio = take(1), q.finite = take(1);
    q.gates = take(kBlock * 3 * n_), q.z = take(kBlock * n_);
    return q;
  }

  std::size_t row(std::size_t t) const { return t * batch_ + sequence_; }

  /// Newton steps used. The window's states go to hs, its defects to the report.
  int solve_window(std::size_t t0, const T* start, SequenceReport& report) {
    const int limit = p_.options.max_steps > 0 ? p_.options.max_steps : static_cast<int>(length_ * kChunks);
    for (std::size_t i = 0; i < n_; ++i) {
      // Every GRU state is a convex combination of the state before it and of values in [-1, 1].
      bound_[i] = static_cast<T>(1.001) * std::max(T{1}, std::abs(start[i]));
    }
    parallel_for(static_cast<std::int64_t>(kGroups), groups_per_task(), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g) {
        load(static_cast<std::size_t>(g), t0, start);
        walk(static_cast<std::size_t>(g), true);
      }
    });
    int steps = 0;
    double before = std::numeric_limits<double>::infinity(), residual = 0, ratio = 0;
    while (true) {
      gather_defects(residual, ratio);
      if (ratio <= 1 || steps >= limit) break;
      if (!std::isfinite(residual)) {
        if (cell_is_not_finite()) break;
      } else if (residual >= before && residual <= 16 * std::numeric_limits<T>::epsilon() * largest_bound()) {
        break;  // the rounding floor: the tolerance is below what this precision can reach
      }
      before = residual;
      chain(start);
      parallel_for(static_cast<std::int64_t>(kGroups), groups_per_task(), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t g = begin; g < end; ++g) walk(static_cast<std::size_t>(g), false);
      });
      ++steps;
    }
    store(t0);
    if (!(residual <= report.residual)) report.residual = residual;
    if (!(ratio <= report.ratio)) report.ratio = ratio;
    if (!std::isfinite(residual)) {
      report.residual = report.ratio = std::numeric_limits<double>::quiet_NaN();
    }
    return steps;
  }

  /// About 20 us of work per task, by a rough count of cycles per step and unit.
  std::int64_t groups_per_task() const {
    const std::size_t cycles = length_ * n_ * (60 + 12 * n_ + n_ * n_);
    return static_cast<std::int64_t>(std::clamp<std::size_t>(60000 / cycles, 1, kGroups));
  }

  double largest_bound() const { return static_cast<double>(*std::max_element(bound_, bound_ + n_)); }

  /// Projections of the window, and the start state continued as a constant.
  void load(std::size_t g, std::size_t t0, const T* start) {
    const D d;
    const Group q = group(g);
    const T* lanes[N];
    for (std::size_t j = 0; j < N; ++j) lanes[j] = p_.xs + row(t0 + (g * N + j) * length_) * w_.input;
    load_tile(d, lanes, length_, w_.input, batch_ * w_.input, q.x);
    project_tile_lanes(d, w_, q.x, length_, q.xw);
    for (std::size_t i = 0; i < n_; ++i) {
      const V value = hn::Set(d, start[i]);
      hn::Store(value, d, q.before + i * N);
      for (std::size_t s = 0; s < length_; ++s) hn::Store(value, d, q.y + (s * n_ + i) * N);
    }
  }

  void store(std::size_t t0) {
    for (std::size_t g = 0; g < kGroups; ++g) {
      T* lanes[N];
      for (std::size_t j = 0; j < N; ++j) lanes[j] = p_.hs + row(t0 + (g * N + j) * length_) * n_;
      store_tile(D(), group(g).y, lanes, length_, n_, batch_ * n_, N);
    }
  }

  /// One pass over a group of chunks: correction (unless `first`), then defects, Jacobians and the composed map. Each
  /// part runs over a block of steps before the next one, so that the long chains of the gates overlap.
  HWY_NOINLINE void walk(std::size_t g, bool first) {
    const D d;
    Group q = group(g);
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    for (std::size_t i = 0; i < n; ++i) {
      hn::Store(hn::Zero(d), d, q.offset + i * N);
      for (std::size_t j = 0; j < n; ++j) hn::Store(hn::Set(d, i == j ? T{1} : T{0}), d, q.product + (i * n + j) * N);
    }
    Maxima maxima{hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    const T* h = q.before;
    for (std::size_t s0 = 0; s0 < length_; s0 += kBlock) {
      const std::size_t steps = std::min(kBlock, length_ - s0);
      T* y = q.y + s0 * n * N;
      T* r = q.r + s0 * n * N;
      T* jac = q.jac + s0 * n * n * N;
      if (!first) correct(q, steps, y, r, jac);
      for (std::size_t s = 0; s < steps; ++s) {
        const T* state = s == 0 ? h : y + (s - 1) * n * N;
        const T* xw = q.xw + (s0 + s) * 3 * n * N;
        unit_sums<kHidden, 1>(d, w_, &xw, &state, q.gates + s * 3 * n * N);
      }
      linearise(q, s0, steps, h, y, r, maxima);
      for (std::size_t s = 0; s < steps; ++s) jacobian(q.gates + s * 3 * n * N, q.z + s * n * N, jac + s * n * n * N);
      compose(q, steps, r, jac);
      h = y + (steps - 1) * n * N;
    }
    // The swapped buffers may have changed places: the result goes where the chain looks for it.
    const Group home = group(g);
    if (q.product != home.product) {
      std::memcpy(home.product, q.product, n * n * N * sizeof(T));
      std::memcpy(home.offset, q.offset, n * N * sizeof(T));
    }
    hn::Store(maxima.worst, d, home.worst);
    hn::Store(maxima.ratio, d, home.worst_ratio);
    hn::Store(maxima.finite, d, home.finite);
  }

  /// d <- J d + r, y <- y + d, for the stored J and r of a block of steps. A correction that leaves the range of GRU states
  /// is cut at its border, and one that is NaN is dropped; d is then what was really added. The first state behind the
  /// exact prefix is corrected by r alone, which never leaves the range: the prefix grows with every Newton step.
  HWY_INLINE void correct(Group& q, std::size_t steps, T* y, const T* r, const T* jac) const {
    const D d;
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    const auto apply = [&](V delta, std::size_t i, T* state) HWY_ATTR {
      const V bound = hn::Set(d, bound_[i]);
      const V old = hn::Load(d, state + i * N);
      const V moved = hn::Add(old, delta);
      const V inside = hn::Min(hn::Max(moved, hn::Neg(bound)), bound);
      const V next = hn::IfThenElse(hn::IsNaN(moved), old, inside);
      hn::Store(next, d, state + i * N);
      return hn::IfThenElse(hn::Eq(next, moved), delta, hn::Sub(next, old));
    };
    if constexpr (kHidden > 0) {  // d stays in registers
      V delta[kHidden], next[kHidden];
      HWY_UNROLL(4)
      for (std::size_t i = 0; i < kHidden; ++i) delta[i] = hn::Load(d, q.delta + i * N);
      for (std::size_t s = 0; s < steps; ++s, y += n * N, r += n * N, jac += n * n * N) {
        HWY_UNROLL(4)
        for (std::size_t i = 0; i < kHidden; ++i) {
          next[i] = hn::Load(d, r + i * N);
          HWY_UNROLL(4)
          for (std::size_t k = 0; k < kHidden; ++k) {
            next[i] = hn::MulAdd(hn::Load(d, jac + (i * kHidden + k) * N), delta[k], next[i]);
          }
          next[i] = apply(next[i], i, y);
        }
        HWY_UNROLL(4)
        for (std::size_t i = 0; i < kHidden; ++i) delta[i] = next[i];
      }
      HWY_UNROLL(4)
      for (std::size_t i = 0; i < kHidden; ++i) hn::Store(delta[i], d, q.delta + i * N);
    } else {
      for (std::size_t s = 0; s < steps; ++s, y += n * N, r += n * N, jac += n * n * N) {
        for (std::size_t i = 0; i < n; ++i) {
          V delta = hn::Load(d, r + i * N);
          for (std::size_t k = 0; k < n; ++k) {
            delta = hn::MulAdd(hn::Load(d, jac + (i * n + k) * N), hn::Load(d, q.delta + k * N), delta);
          }
          hn::Store(apply(delta, i, y), d, q.next_delta + i * N);
        }
        std::swap(q.delta, q.next_delta);
      }
    }
  }

  /// From the sums of `steps` steps: the defects r = f(h) - y, and in place of the sums the factors of the scaled weights
  /// in J (the scales are divided out here).
  HWY_INLINE void linearise(const Group& q, std::size_t s0, std::size_t steps, const T* before, const T* y, T* r,
                            Maxima& maxima) const {
    const D d;
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    constexpr T kInverseSigmoid = T{1} / GateScale<T>::kSigmoid;
    const V one = hn::Set(d, T{1});
    for (std::size_t e = 0; e < steps * n; ++e) {  // r and z
      T* unit = q.gates + 3 * e * N;
      hn::Store(sigmoid_scaled(d, hn::Load(d, unit)), d, unit);
      hn::Store(sigmoid_scaled(d, hn::Load(d, unit + N)), d, q.z + e * N);
    }
    for (std::size_t e = 0; e < steps * n; ++e) {
      T* unit = q.gates + 3 * e * N;
      const V gate_r = hn::Load(d, unit), z = hn::Load(d, q.z + e * N), q_sum = hn::Load(d, unit + 2 * N);
      const V n_input = hn::Load(d, q.xw + (s0 * n + e) * 3 * N + 2 * N);
      const V gate_n = tanh_scaled(d, hn::MulAdd(gate_r, q_sum, n_input));
      const V state = hn::Load(d, e < n ? before + e * N : y + (e - n) * N);
      const V away = hn::Sub(state, gate_n), keep = hn::Sub(one, z), now = hn::Load(d, y + e * N);
      const V defect = hn::Sub(hn::MulAdd(z, away, gate_n), now);
      hn::Store(defect, d, r + e * N);
      maxima.add(d, defect, now, p_.options);
      const V slope = hn::Mul(hn::Mul(keep, gate_r), hn::NegMulAdd(gate_n, gate_n, one));
      const V q_scaled = hn::Mul(q_sum, hn::Set(d, GateScale<T>::kInverseTanh * kInverseSigmoid));
      hn::Store(hn::Mul(hn::Mul(slope, q_scaled), hn::Sub(one, gate_r)), d, unit);
      hn::Store(hn::Mul(hn::Mul(away, hn::Set(d, kInverseSigmoid)), hn::Mul(z, keep)), d, unit + N);
      hn::Store(hn::Mul(slope, hn::Set(d, GateScale<T>::kInverseTanh)), d, unit + 2 * N);
    }
  }

  /// J of one step from its factors.
  HWY_INLINE void jacobian(const T* factors, const T* z, T* jac) const {
    const D d;
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < n; ++i) {
      const V c_r = hn::Load(d, factors + 3 * i * N), c_z = hn::Load(d, factors + (3 * i + 1) * N);
      const V c_n = hn::Load(d, factors + (3 * i + 2) * N);
      const T* w_r = w_.hh + 3 * i * n;
      HWY_UNROLL(4)
      for (std::size_t j = 0; j < n; ++j) {
        V sum = hn::Mul(c_r, hn::Set(d, w_r[j]));
        sum = hn::MulAdd(c_z, hn::Set(d, w_r[n + j]), sum);
        sum = hn::MulAdd(c_n, hn::Set(d, w_r[2 * n + j]), sum);
        if (j == i) sum = hn::Add(sum, hn::Load(d, z + i * N));
        hn::Store(sum, d, jac + (i * n + j) * N);
      }
    }
  }

  template <std::size_t kColumns>
  HWY_INLINE void compose_columns(const Group& q, const T* jac, std::size_t i, std::size_t j0) const {
    const D d;
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    V sum[kColumns];
    HWY_UNROLL(8)
    for (std::size_t j = 0; j < kColumns; ++j) sum[j] = hn::Zero(d);
    for (std::size_t k = 0; k < n; ++k) {
      const V a = hn::Load(d, jac + (i * n + k) * N);
      HWY_UNROLL(8)
      for (std::size_t j = 0; j < kColumns; ++j) {
        sum[j] = hn::MulAdd(a, hn::Load(d, q.product + (k * n + j0 + j) * N), sum[j]);
      }
    }
    HWY_UNROLL(8)
    for (std::size_t j = 0; j < kColumns; ++j) hn::Store(sum[j], d, q.next_product + (i * n + j0 + j) * N);
  }

  /// (P, v) <- (J P, J v + r) for a block of steps.
  HWY_INLINE void compose(Group& q, std::size_t steps, const T* r, const T* jac) const {
    const D d;
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    if constexpr (kHidden == 1 || kHidden == 2) {  // P and v stay in registers
      V product[kHidden * kHidden], offset[kHidden];
      HWY_UNROLL(4)
      for (std::size_t e = 0; e < kHidden * kHidden; ++e) product[e] = hn::Load(d, q.product + e * N);
      HWY_UNROLL(4)
      for (std::size_t i = 0; i < kHidden; ++i) offset[i] = hn::Load(d, q.offset + i * N);
      for (std::size_t s = 0; s < steps; ++s, r += n * N, jac += n * n * N) {
        V next[kHidden * kHidden], sum[kHidden];
        HWY_UNROLL(4)
        for (std::size_t i = 0; i < kHidden; ++i) {
          sum[i] = hn::Load(d, r + i * N);
          HWY_UNROLL(4)
          for (std::size_t j = 0; j < kHidden; ++j) next[i * kHidden + j] = hn::Zero(d);
          HWY_UNROLL(4)
          for (std::size_t k = 0; k < kHidden; ++k) {
            const V a = hn::Load(d, jac + (i * kHidden + k) * N);
            sum[i] = hn::MulAdd(a, offset[k], sum[i]);
            HWY_UNROLL(4)
            for (std::size_t j = 0; j < kHidden; ++j) {
              next[i * kHidden + j] = hn::MulAdd(a, product[k * kHidden + j], next[i * kHidden + j]);
            }
          }
        }
        HWY_UNROLL(4)
        for (std::size_t e = 0; e < kHidden * kHidden; ++e) product[e] = next[e];
        HWY_UNROLL(4)
        for (std::size_t i = 0; i < kHidden; ++i) offset[i] = sum[i];
      }
      HWY_UNROLL(4)
      for (std::size_t e = 0; e < kHidden * kHidden; ++e) hn::Store(product[e], d, q.product + e * N);
      HWY_UNROLL(4)
      for (std::size_t i = 0; i < kHidden; ++i) hn::Store(offset[i], d, q.offset + i * N);
    } else {
      for (std::size_t s = 0; s < steps; ++s, r += n * N, jac += n * n * N) {
        compose_step(q, r, jac);
        std::swap(q.product, q.next_product);
        std::swap(q.offset, q.next_offset);
      }
    }
  }

  HWY_INLINE void compose_step(const Group& q, const T* r, const T* jac) const {
    const D d;
    const std::size_t n = kHidden == 0 ? n_ : kHidden;
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < n; ++i) {
      V sum = hn::Load(d, r + i * N);
      for (std::size_t k = 0; k < n; ++k) {
        sum = hn::MulAdd(hn::Load(d, jac + (i * n + k) * N), hn::Load(d, q.offset + k * N), sum);
      }
      hn::Store(sum, d, q.next_offset + i * N);
      if constexpr (kHidden > 0) {
        compose_columns<kHidden>(q, jac, i, 0);
      } else {
        std::size_t j = 0;
        for (; j + 8 <= n; j += 8) compose_columns<8>(q, jac, i, j);
        for (; j + 4 <= n; j += 4) compose_columns<4>(q, jac, i, j);
        for (; j < n; ++j) compose_columns<1>(q, jac, i, j);
      }
    }
  }

  /// Chains the chunks' maps: the correction with which each chunk starts, and the corrected state before it.
  void chain(const T* start) {
    T d[kGruNewtonMaxHidden] = {}, next[kGruNewtonMaxHidden];
    T before[kGruNewtonMaxHidden];
    std::copy_n(start, n_, before);
    for (std::size_t c = 0; c < kChunks; ++c) {
      const Group q = group(c / N);
      const std::size_t lane = c % N;
      for (std::size_t i = 0; i < n_; ++i) {
        q.delta[i * N + lane] = d[i];
        q.before[i * N + lane] = before[i];
        next[i] = q.offset[i * N + lane];
        for (std::size_t k = 0; k < n_; ++k) next[i] += q.product[(i * n_ + k) * N + lane] * d[k];
      }
      for (std::size_t i = 0; i < n_; ++i) {
        const T last = q.y[((length_ - 1) * n_ + i) * N + lane];
        const T moved = last + next[i];  // cut as in correct()
        const bool inside = std::abs(moved) <= bound_[i];
        d[i] = inside ? next[i] : std::isnan(moved) ? T{0} : std::copysign(bound_[i], moved) - last;
        before[i] = last + d[i];
      }
    }
  }

  /// The largest defects after a walk. The state a chunk took for its predecessor's last one was predicted by the chain;
  /// where the two differ, that difference counts as a defect, too.
  void gather_defects(double& residual, double& ratio) const {
    residual = ratio = 0;
    bool finite = true;
    for (std::size_t c = 0; c < kChunks; ++c) {
      const Group q = group(c / N);
      const std::size_t lane = c % N;
      double worst = static_cast<double>(q.worst[lane]), relative = static_cast<double>(q.worst_ratio[lane]);
      if (c > 0) {
        const Group left = group((c - 1) / N);
        for (std::size_t i = 0; i < n_; ++i) {
          const double last = static_cast<double>(left.y[((length_ - 1) * n_ + i) * N + (c - 1) % N]);
          const double gap = std::abs(last - static_cast<double>(q.before[i * N + lane]));
          worst = std::max(worst, gap);
          if (gap > 0) relative = std::max(relative, gap / (p_.options.atol + p_.options.rtol * std::abs(last)));
        }
      }
      residual = std::max(residual, worst);
      ratio = std::max(ratio, relative);
      finite = finite && std::isfinite(q.finite[lane]);
    }
    if (p_.options.rtol <= 0 && residual > 0) ratio = residual / p_.options.atol;
    if (!finite) residual = ratio = std::numeric_limits<double>::quiet_NaN();
  }

  /// True if the first step (in time) that misses the tolerance has a defect that is not finite: the states before it are
  /// right, so the cell itself has no finite value there.
  bool cell_is_not_finite() const {
    for (std::size_t c = 0; c < kChunks; ++c) {
      const Group q = group(c / N);
      for (std::size_t s = 0; s < length_; ++s) {
        for (std::size_t i = 0; i < n_; ++i) {
          const double r = static_cast<double>(q.r[(s * n_ + i) * N + c % N]);
          const double y = static_cast<double>(q.y[(s * n_ + i) * N + c % N]);
          if (!std::isfinite(r)) return true;
          if (std::abs(r) > p_.options.atol + p_.options.rtol * std::abs(y)) return false;
        }
      }
    }
    return false;
  }

  /// Plain evaluation of steps [t0, t1) from `state`.
  void roll_out(std::size_t t0, std::size_t t1, const T* state) {
    const D d;
    const AlignedArray<T> memory = allocate<T>((w_.input + 5 * n_) * N + recur_scratch<T>(n_, 1));
    T* x = memory.get();
    T* xw = x + w_.input * N;
    T* h = xw + 3 * n_ * N;
    for (std::size_t i = 0; i < n_; ++i) hn::Store(hn::Set(d, state[i]), d, h + i * N);
    for (std::size_t t = t0; t < t1; ++t) {
      const T* lanes[N];
      for (std::size_t j = 0; j < N; ++j) lanes[j] = p_.xs + row(t) * w_.input;
      gather_lanes(d, lanes, 0, w_.input, x);
      project_tile_lanes(d, w_, x, 1, xw);
      recur_tiles<0, 1>(d, w_, &xw, &h, 1, h + 2 * n_ * N);
      std::memcpy(h, h + n_ * N, n_ * N * sizeof(T));
      for (std::size_t i = 0; i < n_; ++i) p_.hs[row(t) * n_ + i] = h[i * N];
    }
  }

  const NewtonProblem<T>& p_;
  const LaneWeights<T>& w_;
  std::size_t n_, batch_;
  std::size_t sequence_ = 0, length_ = 1, group_size_ = 0;
  AlignedArray<T> memory_;
  T bound_[kGruNewtonMaxHidden];
};

template <std::size_t kHidden, class T>
void solve_sequences(const NewtonProblem<T>& problem, std::vector<SequenceReport>& reports) {
  std::atomic<bool> out_of_memory{false};
  parallel_for(problem.shape.B, 1, [&](std::int64_t begin, std::int64_t end) {
    try {
      NewtonSequence<kHidden, T> solver(problem);
      for (std::int64_t b = begin; b < end; ++b) {
        reports[static_cast<std::size_t>(b)] = solver.run(static_cast<std::size_t>(b));
      }
    } catch (const std::bad_alloc&) {
      out_of_memory = true;  // an exception must not leave the parallel loop
    }
  });
  if (out_of_memory) throw std::bad_alloc();
}

/// Steps per chunk of a full window: about 400 KB of states and Jacobians, enough work per parallel loop.
template <class T>
std::size_t choose_length(const GruShape& s, const GruNewtonOptions& options) {
  const std::size_t h = static_cast<std::size_t>(s.H), steps = static_cast<std::size_t>(s.T) / kChunks;
  const std::size_t step_bytes = kChunks * sizeof(T) * (h * h + 5 * h + static_cast<std::size_t>(s.I));
  const std::size_t wanted = options.window > 0 ? static_cast<std::size_t>(options.window) / kChunks
                                                : std::max<std::size_t>((std::size_t{448} << 10) / step_bytes, 16);
  return std::clamp<std::size_t>(wanted, 1, std::max<std::size_t>(steps, 1));
}

template <class T>
GruSolveReport newton(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, T* hs,
                      const GruNewtonOptions& options) {
  const LaneWeights<T> w =
      pack_lane_weights(static_cast<std::size_t>(shape.I), static_cast<std::size_t>(shape.H), weights);
  const NewtonProblem<T> problem{shape, options, w, xs, h0, hs, choose_length<T>(shape, options)};
  std::vector<SequenceReport> reports(static_cast<std::size_t>(shape.B));
  const std::int64_t main = shape.T / static_cast<std::int64_t>(kChunks) * static_cast<std::int64_t>(kChunks);
  if (main > 0) {
    switch (shape.H) {
      case 1: solve_sequences<1>(problem, reports); break;
      case 2: solve_sequences<2>(problem, reports); break;
      case 4: solve_sequences<4>(problem, reports); break;
      default: solve_sequences<0>(problem, reports); break;
    }
  }
  GruSolveReport report;
  report.chunks = static_cast<std::int64_t>(kChunks);
  report.max_passes = options.max_steps > 0 ? options.max_steps : static_cast<int>(problem.max_length * kChunks);
  report.windows = 0;
  for (const SequenceReport& r : reports) {
    report.residual.push_back(r.residual);
    report.ratio.push_back(r.ratio);
    report.passes = std::max(report.passes, r.max_steps);
    report.windows = std::max(report.windows, r.windows);
    report.steps = std::max(report.steps, r.steps);
  }
  if (main < shape.T) {  // fewer than kChunks steps are left: one by one
    const std::int64_t row = shape.B * shape.H;
    gru_forward<T>({shape.T - main, shape.B, shape.I, shape.H}, weights, xs + main * shape.B * shape.I,
                   main > 0 ? hs + (main - 1) * row : h0, hs + main * row, nullptr);
  }
  return report;
}

GruSolveReport newton_f32(const GruShape& shape, const GruWeights<float>& weights, const float* xs, const float* h0,
                          float* hs, const GruNewtonOptions& options) {
  return newton(shape, weights, xs, h0, hs, options);
}
GruSolveReport newton_f64(const GruShape& shape, const GruWeights<double>& weights, const double* xs, const double* h0,
                          double* hs, const GruNewtonOptions& options) {
  return newton(shape, weights, xs, h0, hs, options);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(newton_f32);
HWY_EXPORT(newton_f64);

namespace {

/// A NaN never leaves the state again, so the last row tells whether one appeared in the steps after the windows.
template <class T>
void report_non_finite(const GruShape& s, const T* hs, GruSolveReport& report) {
  for (std::int64_t b = 0; b < s.B; ++b) {
    for (std::int64_t i = 0; i < s.H; ++i) {
      if (std::isfinite(hs[((s.T - 1) * s.B + b) * s.H + i])) continue;
      report.residual[static_cast<std::size_t>(b)] = std::numeric_limits<double>::quiet_NaN();
      report.ratio[static_cast<std::size_t>(b)] = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace

template <>
GruSolveReport gru_newton(const GruShape& shape, const GruWeights<float>& weights, const float* xs, const float* h0,
                          float* hs, const GruNewtonOptions& options) {
  if (shape.T <= 0 || shape.B <= 0 || shape.H <= 0) return {};
  GruSolveReport report = HWY_DYNAMIC_DISPATCH(newton_f32)(shape, weights, xs, h0, hs, options);
  report_non_finite(shape, hs, report);
  return report;
}

template <>
GruSolveReport gru_newton(const GruShape& shape, const GruWeights<double>& weights, const double* xs, const double* h0,
                          double* hs, const GruNewtonOptions& options) {
  if (shape.T <= 0 || shape.B <= 0 || shape.H <= 0) return {};
  GruSolveReport report = HWY_DYNAMIC_DISPATCH(newton_f64)(shape, weights, xs, h0, hs, options);
  report_non_finite(shape, hs, report);
  return report;
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
