// What the stand-ins for NVIDIA's libraries share: see library_types.h.

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <library_types.h>  // the emulator's, beside this file

#include "solvent/core/bfloat16.h"

namespace solvent::cuda::emulator {

void fail_in(const char* function, const std::string& what) {
  std::fprintf(stderr, "CUDA emulator: %s: %s\n", function, what.c_str());
  std::abort();
}

std::size_t element_size(cudaDataType type) {
  switch (type) {
    case CUDA_R_32F: return 4;
    case CUDA_R_64F: return 8;
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
  }
  return 0;
}

float rounded_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1000U) & 0xffffe000U);
}

float rounded_to_bf16(float x) { return BFloat16(x); }

double load(const void* p, std::int64_t i, cudaDataType type) {
  if (type == CUDA_R_64F) return static_cast<const double*>(p)[i];
  if (type == CUDA_R_32F) return static_cast<double>(static_cast<const float*>(p)[i]);
  return static_cast<double>(static_cast<float>(static_cast<const BFloat16*>(p)[i]));
}

void store(void* p, std::int64_t i, cudaDataType type, double value) {
  if (type == CUDA_R_64F) {
    static_cast<double*>(p)[i] = value;
  } else if (type == CUDA_R_32F) {
    static_cast<float*>(p)[i] = static_cast<float>(value);
  } else {
    static_cast<BFloat16*>(p)[i] = BFloat16(value);
  }
}

void use_workspace(void* memory, std::size_t bytes) {
  if (bytes > 0) std::memset(memory, 0xa5, bytes);
}

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  (void)cudaStreamIsCapturing(stream, &status);
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace solvent::cuda::emulator
