// Strided copies. Memory traffic: every source byte is read once and every destination byte written once; large
// transposes write whole cache lines with non-temporal stores, as memcpy does, so lines are not read before writing.
//
// Decomposition: axes are sorted by destination stride and merged, the copy is cut into items (pieces of runs, or tiles
// of a transpose) and the items are split over threads. Items are disjoint in the destination: the result does not
// depend on their order.
#include "solvent/core/engine/strided_copy.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "solvent/core/parallel.h"

namespace solvent::engine {
namespace {

// 128-bit vectors, which every target has, are enough for what memory delivers: no run-time dispatch here.
using Bytes16 = std::uint8_t __attribute__((vector_size(16)));
using Words4 = std::uint32_t __attribute__((vector_size(16)));
using Words2 = std::uint64_t __attribute__((vector_size(16)));
using Halves4 = std::uint16_t __attribute__((vector_size(8)));

template <class V>
inline V load(const void* p) noexcept {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
inline void store(void* p, V v) noexcept {
  std::memcpy(p, &v, sizeof v);
}

constexpr std::int64_t kGrainBytes = std::int64_t{256} << 10;
constexpr std::int64_t kStreamBytes = std::int64_t{32} << 20;  // outputs that do not stay in the cache anyway

struct Axis {
  std::int64_t extent;
  std::int64_t dst;
  std::int64_t src;
};

struct Axes {
  int rank = 0;
  Axis axis[kMaxRank];

  [[nodiscard]] const Axis& inner() const noexcept { return axis[rank - 1]; }
  void erase(int i) noexcept {
    std::copy(axis + i + 1, axis + rank, axis + i);
    --rank;
  }
  [[nodiscard]] std::int64_t total() const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= axis[i].extent;
    return n;
  }
};

// Axes of more than one element, largest destination stride first, neighbours merged where both sides allow it.
Axes sorted_axes(const Shape& shape, const Strides& src, const Strides& dst) noexcept {
  Axes sorted;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == 1) continue;
    int j = sorted.rank++;
    for (; j > 0 && std::abs(sorted.axis[j - 1].dst) < std::abs(dst[i]); --j) sorted.axis[j] = sorted.axis[j - 1];
    sorted.axis[j] = {shape[i], dst[i], src[i]};
  }
  Axes merged;
  for (int i = 0; i < sorted.rank; ++i) {
    const Axis& a = sorted.axis[i];
    if (merged.rank > 0) {
      Axis& outer = merged.axis[merged.rank - 1];
      if (outer.dst == a.dst * a.extent && outer.src == a.src * a.extent) {
        outer = {outer.extent * a.extent, a.dst, a.src};
        continue;
      }
    }
    merged.axis[merged.rank++] = a;
  }
  return merged;
}

// Walks the offsets of consecutive indices of `axes`, last axis fastest.
class Odometer {
 public:
  Odometer(const Axes& axes, std::int64_t index) noexcept : axes_(axes) {
    for (int i = axes.rank - 1; i >= 0; --i) {
      position_[i] = index % axes.axis[i].extent;
      index /= axes.axis[i].extent;
      dst += position_[i] * axes.axis[i].dst;
      src += position_[i] * axes.axis[i].src;
    }
  }
  void next() noexcept {
    for (int i = axes_.rank - 1; i >= 0; --i) {
      const Axis& a = axes_.axis[i];
      dst += a.dst;
      src += a.src;
      if (++position_[i] < a.extent) return;
      dst -= a.dst * a.extent;
      src -= a.src * a.extent;
      position_[i] = 0;
    }
  }

  std::int64_t dst = 0;
  std::int64_t src = 0;

 private:
  const Axes& axes_;
  std::int64_t position_[kMaxRank];
};

// --- runs -----------------------------------------------------------------------------------------------------------

// Short runs are common (rows of 8 to 64 values): no call to memcpy for them.
inline void copy_run(std::byte* dst, const std::byte* src, std::size_t bytes) noexcept {
  if (bytes < 16 || bytes > 512) {
    std::memcpy(dst, src, bytes);
    return;
  }
  for (std::size_t i = 0; i + 16 <= bytes; i += 16) store(dst + i, load<Bytes16>(src + i));
  store(dst + bytes - 16, load<Bytes16>(src + bytes - 16));  // overlaps what has been copied
}

