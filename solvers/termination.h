#pragma once
/// Convergence bookkeeping shared by all solvers. Internal to solvers/.

#include <limits>
#include <vector>

#include "solvent/solvers/solution.h"

namespace solvent::solvers::detail {

/// Tolerances with the dtype's defaults filled in.
struct Tolerance {
  double atol;
  double rtol;
};
Tolerance resolve(const Termination& termination, DType dtype);

/// Size of a residual, per item.
struct ItemNorms {
  std::vector<double> ratio;     ///< max |r| / (atol + rtol |y|); NaN or infinity if anything is not finite
  std::vector<double> residual;  ///< max |r|
};

/// Norms of `r` (outer, items, inner...) relative to `y`; `item_axis` is the axis that numbers the items, -1 = one item.
/// Plain tensors on one device (of a GPU, the result is waited for); the order of comparisons does not affect the result.
ItemNorms item_norms(const Tensor& r, const Tensor& y, int item_axis, Tolerance tol);

/// Items whose entries are all finite.
std::vector<bool> finite_items(const Tensor& y, int item_axis);

/// Decides after every step what each item's state is. The order of tests is fixed: non-finite, converged, diverged,
/// stalled, step limit; convergence on the last allowed step is convergence.
class Monitor {
 public:
  enum class Verdict : std::uint8_t { running, converged, stalled, diverged, non_finite, max_steps };

  Monitor(const Termination& termination, int max_steps, int items);

  /// `accept[i]`: the extra condition of Criterion::step holds. Returns the verdict per item and remembers whether this
  /// iterate is the best so far (see is_best).
  std::vector<Verdict> check(int step, const ItemNorms& norms, const std::vector<int>& items,
                             const std::vector<bool>& accept);
  [[nodiscard]] bool is_best(int item) const { return items_[static_cast<std::size_t>(item)].is_best; }

 private:
  struct Item {
    double best = std::numeric_limits<double>::infinity();
    double reference = std::numeric_limits<double>::infinity();  // last value that counted as an improvement
    int checks_since = 0;
    bool is_best = false;
  };
  Termination termination_;
  int max_steps_;
  std::vector<Item> items_;
};

/// The status of a whole solve from its items': the worst one.
Status combine(const std::vector<Monitor::Verdict>& verdicts);

}  // namespace solvent::solvers::detail
