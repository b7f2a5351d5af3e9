// Triangular systems on GPUs, and the search for failed matrices.
//
// A block solves up to 32 columns of one right-hand side: they stay in shared memory while the triangle passes through it
// in panels of 32 columns, each element read once and coalesced. One barrier per column of the triangle: bound by latency,
// so systems of more than kBlockRows rows are cut into blocks of rows, and all that is off the diagonal blocks is done by
// matrix products. Deterministic: each element is reduced in the order of the triangle's columns, cut by sizes only.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "solvent/core/cuda/blas.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/system_plan.h"
#include "solvent/ops/cuda/factor.h"
#include "solvent/ops/cuda/matrix_block.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cuda {
namespace {

constexpr std::int64_t kBlockRows = 256;
constexpr std::int64_t kPanel = 32;
constexpr std::int64_t kPanelLd = kPanel + 1;
constexpr std::int64_t kColumns = 32;

template <class T>
struct SubstituteCall {
  const T* a;
  T* x;
  std::int64_t n;               // rows of the system
  std::int64_t ld;              // of a
  std::int64_t k;               // columns of x, its leading dimension
  std::int64_t a_step, x_step;  // between matrices
  std::int64_t count;
  std::int64_t tiles;    // of columns
  std::int64_t columns;  // of a tile
  bool upper, unit;
};

// Columns [j0, j1) of the triangle, for the rows [first, last) that they touch.
template <class T>
__device__ void load_panel(const SubstituteCall<T>& call, const T* a, std::int64_t j0, std::int64_t j1, T* panel) {
  const std::int64_t first = call.upper ? 0 : j0;
  const std::int64_t last = call.upper ? j1 : call.n;
  const std::int64_t col = threadIdx.x % kPanel;
  if (j0 + col >= j1) return;
  for (std::int64_t i = first + threadIdx.x / kPanel; i < last; i += blockDim.x / kPanel)
    panel[i * kPanelLd + col] = a[i * call.ld + j0 + col];
}

template <class T>
__device__ void eliminate_panel(const SubstituteCall<T>& call, const T* panel, std::int64_t j0, std::int64_t j1, T* x,
                                std::int64_t width, std::int64_t held, T* out) {
  const std::int64_t c = threadIdx.x % call.columns;
  const std::int64_t r = threadIdx.x / call.columns;
  const std::int64_t step = blockDim.x / call.columns;
  const bool active = r < step && c < width;
  for (std::int64_t s = 0; s < j1 - j0; ++s) {
    const std::int64_t j = call.upper ? j1 - 1 - s : j0 + s;
    __syncthreads();
    if (!active) continue;
    T value = x[j * held + c];
    if (!call.unit) value /= panel[j * kPanelLd + j - j0];
    if (r == 0) out[j * call.k + c] = value;
    const std::int64_t last = call.upper ? j : call.n;
    for (std::int64_t i = (call.upper ? 0 : j + 1) + r; i < last; i += step)
      x[i * held + c] -= panel[i * kPanelLd + j - j0] * value;
  }
}

template <class T>
__global__ void substitute_kernel(SubstituteCall<T> call) {
  T* const panel = dynamic_shared<T>();
  T* const x = panel + call.n * kPanelLd;
  const std::int64_t held = call.columns;
  for (std::int64_t item = blockIdx.x; item < call.count * call.tiles; item += gridDim.x) {
    const std::int64_t matrix = item / call.tiles;
    const std::int64_t c0 = (item - matrix * call.tiles) * call.columns;
    const std::int64_t width = std::min(call.columns, call.k - c0);
    const T* const a = call.a + matrix * call.a_step;
    T* const out = call.x + matrix * call.x_step + c0;
    __syncthreads();  // the memory may still be read
    for (std::int64_t e = threadIdx.x; e < call.n * held; e += blockDim.x) {
      const std::int64_t i = e / held;
      if (e - i * held < width) x[e] = out[i * call.k + e - i * held];
    }
    const std::int64_t panels = (call.n + kPanel - 1) / kPanel;
    for (std::int64_t p = 0; p < panels; ++p) {
      const std::int64_t j0 = (call.upper ? panels - 1 - p : p) * kPanel;
      const std::int64_t j1 = std::min(j0 + kPanel, call.n);
      __syncthreads();
      load_panel(call, a, j0, j1, panel);
      eliminate_panel(call, panel, j0, j1, x, width, held, out);
    }
  }
}

// One diagonal block of all systems.
template <class T>
void substitute_block(const T* a, std::int64_t n, std::int64_t ld, std::int64_t a_step, std::int64_t count, bool upper,
                      bool unit, T* x, std::int64_t k, std::int64_t x_step, Device device) {
  SubstituteCall<T> call{};
  call.a = a;
  call.x = x;
  call.n = n;
  call.ld = ld;
  call.k = k;
  call.a_step = a_step;
  call.x_step = x_step;
  call.count = count;
  call.columns = std::min(k, kColumns);
  call.tiles = (k + call.columns - 1) / call.columns;
  call.upper = upper;
  call.unit = unit;
  Launch where = over_blocks("triangular_solve", count * call.tiles, device,
                             threads_for(std::max(n * call.columns / 2, call.columns)));
  where.shared_bytes = static_cast<std::size_t>(n * (kPanelLd + call.columns)) * sizeof(T);
  launch(where, substitute_kernel<T>, call);
}

// The first zero on the diagonal of each matrix, or -1.
template <class T>
__global__ void zero_diagonal_kernel(const T* a, std::int64_t n, std::int64_t count, std::int64_t* state) {
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t m = blockIdx.x; m < count; m += gridDim.x) {
    std::int64_t first = kNone;
    for (std::int64_t i = threadIdx.x; i < n && first == kNone; i += blockDim.x)
      if (a[(m * n + i) * n + i] == T(0)) first = i;
    first = warp_fold(first, Smallest{});
    if (threadIdx.x == 0) state[m] = first == kNone ? -1 : first;
  }
}

