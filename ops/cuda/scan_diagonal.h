#pragma once
/// Kernels of affine_scan for diagonal matrices, whose chains do not meet. Internal to ops/cuda.

#include <cstdint>

#include "solvent/core/device.h"

namespace solvent::cuda {

/// Elements from one step, chain and right-hand side to the next.
struct DiagonalStrides {
  std::int64_t time = 0, chain = 0, lead = 0;
};

/// h_s = a_s h_{s-1} + b_s for `chains` numbers; s counts in the direction of the scan, see cpu::ScanShape.
template <class T>
struct DiagonalCall {
  const T* a = nullptr;
  const T* b = nullptr;   ///< may be h
  const T* h0 = nullptr;  ///< (lead, chains), dense; null: zeros
  T* h = nullptr;
  DiagonalStrides of_a, of_b, of_h;
  std::int64_t steps = 0, chains = 0, lead = 1;
  bool reversed = false, shift_a = false;
};

/// True if walk_scan has enough chains to keep a device busy.
[[nodiscard]] inline bool are_many(std::int64_t chains, std::int64_t lead) {
  return lead * ((chains + 31) / 32) >= 128;
}

/// Every chain as the plain recurrence, bit by bit; one read and one write. Fast where either the steps or the chains of each
/// operand lie side by side.
template <class T>
void walk_scan(const DiagonalCall<T>& call, Device device);

/// One chain whose steps lie side by side in all operands: one read and one write. Differs from the plain recurrence by
/// rounding; the order of operations depends on sizes only.
template <class T>
void chain_scan(const DiagonalCall<T>& call, Device device);

}  // namespace solvent::cuda
