// einsum beyond the table of operations: implicit results, broadcasting, how calls are lowered, errors.

#include "solvent/ops/einsum.h"

#include "solvent/autodiff/debug.h"
#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && (a.numel() == 0 || max(abs(a - b)).item() < 1e-12);
}

Tensor random(std::uint64_t n, const Shape& shape) { return normal(Key(17, n), shape, 0.0, 1.0, float64); }

}  // namespace

TEST_CASE("einsum: implicit results are the letters that occur once, in order, after the further axes") {
  const Tensor a = random(0, {2, 3});
  const Tensor b = random(1, {3, 4});
  CHECK(same(einsum("ij,jk", {a, b}), matmul(a, b)));
  CHECK(same(einsum("ba", {a}), mT(a)));
  CHECK(same(einsum("ii", {random(2, {3, 3})}), trace(random(2, {3, 3}))));
  CHECK(same(einsum(" i j , j k -> k i ", {a, b}), mT(matmul(a, b))));
  CHECK(same(einsum("b...a", {random(3, {2, 5, 3})}), permute(random(3, {2, 5, 3}), {1, 2, 0})));
  CHECK(same(einsum("i,i", {tensor({1, 2}, float64), tensor({3, 4}, float64)}), scalar(11.0, float64)));
  CHECK(einsum("->", {scalar(2.0, float64)}).item() == 2.0);
}

TEST_CASE("einsum: further axes broadcast from the right") {
  const Tensor a = random(0, {5, 1, 2, 3});
  const Tensor b = random(1, {4, 3, 2});
  CHECK(same(einsum("...ij,...jk->...ik", {a, b}), matmul(a, b)));
  CHECK(same(einsum("...,...", {random(2, {3, 1}), random(3, {4})}), random(2, {3, 1}) * random(3, {4})));
  CHECK(same(einsum("i...,...", {random(2, {2, 1}), random(3, {1})}),
             permute(random(2, {2, 1}) * random(3, {1}), {1, 0})));
  CHECK(same(einsum("...i,i->...i", {random(4, {2, 3}), random(5, {3})}), random(4, {2, 3}) * random(5, {3})));
}

TEST_CASE("einsum: a contraction is one product of matrices, and only the cheap pairs are formed") {
  const auto counts = [](const char* equation, const Tensors& xs) {
    const auto result = vjp([&](const Tensors& t) { return Tensors{einsum(equation, t)}; }, xs);
    return debug::node_counts(result.pullback);
  };
  auto nodes = counts("ij,jk->ik", {random(0, {2, 3}), random(1, {3, 4})});
  CHECK(nodes.size() == 1);
  CHECK(nodes["matmul"] == 1);
  nodes = counts("ij,kl,jk->il", {random(0, {9, 9}), random(1, {9, 9}), random(2, {9, 9})});
  CHECK(nodes["matmul"] == 2);
  CHECK(nodes.count("mul") == 0);  // no outer product of the first two
}

TEST_CASE("einsum: one plan serves many shapes") {
  const Einsum plan("bi,ij,bj->b");
  CHECK(plan.num_operands() == 3);
  CHECK(plan.equation() == "bi,ij,bj->b");
  for (const std::int64_t n : {1, 3, 7}) {
    const Tensor x = random(0, {4, n});
    const Tensor a = random(1, {n, n});
    CHECK(same(plan({x, a, x}), sum(matmul(x, a) * x, {-1})));
  }
}

TEST_CASE("einsum: refuses what it cannot read or what does not fit") {
  const Tensor a = zeros({2, 3});
  CHECK_ERROR(ValueError, Einsum("i1->i"), "[einsum]", "\"i1->i\"", "position 1 holds '1'", "letters");
  CHECK_ERROR(ValueError, Einsum("i..->i"), "position 1 holds '.'", "\"...\"");
  CHECK_ERROR(ValueError, Einsum("...i...->i"), "position 4 holds '.'", "at most once");
  CHECK_ERROR(ValueError, Einsum("ij->i->j"), "position 5 holds '-'", "at most one \"->\"");
  CHECK_ERROR(ValueError, Einsum("ij->ik"), "the result has 'k', which no operand has");
  CHECK_ERROR(ValueError, Einsum("ij->ii"), "names 'i' twice", "diag_embed");
  CHECK_ERROR(ValueError, Einsum("...i->i"), "operands have \"...\" but the result has not");
  CHECK_ERROR(ValueError, Einsum("i->...i"), "only the result has \"...\"");
  CHECK_ERROR(ShapeError, einsum("ij,jk", {a}), "got 1 operands", "expected 2");
  CHECK_ERROR(ShapeError, einsum("i", {a}), "operand 0 of shape (2, 3)", "names 1 of its axes", "\"...\" for the rest");
  CHECK_ERROR(ShapeError, einsum("ijk", {a}), "names 3 of its axes", "a letter for each axis");
  CHECK_ERROR(ShapeError, einsum("ij,jk", {a, a}), "got extent 2 for \"j\" in operand 1", "and 3 before");
  CHECK_ERROR(ShapeError, einsum("ii", {a}), "(2, 3)", "names axes 0 and 1 \"i\"", "equal extents");
  CHECK_ERROR(ShapeError, einsum("...,...", {zeros({2}), zeros({3})}), "an axis of \"...\"", "equal extents or 1");
  CHECK_ERROR(DtypeError, einsum("i", {zeros({2}, int64)}), "[einsum]", "int64(2,)", "cast");
  CHECK_ERROR(DtypeError, einsum("i,i", {zeros({2}), zeros({2}, float64)}), "[einsum]", "float64(2,)");
  CHECK_ERROR(ShapeError, einsum("abcde,fghij->abcdefghij", {zeros({1, 1, 1, 1, 1}), zeros({1, 1, 1, 1, 1})}),
              "10 axes", "at most 8");
}

}  // namespace solvent
