// Entries of the table of operations: reductions, row-wise normalisations, losses and random tensors.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/loss.h"
#include "solvent/ops/random.h"
#include "solvent/ops/reduce.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;
using Row = std::vector<double>;

// --- naive twins: rows along one axis --------------------------------------------------------------------------------------------

// Replaces every line of `x` along `axis` by f(line), which may have another length.
Array along(const Array& x, int axis, const std::function<Row(const Row&)>& f) {
  if (axis < 0) axis += x.shape.rank();
  Shape lines = x.shape;
  lines[axis] = 1;
  const Row probe = f(Row(static_cast<std::size_t>(x.shape[axis]), 1.0));
  Shape shape = x.shape;
  shape[axis] = static_cast<std::int64_t>(probe.size());
  Array out(shape);
  for_each_index(lines, [&](const Dims& line) {
    Dims at = line;
    Row row;
    for (std::int64_t i = 0; i < x.shape[axis]; ++i) {
      at[axis] = i;
      row.push_back(x.at(at));
    }
    row = f(row);
    for (std::size_t i = 0; i < row.size(); ++i) {
      at[axis] = static_cast<std::int64_t>(i);
      out.at(at) = row[i];
    }
  });
  return out;
}

Array squeezed(Array x, int axis) {
  x.shape.erase(axis < 0 ? axis + x.shape.rank() : axis);
  return x;
}

double total(const Row& r) { return std::accumulate(r.begin(), r.end(), 0.0); }
Row softmax_of(const Row& r) {
  Row e;
  for (const double v : r) e.push_back(std::exp(v));
  const double s = total(e);
  for (double& v : e) v /= s;
  return e;
}
double logsumexp_of(const Row& r) {
  double s = 0.0;
  for (const double v : r) s += std::exp(v);
  return std::log(s);
}
double mean_of(const Row& r) { return total(r) / static_cast<double>(r.size()); }
double variance_of(const Row& r, double correction) {
  double s = 0.0;
  for (const double v : r) s += (v - mean_of(r)) * (v - mean_of(r));
  return s / (static_cast<double>(r.size()) - correction);
}
constexpr double kEps = 1e-3;
Row normalised(const Row& r) {
  Row out;
  for (const double v : r) out.push_back((v - mean_of(r)) / std::sqrt(variance_of(r, 0.0) + kEps));
  return out;
}

// --- inputs ------------------------------------------------------------------------------------------------------------------------

const std::vector<Shape> kShapes = {{2, 3}, {3, 2, 4}, {2, 19}, {1, 1}, {0, 3}, {1}};

Samples normal_pairs(std::vector<Shape> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    for (std::size_t i = 0; i < shapes.size(); ++i)
      lists.push_back({normal_sample(key, 2 * i, shapes[i], dtype), normal_sample(key, 2 * i + 1, shapes[i], dtype)});
    return lists;
  };
}

Tensors large_matrix(Key key, DType dtype) { return {normal_sample(key, 0, {701, 301}, dtype)}; }

std::vector<ErrorCase> axis_errors(const char* name, std::function<void(Tensor, std::int64_t)> call) {
  const std::string tag = std::string("[") + name + "]";
  return {{"axis",
           [call] {
             call(zeros({2, 3}), 2);
           },
           "ShapeError",
           {tag, "axis 2", "-2 to 1", "count from the right"}},
          {"0-d", [call] { call(zeros({}), -1); }, "ShapeError", {tag, "0-d", "reshape"}},
          {"dtype",
           [call] {
             call(zeros({2, 3}, boolean), -1);
           },
           "DtypeError",
           {tag, "bool(2, 3)", "cast(x, dtype)"}}};
}

// A row-wise operation over `axis`; `reference` maps one line to one line.
OpCase rows(const char* name, std::vector<std::string> covers, Tensor (*f)(Tensor), int axis,
            Row (*reference)(const Row&)) {
  OpCase c;
  c.name = name;
  c.covers = std::move(covers);
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]))); };
  c.reference = [reference, axis](const Arrays& x) { return Arrays{along(x[0], axis, reference)}; };
  c.samples = normals(axis == -1 ? std::vector<Shape>{{2, 3}, {3, 2, 4}, {2, 19}, {1, 1}, {0, 3}, {2, 0}, {1}}
                                 : std::vector<Shape>{{2, 3}, {3, 2, 4}, {5, 3}, {1, 1}, {0, 3}, {1}});
  c.large = large_matrix;
  return c;
}

