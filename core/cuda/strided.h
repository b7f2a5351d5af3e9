#pragma once
/// Reading several strided operands of one shape in kernels. For `.cu` files only.
///
/// Axes are merged on the host (engine::merge_axes); positions are split into axis indices by multiplication with
/// reciprocals where the tensor has less than 2^31 elements.

#include <cstdint>
#include <cstring>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/iterate.h"
#include "solvent/core/tensor.h"

namespace solvent::cuda {

/// Division of 31-bit numbers by a constant (Granlund & Montgomery 1994): q = (mulhi(n, m) + n) >> s.
struct Divider {
  std::uint32_t divisor = 1;
  std::uint32_t multiplier = 0;
  std::uint32_t shift = 0;

  Divider() = default;
  /// 1 <= d < 2^31
  explicit Divider(std::uint32_t d) : divisor(d) {
    while ((std::uint64_t{1} << shift) < d) ++shift;
    multiplier = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - d)) / d + 1);
  }
  /// n < 2^31
  __device__ std::uint32_t divide(std::uint32_t n) const { return (__umulhi(n, multiplier) + n) >> shift; }
};

/// Offsets of element i (row-major) of kOperands operands.
template <int kOperands>
struct StridedIndex {
  int rank = 0;
  bool small = true;  // fewer than 2^31 elements
  std::int64_t extent[kMaxRank] = {};
  Divider divider[kMaxRank];
  std::int64_t stride[kOperands][kMaxRank] = {};

  StridedIndex() = default;
  /// `strides[i]` points to operand i's strides for `shape`.
  StridedIndex(const Shape& shape, const Strides* const (&strides)[kOperands]) {
    const engine::Loops loops = engine::merge_axes(shape, strides, kOperands);
    rank = loops.rank;
    small = loops.total < (std::int64_t{1} << 31);
    for (int axis = 0; axis < rank; ++axis) {
      extent[axis] = loops.extent[axis];
      if (small && loops.total > 0) divider[axis] = Divider(static_cast<std::uint32_t>(loops.extent[axis]));
      for (int op = 0; op < kOperands; ++op) stride[op][axis] = loops.stride[op][axis];
    }
  }

  /// True if operand `op` is read in memory order without gaps.
  [[nodiscard]] bool is_dense(int op) const { return rank == 0 || (rank == 1 && stride[op][0] == 1); }

  /// offsets[op] = position of element i of operand op, in elements from its first one. No division where one axis is left
  /// after merging.
  __device__ void locate(std::int64_t i, std::int64_t (&offsets)[kOperands]) const {
    if (rank <= 1) {
      for (int op = 0; op < kOperands; ++op) offsets[op] = i * stride[op][0];  // without axes i is 0
      return;
    }
    for (int op = 0; op < kOperands; ++op) offsets[op] = 0;
    if (small) {
      auto rest = static_cast<std::uint32_t>(i);
      for (int axis = rank - 1; axis > 0; --axis) {
        const std::uint32_t quotient = divider[axis].divide(rest);
        const std::uint32_t index = rest - quotient * divider[axis].divisor;
        rest = quotient;
        for (int op = 0; op < kOperands; ++op) offsets[op] += static_cast<std::int64_t>(index) * stride[op][axis];
      }
      for (int op = 0; op < kOperands; ++op) offsets[op] += static_cast<std::int64_t>(rest) * stride[op][0];
      return;
    }
    SOLVENT_ROLLED
    for (int axis = rank - 1; axis >= 0; --axis) {
      const std::int64_t index = i % extent[axis];
      i /= extent[axis];
      for (int op = 0; op < kOperands; ++op) offsets[op] += index * stride[op][axis];
    }
  }
};

/// N values of T that are read and written at once (at most 16 bytes; the address must be a multiple of N * sizeof(T)).
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};
/// Writes `pack` to `to` at once. (An assignment may become a store per element, when nvcc folds it into address arithmetic.)
template <class T, int N>
__device__ void store_pack(Pack<T, N>* to, const Pack<T, N>& pack) {
#if SOLVENT_CUDA_EMULATED
  *to = pack;
#else
  if constexpr (sizeof(pack) == 16) {
    uint4 w;
    memcpy(&w, &pack, sizeof(w));
    asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w) : "memory");
  } else if constexpr (sizeof(pack) == 8) {
    uint2 w;
    memcpy(&w, &pack, sizeof(w));
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(w.x), "r"(w.y) : "memory");
  } else {
    *to = pack;
  }
#endif
}
/// Elements in 16 bytes.
template <class T>
inline constexpr int kPackSize = static_cast<int>(16 / sizeof(T));
/// True if packs may be read from `p`.
inline bool is_aligned(const void* p) noexcept { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

}  // namespace solvent::cuda
