#pragma once
/// How conv and conv_input_grad read their operands. For `.cu` files of ops/cuda only.
///
/// Both are sums over channels and taps of a filter times what a map holds at
///
///     first + q * step + tap * tap_step        along each axis, 0 outside the map
///
/// for the q-th result. conv is that directly. In conv_input_grad results h and h + stride see the same taps, and others
/// than their neighbours: results are taken by classes h mod stride, each a convolution of stride 1 with every (stride /
/// gcd(stride, dilation))-th tap, so no product with a zero between the strides is made.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>

#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cpu/conv_kernels.h"

namespace solvent::cuda {

/// One class of results along one axis.
struct Walk {
  std::int64_t first_result, result_step, results;
  std::int64_t first, step;
  std::int64_t first_tap, tap_stride, taps;
  std::int64_t tap_step;
};

struct GatherAxis {
  std::int64_t source = 1;   ///< extent of the maps that are read
  std::int64_t result = 1;   ///< extent of those that are written
  std::int64_t classes = 1;  ///< of results
  std::int64_t kernel = 1, stride = 1, before = 0, dilation = 1;
  std::int64_t divisor = 1;  ///< gcd(stride, dilation)
  std::int64_t inverse = 0;  ///< of dilation / divisor modulo stride / divisor

  GatherAxis() = default;
  GatherAxis(const cpu::ConvAxis& a, bool adjoint)
      : source(adjoint ? a.out : a.in),
        result(adjoint ? a.in : a.out),
        kernel(a.kernel),
        stride(a.stride),
        before(a.before),
        dilation(a.dilation) {
    if (!adjoint) return;
    classes = std::min(stride, result);
    divisor = std::gcd(stride, dilation);
    inverse = inverse_of(dilation / divisor, stride / divisor);
  }

  /// x with a x = 1 modulo m, for a without a common divisor with m (Euclid's algorithm); 0 for m = 1.
  static std::int64_t inverse_of(std::int64_t a, std::int64_t m) noexcept {
    std::int64_t r = m, next_r = a % m, x = 0, next_x = 1;
    while (next_r != 0) {
      const std::int64_t quotient = r / next_r;
      r = std::exchange(next_r, r - quotient * next_r);
      x = std::exchange(next_x, x - quotient * next_x);
    }
    return m == 1 ? 0 : (x % m + m) % m;
  }

  /// Largest number of results of a class.
  [[nodiscard]] std::int64_t most_results() const noexcept { return (result + classes - 1) / classes; }
  /// Bounds every index that walks make.
  [[nodiscard]] std::int64_t reach() const noexcept { return (source + result) * stride + before + kernel * dilation; }

  template <bool kAdjoint>
  __device__ Walk walk(std::int64_t number) const {
    if constexpr (!kAdjoint) return {0, 1, result, -before, stride, 0, 1, kernel, dilation};
    // Result h sees tap i of position p where p * stride = h + before - i * dilation: i = i0, i0 + s, ... of a class.
    const std::int64_t s = stride / divisor;
    const std::int64_t shifted = number + before;
    const std::int64_t rest = shifted % stride;
    const std::int64_t i0 = rest / divisor * inverse % s;
    const std::int64_t taps = rest % divisor == 0 && i0 < kernel ? (kernel - 1 - i0) / s + 1 : 0;
    return {number, stride, (result - number + stride - 1) / stride,
            // exact unless there are no taps
            (shifted - i0 * dilation) / stride, 1, i0, s, taps, -(dilation / divisor)};
  }
};

template <class T>
struct GatherCall {
  const T* source;
  const T* filter;
  T* result;
  GatherAxis h, w;
  std::int64_t images, groups;
  std::int64_t rows;                                      ///< channels of the result, per group
  std::int64_t channels;                                  ///< channels of the source, per group
  std::int64_t filter_row, filter_channel, filter_group;  ///< steps in the filters, in elements
  std::int64_t row_tiles, column_tiles, tiles;
  bool packed;  ///< quads of results lie side by side and are aligned

  [[nodiscard]] __device__ std::int64_t source_plane() const { return h.source * w.source; }
  [[nodiscard]] __device__ std::int64_t result_plane() const { return h.result * w.result; }
};

}  // namespace solvent::cuda
