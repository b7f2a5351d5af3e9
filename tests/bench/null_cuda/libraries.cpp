// What Solvent calls of cuBLAS, cuDNN and cuSOLVER: all succeed. Compiled once per library, with SOLVENT_NULL_<NAME>. The
// platforms' calling conventions let a function that takes no arguments be called with any.

#include <cstddef>
#include <cstdint>

#include "solvent/tests/bench/null_cuda/calls.h"

#define NULL_CALL(name)                                   \
  int name() {                                            \
    static solvent::null_cuda::Counter counter(__func__); \
    counter.add();                                        \
    return 0;                                             \
  }
// One that makes a handle, of which nobody asks anything.
#define NULL_CREATE(name)                                  \
  int name(void** handle) {                                \
    *handle = reinterpret_cast<void*>(std::uintptr_t{64}); \
    return 0;                                              \
  }

#pragma GCC visibility push(default)
extern "C" {

#if SOLVENT_NULL_CUBLAS
NULL_CREATE(cublasCreate_v2)
NULL_CALL(cublasDestroy_v2)
NULL_CALL(cublasGetVersion_v2)
NULL_CALL(cublasSetMathMode)
NULL_CALL(cublasSetStream_v2)
NULL_CALL(cublasSetWorkspace_v2)
NULL_CALL(cublasGemmEx)
NULL_CALL(cublasGemmEx_64)
NULL_CALL(cublasGemmStridedBatchedEx_64)
NULL_CALL(cublasGemmBatchedEx_64)
const char* cublasGetStatusString(int) { return "an error of the null library"; }
#endif

#if SOLVENT_NULL_CUDNN
NULL_CREATE(cudnnCreate)
NULL_CREATE(cudnnCreateTensorDescriptor)
NULL_CREATE(cudnnCreateFilterDescriptor)
NULL_CREATE(cudnnCreateConvolutionDescriptor)
NULL_CALL(cudnnDestroy)
NULL_CALL(cudnnDestroyTensorDescriptor)
NULL_CALL(cudnnDestroyFilterDescriptor)
NULL_CALL(cudnnDestroyConvolutionDescriptor)
NULL_CALL(cudnnSetStream)
NULL_CALL(cudnnSetTensor4dDescriptor)
NULL_CALL(cudnnSetFilter4dDescriptor)
NULL_CALL(cudnnSetConvolution2dDescriptor)
NULL_CALL(cudnnSetConvolutionGroupCount)
NULL_CALL(cudnnSetConvolutionMathType)
NULL_CALL(cudnnConvolutionForward)
NULL_CALL(cudnnConvolutionBackwardData)
NULL_CALL(cudnnConvolutionBackwardFilter)
NULL_CALL(cudnnGetConvolutionForwardAlgorithm_v7)
NULL_CALL(cudnnGetConvolutionBackwardDataAlgorithm_v7)
NULL_CALL(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
NULL_CALL(cudnnGetConvolutionForwardWorkspaceSize)
NULL_CALL(cudnnGetConvolutionBackwardDataWorkspaceSize)
NULL_CALL(cudnnGetConvolutionBackwardFilterWorkspaceSize)
const char* cudnnGetErrorString(int) { return "an error of the null library"; }
void cudnnGetLastErrorString(char* text, std::size_t) { *text = 0; }
std::size_t cudnnGetVersion() { return 0; }
#endif

#if SOLVENT_NULL_CUSOLVER
NULL_CREATE(cusolverDnCreate)
NULL_CREATE(cusolverDnCreateParams)
NULL_CALL(cusolverDnDestroy)
NULL_CALL(cusolverDnDestroyParams)
NULL_CALL(cusolverDnDorgqr)
NULL_CALL(cusolverDnDorgqr_bufferSize)
NULL_CALL(cusolverDnSetDeterministicMode)
NULL_CALL(cusolverDnSetStream)
NULL_CALL(cusolverDnSorgqr)
NULL_CALL(cusolverDnSorgqr_bufferSize)
NULL_CALL(cusolverDnXgeqrf)
NULL_CALL(cusolverDnXgeqrf_bufferSize)
NULL_CALL(cusolverDnXgesvd)
NULL_CALL(cusolverDnXgesvd_bufferSize)
NULL_CALL(cusolverDnXgetrf)
NULL_CALL(cusolverDnXgetrf_bufferSize)
NULL_CALL(cusolverDnXgetrs)
NULL_CALL(cusolverDnXpotrf)
NULL_CALL(cusolverDnXpotrf_bufferSize)
NULL_CALL(cusolverDnXsyevd)
NULL_CALL(cusolverDnXsyevd_bufferSize)
#endif

}  // extern "C"
#pragma GCC visibility pop
