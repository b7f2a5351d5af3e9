// Multiple shooting for one GRU layer: see gru_shooting.h for the method.
//
// Decomposition: every (sequence, chunk) pair is a rollout; N of them fill a vector, one per lane, and a few vectors are
// interleaved so that the latency of the cell (about 100 cycles) is hidden. Groups of vectors run in parallel. Inputs are
// transposed in registers while they are loaded, a tile of steps at a time; everything of a tile stays in L1.
// Traffic: xs read once per pass (plus the burn-in), hs written once per pass.
// Deterministic: lanes do not interact; which rollouts share a vector does not change a bit of any of them.

#include "solvent/solvers/cpu/gru_shooting.h"

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/solvers/cpu/gru_shooting.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/gru_lanes-inl.h"
#include "solvent/solvers/cpu/gru_shooting_plan.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// kVectors * N rollouts at once.
template <std::size_t kHidden, std::size_t kVectors, class T>
class RolloutGroup {
 public:
  RolloutGroup(const RolloutProblem<T>& problem, const LaneWeights<T>& w)
      : p_(problem), w_(w), steps_(tile_steps(w.input, w.hidden, N * sizeof(T) * std::min<std::size_t>(kVectors, 2))) {}

  std::size_t scratch_size() const {
    return kVectors * N * (steps_ * (w_.input + 3 * w_.hidden) + (steps_ + 1) * w_.hidden) +
           recur_scratch<T>(w_.hidden, kVectors);
  }

  void run(const Rollout* rollouts, std::size_t count, T* scratch) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      x_[v] = scratch;
      xw_[v] = x_[v] + steps_ * w_.input * N;
      h_[v] = xw_[v] + steps_ * 3 * w_.hidden * N;
      scratch = h_[v] + (steps_ + 1) * w_.hidden * N;
      valid_[v] = count > v * N ? std::min(N, count - v * N) : 0;
    }
    sums_ = scratch;
    const std::int64_t burn = p_.burn_in ? p_.plan.burn_in : 0;
    for (std::size_t v = 0; v < kVectors; ++v) std::memset(h_[v], 0, w_.hidden * N * sizeof(T));
    if (burn > 0) {
      // Chunk 0 has nothing before it; its lanes read their own first steps, and the result is replaced below.
      aim(rollouts, count, burn);
      sweep(burn, false);
      exchange_starts(rollouts, true);
    } else {
      exchange_starts(rollouts, false);
    }
    aim(rollouts, count, 0);
    sweep(p_.plan.length, true);
  }

 private:
  using D = GruTag<T>;
  static constexpr std::size_t N = kLanes<T>;

  const T* lane_x(std::int64_t sequence, std::int64_t t) const {
    return p_.xs + (t * p_.shape.B + sequence) * p_.shape.I;
  }

  /// Points the lanes at the first step, `before` steps ahead of each chunk. Lanes without a rollout repeat the last one.
  void aim(const Rollout* rollouts, std::size_t count, std::int64_t before) {
    for (std::size_t j = 0; j < kVectors * N; ++j) {
      const Rollout& r = rollouts[std::min(j, count - 1)];
      const std::int64_t first = r.chunk * p_.plan.length;
      xp_[j / N][j % N] = lane_x(r.sequence, std::max<std::int64_t>(0, first - before));
      hp_[j / N][j % N] = p_.hs + (first * p_.shape.B + r.sequence) * p_.shape.H;
    }
  }

  /// Start states: with `keep` the burn-in's result is stored (except for chunk 0), else they are loaded.
  void exchange_starts(const Rollout* rollouts, bool keep) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      for (std::size_t j = 0; j < valid_[v]; ++j) {
        const Rollout& r = rollouts[v * N + j];
        T* start = p_.starts + (r.chunk * p_.shape.B + r.sequence) * p_.shape.H;
        for (std::size_t i = 0; i < w_.hidden; ++i) {
          T& lane = h_[v][i * N + j];
          if (keep && r.chunk > 0) {
            start[i] = lane;
          } else {
            lane = start[i];
          }
        }
      }
    }
  }

  /// Asks for the next tile: the lanes are more streams than hardware prefetchers follow. Only for a lone sequence, whose
  /// lanes are contiguous; rows of a batch share their lines with the neighbouring lanes.
  HWY_INLINE void prefetch(std::size_t x_ahead, std::size_t x_count, std::size_t h_ahead, std::size_t h_count) const {
    if (p_.shape.B != 1) return;
    constexpr std::size_t kLine = 64 / sizeof(T);
    for (std::size_t v = 0; v < kVectors; ++v) {
      for (std::size_t j = 0; j < N; ++j) {
        for (std::size_t e = 0; e < x_count; e += kLine) hwy::Prefetch(xp_[v][j] + x_ahead + e);
        if (h_ahead == 0) continue;
        for (std::size_t e = 0; e < h_count; e += kLine) hwy::Prefetch(hp_[v][j] + h_ahead + e);
      }
    }
  }

  /// Rolls out `total` steps tile by tile.
  HWY_NOINLINE void sweep(std::int64_t total, bool store) {
    const D d;
    const std::size_t batch = static_cast<std::size_t>(p_.shape.B);
    const std::size_t x_stride = batch * w_.input, h_stride = batch * w_.hidden;
    for (std::size_t done = 0; done < static_cast<std::size_t>(total); done += steps_) {
      const std::size_t steps = std::min(steps_, static_cast<std::size_t>(total) - done);
      prefetch(steps_ * x_stride, steps_ * w_.input, store ? steps_ * h_stride : 0, steps_ * w_.hidden);
      for (std::size_t v = 0; v < kVectors; ++v) {
        load_tile(d, xp_[v], steps, w_.input, x_stride, x_[v]);
        project_tile_lanes(d, w_, x_[v], steps, xw_[v]);
      }
      recur_tiles<kHidden, kVectors>(d, w_, xw_, h_, steps, sums_);
      for (std::size_t v = 0; v < kVectors; ++v) {
        if (store) store_tile(d, h_[v] + w_.hidden * N, hp_[v], steps, w_.hidden, h_stride, valid_[v]);
        std::memcpy(h_[v], h_[v] + steps * w_.hidden * N, w_.hidden * N * sizeof(T));
        for (std::size_t j = 0; j < N; ++j) {
          xp_[v][j] += steps * x_stride;
          if (store) hp_[v][j] += steps * h_stride;
        }
      }
    }
  }

  const RolloutProblem<T>& p_;
  const LaneWeights<T>& w_;
  std::size_t steps_;
  T* x_[kVectors];
  T* xw_[kVectors];
  T* h_[kVectors];
  T* sums_ = nullptr;
  std::size_t valid_[kVectors];
  const T* xp_[kVectors][N];
  T* hp_[kVectors][N];
};

