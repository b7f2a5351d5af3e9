// blas.h for the emulator, where device memory is the host's: the CPU's products.

#include "solvent/core/cuda/blas.h"

#include <cstddef>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/gemm.h"

namespace solvent::cuda {
namespace {

// (rows, cols) elements of a matrix that may be read transposed, as float32 in rows of the same length `ld`.
std::vector<float> widened(const BFloat16* x, bool transposed, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  if (transposed) std::swap(rows, cols);
  std::vector<float> wide(static_cast<std::size_t>(rows * ld));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) wide[static_cast<std::size_t>(i * ld + j)] = x[i * ld + j];
  return wide;
}

void product(const Gemm<BFloat16>& g, const BFloat16* a, const BFloat16* b, BFloat16* c) {
  const std::vector<float> wide_a = widened(a, g.trans_a, g.m, g.k, g.lda);
  const std::vector<float> wide_b = widened(b, g.trans_b, g.k, g.n, g.ldb);
  std::vector<float> wide_c(static_cast<std::size_t>(g.m * g.ldc));
  if (g.beta != 0) wide_c = widened(c, false, g.m, g.n, g.ldc);
  engine::gemm<float>(g.trans_a, g.trans_b, g.m, g.n, g.k, g.alpha, wide_a.data(), g.lda, wide_b.data(), g.ldb, g.beta,
                      wide_c.data(), g.ldc);
  for (std::int64_t i = 0; i < g.m; ++i)
    for (std::int64_t j = 0; j < g.n; ++j) c[i * g.ldc + j] = BFloat16(wide_c[static_cast<std::size_t>(i * g.ldc + j)]);
}

void strided(const Gemm<BFloat16>& g) {
  for (std::int64_t i = 0; i < g.batch; ++i)
    product(g, g.a + i * g.stride_a, g.b + i * g.stride_b, g.c + i * g.stride_c);
}

void one_by_one(const Gemm<BFloat16>& g, const BFloat16* const* a, const BFloat16* const* b, BFloat16* const* c) {
  for (std::int64_t i = 0; i < g.batch; ++i) product(g, a[i], b[i], c[i]);
}

template <class T>
void one_by_one(const Gemm<T>& call, const T* const* a, const T* const* b, T* const* c) {
  for (std::int64_t i = 0; i < call.batch; ++i)
    engine::gemm<T>(call.trans_a, call.trans_b, call.m, call.n, call.k, call.alpha, a[i], call.lda, b[i], call.ldb,
                    call.beta, c[i], call.ldc);
}

template <class T>
void strided(const Gemm<T>& g) {
  engine::gemm_batched<T>(g.trans_a, g.trans_b, g.m, g.n, g.k, g.alpha, g.a, g.lda, g.stride_a, g.b, g.ldb, g.stride_b,
                          g.beta, g.c, g.ldc, g.stride_c, g.batch);
}

}  // namespace

void gemm(const Gemm<float>& call, Device device) {
  emulator::submit(current_stream(device), [call] { strided(call); });
}
void gemm(const Gemm<double>& call, Device device) {
  emulator::submit(current_stream(device), [call] { strided(call); });
}
void gemm_pointers(const Gemm<float>& call, const float* const* a, const float* const* b, float* const* c,
                   Device device) {
  emulator::submit(current_stream(device), [=] { one_by_one(call, a, b, c); });
}
void gemm_pointers(const Gemm<double>& call, const double* const* a, const double* const* b, double* const* c,
                   Device device) {
  emulator::submit(current_stream(device), [=] { one_by_one(call, a, b, c); });
}
void gemm(const Gemm<BFloat16>& call, Device device) {
  emulator::submit(current_stream(device), [call] { strided(call); });
}
void gemm_pointers(const Gemm<BFloat16>& call, const BFloat16* const* a, const BFloat16* const* b, BFloat16* const* c,
                   Device device) {
  emulator::submit(current_stream(device), [=] { one_by_one(call, a, b, c); });
}

}  // namespace solvent::cuda
