// Entries of the table of operations: linalg, scan and gru.

#include <cmath>
#include <utility>

#include "solvent/ops/elementwise.h"
#include "solvent/ops/gru.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/scan.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

// --- matmul -----------------------------------------------------------------------------------------------------------------

Shape leading(const Shape& s) {
  Shape lead = s;
  lead.pop_back();
  lead.pop_back();
  return lead;
}

Array naive_matmul(Array a, Array b) {
  const bool row = a.shape.rank() == 1;
  const bool column = b.shape.rank() == 1;
  if (row) a.shape = {1, a.shape[0]};
  if (column) b.shape = {b.shape[0], 1};
  const Shape lead = broadcast_shapes("test", leading(a.shape), leading(b.shape));
  const std::int64_t m = a.shape.at(-2);
  const std::int64_t k = a.shape.at(-1);
  const std::int64_t n = b.shape.at(-1);
  const auto extended = [&lead](std::int64_t rows, std::int64_t cols) {
    Shape s = lead;
    s.push_back(rows);
    s.push_back(cols);
    return s;
  };
  a = broadcast(a, extended(m, k));
  b = broadcast(b, extended(k, n));
  Array c(extended(m, n));
  for_each_index(c.shape, [&](const Dims& at) {
    Dims i = at;
    Dims j = at;
    for (std::int64_t p = 0; p < k; ++p) {
      i[i.rank() - 1] = p;
      j[j.rank() - 2] = p;
      c.at(at) += a.at(i) * b.at(j);
    }
  });
  if (column) c.shape.pop_back();
  if (row) c.shape.erase(c.shape.rank() - (column ? 1 : 2));
  return c;
}

OpCase matmul_case() {
  OpCase c;
  c.name = "matmul";
  c.covers = {"matmul"};
  c.strided_bitwise = false;  // another kernel may be chosen for transposed operands
  c.function = [](Tensors x) { return detail::one(matmul(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) { return Arrays{naive_matmul(x[0], x[1])}; };
  c.samples = normals_of_several({{{2, 3}, {3, 4}},
                                  {{2, 2, 3}, {3, 2}},
                                  {{2, 1, 2, 3}, {3, 3, 2}},
                                  {{2, 3}, {2, 3, 2}},
                                  {{1, 2, 3}, {2, 3, 1}},
                                  {{3}, {3}},
                                  {{3}, {3, 2}},
                                  {{2, 3}, {3}},
                                  {{3}, {2, 3, 2}},
                                  {{2, 2, 3}, {3}},
                                  {{0, 3}, {3, 2}},
                                  {{2, 0}, {0, 3}},
                                  {{0, 2, 3}, {3, 2}},
                                  {{2, 0, 3}, {2, 3, 2}},
                                  {{1, 1}, {1, 1}}});
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {500, 300}, dtype), normal_sample(key, 1, {300, 300}, dtype)};
  };
  c.errors = {{"inner extents",
               [] {
                 (void)matmul(zeros({3, 4}), zeros({5, 4}));
               },
               "ShapeError",
               {"[matmul]", "(3, 4)", "(5, 4)", "a.shape[-1] == b.shape[-2]", "mT(b)"}},
              {"vector",
               [] {
                 (void)matmul(zeros({3, 4}), zeros({3}));
               },
               "ShapeError",
               {"[matmul]", "(3,)", "b.shape[-1]"}},
              {"scalar", [] { (void)matmul(zeros({}), zeros({3})); }, "ShapeError", {"[matmul]", "a * b"}},
              {"leading axes",
               [] {
                 (void)matmul(zeros({2, 3, 4}), zeros({3, 4, 5}));
               },
               "ShapeError",
               {"[matmul]", "(2, 3, 4)", "(3, 4, 5)", "broadcast"}},
              {"dtypes",
               [] {
                 (void)matmul(zeros({2, 2}), zeros({2, 2}, float64));
               },
               "DtypeError",
               {"[matmul]", "float64"}},
              {"integers",
               [] {
                 (void)matmul(zeros({2, 2}, int64), zeros({2, 2}, int64));
               },
               "DtypeError",
               {"[matmul]", "int64"}}};
  return c;
}

