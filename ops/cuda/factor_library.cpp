// factor_library.h by cuSOLVER. Its matrices are column-major: a row-major matrix is its transpose there, which for symmetric
// ones is the same with the other triangle, and for the singular value decomposition exchanges u and v.

#include "solvent/ops/cuda/factor_library.h"

#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

#include <cuda_runtime.h>
#include <cusolverDn.h>
#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent::cuda::library {
namespace {

void check_solver(cusolverStatus_t status, const char* what) {
  if (status != CUSOLVER_STATUS_SUCCESS)
    throw DeviceError(fmt::format(
        "[cuda] cuSOLVER could not {}: status {}. Check the driver's version and the free memory of the device, or use "
        "to(x, cpu_device).",
        what, static_cast<int>(status)));
}

// The library's state for one device and thread.
class Library {
 public:
  explicit Library(Device device) : device_(device) {
    check_solver(cusolverDnCreate(&handle_), "make a handle");
    check_solver(cusolverDnCreateParams(&params_), "make its parameters");
    check_solver(cusolverDnSetDeterministicMode(handle_, CUSOLVER_DETERMINISTIC_RESULTS), "be deterministic");
  }
  ~Library() {
    if (params_ != nullptr) (void)cusolverDnDestroyParams(params_);
    if (handle_ != nullptr) (void)cusolverDnDestroy(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] cusolverDnHandle_t handle() const { return handle_; }
  [[nodiscard]] cusolverDnParams_t params() const { return params_; }

 private:
  Device device_;
  cusolverDnHandle_t handle_ = nullptr;
  cusolverDnParams_t params_ = nullptr;
};

// Working on the current stream.
Library& current_library(Device device) {
  const cudaStream_t stream = current_stream(device);
  thread_local std::vector<std::unique_ptr<Library>> libraries;
  Library* found = nullptr;
  for (const std::unique_ptr<Library>& library : libraries)
    if (library->device() == device) found = library.get();
  if (found == nullptr) {
    libraries.push_back(std::make_unique<Library>(device));
    found = libraries.back().get();
  }
  check_solver(cusolverDnSetStream(found->handle(), stream), "change its stream");
  return *found;
}

template <class T>
constexpr cudaDataType_t kType = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_64F;

// Memory of one call: on the device in stream order, on the host until the call's work has ended: nothing says that the library
// is done with it when it returns.
struct Work {
  Tensor memory;
  std::vector<std::byte> host;
  Device device;

  Work(std::size_t on_device, std::size_t on_host, Device where) : host(on_host), device(where) {
    memory = engine::empty({static_cast<std::int64_t>(on_device)}, DType::uint8, where);
  }
  [[nodiscard]] void* data() { return engine::mutable_ptr<std::uint8_t>(memory); }
  [[nodiscard]] void* host_data() { return host.empty() ? nullptr : host.data(); }
  void finish() const {
    if (!host.empty()) check(cudaStreamSynchronize(current_stream(device)), "wait for cuSOLVER");
  }
};

// The library's answers for the matrices of a batch.
class Infos {
 public:
  Infos(std::int64_t count, Device device) : count_(count), device_(device) {
    memory_ = engine::empty({count * static_cast<std::int64_t>(sizeof(int))}, DType::uint8, device);
  }
  int* of(std::int64_t matrix) { return reinterpret_cast<int*>(engine::mutable_ptr<std::uint8_t>(memory_)) + matrix; }

  /// Waits.
  Failed first_failed(const char* what) {
    std::vector<int> infos(static_cast<std::size_t>(count_));
    copy_to_host(infos.data(), of(0), infos.size() * sizeof(int), device_);
    for (std::size_t i = 0; i < infos.size(); ++i) {
      if (infos[i] < 0)
        throw DeviceError(fmt::format("[cuda] cuSOLVER could not {}: bad argument {}.", what, -infos[i]));
      if (infos[i] > 0) return {static_cast<std::int64_t>(i), infos[i]};
    }
    return {};
  }

