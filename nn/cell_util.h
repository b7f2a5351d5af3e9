#pragma once
/// Checks and small functions shared by the recurrent cells. Internal to nn/.

#include <string>
#include <utility>

#include "solvent/core/rng.h"
#include "solvent/core/tensor.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {
struct ParaOptions;
}  // namespace solvent::nn

namespace solvent::nn::detail {

/// "(float32(6, 2), float32(6, 3))"
std::string describe_list(const Tensors& list);
/// h (N, n) and x (N, width). @throws ShapeError naming `op`
void check_cell_rows(const char* op, const Tensor& h, std::int64_t n, const Tensor& x, std::int64_t width);
/// x (..., width). @throws ShapeError naming `op`
void check_cell_input(const char* op, const Tensor& x, std::int64_t width);

/// What a formula with scaled rows of weights is evaluated for.
enum class Part : std::uint8_t { matrices, diagonals };
/// diag(v) w for rows v (N, n): w (n, n) or (N, n, n) -> (N, n, n); or, of diagonals w (n) or (N, n) -> (N, n).
Tensor scale_rows(const Tensor& v, const Tensor& w, Part part);
/// k * k tensors (N, C), row by row -> (N, C, k, k).
Tensor join_blocks(Tensors entries, std::int64_t k);

/// A cell's functions on projected inputs.
struct ProjectedFunctions {
  RecurrentCell::ProjectFn project;
  RecurrentCell::StepFn step;
  RecurrentCell::JacobianFn jacobian, jacobian_diagonal;
  RecurrentCell::JacobianFn jacobian_blocks = {};  // empty functions stay empty
};
/// A cell of these functions, and those on inputs, which project first.
RecurrentCell projected_cell(ProjectedFunctions functions);

/// The same with the sizes and parameters of a module. Its state has output_size() channels.
template <class Cell>
RecurrentCell cell_of(const Cell& module, ProjectedFunctions functions) {
  RecurrentCell cell = projected_cell(std::move(functions));
  cell.state_size = module.state_size();
  cell.input_size = module.input_size();
  cell.output_size = module.output_size();
  cell.components = module.state_size() / module.output_size();
  cell.theta = module.theta();
  return cell;
}

/// x (..., I), w_in (heads, 3p, I/heads), b (3, heads p) -> (..., 3 heads p): every head reads its own inputs, and the
/// results are sorted by row of b. @throws ShapeError naming `op`
Tensor project_heads(const char* op, const Tensor& x, const Tensor& w_in, const Tensor& b);

/// Initial parameters of the ParaRNN cells; a ParaGRU has no p.
struct ParaTheta {
  Tensor w_in, a, p, b;
};
ParaTheta para_theta(const char* op, std::int64_t inputs, std::int64_t n, Key key, const ParaOptions& options);

}  // namespace solvent::nn::detail
