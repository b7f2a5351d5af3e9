// Symmetric eigenproblems and singular values by Jacobi rotations.
//
// eigh: two-sided cyclic Jacobi on (a + a^T) / 2; svd: QR, then one-sided Jacobi on the rows of r, as on the CPU (Drmac &
// Veselic 2008). A sweep visits all pairs of rows in rounds of disjoint pairs (a tournament), so a round is parallel and its
// result does not depend on the order of the pairs. Matrices that fit twice in shared memory (about 118 rows of float64):
// one block each does all sweeps, a warp per pair; bound by barriers, hidden by many blocks. Above 128 rows cuSOLVER takes the
// place of the rotations (factor_library.h). Between these sizes: one launch (svd) or three (eigh) per round over all pairs
// of all matrices; bound by memory, about 8 sweeps of 2 n^3 (svd) to 3 n^3 elements. Matrices are scaled by powers of two, so nothing over- or underflows on the way. Values are sorted by counting
// how many come before, ties in their order; the largest component of each vector of eigh, and of each column of u, is
// positive. Matrices that are not finite give NaN. Deterministic: fixed order of rotations and sums.

#include "solvent/ops/cuda/spectral.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/ops/cuda/factor.h"
#include "solvent/ops/cuda/factor_library.h"
#include "solvent/ops/cuda/linalg.h"
#include "solvent/ops/cuda/matrix_block.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cuda {
namespace {

constexpr int kMaxSweeps = 60;                              // six to ten are usual
constexpr std::int64_t kNotFinite = std::int64_t{1} << 40;  // in place of an exponent

/// A pair of rows a < b; b may be beyond the last row.
struct Pair {
  std::int64_t a, b;
};

// Player 0 keeps its seat, the others move on by one each round.
__device__ inline std::int64_t player(std::int64_t seat, std::int64_t round, std::int64_t players) {
  return seat == 0 ? 0 : 1 + (seat - 1 + round) % (players - 1);
}
__device__ inline Pair pair_at(std::int64_t table, std::int64_t round, std::int64_t players) {
  const std::int64_t a = player(table, round, players);
  const std::int64_t b = player(players - 1 - table, round, players);
  return a < b ? Pair{a, b} : Pair{b, a};
}
__host__ __device__ constexpr std::int64_t players_of(std::int64_t n) { return n + n % 2; }

template <class T>
struct Rotation {
  T c, s;
};

// x' = c x - s y and y' = s x + c y with x'.y' = 0, by at most 45 degrees.
template <class T>
__device__ Rotation<T> rotation_of(T xx, T yy, T xy) {
  const T ratio = (xx - yy) / (T(2) * xy);
  const T tangent = std::copysign(T(1), ratio) / (std::fabs(ratio) + std::hypot(ratio, T(1)));
  const T c = T(1) / std::hypot(tangent, T(1));
  return {c, -tangent * c};
}

// By one warp.
template <class T>
__device__ void rotate_rows(const Rotation<T>& r, T* x, T* y, std::int64_t n) {
  for (std::int64_t i = threadIdx.x % 32; i < n; i += 32) {
    const T a = x[i];
    const T b = y[i];
    x[i] = r.c * a - r.s * b;
    y[i] = r.s * a + r.c * b;
  }
}

template <class T>
__device__ void set_identity(T* a, std::int64_t ld, std::int64_t n) {
  for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
    for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) a[i * ld + c] = i == c ? T(1) : T(0);
}

template <class T>
__device__ void copy_matrix(const T* from, std::int64_t from_ld, T* to, std::int64_t to_ld, std::int64_t n) {
  for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
    for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) to[i * to_ld + c] = from[i * from_ld + c];
}

// Sweeps by a block until one turns nothing, which it says. `round(r, turned)` does one round and sets *turned where it turns a
// pair; it ends where all threads may go on after a barrier.
template <class Round>
__device__ bool sweep_block(std::int64_t n, int* turned, const Round& round) {
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    __syncthreads();
    if (threadIdx.x == 0) *turned = 0;
    for (std::int64_t r = 0; r < players_of(n) - 1; ++r) {
      __syncthreads();
      round(r, turned);
    }
    __syncthreads();
    if (*turned == 0) return true;
  }
  return false;
}

// --- scaling --------------------------------------------------------------------------------------------------------------