template <class T>
void copy_runs(Axes outer, const Axis& inner, const T* src, T* dst) noexcept {
  // Long runs are cut, so that two huge rows are enough work for any number of threads.
  constexpr std::int64_t kPiece = kGrainBytes / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t pieces = (inner.extent + kPiece - 1) / kPiece;
  const std::int64_t length = std::min(inner.extent, kPiece);
  const std::int64_t grain = std::max<std::int64_t>(1, kPiece / length);
  parallel_for(outer.total() * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    Odometer run(outer, begin / pieces);
    std::int64_t piece = begin % pieces;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = piece * kPiece;
      const std::int64_t n = std::min(kPiece, inner.extent - first);
      copy_run(reinterpret_cast<std::byte*>(dst + run.dst + first),
               reinterpret_cast<const std::byte*>(src + run.src + first), static_cast<std::size_t>(n) * sizeof(T));
      if (++piece == pieces) {
        piece = 0;
        run.next();
      }
    }
  });
}

// Any strides along the inner axis; `src` stride 0 repeats a value.
template <class T>
void copy_strided(Axes outer, const Axis& inner, const T* src, T* dst) noexcept {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrainBytes / static_cast<std::int64_t>(sizeof(T)) / inner.extent);
  parallel_for(outer.total(), grain, [&](std::int64_t begin, std::int64_t end) {
    Odometer run(outer, begin);
    for (std::int64_t i = begin; i < end; ++i, run.next()) {
      const T* from = src + run.src;
      T* to = dst + run.dst;
      if (inner.src == 0 && inner.dst == 1) {
        std::fill(to, to + inner.extent, *from);
      } else if (inner.dst == 1) {
        for (std::int64_t k = 0; k < inner.extent; ++k) to[k] = from[k * inner.src];
      } else {
        for (std::int64_t k = 0; k < inner.extent; ++k) to[k * inner.dst] = from[k * inner.src];
      }
    }
  });
}

// Whole, aligned cache lines past the cache.
inline void stream_lines(void* dst, const void* src, std::size_t bytes) noexcept {
#if defined(__SSE2__)
  auto* to = static_cast<__m128i*>(dst);
  const auto* from = static_cast<const __m128i*>(src);
  for (std::size_t i = 0; i < bytes / 16; ++i) _mm_stream_si128(to + i, _mm_load_si128(from + i));
#else
  std::memcpy(dst, src, bytes);
#endif
}

inline void end_streaming() noexcept {
#if defined(__SSE2__)
  _mm_sfence();  // other threads read the result after the parallel region
#endif
}

// --- transposes -----------------------------------------------------------------------------------------------------

// A tile side of 256 bytes is what DRAM wants: shorter pieces of rows cost a new page each time. When one side of the
// plane is shorter than that, the tile grows along the other, within kNarrowBytes.
constexpr std::int64_t kEdgeBytes = 256;
constexpr std::int64_t kNarrowBytes = 8 << 10;
constexpr std::int64_t kTileBytes = 16 << 10;  // half of L1

// Columns 0..3 of rows 0..3 of `src` become rows of `to`; V holds four words.
template <class V, class Word>
inline void transpose_fours(const Word* src, std::int64_t src_stride, Word* to, std::int64_t to_stride) noexcept {
  const auto r0 = load<V>(src);
  const auto r1 = load<V>(src + src_stride);
  const auto r2 = load<V>(src + 2 * src_stride);
  const auto r3 = load<V>(src + 3 * src_stride);
  const auto a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
  const auto b = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
  const auto c = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
  const auto d = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
  store(to, __builtin_shufflevector(a, b, 0, 1, 4, 5));
  store(to + to_stride, __builtin_shufflevector(a, b, 2, 3, 6, 7));
  store(to + 2 * to_stride, __builtin_shufflevector(c, d, 0, 1, 4, 5));
  store(to + 3 * to_stride, __builtin_shufflevector(c, d, 2, 3, 6, 7));
}

inline void transpose_block(const std::uint16_t* src, std::int64_t src_stride, std::uint16_t* to,
                            std::int64_t to_stride) noexcept {
  transpose_fours<Halves4>(src, src_stride, to, to_stride);
}

