// LU with partial pivoting, and what follows from it: systems, inverses, determinants.
//
// Matrices that fit in shared memory (about 160 rows of float64): one block factors one matrix there, and with few
// right-hand sides also substitutes, so each operand is read once and each result written once; bound by the barriers of
// its columns, hidden by many blocks side by side. Larger ones: up to 8 at a time of more than 128 rows by cuSOLVER
// (factor_library.h; a guess, as nothing was measured), else panels of 32 columns by one block per matrix, the rest by matrix
// products. The pivot is the element of largest magnitude, the first among equals, as on the CPU; a pivot that is
// exactly 0 ends the matrix. Deterministic: fixed order, cut by sizes only.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "solvent/core/cuda/blas.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cpu/system_plan.h"
#include "solvent/ops/cuda/factor.h"
#include "solvent/ops/cuda/factor_library.h"
#include "solvent/ops/cuda/matrix_block.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cuda {
namespace {

constexpr std::int64_t kPanel = 32;
// With more columns on the right than this, factors are written out and columns spread over blocks.
constexpr std::int64_t kFusedColumns = 128;

template <class T>
struct LuCall {
  T* a;  // (count, n, n)
  std::int64_t n, count;
  std::int64_t* rows;   // (count, n)
  std::int64_t* state;  // (count, 2)
};

// The row of the pivot of column j among rows [j, n). A NaN on the diagonal stays, others are not chosen: on the CPU, where
// comparisons with them are false, it is so.
template <class T>
__device__ std::int64_t find_pivot(const T* a, std::int64_t ld, std::int64_t n, std::int64_t j) {
  Candidate<T> best{T(-1), std::numeric_limits<std::int64_t>::max()};
  for (std::int64_t i = j + threadIdx.x; i < n; i += blockDim.x) {
    T size = std::fabs(a[i * ld + j]);
    if (!(size == size)) size = i == j ? std::numeric_limits<T>::infinity() : T(-1);
    if (size > best.value) best = {size, i};
  }
  return block_fold(best, Candidate<T>{T(-1), std::numeric_limits<std::int64_t>::max()}, Larger<T>{}).index;
}

// Factors columns [j0, j1), rows [j0, n), and exchanges whole rows. Returns the column of a zero pivot or -1 in every thread.
template <class T>
__device__ std::int64_t factor_columns(T* a, std::int64_t ld, std::int64_t n, std::int64_t j0, std::int64_t j1,
                                       std::int64_t* rows, std::int64_t* odd) {
  const std::int64_t lane = threadIdx.x % 32;
  const std::int64_t warp = threadIdx.x / 32;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t j = j0; j < j1; ++j) {
    __syncthreads();
    const std::int64_t p = find_pivot(a, ld, n, j);
    if (p != j) {
      for (std::int64_t c = threadIdx.x; c < n; c += blockDim.x) {
        const T upper = a[j * ld + c];
        a[j * ld + c] = a[p * ld + c];
        a[p * ld + c] = upper;
      }
      if (threadIdx.x == 0) {
        const std::int64_t row = rows[j];
        rows[j] = rows[p];
        rows[p] = row;
        *odd = 1 - *odd;
      }
      __syncthreads();
    }
    const T pivot = a[j * ld + j];
    if (pivot == T(0)) return j;
    for (std::int64_t i = j + 1 + threadIdx.x; i < n; i += blockDim.x) a[i * ld + j] /= pivot;
    __syncthreads();
    for (std::int64_t i = j + 1 + warp; i < n; i += warps) {
      const T factor = a[i * ld + j];
      for (std::int64_t c = j + 1 + lane; c < j1; c += 32) a[i * ld + c] -= factor * a[j * ld + c];
    }
  }
  __syncthreads();
  return -1;
}

// --- matrices in shared memory --------------------------------------------------------------------------------------------

template <class T>
__device__ void start_rows(const LuCall<T>& call, std::int64_t m) {
  for (std::int64_t i = threadIdx.x; i < call.n; i += blockDim.x) call.rows[m * call.n + i] = i;
  if (threadIdx.x == 0) {
    call.state[2 * m] = -1;
    call.state[2 * m + 1] = 0;
  }
}

