// A stand-in for cuSOLVER: see library_types.h. LAPACK's definitions of the factorisations by plain loops over column-major
// matrices; eigenvectors and singular vectors by Jacobi rotations in float64.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include <cusolverDn.h>  // the emulator's, beside this file

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};
struct cusolverDnParams {};

namespace {

using namespace solvent::cuda::emulator;

// A column-major matrix in memory.
template <class T>
struct Matrix {
  T* p;
  std::int64_t ld;
  T& operator()(std::int64_t i, std::int64_t j) const { return p[i + j * ld]; }
  T* column(std::int64_t j) const { return p + j * ld; }
};

// --- algorithms -----------------------------------------------------------------------------------------------------------

// A = U^T U or L L^T; the other triangle is not touched. The first pivot that is not positive, from 1, or 0.
template <class T>
int potrf(bool upper, std::int64_t n, Matrix<T> a) {
  const auto at = [&](std::int64_t i, std::int64_t j) -> T& { return upper ? a(j, i) : a(i, j); };  // of L, i >= j
  for (std::int64_t j = 0; j < n; ++j) {
    T pivot = at(j, j);
    for (std::int64_t k = 0; k < j; ++k) pivot -= at(j, k) * at(j, k);
    if (!(pivot > T(0))) return static_cast<int>(j) + 1;
    at(j, j) = std::sqrt(pivot);
    for (std::int64_t i = j + 1; i < n; ++i) {
      T sum = at(i, j);
      for (std::int64_t k = 0; k < j; ++k) sum -= at(i, k) * at(j, k);
      at(i, j) = sum / at(j, j);
    }
  }
  return 0;
}

// P A = L U. The first pivot that is 0, from 1, or 0.
template <class T>
int getrf(std::int64_t m, std::int64_t n, Matrix<T> a, std::int64_t* pivots) {
  int info = 0;
  for (std::int64_t j = 0; j < std::min(m, n); ++j) {
    std::int64_t p = j;
    for (std::int64_t i = j + 1; i < m; ++i)
      if (std::abs(a(i, j)) > std::abs(a(p, j))) p = i;
    pivots[j] = p + 1;
    if (a(p, j) == T(0)) {
      if (info == 0) info = static_cast<int>(j) + 1;
      continue;
    }
    for (std::int64_t c = 0; c < n && p != j; ++c) std::swap(a(j, c), a(p, c));
    for (std::int64_t i = j + 1; i < m; ++i) a(i, j) /= a(j, j);
    for (std::int64_t c = j + 1; c < n; ++c)
      for (std::int64_t i = j + 1; i < m; ++i) a(i, c) -= a(i, j) * a(j, c);
  }
  return info;
}

// x <- A^-1 x, or A^-T x.
template <class T>
void getrs(bool transposed, std::int64_t n, std::int64_t columns, Matrix<const T> lu, const std::int64_t* pivots,
           Matrix<T> b) {
  for (std::int64_t c = 0; c < columns; ++c) {
    T* const x = b.column(c);
    if (transposed) {
      for (std::int64_t j = 0; j < n; ++j) {
        for (std::int64_t i = 0; i < j; ++i) x[j] -= lu(i, j) * x[i];
        x[j] /= lu(j, j);
      }
      for (std::int64_t j = n - 1; j >= 0; --j)
        for (std::int64_t i = j + 1; i < n; ++i) x[j] -= lu(i, j) * x[i];
      for (std::int64_t j = n - 1; j >= 0; --j) std::swap(x[j], x[pivots[j] - 1]);
      continue;
    }
    for (std::int64_t j = 0; j < n; ++j) std::swap(x[j], x[pivots[j] - 1]);
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = j + 1; i < n; ++i) x[i] -= lu(i, j) * x[j];
    for (std::int64_t j = n - 1; j >= 0; --j) {
      x[j] /= lu(j, j);
      for (std::int64_t i = 0; i < j; ++i) x[i] -= lu(i, j) * x[j];
    }
  }
}