// The same reduced to one value per line, without that axis.
OpCase reduction(const char* name, std::vector<std::string> covers, Tensor (*f)(Tensor), int axis,
                 double (*reference)(const Row&)) {
  OpCase c = rows(name, std::move(covers), f, axis, softmax_of);
  c.reference = [reference, axis](const Arrays& x) {
    return Arrays{squeezed(along(x[0], axis, [reference](const Row& r) { return Row{reference(r)}; }), axis)};
  };
  return c;
}

// --- entries -----------------------------------------------------------------------------------------------------------------------

std::vector<OpCase> sum_cases() {
  std::vector<OpCase> cases;
  OpCase c = reduction(
      "sum_to/sum", {"sum_to", "broadcast_to"}, [](Tensor x) { return sum(std::move(x), {-1}); }, -1, total);
  c.linear = true;
  c.samples = normals({{2, 3}, {3, 2, 4}, {2, 37}, {1, 1}, {0, 3}, {2, 0}, {1}});
  c.strided_bitwise = false;  // the order of additions follows memory
  c.errors = axis_errors("sum", [](Tensor x, std::int64_t axis) { (void)sum(std::move(x), {axis}); });
  c.errors.push_back({"twice",
                      [] {
                        (void)sum(zeros({2, 3}), {1, -1});
                      },
                      "ShapeError",
                      {"[sum]", "(1, -1)", "(2, 3)", "axis 1 twice"}});
  cases.push_back(c);

  c.name = "sum_to/sum_all";
  c.function = [](Tensors x) { return detail::one(sum(std::move(x[0]))); };
  c.reference = [](const Arrays& x) { return Arrays{Array({}, total(x[0].values))}; };
  c.errors.clear();
  c.no_errors = "see sum_to/sum";
  cases.push_back(c);

  c.name = "sum_to/sum_first_keep";
  c.function = [](Tensors x) { return detail::one(sum(std::move(x[0]), {0}, true)); };
  c.reference = [](const Arrays& x) { return Arrays{along(x[0], 0, [](const Row& r) { return Row{total(r)}; })}; };
  cases.push_back(c);

  c = reduction(
      "sum_to/mean", {"sum_to", "affine"}, [](Tensor x) { return mean(std::move(x), {0}); }, 0, mean_of);
  c.linear = true;
  c.strided_bitwise = false;
  c.samples = normals({{2, 3}, {3, 2, 4}, {37}, {1, 1}, {3, 0}, {1}});
  c.errors = axis_errors("mean", [](Tensor x, std::int64_t axis) { (void)mean(std::move(x), {axis}); });
  cases.push_back(c);

  c = reduction(
      "sum_to/var", {"sum_to", "square", "sub"}, [](Tensor x) { return var(std::move(x), {-1}, false, 1.0); }, -1,
      [](const Row& r) { return variance_of(r, 1.0); });
  c.strided_bitwise = false;
  c.samples = normals({{2, 3}, {3, 2, 4}, {2, 37}, {0, 3}});
  c.no_single = "one element has no sample variance: NaN, see reduce_test.cpp";
  c.errors = axis_errors("var", [](Tensor x, std::int64_t axis) { (void)var(std::move(x), {axis}); });
  cases.push_back(c);
  return cases;
}

Arrays extreme_of(const Array& x, int axis, bool largest) {
  const auto position = [largest](const Row& r) {
    const auto it = largest ? std::max_element(r.begin(), r.end()) : std::min_element(r.begin(), r.end());
    return static_cast<std::size_t>(it - r.begin());
  };
  return {squeezed(along(x, axis, [&](const Row& r) { return Row{r[position(r)]}; }), axis),
          squeezed(along(x, axis, [&](const Row& r) { return Row{static_cast<double>(position(r))}; }), axis)};
}