inline void transpose_block(const std::uint32_t* src, std::int64_t src_stride, std::uint32_t* to,
                            std::int64_t to_stride) noexcept {
  transpose_fours<Words4>(src, src_stride, to, to_stride);
}

inline void transpose_block(const std::uint64_t* src, std::int64_t src_stride, std::uint64_t* to,
                            std::int64_t to_stride) noexcept {
  for (std::int64_t i = 0; i < 4; i += 2) {
    for (std::int64_t j = 0; j < 4; j += 2) {
      const auto r0 = load<Words2>(src + j * src_stride + i);
      const auto r1 = load<Words2>(src + (j + 1) * src_stride + i);
      store(to + i * to_stride + j, __builtin_shufflevector(r0, r1, 0, 2));
      store(to + (i + 1) * to_stride + j, __builtin_shufflevector(r0, r1, 1, 3));
    }
  }
}

inline void transpose_block(const std::uint8_t* src, std::int64_t src_stride, std::uint8_t* to,
                            std::int64_t to_stride) noexcept {
  for (std::int64_t i = 0; i < 4; ++i)
    for (std::int64_t j = 0; j < 4; ++j) to[i * to_stride + j] = src[j * src_stride + i];
}

// to[i * w + j] = src[j * src_stride + i] for i < h, first <= j < first + W: the columns of a tile that fill no block.
template <int W, class T>
inline void transpose_columns(const T* __restrict src, std::int64_t src_stride, T* __restrict to, std::int64_t w,
                              std::int64_t h) noexcept {
  for (std::int64_t i = 0; i < h; ++i)
    for (int j = 0; j < W; ++j) to[i * w + j] = src[j * src_stride + i];
}

// The same for H rows and columns j < w.
template <int H, class T>
inline void transpose_rows(const T* __restrict src, std::int64_t src_stride, T* __restrict to, std::int64_t to_stride,
                           std::int64_t w) noexcept {
  for (std::int64_t j = 0; j < w; ++j)
    for (int i = 0; i < H; ++i) to[i * to_stride + j] = src[j * src_stride + i];
}

// to[i * w + j] = src[j * src_stride + i] for i < h, j < w. `ahead` elements further in every row of `src` are fetched
// for the next tile (0: there is none).
template <class T>
void transpose_to_buffer(const T* src, std::int64_t src_stride, T* to, std::int64_t h, std::int64_t w,
                         std::int64_t ahead) noexcept {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t h4 = h / 4 * 4;
  const std::int64_t w4 = w / 4 * 4;
  for (std::int64_t j = 0; j < w4; j += 4) {
    const T* rows = src + j * src_stride;
    if (ahead > 0)
      for (std::int64_t i = ahead; i < ahead + h; i += kLine)
        for (std::int64_t q = 0; q < 4; ++q) __builtin_prefetch(rows + q * src_stride + i);
    for (std::int64_t i = 0; i < h4; i += 4) transpose_block(rows + i, src_stride, to + i * w + j, w);
  }
  const T* last = src + w4 * src_stride;
  switch (w - w4) {
    case 1: transpose_columns<1>(last, src_stride, to + w4, w, h4); break;
    case 2: transpose_columns<2>(last, src_stride, to + w4, w, h4); break;
    case 3: transpose_columns<3>(last, src_stride, to + w4, w, h4); break;
    default: break;
  }
  switch (h - h4) {
    case 1: transpose_rows<1>(src + h4, src_stride, to + h4 * w, w, w); break;
    case 2: transpose_rows<2>(src + h4, src_stride, to + h4 * w, w, w); break;
    case 3: transpose_rows<3>(src + h4, src_stride, to + h4 * w, w, w); break;
    default: break;
  }
}

