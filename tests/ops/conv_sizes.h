#pragma once
/// Sizes of convolutions for tests of their kernels.

#include <cstdint>

#include "solvent/ops/cpu/conv_kernels.h"

namespace solvent::testing {

struct ConvSizes {
  std::int64_t n, c, o, groups;
  cpu::ConvAxis h, w;
};

/// Extents of a map, a filter, and how it moves; the number of positions follows.
inline cpu::ConvAxis conv_axis(std::int64_t in, std::int64_t kernel, std::int64_t stride = 1, std::int64_t before = 0,
                               std::int64_t after = 0, std::int64_t dilation = 1) {
  return {in,    kernel,  (in + before + after - dilation * (kernel - 1) - 1) / stride + 1, stride, before,
          after, dilation};
}

}  // namespace solvent::testing
