// blas.h for the emulator, where device memory is the host's: the CPU's products.

#include "solvent/core/cuda/blas.h"

#include <cuda_runtime.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/gemm.h"

namespace solvent::cuda {
namespace {

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

}  // namespace solvent::cuda
