#pragma once
/// Factorisations of large matrices in device memory by cuSOLVER. Internal to ops/.
///
/// Work goes to the current stream, one matrix after the other, and the host waits where it says so. The same bits at every
/// run: the library is asked for deterministic results. Not while a graph is recorded: the library takes memory of the host.

#include <cstdint>

#include "solvent/core/device.h"

namespace solvent::cuda::library {

/// Matrices of more rows than this go to the library where own kernels do not hold them in shared memory, and, if they can
/// be factored with blocks, when there are at most kMostInTurn of them. Both numbers were chosen without measurements.
inline constexpr std::int64_t kOwnRows = 128;
inline constexpr std::int64_t kMostInTurn = 8;

/// False for matrices of up to kOwnRows rows, and while a graph is recorded.
bool takes(std::int64_t n, Device device);

/// The first matrix that failed, and the library's number for why; -1 if there is none.
struct Failed {
  std::int64_t matrix = -1;
  std::int64_t info = 0;
};

/// The lower triangle of each row-major a (count, n, n), of which nothing else is read, becomes the Cholesky factor. Failed
/// for a pivot that is not positive: number info, from 1. The host waits. @throws DeviceError
/// @{
Failed cholesky(float* a, std::int64_t n, std::int64_t count, Device device);
Failed cholesky(double* a, std::int64_t n, std::int64_t count, Device device);
/// @}

/// LU with row exchanges of column-major a (count, n, n), in place as LAPACK's getrf: pivots (count, n) hold the row, from 1, that
/// was exchanged with each, infos (count) the first pivot that is 0, from 1, or 0; both stay on the device. @throws DeviceError
/// @{
void lu(float* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device);
void lu(double* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device);
/// @}
/// Column-major x (count, k, n), k columns each, <- a^-1 x from what `lu` left. @throws DeviceError
/// @{
void solve_lu(const float* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, float* x, std::int64_t k,
              Device device);
void solve_lu(const double* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, double* x,
              std::int64_t k, Device device);
/// @}

/// Householder reflections of w (count, n, m), the columns of (m, n) matrices with m >= n, in LAPACK's form: R above and on
/// the diagonal, the vectors below it, tau (count, n). Signs of R are as they come. @throws DeviceError
/// @{
void reflections(float* w, std::int64_t m, std::int64_t n, std::int64_t count, float* tau, Device device);
void reflections(double* w, std::int64_t m, std::int64_t n, std::int64_t count, double* tau, Device device);
/// @}
/// Columns of Q in place of what `reflections` left. @throws DeviceError
/// @{
void orthogonal(float* w, std::int64_t m, std::int64_t n, std::int64_t count, const float* tau, Device device);
void orthogonal(double* w, std::int64_t m, std::int64_t n, std::int64_t count, const double* tau, Device device);
/// @}

/// Symmetric a (count, n, n) becomes its eigenvectors in rows; values (count, n) in the same order. Signs are as they come.
/// Failed without convergence. The host waits. @throws DeviceError
/// @{
Failed eigh(float* a, std::int64_t n, std::int64_t count, float* values, Device device);
Failed eigh(double* a, std::int64_t n, std::int64_t count, double* values, Device device);
/// @}

/// Row-major a (count, n, n) = u diag(s) v^T, row-major, all square; a is destroyed. Signs are as they come; vectors of
/// singular values that are 0 need not be there. Failed without convergence. The host waits. @throws DeviceError
/// @{
Failed svd(float* a, std::int64_t n, std::int64_t count, float* u, float* s, float* vt, Device device);
Failed svd(double* a, std::int64_t n, std::int64_t count, double* u, double* s, double* vt, Device device);
/// @}

}  // namespace solvent::cuda::library