OpCase batched_matmul_case() {
  OpCase c = matmul_case();
  c.name = "matmul/batched";
  c.samples = normals_of_several({{{3, 2, 2}, {3, 2, 2}},
                                  {{2, 1, 3}, {2, 3, 1}},
                                  {{3, 2, 4}, {3, 4, 1}},
                                  {{2, 2, 3}, {1, 3, 1}},
                                  {{1, 2, 2}, {3, 2, 1}},
                                  {{1, 2, 2}, {3, 2, 2}},
                                  {{0, 2, 2}, {0, 2, 2}},
                                  {{1, 1, 1}, {1, 1, 1}}});
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {2000, 16, 16}, dtype), normal_sample(key, 1, {2000, 16, 16}, dtype)};
  };
  c.no_errors = "same front end as matmul";
  c.errors.clear();
  return c;
}

// --- outer ------------------------------------------------------------------------------------------------------------------

OpCase outer_case() {
  OpCase c;
  c.name = "outer";
  c.covers = {"outer", "matmul"};
  c.function = [](Tensors x) { return detail::one(outer(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    Array column = x[0];
    Array row = x[1];
    column.shape.push_back(1);
    row.shape.insert(row.shape.rank() - 1, 1);
    return Arrays{naive_matmul(column, row)};
  };
  c.samples = normals_of_several(
      {{{3}, {4}}, {{2, 3}, {2, 2}}, {{2, 1, 2}, {3, 4}}, {{2}, {3, 1, 2}}, {{0, 2}, {0, 3}}, {{2}, {0}}, {{1}, {1}}});
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {3000, 8}, dtype), normal_sample(key, 1, {3000, 8}, dtype)};
  };
  c.errors = {{"scalar", [] { (void)outer(zeros({}), zeros({3})); }, "ShapeError", {"[outer]", "a * b"}},
              {"leading axes",
               [] {
                 (void)outer(zeros({2, 3}), zeros({4, 3}));
               },
               "ShapeError",
               {"[outer]", "(4, 3)", "broadcast"}},
              {"dtypes", [] { (void)outer(zeros({2}), zeros({2}, float64)); }, "DtypeError", {"[outer]", "float64"}}};
  return c;
}

// --- solve ------------------------------------------------------------------------------------------------------------------

// Gauss-Jordan with partial pivoting on one system.
void naive_solve_one(std::vector<double> a, std::vector<double>& x, std::size_t n, std::size_t k) {
  for (std::size_t j = 0; j < n; ++j) {
    std::size_t p = j;
    for (std::size_t i = j; i < n; ++i)
      if (std::abs(a[i * n + j]) > std::abs(a[p * n + j])) p = i;
    for (std::size_t c = 0; c < n; ++c) std::swap(a[j * n + c], a[p * n + c]);
    for (std::size_t c = 0; c < k; ++c) std::swap(x[j * k + c], x[p * k + c]);
    const double pivot = a[j * n + j];
    for (std::size_t c = 0; c < n; ++c) a[j * n + c] /= pivot;
    for (std::size_t c = 0; c < k; ++c) x[j * k + c] /= pivot;
    for (std::size_t i = 0; i < n; ++i) {
      if (i == j) continue;
      const double f = a[i * n + j];
      for (std::size_t c = 0; c < n; ++c) a[i * n + c] -= f * a[j * n + c];
      for (std::size_t c = 0; c < k; ++c) x[i * k + c] -= f * x[j * k + c];
    }
  }
}

Array naive_solve(Array a, Array b) {
  const Shape lead = broadcast_shapes("test", leading(a.shape), leading(b.shape));
  const auto n = static_cast<std::size_t>(a.shape.at(-1));
  const auto k = static_cast<std::size_t>(b.shape.at(-1));
  Shape a_shape = lead;
  a_shape.push_back(a.shape.at(-2));
  a_shape.push_back(a.shape.at(-1));
  Shape b_shape = lead;
  b_shape.push_back(b.shape.at(-2));
  b_shape.push_back(b.shape.at(-1));
  a = broadcast(a, a_shape);
  b = broadcast(b, b_shape);
  for (std::size_t i = 0; i < static_cast<std::size_t>(lead.product()); ++i) {
    const auto from = a.values.begin() + static_cast<std::ptrdiff_t>(i * n * n);
    const auto rhs = b.values.begin() + static_cast<std::ptrdiff_t>(i * n * k);
    std::vector<double> x(rhs, rhs + static_cast<std::ptrdiff_t>(n * k));
    naive_solve_one({from, from + static_cast<std::ptrdiff_t>(n * n)}, x, n, k);
    std::copy(x.begin(), x.end(), rhs);
  }
  return b;
}

