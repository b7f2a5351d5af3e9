// A stand-in for cuBLAS: see library_types.h.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <cublas_v2.h>  // the emulator's, beside this file

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;  // the user's; null: the library's own
  std::size_t workspace_bytes = 0;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

// --- products -------------------------------------------------------------------------------------------------------------

namespace {

using namespace solvent::cuda::emulator;

// alpha op(A) op(B) + beta C, all column-major; coefficients are read when the call is made.
struct Product {
  cublasOperation_t transa, transb;
  std::int64_t m, n, k;
  double alpha, beta;
  cudaDataType operand_type, result_type;
  std::int64_t lda, ldb, ldc;
  cublasComputeType_t compute;
};

bool is_operation(cublasOperation_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; }

// The manual's table of types, without half precision, integers and complex numbers.
bool is_supported(cublasComputeType_t compute, cudaDataType a, cudaDataType b, cudaDataType c) {
  if (a != b) return false;
  switch (compute) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return (a == CUDA_R_32F && c == CUDA_R_32F) || (a == CUDA_R_16BF && (c == CUDA_R_16BF || c == CUDA_R_32F));
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
    case CUBLAS_COMPUTE_32F_FAST_TF32: return a == CUDA_R_32F && c == CUDA_R_32F;
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC: return a == CUDA_R_64F && c == CUDA_R_64F;
    default: return false;
  }
}

bool is_double(cublasComputeType_t compute) {
  return compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
}

cublasStatus_t check(cublasHandle_t handle, const Product& p, cudaDataType b_type, const void* alpha, const void* beta,
                     std::int64_t batch, cublasGemmAlgo_t algo) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (p.m < 0 || p.n < 0 || p.k < 0 || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_operation(p.transa) || !is_operation(p.transb) || algo != CUBLAS_GEMM_DEFAULT)
    return CUBLAS_STATUS_INVALID_VALUE;
  const std::int64_t rows_a = p.transa == CUBLAS_OP_N ? p.m : p.k;
  const std::int64_t rows_b = p.transb == CUBLAS_OP_N ? p.k : p.n;
  constexpr std::int64_t kOne = 1;
  if (p.lda < std::max(kOne, rows_a) || p.ldb < std::max(kOne, rows_b) || p.ldc < std::max(kOne, p.m))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_supported(p.compute, p.operand_type, b_type, p.result_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

// The coefficients have the type of the sums.
void read_coefficients(Product& p, const void* alpha, const void* beta) {
  const cudaDataType type = is_double(p.compute) ? CUDA_R_64F : CUDA_R_32F;
  p.alpha = load(alpha, 0, type);
  p.beta = load(beta, 0, type);
}

float as_read(double x, cublasComputeType_t compute) {
  const auto value = static_cast<float>(x);
  if (compute == CUBLAS_COMPUTE_32F_FAST_TF32) return rounded_to_tf32(value);
  return compute == CUBLAS_COMPUTE_32F_FAST_16BF ? rounded_to_bf16(value) : value;
}

// op(X) as `lines` runs of `k` elements of the type of sums: line i has the elements (i, 0 ... k-1) of op(A), or
// (0 ... k-1, i) of op(B).
template <class Sum>
std::vector<Sum> packed(const void* x, bool k_is_row, std::int64_t ld, std::int64_t lines, std::int64_t k,
                        const Product& p) {
  std::vector<Sum> lines_of_k(static_cast<std::size_t>(lines * k));
  for (std::int64_t i = 0; i < lines; ++i)
    for (std::int64_t q = 0; q < k; ++q) {
      const double value = load(x, k_is_row ? q + i * ld : i + q * ld, p.operand_type);
      if constexpr (sizeof(Sum) == 4) {
        lines_of_k[static_cast<std::size_t>(i * k + q)] = as_read(value, p.compute);
      } else {
        lines_of_k[static_cast<std::size_t>(i * k + q)] = value;
      }
    }
  return lines_of_k;
}

// In four sums side by side, each in parts of 64.
template <class Sum>
Sum dot(const Sum* x, const Sum* y, std::int64_t k) {
  Sum total[4] = {};
  for (std::int64_t first = 0; first < k; first += 256) {
    const std::int64_t end = std::min(k, first + 256);
    Sum part[4] = {};
    std::int64_t q = first;
    for (; q + 4 <= end; q += 4)
      for (int j = 0; j < 4; ++j) part[j] += x[q + j] * y[q + j];
    for (; q < end; ++q) part[q % 4] += x[q] * y[q];
    for (int j = 0; j < 4; ++j) total[j] += part[j];
  }
  return (total[0] + total[1]) + (total[2] + total[3]);
}

template <class Sum>
void multiply(const Product& p, const void* a, const void* b, void* c) {
  const std::vector<Sum> left = packed<Sum>(a, p.transa != CUBLAS_OP_N, p.lda, p.m, p.k, p);
  const std::vector<Sum> right = packed<Sum>(b, p.transb == CUBLAS_OP_N, p.ldb, p.n, p.k, p);
  const auto alpha = static_cast<Sum>(p.alpha);
  const auto beta = static_cast<Sum>(p.beta);
  for (std::int64_t j = 0; j < p.n; ++j)
    for (std::int64_t i = 0; i < p.m; ++i) {
      Sum value = alpha * dot(left.data() + i * p.k, right.data() + j * p.k, p.k);
      const std::int64_t at = i + j * p.ldc;
      if (beta != Sum(0)) value += beta * static_cast<Sum>(load(c, at, p.result_type));  // else C need not hold numbers
      store(c, at, p.result_type, static_cast<double>(value));
    }
}

void run(const Product& p, const void* a, const void* b, void* c) {
  if (is_double(p.compute)) {
    multiply<double>(p, a, b, c);
  } else {
    multiply<float>(p, a, b, c);
  }
}

// What the manual demands of pointers in arrays where tensor cores may be used: 16 bytes if k is a multiple of 8, else 4 bytes
// if it is even.
void check_alignment(const Product& p, const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (is_double(p.compute)) return;
  if ((p.k % 8 == 0 && address % 16 != 0) || (p.k % 2 == 0 && address % 4 != 0))
    fail_in("cublasGemmBatchedEx", "misaligned address: a matrix is not aligned as the manual demands");
}

void submit(cublasHandle_t handle, std::function<void()> work) {
  solvent::cuda::emulator::submit(
      handle->stream, [work = std::move(work), space = handle->workspace, bytes = handle->workspace_bytes] {
        use_workspace(space, std::min<std::size_t>(bytes, 4096));  // its beginning, for it is large
        work();
      });
}

template <class T>
const T* at(const T* p, long long elements, cudaDataType type) {
  return reinterpret_cast<const T*>(reinterpret_cast<const unsigned char*>(p) +
                                    elements * static_cast<long long>(element_size(type)));
}

}  // namespace

