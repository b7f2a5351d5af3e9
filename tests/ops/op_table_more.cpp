// Entries of the table of operations: sorting, parts of matrices, running products, norms, and functions composed of other
// operations.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/scan.h"
#include "solvent/ops/sort.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;
using Row = std::vector<double>;
using Scalar1 = double (*)(double);

// --- inputs -------------------------------------------------------------------------------------------------------------------

Tensor floating(const Array& a, DType dtype) {
  if (dtype == float64) return from_vector(a.values, a.shape);
  return from_vector(std::vector<float>(a.values.begin(), a.values.end()), a.shape);
}

Samples uniforms(std::vector<Shape> shapes, double low, double high) {
  return [shapes = std::move(shapes), low, high](Key key, DType dtype) {
    Lists lists;
    for (std::size_t i = 0; i < shapes.size(); ++i)
      lists.push_back({uniform_sample(key, i, shapes[i], dtype, low, high)});
    return lists;
  };
}

// Numbers of different magnitude in random order with random signs: orders and largest |x| stay under small steps.
Tensor distinct_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  const Key k = key.fold_in(n);
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < static_cast<std::size_t>(shape.product()); ++i) order.emplace_back(k.uniform(i), i);
  std::sort(order.begin(), order.end());
  Array a(shape);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const double sign = k.bits(i) % 2 == 0 ? -1.0 : 1.0;
    a.values[order[i].second] = sign * (0.1 + 1.5 * static_cast<double>(i + 1) / static_cast<double>(order.size()));
  }
  return floating(a, dtype);
}

Samples distinct(std::vector<Shape> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    for (std::size_t i = 0; i < shapes.size(); ++i) lists.push_back({distinct_sample(key, i, shapes[i], dtype)});
    return lists;
  };
}

std::function<Tensors(Key, DType)> large(const Shape& shape) {
  return [shape](Key key, DType dtype) { return Tensors{normal_sample(key, 0, shape, dtype)}; };
}

const std::vector<Shape> kShapes = {{2, 3}, {37}, {3, 2, 2}, {}, {1, 1}, {0}, {2, 0, 3}};
const std::vector<Shape> kLines = {{2, 5}, {3, 4, 2}, {7, 1}, {0, 3}, {3, 0}, {1, 1}};
constexpr std::int64_t kLarge = 100'003;

// --- naive twins ----------------------------------------------------------------------------------------------------------------

// Replaces every line of `x` along `axis` by f(line), which has `size` elements.
Array along(const Array& x, int axis, std::int64_t size, const std::function<Row(const Row&)>& f) {
  if (axis < 0) axis += x.shape.rank();
  Shape lines = x.shape;
  lines[axis] = 1;
  Shape shape = x.shape;
  shape[axis] = size;
  Array out(shape);
  for_each_index(lines, [&](const Dims& line) {
    Dims at = line;
    Row row;
    for (std::int64_t i = 0; i < x.shape[axis]; ++i) {
      at[axis] = i;
      row.push_back(x.at(at));
    }
    row = f(row);
    for (std::int64_t i = 0; i < size; ++i) {
      at[axis] = i;
      out.at(at) = row[static_cast<std::size_t>(i)];
    }
  });
  return out;
}

// --- elementwise ----------------------------------------------------------------------------------------------------------------

OpCase pointwise(const char* name, const char* recorded, Tensor (*f)(Tensor), Scalar1 reference, double low,
                 double high) {
  OpCase c;
  c.name = name;
  c.covers = {recorded};
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{map(x[0], reference)}; };
  c.samples = uniforms(kShapes, low, high);
  c.large = [low, high](Key key, DType dtype) { return Tensors{uniform_sample(key, 0, {kLarge}, dtype, low, high)}; };
  const std::string tag = "[" + std::string(name).substr(std::string(name).find('/') + 1) + "]";
  c.errors = {{"integer tensor",
               [f] { (void)f(zeros({2}, int64)); },
               "DtypeError",
               {tag, "int64(2,)", "expected float32 or float64", "cast(x, dtype)"}}};
  return c;
}

