#pragma once
/// Strided operands as contiguous runs. Internal to ops/cpu.
///
/// Vector kernels exist for contiguous data only. A strided operand (permuted, sliced, broadcast, flipped) is read block
/// by block: where its memory is already contiguous the kernel gets a pointer into it, elsewhere the block is packed into
/// a small buffer on the stack first. So strided and contiguous inputs go through the same kernel and give the same bits.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "solvent/core/engine/iterate.h"
#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// Elements per thread block (about 20 us of a cheap function) and per packed block (stays in the first-level cache).
inline constexpr std::int64_t kGrain = 32768;
inline constexpr std::int64_t kBlock = 1024;

/// Reads a tensor in row-major order of its shape.
class BlockReader {
 public:
  explicit BlockReader(const Tensor& t) noexcept {
    const Strides* strides[] = {&t.strides()};
    loops_ = engine::merge_axes(t.shape(), strides, 1);
    contiguous_ = loops_.rank == 0 || (loops_.rank == 1 && loops_.stride[0][0] == 1);
  }

  [[nodiscard]] bool contiguous() const noexcept { return contiguous_; }

  /// Elements [first, first + count) as one run: a pointer into `base` (the tensor's first element) or, packed, `buffer`.
  template <class T>
  const T* read(const T* base, std::int64_t first, std::int64_t count, T* buffer) const noexcept {
    if (contiguous_) return base + first;
    const std::int64_t n = loops_.inner();
    const std::int64_t stride = loops_.inner_stride(0);
    std::int64_t index[kMaxRank];
    std::int64_t column = first % n;
    const T* row = base + locate(first / n, index);
    if (stride == 1 && column + count <= n) return row + column;
    for (std::int64_t done = 0;;) {
      const std::int64_t m = std::min(n - column, count - done);
      copy_run(row + column * stride, stride, m, buffer + done);
      done += m;
      if (done == count) return buffer;
      column = 0;
      row += advance(index);
    }
  }

 private:
  template <class T>
  static void copy_run(const T* src, std::int64_t stride, std::int64_t m, T* dst) noexcept {
    if (stride == 1) {
      std::memcpy(dst, src, static_cast<std::size_t>(m) * sizeof(T));
    } else if (stride == 0) {
      std::fill_n(dst, m, *src);
    } else {
      for (std::int64_t i = 0; i < m; ++i) dst[i] = src[i * stride];
    }
  }

  // Offset of run `run`; its multi-index over the outer axes goes to `index`.
  std::int64_t locate(std::int64_t run, std::int64_t* index) const noexcept {
    std::int64_t offset = 0;
    for (int axis = loops_.rank - 2; axis >= 0; --axis) {
      index[axis] = run % loops_.extent[axis];
      run /= loops_.extent[axis];
      offset += index[axis] * loops_.stride[0][axis];
    }
    return offset;
  }

  // Steps to the next run; returns the change of the offset.
  std::int64_t advance(std::int64_t* index) const noexcept {
    std::int64_t change = 0;
    for (int axis = loops_.rank - 2; axis >= 0; --axis) {
      const std::int64_t stride = loops_.stride[0][axis];
      if (++index[axis] < loops_.extent[axis]) return change + stride;
      change -= (loops_.extent[axis] - 1) * stride;
      index[axis] = 0;
    }
    return change;
  }

  engine::Loops loops_;
  bool contiguous_ = true;
};

}  // namespace solvent::cpu