// Scales a (count, size) to elements of at most 2 in magnitude; exponents[m] is what was taken out, kNotFinite for a matrix
// that is not finite, which becomes zeros.
template <class T>
__global__ void scale_kernel(T* a, std::int64_t size, std::int64_t count, std::int64_t* exponents) {
  for (std::int64_t m = blockIdx.x; m < count; m += gridDim.x) {
    T* const x = a + m * size;
    T largest = T(0);
    T odd = T(0);  // becomes NaN with the first element that is not finite
    for (std::int64_t i = threadIdx.x; i < size; i += blockDim.x) {
      const T magnitude = std::fabs(x[i]);
      odd += x[i] - x[i];
      if (magnitude > largest) largest = magnitude;
    }
    largest = block_fold(largest, T(0), Largest{});
    odd = block_fold(odd, T(0), Plus{});
    const bool is_finite = odd == T(0);
    const int exponent = is_finite && largest > T(0) ? std::ilogb(largest) : 0;
    for (std::int64_t i = threadIdx.x; i < size; i += blockDim.x) {
      if (!is_finite) {
        x[i] = T(0);
      } else if (exponent != 0) {
        x[i] = std::scalbn(x[i], -exponent);
      }
    }
    if (threadIdx.x == 0) exponents[m] = is_finite ? exponent : kNotFinite;
  }
}

// --- one-sided rotations --------------------------------------------------------------------------------------------------

template <class T>
struct RowsCall {
  T* r;  // (count, n, n): rows become orthogonal
  T* j;  // (count, n, n): the rotations
  std::int64_t n, count;
  T tolerance;
  std::int64_t* turned;  // (count): not 0 where the last sweep rotated; -1 after success in shared memory
};

// True if the rows were not orthogonal; by one warp, the same in all lanes.
template <class T>
__device__ bool turn_pair(const RowsCall<T>& call, T* x, T* y, T* jx, T* jy) {
  T xx = T(0);
  T yy = T(0);
  T xy = T(0);
  for (std::int64_t i = threadIdx.x % 32; i < call.n; i += 32) {
    xx += x[i] * x[i];
    yy += y[i] * y[i];
    xy += x[i] * y[i];
  }
  xx = warp_fold(xx, Plus{});
  yy = warp_fold(yy, Plus{});
  xy = warp_fold(xy, Plus{});
  if (std::fabs(xy) <= call.tolerance * std::sqrt(xx) * std::sqrt(yy)) return false;
  const Rotation<T> rotation = rotation_of(xx, yy, xy);
  rotate_rows(rotation, x, y, call.n);
  rotate_rows(rotation, jx, jy, call.n);
  return true;
}

// In shared memory, a warp per pair.
template <class T>
struct RowsRound {
  const RowsCall<T>& call;
  T* r;
  T* j;

  __device__ void operator()(std::int64_t round, int* turned) const {
    const std::int64_t ld = odd_ld(call.n);
    const std::int64_t players = players_of(call.n);
    for (std::int64_t table = threadIdx.x / 32; table < players / 2; table += blockDim.x / 32) {
      const Pair p = pair_at(table, round, players);
      if (p.b < call.n && turn_pair(call, r + p.a * ld, r + p.b * ld, j + p.a * ld, j + p.b * ld) &&
          threadIdx.x % 32 == 0)
        atomicOr(turned, 1);
    }
  }
};

template <class T>
__global__ void rows_shared_kernel(RowsCall<T> call) {
  __shared__ int turned;
  const std::int64_t n = call.n;
  const std::int64_t ld = odd_ld(n);
  T* const r = dynamic_shared<T>();
  T* const j = r + n * ld;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    __syncthreads();
    copy_matrix(call.r + m * n * n, n, r, ld, n);
    set_identity(j, ld, n);
    const bool converged = sweep_block(n, &turned, RowsRound<T>{call, r, j});
    copy_matrix(r, ld, call.r + m * n * n, n, n);
    copy_matrix(j, ld, call.j + m * n * n, n, n);
    if (threadIdx.x == 0) call.turned[m] = converged ? -1 : 0;
  }
}

template <class T>
__global__ void identity_kernel(T* a, std::int64_t n, std::int64_t count) {
  for (std::int64_t m = blockIdx.x; m < count; m += gridDim.x) set_identity(a + m * n * n, n, n);
}

// From -1 to 0, by any number of threads at once.
__device__ void say_turned(std::int64_t* turned) { atomicMax(reinterpret_cast<long long*>(turned), 0LL); }