// dst[i * dst_stride + j] = src[j * src_stride + i] for i < h, j < w.
//
// Through a buffer, so that each line of `src` is read at once and each line of `dst` written at once: with strides that
// are large powers of two all rows of a tile share a few cache sets, and lines would be evicted half used.
template <class T>
void transpose_tile(const T* src, std::int64_t src_stride, T* dst, std::int64_t dst_stride, std::int64_t h,
                    std::int64_t w, std::int64_t ahead, bool stream) noexcept {
  if (dst_stride == w && !stream) return transpose_to_buffer(src, src_stride, dst, h, w, ahead);
  alignas(64) T buffer[kTileBytes / sizeof(T)];
  transpose_to_buffer(src, src_stride, buffer, h, w, ahead);
  const auto bytes = static_cast<std::size_t>(w) * sizeof(T);
  for (std::int64_t i = 0; i < h; ++i) {
    if (stream) {
      stream_lines(dst + i * dst_stride, buffer + i * w, bytes);
    } else {
      copy_run(reinterpret_cast<std::byte*>(dst + i * dst_stride), reinterpret_cast<const std::byte*>(buffer + i * w),
               bytes);
    }
  }
}

// `unit` is contiguous in `src`, `inner` in `dst`.
template <class T>
void copy_transposed(Axes outer, const Axis& unit, const Axis& inner, const T* src, T* dst) noexcept {
  const std::int64_t total = outer.total() * unit.extent * inner.extent;
  const auto size = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t edge = kEdgeBytes / size;
  const std::int64_t narrow = kNarrowBytes / size;
  std::int64_t h = std::min(unit.extent, std::min(edge, kTileBytes / kEdgeBytes));
  std::int64_t width = std::min(inner.extent, edge);
  if (2 * width <= edge)
    h = std::min(unit.extent, narrow / width);
  else if (2 * h <= edge)
    width = std::min(inner.extent, narrow / h);
  const bool is_wide = h * size >= kEdgeBytes && width * size >= kEdgeBytes;
  const std::int64_t rows = (unit.extent + h - 1) / h;
  const std::int64_t columns = (inner.extent + width - 1) / width;
  const bool lines =
      reinterpret_cast<std::uintptr_t>(dst) % 64 == 0 && width * size % 64 == 0 && inner.extent * size % 64 == 0 &&
      unit.dst * size % 64 == 0 &&
      std::all_of(outer.axis, outer.axis + outer.rank, [&](const Axis& a) { return a.dst * size % 64 == 0; });
  const bool stream = lines && total * size >= kStreamBytes;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrainBytes / size / (h * width));
  parallel_for(outer.total() * rows * columns, grain, [&](std::int64_t begin, std::int64_t end) {
    Odometer plane(outer, begin / (rows * columns));
    std::int64_t tile = begin % (rows * columns);
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t i = tile % rows * h;
      const std::int64_t j = tile / rows * width;
      transpose_tile(src + plane.src + i + j * inner.src, inner.src, dst + plane.dst + i * unit.dst + j, unit.dst,
                     std::min(h, unit.extent - i), std::min(width, inner.extent - j),
                     is_wide && i + h < unit.extent ? h : 0, stream);
      if (++tile == rows * columns) {
        tile = 0;
        plane.next();
      }
    }
    if (stream) end_streaming();
  });
}

template <class T>
void copy_elements(const Axes& axes, const T* src, T* dst) noexcept {
  if (axes.rank == 0) {
    *dst = *src;
    return;
  }
  const Axis inner = axes.inner();
  Axes outer = axes;
  outer.erase(axes.rank - 1);
  if (inner.src == 1 && inner.dst == 1) return copy_runs(outer, inner, src, dst);
  if (inner.dst == 1 && inner.src != 0) {
    for (int i = 0; i < outer.rank; ++i) {
      if (outer.axis[i].src != 1) continue;
      const Axis unit = outer.axis[i];
      outer.erase(i);
      return copy_transposed(outer, unit, inner, src, dst);
    }
  }
  copy_strided(outer, inner, src, dst);
}

}  // namespace

void strided_copy(const Shape& shape, std::size_t element, const std::byte* src, const Strides& src_strides,
                  std::byte* dst, const Strides& dst_strides) noexcept {
  if (shape.product() == 0) return;
  const Axes axes = sorted_axes(shape, src_strides, dst_strides);
  const auto run = [&]<class T>(T) { copy_elements(axes, reinterpret_cast<const T*>(src), reinterpret_cast<T*>(dst)); };
  switch (element) {
    case 8: return run(std::uint64_t{});
    case 4: return run(std::uint32_t{});
    case 2: return run(std::uint16_t{});
    default: return run(std::uint8_t{});
  }
}

}  // namespace solvent::engine