__global__ void first_failure_kernel(const std::int64_t* state, std::int64_t count, std::int64_t stride,
                                     std::int64_t* result) {
  std::int64_t first = count;
  for (std::int64_t i = threadIdx.x; i < count && first == count; i += blockDim.x)
    if (state[i * stride] != -1) first = i;
  first = block_fold(first, count, Smallest{});
  if (threadIdx.x != 0) return;
  result[0] = first < count ? first : -1;
  result[1] = first < count ? state[first * stride] : -1;
}

// What the kernel above found becomes the recording's report, unless there is one. One thread.
__global__ void report_failure_kernel(const std::int64_t* found, std::int64_t number, std::int64_t* report) {
  if (found[0] < 0 || report[0] >= 0) return;
  report[0] = number;
  report[1] = found[0];
  report[2] = found[1];
}

// {matrix, state} on the device.
Tensor first_failure(const Tensor& state, std::int64_t count, std::int64_t stride) {
  Tensor result = engine::empty({2}, DType::int64, state.device());
  launch(over_blocks("check of matrices", 1, state.device()), first_failure_kernel, engine::ptr<std::int64_t>(state),
         count, stride, engine::mutable_ptr<std::int64_t>(result));
  return result;
}

}  // namespace

void check_states(const Tensor& state, std::int64_t count, std::int64_t stride, Raise raise) {
  const Device device = state.device();
  const Tensor found = first_failure(state, count, stride);
  if (is_recording(current_stream(device))) {
    add_check(device, std::move(raise), [&](const Report& report) {
      Launch once = over_elements("check of matrices", 1, device);
      once.block = dim3(1);
      launch(once, report_failure_kernel, engine::ptr<std::int64_t>(found), report.number, report.first);
    });
    return;
  }
  std::int64_t on_host[2];
  copy_to_host(on_host, engine::ptr<std::int64_t>(found), sizeof(on_host), device);
  if (on_host[0] >= 0) raise(on_host[1], on_host[0]);
}

bool has_state(const Tensor& state, std::int64_t count) {
  const Device device = state.device();
  if (is_recording(current_stream(device)))
    throw DeviceError(
        "[graph] the recorded function repeats work until it has converged (eigh or svd of a large matrix), for which "
        "the "
        "host must wait; run it without recording.");
  const Tensor found = first_failure(state, count, 1);
  std::int64_t matrix = -1;
  copy_to_host(&matrix, engine::ptr<std::int64_t>(found), sizeof(matrix), device);
  return matrix >= 0;
}

template <class T>
void substitute(const T* a, std::int64_t n, std::int64_t count, bool upper, bool unit, T* x, std::int64_t k,
                Device device) {
  const std::int64_t blocks = (n + kBlockRows - 1) / kBlockRows;
  for (std::int64_t step = 0; step < blocks; ++step) {
    const std::int64_t i0 = (upper ? blocks - 1 - step : step) * kBlockRows;
    const std::int64_t rows = std::min(kBlockRows, n - i0);
    substitute_block(a + i0 * n + i0, rows, n, n * n, count, upper, unit, x + i0 * k, k, n * k, device);
    // The solved rows leave the others: those below, or with an upper triangle those above.
    const std::int64_t first = upper ? 0 : i0 + rows;
    const std::int64_t rest = upper ? i0 : n - first;
    if (rest == 0) break;
    Gemm<T> call{.m = rest, .n = k, .k = rows};
    call.alpha = T(-1);
    call.a = a + first * n + i0;
    call.lda = n;
    call.b = x + i0 * k;
    call.ldb = k;
    call.beta = T(1);
    call.c = x + first * k;
    call.ldc = k;
    call.batch = count;
    call.stride_a = n * n;
    call.stride_b = n * k;
    call.stride_c = n * k;
    gemm(call, device);
  }
}

template void substitute<float>(const float*, std::int64_t, std::int64_t, bool, bool, float*, std::int64_t, Device);
template void substitute<double>(const double*, std::int64_t, std::int64_t, bool, bool, double*, std::int64_t, Device);

Tensor triangular_solve(const Tensor& a, const Tensor& b, bool upper, bool unit) {
  if (b.numel() == 0) return engine::empty(b.shape(), b.dtype(), b.device());
  cpu::SystemPlan plan = cpu::plan_systems(a, b);
  const std::int64_t n = a.size(-1);
  const Device device = a.device();
  dispatch_float(a.dtype(), "triangular_solve", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* const matrices = engine::ptr<T>(plan.matrices);
    if (!unit) {
      Tensor state = engine::empty({plan.count}, DType::int64, device);
      launch(over_blocks("triangular_solve", plan.count, device, 32), zero_diagonal_kernel<T>, matrices, n, plan.count,
             engine::mutable_ptr<std::int64_t>(state));
      check_states(state, plan.count, 1, [count = plan.count](std::int64_t pivot, std::int64_t matrix) {
        detail::throw_zero_diagonal(matrix, count, pivot);
      });
    }
    substitute(matrices, n, plan.count, upper, unit, engine::mutable_ptr<T>(plan.rhs), plan.columns, device);
  });
  return engine::view(plan.rhs, b.shape(), plan.result, 0);
}

}  // namespace solvent::cuda
