#pragma once
/// CUDA kernels of affine_scan and affine_scan_reversed. Preconditions as for the CPU's (ops/cpu/scan_glue.h). Internal to
/// ops/.

#include <span>

#include "solvent/autodiff/op.h"
#include "solvent/core/export.h"
#include "solvent/ops/cpu/scan_kernels.h"

namespace solvent::cuda {

TensorVec affine_scan(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec affine_scan_reversed(std::span<Tensor> inputs, const Attrs* attrs);

/// The scan on dense device memory; see cpu::affine_scan. `a` is row-major with `shape.block` as there.
///
/// The order of all products and sums depends on sizes only. Long scans with few sequences are cut into chunks in time,
/// which needs memory for one matrix per chunk; their results differ from the plain recurrence by rounding.
/// @throws DeviceError, OutOfMemoryError
/// @{
SOLVENT_API void scan(const cpu::ScanShape& shape, const float* a, const float* b, const float* h0, float* h,
                      Device device);
SOLVENT_API void scan(const cpu::ScanShape& shape, const double* a, const double* b, const double* h0, double* h,
                      Device device);
/// @}

/// Matrices (T, chains, K, K) up to 4 x 4; `shape.block` is K and `shape.B` the number of chains.
template <class T>
void small_scan(const cpu::ScanShape& shape, const T* a, const T* b, const T* h0, T* h, Device device);
/// Larger ones, (T, B, n, n). With `any_batch` the chunks depend on T and n only, so that a sequence has the same bits in
/// every batch.
template <class T>
SOLVENT_API void dense_scan(const cpu::ScanShape& shape, const T* a, const T* b, const T* h0, T* h, Device device,
                            bool any_batch = false);

}  // namespace solvent::cuda