// One round of all matrices, a warp per pair.
template <class T>
__global__ void rows_round_kernel(RowsCall<T> call, std::int64_t round) {
  const std::int64_t n = call.n;
  const std::int64_t players = players_of(n);
  const std::int64_t tables = players / 2;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t item = blockIdx.x * warps + threadIdx.x / 32; item < call.count * tables;
       item += gridDim.x * warps) {
    const std::int64_t m = item / tables;
    const Pair p = pair_at(item - m * tables, round, players);
    T* const r = call.r + m * n * n;
    T* const j = call.j + m * n * n;
    if (p.b < n && turn_pair(call, r + p.a * n, r + p.b * n, j + p.a * n, j + p.b * n) && threadIdx.x % 32 == 0)
      say_turned(call.turned + m);
  }
}

// The same by launches: sweeps until no matrix turns any more; `round` launches one round. turned[m] is -1 where nothing has turned.
template <class Round>
void sweep_all(Tensor& turned, std::int64_t n, std::int64_t count, Device device, const Round& round) {
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    set_bytes(engine::mutable_ptr<std::int64_t>(turned), 0xff, static_cast<std::size_t>(count) * sizeof(std::int64_t),
              device);
    for (std::int64_t r = 0; r < players_of(n) - 1; ++r) round(r);
    if (!has_state(turned, count)) return;
  }
}

void check_convergence(const char* op, const Tensor& turned, std::int64_t count) {
  check_states(turned, count, 1,
               [op, count](std::int64_t, std::int64_t matrix) { detail::throw_no_convergence(op, matrix, count); });
}

Tensor transposed(const Tensor& t) {
  return engine::view(t, {t.shape()[0], t.shape()[2], t.shape()[1]}, {t.strides()[0], t.strides()[2], t.strides()[1]},
                      t.impl()->offset);
}

template <class T>
std::size_t shared_pair(std::int64_t n) {
  return static_cast<std::size_t>(2 * n * odd_ld(n)) * sizeof(T);
}

// Rows i of r (count, n, n), which are unit vectors, times s_i (count, n).
template <class T>
__global__ void stretch_kernel(T* r, const T* s, std::int64_t n, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) r[e] *= s[e / n];
}

// r = u diag(s) v^T: r <- diag(s) v^T, whose rows are orthogonal, and j <- u^T, which turned them.
template <class T>
void orthogonalise_by_library(T* r, T* j, std::int64_t n, std::int64_t count, Device device) {
  const std::int64_t total = count * n * n;
  Tensor u = engine::empty({count, n, n}, dtype_of<T>, device);
  Tensor s = engine::empty({count, n}, dtype_of<T>, device);
  Tensor vt = engine::empty({count, n, n}, dtype_of<T>, device);
  const library::Failed failed = library::svd(r, n, count, engine::mutable_ptr<T>(u), engine::mutable_ptr<T>(s),
                                              engine::mutable_ptr<T>(vt), device);
  if (failed.matrix >= 0) detail::throw_no_convergence("svd", failed.matrix, count);
  launch(over_elements("svd", total, device), stretch_kernel<T>, engine::mutable_ptr<T>(vt), engine::ptr<T>(s), n,
         total);
  copy_on_device(r, engine::ptr<T>(vt), static_cast<std::size_t>(total) * sizeof(T), device);
  const Tensor turned = engine::contiguous(transposed(u));
  copy_on_device(j, engine::ptr<T>(turned), static_cast<std::size_t>(total) * sizeof(T), device);
}

template <class T>
void orthogonalise(T* r, T* j, std::int64_t n, std::int64_t count, Device device) {
  if (shared_pair<T>(n) > shared_limit(device) && library::takes(n, device))
    return orthogonalise_by_library(r, j, n, count, device);
  Tensor turned = engine::empty({count}, DType::int64, device);
  const T tolerance = std::numeric_limits<T>::epsilon() * std::sqrt(static_cast<T>(std::max<std::int64_t>(n, 16)));
  const RowsCall<T> call{r, j, n, count, tolerance, engine::mutable_ptr<std::int64_t>(turned)};
  if (shared_pair<T>(n) <= shared_limit(device)) {
    Launch where = over_blocks("svd", count, device, threads_for(players_of(n) / 2 * 32));
    where.shared_bytes = shared_pair<T>(n);
    launch(where, rows_shared_kernel<T>, call);
  } else {
    launch(over_blocks("svd", count, device), identity_kernel<T>, j, n, count);
    const Launch where = over_blocks("svd", (count * players_of(n) / 2 + 3) / 4, device, 128);
    sweep_all(turned, n, count, device, [&](std::int64_t round) { launch(where, rows_round_kernel<T>, call, round); });
  }
  check_convergence("svd", turned, count);
}