// Reads matrix m, leaves its factors in shared memory; true unless a pivot is 0.
template <class T>
__device__ bool factor_shared(const LuCall<T>& call, std::int64_t m, T* a) {
  const std::int64_t n = call.n;
  const std::int64_t ld = odd_ld(n);
  __syncthreads();  // the memory may still be read
  const T* const from = call.a + m * n * n;
  for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
    for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) a[i * ld + c] = from[i * n + c];
  start_rows(call, m);
  const std::int64_t zero = factor_columns(a, ld, n, 0, n, call.rows + m * n, call.state + 2 * m + 1);
  if (threadIdx.x == 0) call.state[2 * m] = zero;
  return zero < 0;
}

template <class T>
__global__ void lu_shared_kernel(LuCall<T> call) {
  T* const a = dynamic_shared<T>();
  const std::int64_t n = call.n;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    factor_shared(call, m, a);
    __syncthreads();
    T* const to = call.a + m * n * n;
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
      for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) to[i * n + c] = a[i * odd_ld(n) + c];
  }
}

// Columns [c0, c0 + width) of a right-hand side in shared memory: the lower triangle with its unit diagonal, then the upper.
template <class T>
__device__ void substitute_shared(const T* a, std::int64_t ld, std::int64_t n, T* x, std::int64_t held,
                                  std::int64_t width, T* out, std::int64_t out_ld) {
  const std::int64_t c = threadIdx.x % held;
  const std::int64_t r = threadIdx.x / held;
  const std::int64_t step = blockDim.x / held;
  const bool active = r < step && c < width;
  for (std::int64_t j = 0; j < n; ++j) {
    __syncthreads();
    if (!active) continue;
    const T value = x[j * held + c];
    for (std::int64_t i = j + 1 + r; i < n; i += step) x[i * held + c] -= a[i * ld + j] * value;
  }
  for (std::int64_t j = n - 1; j >= 0; --j) {
    __syncthreads();
    if (!active) continue;
    const T value = x[j * held + c] / a[j * ld + j];
    if (r == 0) out[j * out_ld + c] = value;
    for (std::int64_t i = r; i < j; i += step) x[i * held + c] -= a[i * ld + j] * value;
  }
}

// x (count, n, k) <- a^-1 x, `held` columns at a time.
template <class T>
__global__ void solve_shared_kernel(LuCall<T> call, T* right, std::int64_t k, std::int64_t held) {
  const std::int64_t n = call.n;
  T* const a = dynamic_shared<T>();
  T* const x = a + n * odd_ld(n);
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    if (!factor_shared(call, m, a)) {  // the same in all threads
      for (std::int64_t e = threadIdx.x; e < n * k; e += blockDim.x)
        right[m * n * k + e] = std::numeric_limits<T>::quiet_NaN();
      continue;
    }
    const std::int64_t* const rows = call.rows + m * n;
    for (std::int64_t c0 = 0; c0 < k; c0 += held) {
      const std::int64_t width = std::min(held, k - c0);
      T* const out = right + m * n * k + c0;
      __syncthreads();
      for (std::int64_t e = threadIdx.x; e < n * held; e += blockDim.x) {
        const std::int64_t i = e / held;
        if (e - i * held < width) x[e] = out[rows[i] * k + e - i * held];
      }
      substitute_shared(a, odd_ld(n), n, x, held, width, out, k);
    }
  }
}

// --- larger matrices ------------------------------------------------------------------------------------------------------

template <class T>
__global__ void start_kernel(LuCall<T> call) {
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) start_rows(call, m);
}

template <class T>
__global__ void panel_kernel(LuCall<T> call, std::int64_t j0, std::int64_t j1) {
  const std::int64_t n = call.n;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    if (call.state[2 * m] >= 0) continue;  // a zero pivot before
    const std::int64_t zero =
        factor_columns(call.a + m * n * n, n, n, j0, j1, call.rows + m * n, call.state + 2 * m + 1);
    __syncthreads();  // all have read the state
    if (threadIdx.x == 0) call.state[2 * m] = zero;
  }
}

// U12 = L11^-1 A12: rows [j0, j0 + kPanel) of the columns from j1, one column per thread.
template <class T>
__global__ void rows_kernel(LuCall<T> call, std::int64_t j0, std::int64_t j1, std::int64_t blocks_each) {
  __shared__ T lower[kPanel][kPanel];
  const std::int64_t n = call.n;
  for (std::int64_t item = blockIdx.x; item < call.count * blocks_each; item += gridDim.x) {
    const std::int64_t m = item / blocks_each;
    T* const a = call.a + m * n * n;
    __syncthreads();
    for (std::int64_t e = threadIdx.x; e < kPanel * kPanel; e += blockDim.x)
      lower[e / kPanel][e % kPanel] = a[(j0 + e / kPanel) * n + j0 + e % kPanel];
    __syncthreads();
    const std::int64_t c = j1 + (item - m * blocks_each) * blockDim.x + threadIdx.x;
    if (c >= n) continue;
    T column[kPanel];
    SOLVENT_UNROLL
    for (int i = 0; i < kPanel; ++i) {
      T value = a[(j0 + i) * n + c];
      SOLVENT_UNROLL
      for (int j = 0; j < i; ++j) value -= lower[i][j] * column[j];
      column[i] = value;
      a[(j0 + i) * n + c] = value;
    }
  }
}