OpCase solve_case() {
  OpCase c;
  c.name = "solve";
  c.covers = {"solve", "matmul"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 2e-5;  // condition numbers up to about 10
  c.no_strided = "repeated rows make a singular matrix; strides are tested in linalg_test";
  c.function = [](Tensors x) { return detail::one(solve(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) { return Arrays{naive_solve(x[0], x[1])}; };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    // Far from singular, not symmetric, and with rows out of order so that pivoting matters.
    const auto matrix = [&](const Shape& shape) {
      const Tensor noise = uniform_sample(key, n++, shape, dtype, -1.0, 1.0);
      return noise + flip(eye(shape.at(-1), dtype) * 3.0, 0);
    };
    const auto rhs = [&](const Shape& shape) { return normal_sample(key, n++, shape, dtype); };
    lists.push_back({matrix({3, 3}), rhs({3, 2})});
    lists.push_back({matrix({2, 2, 2}), rhs({2, 2, 1})});
    lists.push_back({matrix({2, 2}), rhs({3, 2, 2})});
    lists.push_back({matrix({2, 1, 2, 2}), rhs({2, 2, 1})});
    lists.push_back({matrix({2, 2}), rhs({2, 0})});
    lists.push_back({matrix({0, 2, 2}), rhs({0, 2, 1})});
    lists.push_back({matrix({1, 1}), rhs({1, 1})});
    return lists;
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {2000, 10, 10}, dtype) + eye(10, dtype) * 20.0,
                   normal_sample(key, 1, {2000, 10, 1}, dtype)};
  };
  c.errors = {{"not square",
               [] {
                 (void)solve(zeros({2, 3}), zeros({2, 1}));
               },
               "ShapeError",
               {"[solve]", "(2, 3)", "(..., n, n)", "unsqueeze"}},
              {"vector",
               [] {
                 (void)solve(zeros({2, 2}), zeros({2}));
               },
               "ShapeError",
               {"[solve]", "unsqueeze(b, -1)"}},
              {"singular",
               [] {
                 (void)solve(stack({eye(2), zeros({2, 2})}), ones({2, 2, 1}));
               },
               "ValueError",
               {"[solve]", "matrix 1 of 2 is singular", "pivot 0"}},
              {"leading axes",
               [] {
                 (void)solve(zeros({2, 3, 3}), zeros({4, 3, 1}));
               },
               "ShapeError",
               {"[solve]", "(2, 3, 3)", "broadcast"}},
              {"dtypes",
               [] {
                 (void)solve(zeros({2, 2}), zeros({2, 1}, float64));
               },
               "DtypeError",
               {"[solve]", "float64"}}};
  return c;
}

// --- scans ------------------------------------------------------------------------------------------------------------------

// A_t[i][j] whatever the layout of `a`; n is the size of the state.
double entry(const Array& a, std::int64_t n, std::int64_t t, std::int64_t batch, std::int64_t i, std::int64_t j) {
  if (a.shape.rank() == 3) return i == j ? a.at({t, batch, i}) : 0.0;
  if (a.shape.rank() == 4) return a.at({t, batch, i, j});
  const std::int64_t k = a.shape.back();
  (void)n;
  return i / k == j / k ? a.at({t, batch, i / k, i % k, j % k}) : 0.0;
}

// h_t = A_t h_{t-1} + b_t, or with `reversed` l_t = A_{t+1}^T l_{t+1} + b_t.
Array naive_scan(const Array& a, const Array& b, const Array* h0, bool reversed) {
  const int rank = b.shape.rank();
  const std::int64_t steps = b.shape[rank - 3];
  const std::int64_t n = b.shape.back();
  Array h = b;
  Shape rows = b.shape;  // one entry per sequence and right-hand side
  rows[rank - 3] = 1;
  rows[rank - 1] = 1;
  for_each_index(rows, [&](const Dims& row) {
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t t = reversed ? steps - 1 - step : step;
      for (std::int64_t i = 0; i < n; ++i) {
        Dims at = row;
        at[rank - 3] = t;
        at[rank - 1] = i;
        for (std::int64_t j = 0; j < n; ++j) {
          Dims from = row;
          from[rank - 1] = j;
          from[rank - 3] = reversed ? t + 1 : t - 1;
          const bool first = step == 0;
          if (first && reversed) continue;
          double previous = 0.0;
          if (first) {
            from.erase(rank - 3);
            previous = h0->at(from);
          } else {
            previous = h.at(from);
          }
          h.at(at) +=
              previous * (reversed ? entry(a, n, t + 1, row[rank - 2], j, i) : entry(a, n, t, row[rank - 2], i, j));
        }
      }
    }
  });
  return h;
}

