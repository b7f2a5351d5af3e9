#pragma once
/// Layer normalisation on a GPU, for one floating type: included by layer_norm_f32.cu and layer_norm_f64.cu.
///
/// Rows: the design of core/cuda/rows.h, bound by memory. Mean first, then squared deviations from it over the registers that
/// hold the row; parts of long rows are merged as in Chan et al. 1979. Statistics in double. The parameters' cotangents are
/// column sums (core/cuda/reduce.h) that read both operands a second time.

#include <cmath>
#include <cstdint>

#include "solvent/core/cuda/rows.h"
#include "solvent/ops/cuda/row_kernels.h"

namespace solvent::cuda {
namespace {

/// Of a set of elements: their number, mean, and sum of squared deviations from it.
struct Moments {
  double count;
  double mean;
  double m2;
};

__device__ inline Moments merged(const Moments& a, const Moments& b) {
  if (a.count == 0.0) return b;
  if (b.count == 0.0) return a;
  const double count = a.count + b.count;
  const double delta = b.mean - a.mean;
  return {count, a.mean + delta * (b.count / count), a.m2 + b.m2 + delta * delta * (a.count * b.count / count)};
}

/// Number and mean of the `total` elements that the team holds, the first `count` of x in this thread.
template <class T, class Team, int kHeld>
__device__ Moments mean_of(const Team& team, const T (&x)[kHeld], int count, std::int64_t total) {
  T sum = 0;
  for (int e = 0; e < kHeld; ++e)
    if (e < count) sum += x[e];
  const double all = static_cast<double>(total);
  return {all, team.fold(static_cast<double>(sum), 0.0, Plus{}) / all, 0.0};
}

__device__ inline double reciprocal_deviation(const Moments& m, double eps) {
  return 1.0 / std::sqrt(m.m2 / m.count + eps);
}

template <class T>
struct LayerNormRow {
  using Element = T;
  using Summary = Moments;
  struct Factors {
    T mean;
    T rstd;
  };
  using Parameters = TwoParameters<T>;
  static constexpr int kInputs = 1;
  static constexpr bool kWrites = true;
  Parameters parameters;
  double eps;

  template <class Team, class Columns, int kHeld>
  __device__ Summary summarise(const Team& team, T (&x)[1][kHeld], int count, const Columns& columns) const {
    Moments m = mean_of(team, x[0], count, columns.total);
    const T mean = static_cast<T>(m.mean);
    T sum = 0;
    for (int e = 0; e < kHeld; ++e)
      if (e < count) sum += (x[0][e] - mean) * (x[0][e] - mean);
    m.m2 = team.fold(static_cast<double>(sum), 0.0, Plus{});
    return m;
  }
  __device__ Summary neutral() const { return {0.0, 0.0, 0.0}; }
  __device__ Summary merge(const Summary& a, const Summary& b) const { return merged(a, b); }
  __device__ Factors prepare(const Summary& s, std::int64_t, bool) const {
    return {static_cast<T>(s.mean), static_cast<T>(reciprocal_deviation(s, eps))};
  }
  template <bool kKept>
  __device__ T finish(const Factors& f, const T (&x)[1], const typename Parameters::Values& p, std::int64_t) const {
    const T value = (x[0] - f.mean) * f.rstd;
    return value * p.scale + p.shift;
  }
};

/// Moments of x, and with h = g scale and d = x - mean the sums of h and h d.
struct BackwardSums {
  Moments x;
  double h;
  double hd;
};

struct ThreeSums {
  double squares;
  double h;
  double hd;
};

struct AddThreeSums {
  __device__ ThreeSums operator()(const ThreeSums& a, const ThreeSums& b) const {
    return {a.squares + b.squares, a.h + b.h, a.hd + b.hd};
  }
};

/// Inputs g, x.
template <class T>
struct LayerNormGradRow {
  using Element = T;
  using Summary = BackwardSums;
  struct Factors {
    T mean;
    T rstd;
    T mean_h;
    T mean_hx;
  };
  using Parameters = OneParameter<T>;
  static constexpr int kInputs = 2;
  static constexpr bool kWrites = true;
  Parameters parameters;
  double eps;
  std::int64_t rows;
  T* statistics;  // or null