// --- from orthogonal rows to factors --------------------------------------------------------------------------------------

template <class T>
struct FactorsCall {
  T* r;        // (count, n, n): orthogonal rows s_i w_i; becomes w_i
  const T* j;  // (count, n, n)
  std::int64_t n, count;
  const std::int64_t* exponents;
  T* s;        // (count, n)
  T* vt;       // (count, n, n)
  T* sorted;   // (count, n, n): rows of j in the order of s
  T* scratch;  // (count, n): s before it is sorted
};

// Row i of w, whose singular value is 0, becomes a unit vector orthogonal to all others; by the block. As complete_rows of
// cpu/spectral.cpp.
template <class T>
__device__ void complete_row(T* w, const T* s, std::int64_t n, std::int64_t i) {
  T* const row = w + i * n;
  for (std::int64_t candidate = 0; candidate < n; ++candidate) {
    for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) row[c] = c == candidate ? T(1) : T(0);
    T square = T(0);
    for (int pass = 0; pass < 2; ++pass) {
      for (std::int64_t p = 0; p < n; ++p) {
        if (p == i || (s[p] == T(0) && p > i)) continue;  // itself and those to come
        T product = T(0);
        for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) product += row[c] * w[p * n + c];
        product = block_fold(product, T(0), Plus{});
        for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) row[c] -= product * w[p * n + c];
      }
      square = T(0);
      for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) square += row[c] * row[c];
      square = block_fold(square, T(0), Plus{});
      if (square < T(0.5) / static_cast<T>(n)) break;
      const T scale = T(1) / std::sqrt(square);
      for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) row[c] *= scale;
    }
    if (square >= T(0.5) / static_cast<T>(n)) return;
  }
}

template <class T>
__global__ void factors_kernel(FactorsCall<T> call) {
  const std::int64_t n = call.n;
  const std::int64_t lane = threadIdx.x % 32;
  // Below this the squares of the row's elements lose their digits: then it is 0, as far as rounding can tell.
  const T least = std::sqrt(std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon());
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    T* const w = call.r + m * n * n;
    T* const s = call.scratch + m * n;
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
      T square = T(0);
      for (std::int64_t c = lane; c < n; c += 32) square += w[i * n + c] * w[i * n + c];
      T value = std::sqrt(warp_fold(square, Plus{}));
      if (value < least) value = T(0);
      for (std::int64_t c = lane; c < n && value > T(0); c += 32) w[i * n + c] /= value;
      if (lane == 0) s[i] = value;
    }
    __syncthreads();
    for (std::int64_t i = 0; i < n; ++i)
      if (!(s[i] > T(0))) {  // the same in all threads
        complete_row(w, s, n, i);
        __syncthreads();
      }
    const std::int64_t exponent = call.exponents[m];
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
      std::int64_t before = 0;
      for (std::int64_t p = lane; p < n; p += 32) before += s[p] > s[i] || (s[p] == s[i] && p < i) ? 1 : 0;
      before = warp_fold(before, Plus{});
      for (std::int64_t c = lane; c < n; c += 32) {
        call.vt[(m * n + before) * n + c] = w[i * n + c];
        call.sorted[(m * n + before) * n + c] = call.j[(m * n + i) * n + c];
      }
      if (lane == 0)
        call.s[m * n + before] = exponent == kNotFinite ? std::numeric_limits<T>::quiet_NaN()
                                                        : std::scalbn(s[i], static_cast<int>(exponent));
    }
  }
}

// Signs: one thread per column of u (count, m, n). NaN for matrices that are not finite.
template <class T>
__global__ void signs_kernel(T* u, T* vt, std::int64_t m, std::int64_t n, const std::int64_t* exponents,
                             std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t matrix = e / n;
    const std::int64_t k = e - matrix * n;
    T* const column = u + matrix * m * n + k;
    T* const row = vt + e * n;
    T largest = T(0);
    for (std::int64_t i = 0; i < m; ++i)
      if (std::fabs(column[i * n]) > std::fabs(largest)) largest = column[i * n];
    const bool is_finite = exponents[matrix] != kNotFinite;
    if (is_finite && !(largest < T(0))) continue;
    const T factor = is_finite ? T(-1) : std::numeric_limits<T>::quiet_NaN();
    for (std::int64_t i = 0; i < m; ++i) column[i * n] *= factor;
    for (std::int64_t i = 0; i < n; ++i) row[i] *= factor;
  }
}

