#pragma once
/// Checks and small functions shared by the recurrent cells. Internal to nn/.

#include <string>

#include "solvent/core/tensor.h"

namespace solvent::nn::detail {

/// "(float32(6, 2), float32(6, 3))"
std::string describe_list(const Tensors& list);
/// h (N, n) and x (N, width). @throws ShapeError naming `op`
void check_cell_rows(const char* op, const Tensor& h, std::int64_t n, const Tensor& x, std::int64_t width);
/// x (..., width). @throws ShapeError naming `op`
void check_cell_input(const char* op, const Tensor& x, std::int64_t width);
/// True if a raw CPU kernel may read `t`: no transform is differentiating it.
bool plain_on_cpu(const Tensor& t);
/// Diagonal (n) of a matrix (n, n), differentiable.
Tensor diagonal_of(const Tensor& matrix);

}  // namespace solvent::nn::detail
