#pragma once
/// CPU kernels of pooling and resampling on raw memory. Maps are contiguous planes; results do not depend on the number of
/// threads. Everything here trusts its arguments.

#include <cstdint>
#include <vector>

namespace solvent::cpu {

/// Windows over one plane.
struct PoolGeometry {
  std::int64_t height, width;          ///< of the map
  std::int64_t out_height, out_width;  ///< number of windows
  std::int64_t window_h, window_w;
  std::int64_t stride_h, stride_w;
  std::int64_t pad_h, pad_w;
  bool count_include_pad;
};

/// y (planes, out) and index (planes, out): largest element per window, the first in row-major order at ties, NaN above all.
template <class T>
void max_pool(const PoolGeometry& g, const T* x, std::int64_t planes, T* y, std::int64_t* index) noexcept;
/// y (planes, out): mean per window.
template <class T>
void avg_pool(const PoolGeometry& g, const T* x, std::int64_t planes, T* y) noexcept;
/// Adjoint of avg_pool: gx (planes, height, width) from gy (planes, out).
template <class T>
void avg_pool_backward(const PoolGeometry& g, const T* gy, std::int64_t planes, T* gx) noexcept;

/// y[p, i] = x[p, index[p % index_planes, i]] for planes of x of `size` elements and of y of `count`.
template <class T>
void pool_take(const T* x, const std::int64_t* index, std::int64_t planes, std::int64_t index_planes, std::int64_t size,
               std::int64_t count, T* y) noexcept;
/// Adjoint: y = 0, then y[p, index[p % index_planes, i]] += x[p, i], i ascending.
template <class T>
void pool_put(const T* x, const std::int64_t* index, std::int64_t planes, std::int64_t index_planes, std::int64_t size,
              std::int64_t count, T* y) noexcept;

/// A sparse matrix by rows: row o is sum over k in [begin[o], begin[o + 1]) of weight[k] x[column[k]].
struct SparseRows {
  std::vector<std::int64_t> begin;
  std::vector<std::int64_t> column;
  std::vector<double> weight;
};

/// y (outer, rows, inner) = matrix times x (outer, n, inner) along the middle axis.
template <class T>
void resample(const SparseRows& matrix, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* y);

}  // namespace solvent::cpu
