#include "solvent/ops/cpu/system_plan.h"

#include "solvent/core/engine/view.h"

namespace solvent::cpu {

SystemPlan plan_systems(const Tensor& a, const Tensor& b) {
  SystemPlan plan;
  const int lead = a.rank() - 2;
  const std::int64_t n = a.shape()[lead];
  Shape own_shape;
  Strides own_strides;
  Axes order;  // axes of b in the order they have in `rhs`
  for (int axis = 0; axis < lead; ++axis) {
    if (a.strides()[axis] == 0 && a.shape()[axis] > 1) continue;
    own_shape.push_back(a.shape()[axis]);
    own_strides.push_back(a.strides()[axis]);
    order.push_back(axis);
  }
  plan.count = own_shape.product();
  order.push_back(lead);
  for (int axis = 0; axis < lead; ++axis)
    if (a.strides()[axis] == 0 && a.shape()[axis] > 1) {
      order.push_back(axis);
      plan.columns *= a.shape()[axis];
    }
  order.push_back(lead + 1);
  plan.columns *= b.shape().back();
  own_shape.push_back(n);
  own_shape.push_back(n);
  own_strides.push_back(a.strides()[lead]);
  own_strides.push_back(a.strides()[lead + 1]);
  plan.matrices = engine::empty(own_shape, a.dtype(), a.device());
  engine::copy_into(engine::view(a, own_shape, own_strides, a.impl()->offset), plan.matrices);
  Shape rhs_shape;
  Strides rhs_strides;
  for (const std::int64_t axis : order) {
    rhs_shape.push_back(b.shape()[static_cast<int>(axis)]);
    rhs_strides.push_back(b.strides()[static_cast<int>(axis)]);
  }
  plan.rhs = engine::empty(rhs_shape, b.dtype(), b.device());
  engine::copy_into(engine::view(b, rhs_shape, rhs_strides, b.impl()->offset), plan.rhs);
  plan.result = Dims::filled(b.rank(), 0);
  for (int i = 0; i < order.rank(); ++i) plan.result[static_cast<int>(order[i])] = plan.rhs.strides()[i];
  return plan;
}

}  // namespace solvent::cpu
