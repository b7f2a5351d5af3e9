// Entries of the table of operations: the basis operations of autodiff and its mechanism (custom rules, implicit functions,
// checkpoints), here as elementwise functions with known derivatives.

#include <cmath>
#include <utility>

#include "solvent/autodiff/basis.h"
#include "solvent/autodiff/custom.h"
#include "solvent/ops/elementwise.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

Tensors large_vector(Key key, DType dtype) { return {normal_sample(key, 0, {100'003}, dtype)}; }

OpCase add_case() {
  OpCase c;
  c.name = "add";
  c.covers = {"add", "broadcast_to", "sum_to", "reshape"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(add(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) { return Arrays{map(x[0], x[1], [](double a, double b) { return a + b; })}; };
  c.samples = [](Key key, DType dtype) {
    Lists lists = normals_of_several(
        {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{2, 1}, {1, 3}}, {{}, {4}}, {{1}, {1}}, {{2, 0}, {1}}, {{37}, {37}}})(key,
                                                                                                                 dtype);
    lists.push_back({integer_sample(key, 50, {2, 3}, -9, 9), integer_sample(key, 51, {3}, -9, 9)});
    return lists;
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {100'003}, dtype), normal_sample(key, 1, {100'003}, dtype)};
  };
  c.errors = {{"shapes",
               [] {
                 (void)add(zeros({2, 3}), zeros({2}));
               },
               "ShapeError",
               {"[add]", "(2, 3)", "(2,)", "reshape"}},
              {"dtypes",
               [] { (void)add(zeros({2}), zeros({2}, float64)); },
               "DtypeError",
               {"[add]", "float64(2,)", "cast(x, dtype)"}}};
  return c;
}

OpCase affine_case() {
  OpCase c;
  c.name = "affine";
  c.covers = {"affine"};
  c.function = [](Tensors x) { return detail::one(affine(std::move(x[0]), -1.5, 0.25)); };
  c.reference = [](const Arrays& x) { return Arrays{map(x[0], [](double v) { return -1.5 * v + 0.25; })}; };
  c.samples = normals_of_several({{{2, 3}}, {{37}}, {{}}, {{1, 1}}, {{2, 0}}});
  c.large = large_vector;
  c.errors = {
      {"fraction", [] { (void)affine(zeros({2}, int64), 0.5, 0.0); }, "DtypeError", {"[affine]", "fractional", "cast"}},
      {"dtype", [] { (void)affine(zeros({2}, boolean), 2.0, 0.0); }, "DtypeError", {"[affine]", "bool(2,)", "cast"}}};
  return c;
}

OpCase view_case(const char* name, std::function<Tensor(Tensor)> f, std::function<Array(const Array&)> reference,
                 std::vector<std::vector<Shape>> shapes) {
  OpCase c;
  c.name = name;
  c.covers = {name};
  c.linear = true;
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{reference(x[0])}; };
  c.samples = normals_of_several(std::move(shapes));
  return c;
}

Array transposed(const Array& x) {  // axes 0 and 2 swapped
  Array out({x.shape[2], x.shape[1], x.shape[0]});
  for_each_index(x.shape, [&](const Dims& i) { out.at({i[2], i[1], i[0]}) = x.at(i); });
  return out;
}

std::vector<OpCase> view_cases() {
  std::vector<OpCase> cases;
  cases.push_back(view_case(
      "reshape",
      [](Tensor x) {
        return reshape(std::move(x), {2, -1, 1});
      },
      [](const Array& x) {
        return Array({2, x.numel() / 2, 1}, x.values);
      },
      {{{2, 3}}, {{3, 4}}, {{2, 1, 5}}, {{0, 3}}}));
  cases.back().covers = {"reshape"};
  cases.back().no_single = "two rows need two elements";
  cases.back().errors = {{"size",
                          [] {
                            (void)reshape(zeros({2, 3}), {4});
                          },
                          "ShapeError",
                          {"[reshape]", "(2, 3)", "(4,)", "one extent may be -1"}}};
  cases.push_back(view_case("permute",
                            [](Tensor x) {
                              return permute(std::move(x), {-1, 1, 0});
                            },
                            transposed, {{{2, 3, 4}}, {{1, 5, 2}}, {{3, 1, 1}}, {{1, 1, 1}}, {{0, 3, 2}}}));
  cases.back().errors = {{"twice",
                          [] {
                            (void)permute(zeros({2, 3}), {0, 0});
                          },
                          "ShapeError",
                          {"[permute]", "(0, 0)", "exactly once"}},
                         {"count",
                          [] {
                            (void)permute(zeros({2, 3}), {0});
                          },
                          "ShapeError",
                          {"[permute]", "exactly once"}}};
  cases.push_back(view_case(
      "broadcast_to",
      [](Tensor x) {
        return broadcast_to(std::move(x), {3, 2, 4});
      },
      [](const Array& x) {
        return broadcast(x, {3, 2, 4});
      },
      {{{2, 1}}, {{4}}, {{3, 1, 1}}, {{}}, {{1}}}));
  cases.back().covers = {"broadcast_to", "sum_to"};
  cases.back().no_empty = "the target has elements; empty targets in basis tests of autodiff";
  cases.back().errors = {
      {"extent", [] { (void)broadcast_to(zeros({2}), {3}); }, "ShapeError", {"[broadcast_to]", "(3,)", "equal or 1"}}};
  cases.push_back(view_case(
      "sum_to",
      [](Tensor x) {
        return sum_to(std::move(x), {2, 1});
      },
      [](const Array& x) {
        Array out({2, 1});
        const int rank = x.shape.rank();
        for_each_index(x.shape, [&](const Dims& i) { out.at({i[rank - 2], 0}) += x.at(i); });
        return out;
      },
      {{{2, 3}}, {{3, 2, 4}}, {{2, 19}}, {{2, 0}}}));
  cases.back().covers = {"sum_to", "broadcast_to"};
  cases.back().strided_bitwise = false;  // the order of additions follows memory
  cases.back().no_single = "two rows need two elements; sum over one element in op_table_reduce.cpp";
  cases.back().errors = {{"extent",
                          [] {
                            (void)sum_to(zeros({2, 3}), {2});
                          },
                          "ShapeError",
                          {"[sum_to]", "(2, 3)", "(2,)", "equal or 1"}}};
  return cases;
}

// --- mechanism --------------------------------------------------------------------------------------------------------------------

const std::vector<std::vector<Shape>> kShapes = {{{2, 3}}, {{5}}, {{}}, {{1}}, {{0}}, {{2, 0}}};

// y + y^3 = theta by Newton's method: implicit function with derivative 1 / (1 + 3 y^2).
Tensors solve_cubic(const Tensors& theta) {
  Tensor y = zeros_like(theta[0]);
  for (int step = 0; step < 60; ++step) y = y - (y + y * square(y) - theta[0]) / (3.0 * square(y) + 1.0);
  return {y};
}

double cubic_root(double theta) {
  double low = -10.0;
  double high = 10.0;
  for (int i = 0; i < 100; ++i) {
    const double y = 0.5 * (low + high);
    (y + y * y * y < theta ? low : high) = y;
  }
  return 0.5 * (low + high);
}

std::vector<OpCase> mechanism_cases() {
  std::vector<OpCase> cases;
  OpCase root;
  root.name = "custom_root";
  root.covers = {"custom_root"};
  root.function = [](Tensors x) {
    return custom_root([](const Tensors& y, const Tensors& t) { return Tensors{y[0] + y[0] * square(y[0]) - t[0]}; }, x,
                       solve_cubic,
                       [](const Tensors& y, const Tensors&, const Tensors& rhs, bool) {
                         return Tensors{rhs[0] / (3.0 * square(y[0]) + 1.0)};
                       });
  };
  root.reference = [](const Arrays& x) { return Arrays{map(x[0], cubic_root)}; };
  root.samples = normals_of_several(kShapes);
  root.errors = {{"capture",
                  [] {
                    (void)grad(
                        [](const Tensor& x) {
                          const Tensors y = custom_root(
                              [](const Tensors& v, const Tensors& t) { return Tensors{v[0] - t[0]}; },
                              {zeros({}, float64)}, by_value([x](const Tensors& t) { return Tensors{t[0] * x}; }),
                              [](const Tensors&, const Tensors&, const Tensors& rhs, bool) { return rhs; });
                          return y[0];
                        },
                        ones({}, float64));
                  },
                  "AutodiffError",
                  {"captured", "theta"}}};
  cases.push_back(root);

  OpCase reverse;
  reverse.name = "custom_vjp";
  reverse.covers = {"custom_vjp"};
  reverse.no_forward = "custom_vjp has no forward rule by design";
  reverse.function = [](Tensors x) {
    return custom_vjp(
        [](const Tensors& v) { return Tensors{v[0] * square(v[0])}; },
        [](const Tensors& v, const Tensors&, const Tensors& g) { return Tensors{3.0 * g[0] * square(v[0])}; }, x);
  };
  reverse.reference = [](const Arrays& x) { return Arrays{map(x[0], [](double v) { return v * v * v; })}; };
  reverse.samples = normals_of_several(kShapes);
  reverse.errors = {{"forward mode",
                     [] {
                       (void)jvp(
                           [](const Tensor& x) {
                             return custom_vjp([](const Tensors& v) { return v; },
                                               [](const Tensors&, const Tensors&, const Tensors& g) { return g; },
                                               {x})[0];
                           },
                           ones({}), ones({}));
                     },
                     "AutodiffError",
                     {"[custom_vjp]", "custom_jvp"}}};
  cases.push_back(reverse);

  OpCase forward;
  forward.name = "custom_jvp";
  forward.covers = {"custom_jvp"};
  forward.function = [](Tensors x) {
    return custom_jvp([](const Tensors& v) { return Tensors{v[0] * square(v[0])}; },
                      [](const Tensors& v, const Tensors& t) { return Tensors{3.0 * t[0] * square(v[0])}; }, x);
  };
  forward.reference = reverse.reference;
  forward.samples = normals_of_several(kShapes);
  forward.no_errors = "takes any function; misuse is tested in autodiff";
  cases.push_back(forward);

  OpCase replay;
  replay.name = "checkpoint";
  replay.covers = {"checkpoint"};
  replay.function = [](Tensors x) { return checkpoint([](const Tensors& v) { return Tensors{sin(v[0]) * v[0]}; }, x); };
  replay.reference = [](const Arrays& x) { return Arrays{map(x[0], [](double v) { return std::sin(v) * v; })}; };
  replay.samples = normals_of_several(kShapes);
  replay.no_errors = "takes any function; captures are tested in autodiff";
  cases.push_back(replay);
  return cases;
}

}  // namespace

std::vector<OpCase> basis_cases() {
  std::vector<OpCase> cases = {add_case(), affine_case()};
  for (auto& family : {view_cases(), mechanism_cases()}) cases.insert(cases.end(), family.begin(), family.end());
  return cases;
}

}  // namespace solvent::testing