 private:
  std::int64_t count_;
  Device device_;
  Tensor memory_;
};

template <class T>
Failed run_cholesky(T* a, std::int64_t n, std::int64_t count, Device device) {
  const Library& library = current_library(device);
  constexpr auto kUplo = CUBLAS_FILL_MODE_UPPER;  // the lower one of a row-major matrix
  std::size_t on_device = 0;
  std::size_t on_host = 0;
  check_solver(cusolverDnXpotrf_bufferSize(library.handle(), library.params(), kUplo, n, kType<T>, a, n, kType<T>,
                                           &on_device, &on_host),
               "tell the memory of a Cholesky factor");
  Work work(on_device, on_host, device);
  Infos infos(count, device);
  for (std::int64_t i = 0; i < count; ++i) {
    check_solver(cusolverDnXpotrf(library.handle(), library.params(), kUplo, n, kType<T>, a + i * n * n, n, kType<T>,
                                  work.data(), on_device, work.host_data(), on_host, infos.of(i)),
                 "find a Cholesky factor");
    work.finish();
  }
  return infos.first_failed("find a Cholesky factor");
}

template <class T>
void run_lu(T* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device) {
  const Library& library = current_library(device);
  std::size_t on_device = 0;
  std::size_t on_host = 0;
  check_solver(cusolverDnXgetrf_bufferSize(library.handle(), library.params(), n, n, kType<T>, a, n, kType<T>,
                                           &on_device, &on_host),
               "tell the memory of LU factors");
  Work work(on_device, on_host, device);
  for (std::int64_t i = 0; i < count; ++i) {
    check_solver(cusolverDnXgetrf(library.handle(), library.params(), n, n, kType<T>, a + i * n * n, n, pivots + i * n,
                                  kType<T>, work.data(), on_device, work.host_data(), on_host, infos + i),
                 "find LU factors");
    work.finish();
  }
}

template <class T>
void run_solve_lu(const T* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, T* x, std::int64_t k,
                  Device device) {
  const Library& library = current_library(device);
  Infos infos(1, device);  // tells of bad arguments only
  for (std::int64_t i = 0; i < count; ++i)
    check_solver(cusolverDnXgetrs(library.handle(), library.params(), CUBLAS_OP_N, n, k, kType<T>, lu + i * n * n, n,
                                  pivots + i * n, kType<T>, x + i * n * k, n, infos.of(0)),
                 "solve a system by its LU factors");
}

template <class T>
void run_reflections(T* w, std::int64_t m, std::int64_t n, std::int64_t count, T* tau, Device device) {
  const Library& library = current_library(device);
  std::size_t on_device = 0;
  std::size_t on_host = 0;
  check_solver(cusolverDnXgeqrf_bufferSize(library.handle(), library.params(), m, n, kType<T>, w, m, kType<T>, tau,
                                           kType<T>, &on_device, &on_host),
               "tell the memory of QR factors");
  Work work(on_device, on_host, device);
  Infos infos(1, device);
  for (std::int64_t i = 0; i < count; ++i) {
    check_solver(
        cusolverDnXgeqrf(library.handle(), library.params(), m, n, kType<T>, w + i * m * n, m, kType<T>, tau + i * n,
                         kType<T>, work.data(), on_device, work.host_data(), on_host, infos.of(0)),
        "find QR factors");
    work.finish();
  }
}

cusolverStatus_t orgqr_size(cusolverDnHandle_t handle, int m, int n, const float* w, const float* tau, int* size) {
  return cusolverDnSorgqr_bufferSize(handle, m, n, n, w, m, tau, size);
}
cusolverStatus_t orgqr_size(cusolverDnHandle_t handle, int m, int n, const double* w, const double* tau, int* size) {
  return cusolverDnDorgqr_bufferSize(handle, m, n, n, w, m, tau, size);
}
cusolverStatus_t orgqr(cusolverDnHandle_t handle, int m, int n, float* w, const float* tau, float* work, int size,
                       int* info) {
  return cusolverDnSorgqr(handle, m, n, n, w, m, tau, work, size, info);
}
cusolverStatus_t orgqr(cusolverDnHandle_t handle, int m, int n, double* w, const double* tau, double* work, int size,
                       int* info) {
  return cusolverDnDorgqr(handle, m, n, n, w, m, tau, work, size, info);
}

template <class T>
void run_orthogonal(T* w, std::int64_t m, std::int64_t n, std::int64_t count, const T* tau, Device device) {
  const Library& library = current_library(device);
  const auto rows = static_cast<int>(m);  // takes() has checked: the library has no version for more
  const auto columns = static_cast<int>(n);
  int size = 0;
  check_solver(orgqr_size(library.handle(), rows, columns, w, tau, &size), "tell the memory of Q");
  Work work(static_cast<std::size_t>(size) * sizeof(T), 0, device);
  Infos infos(1, device);
  for (std::int64_t i = 0; i < count; ++i)
    check_solver(orgqr(library.handle(), rows, columns, w + i * m * n, tau + i * n, static_cast<T*>(work.data()), size,
                       infos.of(0)),
                 "make Q");
}

template <class T>
Failed run_eigh(T* a, std::int64_t n, std::int64_t count, T* values, Device device) {
  const Library& library = current_library(device);
  constexpr auto kVectors = CUSOLVER_EIG_MODE_VECTOR;
  constexpr auto kUplo = CUBLAS_FILL_MODE_UPPER;
  std::size_t on_device = 0;
  std::size_t on_host = 0;
  check_solver(cusolverDnXsyevd_bufferSize(library.handle(), library.params(), kVectors, kUplo, n, kType<T>, a, n,
                                           kType<T>, values, kType<T>, &on_device, &on_host),
               "tell the memory of eigenvectors");
  Work work(on_device, on_host, device);
  Infos infos(count, device);
  for (std::int64_t i = 0; i < count; ++i) {
    check_solver(
        cusolverDnXsyevd(library.handle(), library.params(), kVectors, kUplo, n, kType<T>, a + i * n * n, n, kType<T>,
                         values + i * n, kType<T>, work.data(), on_device, work.host_data(), on_host, infos.of(i)),
        "find eigenvectors");
    work.finish();
  }
  return infos.first_failed("find eigenvectors");
}

// The library sees a^T = v diag(s) u^T: its left vectors, in columns, are the rows of v^T, and its right ones, transposed and
// in columns, are u.
template <class T>
Failed run_svd(T* a, std::int64_t n, std::int64_t count, T* u, T* s, T* vt, Device device) {
  const Library& library = current_library(device);
  std::size_t on_device = 0;
  std::size_t on_host = 0;
  check_solver(cusolverDnXgesvd_bufferSize(library.handle(), library.params(), 'A', 'A', n, n, kType<T>, a, n, kType<T>,
                                           s, kType<T>, vt, n, kType<T>, u, n, kType<T>, &on_device, &on_host),
               "tell the memory of singular vectors");
  Work work(on_device, on_host, device);
  Infos infos(count, device);
  for (std::int64_t i = 0; i < count; ++i) {
    check_solver(cusolverDnXgesvd(library.handle(), library.params(), 'A', 'A', n, n, kType<T>, a + i * n * n, n,
                                  kType<T>, s + i * n, kType<T>, vt + i * n * n, n, kType<T>, u + i * n * n, n,
                                  kType<T>, work.data(), on_device, work.host_data(), on_host, infos.of(i)),
                 "find singular vectors");
    work.finish();
  }
  return infos.first_failed("find singular vectors");
}

}  // namespace

bool takes(std::int64_t n, Device device) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;  // rows that 32-bit parts of the library stand
  return n > kOwnRows && n <= kMost && !is_recording(current_stream(device));
}

