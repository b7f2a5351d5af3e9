#include "solvent/nn/cell_util.h"

#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/init.h"
#include "solvent/nn/para_gru.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/shape_ops.h"

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

Tensor scale_rows(const Tensor& v, const Tensor& w, Part part) {
  return (part == Part::matrices ? unsqueeze(v, -1) : v) * w;
}

Tensor join_blocks(Tensors entries, std::int64_t k) {
  const Shape rows = entries[0].shape();
  return reshape(stack(std::move(entries), -1), {rows[0], rows[1], k, k});
}

namespace {

RecurrentCell::JacobianFn after(const RecurrentCell::ProjectFn& project, const RecurrentCell::JacobianFn& jacobian) {
  if (!jacobian) return {};
  return [project, jacobian](const Tensor& h, const Tensor& x, const Tensors& theta) {
    return jacobian(h, project(x, theta), theta);
  };
}

}  // namespace

RecurrentCell projected_cell(ProjectedFunctions f) {
  RecurrentCell cell;
  cell.step = [project = f.project, step = f.step](const Tensor& h, const Tensor& x, const Tensors& theta) {
    return step(h, project(x, theta), theta);
  };
  cell.jacobian = after(f.project, f.jacobian);
  cell.jacobian_diagonal = after(f.project, f.jacobian_diagonal);
  cell.jacobian_blocks = after(f.project, f.jacobian_blocks);
  cell.project = std::move(f.project);
  cell.step_projected = std::move(f.step);
  cell.jacobian_projected = std::move(f.jacobian);
  cell.jacobian_diagonal_projected = std::move(f.jacobian_diagonal);
  cell.jacobian_blocks_projected = std::move(f.jacobian_blocks);
  return cell;
}

Tensor project_heads(const char* op, const Tensor& x, const Tensor& w_in, const Tensor& b) {
  const std::int64_t heads = w_in.size(0), inputs = w_in.size(2), units = w_in.size(1) / 3;
  check_cell_input(op, x, heads * inputs);
  const std::int64_t rows = x.numel() / (heads * inputs);
  const Tensor by_head = transpose(reshape(x, {rows, heads, inputs}), 0, 1);         // (heads, R, I/heads)
  const Tensor u = reshape(matmul(by_head, mT(w_in)), {heads, rows, 3, units});      // (heads, R, 3, p)
  const Tensor flat = reshape(permute(u, {1, 2, 0, 3}), {rows, 3 * heads * units});  // (R, 3 n)
  Shape shape = x.shape();
  shape[shape.rank() - 1] = 3 * heads * units;
  return reshape(flat + reshape(b, {3 * heads * units}), shape);
}

ParaTheta para_theta(const char* op, std::int64_t inputs, std::int64_t n, Key key, const ParaOptions& options) {
  const std::int64_t heads = options.heads;
  if (inputs < 1 || n < 1 || heads < 1 || inputs % heads != 0 || n % heads != 0)
    throw ValueError(fmt::format("[{}] got {} inputs, {} units and {} heads; expected positive multiples of the heads.",
                                 op, inputs, n, heads));
  const TensorOptions like = options.dtype;
  const Shape w_shape{heads, 3 * n / heads, inputs / heads};
  const auto in = static_cast<double>(inputs / heads), out = static_cast<double>(n / heads);
  if (options.init == ParaInit::paper)
    return {init::uniform(key.fold_in(0), w_shape, std::sqrt(3.0 / in), like),
            init::bounded_lecun_normal(key.fold_in(1), {3, n}, 0.9, like),
            init::bounded_lecun_normal(key.fold_in(2), {2, n}, 0.9, like), zeros({3, n}, like)};
  std::vector<double> bias(static_cast<std::size_t>(3 * n), 0.0);
  for (std::int64_t i = 1; i < n; ++i)
    bias[static_cast<std::size_t>(i)] = -static_cast<double>(i) / static_cast<double>(n - 1);
  return {init::uniform(key.fold_in(0), w_shape, std::sqrt(6.0 / (in + out)), like),
          init::xlstm_normal(key.fold_in(1), {3, n}, like), init::xlstm_normal(key.fold_in(2), {2, n}, like),
          cast(from_vector(bias, {3, n}), options.dtype)};
}

}  // namespace solvent::nn::detail
