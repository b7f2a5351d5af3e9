#include "solvent/nn/cell_util.h"

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/reduce.h"

namespace solvent::nn::detail {

std::string describe_list(const Tensors& list) {
  std::string text = "(";
  for (const Tensor& t : list) {
    if (text.size() > 1) text += ", ";
    text += t.defined() ? describe(t) : "nothing";
  }
  return text + ")";
}

void check_cell_rows(const char* op, const Tensor& h, std::int64_t n, const Tensor& x, std::int64_t width) {
  const bool fits = h.rank() == 2 && h.size(1) == n && x.rank() == 2 && x.size(1) == width && x.size(0) == h.size(0);
  if (!fits)
    throw ShapeError(
        fmt::format("[{}] got h {} and x {}; expected rows h (N, {}) and x (N, {}). Fold time and batch into rows "
                    "with reshape.",
                    op, describe(h), describe(x), n, width));
}

void check_cell_input(const char* op, const Tensor& x, std::int64_t width) {
  if (x.rank() < 1 || x.size(-1) != width)
    throw ShapeError(fmt::format("[{}] got x {}; expected (..., {}).", op, describe(x), width));
}

bool plain_on_cpu(const Tensor& t) { return !engine::is_boxed(t) && t.device() == cpu_device; }

Tensor diagonal_of(const Tensor& matrix) {
  return sum(matrix * eye(matrix.size(-1), {matrix.dtype(), matrix.device()}), {-1});
}

}  // namespace solvent::nn::detail
