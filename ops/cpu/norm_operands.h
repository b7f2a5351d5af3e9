#pragma once
/// Operands and results of normalisations on the CPU and on GPUs. Internal to ops/.

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "solvent/autodiff/op.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/norm_kernels.h"
#include "solvent/ops/cpu/repeats.h"

namespace solvent::cpu {

/// The last three extents.
inline ChannelShape channels_of(const Shape& shape) { return {shape.at(-3), shape.at(-2), shape.at(-1)}; }

/// Values shared by directions: those of leading index `lead` start at data(lead).
template <class T>
struct Shared {
  Repeated values;
  std::int64_t each;  ///< elements per leading index

  Shared(const Tensor& t, std::int64_t count, int kept = 3) : values(distinct_part(t, kept)), each(count) {}
  [[nodiscard]] const T* data(std::int64_t lead) const {
    return engine::ptr<T>(values.part) + lead * each % values.count;
  }
};

/// Gradients by the input, weight and bias; the latter are zeros, as sums over nothing, if the input is empty.
struct NormGrads {
  Tensor x, weight, bias;

  /// Like the `input`; weight and bias have extent 1 on the axes `summed`, which count from the right.
  NormGrads(const Tensor& input, std::initializer_list<int> summed)
      : x(engine::empty(input.shape(), input.dtype(), input.device())) {
    Shape shape = input.shape();
    for (const int axis : summed) shape[shape.rank() + axis] = 1;
    const auto sums = [&] {
      return is_empty() ? zeros(shape, {input.dtype(), input.device()})
                        : engine::empty(shape, input.dtype(), input.device());
    };
    weight = sums();
    bias = sums();
  }
  [[nodiscard]] bool is_empty() const { return x.numel() == 0; }
  [[nodiscard]] TensorVec take() { return {std::move(x), std::move(weight), std::move(bias)}; }
};

}  // namespace solvent::cpu
