// blas.h by cuBLAS. Its matrices are column-major: a row-major C = A B is C^T = B^T A^T, so operands change places and
// nothing is copied or transposed.

#include "solvent/core/cuda/blas.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include <cublas_v2.h>
#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/error.h"
#include "solvent/core/matmul_precision.h"

namespace solvent::cuda {
namespace {

// What NVIDIA recommends for Hopper; results may depend on it, so it is the same everywhere.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(
        fmt::format("[cuda] cuBLAS could not {}: {}. Check the driver's version, or use to(x, cpu_device).", what,
                    cublasGetStatusString(status)));
}

// The library's state for one device and thread: handles must not be shared by threads, and neither must workspaces, as calls
// of two threads may mix on a stream.
class Library {
 public:
  explicit Library(Device device);
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] Device device() const { return device_; }

  /// The handle, working on the current stream.
  cublasHandle_t on_stream(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    if (stream == stream_) return handle_;
    void* memory = nullptr;
    for (const Workspace& w : workspaces_)
      if (w.stream == stream) memory = w.memory;
    if (memory == nullptr) {
      memory = allocate(kWorkspaceBytes, device_);
      workspaces_.push_back({stream, memory});
    }
    stream_ = nullptr;                                                  // unknown if one of the calls fails
    check_blas(cublasSetStream(handle_, stream), "change its stream");  // forgets the workspace
    check_blas(cublasSetWorkspace(handle_, memory, kWorkspaceBytes), "set its workspace");
    stream_ = stream;
    return handle_;
  }

  /// The workspace of a stream that ends, or null: another stream may get its address.
  void* take_workspace(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    if (stream == stream_) stream_ = nullptr;
    const auto found = std::find_if(workspaces_.begin(), workspaces_.end(),
                                    [stream](const Workspace& w) { return w.stream == stream; });
    if (found == workspaces_.end()) return nullptr;
    void* const memory = found->memory;
    workspaces_.erase(found);
    return memory;
  }

 private:
  struct Workspace {
    cudaStream_t stream;
    void* memory;
  };
  Device device_;
  cublasHandle_t handle_ = nullptr;
  std::mutex mutex_;  // other threads may end streams
  cudaStream_t stream_ = nullptr;
  std::vector<Workspace> workspaces_;
};

// Those of all threads.
struct Libraries {
  std::mutex mutex;
  std::vector<Library*> all;
};

// Never destroyed: static streams may die after everything else.
Libraries& libraries_of_threads() {
  static auto* const instance = new Libraries;
  return *instance;
}

Library::Library(Device device) : device_(device) {
  check_blas(cublasCreate(&handle_), "make a handle");
  // Without this, parts of a long sum may be added up in bfloat16.
  check_blas(cublasSetMathMode(handle_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                                  CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
             "set its precision");
  const std::lock_guard lock(libraries_of_threads().mutex);
  libraries_of_threads().all.push_back(this);
}

Library::~Library() {
  {
    const std::lock_guard lock(libraries_of_threads().mutex);
    std::erase(libraries_of_threads().all, this);
  }
  for (const Workspace& w : workspaces_) deallocate(w.memory, device_);
  (void)cublasDestroy(handle_);
}

cublasHandle_t current_handle(Device device) {
  cudaStream_t const stream = current_stream(device);  // first: its thread-local memory must outlive ours
  thread_local std::vector<std::unique_ptr<Library>> libraries;
  for (const std::unique_ptr<Library>& library : libraries)
    if (library->device() == device) return library->on_stream(stream);
  libraries.push_back(std::make_unique<Library>(device));
  return libraries.back()->on_stream(stream);
}

template <class T>
cudaDataType_t data_type() {
  if (std::is_same_v<T, BFloat16>) return CUDA_R_16BF;
  return std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;
}

template <class T>
cublasComputeType_t compute_type(MatmulPrecision precision) {
  if (std::is_same_v<T, double>) return CUBLAS_COMPUTE_64F;
  if (std::is_same_v<T, BFloat16>) return CUBLAS_COMPUTE_32F;
  switch (precision) {
    case MatmulPrecision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
    case MatmulPrecision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
    default: return CUBLAS_COMPUTE_32F;
  }
}

cublasOperation_t operation(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }

template <class T>
void strided(const Gemm<T>& g, Device device) {
  const cublasHandle_t handle = current_handle(device);
  const cudaDataType_t type = data_type<T>();
  if (g.batch == 1) {
    check_blas(
        cublasGemmEx_64(handle, operation(g.trans_b), operation(g.trans_a), g.n, g.m, g.k, &g.alpha, g.b, type, g.ldb,
                        g.a, type, g.lda, &g.beta, g.c, type, g.ldc, compute_type<T>(g.precision), CUBLAS_GEMM_DEFAULT),
        "multiply matrices");
    return;
  }
  check_blas(
      cublasGemmStridedBatchedEx_64(handle, operation(g.trans_b), operation(g.trans_a), g.n, g.m, g.k, &g.alpha, g.b,
                                    type, g.ldb, g.stride_b, g.a, type, g.lda, g.stride_a, &g.beta, g.c, type, g.ldc,
                                    g.stride_c, g.batch, compute_type<T>(g.precision), CUBLAS_GEMM_DEFAULT),
      "multiply a batch of matrices");
}

template <class T>
void pointers(const Gemm<T>& g, const T* const* a, const T* const* b, T* const* c, Device device) {
  const cudaDataType_t type = data_type<T>();
  check_blas(cublasGemmBatchedEx_64(current_handle(device), operation(g.trans_b), operation(g.trans_a), g.n, g.m, g.k,
                                    &g.alpha, reinterpret_cast<const void* const*>(b), type, g.ldb,
                                    reinterpret_cast<const void* const*>(a), type, g.lda, &g.beta,
                                    reinterpret_cast<void* const*>(c), type, g.ldc, g.batch,
                                    compute_type<T>(g.precision), CUBLAS_GEMM_DEFAULT),
             "multiply a batch of matrices");
}

}  // namespace

void give_back_workspaces(CUstream_st* stream, Device device) noexcept {
  std::vector<void*> ended;
  {
    const std::lock_guard lock(libraries_of_threads().mutex);
    for (Library* const library : libraries_of_threads().all)
      if (void* const memory = library->take_workspace(stream)) ended.push_back(memory);
  }
  for (void* const memory : ended) deallocate(memory, device);
}

void gemm(const Gemm<float>& call, Device device) { strided(call, device); }
void gemm(const Gemm<double>& call, Device device) { strided(call, device); }
void gemm(const Gemm<BFloat16>& call, Device device) { strided(call, device); }
void gemm_pointers(const Gemm<float>& call, const float* const* a, const float* const* b, float* const* c,
                   Device device) {
  pointers(call, a, b, c, device);
}
void gemm_pointers(const Gemm<double>& call, const double* const* a, const double* const* b, double* const* c,
                   Device device) {
  pointers(call, a, b, c, device);
}
void gemm_pointers(const Gemm<BFloat16>& call, const BFloat16* const* a, const BFloat16* const* b, BFloat16* const* c,
                   Device device) {
  pointers(call, a, b, c, device);
}

}  // namespace solvent::cuda