  template <class Team, class Columns, int kHeld>
  __device__ Summary summarise(const Team& team, T (&x)[2][kHeld], int count, const Columns& columns) const {
    const Moments m = mean_of(team, x[1], count, columns.total);
    const T mean = static_cast<T>(m.mean);
    T squares = 0, sum_h = 0, sum_hd = 0;
    constexpr int kPack = Columns::kPackOf;
    for (int p = 0; p < kHeld; p += kPack) {
      if (p >= count) continue;
      const auto scale = parameters.template at<kPack>(columns.of(p));
      for (int j = 0; j < kPack; ++j) {
        const T d = x[1][p + j] - mean;
        const T h = x[0][p + j] * scale[j];
        squares += d * d;
        sum_h += h;
        sum_hd += h * d;
      }
    }
    const ThreeSums part{static_cast<double>(squares), static_cast<double>(sum_h), static_cast<double>(sum_hd)};
    const ThreeSums s = team.fold(part, ThreeSums{0.0, 0.0, 0.0}, AddThreeSums{});
    return {{m.count, m.mean, s.squares}, s.h, s.hd};
  }
  __device__ Summary neutral() const { return {{0.0, 0.0, 0.0}, 0.0, 0.0}; }
  __device__ Summary merge(const Summary& a, const Summary& b) const {
    const Moments m = merged(a.x, b.x);
    return {m, a.h + b.h, a.hd + a.h * (a.x.mean - m.mean) + (b.hd + b.h * (b.x.mean - m.mean))};
  }
  __device__ Factors prepare(const Summary& s, std::int64_t row, bool is_first) const {
    const double rstd = reciprocal_deviation(s.x, eps);
    if (is_first && statistics != nullptr) {
      statistics[row] = static_cast<T>(s.x.mean);
      statistics[rows + row] = static_cast<T>(rstd);
    }
    return {static_cast<T>(s.x.mean), static_cast<T>(rstd), static_cast<T>(s.h / s.x.count),
            static_cast<T>(s.hd * rstd / s.x.count)};
  }
  template <bool kKept>
  __device__ T finish(const Factors& f, const T (&x)[2], T scale, std::int64_t) const {
    const T normalised = (x[1] - f.mean) * f.rstd;
    return f.rstd * (x[0] * scale - f.mean_h - normalised * f.mean_hx);
  }
};

/// Over the rows of one column, of g, x: sums of g xn and of g.
template <class T>
struct ParameterSums {
  using Input = T;
  struct State {
    double scale;
    double shift;
  };
  struct Local {};
  static constexpr int kInputs = 2;
  const T* mean;
  const T* rstd;
  T* g_scale;
  T* g_shift;
  __device__ State neutral() const { return {0.0, 0.0}; }
  __device__ Local local(std::int64_t) const { return {}; }
  __device__ void add(State& s, const T (&x)[2], std::int64_t row, const Local&) const {
    const T normalised = (x[1] - mean[row]) * rstd[row];
    s.scale += static_cast<double>(x[0]) * static_cast<double>(normalised);
    s.shift += static_cast<double>(x[0]);
  }
  __device__ State merge(const State& a, const State& b) const { return {a.scale + b.scale, a.shift + b.shift}; }
  __device__ void store(std::int64_t column, const State& s) const {
    g_scale[column] = static_cast<T>(s.scale);
    g_shift[column] = static_cast<T>(s.shift);
  }
};

}  // namespace

template <class T>
void layer_norm(const Rows& r, const T* x, const T* scale, const T* shift, double eps, T* y) {
  map_rows("layer_norm", r.device, LayerNormRow<T>{{scale, shift}, eps}, {x}, y, r.rows, r.columns);
}

template <class T>
void layer_norm_backward(const Rows& r, const T* g, const T* x, const T* scale, double eps, T* gx, T* statistics) {
  map_rows("layer_norm_grad", r.device, LayerNormGradRow<T>{{scale}, eps, r.rows, statistics}, {g, x}, gx, r.rows,
           r.columns);
}

template <class T>
void layer_norm_parameter_sums(const Rows& r, const T* g, const T* x, const T* statistics, T* g_scale, T* g_shift) {
  reduce_middle("layer_norm_grad", r.device, ParameterSums<T>{statistics, statistics + r.rows, g_scale, g_shift},
                {g, x}, 1, r.rows, r.columns);
}

}  // namespace solvent::cuda
