#pragma once
/// CPU kernels of pooling and resampling: tensors to the loops of pool_kernels.h. Maps are the last two axes; an operand
/// that is not dense is copied first.

#include <span>
#include <string>

#include "solvent/autodiff/op.h"
#include "solvent/ops/cpu/pool_kernels.h"

namespace solvent {

/// Windows over the last two axes; the extents of the map and of the result are part of it, so that the adjoint knows both.
struct PoolAttrs : AttrsBase<PoolAttrs> {
  cpu::PoolGeometry geometry{};
  [[nodiscard]] std::string describe() const override;
};

/// Extents of a map.
struct MapAttrs : AttrsBase<MapAttrs> {
  std::int64_t height = 0;
  std::int64_t width = 0;
  [[nodiscard]] std::string describe() const override;
};

/// Interpolation along one axis; `transposed` is the adjoint, from `out` to `in` elements.
struct ResampleAttrs : AttrsBase<ResampleAttrs> {
  int axis = -1;  ///< -1 or -2
  std::int64_t in = 1;
  std::int64_t out = 1;
  bool linear = true;
  bool align_corners = false;
  bool antialias = false;
  bool transposed = false;
  [[nodiscard]] std::string describe() const override;
};

namespace cpu {

/// x -> (value, index). PoolAttrs
TensorVec max_pool_maps(std::span<Tensor> inputs, const Attrs* attrs);
/// x -> mean per window. PoolAttrs
TensorVec avg_pool_maps(std::span<Tensor> inputs, const Attrs* attrs);
/// g -> cotangent of x. PoolAttrs
TensorVec avg_pool_maps_grad(std::span<Tensor> inputs, const Attrs* attrs);
/// x (..., H, W), index (..., h, w) -> (..., h, w)
TensorVec pool_take_maps(std::span<Tensor> inputs, const Attrs*);
/// x (..., h, w), index (..., h, w) -> (..., H, W). MapAttrs
TensorVec max_unpool_maps(std::span<Tensor> inputs, const Attrs* attrs);
/// The matrix of resample_axis.
SparseRows resample_matrix(const ResampleAttrs& attrs);
/// ResampleAttrs
TensorVec resample_axis(std::span<Tensor> inputs, const Attrs* attrs);

}  // namespace cpu
}  // namespace solvent