std::vector<OpCase> pointwise_cases() {
  std::vector<OpCase> cases;
  cases.push_back(pointwise("pow/exp2", "pow", exp2, std::exp2, -3.0, 3.0));
  cases.push_back(pointwise("log/log2", "log", log2, std::log2, 0.3, 4.0));
  cases.push_back(pointwise("log/log10", "log", log10, std::log10, 0.3, 4.0));
  cases.push_back(pointwise(
      "log/logit", "log", logit, [](double x) { return std::log(x / (1.0 - x)); }, 0.1, 0.9));
  cases.push_back(pointwise("div/tan", "div", tan, std::tan, -1.2, 1.2));
  cases.push_back(pointwise("expm1/sinh", "expm1", sinh, std::sinh, -2.0, 2.0));
  cases.push_back(pointwise("exp/cosh", "exp", cosh, std::cosh, -2.0, 2.0));
  cases.push_back(pointwise("trunc", "trunc", trunc, std::trunc, -8.0, 8.0));
  cases.back().not_differentiable = "piecewise constant";
  for (const auto& [name, f, reference] : {std::tuple<const char*, Tensor (*)(Tensor), Scalar1>{
                                               "isnan", isnan, [](double x) { return double(std::isnan(x)); }},
                                           {"isinf", isinf, [](double x) { return double(std::isinf(x)); }}}) {
    cases.push_back(pointwise(name, name, f, reference, -1.0, 1.0));
    cases.back().not_differentiable = "bool result";
    cases.back().samples = [](Key key, DType dtype) {
      Lists lists;
      for (std::size_t i = 0; i < kShapes.size(); ++i)  // log(0) and log(-1) give inf and NaN
        lists.push_back({log(cast(integer_sample(key, i, kShapes[i], -1, 3), dtype))});
      return lists;
    };
  }
  for (const auto& [name, f] :
       {std::pair<const char*, Tensor (*)(Tensor)>{
            "clip/half", [](Tensor x) { return clip(std::move(x), -1.0, 1.5, SlopeAtBounds::half); }},
        {"clip/zero", [](Tensor x) { return clip(std::move(x), -1.0, 1.5, SlopeAtBounds::zero); }}}) {
    cases.push_back(pointwise(
        name, "clip", f, [](double x) { return std::clamp(x, -1.0, 1.5); }, -2.5, 2.5));
    cases.back().errors.clear();
    cases.back().no_errors = "see clip";
    cases.back().covers.emplace_back("clip_grad");
    cases.back().samples = [](Key key, DType dtype) {  // every 0.5 but the bounds
      Lists lists;
      for (std::size_t i = 0; i < kShapes.size(); ++i)
        lists.push_back({affine(cast(integer_sample(key, i, kShapes[i], -3, 4), dtype), 0.7, 0.2)});
      return lists;
    };
  }
  return cases;
}

// a = (q + u) b with integer q and u in [0.1, 0.9]: away from the jumps.
Lists division_samples(Key key, DType dtype) {
  Lists lists;
  std::uint64_t n = 0;
  const std::vector<std::pair<Shape, Shape>> shapes = {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{4}, {}},
                                                       {{1}, {1}},       {{0}, {1}},    {{37}, {37}}};
  for (const auto& [shape, other] : shapes) {
    const Array b = map(Array(uniform_sample(key, n, other, float64, 0.5, 2.0)),
                        Array(cast(boolean_sample(key, n + 1, other), float64)),
                        [](double v, double sign) { return sign > 0 ? v : -v; });
    const Array q(integer_sample(key, n + 2, shape, -3, 3));
    const Array u(uniform_sample(key, n + 3, shape, float64, 0.1, 0.9));
    const Array a =
        map(map(q, u, [](double x, double y) { return x + y; }), b, [](double x, double y) { return x * y; });
    lists.push_back({floating(a, dtype), floating(b, dtype)});
    n += 4;
  }
  return lists;
}

