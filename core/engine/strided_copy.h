#pragma once
/// Copies between strided arrays in CPU memory: the engine behind contiguous(), copy_into() and the shape operations.

#include <cstddef>

#include "solvent/core/export.h"
#include "solvent/core/shape.h"

namespace solvent::engine {

/// dst[i] = src[i] for every index of `shape`. `element` is 1, 2, 4 or 8 bytes; strides in elements (negative ones and, in
/// `src`, zeros are allowed). `src` and `dst` must not overlap. Runs on several threads when the copy is large.
///
/// Contiguous runs are copied as such; when the unit-stride axes of both sides differ, square tiles are transposed
/// through an L1-resident buffer, so that every cache line is read and written once.
SOLVENT_API void strided_copy(const Shape& shape, std::size_t element, const std::byte* src, const Strides& src_strides,
                              std::byte* dst, const Strides& dst_strides) noexcept;

}  // namespace solvent::engine