template <class T>
void factor_blocked(const LuCall<T>& call, Device device) {
  const std::int64_t n = call.n;
  launch(over_blocks("lu", call.count, device), start_kernel<T>, call);
  for (std::int64_t j0 = 0; j0 < n; j0 += kPanel) {
    const std::int64_t j1 = std::min(j0 + kPanel, n);
    launch(over_blocks("lu", call.count, device, 512), panel_kernel<T>, call, j0, j1);
    if (j1 == n) break;
    const std::int64_t blocks = (n - j1 + 127) / 128;
    launch(over_blocks("lu", call.count * blocks, device, 128), rows_kernel<T>, call, j0, j1, blocks);
    Gemm<T> rest{.m = n - j1, .n = n - j1, .k = j1 - j0};
    rest.alpha = T(-1);
    rest.a = call.a + j1 * n + j0;
    rest.b = call.a + j0 * n + j1;
    rest.beta = T(1);
    rest.c = call.a + j1 * n + j1;
    rest.lda = rest.ldb = rest.ldc = n;
    rest.batch = call.count;
    rest.stride_a = rest.stride_b = rest.stride_c = n * n;
    gemm(rest, device);
  }
}

// x[m, i, :] = b[m, rows[m, i], :]
template <class T>
__global__ void exchange_kernel(const std::int64_t* rows, std::int64_t n, std::int64_t k, const T* b, T* x,
                                std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t row = e / k;
    x[e] = b[(row / n * n + rows[row]) * k + e - row * k];
  }
}

template <class T>
std::size_t shared_matrix(std::int64_t n, std::int64_t columns = 0) {
  return static_cast<std::size_t>(n * (odd_ld(n) + columns)) * sizeof(T);
}

// Columns that fit beside the matrix in shared memory; 0 if not even one does.
template <class T>
std::int64_t columns_held(std::int64_t n, std::int64_t k, Device device) {
  for (std::int64_t held = std::min<std::int64_t>(k, 32); held > 0; held /= 2)
    if (shared_matrix<T>(n, held) <= shared_limit(device)) return held;
  return 0;
}

LuState lu_state(std::int64_t n, std::int64_t count, Device device) {
  return {engine::empty({count, n}, DType::int64, device), engine::empty({count, 2}, DType::int64, device), {}};
}

template <class T>
LuCall<T> lu_call(T* a, std::int64_t n, std::int64_t count, LuState& s) {
  return {a, n, count, engine::mutable_ptr<std::int64_t>(s.rows), engine::mutable_ptr<std::int64_t>(s.state)};
}

// --- by the library -------------------------------------------------------------------------------------------------------

// to (count, columns, rows) <- from (count, rows, columns), both dense: the other order of elements in memory.
void turn(const Tensor& from, Tensor& to, std::int64_t rows, std::int64_t columns, std::int64_t count) {
  const Shape shape{count, columns, rows};
  Tensor target = engine::view(to, shape, contiguous_strides(shape), to.impl()->offset);
  engine::copy_into(engine::view(from, shape, {rows * columns, 1, columns}, from.impl()->offset), target);
}

// LuState::state from the library's answers, a block per matrix.
__global__ void library_state_kernel(const int* infos, const std::int64_t* pivots, std::int64_t n, std::int64_t count,
                                     std::int64_t* state) {
  for (std::int64_t m = blockIdx.x; m < count; m += gridDim.x) {
    std::int64_t exchanges = 0;
    for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) exchanges += pivots[m * n + i] != i + 1 ? 1 : 0;
    exchanges = block_fold(exchanges, std::int64_t{0}, Plus{});
    if (threadIdx.x != 0) continue;
    state[2 * m] = infos[m] > 0 ? infos[m] - 1 : -1;
    state[2 * m + 1] = exchanges % 2;
  }
}