std::vector<OpCase> extreme_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "max_with_arg";
  c.covers = {"max_with_arg", "gather", "scatter_add"};
  c.function = [](Tensors x) {
    ValueAndIndex r = max_with_arg(std::move(x[0]), -1);
    return Tensors{r.value, r.index};
  };
  c.reference = [](const Arrays& x) { return extreme_of(x[0], -1, true); };
  c.samples = distinct_samples(kShapes);
  c.large = large_matrix;
  c.errors = axis_errors("max_with_arg", [](Tensor x, std::int64_t axis) { (void)max_with_arg(std::move(x), axis); });
  c.errors.push_back({"empty axis",
                      [] {
                        (void)max(zeros({2, 0}), 1);
                      },
                      "ShapeError",
                      {"[max]", "(2, 0)", "axis 1", "empty"}});
  c.errors.push_back({"no element", [] { (void)min(zeros({2, 0})); }, "ShapeError", {"[min]", "(0,)", "empty"}});
  cases.push_back(c);

  c.name = "min_with_arg";
  c.covers = {"min_with_arg", "gather", "scatter_add"};
  c.function = [](Tensors x) {
    ValueAndIndex r = min_with_arg(std::move(x[0]), 0);
    return Tensors{r.value, r.index};
  };
  c.reference = [](const Arrays& x) { return extreme_of(x[0], 0, false); };
  c.samples = distinct_samples({{2, 3}, {3, 2, 4}, {19, 2}, {1, 1}, {3, 0}, {1}});
  c.errors = axis_errors("min_with_arg", [](Tensor x, std::int64_t axis) { (void)min_with_arg(std::move(x), axis); });
  cases.push_back(c);

  c.name = "max_with_arg/all";
  c.covers = {"max_with_arg"};
  c.function = [](Tensors x) { return detail::one(max(std::move(x[0]))); };
  c.reference = [](const Arrays& x) {
    return Arrays{Array({}, *std::max_element(x[0].values.begin(), x[0].values.end()))};
  };
  c.samples = distinct_samples({{2, 3}, {3, 2, 4}, {}, {1}});
  c.no_empty = "no element, no largest one: an error, see max_with_arg";
  c.errors.clear();
  c.no_errors = "see max_with_arg";
  cases.push_back(c);

  for (const bool all_of : {true, false}) {
    OpCase t;
    t.name = all_of ? "all" : "any";
    t.covers = {t.name};
    t.function = [all_of](Tensors x) { return detail::one(all_of ? all(x[0]) : any(x[0])); };
    t.reference = [all_of](const Arrays& x) {
      const auto holds = [](double v) { return v != 0.0; };
      const auto& v = x[0].values;
      return Arrays{
          Array({}, double(all_of ? std::all_of(v.begin(), v.end(), holds) : std::any_of(v.begin(), v.end(), holds)))};
    };
    t.samples = [](Key key, DType) {
      Lists lists;
      const std::vector<Shape> shapes = {{2, 3}, {3}, {2}, {1}, {}, {0}, {2, 1100}};
      for (std::size_t i = 0; i < shapes.size(); ++i) lists.push_back({boolean_sample(key, i, shapes[i])});
      lists.push_back({zeros({3}, boolean)});
      lists.push_back({ones({2, 2}, boolean)});
      return lists;
    };
    t.not_differentiable = "bool result";
    const std::string tag = "[" + t.name + "]";
    t.errors = {{"not bool",
                 [all_of] { (void)(all_of ? all(zeros({2})) : any(zeros({2}))); },
                 "DtypeError",
                 {tag, "float32(2,)", "expected bool"}}};
    cases.push_back(t);
  }
  return cases;
}

