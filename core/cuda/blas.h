#pragma once
/// Products of matrices in device memory by cuBLAS. Internal to the library.
///
/// Work goes to the current stream. The same bits at every run and on any stream: each stream of a thread has a workspace of
/// 32 MiB, kept until the stream or the thread ends, so the library's choice of an algorithm depends on sizes only. float32 is
/// multiplied as the call says, without TF32 unless asked.

#include <cstdint>
#include <type_traits>

#include "solvent/core/bfloat16.h"
#include "solvent/core/device.h"
#include "solvent/core/export.h"
#include "solvent/core/matmul_precision.h"

struct CUstream_st;

namespace solvent::cuda {

/// C = alpha op(A) op(B) + beta C for `batch` products of row-major matrices: op(A) (m, k), op(B) (k, n), C (m, n). Strides
/// are between consecutive operands; 0 shares an input. C is not read if beta is 0. No extent is 0. bfloat16 is multiplied and
/// added in float32, and each element of C rounded once.
template <class T>
struct Gemm {
  using Scalar = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
  bool trans_a = false;
  bool trans_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  Scalar alpha = Scalar(1);
  const T* a = nullptr;
  std::int64_t lda = 0;
  const T* b = nullptr;
  std::int64_t ldb = 0;
  Scalar beta = Scalar(0);
  T* c = nullptr;
  std::int64_t ldc = 0;
  std::int64_t batch = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;
  MatmulPrecision precision = MatmulPrecision::highest;  ///< of float32
};

/// @throws DeviceError
/// @{
SOLVENT_API void gemm(const Gemm<float>& call, Device device);
SOLVENT_API void gemm(const Gemm<double>& call, Device device);
SOLVENT_API void gemm(const Gemm<BFloat16>& call, Device device);
/// @}

/// The same for products anywhere in memory: arrays of `call.batch` pointers, themselves in device memory, replace the
/// pointers and strides of `call`. Where T is not double, cuBLAS demands that every matrix begins at a multiple of 16 bytes if k
/// is a multiple of 8, and of 4 bytes if k is even. @throws DeviceError
/// @{
SOLVENT_API void gemm_pointers(const Gemm<float>& call, const float* const* a, const float* const* b, float* const* c,
                               Device device);
SOLVENT_API void gemm_pointers(const Gemm<double>& call, const double* const* a, const double* const* b,
                               double* const* c, Device device);
SOLVENT_API void gemm_pointers(const Gemm<BFloat16>& call, const BFloat16* const* a, const BFloat16* const* b,
                               BFloat16* const* c, Device device);
/// @}

/// Frees the memory that products on `stream`, which has nothing left to do and ends, have used: in all threads.
void give_back_workspaces(CUstream_st* stream, Device device) noexcept;

}  // namespace solvent::cuda
