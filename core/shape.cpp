#include "solvent/core/shape.h"

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent {
namespace detail {

void throw_rank(std::int64_t rank) {
  throw ShapeError(
      fmt::format("[shape] got {} axes; expected at most {}. Merge axes with reshape first.", rank, kMaxRank));
}

void throw_axis(const char* op, std::int64_t axis, int rank) {
  if (rank == 0)
    throw ShapeError(
        fmt::format("[{}] got axis {} for a 0-d tensor, which has no axes; reshape it to (1) first.", op, axis));
  throw ShapeError(
      fmt::format("[{}] got axis {} for a tensor with {} ax{}; expected {} to {} (negative axes count from "
                  "the right).",
                  op, axis, rank, rank == 1 ? "is" : "es", -rank, rank - 1));
}

}  // namespace detail

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (int i = 0; i < dims.rank(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  if (dims.rank() == 1) text += ',';
  return text + ')';
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int shift = longer.rank() - shorter.rank();
  for (int i = 0; i < shorter.rank(); ++i) {
    const std::int64_t x = longer[i + shift];
    const std::int64_t y = shorter[i];
    if (x != y && x != 1 && y != 1)
      throw ShapeError(
          fmt::format("[{}] got shapes {} and {}; expected extents that are equal or 1 when aligned at the "
                      "right, but axis {} has {} and {}. Use reshape or permute to line the axes up.",
                      op, to_string(a), to_string(b), i - shorter.rank(), a.rank() >= b.rank() ? x : y,
                      a.rank() >= b.rank() ? y : x));
    result[i + shift] = x == 1 ? y : x;
  }
  return result;
}

}  // namespace solvent