// x <- (1 - tau v v^T) x with v = (1, tail).
template <class T>
void reflect(std::int64_t rows, const T* tail, T tau, T* x) {
  const T along = tau * std::inner_product(tail, tail + rows - 1, x + 1, x[0]);
  x[0] -= along;
  for (std::int64_t i = 1; i < rows; ++i) x[i] -= along * tail[i - 1];
}

// A = Q R with Q = H_0 ... H_{k-1}, H_j = 1 - tau_j v v^T: v's tail below the diagonal; R's diagonal has the sign that avoids
// cancellation.
template <class T>
void geqrf(std::int64_t m, std::int64_t n, Matrix<T> a, T* tau) {
  for (std::int64_t j = 0; j < std::min(m, n); ++j) {
    T* const v = a.column(j) + j;
    const T below = std::inner_product(v + 1, v + m - j, v + 1, T(0));
    tau[j] = T(0);
    if (below == T(0)) continue;
    const T beta = -std::copysign(std::sqrt(v[0] * v[0] + below), v[0]);
    tau[j] = (beta - v[0]) / beta;
    const T scale = T(1) / (v[0] - beta);
    for (std::int64_t i = 1; i < m - j; ++i) v[i] *= scale;
    v[0] = beta;
    for (std::int64_t c = j + 1; c < n; ++c) reflect(m - j, v + 1, tau[j], a.column(c) + j);
  }
}

// The first n columns of H_0 ... H_{k-1}.
template <class T>
void orgqr(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, const T* tau) {
  std::vector<T> q(static_cast<std::size_t>(m * n), T(0));
  for (std::int64_t c = 0; c < n; ++c) {
    T* const x = q.data() + c * m;
    x[c] = T(1);
    for (std::int64_t j = k - 1; j >= 0; --j) reflect(m - j, a.column(j) + j + 1, tau[j], x + j);
  }
  for (std::int64_t c = 0; c < n; ++c) std::copy_n(q.data() + c * m, m, a.column(c));
}

using Columns = std::vector<std::vector<double>>;

double dot(const std::vector<double>& x, const std::vector<double>& y) {
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

// (x, y) <- (c x - s y, s x + c y)
void turn(std::vector<double>& x, std::vector<double>& y, double c, double s) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double before = x[i];
    x[i] = c * before - s * y[i];
    y[i] = s * before + c * y[i];
  }
}

constexpr int kSweeps = 60;

// Turns pairs of columns until all are orthogonal, and the columns of v with them. False without convergence.
bool orthogonalise(Columns& a, Columns& v) {
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    bool turned = false;
    for (std::size_t p = 0; p < a.size(); ++p)
      for (std::size_t q = p + 1; q < a.size(); ++q) {
        const double pp = dot(a[p], a[p]);
        const double qq = dot(a[q], a[q]);
        const double pq = dot(a[p], a[q]);
        if (!std::isfinite(pp + qq)) return false;
        if (std::abs(pq) <= 1e-15 * std::sqrt(pp * qq) || std::abs(pq) < 1e-300) continue;
        turned = true;
        const double zeta = (qq - pp) / (2 * pq);
        const double t = std::copysign(1.0, zeta) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t);
        turn(a[p], a[q], c, c * t);
        turn(v[p], v[q], c, c * t);
      }
    if (!turned) return true;
  }
  return false;
}

Columns unit_columns(std::size_t n) {
  Columns columns(n, std::vector<double>(n, 0.0));
  for (std::size_t i = 0; i < n; ++i) columns[i][i] = 1;
  return columns;
}

std::vector<std::size_t> order_of(const std::vector<double>& values, bool descending) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
    return descending ? values[i] > values[j] : values[i] < values[j];
  });
  return order;
}

