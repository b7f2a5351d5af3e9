#include "solvent/ops/all_ops.h"

#include <algorithm>
#include <vector>

#include "solvent/autodiff/mechanism.h"
#include "solvent/ops/families.h"

namespace solvent {
namespace {

std::vector<const OpDef*> collect() {
  std::vector<const OpDef*> ops;
  for (const detail::OpList family : {detail::basis_ops(),
                                      detail::mechanism_ops(),
                                      detail::elementwise_ops(),
                                      detail::activation_ops(),
                                      detail::reduce_ops(),
                                      detail::loss_ops(),
                                      detail::random_ops(),
                                      detail::norm_ops(),
                                      detail::pool_ops(),
                                      detail::shape_family_ops(),
                                      detail::index_ops(),
                                      detail::sort_ops(),
                                      detail::linalg_ops(),
                                      detail::matrix_part_ops(),
                                      detail::scan_ops(),
                                      detail::gru_ops(),
                                      detail::factor_ops(),
                                      detail::spectral_ops(),
                                      detail::matrix_function_ops(),
                                      detail::conv_ops()})
    ops.insert(ops.end(), family.begin(), family.end());
  std::sort(ops.begin(), ops.end(), [](const OpDef* a, const OpDef* b) { return a->name < b->name; });
  return ops;
}

}  // namespace

std::span<const OpDef* const> all_ops() {
  static const std::vector<const OpDef*> ops = collect();
  return ops;
}

}  // namespace solvent
