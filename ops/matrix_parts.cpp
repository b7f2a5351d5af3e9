// Triangles and diagonals. Two closed families: {tril, triu}, which are projections and their own adjoints, and
// {diagonal, diag_embed}, each other's adjoints.

#include "solvent/ops/matrix_parts.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/matrix_parts.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/matrix_parts.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/rules.h"

namespace solvent {
namespace {

void require_matrix(const char* op, const Tensor& x) {
  if (x.rank() < 2)
    throw ShapeError(fmt::format("[{}] got a tensor of shape {}; expected matrices (..., m, n). Use reshape.", op,
                                 to_string(x.shape())));
}

// --- triangles --------------------------------------------------------------------------------------------------------------

struct OffsetAttrs : AttrsBase<OffsetAttrs> {
  std::int64_t offset = 0;
  explicit OffsetAttrs(std::int64_t k) : offset(k) {}
  [[nodiscard]] std::string describe() const override { return fmt::format("offset={}", offset); }
};

template <auto kRun, bool kLower>
TensorVec triangle_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return kRun(inputs[0], static_cast<const OffsetAttrs&>(*attrs).offset, kLower);
}

constinit const OpDef kTril =
    detail::unary_op<[](const Rule& r, const Tensor& t) { return tril(t, r.attrs<OffsetAttrs>().offset); }>(
        "tril", {triangle_kernel<cpu::triangle, true>, SOLVENT_CUDA_KERNEL(triangle_kernel<cuda::triangle, true>)}, {});
constinit const OpDef kTriu =
    detail::unary_op<[](const Rule& r, const Tensor& t) { return triu(t, r.attrs<OffsetAttrs>().offset); }>(
        "triu", {triangle_kernel<cpu::triangle, false>, SOLVENT_CUDA_KERNEL(triangle_kernel<cuda::triangle, false>)},
        {});

Tensor triangle(const OpDef& op, Tensor x, std::int64_t offset) {
  require_matrix(op.name.data(), x);
  const OffsetAttrs attrs(offset);
  return apply1(op, &attrs, std::move(x));
}

// --- diagonals --------------------------------------------------------------------------------------------------------------

struct DiagonalAttrs : AttrsBase<DiagonalAttrs> {
  std::int64_t offset = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  [[nodiscard]] std::string describe() const override { return fmt::format("offset={}", offset); }
};

std::int64_t diagonal_length(std::int64_t rows, std::int64_t columns, std::int64_t offset) {
  return std::max<std::int64_t>(0, offset >= 0 ? std::min(rows, columns - offset) : std::min(rows + offset, columns));
}

// The primitives: the last two axes.
Tensor diagonal_of_last(Tensor x, std::int64_t offset);
Tensor embedded(Tensor x, std::int64_t offset, std::int64_t rows, std::int64_t columns);

TensorVec diagonal_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const DiagonalAttrs&>(*attrs);
  return cpu::diagonal_view(inputs[0], a.offset, diagonal_length(a.rows, a.columns, a.offset));
}

TensorVec diagonal_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return diagonal_of_last(tangents[0], rule.attrs<DiagonalAttrs>().offset);
}

TensorVec diagonal_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<DiagonalAttrs>();
  return embedded(cotangents[0], a.offset, a.rows, a.columns);
}

constinit const OpDef kDiagonal{.name = "diagonal",
                                .cpu = diagonal_kernel,
                                .cuda = SOLVENT_CUDA_KERNEL(diagonal_kernel),
                                .jvp = diagonal_jvp,
                                .vjp = diagonal_vjp};

template <auto kRun>
TensorVec embed_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const DiagonalAttrs&>(*attrs);
  return kRun(inputs[0], a.offset, a.rows, a.columns);
}

TensorVec embed_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<DiagonalAttrs>();
  return embedded(tangents[0], a.offset, a.rows, a.columns);
}

TensorVec embed_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  return diagonal_of_last(cotangents[0], rule.attrs<DiagonalAttrs>().offset);
}

constinit const OpDef kDiagEmbed{.name = "diag_embed",
                                 .cpu = embed_kernel<cpu::diag_embed>,
                                 .cuda = SOLVENT_CUDA_KERNEL(embed_kernel<cuda::diag_embed>),
                                 .jvp = embed_jvp,
                                 .vjp = embed_vjp};

DiagonalAttrs diagonal_attrs(std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  DiagonalAttrs attrs;
  attrs.offset = offset;
  attrs.rows = rows;
  attrs.columns = columns;
  return attrs;
}

Tensor diagonal_of_last(Tensor x, std::int64_t offset) {
  const DiagonalAttrs attrs = diagonal_attrs(offset, x.size(-2), x.size(-1));
  return apply1(kDiagonal, &attrs, std::move(x));
}

Tensor embedded(Tensor x, std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  const DiagonalAttrs attrs = diagonal_attrs(offset, rows, columns);
  return apply1(kDiagEmbed, &attrs, std::move(x));
}

constinit const OpDef* const kMatrixParts[] = {&kTril, &kTriu, &kDiagonal, &kDiagEmbed};

}  // namespace

namespace detail {
OpList matrix_part_ops() { return kMatrixParts; }
}  // namespace detail

Tensor tril(Tensor x, std::int64_t offset) { return triangle(kTril, std::move(x), offset); }
Tensor triu(Tensor x, std::int64_t offset) { return triangle(kTriu, std::move(x), offset); }

Tensor diagonal(Tensor x, std::int64_t offset, std::int64_t row_axis, std::int64_t column_axis) {
  require_matrix("diagonal", x);
  const int rows = normalise_axis("diagonal", row_axis, x.rank());
  const int columns = normalise_axis("diagonal", column_axis, x.rank());
  if (rows == columns)
    throw ShapeError(fmt::format("[diagonal] got axes {} and {}, which are the same axis of shape {}; expected two.",
                                 row_axis, column_axis, to_string(x.shape())));
  if (rows != x.rank() - 2 || columns != x.rank() - 1) {
    Axes order;
    for (int i = 0; i < x.rank(); ++i)
      if (i != rows && i != columns) order.push_back(i);
    order.push_back(rows);
    order.push_back(columns);
    x = permute(std::move(x), order);
  }
  return diagonal_of_last(std::move(x), offset);
}

Tensor diag_embed(Tensor x, std::int64_t offset) {
  if (x.rank() == 0) throw ShapeError("[diag_embed] got a 0-d tensor; expected vectors (..., n). Use reshape.");
  const std::int64_t size = x.shape().back() + std::abs(offset);
  return embedded(std::move(x), offset, size, size);
}

Tensor diag(Tensor x, std::int64_t offset) {
  if (x.rank() == 1) return diag_embed(std::move(x), offset);
  if (x.rank() == 2) return diagonal(std::move(x), offset);
  throw ShapeError(
      fmt::format("[diag] got a tensor of shape {}; expected a vector, of which it makes a matrix, or a "
                  "matrix, of which it takes the diagonal. Use diag_embed or diagonal for batches.",
                  to_string(x.shape())));
}

Tensor trace(Tensor x, std::int64_t offset) {
  require_matrix("trace", x);
  return sum(diagonal(std::move(x), offset), {-1});
}

}  // namespace solvent