// Eigenvalues in ascending order, vectors in the columns of A. One triangle is read. 0, or n without convergence.
// (A + shift) is positive definite: its singular vectors are its eigenvectors.
template <class T>
int syevd(bool vectors, bool upper, std::int64_t n, Matrix<T> a, T* w) {
  const auto size = static_cast<std::size_t>(n);
  Columns x(size, std::vector<double>(size));
  double shift = 0;
  for (std::size_t j = 0; j < size; ++j) {
    double sum = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const bool swapped = upper ? i > j : i < j;
      const auto row = static_cast<std::int64_t>(swapped ? j : i);
      const auto column = static_cast<std::int64_t>(swapped ? i : j);
      x[j][i] = static_cast<double>(a(row, column));
      sum += std::abs(x[j][i]);
    }
    shift = std::max(shift, sum);
  }
  if (!std::isfinite(shift)) return static_cast<int>(n);
  const Columns matrix = x;
  shift *= 1.0 + 1.0 / 64;
  if (shift == 0) shift = 1;
  for (std::size_t j = 0; j < size; ++j) x[j][j] += shift;
  Columns v = unit_columns(size);
  if (!orthogonalise(x, v)) return static_cast<int>(n);
  std::vector<double> values(size);
  for (std::size_t j = 0; j < size; ++j) {  // Rayleigh quotients: the shift's rounding is gone
    std::vector<double> product(size, 0.0);
    for (std::size_t k = 0; k < size; ++k)
      for (std::size_t i = 0; i < size; ++i) product[i] += matrix[k][i] * v[j][k];
    values[j] = dot(v[j], product);
  }
  const std::vector<std::size_t> order = order_of(values, false);
  for (std::size_t j = 0; j < size; ++j) {
    w[j] = static_cast<T>(values[order[j]]);
    if (!vectors) continue;
    T* const to = a.column(static_cast<std::int64_t>(j));
    std::transform(v[order[j]].begin(), v[order[j]].end(), to, [](double e) { return static_cast<T>(e); });
  }
  return 0;
}

// Replaces column j by a unit vector that is orthogonal to the columns before it.
void complete(Columns& u, std::size_t j) {
  const std::size_t m = u[j].size();
  for (std::size_t axis = 0; axis < m; ++axis) {
    std::vector<double>& x = u[j];
    std::fill(x.begin(), x.end(), 0.0);
    x[axis] = 1;
    for (int twice = 0; twice < 2; ++twice)
      for (std::size_t k = 0; k < j; ++k) {
        const double along = dot(u[k], x);
        for (std::size_t i = 0; i < m; ++i) x[i] -= along * u[k][i];
      }
    const double norm = std::sqrt(dot(x, x));
    if (norm < 0.5 / std::sqrt(static_cast<double>(m))) continue;
    for (double& e : x) e /= norm;
    return;
  }
}

// A = U diag(s) V^T for m >= n, all of U (m, m) and V^T (n, n), s in descending order. A is destroyed.
template <class T>
int gesvd(std::int64_t m, std::int64_t n, Matrix<T> a, T* s, Matrix<T> u, Matrix<T> vt) {
  const auto rows = static_cast<std::size_t>(m);
  const auto size = static_cast<std::size_t>(n);
  Columns x(size, std::vector<double>(rows));
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < m; ++i)
      x[static_cast<std::size_t>(j)][static_cast<std::size_t>(i)] = static_cast<double>(a(i, j));
  for (std::int64_t j = 0; j < n; ++j) std::fill_n(a.column(j), m, T(-7));
  Columns v = unit_columns(size);
  if (!orthogonalise(x, v)) return static_cast<int>(n);
  std::vector<double> values(size);
  for (std::size_t j = 0; j < size; ++j) values[j] = std::sqrt(dot(x[j], x[j]));
  const std::vector<std::size_t> order = order_of(values, true);
  Columns left(rows, std::vector<double>(rows, 0.0));
  for (std::size_t j = 0; j < rows; ++j) {
    const double value = j < size ? values[order[j]] : 0.0;
    if (value > 1e-15 * values[order[0]]) {
      for (std::size_t i = 0; i < rows; ++i) left[j][i] = x[order[j]][i] / value;
    } else {
      complete(left, j);
    }
    for (std::size_t i = 0; i < rows; ++i)
      u(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)) = static_cast<T>(left[j][i]);
  }
  for (std::size_t j = 0; j < size; ++j) {
    s[j] = static_cast<T>(values[order[j]]);
    for (std::size_t i = 0; i < size; ++i)
      vt(static_cast<std::int64_t>(j), static_cast<std::int64_t>(i)) = static_cast<T>(v[order[j]][i]);
  }
  return 0;
}