std::vector<OpCase> binary_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "fmod";
  c.covers = {"fmod"};
  c.function = [](Tensors x) { return detail::one(fmod(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    return Arrays{map(x[0], x[1], [](double a, double b) { return a - b * std::trunc(a / b); })};
  };
  c.samples = division_samples;
  c.tolerance_f32 = 5e-6;
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {kLarge}, dtype), uniform_sample(key, 1, {kLarge}, dtype, 0.5, 2.0)};
  };
  c.errors = {{"shapes",
               [] {
                 (void)fmod(zeros({2, 3}), zeros({2}));
               },
               "ShapeError",
               {"[fmod]", "(2, 3)", "(2,)"}},
              {"integers",
               [] { (void)fmod(zeros({2}, int64), zeros({2}, int64)); },
               "DtypeError",
               {"[fmod]", "expected float32 or float64", "cast"}}};
  cases.push_back(c);
  c.name = "fmod/remainder";
  c.covers = {"fmod", "where"};
  c.function = [](Tensors x) { return detail::one(remainder(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    return Arrays{map(x[0], x[1], [](double a, double b) { return a - b * std::floor(a / b); })};
  };
  c.errors.clear();
  c.no_errors = "see fmod";
  cases.push_back(c);

  OpCase x;
  x.name = "logical_xor";
  x.covers = {"logical_xor"};
  x.not_differentiable = "bool result";
  x.function = [](Tensors t) { return detail::one(logical_xor(std::move(t[0]), std::move(t[1]))); };
  x.reference = [](const Arrays& t) {
    return Arrays{map(t[0], t[1], [](double a, double b) { return double(a != b); })};
  };
  x.samples = [](Key key, DType) {
    Lists lists;
    for (const Shape& shape : kShapes)
      lists.push_back({boolean_sample(key, 2 * lists.size(), shape), boolean_sample(key, 2 * lists.size() + 1, shape)});
    return lists;
  };
  x.errors = {{"not bool",
               [] { (void)logical_xor(zeros({2}), zeros({2})); },
               "DtypeError",
               {"[logical_xor]", "float32(2,)", "expected bool"}}};
  cases.push_back(x);
  return cases;
}

std::vector<OpCase> gate_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "elu/concat_elu";
  c.covers = {"elu", "concat", "neg"};
  c.function = [](Tensors x) { return detail::one(concat_elu(std::move(x[0]), 1)); };
  c.reference = [](const Arrays& x) {
    const auto elu_of = [](double v) { return v > 0 ? v : std::expm1(v); };
    return Arrays{along(x[0], 1, 2 * x[0].shape[1], [&](const Row& r) {
      Row out;
      for (const double v : r) out.push_back(elu_of(v));
      for (const double v : r) out.push_back(elu_of(-v));
      return out;
    })};
  };
  c.samples = distinct({{2, 3}, {2, 3, 2}, {3, 0}, {1, 1}, {0, 2}});
  c.large = large({301, 401});
  c.errors = {{"axis", [] { (void)concat_elu(zeros({2}), 1); }, "ShapeError", {"[concat_elu]", "1"}},
              {"dtype", [] { (void)concat_elu(zeros({2}, int64)); }, "DtypeError", {"[concat_elu]", "int64(2,)"}}};
  cases.push_back(c);

  c = OpCase();
  c.name = "sigmoid/glu";
  c.covers = {"sigmoid", "split", "mul"};
  c.function = [](Tensors x) { return detail::one(glu(std::move(x[0]), 1)); };
  c.reference = [](const Arrays& x) {
    return Arrays{along(x[0], 1, x[0].shape[1] / 2, [](const Row& r) {
      Row out;
      for (std::size_t i = 0; i < r.size() / 2; ++i) out.push_back(r[i] / (1.0 + std::exp(-r[i + r.size() / 2])));
      return out;
    })};
  };
  c.samples = normals({{2, 6}, {2, 4, 2}, {3, 0}, {1, 2}, {0, 2}});
  c.no_single = "the axis has an even extent";
  c.large = large({301, 400});
  c.errors = {{"odd",
               [] {
                 (void)glu(zeros({2, 3}));
               },
               "ShapeError",
               {"[glu]", "(2, 3)", "odd", "even"}},
              {"dtype", [] { (void)glu(zeros({2}, int64)); }, "DtypeError", {"[glu]", "int64(2,)"}}};
  cases.push_back(c);

  c = OpCase();
  c.name = "gather/embedding";
  c.covers = {"gather", "scatter_add"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(embedding(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    Shape shape = x[1].shape;
    const std::int64_t width = x[0].shape[1];
    shape.push_back(width);
    Array out(shape);
    for (std::int64_t i = 0; i < x[1].numel(); ++i)
      for (std::int64_t j = 0; j < width; ++j) out[i * width + j] = x[0].at({static_cast<std::int64_t>(x[1][i]), j});
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    for (const auto& [table, index] : std::vector<std::pair<Shape, Shape>>{
             {{4, 3}, {5}}, {{3, 2}, {2, 3}}, {{3, 4}, {}}, {{1, 1}, {1}}, {{2, 3}, {0}}})
      lists.push_back({normal_sample(key, 2 * lists.size(), table, dtype),
                       integer_sample(key, 2 * lists.size() + 1, index, 0, table[0])});
    return lists;
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {50, 64}, dtype), integer_sample(key, 1, {3000}, 0, 50)};
  };
  c.errors = {{"rank", [] { (void)embedding(zeros({3}), zeros({1}, int64)); }, "ShapeError", {"[embedding]", "(V, D)"}},
              {"index",
               [] {
                 (void)embedding(zeros({3, 2}), tensor({0, 3}, int64));
               },
               "ValueError",
               {"[embedding]", "index 3", "[0, 3)"}},
              {"dtype",
               [] {
                 (void)embedding(zeros({3, 2}), zeros({2}));
               },
               "DtypeError",
               {"[embedding]", "int64"}}};
  cases.push_back(c);
  return cases;
}