template <class T>
LuState factor_by_library(Tensor& a, std::int64_t n, std::int64_t count) {
  const Device device = a.device();
  LuState s = {{}, engine::empty({count, 2}, DType::int64, device), engine::empty({count, n}, DType::int64, device)};
  auto* const pivots = engine::mutable_ptr<std::int64_t>(s.pivots);
  Tensor columns = engine::empty({count, n, n}, dtype_of<T>, device);
  turn(a, columns, n, n, count);
  a = std::move(columns);
  Tensor infos = engine::empty({count * static_cast<std::int64_t>(sizeof(int))}, DType::uint8, device);
  int* const info = reinterpret_cast<int*>(engine::mutable_ptr<std::uint8_t>(infos));
  library::lu(engine::mutable_ptr<T>(a), n, count, pivots, info, device);
  launch(over_blocks("lu", count, device), library_state_kernel, info, pivots, n, count,
         engine::mutable_ptr<std::int64_t>(s.state));
  return s;
}

template <class T>
void solve_by_library(const Tensor& lu, const LuState& state, std::int64_t n, std::int64_t count, const Tensor& b,
                      Tensor& x, std::int64_t k) {
  Tensor columns = engine::empty({count, k, n}, dtype_of<T>, b.device());
  turn(b, columns, n, k, count);
  library::solve_lu(engine::ptr<T>(lu), engine::ptr<std::int64_t>(state.pivots), n, count,
                    engine::mutable_ptr<T>(columns), k, b.device());
  turn(columns, x, k, n, count);
}

template <class T>
Tensor solve_typed(cpu::SystemPlan& plan, std::int64_t n, const char* op) {
  const Device device = plan.rhs.device();
  const std::int64_t k = plan.columns;
  const std::int64_t held = k <= kFusedColumns ? columns_held<T>(n, k, device) : 0;
  LuState s = held > 0 ? lu_state(n, plan.count, device) : factor_lu<T>(plan.matrices, n, plan.count);
  if (held > 0) {
    Launch where = over_blocks(op, plan.count, device, threads_for(n * std::max(n, held) / 4));
    where.shared_bytes = shared_matrix<T>(n, held);
    launch(where, solve_shared_kernel<T>, lu_call(engine::mutable_ptr<T>(plan.matrices), n, plan.count, s),
           engine::mutable_ptr<T>(plan.rhs), k, held);
  }
  check_states(s.state, plan.count, 2, [op, count = plan.count](std::int64_t pivot, std::int64_t matrix) {
    detail::throw_singular(op, matrix, count, pivot);
  });
  if (held > 0) return plan.rhs;
  Tensor x = engine::empty(plan.rhs.shape(), plan.rhs.dtype(), device);
  solve_lu<T>(plan.matrices, s, n, plan.count, plan.rhs, x, k);
  return x;
}

// --- determinants -----------------------------------------------------------------------------------------------------------

template <class T>
struct DeterminantCall {
  const T* lu;
  const std::int64_t* state;
  std::int64_t n, count;
  T* det;      // or null
  T* sign;     // or null
  T* log_abs;  // or null
};

// One warp per matrix; the product is in the order of the pivots, as rounding and overflow of it depend on that.
template <class T>
__global__ void determinant_kernel(DeterminantCall<T> call) {
  const std::int64_t n = call.n;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    const bool singular = call.state[2 * m] >= 0;
    T product = singular ? T(0) : call.state[2 * m + 1] != 0 ? T(-1) : T(1);
    T sign = product;
    double sum = 0.0;
    for (std::int64_t i0 = 0; i0 < n && !singular; i0 += 32) {
      const std::int64_t i = i0 + threadIdx.x;
      const T pivot = i < n ? call.lu[(m * n + i) * n + i] : T(1);
      sum += std::log(std::fabs(static_cast<double>(pivot)));
      for (int lane = 0; lane < 32; ++lane) {
        const T u = __shfl_sync(kAllLanes, pivot, lane);
        product *= u;
        if (u < T(0)) sign = -sign;
      }
    }
    sum = warp_fold(sum, Plus{});
    const T logarithm = singular ? -std::numeric_limits<T>::infinity() : static_cast<T>(sum);
    if (threadIdx.x != 0) continue;
    if (call.det != nullptr) call.det[m] = product;
    if (call.sign != nullptr) call.sign[m] = logarithm == logarithm ? sign : logarithm;
    if (call.log_abs != nullptr) call.log_abs[m] = logarithm;
  }
}