template <std::size_t kHidden, std::size_t kVectors, class T>
void roll_out_groups(const RolloutProblem<T>& problem, const std::vector<Rollout>& rollouts) {
  const LaneWeights<T> w = pack_lane_weights(static_cast<std::size_t>(problem.shape.I),
                                             static_cast<std::size_t>(problem.shape.H), problem.weights);
  constexpr std::size_t kGroup = kVectors * kLanes<T>;
  const std::size_t groups = (rollouts.size() + kGroup - 1) / kGroup;
  const std::size_t size = round_up(RolloutGroup<kHidden, kVectors, T>(problem, w).scratch_size(), 64);
  const AlignedArray<T> scratch = allocate<T>(groups * size);
  parallel_for(static_cast<std::int64_t>(groups), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t g = static_cast<std::size_t>(begin); g < static_cast<std::size_t>(end); ++g) {
      RolloutGroup<kHidden, kVectors, T> group(problem, w);
      const std::size_t first = g * kGroup;
      group.run(rollouts.data() + first, std::min(kGroup, rollouts.size() - first), scratch.get() + g * size);
    }
  });
}

/// Vectors in flight: the narrower the cell, the more are needed to hide its latency.
template <class T>
void roll_out(const RolloutProblem<T>& problem, const std::vector<Rollout>& rollouts) {
  switch (problem.shape.H) {
    case 1: return roll_out_groups<1, 8>(problem, rollouts);
    case 2: return roll_out_groups<2, 4>(problem, rollouts);
    case 3: return roll_out_groups<3, 2>(problem, rollouts);
    case 4: return roll_out_groups<4, 2>(problem, rollouts);
    default: return roll_out_groups<0, 2>(problem, rollouts);
  }
}