// --- sort -------------------------------------------------------------------------------------------------------------------------

// Values and positions of the first `count` of each line; all if negative.
Arrays naive_sort(const Array& x, int axis, std::int64_t count, bool descending) {
  const std::int64_t size = x.shape[axis < 0 ? axis + x.shape.rank() : axis];
  if (count < 0) count = size;
  const auto order = [&](const Row& r) {
    std::vector<std::size_t> index(r.size());
    std::iota(index.begin(), index.end(), std::size_t{0});
    std::stable_sort(index.begin(), index.end(),
                     [&](std::size_t a, std::size_t b) { return descending ? r[a] > r[b] : r[a] < r[b]; });
    return index;
  };
  return {along(x, axis, count,
                [&](const Row& r) {
                  Row out;
                  for (const std::size_t i : order(r)) out.push_back(r[i]);
                  return out;
                }),
          along(x, axis, count, [&](const Row& r) {
            Row out;
            for (const std::size_t i : order(r)) out.push_back(static_cast<double>(i));
            return out;
          })};
}

OpCase sort_case(const char* name, int axis, std::int64_t count, bool descending) {
  OpCase c;
  c.name = name;
  c.covers = {"sort"};
  c.function = [=](Tensors x) {
    auto [value, index] =
        count < 0 ? sort(std::move(x[0]), axis, descending) : topk(std::move(x[0]), count, axis, descending);
    return Tensors{value, index};
  };
  c.reference = [=](const Arrays& x) { return naive_sort(x[0], axis, count, descending); };
  c.samples = [](Key key, DType dtype) {
    Lists lists = distinct(kLines)(key, dtype);
    lists.push_back({integer_sample(key, 99, {4, 5}, -2, 2)});  // ties
    return lists;
  };
  c.large = large({40, 3000});
  c.no_errors = "same front end as sort";
  return c;
}