// The batch's axes as one.
Tensor as_batch(const Tensor& t) {
  const std::int64_t rows = t.size(-2);
  const std::int64_t cols = t.size(-1);
  const Shape shape{t.numel() / (rows * cols), rows, cols};
  return engine::view(t, shape, contiguous_strides(shape), t.impl()->offset);
}

template <class T>
Tensor svd_typed(Tensor& copy, Tensor& s, Tensor& vt) {
  const Device device = copy.device();
  const std::int64_t m = copy.shape()[1];
  const std::int64_t n = copy.shape()[2];
  const std::int64_t count = copy.shape()[0];
  Tensor exponents = engine::empty({count}, DType::int64, device);
  launch(over_blocks("svd", count, device, threads_for(m * n)), scale_kernel<T>, engine::mutable_ptr<T>(copy), m * n,
         count, engine::mutable_ptr<std::int64_t>(exponents));
  TensorVec qr_factors = qr(std::span<Tensor>(&copy, 1), nullptr);
  Tensor r = qr_factors[1];
  Tensor j = engine::empty({count, n, n}, copy.dtype(), device);
  Tensor sorted = engine::empty({count, n, n}, copy.dtype(), device);
  Tensor scratch = engine::empty({count, n}, copy.dtype(), device);
  orthogonalise(engine::mutable_ptr<T>(r), engine::mutable_ptr<T>(j), n, count, device);
  FactorsCall<T> call{};
  call.r = engine::mutable_ptr<T>(r);
  call.j = engine::ptr<T>(j);
  call.n = n;
  call.count = count;
  call.exponents = engine::ptr<std::int64_t>(exponents);
  call.s = engine::mutable_ptr<T>(s);
  call.vt = engine::mutable_ptr<T>(vt);
  call.sorted = engine::mutable_ptr<T>(sorted);
  call.scratch = engine::mutable_ptr<T>(scratch);
  launch(over_blocks("svd", count, device, threads_for(n * n)), factors_kernel<T>, call);
  Tensor u = matmul(qr_factors[0], transposed(sorted));
  launch(over_elements("svd", count * n, device), signs_kernel<T>, engine::mutable_ptr<T>(u),
         engine::mutable_ptr<T>(vt), m, n, engine::ptr<std::int64_t>(exponents), count * n);
  return u;
}

// --- two-sided rotations --------------------------------------------------------------------------------------------------

template <class T>
struct EighCall {
  T* a;     // (count, n, n), becomes diagonal
  T* rows;  // (count, n, n), eigenvectors
  std::int64_t n, count;
  std::int64_t* turned;
  Rotation<T>* rotations;  // (count, n / 2 rounded up), only in global memory
  T* limit;                // (count): off-diagonal elements up to this are zeros
};

// a <- (a + a^T) / 2; halves first: the sum of two large elements may overflow.
template <class T>
__global__ void symmetrise_kernel(T* a, std::int64_t n, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t m = e / (n * n);
    const std::int64_t i = e / n - m * n;
    const std::int64_t j = e % n;
    if (j >= i) continue;
    T* const other = a + (m * n + j) * n + i;
    const T mean = a[e] * T(0.5) + *other * T(0.5);
    a[e] = mean;
    *other = mean;
  }
}

// What rotations may leave: eps times the root mean square of a row, in every thread.
template <class T>
__device__ T rotation_limit(const T* a, std::int64_t ld, std::int64_t n) {
  T square = T(0);
  for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
    for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) square += a[i * ld + c] * a[i * ld + c];
  square = block_fold(square, T(0), Plus{});
  return std::numeric_limits<T>::epsilon() * std::sqrt(square) / static_cast<T>(n);
}

// The rotation of one pair, the identity if its element is a zero already.
template <class T>
__device__ Rotation<T> symmetric_rotation(const T* a, std::int64_t ld, const Pair& p, std::int64_t n, T limit,
                                          bool* turned) {
  *turned = false;
  if (p.b >= n) return {T(1), T(0)};
  const T off = a[p.a * ld + p.b];
  if (std::fabs(off) <= limit) return {T(1), T(0)};
  *turned = true;
  return rotation_of(a[p.a * ld + p.a], a[p.b * ld + p.b], off);
}

