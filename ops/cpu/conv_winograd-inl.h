// Tiles of maps and the transform B^T d B, for the Winograd convolutions. Included once per Highway target (no #pragma once).
//
// Lane = tile. The tiles of all images follow each other, row by row; a block of them is cut into runs, tiles of one row of
// one image. A run's columns are consecutive in memory, so that the tiles' first, second, ... columns are every other
// element: no transposes are needed. A run's last vector may reach beyond it: what it writes there is written again by the
// next run, or lies in the padding behind.

#if defined(SOLVENT_OPS_CPU_CONV_WINOGRAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_CONV_WINOGRAD_INL_H_
#undef SOLVENT_OPS_CPU_CONV_WINOGRAD_INL_H_
#else
#define SOLVENT_OPS_CPU_CONV_WINOGRAD_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "solvent/ops/cpu/conv_winograd.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using MapTag = hn::ScalableTag<float>;
inline constexpr std::size_t kMapLanes = hn::MaxLanes(MapTag());
/// Vectors of tiles in a block, and rows of a register tile: 24 sums in 32 registers, 12 in 16.
inline constexpr std::size_t kBlockVectors = 3;
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
inline constexpr std::size_t kSumRows = 8;
#else
inline constexpr std::size_t kSumRows = 4;
#endif
inline constexpr std::size_t kBlockTiles = kBlockVectors * kMapLanes;
/// Elements behind every plane of a block: whole vectors reach beyond the tiles, and the 16 planes fall into different sets
/// of the cache.
inline constexpr std::size_t kPlanePad = 16;

/// The tiles of one row of one image that a block holds.
struct Run {
  std::int64_t image;
  std::int64_t row;     // of tiles
  std::int64_t column;  // the first tile
  std::size_t count;
  std::size_t lane;  // in the block
};

/// A block of at most kBlockTiles tiles.
struct Block {
  Run runs[kBlockTiles];
  std::size_t num_runs = 0;
  std::size_t vectors = 0;

  Block(const WinogradMaps& m, std::int64_t first, std::int64_t count) {
    vectors = (static_cast<std::size_t>(count) + kMapLanes - 1) / kMapLanes;
    const std::int64_t end = first + count;
    for (std::int64_t tile = first; tile < end;) {
      const std::int64_t column = tile % m.tiles_w;
      const std::int64_t row = tile / m.tiles_w;
      const std::int64_t length = std::min(m.tiles_w - column, end - tile);
      runs[num_runs++] = {row / m.tiles_h, row % m.tiles_h, column, static_cast<std::size_t>(length),
                          static_cast<std::size_t>(tile - first)};
      tile += length;
    }
  }
  [[nodiscard]] std::size_t width() const noexcept { return vectors * kMapLanes; }
};

/// Four rows of a run, after the vertical half of the transform; a whole vector may be read behind the last column.
struct Slab {
  static constexpr std::size_t kWidth = 2 * kBlockTiles + 16 + 2 * kMapLanes;  // whole lines
  alignas(64) float rows[4][kWidth];
};

/// Calls step(D, k) for vectors that cover [0, count): of the widest D with at most `count` lanes, the last one overlapping
/// the one before it.
template <class Step>
HWY_INLINE void for_columns(std::size_t count, Step&& step) {
  const auto cover = [&](auto d) HWY_ATTR {
    constexpr std::size_t N = hn::MaxLanes(d);
    if (count < N) return false;
    for (std::size_t k = 0; k + N <= count; k += N) step(d, k);
    if (count % N != 0) step(d, count - N);
    return true;
  };
  cover(MapTag()) || cover(hn::CappedTag<float, 8>()) || cover(hn::CappedTag<float, 4>()) ||
      cover(hn::CappedTag<float, 1>());
}

/// slab.rows[i][begin + k] = (B^T d)_i of column k < count of four rows.
HWY_INLINE void vertical_columns(const float* const* from, std::size_t count, std::size_t begin, Slab& slab) {
  for_columns(count, [&](auto d, std::size_t k) HWY_ATTR {
    const auto d0 = hn::LoadU(d, from[0] + k);
    const auto d1 = hn::LoadU(d, from[1] + k);
    const auto d2 = hn::LoadU(d, from[2] + k);
    const auto d3 = hn::LoadU(d, from[3] + k);
    hn::StoreU(hn::Sub(d0, d2), d, slab.rows[0] + begin + k);
    hn::StoreU(hn::Add(d1, d2), d, slab.rows[1] + begin + k);
    hn::StoreU(hn::Sub(d2, d1), d, slab.rows[2] + begin + k);
    hn::StoreU(hn::Sub(d1, d3), d, slab.rows[3] + begin + k);
  });
}