Array naive_forward(const Arrays& x) {
  Shape shape = x[1].shape;  // of h0 with leading axes like b's
  shape.erase(shape.rank() - 3);
  const Shape common = broadcast_shapes("test", shape, x[2].shape);
  const Array h0 = broadcast(x[2], common);
  Shape b_shape = common;
  b_shape.insert(common.rank() - 2, x[1].shape.at(-3));
  return naive_scan(x[0], broadcast(x[1], b_shape), &h0, false);
}

enum class Layout { dense, diagonal, blocks };

Shape matrices(Layout layout, std::int64_t steps, std::int64_t batch, std::int64_t n) {
  if (layout == Layout::dense) return {steps, batch, n, n};
  if (layout == Layout::diagonal) return {steps, batch, n};
  return {steps, batch, n / 2, 2, 2};
}

OpCase scan_case(Layout layout) {
  OpCase c;
  c.name = layout == Layout::dense      ? "affine_scan"
           : layout == Layout::diagonal ? "affine_scan/diagonal"
                                        : "affine_scan/blocks";
  c.covers = {"affine_scan", "affine_scan_reversed"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 2e-5;  // five steps of growth
  c.strided_bitwise = false;
  c.function = [](Tensors x) { return detail::one(affine_scan(std::move(x[0]), std::move(x[1]), std::move(x[2]))); };
  c.reference = [](const Arrays& x) { return Arrays{naive_forward(x)}; };
  const auto a = [layout](std::int64_t steps, std::int64_t batch, std::int64_t n) {
    return matrices(layout, steps, batch, n);
  };
  c.samples = normals_of_several({{a(3, 2, 2), {3, 2, 2}, {2, 2}},
                                  {a(1, 2, 2), {1, 2, 2}, {2, 2}},
                                  {a(3, 1, 4), {3, 1, 4}, {1, 4}},
                                  {a(3, 1, 2), {2, 3, 1, 2}, {2, 1, 2}},
                                  {a(2, 1, 2), {2, 1, 2}, {3, 1, 2}},
                                  {a(5, 1, 2), {5, 1, 2}, {1, 2}},
                                  {a(2, 0, 2), {2, 0, 2}, {0, 2}}});
  if (layout == Layout::blocks) {
    c.no_single = "two states are the smallest block; k = 1 is tested in scan_test";
  } else {
    const auto rest = c.samples;
    const auto one = normals_of_several({{a(1, 1, 1), {1, 1, 1}, {1, 1}}});
    c.samples = [rest, one](Key key, DType dtype) {
      Lists lists = rest(key, dtype);
      lists.push_back(one(key.fold_in(1), dtype)[0]);
      return lists;
    };
  }
  c.large = [layout](Key key, DType dtype) {
    return Tensors{uniform_sample(key, 0, matrices(layout, 3000, 7, 6), dtype, -0.2, 0.2),
                   normal_sample(key, 1, {3000, 7, 6}, dtype), normal_sample(key, 2, {7, 6}, dtype)};
  };
  if (layout != Layout::dense) {
    c.no_errors = "same front end as affine_scan";
    return c;
  }
  c.errors = {{"steps",
               [] {
                 (void)affine_scan(zeros({4, 1, 2, 2}), zeros({3, 1, 2}), zeros({1, 2}));
               },
               "ShapeError",
               {"[affine_scan]", "(4, 1, 2, 2)", "(3, 1, 2)", "permute"}},
              {"no steps",
               [] {
                 (void)affine_scan(zeros({0, 1, 2, 2}), zeros({0, 1, 2}), zeros({1, 2}));
               },
               "ShapeError",
               {"[affine_scan]", "T >= 1"}},
              {"state",
               [] {
                 (void)affine_scan(zeros({3, 1, 2, 2}), zeros({3, 1, 2}), zeros({1, 3}));
               },
               "ShapeError",
               {"[affine_scan]", "(1, 3)"}},
              {"block of 5",
               [] {
                 (void)affine_scan(zeros({3, 1, 1, 5, 5}), zeros({3, 1, 5}), zeros({1, 5}));
               },
               "ShapeError",
               {"[affine_scan]", "k <= 4"}},
              {"dtypes",
               [] {
                 (void)affine_scan(zeros({3, 1, 2}), zeros({3, 1, 2}), zeros({1, 2}, float64));
               },
               "DtypeError",
               {"[affine_scan]", "float64"}}};
  return c;
}

OpCase reversed_case(Layout layout) {
  OpCase c = scan_case(layout);
  c.name = layout == Layout::dense      ? "affine_scan_reversed"
           : layout == Layout::diagonal ? "affine_scan_reversed/diagonal"
                                        : "affine_scan_reversed/blocks";
  c.covers = {"affine_scan_reversed", "affine_scan"};
  c.function = [](Tensors x) { return detail::one(affine_scan_reversed(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) { return Arrays{naive_scan(x[0], x[1], nullptr, true)}; };
  const auto with_state = c.samples;
  c.samples = [with_state](Key key, DType dtype) {
    Lists lists = with_state(key, dtype);
    for (Tensors& list : lists) list.pop_back();
    return lists;
  };
  const auto large = c.large;
  c.large = [large](Key key, DType dtype) {
    Tensors x = large(key, dtype);
    x.pop_back();
    return x;
  };
  c.errors.clear();
  if (layout == Layout::dense)
    c.errors = {{"steps",
                 [] {
                   (void)affine_scan_reversed(zeros({4, 1, 2, 2}), zeros({3, 1, 2}));
                 },
                 "ShapeError",
                 {"[affine_scan_reversed]", "(4, 1, 2, 2)", "(3, 1, 2)"}},
                {"integers",
                 [] {
                   (void)affine_scan_reversed(zeros({3, 1, 2}, int64), zeros({3, 1, 2}, int64));
                 },
                 "DtypeError",
                 {"[affine_scan_reversed]", "int64"}}};
  return c;
}

OpCase cumsum_case(bool reversed) {
  OpCase c;
  c.name = reversed ? "cumsum/reversed" : "cumsum";
  c.covers = {"cumsum"};
  c.linear = true;
  const std::int64_t axis = reversed ? -1 : 0;
  c.function = [axis, reversed](Tensors x) { return detail::one(cumsum(std::move(x[0]), axis, reversed)); };
  c.reference = [axis, reversed](const Arrays& x) {
    Array out = x[0];
    const int at = static_cast<int>(axis < 0 ? axis + x[0].shape.rank() : axis);
    for_each_index(out.shape, [&](const Dims& i) {
      double total = 0.0;
      Dims from = i;
      for (from[at] = reversed ? i[at] : 0; from[at] <= (reversed ? out.shape[at] - 1 : i[at]); ++from[at])
        total += x[0].at(from);
      out.at(i) = total;
    });
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    for (const Shape& shape : {Shape{5}, Shape{3, 4}, Shape{2, 3, 2}, Shape{0, 2}, Shape{2, 0}, Shape{1}})
      lists.push_back({normal_sample(key, lists.size(), shape, dtype)});
    return lists;
  };
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {300, 900}, dtype)}; };
  if (reversed) {
    c.no_errors = "same front end as cumsum";
    return c;
  }
  c.errors = {{"axis", [] { (void)cumsum(zeros({3}), 1); }, "ShapeError", {"[cumsum]"}},
              {"bool", [] { (void)cumsum(zeros({3}, boolean), 0); }, "DtypeError", {"[cumsum]", "bool", "cast"}}};
  return c;
}