// --- arguments ------------------------------------------------------------------------------------------------------------

// A type of the 64-bit interface: the matrix, what else there is and the computation all have the same.
bool is_type(cudaDataType type, cudaDataType other, cudaDataType compute) {
  return (type == CUDA_R_32F || type == CUDA_R_64F) && other == type && compute == type;
}
bool is_leading(std::int64_t ld, std::int64_t rows) { return ld >= std::max<std::int64_t>(1, rows); }
bool is_triangle(cublasFillMode_t uplo) { return uplo == CUBLAS_FILL_MODE_LOWER || uplo == CUBLAS_FILL_MODE_UPPER; }

struct Workspace {
  void* device;
  std::size_t device_bytes;
  void* host;
  std::size_t host_bytes;
};

// Different sizes for each matrix, so that one size taken for another is too small or too large by luck only.
std::size_t device_bytes(std::int64_t m, std::int64_t n, cudaDataType type) {
  return static_cast<std::size_t>(m * n + 2 * n + 16) * element_size(type);
}
std::size_t host_bytes(std::int64_t n) { return static_cast<std::size_t>(n) * 4 + 96; }

void tell(std::int64_t m, std::int64_t n, cudaDataType type, std::size_t* on_device, std::size_t* on_host) {
  *on_device = device_bytes(m, n, type);
  *on_host = host_bytes(n);
}

bool is_enough(const Workspace& w, std::int64_t m, std::int64_t n, cudaDataType type) {
  return w.device != nullptr && w.host != nullptr && w.device_bytes >= device_bytes(m, n, type) &&
         w.host_bytes >= host_bytes(n);
}

cusolverStatus_t check(cusolverDnHandle_t handle, cusolverDnParams_t params, bool is_valid) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  return params != nullptr && is_valid ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_INVALID_VALUE;
}

// The library cannot be recorded: the attempt ends the recording.
cusolverStatus_t give(cusolverDnHandle_t handle, std::function<void()> work) {
  if (is_captured(handle->stream)) {
    (void)cudaStreamSynchronize(handle->stream);
    return CUSOLVER_STATUS_INTERNAL_ERROR;
  }
  submit(handle->stream, std::move(work));
  return CUSOLVER_STATUS_SUCCESS;
}

// Runs f(T{}) for the type's T, after the workspaces have been written to.
template <class F>
cusolverStatus_t give(cusolverDnHandle_t handle, cudaDataType type, const Workspace& w, F f) {
  return give(handle, [=] {
    use_workspace(w.device, w.device_bytes);
    use_workspace(w.host, w.host_bytes);
    if (type == CUDA_R_64F) {
      f(double{});
    } else {
      f(float{});
    }
  });
}

template <class T>
Matrix<T> matrix(void* p, std::int64_t ld) {
  return {static_cast<T*>(p), ld};
}

template <class T>
cusolverStatus_t give_orgqr(cusolverDnHandle_t handle, int m, int n, int k, T* a, int lda, const T* tau, T* work,
                            int lwork, int* info) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (m < 0 || n < 0 || n > m || k < 0 || k > n || !is_leading(lda, m) || a == nullptr || info == nullptr ||
      (tau == nullptr && k > 0) || work == nullptr || lwork < 32 * n + 5)
    return CUSOLVER_STATUS_INVALID_VALUE;
  return give(handle, [=] {
    use_workspace(work, static_cast<std::size_t>(lwork) * sizeof(T));
    orgqr<T>(m, n, k, {a, lda}, tau);
    *info = 0;
  });
}

cusolverStatus_t size_of_orgqr(cusolverDnHandle_t handle, int m, int n, int k, int lda, int* lwork) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  if (m < 0 || n < 0 || n > m || k < 0 || k > n || !is_leading(lda, m) || lwork == nullptr)
    return CUSOLVER_STATUS_INVALID_VALUE;
  *lwork = 32 * n + 5;
  return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace

