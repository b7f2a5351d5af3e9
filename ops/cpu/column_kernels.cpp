// softmax and its relatives along an axis that is not the last: on the columns of contiguous (n, inner) matrices, of which
// there are `outer`. Their twins on rows are in row_kernels.cpp.
//
// Decomposition: pieces of kMostColumns columns or fewer of one matrix. A piece is walked row by row, vectors run along the
// columns, and what a column needs (largest element, sum) lies in arrays in L1. The piece stays in L2 between passes, so
// memory sees one read of each input and one write. Large results are collected in a buffer and written past the caches.
// Deterministic: the pieces depend on sizes only and a column is summed in a fixed order (by kSumRows rows, for accuracy).

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/column_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstddef>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/row_maps-inl.h"
#include "solvent/ops/cpu/streaming.h"
#include "solvent/ops/cpu/vector_kernels.h"

#ifndef SOLVENT_OPS_CPU_COLUMN_KERNELS_ONCE
#define SOLVENT_OPS_CPU_COLUMN_KERNELS_ONCE
namespace solvent::cpu {
namespace {

constexpr std::size_t kMostColumns = 512;
constexpr std::size_t kLeastColumns = 64;  // a multiple of all vectors
constexpr std::size_t kSumRows = 64;
/// Elements of a piece, if it can be so small: two inputs and the buffer fit L2.
constexpr std::size_t kPieceElements = 32768;

/// Some columns of n rows, `ld` elements apart.
struct Piece {
  std::size_t n;
  std::size_t ld;
  std::size_t columns;
  bool stream;
};

/// Serial kernels of one target.
template <class T>
struct ColumnKernels {
  void (*softmax)(const T* x, T* y, const Piece& p) noexcept;
  void (*log_softmax)(const T* x, T* y, const Piece& p) noexcept;
  void (*softmax_backward)(const T* g, const T* y, T* gx, const Piece& p) noexcept;
};

}  // namespace
}  // namespace solvent::cpu
#endif  // SOLVENT_OPS_CPU_COLUMN_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// Largest elements; NaNs may or may not be skipped (the sum of exponentials that follows catches them).
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void column_max(D d, const T* x, const Piece& p, T* largest) {
  std::copy(x, x + p.columns, largest);
  for (std::size_t k = 1; k < p.n; ++k)
    map_row(
        d, largest, p.columns, false, [](auto v, auto m) HWY_ATTR { return hn::Max(v, m); }, x + k * p.ld, largest);
}

/// sums = the columns' sums of term(k, i, load), where load(row) gives the vector at column i of a row of the piece.
template <class D, class Term, class T = hn::TFromD<D>>
HWY_INLINE void column_sums(D d, const Piece& p, T* sums, const Term& term) {
  HWY_ALIGN T part[kMostColumns];
  std::fill(sums, sums + p.columns, T{0});
  for (std::size_t first = 0; first < p.n; first += kSumRows) {
    std::fill(part, part + p.columns, T{0});
    for (std::size_t k = first; k < std::min(p.n, first + kSumRows); ++k) term(k, part);
    map_row(
        d, sums, p.columns, false, [](auto a, auto b) HWY_ATTR { return hn::Add(a, b); }, sums, part);
  }
}

/// sums = the columns' sums of e^(x - largest), whose terms go to `terms` (rows `ld` apart) unless it is null.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void column_exp(D d, const T* x, const Piece& p, const T* largest, T* sums, T* terms, std::size_t ld) {
  column_sums(d, p, sums, [=, &p](std::size_t k, T* part) HWY_ATTR {
    const T* row = x + k * p.ld;
    T* to = terms == nullptr ? nullptr : terms + k * ld;
    for_row(
        d, p.columns,
        [=](std::size_t i) HWY_ATTR {
          const auto e = exp_bounded_above(d, hn::Sub(hn::LoadU(d, row + i), hn::LoadU(d, largest + i)));
          if (to != nullptr) hn::StoreU(e, d, to + i);
          hn::StoreU(hn::Add(hn::LoadU(d, part + i), e), d, part + i);
        },
        [=](std::size_t i, std::size_t n) HWY_ATTR {
          const auto e = exp_bounded_above(d, hn::Sub(load_first(d, row + i, n), load_first(d, largest + i, n)));
          if (to != nullptr) store_first(d, e, to + i, n);
          store_first(d, hn::Add(load_first(d, part + i, n), e), part + i, n);
        });
  });
}

template <class T>
void softmax_columns(const T* x, T* y, const Piece& p) noexcept {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T largest[kMostColumns];
  HWY_ALIGN T factors[kMostColumns];
  HWY_ALIGN T buffer[kPieceElements];
  const bool buffered = p.stream && p.n * p.columns <= kPieceElements;
  T* const terms = buffered ? buffer : y;
  const std::size_t ld = buffered ? p.columns : p.ld;
  column_max(d, x, p, largest);
  column_exp(d, x, p, largest, factors, terms, ld);
  for (std::size_t i = 0; i < p.columns; ++i) factors[i] = T{1} / factors[i];
  for (std::size_t k = 0; k < p.n; ++k)
    map_row(
        d, y + k * p.ld, p.columns, buffered, [](auto e, auto factor) HWY_ATTR { return hn::Mul(e, factor); },
        terms + k * ld, factors);
  if (buffered) hwy::FlushStream();
}