Failed cholesky(float* a, std::int64_t n, std::int64_t count, Device device) {
  return run_cholesky(a, n, count, device);
}
Failed cholesky(double* a, std::int64_t n, std::int64_t count, Device device) {
  return run_cholesky(a, n, count, device);
}
void lu(float* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device) {
  run_lu(a, n, count, pivots, infos, device);
}
void lu(double* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device) {
  run_lu(a, n, count, pivots, infos, device);
}
void solve_lu(const float* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, float* x, std::int64_t k,
              Device device) {
  run_solve_lu(lu, pivots, n, count, x, k, device);
}
void solve_lu(const double* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, double* x,
              std::int64_t k, Device device) {
  run_solve_lu(lu, pivots, n, count, x, k, device);
}
void reflections(float* w, std::int64_t m, std::int64_t n, std::int64_t count, float* tau, Device device) {
  run_reflections(w, m, n, count, tau, device);
}
void reflections(double* w, std::int64_t m, std::int64_t n, std::int64_t count, double* tau, Device device) {
  run_reflections(w, m, n, count, tau, device);
}
void orthogonal(float* w, std::int64_t m, std::int64_t n, std::int64_t count, const float* tau, Device device) {
  run_orthogonal(w, m, n, count, tau, device);
}
void orthogonal(double* w, std::int64_t m, std::int64_t n, std::int64_t count, const double* tau, Device device) {
  run_orthogonal(w, m, n, count, tau, device);
}
Failed eigh(float* a, std::int64_t n, std::int64_t count, float* values, Device device) {
  return run_eigh(a, n, count, values, device);
}
Failed eigh(double* a, std::int64_t n, std::int64_t count, double* values, Device device) {
  return run_eigh(a, n, count, values, device);
}
Failed svd(float* a, std::int64_t n, std::int64_t count, float* u, float* s, float* vt, Device device) {
  return run_svd(a, n, count, u, s, vt, device);
}
Failed svd(double* a, std::int64_t n, std::int64_t count, double* u, double* s, double* vt, Device device) {
  return run_svd(a, n, count, u, s, vt, device);
}

}  // namespace solvent::cuda::library