// Columns a and b of row i; where the row is one of the pair itself, the element between them becomes 0.
template <class T>
__device__ void rotate_columns(const Rotation<T>& r, const Pair& p, T* row, std::int64_t i) {
  const T x = row[p.a];
  const T y = row[p.b];
  row[p.a] = i == p.b ? T(0) : r.c * x - r.s * y;
  row[p.b] = i == p.a ? T(0) : r.s * x + r.c * y;
}

// In shared memory: all angles, then all rows, then all columns.
template <class T>
struct EighRound {
  std::int64_t n;
  T* a;
  T* v;
  Rotation<T>* rotations;
  T limit;

  __device__ void operator()(std::int64_t round, int* turned) const {
    const std::int64_t ld = odd_ld(n);
    const std::int64_t players = players_of(n);
    const std::int64_t tables = players / 2;
    for (std::int64_t t = threadIdx.x; t < tables; t += blockDim.x) {
      bool one = false;
      const Rotation<T> r = symmetric_rotation(a, ld, pair_at(t, round, players), n, limit, &one);
      rotations[t] = r;
      if (one) atomicOr(turned, 1);
    }
    __syncthreads();
    for (std::int64_t t = threadIdx.x / 32; t < tables; t += blockDim.x / 32) {
      const Pair p = pair_at(t, round, players);
      if (rotations[t].s == T(0)) continue;
      rotate_rows(rotations[t], a + p.a * ld, a + p.b * ld, n);
      rotate_rows(rotations[t], v + p.a * ld, v + p.b * ld, n);
    }
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
      for (std::int64_t t = threadIdx.x % 32; t < tables; t += 32)
        if (rotations[t].s != T(0)) rotate_columns(rotations[t], pair_at(t, round, players), a + i * ld, i);
  }
};

template <class T>
__global__ void eigh_shared_kernel(EighCall<T> call) {
  __shared__ int turned;
  const std::int64_t n = call.n;
  const std::int64_t ld = odd_ld(n);
  T* const a = dynamic_shared<T>();
  T* const v = a + n * ld;
  auto* const rotations = reinterpret_cast<Rotation<T>*>(v + n * ld);
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    __syncthreads();
    copy_matrix(call.a + m * n * n, n, a, ld, n);
    set_identity(v, ld, n);
    __syncthreads();
    const T limit = rotation_limit(a, ld, n);
    const bool converged = sweep_block(n, &turned, EighRound<T>{n, a, v, rotations, limit});
    copy_matrix(a, ld, call.a + m * n * n, n, n);
    copy_matrix(v, ld, call.rows + m * n * n, n, n);
    if (threadIdx.x == 0) call.turned[m] = converged ? -1 : 0;
  }
}

template <class T>
__global__ void limits_kernel(EighCall<T> call) {
  const std::int64_t n = call.n;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    const T limit = rotation_limit(call.a + m * n * n, n, n);
    if (threadIdx.x == 0) call.limit[m] = limit;
  }
}

template <class T>
__global__ void eigh_angles_kernel(EighCall<T> call, std::int64_t round) {
  const std::int64_t n = call.n;
  const std::int64_t players = players_of(n);
  const std::int64_t tables = players / 2;
  for (std::int64_t e = global_thread(); e < call.count * tables; e += grid_threads()) {
    const std::int64_t m = e / tables;
    bool one = false;
    call.rotations[e] =
        symmetric_rotation(call.a + m * n * n, n, pair_at(e - m * tables, round, players), n, call.limit[m], &one);
    if (one) say_turned(call.turned + m);
  }
}

template <class T>
__global__ void eigh_rows_kernel(EighCall<T> call, std::int64_t round) {
  const std::int64_t n = call.n;
  const std::int64_t players = players_of(n);
  const std::int64_t tables = players / 2;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t item = blockIdx.x * warps + threadIdx.x / 32; item < call.count * tables;
       item += gridDim.x * warps) {
    const std::int64_t m = item / tables;
    const Pair p = pair_at(item - m * tables, round, players);
    const Rotation<T> rotation = call.rotations[item];
    if (rotation.s == T(0)) continue;
    rotate_rows(rotation, call.a + (m * n + p.a) * n, call.a + (m * n + p.b) * n, n);
    rotate_rows(rotation, call.rows + (m * n + p.a) * n, call.rows + (m * n + p.b) * n, n);
  }
}