/// The vertical half of B^T d B for one run of one map; zeros outside the map.
HWY_INLINE void vertical_half(const WinogradMaps& m, const Run& run, const float* map, const float* zeros, Slab& slab) {
  const std::int64_t top = 2 * run.row - m.before_h;
  const std::int64_t left = 2 * run.column - m.before_w;
  const std::int64_t all = 2 * static_cast<std::int64_t>(run.count) + 2;
  const std::int64_t begin = std::clamp<std::int64_t>(-left, 0, all);
  const std::int64_t end = std::clamp<std::int64_t>(m.width - left, begin, all);
  const float* from[4];
  for (std::int64_t i = 0; i < 4; ++i) {
    const bool inside = top + i >= 0 && top + i < m.height && end > begin;
    from[i] = inside ? map + (top + i) * m.width + left + begin : zeros;
  }
  const auto first = static_cast<std::size_t>(begin);
  const auto count = static_cast<std::size_t>(end - begin);
  vertical_columns(from, count, first, slab);
  for (auto& row : slab.rows) {
    for (std::size_t j = 0; j < first; ++j) row[j] = 0;
    for (std::size_t j = first + count; j < static_cast<std::size_t>(all); ++j) row[j] = 0;
  }
}

/// Every other element of two vectors.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void split_columns([[maybe_unused]] D d, V low, V high, V& even, V& odd) {
#if HWY_TARGET == HWY_SCALAR
  even = low;
  odd = high;
#else
  even = hn::ConcatEven(d, high, low);
  odd = hn::ConcatOdd(d, high, low);
#endif
}

/// The horizontal half for one vector of tiles: planes [i * 4 + j] at distance `plane`.
template <class D>
HWY_INLINE void horizontal_half(D d, const Slab& slab, std::size_t tile, float* HWY_RESTRICT to, std::size_t plane) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = hn::MaxLanes(D());
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < 4; ++i) {
    const float* row = slab.rows[i] + 2 * tile;
    V d0, d1, d2, d3;
    split_columns(d, hn::LoadU(d, row), hn::LoadU(d, row + N), d0, d1);
    split_columns(d, hn::LoadU(d, row + 2), hn::LoadU(d, row + 2 + N), d2, d3);
    float* out = to + 4 * i * plane;
    hn::StoreU(hn::Sub(d0, d2), d, out);
    hn::StoreU(hn::Add(d1, d2), d, out + plane);
    hn::StoreU(hn::Sub(d2, d1), d, out + 2 * plane);
    hn::StoreU(hn::Sub(d1, d3), d, out + 3 * plane);
  }
}

/// Both halves of a transform for all channels and runs of a block: vertical(channel, run, slab), then horizontal(D, slab,
/// tile, to) for the vectors of the run. Vectors of columns are read from the slab at other places than they were written,
/// which is slow right after writing: the vertical half runs ahead. Rows of `to` follow each other at distance `width`;
/// tiles that do not exist become 0 in all planes.
template <class Vertical, class Horizontal>
HWY_INLINE void transform_block(const Block& block, std::size_t channels, float* HWY_RESTRICT to, std::size_t plane,
                                std::size_t width, Vertical&& vertical, Horizontal&& horizontal) {
  constexpr std::size_t kAhead = 3;
  Slab slabs[kAhead + 1];
  const auto across = [&](auto d, const Slab& slab, std::size_t count, float* out) HWY_ATTR {
    for (std::size_t tile = 0; tile < count; tile += hn::MaxLanes(d)) horizontal(d, slab, tile, out + tile);
  };
  const Run& last = block.runs[block.num_runs - 1];
  const std::size_t used = last.lane + last.count;
  const std::size_t total = channels * block.num_runs;
  std::size_t next_channel = 0, next_run = 0, channel = 0, run_index = 0;
  for (std::size_t i = 0; i < total + kAhead; ++i) {
    if (i < total) {
      vertical(next_channel, block.runs[next_run], slabs[i % (kAhead + 1)]);
      if (++next_run == block.num_runs) next_run = 0, ++next_channel;
    }
    if (i < kAhead) continue;
    const Slab& slab = slabs[(i - kAhead) % (kAhead + 1)];
    const Run& run = block.runs[run_index];
    float* out = to + channel * width + run.lane;
    if (run.count > 8)
      across(MapTag(), slab, run.count, out);
    else if (run.count > 4)
      across(hn::CappedTag<float, 8>(), slab, run.count, out);
    else
      across(hn::CappedTag<float, 4>(), slab, run.count, out);
    if (++run_index < block.num_runs) continue;
    for (std::size_t p = 0; p < 16 && used < width; ++p)
      std::fill(to + p * plane + channel * width + used, to + p * plane + (channel + 1) * width, 0.0f);
    run_index = 0, ++channel;
  }
}

/// V = B^T d B of channels [first, first + channels): planes [16], each (channels, block.width()), at distance `plane`.
HWY_INLINE void transform_maps(const WinogradMaps& m, const Block& block, std::int64_t first, std::int64_t channels,
                               float* HWY_RESTRICT to, std::size_t plane) {
  alignas(64) static constexpr float kZeros[2 * kBlockTiles + 2] = {};
  transform_block(
      block, static_cast<std::size_t>(channels), to, plane, block.width(),
      [&](std::size_t c, const Run& run, Slab& slab) HWY_ATTR {
        const std::int64_t channel = run.image * m.channels + first + static_cast<std::int64_t>(c);
        vertical_half(m, run, m.data + channel * m.height * m.width, kZeros, slab);
      },
      [&](auto d, const Slab& slab, std::size_t tile, float* out)
          HWY_ATTR { horizontal_half(d, slab, tile, out, plane); });
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