// --- the interface --------------------------------------------------------------------------------------------------------

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  if (handle == nullptr) return CUSOLVER_STATUS_INVALID_VALUE;
  *handle = new cusolverDnContext;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle, cusolverDeterministicMode_t mode) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  return mode == CUSOLVER_DETERMINISTIC_RESULTS || mode == CUSOLVER_ALLOW_NON_DETERMINISTIC_RESULTS
             ? CUSOLVER_STATUS_SUCCESS
             : CUSOLVER_STATUS_INVALID_VALUE;
}
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
  if (params == nullptr) return CUSOLVER_STATUS_INVALID_VALUE;
  *params = new cusolverDnParams;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
  delete params;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cublasFillMode_t uplo, std::int64_t n, cudaDataType dataTypeA, const void*,
                                             std::int64_t lda, cudaDataType computeType,
                                             std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost) {
  const cusolverStatus_t status = check(
      handle, params, is_triangle(uplo) && n >= 0 && is_leading(lda, n) && is_type(dataTypeA, dataTypeA, computeType));
  if (status == CUSOLVER_STATUS_SUCCESS) tell(n, n, dataTypeA, workspaceInBytesOnDevice, workspaceInBytesOnHost);
  return status;
}
cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasFillMode_t uplo,
                                  std::int64_t n, cudaDataType dataTypeA, void* A, std::int64_t lda,
                                  cudaDataType computeType, void* bufferOnDevice, std::size_t workspaceInBytesOnDevice,
                                  void* bufferOnHost, std::size_t workspaceInBytesOnHost, int* info) {
  const Workspace w{bufferOnDevice, workspaceInBytesOnDevice, bufferOnHost, workspaceInBytesOnHost};
  const cusolverStatus_t status =
      check(handle, params,
            is_triangle(uplo) && n >= 0 && is_leading(lda, n) && is_type(dataTypeA, dataTypeA, computeType) &&
                A != nullptr && info != nullptr);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (!is_enough(w, n, n, dataTypeA)) return CUSOLVER_STATUS_INVALID_WORKSPACE;
  return give(handle, dataTypeA, w,
              [=](auto t) { *info = potrf(uplo == CUBLAS_FILL_MODE_UPPER, n, matrix<decltype(t)>(A, lda)); });
}

cusolverStatus_t cusolverDnXgetrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m,
                                             std::int64_t n, cudaDataType dataTypeA, const void*, std::int64_t lda,
                                             cudaDataType computeType, std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost) {
  const cusolverStatus_t status =
      check(handle, params, m >= 0 && n >= 0 && is_leading(lda, m) && is_type(dataTypeA, dataTypeA, computeType));
  if (status == CUSOLVER_STATUS_SUCCESS) tell(m, n, dataTypeA, workspaceInBytesOnDevice, workspaceInBytesOnHost);
  return status;
}
cusolverStatus_t cusolverDnXgetrf(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m, std::int64_t n,
                                  cudaDataType dataTypeA, void* A, std::int64_t lda, std::int64_t* ipiv,
                                  cudaDataType computeType, void* bufferOnDevice, std::size_t workspaceInBytesOnDevice,
                                  void* bufferOnHost, std::size_t workspaceInBytesOnHost, int* info) {
  const Workspace w{bufferOnDevice, workspaceInBytesOnDevice, bufferOnHost, workspaceInBytesOnHost};
  const cusolverStatus_t status =
      check(handle, params,
            m >= 0 && n >= 0 && is_leading(lda, m) && is_type(dataTypeA, dataTypeA, computeType) && A != nullptr &&
                info != nullptr);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (!is_enough(w, m, n, dataTypeA)) return CUSOLVER_STATUS_INVALID_WORKSPACE;
  if (ipiv == nullptr) return CUSOLVER_STATUS_NOT_SUPPORTED;  // no exchanges: not here
  return give(handle, dataTypeA, w, [=](auto t) { *info = getrf(m, n, matrix<decltype(t)>(A, lda), ipiv); });
}
cusolverStatus_t cusolverDnXgetrs(cusolverDnHandle_t handle, cusolverDnParams_t params, cublasOperation_t trans,
                                  std::int64_t n, std::int64_t nrhs, cudaDataType dataTypeA, const void* A,
                                  std::int64_t lda, const std::int64_t* ipiv, cudaDataType dataTypeB, void* B,
                                  std::int64_t ldb, int* info) {
  const cusolverStatus_t status =
      check(handle, params,
            (trans == CUBLAS_OP_N || trans == CUBLAS_OP_T || trans == CUBLAS_OP_C) && n >= 0 && nrhs >= 0 &&
                is_leading(lda, n) && is_leading(ldb, n) && is_type(dataTypeA, dataTypeB, dataTypeA) && A != nullptr &&
                ipiv != nullptr && B != nullptr && info != nullptr);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  return give(handle, dataTypeA, {}, [=](auto t) {
    using T = decltype(t);
    getrs<T>(trans != CUBLAS_OP_N, n, nrhs, {static_cast<const T*>(A), lda}, ipiv, matrix<T>(B, ldb));
    *info = 0;
  });
}

