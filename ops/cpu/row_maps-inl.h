// Passes over one row, whole vectors first, for the kernels on rows and on columns. Included once per Highway target (no
// #pragma once).

#if defined(SOLVENT_OPS_CPU_ROW_MAPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_ROW_MAPS_INL_H_
#undef SOLVENT_OPS_CPU_ROW_MAPS_INL_H_
#else
#define SOLVENT_OPS_CPU_ROW_MAPS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "solvent/ops/cpu/vector_functions-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Calls full(i) for each whole vector of a row and rest(i, count) for a ragged end: the whole ones need no masks.
template <class D, class Full, class Rest>
HWY_INLINE void for_row(D d, std::size_t cols, const Full& full, const Rest& rest) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= cols; i += lanes) full(i);
  if (i < cols) rest(i, cols - i);
}

template <class D>
HWY_INLINE bool aligned(D d, const hn::TFromD<D>* p) {
  return reinterpret_cast<std::uintptr_t>(p) % (hn::Lanes(d) * sizeof(*p)) == 0;
}

/// y = f(in...) on rows of `cols` elements, past the caches if `stream` and y is aligned.
template <class D, class T, class F, class... In>
HWY_INLINE void map_row(D d, T* y, std::size_t cols, bool stream, const F& f, const In*... in) {
  const auto rest = [&](std::size_t i, std::size_t n)
                        HWY_ATTR { store_first(d, f(load_first(d, in + i, n)...), y + i, n); };
  if (stream && aligned(d, y)) {
    for_row(
        d, cols, [&](std::size_t i) HWY_ATTR { hn::Stream(f(hn::LoadU(d, in + i)...), d, y + i); }, rest);
  } else {
    for_row(
        d, cols, [&](std::size_t i) HWY_ATTR { hn::StoreU(f(hn::LoadU(d, in + i)...), d, y + i); }, rest);
  }
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
