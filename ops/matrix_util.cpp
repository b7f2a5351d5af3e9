#include "solvent/ops/matrix_util.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::detail {
namespace {

[[noreturn]] void throw_lead(const char* op, const Tensor& a, const Tensor& b) {
  throw ShapeError(
      fmt::format("[{}] got a {} and b {}; expected leading axes that broadcast (equal extents or 1, counted "
                  "from the right). Use reshape or unsqueeze.",
                  op, to_string(a.shape()), to_string(b.shape())));
}

Shape leading(const Tensor& t, int inner) {
  return Dims(std::span(t.shape().begin(), static_cast<std::size_t>(t.rank() - inner)));
}

}  // namespace

void align_leading(const char* op, Tensor& a, Tensor& b, int inner) {
  const Shape lead_a = leading(a, inner);
  const Shape lead_b = leading(b, inner);
  if (lead_a == lead_b) return;
  const int rank = std::max(lead_a.rank(), lead_b.rank());
  Shape lead = Dims::filled(rank, 1);
  for (int i = 1; i <= rank; ++i) {
    const std::int64_t m = i <= lead_a.rank() ? lead_a[lead_a.rank() - i] : 1;
    const std::int64_t n = i <= lead_b.rank() ? lead_b[lead_b.rank() - i] : 1;
    if (m != n && m != 1 && n != 1) throw_lead(op, a, b);
    lead[rank - i] = m == 1 ? n : m;
  }
  const auto expanded = [&lead, inner](Tensor t, const Shape& own) {
    if (own == lead) return t;
    Shape target = lead;
    for (int i = inner; i > 0; --i) target.push_back(t.size(-i));
    return broadcast_to(std::move(t), target);
  };
  a = expanded(std::move(a), lead_a);
  b = expanded(std::move(b), lead_b);
}

void check_matrices(const char* op, const Tensor& a) {
  check_floating(op, a);
  if (a.rank() < 2)
    throw ShapeError(fmt::format("[{}] got a {}; expected matrices (..., m, n). Use reshape or unsqueeze.", op,
                                 to_string(a.shape())));
}

void check_square(const char* op, const Tensor& a) {
  check_floating(op, a);
  if (a.rank() < 2 || a.size(-1) != a.size(-2))
    throw ShapeError(
        fmt::format("[{}] got a {}; expected square matrices (..., n, n). Use reshape, or qr, svd and lstsq "
                    "for rectangular ones.",
                    op, to_string(a.shape())));
}

Tensor symmetric_part(const Tensor& x) { return affine(add(x, mT(x)), 0.5, 0.0); }

}  // namespace solvent::detail
