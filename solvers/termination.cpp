#include "solvent/solvers/termination.h"

#include <algorithm>
#include <cmath>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#if SOLVENT_WITH_CUDA
#include "solvent/solvers/cuda/termination.h"
#endif

namespace solvent::solvers::detail {

Tolerance resolve(const Termination& t, DType dtype) {
  const bool wide = dtype == DType::float64;
  return {t.atol >= 0 ? t.atol : (wide ? 1e-8 : 1e-5), t.rtol >= 0 ? t.rtol : (wide ? 1e-6 : 1e-4)};
}

namespace {

// A (outer, items, inner) view of a contiguous tensor.
struct Layout {
  std::int64_t outer = 1, items = 1, inner = 1;
};

Layout layout_of(const Tensor& t, int item_axis) {
  Layout l;
  for (int axis = 0; axis < t.rank(); ++axis) {
    if (axis == item_axis)
      l.items = t.shape()[axis];
    else if (axis < item_axis)
      l.outer *= t.shape()[axis];
    else
      l.inner *= t.shape()[axis];
  }
  return l;
}

// Calls f(item, begin, count) for every run of one item; blocks of outer indices run in parallel into their own slots.
constexpr std::int64_t kGrain = 32768;

template <class T>
void max_norms(const T* r, const T* y, const Layout& l, Tolerance tol, ItemNorms& norms) {
  const std::int64_t row = l.items * l.inner;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(row, 1));
  const std::int64_t blocks = (l.outer + grain - 1) / grain;
  const auto items = static_cast<std::size_t>(l.items);
  std::vector<double> ratio(static_cast<std::size_t>(blocks) * items, 0.0), residual(ratio.size(), 0.0);
  parallel_for(l.outer, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::size_t slot = static_cast<std::size_t>(begin / grain) * items;
    for (std::int64_t o = begin; o < end; ++o) {
      for (std::int64_t item = 0; item < l.items; ++item) {
        const std::int64_t first = (o * l.items + item) * l.inner;
        double worst = ratio[slot + static_cast<std::size_t>(item)],
               size = residual[slot + static_cast<std::size_t>(item)];
        for (std::int64_t j = first; j < first + l.inner; ++j) {
          const double a = std::abs(static_cast<double>(r[j]));
          const double q = a / (tol.atol + tol.rtol * std::abs(static_cast<double>(y[j])));
          // An infinite state would pass the relative test, so it counts as not finite, like NaN (which fails `<`).
          worst = q <= worst && std::isfinite(static_cast<double>(y[j])) ? worst
                  : std::isfinite(q) && std::isfinite(static_cast<double>(y[j]))
                      ? q
                      : std::numeric_limits<double>::infinity();
          size = a <= size ? size : a;
          if (!(a < std::numeric_limits<double>::infinity())) size = std::numeric_limits<double>::infinity();
        }
        ratio[slot + static_cast<std::size_t>(item)] = worst;
        residual[slot + static_cast<std::size_t>(item)] = size;
      }
    }
  });
  norms.ratio.assign(items, 0.0);
  norms.residual.assign(items, 0.0);
  for (std::size_t b = 0; b < static_cast<std::size_t>(blocks); ++b)
    for (std::size_t i = 0; i < items; ++i) {
      norms.ratio[i] = std::max(norms.ratio[i], ratio[b * items + i]);
      norms.residual[i] = std::max(norms.residual[i], residual[b * items + i]);
    }
}

}  // namespace

ItemNorms item_norms(const Tensor& r, const Tensor& y, int item_axis, Tolerance tol) {
  const Tensor dense_r = engine::contiguous(r), dense_y = engine::contiguous(y);
  ItemNorms norms;
#if SOLVENT_WITH_CUDA
  if (!(r.device() == cpu_device)) {
    const Layout l = layout_of(r, item_axis);
    cuda::item_norms(dense_r, dense_y, l.outer, l.items, l.inner, tol.atol, tol.rtol, norms.ratio, norms.residual);
    return norms;
  }
#endif
  dispatch_float(r.dtype(), "solve", [&](auto tag) {
    using T = typename decltype(tag)::type;
    max_norms(engine::ptr<T>(dense_r), engine::ptr<T>(dense_y), layout_of(r, item_axis), tol, norms);
  });
  return norms;
}

std::vector<bool> finite_items(const Tensor& y, int item_axis) {
  const ItemNorms norms = item_norms(y, y, item_axis, {1.0, 0.0});
  std::vector<bool> finite;
  for (const double q : norms.ratio) finite.push_back(std::isfinite(q));
  return finite;
}

Monitor::Monitor(const Termination& termination, int max_steps, int items)
    : termination_(termination), max_steps_(max_steps), items_(static_cast<std::size_t>(items)) {}

std::vector<Monitor::Verdict> Monitor::check(int step, const ItemNorms& norms, const std::vector<int>& items,
                                             const std::vector<bool>& accept) {
  std::vector<Verdict> verdicts;
  for (std::size_t k = 0; k < items.size(); ++k) {
    Item& item = items_[static_cast<std::size_t>(items[k])];
    const double q = norms.ratio[k];
    item.is_best = q < item.best || step == 0;
    if (item.is_best && std::isfinite(q)) item.best = q;
    if (q < 0.99 * item.reference) {
      item.reference = q;
      item.checks_since = 0;
    } else {
      ++item.checks_since;
    }
    const double factor = termination_.divergence_factor;
    Verdict v = Verdict::running;
    if (!std::isfinite(q))
      v = Verdict::non_finite;
    else if (q <= 1.0 && accept[k])
      v = Verdict::converged;
    else if (factor > 0 && q > factor * std::max(item.best, 1.0))
      v = Verdict::diverged;
    else if (termination_.patience > 0 && item.checks_since >= termination_.patience)
      v = Verdict::stalled;
    else if (step >= max_steps_)
      v = Verdict::max_steps;
    verdicts.push_back(v);
  }
  return verdicts;
}

Status combine(const std::vector<Monitor::Verdict>& verdicts) {
  using V = Monitor::Verdict;
  const auto any = [&](V v) { return std::find(verdicts.begin(), verdicts.end(), v) != verdicts.end(); };
  if (any(V::non_finite)) return Status::non_finite;
  if (any(V::diverged)) return Status::diverged;
  if (any(V::stalled)) return Status::stalled;
  if (any(V::max_steps) || any(V::running)) return Status::max_steps;
  return Status::converged;
}

}  // namespace solvent::solvers::detail
