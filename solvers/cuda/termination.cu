// Largest residuals per item. Bound by memory: one pass over r and y. A block takes one item and a slice of the outer
// indices; a second kernel joins the slices. Maxima have no rounding, so their order is of no account.

#include "solvent/solvers/cuda/termination.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"

namespace solvent::solvers::cuda {
namespace {

using namespace solvent::cuda;

struct Larger {
  __device__ double operator()(double a, double b) const { return a > b ? a : b; }
};

struct NormCall {
  std::int64_t outer, items, inner, slices;
  double atol, rtol;
  double infinity;
};

// norms[slice, item] = ratio, norms[slices + slice, item] = residual. What is not finite counts as infinity.
template <class T>
__global__ void norms_kernel(const T* r, const T* y, NormCall call, double* norms) {
  const double infinity = call.infinity;
  const std::int64_t per_slice = (call.outer + call.slices - 1) / call.slices;
  for (std::int64_t b = blockIdx.x; b < call.slices * call.items; b += gridDim.x) {
    const std::int64_t item = b % call.items;
    const std::int64_t slice = b / call.items;
    const std::int64_t begin = slice * per_slice;
    const std::int64_t end = begin + per_slice < call.outer ? begin + per_slice : call.outer;
    const std::int64_t count = end > begin ? (end - begin) * call.inner : 0;
    double ratio = 0;
    double residual = 0;
    for (std::int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      const std::int64_t at = ((begin + k / call.inner) * call.items + item) * call.inner + k % call.inner;
      const double size = std::fabs(static_cast<double>(r[at]));
      const double of_y = std::fabs(static_cast<double>(y[at]));
      const double q = size / (call.atol + call.rtol * of_y);
      // An infinite state would pass the relative test, so it counts as not finite, like NaN (which fails `<`).
      ratio = Larger{}(ratio, q < infinity && of_y < infinity ? q : infinity);
      residual = Larger{}(residual, size < infinity ? size : infinity);
    }
    ratio = block_fold(ratio, 0.0, Larger{});
    residual = block_fold(residual, 0.0, Larger{});
    if (threadIdx.x == 0) {
      norms[slice * call.items + item] = ratio;
      norms[(call.slices + slice) * call.items + item] = residual;
    }
  }
}

// result[0, item] and result[1, item]: over the slices.
__global__ void join_kernel(const double* norms, std::int64_t items, std::int64_t slices, double* result) {
  for (std::int64_t i = global_thread(); i < 2 * items; i += grid_threads()) {
    const double* const column = norms + i / items * slices * items + i % items;
    double largest = 0;
    for (std::int64_t s = 0; s < slices; ++s) largest = Larger{}(largest, column[s * items]);
    result[i] = largest;
  }
}

}  // namespace

void item_norms(const Tensor& r, const Tensor& y, std::int64_t outer, std::int64_t items, std::int64_t inner,
                double atol, double rtol, std::vector<double>& ratio, std::vector<double>& residual) {
  const Device device = r.device();
  const auto count = static_cast<std::size_t>(items);
  ratio.assign(count, 0.0);
  residual.assign(count, 0.0);
  if (items == 0 || outer * inner == 0) return;
  constexpr std::int64_t kBlocks = 1024;         // enough for any GPU
  constexpr std::int64_t kSliceElements = 2048;  // at least, per block
  const std::int64_t most = (outer * inner + kSliceElements - 1) / kSliceElements;
  const std::int64_t slices = std::clamp<std::int64_t>(kBlocks / items, 1, std::min(most, outer));
  const NormCall call{outer, items, inner, slices, atol, rtol, std::numeric_limits<double>::infinity()};
  Tensor partial = engine::empty({2 * call.slices, items}, DType::float64, device);
  Tensor joined = engine::empty({2, items}, DType::float64, device);
  double* const norms = engine::mutable_ptr<double>(partial);
  double* const result = engine::mutable_ptr<double>(joined);
  const std::int64_t per_block = (outer + call.slices - 1) / call.slices * inner;
  const auto threads = static_cast<unsigned>(std::clamp<std::int64_t>((per_block + 31) / 32 * 32, 32, kThreads));
  dispatch_float(r.dtype(), "solve", [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over_blocks("solve", call.slices * items, device, threads), norms_kernel<T>, engine::ptr<T>(r),
           engine::ptr<T>(y), call, norms);
  });
  launch(over_elements("solve", 2 * items, device), join_kernel, norms, items, call.slices, result);
  std::vector<double> both(2 * count);
  copy_to_host(both.data(), result, both.size() * sizeof(double), device);
  std::copy_n(both.begin(), count, ratio.begin());
  std::copy_n(both.begin() + items, count, residual.begin());
}

}  // namespace solvent::solvers::cuda