template <class T>
void log_softmax_columns(const T* x, T* y, const Piece& p) noexcept {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T largest[kMostColumns];
  HWY_ALIGN T logs[kMostColumns];
  column_max(d, x, p, largest);
  column_exp(d, x, p, largest, logs, static_cast<T*>(nullptr), 0);
  map_row(
      d, logs, p.columns, false, [d](auto sum) HWY_ATTR { return HWY_NAMESPACE::log(d, sum); }, logs);
  // One after the other: the sum of largest and log would lose the digits of a dominant element.
  for (std::size_t k = 0; k < p.n; ++k)
    map_row(
        d, y + k * p.ld, p.columns, p.stream,
        [](auto v, auto most, auto log) HWY_ATTR { return hn::Sub(hn::Sub(v, most), log); }, x + k * p.ld, largest,
        logs);
  if (p.stream) hwy::FlushStream();
}

template <class T>
void softmax_backward_columns(const T* g, const T* y, T* gx, const Piece& p) noexcept {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T products[kMostColumns];
  column_sums(d, p, products, [=, &p](std::size_t k, T* part) HWY_ATTR {
    map_row(
        d, part, p.columns, false, [](auto a, auto b, auto sum) HWY_ATTR { return hn::MulAdd(a, b, sum); },
        g + k * p.ld, y + k * p.ld, part);
  });
  for (std::size_t k = 0; k < p.n; ++k)
    map_row(
        d, gx + k * p.ld, p.columns, p.stream,
        [](auto a, auto b, auto product) HWY_ATTR { return hn::Mul(b, hn::Sub(a, product)); }, g + k * p.ld,
        y + k * p.ld, products);
  if (p.stream) hwy::FlushStream();
}

template <class T>
const ColumnKernels<T>& column_entry() {
  static constexpr ColumnKernels<T> kKernels = {&softmax_columns<T>, &log_softmax_columns<T>,
                                                &softmax_backward_columns<T>};
  return kKernels;
}
const ColumnKernels<float>& column_float() { return column_entry<float>(); }
const ColumnKernels<double>& column_double() { return column_entry<double>(); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {
namespace {

HWY_EXPORT(column_float);
HWY_EXPORT(column_double);

template <class T>
const ColumnKernels<T>& column_kernels() {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(column_float)();
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(column_double)();
}

/// body(offset, piece) for all pieces; `y` is the result.
template <class T, class F>
void for_columns(const T* y, std::int64_t outer, std::int64_t n, std::int64_t inner, const F& body) {
  constexpr auto kMost = static_cast<std::int64_t>(kMostColumns);
  constexpr auto kLeast = static_cast<std::int64_t>(kLeastColumns);
  constexpr auto kElements = static_cast<std::int64_t>(kPieceElements);
  const std::int64_t widest = std::clamp(kElements / n / kLeast * kLeast, kLeast, kMost);
  const std::int64_t pieces = (inner + widest - 1) / widest;
  const std::int64_t width = ((inner + pieces - 1) / pieces + kLeast - 1) / kLeast * kLeast;
  const bool stream = worth_streaming(y, outer * n * inner);
  const std::int64_t grain = std::max<std::int64_t>(1, kElementwiseGrain / 2 / (n * std::min(width, inner)));
  parallel_for(outer * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i % pieces * width;
      const std::int64_t columns = std::min(width, inner - first);
      if (columns <= 0) continue;
      body(i / pieces * n * inner + first, Piece{static_cast<std::size_t>(n), static_cast<std::size_t>(inner),
                                                 static_cast<std::size_t>(columns), stream});
    }
  });
}

}  // namespace

template <class T>
void softmax_along(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) noexcept {
  const auto kernel = column_kernels<T>().softmax;
  for_columns(y, outer, n, inner, [=](std::int64_t at, const Piece& p) { kernel(x + at, y + at, p); });
}

template <class T>
void log_softmax_along(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) noexcept {
  const auto kernel = column_kernels<T>().log_softmax;
  for_columns(y, outer, n, inner, [=](std::int64_t at, const Piece& p) { kernel(x + at, y + at, p); });
}

template <class T>
void softmax_backward_along(const T* g, const T* y, T* gx, std::int64_t outer, std::int64_t n,
                            std::int64_t inner) noexcept {
  const auto kernel = column_kernels<T>().softmax_backward;
  for_columns(gx, outer, n, inner, [=](std::int64_t at, const Piece& p) { kernel(g + at, y + at, gx + at, p); });
}

#define SOLVENT_INSTANTIATE(T)                                                                      \
  template void softmax_along(const T*, T*, std::int64_t, std::int64_t, std::int64_t) noexcept;     \
  template void log_softmax_along(const T*, T*, std::int64_t, std::int64_t, std::int64_t) noexcept; \
  template void softmax_backward_along(const T*, const T*, T*, std::int64_t, std::int64_t, std::int64_t) noexcept
SOLVENT_INSTANTIATE(float);
SOLVENT_INSTANTIATE(double);
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cpu
#endif  // HWY_ONCE
