#pragma once
/// Stable sorting of unsigned keys on a GPU: the engine of sort, permutation and scatter_add. Internal to ops/.

#include <cstdint>

#include "solvent/core/tensor.h"

namespace solvent::cuda {

/// `lines` lines of n keys each, one after the other, with room for a second set and for positions. K: std::uint32_t or
/// std::uint64_t; 0 < n < 2^32.
template <class K>
class KeyLines {
 public:
  KeyLines(std::int64_t lines, std::int64_t n, Device device);

  /// Where the caller's kernel writes the keys; after sort() the sorted keys.
  [[nodiscard]] K* keys() const noexcept { return keys_[current_]; }
  /// After sort(): the position in its line at which each sorted key stood.
  [[nodiscard]] const std::uint32_t* positions() const noexcept { return positions_[current_]; }
  /// Sorts every line by the lowest `bits` bits of its keys (the others must be 0 or need no order), equal keys in order of
  /// position. Work grows with bits: 8 are sorted per pass over memory.
  void sort(int bits);

 private:
  std::int64_t lines_, n_;
  Tensor memory_;
  K* keys_[2] = {};
  std::uint32_t* positions_[2] = {};
  std::uint32_t* counts_ = nullptr;  // (lines, digit, tile)
  std::uint32_t* totals_ = nullptr;  // (lines, digit)
  int current_ = 0;
};

extern template class KeyLines<std::uint32_t>;
extern template class KeyLines<std::uint64_t>;

}  // namespace solvent::cuda