void roll_out_f32(const RolloutProblem<float>& problem, const std::vector<Rollout>& rollouts) {
  roll_out(problem, rollouts);
}
void roll_out_f64(const RolloutProblem<double>& problem, const std::vector<Rollout>& rollouts) {
  roll_out(problem, rollouts);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

namespace {

/// Largest H that runs with one rollout per lane; wider cells run one chunk per task instead.
constexpr std::int64_t kShootingLaneHidden = 16;

}  // namespace

HWY_EXPORT(roll_out_f32);
HWY_EXPORT(roll_out_f64);

namespace {

void roll_out_lanes(const RolloutProblem<float>& problem, const std::vector<Rollout>& rollouts) {
  HWY_DYNAMIC_DISPATCH(roll_out_f32)(problem, rollouts);
}
void roll_out_lanes(const RolloutProblem<double>& problem, const std::vector<Rollout>& rollouts) {
  HWY_DYNAMIC_DISPATCH(roll_out_f64)(problem, rollouts);
}

/// Wide cells: the sequential kernel on every chunk that has a rollout, chunks in parallel. All sequences of the batch
/// take part; one that has no rollout starts where it started before and gets the same bits again.
template <class T>
void roll_out_wide(const RolloutProblem<T>& p, const std::vector<Rollout>& rollouts) {
  const std::int64_t batch = p.shape.B, input = p.shape.I, hidden = p.shape.H, length = p.plan.length;
  std::vector<std::int64_t> chunks;
  for (const Rollout& r : rollouts) chunks.push_back(r.chunk);
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  const std::int64_t burn = p.burn_in ? p.plan.burn_in : 0;
  std::atomic<bool> out_of_memory{false};
  parallel_for(static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    try {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t c = chunks[static_cast<std::size_t>(i)];
        T* start = p.starts + c * batch * hidden;
        T* rows = p.hs + c * length * batch * hidden;
        const T* xs = p.xs + c * length * batch * input;
        if (burn > 0 && c > 0) {  // the chunk's own rows serve as scratch memory
          gru_forward<T>({burn, batch, input, hidden}, p.weights, xs - burn * batch * input, nullptr, rows, nullptr);
          std::copy_n(rows + (burn - 1) * batch * hidden, batch * hidden, start);
        }
        gru_forward<T>({length, batch, input, hidden}, p.weights, xs, start, rows, nullptr);
      }
    } catch (const std::bad_alloc&) {
      out_of_memory = true;  // an exception must not leave the parallel loop
    }
  });
  if (out_of_memory) throw std::bad_alloc();
}

ShootingPlan make_plan(const GruShape& s, const GruShootingOptions& options) {
  ShootingPlan plan;
  const std::int64_t burn = options.burn_in < 0 ? 128 : options.burn_in;
  if (options.chunk > 0) {
    plan.length = std::min(options.chunk, s.T);
    plan.count = s.T / plan.length;
  } else {
    // Enough rollouts to fill lanes and threads, while the burn-in stays a small part of a chunk when T is long.
    const std::int64_t wanted =
        std::max(std::min<std::int64_t>(s.T / 256, 128), std::min<std::int64_t>(s.T / 1024, 512));
    const std::int64_t per_sequence = s.H <= kShootingLaneHidden ? wanted / s.B : std::min<std::int64_t>(wanted, 16);
    plan.count = std::clamp<std::int64_t>(per_sequence, 1, s.T);
    const std::int64_t unit = s.B == 1 ? plan.count >= 64 ? 64 : 16 : 1;  // whole vectors for a lone sequence
    if (plan.count > unit) plan.count = plan.count / unit * unit;
    plan.length = s.T / plan.count;
  }
  plan.burn_in = std::min(burn, plan.length);
  return plan;
}

/// |difference| of two states and its ratio to the tolerance; NaN wins over every number.
struct Defect {
  double residual = 0, ratio = 0;

  template <class T>
  void add(T from, T to, double atol, double rtol) {
    const double diff = std::abs(static_cast<double>(from) - static_cast<double>(to));
    const double scale = atol + rtol * std::abs(static_cast<double>(to));
    const double relative = diff == 0 ? 0 : diff / scale;
    if (!(diff <= residual)) residual = diff;
    if (!(relative <= ratio)) ratio = relative;
  }
  void join(const Defect& other) {
    if (std::isnan(residual) || std::isnan(ratio)) return;
    if (!(other.residual <= residual)) residual = other.residual;
    if (!(other.ratio <= ratio)) ratio = other.ratio;
  }
};