// --- gru --------------------------------------------------------------------------------------------------------------------

double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }

Array naive_gru(const Arrays& in) {
  const Array& xs = in[0];
  const std::int64_t steps = xs.shape[0];
  const std::int64_t batch = xs.shape[1];
  const std::int64_t hidden = in[1].shape[1];
  Array hs(Shape{steps, batch, hidden});
  for (std::int64_t row = 0; row < batch; ++row) {
    std::vector<double> h(static_cast<std::size_t>(hidden));
    for (std::int64_t i = 0; i < hidden; ++i) h[static_cast<std::size_t>(i)] = in[1].at({row, i});
    for (std::int64_t t = 0; t < steps; ++t) {
      const auto x_part = [&](std::int64_t unit) {
        double s = in[4].at({unit});
        for (std::int64_t j = 0; j < xs.shape[2]; ++j) s += in[2].at({unit, j}) * xs.at({t, row, j});
        return s;
      };
      const auto h_part = [&](std::int64_t unit) {
        double s = 0.0;
        for (std::int64_t j = 0; j < hidden; ++j) s += in[3].at({unit, j}) * h[static_cast<std::size_t>(j)];
        return s;
      };
      for (std::int64_t i = 0; i < hidden; ++i) {
        const double r = logistic(x_part(i) + h_part(i));
        const double z = logistic(x_part(hidden + i) + h_part(hidden + i));
        const double c = std::tanh(x_part(2 * hidden + i) + r * (h_part(2 * hidden + i) + in[5].at({i})));
        hs.at({t, row, i}) = (1.0 - z) * c + z * h[static_cast<std::size_t>(i)];
      }
      for (std::int64_t i = 0; i < hidden; ++i) h[static_cast<std::size_t>(i)] = hs.at({t, row, i});
    }
  }
  return hs;
}