// `logarithm`: {sign, log|det|}; else {det}.
TensorVec determinant_of(const Tensor& a, bool logarithm) {
  Shape lead = a.shape();
  lead.pop_back();
  lead.pop_back();
  const Device device = a.device();
  const std::int64_t n = a.shape().back();
  const std::int64_t count = lead.product();
  Tensor first = engine::empty(lead, a.dtype(), device);
  Tensor second = logarithm ? engine::empty(lead, a.dtype(), device) : Tensor();
  Tensor copy = engine::empty(a.shape(), a.dtype(), device);
  engine::copy_into(a, copy);
  dispatch_float(a.dtype(), "det", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (count == 0) return;
    const LuState s = factor_lu<T>(copy, n, count);
    DeterminantCall<T> call{};
    call.lu = engine::ptr<T>(copy);
    call.state = engine::ptr<std::int64_t>(s.state);
    call.n = n;
    call.count = count;
    (logarithm ? call.sign : call.det) = engine::mutable_ptr<T>(first);
    if (logarithm) call.log_abs = engine::mutable_ptr<T>(second);
    launch(over_blocks("det", count, device, 32), determinant_kernel<T>, call);
  });
  if (!logarithm) return first;
  return {std::move(first), std::move(second)};
}

}  // namespace

template <class T>
LuState factor_lu(Tensor& a, std::int64_t n, std::int64_t count) {
  const Device device = a.device();
  const bool fits = shared_matrix<T>(n) <= shared_limit(device);
  if (!fits && count <= library::kMostInTurn && library::takes(n, device)) return factor_by_library<T>(a, n, count);
  LuState s = lu_state(n, count, device);
  const LuCall<T> call = lu_call(engine::mutable_ptr<T>(a), n, count, s);
  if (!fits) {
    factor_blocked(call, device);
    return s;
  }
  Launch where = over_blocks("lu", count, device, threads_for(n * n / 4));
  where.shared_bytes = shared_matrix<T>(n);
  launch(where, lu_shared_kernel<T>, call);
  return s;
}

template <class T>
void solve_lu(const Tensor& lu, const LuState& state, std::int64_t n, std::int64_t count, const Tensor& b, Tensor& x,
              std::int64_t k) {
  const std::int64_t total = count * n * k;
  if (total == 0) return;
  if (state.pivots.defined()) return solve_by_library<T>(lu, state, n, count, b, x, k);
  const Device device = b.device();
  T* const to = engine::mutable_ptr<T>(x);
  launch(over_elements("lu", total, device), exchange_kernel<T>, engine::ptr<std::int64_t>(state.rows), n, k,
         engine::ptr<T>(b), to, total);
  substitute(engine::ptr<T>(lu), n, count, false, true, to, k, device);
  substitute(engine::ptr<T>(lu), n, count, true, false, to, k, device);
}

template LuState factor_lu<float>(Tensor&, std::int64_t, std::int64_t);
template LuState factor_lu<double>(Tensor&, std::int64_t, std::int64_t);
template void solve_lu<float>(const Tensor&, const LuState&, std::int64_t, std::int64_t, const Tensor&, Tensor&,
                              std::int64_t);
template void solve_lu<double>(const Tensor&, const LuState&, std::int64_t, std::int64_t, const Tensor&, Tensor&,
                               std::int64_t);

Tensor solve(const Tensor& a, const Tensor& b, const char* op) {
  if (b.numel() == 0) return engine::empty(b.shape(), b.dtype(), b.device());
  cpu::SystemPlan plan = cpu::plan_systems(a, b);
  Tensor x;
  dispatch_float(a.dtype(), op, [&](auto tag) { x = solve_typed<typename decltype(tag)::type>(plan, a.size(-1), op); });
  return engine::view(x, b.shape(), plan.result, 0);
}

TensorVec solve(std::span<Tensor> inputs, const Attrs*) { return solve(inputs[0], inputs[1]); }

TensorVec inverse(std::span<Tensor> inputs, const Attrs*) {
  const Tensor& a = inputs[0];
  const Tensor unit = eye(a.size(-1), {a.dtype(), a.device()});
  Strides strides = Dims::filled(a.rank(), 0);
  strides[a.rank() - 2] = unit.strides()[0];
  strides[a.rank() - 1] = unit.strides()[1];
  return solve(a, engine::view(unit, a.shape(), strides, unit.impl()->offset), "inverse");
}

TensorVec det(std::span<Tensor> inputs, const Attrs*) { return determinant_of(inputs[0], false); }
TensorVec slogdet(std::span<Tensor> inputs, const Attrs*) { return determinant_of(inputs[0], true); }

}  // namespace solvent::cuda