std::vector<OpCase> row_cases() {
  std::vector<OpCase> cases;
  OpCase c = reduction(
      "logsumexp", {"logsumexp", "softmax"}, [](Tensor x) { return logsumexp(std::move(x)); }, -1, logsumexp_of);
  c.samples = normals(kShapes);  // without empty rows, whose value -inf has no differences; see reduce_test.cpp
  c.errors = axis_errors("logsumexp", [](Tensor x, std::int64_t axis) { (void)logsumexp(std::move(x), axis); });
  cases.push_back(c);
  c = reduction(
      "logsumexp/first", {"logsumexp", "permute"}, [](Tensor x) { return logsumexp(std::move(x), 0); }, 0,
      logsumexp_of);
  c.samples = normals({{2, 3}, {3, 2, 4}, {5, 3}, {1, 1}, {3, 0}, {1}});
  c.no_errors = "see logsumexp";
  cases.push_back(c);

  c = rows(
      "softmax", {"softmax", "softmax_grad"}, [](Tensor x) { return softmax(std::move(x)); }, -1, softmax_of);
  c.errors = axis_errors("softmax", [](Tensor x, std::int64_t axis) { (void)softmax(std::move(x), axis); });
  cases.push_back(c);
  c = rows(
      "softmax/first", {"softmax", "permute"}, [](Tensor x) { return softmax(std::move(x), 0); }, 0, softmax_of);
  c.samples = normals({{2, 3}, {3, 2, 4}, {5, 3}, {3, 17}, {1, 1}, {0, 3}, {1}});  // 17: columns read in place
  c.strided_bitwise = false;  // the order of additions follows memory
  c.no_errors = "see softmax";
  cases.push_back(c);

  const auto log_softmax_of = [](const Row& r) {
    Row out;
    for (const double v : r) out.push_back(v - logsumexp_of(r));
    return out;
  };
  c = rows(
      "log_softmax", {"log_softmax"}, [](Tensor x) { return log_softmax(std::move(x)); }, -1, log_softmax_of);
  c.errors = axis_errors("log_softmax", [](Tensor x, std::int64_t axis) { (void)log_softmax(std::move(x), axis); });
  cases.push_back(c);
  c = rows(
      "log_softmax/first", {"log_softmax", "permute"}, [](Tensor x) { return log_softmax(std::move(x), 0); }, 0,
      log_softmax_of);
  c.samples = normals({{2, 3}, {3, 2, 4}, {3, 17}, {1, 1}, {0, 3}});
  c.strided_bitwise = false;
  c.no_errors = "see log_softmax";
  cases.push_back(c);

  c = rows(
      "layer_norm", {"layer_norm", "layer_norm_grad"}, [](Tensor x) { return layer_norm(std::move(x), kEps); }, -1,
      normalised);
  c.tolerance_f32 = 2e-5;  // 1/sqrt(eps) = 32 times the rounding of x - mean
  c.errors = {
      {"0-d", [] { (void)layer_norm(zeros({})); }, "ShapeError", {"[layer_norm]", "0-d"}},
      {"dtype", [] { (void)layer_norm(zeros({2}, int64)); }, "DtypeError", {"[layer_norm]", "int64(2,)", "cast"}},
      {"eps", [] { (void)layer_norm(zeros({2}), -1.0); }, "ValueError", {"[layer_norm]", "-1", ">= 0", "1e-5"}}};
  cases.push_back(c);

  OpCase g;
  g.name = "softmax_grad";
  g.covers = {"softmax_grad"};
  g.function = [](Tensors x) { return detail::one(detail::softmax_grad(std::move(x[0]), std::move(x[1]))); };
  g.reference = [](const Arrays& x) {
    Array gy = map(x[0], x[1], [](double a, double b) { return a * b; });
    const Array inner = along(gy, -1, [](const Row& r) { return Row{total(r)}; });
    return Arrays{map(x[1], map(x[0], inner, [](double a, double b) { return a - b; }),
                      [](double a, double b) { return a * b; })};
  };
  g.samples = normal_pairs({{2, 3}, {3, 2, 4}, {2, 19}, {1, 1}, {0, 3}});
  g.tolerance_f32 = 5e-6;
  g.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {701, 301}, dtype), normal_sample(key, 1, {701, 301}, dtype)};
  };
  g.errors = {{"shapes",
               [] {
                 (void)detail::softmax_grad(zeros({2, 3}), zeros({2, 2}));
               },
               "ShapeError",
               {"[softmax_grad]", "(2, 3)", "(2, 2)"}}};
  cases.push_back(g);

  g.name = "layer_norm_grad";
  g.covers = {"layer_norm_grad"};
  g.function = [](Tensors x) { return detail::one(detail::layer_norm_grad(std::move(x[0]), std::move(x[1]), kEps)); };
  // Jacobian of (x - m) / s by the quotient rule, summed directly.
  g.reference = [](const Arrays& x) {
    Array out(x[0].shape);
    const auto n = static_cast<std::size_t>(x[0].shape.back());
    for (std::size_t first = 0; first < x[0].values.size(); first += n) {
      const Row row(x[1].values.begin() + static_cast<std::ptrdiff_t>(first),
                    x[1].values.begin() + static_cast<std::ptrdiff_t>(first + n));
      const double s = std::sqrt(variance_of(row, 0.0) + kEps);
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) {
          const double di = row[i] - mean_of(row);
          const double dj = row[j] - mean_of(row);
          const double jacobian =
              ((i == j) - 1.0 / static_cast<double>(n)) / s - di * dj / (static_cast<double>(n) * s * s * s);
          out.values[first + i] += jacobian * x[0].values[first + j];
        }
    }
    return Arrays{out};
  };
  g.tolerance_f64 = 1e-12;
  g.tolerance_f32 = 1e-4;  // cancellation, and 1/sqrt(eps) = 32
  g.errors = {{"shapes",
               [] {
                 (void)detail::layer_norm_grad(zeros({2, 3}), zeros({2, 2}), 0.1);
               },
               "ShapeError",
               {"[layer_norm_grad]"}}};
  cases.push_back(g);
  return cases;
}

