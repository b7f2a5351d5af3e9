#pragma once
/// The part of cuSOLVER that Solvent calls, on the CPU; library_types.h says what that means.

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <library_types.h>

enum cusolverStatus_t : int {
  CUSOLVER_STATUS_SUCCESS = 0,
  CUSOLVER_STATUS_NOT_INITIALIZED = 1,
  CUSOLVER_STATUS_ALLOC_FAILED = 2,
  CUSOLVER_STATUS_INVALID_VALUE = 3,
  CUSOLVER_STATUS_INTERNAL_ERROR = 7,
  CUSOLVER_STATUS_NOT_SUPPORTED = 9,
  CUSOLVER_STATUS_INVALID_WORKSPACE = 31,
};
enum cusolverEigMode_t : int { CUSOLVER_EIG_MODE_NOVECTOR = 0, CUSOLVER_EIG_MODE_VECTOR = 1 };
enum cusolverDeterministicMode_t : int {
  CUSOLVER_DETERMINISTIC_RESULTS = 1,
  CUSOLVER_ALLOW_NON_DETERMINISTIC_RESULTS = 2,
};

using cusolverDnHandle_t = struct cusolverDnContext*;
using cusolverDnParams_t = struct cusolverDnParams*;

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle);
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle);
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t streamId);
cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle, cusolverDeterministicMode_t mode);
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params);
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params);

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cublasFillMode_t uplo, std::int64_t n, cudaDataType dataTypeA,
                                             const void* A, std::int64_t lda, cudaDataType computeType,
                                             std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost);
cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasFillMode_t uplo,
                                  std::int64_t n, cudaDataType dataTypeA, void* A, std::int64_t lda,
                                  cudaDataType computeType, void* bufferOnDevice, std::size_t workspaceInBytesOnDevice,
                                  void* bufferOnHost, std::size_t workspaceInBytesOnHost, int* info);

cusolverStatus_t cusolverDnXgetrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m,
                                             std::int64_t n, cudaDataType dataTypeA, const void* A, std::int64_t lda,
                                             cudaDataType computeType, std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost);
cusolverStatus_t cusolverDnXgetrf(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m, std::int64_t n,
                                  cudaDataType dataTypeA, void* A, std::int64_t lda, std::int64_t* ipiv,
                                  cudaDataType computeType, void* bufferOnDevice, std::size_t workspaceInBytesOnDevice,
                                  void* bufferOnHost, std::size_t workspaceInBytesOnHost, int* info);
cusolverStatus_t cusolverDnXgetrs(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasOperation_t trans,
                                  std::int64_t n, std::int64_t nrhs, cudaDataType dataTypeA, const void* A,
                                  std::int64_t lda, const std::int64_t* ipiv, cudaDataType dataTypeB, void* B,
                                  std::int64_t ldb, int* info);

cusolverStatus_t cusolverDnXgeqrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m,
                                             std::int64_t n, cudaDataType dataTypeA, const void* A, std::int64_t lda,
                                             cudaDataType dataTypeTau, const void* tau, cudaDataType computeType,
                                             std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost);
cusolverStatus_t cusolverDnXgeqrf(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m, std::int64_t n,
                                  cudaDataType dataTypeA, void* A, std::int64_t lda, cudaDataType dataTypeTau,
                                  void* tau, cudaDataType computeType, void* bufferOnDevice,
                                  std::size_t workspaceInBytesOnDevice, void* bufferOnHost,
                                  std::size_t workspaceInBytesOnHost, int* info);

cusolverStatus_t cusolverDnSorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const float* A, int lda,
                                             const float* tau, int* lwork);
cusolverStatus_t cusolverDnDorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const double* A, int lda,
                                             const double* tau, int* lwork);
cusolverStatus_t cusolverDnSorgqr(cusolverDnHandle_t handle, int m, int n, int k, float* A, int lda, const float* tau,
                                  float* work, int lwork, int* info);
cusolverStatus_t cusolverDnDorgqr(cusolverDnHandle_t handle, int m, int n, int k, double* A, int lda, const double* tau,
                                  double* work, int lwork, int* info);

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cusolverEigMode_t jobz, cublasFillMode_t uplo, std::int64_t n,
                                             cudaDataType dataTypeA, const void* A, std::int64_t lda,
                                             cudaDataType dataTypeW, const void* W, cudaDataType computeType,
                                             std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost);
cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t jobz,
                                  cublasFillMode_t uplo, std::int64_t n, cudaDataType dataTypeA, void* A,
                                  std::int64_t lda, cudaDataType dataTypeW, void* W, cudaDataType computeType,
                                  void* bufferOnDevice, std::size_t workspaceInBytesOnDevice, void* bufferOnHost,
                                  std::size_t workspaceInBytesOnHost, int* info);

cusolverStatus_t cusolverDnXgesvd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                             signed char jobvt, std::int64_t m, std::int64_t n, cudaDataType dataTypeA,
                                             const void* A, std::int64_t lda, cudaDataType dataTypeS, const void* S,
                                             cudaDataType dataTypeU, const void* U, std::int64_t ldu,
                                             cudaDataType dataTypeVT, const void* VT, std::int64_t ldvt,
                                             cudaDataType computeType, std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost);
cusolverStatus_t cusolverDnXgesvd(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                  signed char jobvt, std::int64_t m, std::int64_t n, cudaDataType dataTypeA, void* A,
                                  std::int64_t lda, cudaDataType dataTypeS, void* S, cudaDataType dataTypeU, void* U,
                                  std::int64_t ldu, cudaDataType dataTypeVT, void* VT, std::int64_t ldvt,
                                  cudaDataType computeType, void* bufferOnDevice, std::size_t workspaceInBytesOnDevice,
                                  void* bufferOnHost, std::size_t workspaceInBytesOnHost, int* info);
}
