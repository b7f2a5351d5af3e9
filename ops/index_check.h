#pragma once
/// Checks of index values, on the CPU and on GPUs. Internal to ops/.

#include <cstdint>
#include <functional>

#include "solvent/core/tensor.h"
#include "solvent/ops/cpu/index_kernels.h"

namespace solvent::detail {

/// For tensors on GPUs; index.cpp defines it in builds with CUDA. With `make_safe` as checked_index, else as check_index.
Tensor checked_on_gpu(const Tensor& index, std::int64_t size, bool make_safe,
                      std::function<void(std::int64_t value, std::int64_t position)> raise);

/// Calls `raise(value, position)`, which throws ValueError, for the first element of `index` (int64, plain) outside of
/// [0, size); positions count row-major. For a GPU that happens later, at the thread's next call that waits for it
/// (core/stream.h), and the result is a copy of the index with 0 in place of such elements; on the CPU it is `index`.
template <class Raise>
Tensor checked_index(const Tensor& index, std::int64_t size, const Raise& raise) {
#if SOLVENT_WITH_CUDA
  if (index.device().type == DeviceType::cuda) return checked_on_gpu(index, size, true, raise);
#endif
  const cpu::BadIndex bad = cpu::find_bad_index(index, size);
  if (bad.position >= 0) raise(bad.value, bad.position);
  return index;
}

/// The same for kernels that do without the copy, since they stand any value.
template <class Raise>
void check_index(const Tensor& index, std::int64_t size, const Raise& raise) {
#if SOLVENT_WITH_CUDA
  if (index.device().type == DeviceType::cuda) {
    (void)checked_on_gpu(index, size, false, raise);
    return;
  }
#endif
  const cpu::BadIndex bad = cpu::find_bad_index(index, size);
  if (bad.position >= 0) raise(bad.value, bad.position);
}

}  // namespace solvent::detail