cusolverStatus_t cusolverDnXgeqrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m,
                                             std::int64_t n, cudaDataType dataTypeA, const void*, std::int64_t lda,
                                             cudaDataType dataTypeTau, const void*, cudaDataType computeType,
                                             std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost) {
  const cusolverStatus_t status =
      check(handle, params, m >= 0 && n >= 0 && is_leading(lda, m) && is_type(dataTypeA, dataTypeTau, computeType));
  if (status == CUSOLVER_STATUS_SUCCESS) tell(m, n, dataTypeA, workspaceInBytesOnDevice, workspaceInBytesOnHost);
  return status;
}
cusolverStatus_t cusolverDnXgeqrf(cusolverDnHandle_t handle, cusolverDnParams_t params, std::int64_t m, std::int64_t n,
                                  cudaDataType dataTypeA, void* A, std::int64_t lda, cudaDataType dataTypeTau,
                                  void* tau, cudaDataType computeType, void* bufferOnDevice,
                                  std::size_t workspaceInBytesOnDevice, void* bufferOnHost,
                                  std::size_t workspaceInBytesOnHost, int* info) {
  const Workspace w{bufferOnDevice, workspaceInBytesOnDevice, bufferOnHost, workspaceInBytesOnHost};
  const cusolverStatus_t status =
      check(handle, params,
            m >= 0 && n >= 0 && is_leading(lda, m) && is_type(dataTypeA, dataTypeTau, computeType) && A != nullptr &&
                tau != nullptr && info != nullptr);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (!is_enough(w, m, n, dataTypeA)) return CUSOLVER_STATUS_INVALID_WORKSPACE;
  return give(handle, dataTypeA, w, [=](auto t) {
    using T = decltype(t);
    geqrf<T>(m, n, matrix<T>(A, lda), static_cast<T*>(tau));
    *info = 0;
  });
}

