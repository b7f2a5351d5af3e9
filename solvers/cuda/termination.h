#pragma once
/// Norms of residuals on a GPU. Internal to solvers/.

#include <vector>

#include "solvent/core/tensor.h"

namespace solvent::solvers::cuda {

/// As detail::item_norms on the CPU, for dense r and y on one GPU, seen as (outer, items, inner): per item the largest
/// |r| / (atol + rtol |y|) and the largest |r|. Waits for the result.
void item_norms(const Tensor& r, const Tensor& y, std::int64_t outer, std::int64_t items, std::int64_t inner,
                double atol, double rtol, std::vector<double>& ratio, std::vector<double>& residual);

}  // namespace solvent::solvers::cuda
