#pragma once
/// Functions of the rows of dense (rows, columns) matrices on a GPU: twins of the row kernels of ops/cpu/vector_kernels.h.
/// Both extents are at least 1; y may be one of the inputs. float and double. Internal to ops/cuda.

#include <cstdint>

#include "solvent/core/device.h"

namespace solvent::cuda {

/// A dense matrix on a device.
struct Rows {
  Device device;
  std::int64_t rows;
  std::int64_t columns;
};

/// softmax_*.cu
/// @{
template <class T>
void softmax(const Rows& r, const T* x, T* y);
template <class T>
void log_softmax(const Rows& r, const T* x, T* y);
/// One result per row.
template <class T>
void logsumexp(const Rows& r, const T* x, T* y);
/// gx = y (g - sum(g y))
template <class T>
void softmax_backward(const Rows& r, const T* g, const T* y, T* gx);
/// loss[row] = logsumexp(x) - x[label]; NaN for a label that is not a column.
template <class T>
void cross_entropy(const Rows& r, const T* x, const std::int64_t* label, T* loss);
/// gx = share (softmax(x) - one_hot(label)); a row of NaN for a label that is not a column.
template <class T>
void cross_entropy_backward(const Rows& r, T share, const T* x, const std::int64_t* label, T* gx);
/// @}

/// layer_norm_*.cu
/// @{
/// y = (x - mean) / sqrt(var + eps) scale + shift; without scale and shift if these are null.
template <class T>
void layer_norm(const Rows& r, const T* x, const T* scale, const T* shift, double eps, T* y);
/// With xn the normalised rows and h = g scale (g without): gx = rstd (h - mean(h) - xn mean(h xn)). Unless null,
/// statistics (2, rows) receives mean and rstd = 1 / sqrt(var + eps).
template <class T>
void layer_norm_backward(const Rows& r, const T* g, const T* x, const T* scale, double eps, T* gx, T* statistics);
/// g_scale[j] = sum over the rows of g xn; g_shift[j] = sum of g.
template <class T>
void layer_norm_parameter_sums(const Rows& r, const T* g, const T* x, const T* statistics, T* g_scale, T* g_shift);
/// @}

}  // namespace solvent::cuda