cusolverStatus_t cusolverDnSorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const float*, int lda,
                                             const float*, int* lwork) {
  return size_of_orgqr(handle, m, n, k, lda, lwork);
}
cusolverStatus_t cusolverDnDorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const double*, int lda,
                                             const double*, int* lwork) {
  return size_of_orgqr(handle, m, n, k, lda, lwork);
}
cusolverStatus_t cusolverDnSorgqr(cusolverDnHandle_t handle, int m, int n, int k, float* A, int lda, const float* tau,
                                  float* work, int lwork, int* info) {
  return give_orgqr(handle, m, n, k, A, lda, tau, work, lwork, info);
}
cusolverStatus_t cusolverDnDorgqr(cusolverDnHandle_t handle, int m, int n, int k, double* A, int lda, const double* tau,
                                  double* work, int lwork, int* info) {
  return give_orgqr(handle, m, n, k, A, lda, tau, work, lwork, info);
}

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t,
                                             cublasFillMode_t uplo, std::int64_t n, cudaDataType dataTypeA, const void*,
                                             std::int64_t lda, cudaDataType dataTypeW, const void*,
                                             cudaDataType computeType, std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost) {
  const cusolverStatus_t status = check(
      handle, params, is_triangle(uplo) && n >= 0 && is_leading(lda, n) && is_type(dataTypeA, dataTypeW, computeType));
  if (status == CUSOLVER_STATUS_SUCCESS) tell(n, n, dataTypeA, workspaceInBytesOnDevice, workspaceInBytesOnHost);
  return status;
}
cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t jobz,
                                  cublasFillMode_t uplo, std::int64_t n, cudaDataType dataTypeA, void* A,
                                  std::int64_t lda, cudaDataType dataTypeW, void* W, cudaDataType computeType,
                                  void* bufferOnDevice, std::size_t workspaceInBytesOnDevice, void* bufferOnHost,
                                  std::size_t workspaceInBytesOnHost, int* info) {
  const Workspace w{bufferOnDevice, workspaceInBytesOnDevice, bufferOnHost, workspaceInBytesOnHost};
  const cusolverStatus_t status =
      check(handle, params,
            is_triangle(uplo) && n >= 0 && is_leading(lda, n) && is_type(dataTypeA, dataTypeW, computeType) &&
                A != nullptr && W != nullptr && info != nullptr);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (!is_enough(w, n, n, dataTypeA)) return CUSOLVER_STATUS_INVALID_WORKSPACE;
  return give(handle, dataTypeA, w, [=](auto t) {
    using T = decltype(t);
    *info = syevd<T>(jobz == CUSOLVER_EIG_MODE_VECTOR, uplo == CUBLAS_FILL_MODE_UPPER, n, matrix<T>(A, lda),
                     static_cast<T*>(W));
  });
}

cusolverStatus_t cusolverDnXgesvd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                             signed char jobvt, std::int64_t m, std::int64_t n, cudaDataType dataTypeA,
                                             const void*, std::int64_t lda, cudaDataType dataTypeS, const void*,
                                             cudaDataType dataTypeU, const void*, std::int64_t ldu,
                                             cudaDataType dataTypeVT, const void*, std::int64_t ldvt,
                                             cudaDataType computeType, std::size_t* workspaceInBytesOnDevice,
                                             std::size_t* workspaceInBytesOnHost) {
  const cusolverStatus_t status =
      check(handle, params,
            m >= n && n >= 0 && is_leading(lda, m) && is_leading(ldu, m) && is_leading(ldvt, n) &&
                is_type(dataTypeA, dataTypeS, computeType) && is_type(dataTypeU, dataTypeVT, computeType));
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (jobu != 'A' || jobvt != 'A') return CUSOLVER_STATUS_NOT_SUPPORTED;  // other parts of the factors: not here
  tell(m, n, dataTypeA, workspaceInBytesOnDevice, workspaceInBytesOnHost);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXgesvd(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                  signed char jobvt, std::int64_t m, std::int64_t n, cudaDataType dataTypeA, void* A,
                                  std::int64_t lda, cudaDataType dataTypeS, void* S, cudaDataType dataTypeU, void* U,
                                  std::int64_t ldu, cudaDataType dataTypeVT, void* VT, std::int64_t ldvt,
                                  cudaDataType computeType, void* bufferOnDevice, std::size_t workspaceInBytesOnDevice,
                                  void* bufferOnHost, std::size_t workspaceInBytesOnHost, int* info) {
  std::size_t unused = 0;
  const cusolverStatus_t status =
      cusolverDnXgesvd_bufferSize(handle, params, jobu, jobvt, m, n, dataTypeA, A, lda, dataTypeS, S, dataTypeU, U, ldu,
                                  dataTypeVT, VT, ldvt, computeType, &unused, &unused);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (A == nullptr || S == nullptr || U == nullptr || VT == nullptr || info == nullptr)
    return CUSOLVER_STATUS_INVALID_VALUE;
  const Workspace w{bufferOnDevice, workspaceInBytesOnDevice, bufferOnHost, workspaceInBytesOnHost};
  if (!is_enough(w, m, n, dataTypeA)) return CUSOLVER_STATUS_INVALID_WORKSPACE;
  return give(handle, dataTypeA, w, [=](auto t) {
    using T = decltype(t);
    *info = gesvd<T>(m, n, matrix<T>(A, lda), static_cast<T*>(S), matrix<T>(U, ldu), matrix<T>(VT, ldvt));
  });
}