std::vector<Shape> gru_shapes(std::int64_t steps, std::int64_t batch, std::int64_t input, std::int64_t hidden) {
  return {{steps, batch, input}, {batch, hidden}, {3 * hidden, input}, {3 * hidden, hidden}, {3 * hidden}, {hidden}};
}

OpCase gru_case() {
  OpCase c;
  c.name = "gru_sequence";
  c.covers = {"gru_sequence", "gru_sequence_grad"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 1e-5;  // errors of the vector sigmoid and tanh, carried along the steps
  c.strided_bitwise = false;
  c.function = [](Tensors x) {
    return detail::one(gru_sequence(std::move(x[0]), std::move(x[1]), std::move(x[2]), std::move(x[3]), std::move(x[4]),
                                    std::move(x[5])));
  };
  c.reference = [](const Arrays& x) { return Arrays{naive_gru(x)}; };
  c.samples = normals_of_several({gru_shapes(3, 2, 1, 2), gru_shapes(2, 1, 3, 2), gru_shapes(1, 2, 2, 1),
                                  gru_shapes(2, 0, 2, 2), gru_shapes(2, 2, 0, 1), gru_shapes(4, 1, 2, 1)});
  c.no_single = "the weights of one unit are three rows; T = B = I = H = 1 is among gru_test's cases";
  c.large = [](Key key, DType dtype) {
    Tensors x;
    for (const Shape& shape : gru_shapes(300, 33, 16, 16))
      x.push_back(normal_sample(key, x.size(), shape, dtype) * 0.3);
    return x;
  };
  const auto call = [](std::vector<Shape> shapes) {
    return [shapes = std::move(shapes)] {
      (void)gru_sequence(zeros(shapes[0]), zeros(shapes[1]), zeros(shapes[2]), zeros(shapes[3]), zeros(shapes[4]),
                         zeros(shapes[5]));
    };
  };
  c.errors = {
      {"no steps", call(gru_shapes(0, 1, 2, 2)), "ShapeError", {"[gru_sequence]", "(0, 1, 2)", "T >= 1"}},
      {"transposed weights",
       call({{3, 1, 2}, {1, 4}, {2, 12}, {12, 4}, {12}, {4}}),
       "ShapeError",
       {"[gru_sequence]", "(2, 12)", "w_ih (3H, I)", "mT(w)"}},
      {"ranks", call({{3, 2}, {1, 4}, {12, 2}, {12, 4}, {12}, {4}}), "ShapeError", {"[gru_sequence]", "xs (3, 2)"}},
      {"dtypes",
       [] {
         (void)gru_sequence(zeros({2, 1, 1}), zeros({1, 1}, float64), zeros({3, 1}), zeros({3, 1}), zeros({3}),
                            zeros({1}));
       },
       "DtypeError",
       {"[gru_sequence]", "float64"}}};
  return c;
}

}  // namespace

std::vector<OpCase> linalg_cases() {
  return {matmul_case(),
          batched_matmul_case(),
          outer_case(),
          solve_case(),
          scan_case(Layout::dense),
          scan_case(Layout::diagonal),
          scan_case(Layout::blocks),
          reversed_case(Layout::dense),
          reversed_case(Layout::diagonal),
          reversed_case(Layout::blocks),
          cumsum_case(false),
          cumsum_case(true),
          gru_case()};
}

}  // namespace solvent::testing
