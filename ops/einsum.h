#pragma once
/// Einstein summation: products and sums of tensors, written as an equation over the names of their axes.

#include <string>
#include <string_view>
#include <vector>

#include "solvent/autodiff/basis.h"

namespace solvent {

/// An equation, parsed once and applied many times.
///
///     const Einsum attention("bqhd,bkhd->bhqk");
///     Tensor scores = attention({q, k});
///
/// Every letter names an axis; equal letters have equal extents. Letters that the result lacks are summed over; a letter
/// twice in one operand takes its diagonal. "..." stands for any number of further axes, aligned from the right, which
/// broadcast (extents equal or 1). Without "->" the result has the axes of "..." and then the letters that occur once, in
/// alphabetical order (capitals first), as in NumPy. Blanks are ignored.
class SOLVENT_API Einsum {
 public:
  /// @throws ValueError that names the position of what cannot be read
  explicit Einsum(std::string_view equation);

  /// Lowered to permute, reshape, matmul, mul and sum, two operands at a time: next the pair whose product has the fewest
  /// elements more than its factors. One contraction is one matmul. @throws ShapeError, DtypeError
  Tensor operator()(Tensors operands) const;

  /// As it was given.
  [[nodiscard]] const std::string& equation() const noexcept { return equation_; }
  /// Tensors that a call takes.
  [[nodiscard]] std::size_t num_operands() const noexcept { return inputs_.size(); }

 private:
  /// Axes of one operand or of the result.
  struct Term {
    std::vector<int> labels;  // 0..51: A-Z, a-z
    int ellipsis = -1;        // how many labels stand before "...", or -1
  };
  friend struct EinsumCall;

  std::string equation_;
  std::vector<Term> inputs_;
  Term output_;
};

/// Einsum(equation)(operands). einsum("ij,jk->ik", {a, b}) is matmul(a, b). @throws ValueError, ShapeError, DtypeError
SOLVENT_API Tensor einsum(std::string_view equation, Tensors operands);

}  // namespace solvent