std::vector<OpCase> sort_cases() {
  std::vector<OpCase> cases;
  cases.push_back(sort_case("sort", -1, -1, false));
  cases.back().no_errors.clear();
  cases.back().errors = {
      {"axis", [] { (void)sort(zeros({3}), 1); }, "ShapeError", {"[sort]", "1"}},
      {"dtype", [] { (void)sort(zeros({3}, boolean)); }, "DtypeError", {"[sort]", "bool(3,)", "cast"}},
      {"argsort", [] { (void)argsort(zeros({3}, uint8)); }, "DtypeError", {"[argsort]", "uint8(3,)"}}};
  cases.push_back(sort_case("sort/descending", 0, -1, true));
  cases.push_back(sort_case("sort/topk", 1, 1, true));
  cases.back().samples = distinct({{2, 5}, {3, 4, 2}, {7, 1}, {0, 3}, {1, 1}, {2, 30}});
  cases.back().no_errors.clear();
  cases.back().errors = {{"k", [] { (void)topk(zeros({3}), 4); }, "ValueError", {"[topk]", "k = 4", "0 <= k <= 3"}},
                         {"negative", [] { (void)topk(zeros({3}), -1); }, "ValueError", {"[topk]", "k = -1"}}};
  cases.push_back(sort_case("sort/bottomk", 0, 2, false));
  cases.back().samples = distinct({{5, 2}, {4, 3, 2}, {7}, {2, 0}, {20, 2}});
  cases.back().no_single = "two elements are asked for";
  return cases;
}

// --- parts of matrices ------------------------------------------------------------------------------------------------------------

OpCase linear_case(const char* name, std::vector<std::string> covers, std::function<Tensor(Tensor)> f,
                   std::function<Array(const Array&)> reference, std::vector<Shape> shapes) {
  OpCase c;
  c.name = name;
  c.covers = std::move(covers);
  c.linear = true;
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{reference(x[0])}; };
  c.samples = normals(std::move(shapes));
  c.large = large({3, 201, 301});
  c.no_errors = "see the first entry of the family";
  return c;
}

Array masked(const Array& x, const std::function<bool(std::int64_t, std::int64_t)>& keep) {
  Array out(x.shape);
  for_each_index(x.shape, [&](const Dims& i) {
    if (keep(i[i.rank() - 2], i[i.rank() - 1])) out.at(i) = x.at(i);
  });
  return out;
}

Array naive_diagonal(const Array& x, std::int64_t offset) {
  Shape shape = x.shape;
  const std::int64_t columns = shape.back();
  shape.pop_back();
  const std::int64_t rows = shape.back();
  std::int64_t length = 0;
  for (std::int64_t r = 0; r < rows; ++r) length += r + offset >= 0 && r + offset < columns;
  shape[shape.rank() - 1] = length;
  Array out(shape);
  for_each_index(shape, [&](const Dims& i) {
    Dims at = i;
    at[at.rank() - 1] = i.back() + std::max<std::int64_t>(0, -offset);
    at.push_back(at.back() + offset);
    out.at(i) = x.at(at);
  });
  return out;
}

