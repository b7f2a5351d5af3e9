// Entries of the table of operations: einsum, against loops over all values of all letters.

#include <map>
#include <utility>

#include "solvent/ops/einsum.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

// An explicit equation without "...".
Array naive_einsum(const std::string& equation, const Arrays& operands) {
  const std::size_t arrow = equation.find("->");
  std::vector<std::string> terms(1);
  for (const char c : equation.substr(0, arrow)) {
    if (c == ',') {
      terms.emplace_back();
    } else {
      terms.back() += c;
    }
  }
  const std::string output = equation.substr(arrow + 2);
  std::map<char, std::int64_t> extents;
  for (std::size_t k = 0; k < terms.size(); ++k)
    for (std::size_t i = 0; i < terms[k].size(); ++i) extents[terms[k][i]] = operands[k].shape[static_cast<int>(i)];
  std::string letters;
  Shape space;
  for (const auto& [letter, extent] : extents) {
    letters += letter;
    space.push_back(extent);
  }
  const auto pick = [&](const std::string& term, const Dims& index) {
    Dims at;
    for (const char c : term) at.push_back(index[static_cast<int>(letters.find(c))]);
    return at;
  };
  Shape shape;
  for (const char c : output) shape.push_back(extents[c]);
  Array out(shape);
  for_each_index(space, [&](const Dims& index) {
    double product = 1.0;
    for (std::size_t k = 0; k < terms.size(); ++k) product *= operands[k].at(pick(terms[k], index));
    out.at(pick(output, index)) += product;
  });
  return out;
}

// `equation` as it is called and as the naive twin takes it.
OpCase einsum_case(const char* recorded, const char* equation, const char* explicit_equation,
                   std::vector<std::vector<Shape>> shapes) {
  OpCase c;
  c.name = std::string(recorded) + "/einsum " + equation;
  c.covers = {recorded};
  c.function = [plan = Einsum(equation)](Tensors x) { return detail::one(plan(std::move(x))); };
  c.reference = [explicit_equation](const Arrays& x) { return Arrays{naive_einsum(explicit_equation, x)}; };
  c.samples = [shapes](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& list : shapes) {
      lists.emplace_back();
      for (const Shape& shape : list) lists.back().push_back(normal_sample(key, n++, shape, dtype));
    }
    return lists;
  };
  c.strided_bitwise = false;  // sums and products add in the order of memory
  c.tolerance_f32 = 5e-6;
  c.no_errors = "einsum_test.cpp";
  return c;
}

}  // namespace

std::vector<OpCase> einsum_cases() {
  std::vector<OpCase> cases;
  cases.push_back(
      einsum_case("matmul", "ij,jk->ik", "ij,jk->ik",
                  {{{2, 3}, {3, 4}}, {{4, 1}, {1, 2}}, {{1, 1}, {1, 1}}, {{0, 2}, {2, 3}}, {{2, 0}, {0, 3}}}));
  cases.push_back(einsum_case("matmul", "bqhd,bkhd->bhqk", "bqhd,bkhd->bhqk",
                              {{{2, 3, 2, 2}, {2, 1, 2, 2}},
                               {{1, 2, 3, 2}, {1, 3, 3, 2}},
                               {{1, 1, 1, 1}, {1, 1, 1, 1}},
                               {{0, 2, 2, 2}, {0, 3, 2, 2}}}));
  cases.push_back(einsum_case("matmul", "cab, dc", "cab,dc->abd",
                              {{{3, 2, 2}, {2, 3}}, {{2, 1, 3}, {4, 2}}, {{1, 1, 1}, {1, 1}}, {{2, 0, 2}, {2, 2}}}));
  cases.push_back(einsum_case("matmul", "...ij,...j->...i", "bij,bj->bi",
                              {{{2, 3, 4}, {2, 4}}, {{3, 2, 1}, {3, 1}}, {{1, 1, 1}, {1, 1}}, {{0, 2, 2}, {0, 2}}}));
  cases.push_back(einsum_case("mul", "bi,bi->b", "bi,bi->b",
                              {{{2, 3}, {2, 3}}, {{4, 1}, {4, 1}}, {{1, 1}, {1, 1}}, {{2, 0}, {2, 0}}}));
  cases.push_back(einsum_case("mul", "i,j->ji", "i,j->ji", {{{3}, {2}}, {{1}, {4}}, {{1}, {1}}, {{0}, {2}}}));
  cases.push_back(einsum_case(
      "matmul", "ij,kl,jk->il", "ij,kl,jk->il",
      {{{2, 3}, {2, 4}, {3, 2}}, {{3, 1}, {3, 2}, {1, 3}}, {{1, 1}, {1, 1}, {1, 1}}, {{2, 0}, {2, 2}, {0, 2}}}));
  cases.push_back(einsum_case("sum_to", "iji->j", "iji->j", {{{3, 2, 3}}, {{2, 4, 2}}, {{1, 1, 1}}, {{2, 0, 2}}}));
  cases.back().linear = true;
  cases.push_back(einsum_case("permute", "cAb", "cAb->Abc", {{{2, 3, 4}}, {{3, 1, 2}}, {{1, 1, 1}}, {{2, 0, 2}}}));
  cases.back().linear = true;
  return cases;
}

}  // namespace solvent::testing