Samples logits_and_labels(std::vector<Shape> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      Shape rows = shapes[i];
      rows.pop_back();
      lists.push_back(
          {normal_sample(key, 2 * i, shapes[i], dtype), integer_sample(key, 2 * i + 1, rows, 0, shapes[i].back())});
    }
    return lists;
  };
}

// Several parallel blocks, none, one element.
std::vector<Shape> random_shapes() { return {{2, 3}, {37}, {0}, {}, {20'011}}; }

// A random front end called for fixed shapes and both dtypes.
OpCase random_case(const char* name, std::function<Tensor(Key, Shape, DType)> f) {
  OpCase c;
  c.name = name;
  c.covers = {name};
  c.not_differentiable = "no tensor inputs";
  c.no_strided = "no tensor inputs";
  c.no_empty = c.no_single = "no tensor inputs; shapes in random_test.cpp";
  c.no_float32 = "other numbers of random bits";
  c.function = [f](Tensors) {
    Tensors out;
    for (const Shape& shape : random_shapes()) {
      out.push_back(f(Key(3, 4), shape, float32));
      out.push_back(f(Key(3, 4), shape, float64));
    }
    return out;
  };
  c.samples = [](Key, DType) { return Lists{{}}; };
  return c;
}

// The naive twin of random_case: element(i, dtype) from the key's words.
std::function<Arrays(const Arrays&)> elementwise(std::function<double(Key, std::uint64_t, DType)> element) {
  return [element](const Arrays&) {
    Arrays out;
    for (const Shape& shape : random_shapes())
      for (const DType dtype : {float32, float64}) {
        Array a(shape);
        for (std::int64_t i = 0; i < a.numel(); ++i) a[i] = element(Key(3, 4), static_cast<std::uint64_t>(i), dtype);
        out.push_back(a);
      }
    return out;
  };
}

// The normal distribution function inverted by bisection.
double quantile_by_bisection(double p) {
  double low = -12.0;
  double high = 12.0;
  for (int i = 0; i < 80; ++i) {
    const double middle = 0.5 * (low + high);
    // Compare in the tail where the function keeps its digits.
    const bool below =
        p < 0.5 ? 0.5 * std::erfc(-middle / std::sqrt(2.0)) < p : 0.5 * std::erfc(middle / std::sqrt(2.0)) > 1.0 - p;
    (below ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

double probability(Key key, std::uint64_t i, DType dtype) {
  if (dtype == float32) return (key.bits(i) + 0.5) / 4294967296.0;
  const std::uint64_t word = std::uint64_t{key.bits(2 * i)} << 32 | key.bits(2 * i + 1);
  return (static_cast<double>(word >> 12) + 0.5) / 4503599627370496.0;
}

}  // namespace

std::vector<OpCase> reduce_cases() {
  std::vector<OpCase> cases;
  for (auto& family : {sum_cases(), extreme_cases(), row_cases()})
    cases.insert(cases.end(), family.begin(), family.end());
  return cases;
}

std::vector<OpCase> loss_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "cross_entropy";
  c.covers = {"cross_entropy", "cross_entropy_grad"};
  c.function = [](Tensors x) { return detail::one(cross_entropy(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    const auto classes = static_cast<std::size_t>(x[0].shape.back());
    double loss = 0.0;
    for (std::size_t r = 0; r < x[1].values.size(); ++r) {
      const Row row(x[0].values.begin() + static_cast<std::ptrdiff_t>(r * classes),
                    x[0].values.begin() + static_cast<std::ptrdiff_t>((r + 1) * classes));
      loss += logsumexp_of(row) - row[static_cast<std::size_t>(x[1].values[r])];
    }
    return Arrays{Array({}, loss / static_cast<double>(x[1].values.size()))};
  };
  c.samples = logits_and_labels({{3, 4}, {2, 3, 5}, {4}, {1, 1}, {5, 19}});
  c.no_empty = "the mean over no rows is NaN, see loss_test.cpp";
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {701, 301}, dtype), integer_sample(key, 1, {701}, 0, 301)};
  };
  c.errors = {
      {"labels' shape",
       [] {
         (void)cross_entropy(zeros({2, 3}), zeros({3}, int64));
       },
       "ShapeError",
       {"[cross_entropy]", "(2, 3)", "(3,)", "(2,)"}},
      {"labels' dtype",
       [] {
         (void)cross_entropy(zeros({2, 3}), zeros({2}));
       },
       "DtypeError",
       {"[cross_entropy]", "float32(2,)", "int64", "cast"}},
      {"logits' dtype",
       [] {
         (void)cross_entropy(zeros({2, 3}, int64), zeros({2}, int64));
       },
       "DtypeError",
       {"[cross_entropy]", "cast"}},
      {"label",
       [] {
         (void)cross_entropy(zeros({2, 3}), from_vector<std::int64_t>({0, 3}, {2}));
       },
       "ValueError",
       {"[cross_entropy]", "label 3", "position 1", "< 3"}},
      {"0-d", [] { (void)cross_entropy(zeros({}), zeros({}, int64)); }, "ShapeError", {"[cross_entropy]", "0-d"}}};
  cases.push_back(c);

  c.name = "cross_entropy_grad";
  c.covers = {"cross_entropy_grad", "softmax_grad"};
  c.function = [](Tensors x) { return detail::one(detail::cross_entropy_grad(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    Array out = along(x[0], -1, softmax_of);
    for (std::int64_t r = 0; r < x[1].numel(); ++r) out.at({r, static_cast<std::int64_t>(x[1][r])}) -= 1.0;
    return Arrays{map(out, [&](double v) { return v / static_cast<double>(x[1].numel()); })};
  };
  c.samples = logits_and_labels({{3, 4}, {1, 1}, {5, 19}, {0, 3}});
  c.no_empty.clear();
  c.errors.clear();
  c.no_errors = "called by cross_entropy's rules only, which has checked the inputs";
  cases.push_back(c);

  OpCase m;
  m.name = "square/mse_loss";
  m.covers = {"square", "sub", "sum_to"};
  m.function = [](Tensors x) { return detail::one(mse_loss(std::move(x[0]), std::move(x[1]))); };
  m.reference = [](const Arrays& x) {
    double s = 0.0;
    for (std::int64_t i = 0; i < x[0].numel(); ++i) s += (x[0][i] - x[1][i]) * (x[0][i] - x[1][i]);
    return Arrays{Array({}, s / static_cast<double>(x[0].numel()))};
  };
  m.samples = normal_pairs({{2, 3}, {37}, {}, {1, 1}});
  m.no_empty = "the mean of nothing is NaN";
  m.strided_bitwise = false;  // the mean adds in the order of memory
  m.errors = {{"shapes",
               [] {
                 (void)mse_loss(zeros({4}), zeros({4, 1}));
               },
               "ShapeError",
               {"[mse_loss]", "(4,)", "(4, 1)", "same shape"}}};
  cases.push_back(m);
  return cases;
}

std::vector<OpCase> random_cases() {
  std::vector<OpCase> cases;
  OpCase c = random_case("uniform", [](Key key, Shape s, DType d) { return uniform(key, s, -1.0, 3.0, d); });
  c.reference = elementwise([](Key key, std::uint64_t i, DType dtype) {
    if (dtype == float64) return -1.0 + 4.0 * key.uniform(i);
    return static_cast<double>(static_cast<float>(-1.0 + 4.0 * (key.bits(i) >> 8) / 16777216.0));
  });
  c.errors = {
      {"interval", [] { (void)uniform(Key(1), {2}, 1.0, 1.0); }, "ValueError", {"[uniform]", "[1, 1)", "low < high"}},
      {"dtype", [] { (void)uniform(Key(1), {2}, 0.0, 1.0, int64); }, "DtypeError", {"[uniform]", "int64", "randint"}}};
  cases.push_back(c);

  c = random_case("normal", [](Key key, Shape s, DType d) { return normal(key, s, 0.5, 2.0, d); });
  c.reference = elementwise([](Key key, std::uint64_t i, DType dtype) {
    const double z = 0.5 + 2.0 * quantile_by_bisection(probability(key, i, dtype));
    return dtype == float32 ? static_cast<double>(static_cast<float>(z)) : z;
  });
  c.tolerance_f64 = 1e-6;  // the twin may round to the neighbouring float; accuracy is tested in random_test.cpp
  c.errors = {{"stddev", [] { (void)normal(Key(1), {2}, 0.0, -1.0); }, "ValueError", {"[normal]", "stddev -1", ">= 0"}},
              {"dtype", [] { (void)normal(Key(1), {2}, 0.0, 1.0, boolean); }, "DtypeError", {"[normal]", "bool"}}};
  cases.push_back(c);

  c = random_case("truncated_normal", [](Key key, Shape s, DType d) { return truncated_normal(key, s, 1.5, 2.0, d); });
  c.reference = elementwise([](Key key, std::uint64_t i, DType dtype) {
    const double tail = 0.5 * std::erfc(1.5 / std::sqrt(2.0));
    return 2.0 * quantile_by_bisection(tail + (1.0 - 2.0 * tail) * probability(key, i, dtype));
  });
  c.tolerance_f64 = 1e-6;
  c.errors = {{"bound",
               [] { (void)truncated_normal(Key(1), {2}, 0.0); },
               "ValueError",
               {"[truncated_normal]", "bound 0", "> 0"}},
              {"stddev",
               [] { (void)truncated_normal(Key(1), {2}, 2.0, -3.0); },
               "ValueError",
               {"[truncated_normal]", "stddev -3"}}};
  cases.push_back(c);

  c = random_case("bernoulli", [](Key key, Shape s, DType) { return bernoulli(key, s, 0.3); });
  c.reference = elementwise([](Key key, std::uint64_t i, DType) { return double(key.uniform(i) < 0.3); });
  c.errors = {
      {"probability", [] { (void)bernoulli(Key(1), {2}, 1.5); }, "ValueError", {"[bernoulli]", "1.5", "0 <= p <= 1"}}};
  cases.push_back(c);

  c = random_case("randint", [](Key key, Shape s, DType) { return randint(key, s, -3, 9); });
  c.reference = elementwise([](Key key, std::uint64_t i, DType) {
    const double high = static_cast<double>(key.bits(2 * i));
    const double low = static_cast<double>(key.bits(2 * i + 1));
    return -3.0 + std::floor(12.0 * (high + low / 4294967296.0) / 4294967296.0);
  });
  c.errors = {
      {"interval", [] { (void)randint(Key(1), {2}, 3, 3); }, "ValueError", {"[randint]", "[3, 3)", "low < high"}}};
  cases.push_back(c);

  c = random_case("permutation", [](Key key, Shape s, DType) { return permutation(key, s.product()); });
  c.reference = [](const Arrays&) {
    Arrays out;
    for (const Shape& shape : random_shapes())
      for (int repeat = 0; repeat < 2; ++repeat) {
        std::vector<std::pair<std::uint64_t, double>> order;
        for (std::int64_t i = 0; i < shape.product(); ++i) {
          const auto at = 2 * static_cast<std::uint64_t>(i);
          order.emplace_back(std::uint64_t{Key(3, 4).bits(at)} << 32 | Key(3, 4).bits(at + 1), double(i));
        }
        std::sort(order.begin(), order.end());
        Array a({shape.product()});
        for (std::size_t i = 0; i < order.size(); ++i) a.values[i] = order[i].second;
        out.push_back(a);
      }
    return out;
  };
  c.errors = {{"size", [] { (void)permutation(Key(1), -2); }, "ValueError", {"[permutation]", "-2", "at least 0"}}};
  cases.push_back(c);
  return cases;
}

}  // namespace solvent::testing