std::vector<OpCase> matrix_cases() {
  const std::vector<Shape> shapes = {{3, 3}, {2, 4}, {2, 5, 3}, {1, 1}, {0, 3}, {3, 0}, {2, 2, 2, 3}};
  std::vector<OpCase> cases;
  cases.push_back(linear_case(
      "tril", {"tril"}, [](Tensor x) { return tril(std::move(x)); },
      [](const Array& x) { return masked(x, [](auto r, auto c) { return c <= r; }); }, shapes));
  cases.back().no_errors.clear();
  cases.back().errors = {{"rank", [] { (void)tril(zeros({3})); }, "ShapeError", {"[tril]", "(3,)", "reshape"}}};
  cases.push_back(linear_case(
      "triu", {"triu"}, [](Tensor x) { return triu(std::move(x)); },
      [](const Array& x) { return masked(x, [](auto r, auto c) { return c >= r; }); }, shapes));
  cases.push_back(linear_case(
      "tril/above", {"tril"}, [](Tensor x) { return tril(std::move(x), 1); },
      [](const Array& x) { return masked(x, [](auto r, auto c) { return c - r <= 1; }); }, shapes));
  cases.push_back(linear_case(
      "triu/below", {"triu"}, [](Tensor x) { return triu(std::move(x), -2); },
      [](const Array& x) { return masked(x, [](auto r, auto c) { return c - r >= -2; }); }, shapes));
  cases.push_back(linear_case(
      "diagonal", {"diagonal", "diag_embed"}, [](Tensor x) { return diagonal(std::move(x)); },
      [](const Array& x) { return naive_diagonal(x, 0); }, shapes));
  cases.back().no_errors.clear();
  cases.back().errors = {{"rank", [] { (void)diagonal(zeros({3})); }, "ShapeError", {"[diagonal]", "(3,)"}},
                         {"axes",
                          [] {
                            (void)diagonal(zeros({3, 3}), 0, 1, -1);
                          },
                          "ShapeError",
                          {"[diagonal]", "same axis"}}};
  cases.push_back(linear_case(
      "diagonal/above", {"diagonal", "diag_embed"}, [](Tensor x) { return diagonal(std::move(x), 1); },
      [](const Array& x) { return naive_diagonal(x, 1); }, shapes));
  cases.push_back(linear_case(
      "diagonal/below", {"diagonal", "diag_embed"}, [](Tensor x) { return diagonal(std::move(x), -2); },
      [](const Array& x) { return naive_diagonal(x, -2); }, {{4, 3}, {2, 5, 3}, {3, 2}, {0, 3}}));
  cases.back().no_single = "the diagonal of one element has no others beside it";
  cases.push_back(linear_case(
      "diag_embed", {"diag_embed", "diagonal"}, [](Tensor x) { return diag_embed(std::move(x), -1); },
      [](const Array& x) {
        Shape shape = x.shape;
        shape[shape.rank() - 1] += 1;
        shape.push_back(shape.back());
        Array out(shape);
        for_each_index(x.shape, [&](const Dims& i) {
          Dims at = i;
          at[at.rank() - 1] += 1;
          at.push_back(i.back());
          out.at(at) = x.at(i);
        });
        return out;
      },
      {{3}, {2, 4}, {2, 2, 2}, {1}, {0}}));
  cases.back().no_errors.clear();
  cases.back().errors = {{"0-d", [] { (void)diag_embed(zeros({})); }, "ShapeError", {"[diag_embed]", "0-d"}},
                         {"diag",
                          [] {
                            (void)diag(zeros({2, 3, 4}));
                          },
                          "ShapeError",
                          {"[diag]", "(2, 3, 4)", "diag_embed"}}};
  cases.push_back(linear_case(
      "diagonal/trace", {"diagonal", "sum_to"}, [](Tensor x) { return trace(std::move(x), 1); },
      [](const Array& x) {
        Array d = naive_diagonal(x, 1);
        const std::int64_t n = d.shape.back();
        d = along(d, -1, 1, [](const Row& r) { return Row{std::accumulate(r.begin(), r.end(), 0.0)}; });
        (void)n;
        d.shape.pop_back();
        return d;
      },
      shapes));
  cases.back().strided_bitwise = false;  // sums add in the order of memory
  return cases;
}

// --- running sums and products ------------------------------------------------------------------------------------------------------

Row running(const Row& r, bool reversed, bool exclusive, bool product) {
  Row out(r.size());
  double total = product ? 1.0 : 0.0;
  for (std::size_t step = 0; step < r.size(); ++step) {
    const std::size_t i = reversed ? r.size() - 1 - step : step;
    const double next = product ? total * r[i] : total + r[i];
    out[i] = exclusive ? total : next;
    total = next;
  }
  return out;
}

std::vector<OpCase> running_cases() {
  std::vector<OpCase> cases;
  for (const bool product : {false, true})
    for (const bool reversed : {false, true})
      for (const bool exclusive : {false, true}) {
        if (!product && !exclusive) continue;  // op_table_linalg.cpp
        const int axis = reversed ? -1 : 1;
        OpCase c;
        c.covers = {product ? "cumprod" : "cumsum"};
        c.name = c.covers[0] + (reversed || exclusive ? "/" : "") + (reversed ? "reversed" : "") +
                 (exclusive ? "exclusive" : "");
        c.linear = !product;
        c.function = [=](Tensors x) {
          return detail::one(product ? cumprod(std::move(x[0]), axis, reversed, exclusive)
                                     : cumsum(std::move(x[0]), axis, reversed, exclusive));
        };
        c.reference = [=](const Arrays& x) {
          const std::int64_t size = x[0].shape[axis < 0 ? axis + x[0].shape.rank() : axis];
          return Arrays{
              along(x[0], axis, size, [=](const Row& r) { return running(r, reversed, exclusive, product); })};
        };
        c.samples = [](Key key, DType dtype) {
          Lists lists = normals({{2, 5}, {3, 4, 2}, {7, 1}, {0, 3}, {3, 0}, {1, 1}})(key, dtype);
          // One and two zeros per line: derivatives may not divide by x.
          lists.push_back({cast(integer_sample(key, 99, {4, 5}, -1, 3), dtype)});
          return lists;
        };
        c.large = large({30, 40, 90});
        c.no_errors = "same front end as cumsum";
        if (product && !reversed && !exclusive) {
          c.no_errors.clear();
          c.errors = {
              {"axis", [] { (void)cumprod(zeros({3}), 1); }, "ShapeError", {"[cumprod]"}},
              {"bool", [] { (void)cumprod(zeros({3}, boolean), 0); }, "DtypeError", {"[cumprod]", "bool", "cast"}}};
        }
        cases.push_back(c);
      }
  return cases;
}