/// Defects at all borders: per sequence into `report`, and the rollouts that start from a wrong state.
template <class T>
std::vector<Rollout> check_borders(const RolloutProblem<T>& p, const GruShootingOptions& options,
                                   GruSolveReport& report) {
  const std::int64_t batch = p.shape.B, hidden = p.shape.H;
  std::vector<Rollout> wrong;
  std::vector<Defect> total(static_cast<std::size_t>(batch));
  for (std::int64_t c = 1; c < p.plan.count; ++c) {
    for (std::int64_t b = 0; b < batch; ++b) {
      const T* end = p.hs + ((c * p.plan.length - 1) * batch + b) * hidden;
      T* start = p.starts + (c * batch + b) * hidden;
      Defect defect;
      for (std::int64_t i = 0; i < hidden; ++i) {
        Defect one;
        one.add(start[i], end[i], options.atol, options.rtol);
        defect.join(one);
      }
      total[static_cast<std::size_t>(b)].join(defect);
      // A NaN that both sides share came from the cell: another rollout would not change it.
      const bool same = std::memcmp(start, end, static_cast<std::size_t>(hidden) * sizeof(T)) == 0;
      if (!(defect.ratio <= 1) && !same) wrong.push_back({b, c});
    }
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    report.residual[static_cast<std::size_t>(b)] = total[static_cast<std::size_t>(b)].residual;
    report.ratio[static_cast<std::size_t>(b)] = total[static_cast<std::size_t>(b)].ratio;
  }
  return wrong;
}

/// A NaN never leaves the state again, so the last row tells whether one appeared anywhere.
template <class T>
void report_non_finite(const GruShape& s, const T* hs, GruSolveReport& report) {
  for (std::int64_t b = 0; b < s.B; ++b) {
    for (std::int64_t i = 0; i < s.H; ++i) {
      const T last = hs[((s.T - 1) * s.B + b) * s.H + i];
      if (std::isfinite(last)) continue;
      report.residual[static_cast<std::size_t>(b)] = std::numeric_limits<double>::quiet_NaN();
      report.ratio[static_cast<std::size_t>(b)] = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace

template <class T>
GruSolveReport gru_shooting(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, T* hs,
                            const GruShootingOptions& options) {
  GruSolveReport report;
  report.residual.assign(static_cast<std::size_t>(shape.B), 0.0);
  report.ratio.assign(static_cast<std::size_t>(shape.B), 0.0);
  if (shape.T <= 0 || shape.B <= 0 || shape.H <= 0) return report;
  const ShootingPlan plan = make_plan(shape, options);
  report.chunks = plan.count;
  report.max_passes = options.max_passes > 0 ? options.max_passes : static_cast<int>(plan.count);
  const std::int64_t row = shape.B * shape.H;
  std::vector<T> starts(static_cast<std::size_t>(plan.count * row), T{0});
  if (h0 != nullptr) std::copy_n(h0, row, starts.data());
  RolloutProblem<T> problem{shape, plan, weights, xs, hs, starts.data(), plan.burn_in > 0};
  std::vector<Rollout> rollouts;
  for (std::int64_t c = 0; c < plan.count; ++c) {
    for (std::int64_t b = 0; b < shape.B; ++b) rollouts.push_back({b, c});
  }
  while (!rollouts.empty() && report.passes < report.max_passes) {
    if (report.passes > 0) {
      problem.burn_in = false;
      for (const Rollout& r : rollouts) {
        std::copy_n(hs + ((r.chunk * plan.length - 1) * shape.B + r.sequence) * shape.H, shape.H,
                    starts.data() + (r.chunk * shape.B + r.sequence) * shape.H);
      }
    }
    shape.H <= kShootingLaneHidden ? roll_out_lanes(problem, rollouts) : roll_out_wide(problem, rollouts);
    report.passes += 1;
    rollouts = check_borders(problem, options, report);
  }
  const std::int64_t done = plan.count * plan.length;
  if (done < shape.T) {
    gru_forward<T>({shape.T - done, shape.B, shape.I, shape.H}, weights, xs + done * shape.B * shape.I,
                   hs + (done - 1) * row, hs + done * row, nullptr);
  }
  report_non_finite(shape, hs, report);
  return report;
}

template SOLVENT_API GruSolveReport gru_shooting(const GruShape&, const GruWeights<float>&, const float*, const float*,
                                                 float*, const GruShootingOptions&);
template SOLVENT_API GruSolveReport gru_shooting(const GruShape&, const GruWeights<double>&, const double*,
                                                 const double*, double*, const GruShootingOptions&);

}  // namespace solvent::cpu
#endif  // HWY_ONCE