// --- the interface --------------------------------------------------------------------------------------------------------

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED: return "allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE: return "invalid value";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "execution failed";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported";
  }
  return "unknown status";
}

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  handle->workspace = nullptr;  // back to the library's own, as the manual says
  handle->workspace_bytes = 0;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->workspace_bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const int kind = mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  if (kind != CUBLAS_DEFAULT_MATH && kind != CUBLAS_PEDANTIC_MATH && kind != CUBLAS_TF32_TENSOR_OP_MATH)
    return CUBLAS_STATUS_INVALID_VALUE;
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                               std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha, const void* A,
                               cudaDataType Atype, std::int64_t lda, const void* B, cudaDataType Btype,
                               std::int64_t ldb, const void* beta, void* C, cudaDataType Ctype, std::int64_t ldc,
                               cublasComputeType_t computeType, cublasGemmAlgo_t algo) {
  return cublasGemmStridedBatchedEx_64(handle, transa, transb, m, n, k, alpha, A, Atype, lda, 0, B, Btype, ldb, 0, beta,
                                       C, Ctype, ldc, 0, 1, computeType, algo);
}

cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                             std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha,
                                             const void* A, cudaDataType Atype, std::int64_t lda, long long strideA,
                                             const void* B, cudaDataType Btype, std::int64_t ldb, long long strideB,
                                             const void* beta, void* C, cudaDataType Ctype, std::int64_t ldc,
                                             long long strideC, std::int64_t batchCount,
                                             cublasComputeType_t computeType, cublasGemmAlgo_t algo) {
  Product p{transa, transb, m, n, k, 0, 0, Atype, Ctype, lda, ldb, ldc, computeType};
  const cublasStatus_t status = check(handle, p, Btype, alpha, beta, batchCount, algo);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  read_coefficients(p, alpha, beta);
  submit(handle, [=] {
    for (std::int64_t i = 0; i < batchCount; ++i)
      run(p, at(A, i * strideA, Atype), at(B, i * strideB, Atype), const_cast<void*>(at(C, i * strideC, Ctype)));
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmBatchedEx_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                      std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha,
                                      const void* const Aarray[], cudaDataType Atype, std::int64_t lda,
                                      const void* const Barray[], cudaDataType Btype, std::int64_t ldb,
                                      const void* beta, void* const Carray[], cudaDataType Ctype, std::int64_t ldc,
                                      std::int64_t batchCount, cublasComputeType_t computeType, cublasGemmAlgo_t algo) {
  Product p{transa, transb, m, n, k, 0, 0, Atype, Ctype, lda, ldb, ldc, computeType};
  const cublasStatus_t status = check(handle, p, Btype, alpha, beta, batchCount, algo);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  read_coefficients(p, alpha, beta);
  submit(handle, [=] {  // the arrays are in device memory: they are read when the work is done
    for (std::int64_t i = 0; i < batchCount; ++i) {
      for (const void* pointer : {Aarray[i], Barray[i], static_cast<const void*>(Carray[i])})
        check_alignment(p, pointer);
      run(p, Aarray[i], Barray[i], Carray[i]);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