// --- norms ----------------------------------------------------------------------------------------------------------------------------

OpCase norm_case(const char* name, const char* recorded, double p, Axes axes, std::vector<Shape> shapes) {
  OpCase c;
  c.name = name;
  c.covers = {recorded};
  c.function = [=](Tensors x) { return detail::one(norm(std::move(x[0]), p, axes, true)); };
  c.reference = [=](const Arrays& x) {
    Array y = map(x[0], [p](double v) { return std::isinf(p) ? std::fabs(v) : std::pow(std::fabs(v), p); });
    for (int i = 0; i < y.shape.rank(); ++i) {
      bool reduce = axes.empty();
      for (const std::int64_t a : axes) reduce = reduce || (a < 0 ? a + y.shape.rank() : a) == i;
      if (reduce)
        y = along(y, i, 1, [p](const Row& r) {
          return Row{std::isinf(p) ? *std::max_element(r.begin(), r.end()) : std::accumulate(r.begin(), r.end(), 0.0)};
        });
    }
    return Arrays{std::isinf(p) ? y : map(y, [p](double v) { return std::pow(v, 1.0 / p); })};
  };
  c.samples = distinct(std::move(shapes));
  c.large = large({301, 401});
  c.strided_bitwise = false;  // sums add in the order of memory
  c.no_errors = "see square/norm";
  return c;
}

std::vector<OpCase> vector_norm_cases() {
  std::vector<OpCase> cases;
  cases.push_back(norm_case("square/norm", "square", 2.0, {}, {{2, 3}, {3, 2, 2}, {5}, {}, {1, 1}, {0, 2}}));
  cases.back().no_errors.clear();
  cases.back().errors = {{"p", [] { (void)norm(zeros({2}), 0.5); }, "ValueError", {"[norm]", "p = 0.5", ">= 1"}},
                         {"dtype", [] { (void)norm(zeros({2}, int64)); }, "DtypeError", {"[norm]", "int64(2,)"}},
                         {"axis", [] { (void)norm(zeros({2}), 2.0, {1}); }, "ShapeError", {"[norm]", "1"}}};
  cases.push_back(norm_case("abs/norm_1", "abs", 1.0, {0}, {{2, 3}, {3, 2, 2}, {5}, {1, 1}, {2, 0}}));
  cases.push_back(
      norm_case("pow_scalar/norm_3", "pow_scalar", 3.0, {-1, 0}, {{2, 3}, {3, 2, 2}, {4, 2}, {1, 1}, {0, 2}}));
  cases.push_back(norm_case("max_with_arg/norm_inf", "max_with_arg", std::numeric_limits<double>::infinity(), {-1, 0},
                            {{2, 3}, {3, 2, 2}, {4, 2}, {1, 1}}));
  cases.back().no_empty = "nothing has no largest element";
  return cases;
}

}  // namespace

std::vector<OpCase> more_cases() {
  std::vector<OpCase> cases;
  for (auto& family : {pointwise_cases(), binary_cases(), gate_cases(), sort_cases(), matrix_cases(), running_cases(),
                       vector_norm_cases(), einsum_cases(), distribution_cases()})
    cases.insert(cases.end(), family.begin(), family.end());
  return cases;
}

}  // namespace solvent::testing
