#pragma once
/// Element types in the interfaces of NVIDIA's libraries, as far as Solvent uses them, and what the stand-ins share.
///
/// The stand-ins (cublas.cpp, cusolver.cpp, cudnn.cpp) have the libraries' names, signatures, values and column-major
/// semantics, and refuse what the manuals refuse, so that Solvent's calls run in tests as they are. They are written for
/// clarity, from the manuals, and know nothing of the callers. What they cannot show: the libraries' speed, the bits of their
/// sums, and restrictions that no manual tells. A call that would be undefined there ends the process with a message.

#include <cstddef>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

enum cudaDataType_t : int {
  CUDA_R_32F = 0,
  CUDA_R_64F = 1,
  CUDA_R_16F = 2,
  CUDA_R_16BF = 14,
};
using cudaDataType = cudaDataType_t;

namespace solvent::cuda::emulator {

/// Ends the process: the caller did what has no defined result.
[[noreturn]] void fail_in(const char* function, const std::string& what);

/// Bytes of an element; 0 for types that are not here.
std::size_t element_size(cudaDataType type);

/// `x` as tensor cores read it: rounded to TF32 (10 digits of fraction), nearest, ties away from 0; not finite ones stay.
float rounded_to_tf32(float x);
/// To bfloat16 (7 digits), nearest, ties to even.
float rounded_to_bf16(float x);

/// An element as a number, and a number as an element, rounded once; for the three types above but half precision.
double load(const void* p, std::int64_t i, cudaDataType type);
void store(void* p, std::int64_t i, cudaDataType type, double value);

/// Writes to all of a workspace, as the libraries may: a sanitizer finds one that is too small or gone.
void use_workspace(void* memory, std::size_t bytes);

/// True if `stream` is recorded into a graph. What must wait for the stream then ends the recording, as on a device.
bool is_captured(cudaStream_t stream);

}  // namespace solvent::cuda::emulator