template <class T>
__global__ void eigh_columns_kernel(EighCall<T> call, std::int64_t round) {
  const std::int64_t n = call.n;
  const std::int64_t players = players_of(n);
  const std::int64_t tables = players / 2;
  for (std::int64_t row = blockIdx.x; row < call.count * n; row += gridDim.x) {
    const std::int64_t m = row / n;
    for (std::int64_t t = threadIdx.x; t < tables; t += blockDim.x) {
      const Rotation<T> rotation = call.rotations[m * tables + t];
      if (rotation.s != T(0)) rotate_columns(rotation, pair_at(t, round, players), call.a + row * n, row - m * n);
    }
  }
}

template <class T>
struct SortCall {
  const T* a;     // (count, n, n), values on the diagonal
  const T* rows;  // (count, n, n)
  std::int64_t n, count;
  const std::int64_t* exponents;
  T* values;   // (count, n)
  T* vectors;  // (count, n, n), in columns
};

// Ascending order and signs, a warp per eigenvalue.
template <class T>
__global__ void sort_kernel(SortCall<T> call) {
  const std::int64_t n = call.n;
  const std::int64_t lane = threadIdx.x % 32;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t item = blockIdx.x * warps + threadIdx.x / 32; item < call.count * n; item += gridDim.x * warps) {
    const std::int64_t m = item / n;
    const std::int64_t i = item - m * n;
    const T* const a = call.a + m * n * n;
    const T value = a[i * (n + 1)];
    std::int64_t before = 0;
    for (std::int64_t p = lane; p < n; p += 32) {
      const T other = a[p * (n + 1)];
      before += other < value || (other == value && p < i) ? 1 : 0;
    }
    before = warp_fold(before, Plus{});
    const T* const row = call.rows + item * n;
    Candidate<T> largest{T(-1), n};
    for (std::int64_t c = lane; c < n; c += 32)
      if (std::fabs(row[c]) > largest.value) largest = {std::fabs(row[c]), c};
    largest = warp_fold(largest, Larger<T>{});
    const bool is_finite = call.exponents[m] != kNotFinite;
    const T factor = !is_finite ? std::numeric_limits<T>::quiet_NaN() : row[largest.index] < T(0) ? T(-1) : T(1);
    for (std::int64_t c = lane; c < n; c += 32) call.vectors[(m * n + c) * n + before] = factor * row[c];
    if (lane == 0)
      call.values[m * n + before] =
          is_finite ? std::scalbn(value, static_cast<int>(call.exponents[m])) : std::numeric_limits<T>::quiet_NaN();
  }
}

// a <- diag(values), as far as it is read.
template <class T>
__global__ void diagonal_kernel(T* a, const T* values, std::int64_t n, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) a[e / n * n * n + e % n * (n + 1)] = values[e];
}

template <class T>
void diagonalise_by_library(const EighCall<T>& call, Device device) {
  const std::int64_t n = call.n;
  const std::int64_t count = call.count;
  copy_on_device(call.rows, call.a, static_cast<std::size_t>(count * n * n) * sizeof(T), device);
  Tensor values = engine::empty({count, n}, dtype_of<T>, device);
  const library::Failed failed = library::eigh(call.rows, n, count, engine::mutable_ptr<T>(values), device);
  if (failed.matrix >= 0) detail::throw_no_convergence("eigh", failed.matrix, count);
  launch(over_elements("eigh", count * n, device), diagonal_kernel<T>, call.a, engine::ptr<T>(values), n, count * n);
}

template <class T>
void rotate_symmetric(EighCall<T> call, Device device) {
  const std::int64_t n = call.n;
  const std::int64_t count = call.count;
  const std::int64_t tables = players_of(n) / 2;
  Tensor turned = engine::empty({count}, DType::int64, device);
  call.turned = engine::mutable_ptr<std::int64_t>(turned);
  const std::size_t shared = shared_pair<T>(n) + static_cast<std::size_t>(tables) * sizeof(Rotation<T>);
  if (shared <= shared_limit(device)) {
    Launch where = over_blocks("eigh", count, device, threads_for(tables * 32));
    where.shared_bytes = shared;
    launch(where, eigh_shared_kernel<T>, call);
    return check_convergence("eigh", turned, count);
  }
  if (library::takes(n, device)) return diagonalise_by_library(call, device);
  Tensor rotations = engine::empty({count, tables, 2}, dtype_of<T>, device);
  Tensor limits = engine::empty({count}, dtype_of<T>, device);
  call.rotations = reinterpret_cast<Rotation<T>*>(engine::mutable_ptr<T>(rotations));
  call.limit = engine::mutable_ptr<T>(limits);
  launch(over_blocks("eigh", count, device), identity_kernel<T>, call.rows, n, count);
  launch(over_blocks("eigh", count, device), limits_kernel<T>, call);
  sweep_all(turned, n, count, device, [&](std::int64_t round) {
    launch(over_elements("eigh", count * tables, device), eigh_angles_kernel<T>, call, round);
    launch(over_blocks("eigh", (count * tables + 3) / 4, device, 128), eigh_rows_kernel<T>, call, round);
    launch(over_blocks("eigh", count * n, device, threads_for(tables)), eigh_columns_kernel<T>, call, round);
  });
  check_convergence("eigh", turned, count);
}

template <class T>
void eigh_typed(Tensor& copy, std::int64_t n, std::int64_t count, Tensor& values, Tensor& vectors) {
  const Device device = copy.device();
  T* const a = engine::mutable_ptr<T>(copy);
  const std::int64_t total = count * n * n;
  Tensor exponents = engine::empty({count}, DType::int64, device);
  Tensor rows = engine::empty({count, n, n}, copy.dtype(), device);
  launch(over_elements("eigh", total, device), symmetrise_kernel<T>, a, n, total);
  launch(over_blocks("eigh", count, device, threads_for(n * n)), scale_kernel<T>, a, n * n, count,
         engine::mutable_ptr<std::int64_t>(exponents));
  EighCall<T> call{};
  call.a = a;
  call.rows = engine::mutable_ptr<T>(rows);
  call.n = n;
  call.count = count;
  rotate_symmetric(call, device);
  const SortCall<T> sort{a,
                         engine::ptr<T>(rows),
                         n,
                         count,
                         engine::ptr<std::int64_t>(exponents),
                         engine::mutable_ptr<T>(values),
                         engine::mutable_ptr<T>(vectors)};
  launch(over_blocks("eigh", (count * n + 3) / 4, device, 128), sort_kernel<T>, sort);
}

}  // namespace

TensorVec eigh(std::span<Tensor> inputs, const Attrs*) {
  const Tensor& a = inputs[0];
  const std::int64_t n = a.size(-1);
  Shape lead = a.shape();
  lead.pop_back();
  Tensor values = engine::empty(lead, a.dtype(), a.device());
  Tensor vectors = engine::empty(a.shape(), a.dtype(), a.device());
  if (a.numel() == 0) return {std::move(values), std::move(vectors)};
  Tensor copy = engine::empty(a.shape(), a.dtype(), a.device());
  engine::copy_into(a, copy);
  dispatch_float(a.dtype(), "eigh", [&](auto tag) {
    eigh_typed<typename decltype(tag)::type>(copy, n, a.numel() / (n * n), values, vectors);
  });
  return {std::move(values), std::move(vectors)};
}

TensorVec svd(std::span<Tensor> inputs, const Attrs*) {
  const Tensor& a = inputs[0];
  const std::int64_t n = a.size(-1);
  Shape s_shape = a.shape();
  Shape vt_shape = a.shape();
  vt_shape[a.rank() - 2] = n;
  s_shape.pop_back();
  s_shape[a.rank() - 2] = n;
  Tensor s = engine::empty(s_shape, a.dtype(), a.device());
  Tensor vt = engine::empty(vt_shape, a.dtype(), a.device());
  if (a.numel() == 0) return {engine::empty(a.shape(), a.dtype(), a.device()), std::move(s), std::move(vt)};
  Tensor copy = engine::empty(a.shape(), a.dtype(), a.device());
  engine::copy_into(a, copy);
  Tensor batch = as_batch(copy);
  Tensor u;
  dispatch_float(a.dtype(), "svd", [&](auto tag) { u = svd_typed<typename decltype(tag)::type>(batch, s, vt); });
  return {engine::view(u, a.shape(), contiguous_strides(a.shape()), u.impl()->offset), std::move(s), std::move(vt)};
}

}  // namespace solvent::cuda
