// Entries of the table of operations: factor and spectral. The naive twins use other algorithms: Gauss-Jordan, Laplace's
// expansion, Gram-Schmidt, two-sided Jacobi.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "solvent/ops/elementwise.h"
#include "solvent/ops/factor.h"
#include "solvent/ops/matrix_functions.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/ops/spectral.h"
#include "solvent/tests/ops/naive_matrix.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

// A batch of one kind of matrices for each shape; `n` separates the samples.
using MakeMatrix = std::function<Tensor(Key, std::uint64_t, const Shape&, DType)>;

Tensor noise(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  return uniform_sample(key, n, shape, dtype, -1.0, 1.0);
}

// Far from singular, not symmetric, rows out of order so that pivoting matters.
Tensor regular(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  return noise(key, n, shape, dtype) + flip(eye(shape.at(-1), dtype) * 3.0, 0);
}

// Symmetric part positive definite, eigenvalues apart.
Tensor positive(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  const Tensor steps = arange(0, static_cast<double>(shape.at(-1)), 1, dtype) * 1.5 + 2.5;
  return noise(key, n, shape, dtype) * 0.5 + eye(shape.at(-1), dtype) * steps;
}

// Full rank, singular values apart.
Tensor full_rank(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  const std::int64_t rows = shape.at(-2);
  const std::int64_t columns = shape.at(-1);
  const Tensor steps = arange(0, static_cast<double>(columns), 1, dtype) * 1.5 + 2.0;
  const Tensor unit = eye(std::max(rows, columns), dtype);
  return noise(key, n, shape, dtype) * 0.5 + slice(slice(unit, 0, 0, rows), 1, 0, columns) * steps;
}

Samples batches(const MakeMatrix& make, std::vector<Shape> shapes) {
  return [make, shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    for (const Shape& shape : shapes) lists.push_back({make(key, lists.size(), shape, dtype)});
    return lists;
  };
}

const std::vector<Shape> kSquares{{3, 3}, {2, 2, 2}, {2, 1, 2, 2}, {4, 4}, {0, 0}, {0, 2, 2}, {1, 1}};
const std::vector<Shape> kRectangles{{3, 2}, {2, 2, 2}, {2, 3}, {4, 3}, {2, 1, 3, 1}, {0, 2, 2}, {3, 0}, {1, 1}};

ErrorCase not_square(const char* op, const std::function<void(Tensor)>& call) {
  return {"not square",
          [call] {
            call(zeros({2, 3}));
          },
          "ShapeError",
          {std::string("[") + op + "]", "(2, 3)", "(..., n, n)"}};
}

ErrorCase integers(const char* op, const std::function<void(Tensor)>& call) {
  return {"integers", [call] { call(zeros({2, 2}, int64)); }, "DtypeError", {std::string("[") + op + "]", "int64"}};
}

ErrorCase one_axis(const char* op, const std::function<void(Tensor)>& call) {
  return {"one axis", [call] { call(zeros({2})); }, "ShapeError", {std::string("[") + op + "]", "(2,)", "reshape"}};
}

// --- cholesky and triangular_solve --------------------------------------------------------------------------------------------

OpCase cholesky_case() {
  OpCase c;
  c.name = "cholesky";
  c.covers = {"cholesky", "triangular_solve"};
  c.tolerance_f32 = 5e-6;
  c.no_strided = "equal rows are not positive definite; strides are tested in factor_test";
  c.function = [](Tensors x) { return detail::one(cholesky(std::move(x[0]))); };
  c.reference = [](const Arrays& x) { return per_matrix(x, {naive_cholesky}); };
  c.samples = batches(positive, kSquares);
  c.large = [](Key key, DType dtype) { return Tensors{positive(key, 0, {700, 12, 12}, dtype)}; };
  const auto call = [](Tensor a) { (void)cholesky(std::move(a)); };
  c.errors = {not_square("cholesky", call),
              integers("cholesky", call),
              {"not positive definite",
               [] {
                 (void)cholesky(stack({eye(3), eye(3) * tensor({2, -1, 2})}));
               },
               "ValueError",
               {"[cholesky]", "matrix 1 of 2", "pivot 1", "multiple of the identity"}}};
  return c;
}

OpCase triangular_case(TriangularOptions o, const std::string& variant) {
  OpCase c;
  c.name = variant.empty() ? "triangular_solve" : "triangular_solve/" + variant;
  c.covers = {"triangular_solve", "matmul"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 2e-5;
  c.no_strided = "equal rows are singular; strides are tested in factor_test";
  c.function = [o](Tensors x) { return detail::one(triangular_solve(std::move(x[0]), std::move(x[1]), o)); };
  c.reference = [o](const Arrays& x) { return Arrays{naive_triangular(x[0], x[1], o)}; };
  c.samples = [o](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    // Elements that are not read are garbage.
    const auto matrix = [&](const Shape& s) { return noise(key, n++, s, dtype) + eye(s.at(-1), dtype) * 2.5; };
    const auto rhs = [&](Shape s) {
      if (o.right) std::swap(s[s.rank() - 1], s[s.rank() - 2]);
      return normal_sample(key, n++, s, dtype);
    };
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
    return Tensors{noise(key, 0, {700, 12, 12}, dtype) + eye(12, dtype) * 5.0, noise(key, 1, {700, 12, 12}, dtype)};
  };
  if (!variant.empty()) {
    c.no_errors = "same front end as triangular_solve";
    return c;
  }
  c.errors = {not_square("triangular_solve",
                         [](Tensor a) {
                           (void)triangular_solve(std::move(a), zeros({2, 1}));
                         }),
              {"vector",
               [] {
                 (void)triangular_solve(zeros({2, 2}), zeros({2}));
               },
               "ShapeError",
               {"[triangular_solve]", "(2, 2)", "unsqueeze(b, -1)"}},
              {"right-hand side of the wrong side",
               [] {
                 (void)triangular_solve(eye(2), zeros({2, 3}), {.right = true});
               },
               "ShapeError",
               {"[triangular_solve]", "(2, 3)", "(..., k, n)"}},
              {"zero on the diagonal",
               [] {
                 (void)triangular_solve(stack({eye(2), eye(2) * tensor({1, 0})}), ones({2, 2, 1}));
               },
               "ValueError",
               {"[triangular_solve]", "matrix 1 of 2 is singular", "element 1", "unit_diagonal"}},
              {"leading axes",
               [] {
                 (void)triangular_solve(zeros({2, 3, 3}), zeros({4, 3, 1}));
               },
               "ShapeError",
               {"[triangular_solve]", "(2, 3, 3)", "broadcast"}},
              {"dtypes",
               [] {
                 (void)triangular_solve(zeros({2, 2}), zeros({2, 1}, float64));
               },
               "DtypeError",
               {"[triangular_solve]", "float64"}}};
  return c;
}

// --- inverse and determinants -------------------------------------------------------------------------------------------------

OpCase inverse_case() {
  OpCase c;
  c.name = "inverse";
  c.covers = {"inverse", "matmul"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 2e-5;
  c.no_strided = "equal rows are singular; strides are tested in factor_test";
  c.function = [](Tensors x) { return detail::one(inverse(std::move(x[0]))); };
  c.reference = [](const Arrays& x) { return per_matrix(x, {naive_inverse}); };
  c.samples = batches(regular, kSquares);
  c.large = [](Key key, DType dtype) { return Tensors{noise(key, 0, {700, 12, 12}, dtype) + eye(12, dtype) * 20.0}; };
  const auto call = [](Tensor a) { (void)inverse(std::move(a)); };
  c.errors = {not_square("inverse", call),
              integers("inverse", call),
              {"singular",
               [] {
                 (void)inverse(stack({eye(2), zeros({2, 2})}));
               },
               "ValueError",
               {"[inverse]", "matrix 1 of 2 is singular", "pivot 0"}}};
  return c;
}

OpCase det_case() {
  OpCase c;
  c.name = "det";
  c.covers = {"det", "inverse"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 5e-5;
  c.function = [](Tensors x) { return detail::one(det(std::move(x[0]))); };
  c.reference = [](const Arrays& x) { return per_matrix(x, {naive_det}); };
  c.samples = batches(regular, kSquares);
  c.large = [](Key key, DType dtype) { return Tensors{noise(key, 0, {2000, 8, 8}, dtype) * 0.1 + eye(8, dtype)}; };
  const auto call = [](Tensor a) { (void)det(std::move(a)); };
  c.errors = {not_square("det", call),
              integers("det", call),
              {"derivative at a singular matrix",
               [] {
                 (void)grad([](const Tensor& a) { return det(a); }, zeros({2, 2}));
               },
               "ValueError",
               {"[inverse]", "matrix 0 of 1 is singular"}}};
  return c;
}

OpCase slogdet_case() {
  OpCase c = det_case();
  c.name = "slogdet";
  c.covers = {"slogdet", "inverse"};
  c.function = [](Tensors x) {
    SignAndLog r = slogdet(std::move(x[0]));
    return Tensors{std::move(r.sign), std::move(r.log_abs)};
  };
  c.reference = [](const Arrays& x) {
    const Array det = per_matrix(x, {naive_det})[0];
    return Arrays{map(det, [](double d) { return d < 0   ? -1.0
                                                 : d > 0 ? 1.0
                                                         : 0.0; }),
                  map(det, [](double d) { return std::log(std::abs(d)); })};
  };
  const auto call = [](Tensor a) { (void)slogdet(std::move(a)); };
  c.errors = {not_square("slogdet", call), integers("slogdet", call)};
  return c;
}

// --- qr and lstsq ---------------------------------------------------------------------------------------------------------------

OpCase qr_case() {
  OpCase c;
  c.name = "qr";
  c.covers = {"qr", "triangular_solve"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 1e-5;
  c.strided_bitwise = false;  // products of wide matrices
  c.function = [](Tensors x) {
    QrFactors f = qr(std::move(x[0]));
    return Tensors{std::move(f.q), std::move(f.r)};
  };
  c.reference = [](const Arrays& x) { return per_matrix(x, {naive_q, naive_r}); };
  c.samples = batches(full_rank, kRectangles);
  c.large = [](Key key, DType dtype) { return Tensors{full_rank(key, 0, {400, 14, 10}, dtype)}; };
  const auto call = [](Tensor a) { (void)qr(std::move(a)); };
  c.errors = {one_axis("qr", call),
              integers("qr", call),
              {"derivative at dependent columns",
               [] {
                 (void)jvp([](const Tensor& a) { return qr(a).r; }, zeros({2, 2}), ones({2, 2}));
               },
               "ValueError",
               {"[triangular_solve]", "singular"}}};
  return c;
}

OpCase lstsq_case() {
  OpCase c;
  c.name = "lstsq";
  c.covers = {"qr", "triangular_solve", "matmul"};
  c.tolerance_f64 = 1e-11;
  c.tolerance_f32 = 5e-5;
  c.no_strided = "equal rows are rank deficient; strides are tested in factor_test";
  c.function = [](Tensors x) { return detail::one(lstsq(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) { return Arrays{naive_lstsq(x[0], x[1])}; };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    const auto add = [&](const Shape& a, const Shape& b) {
      const Tensor matrix = full_rank(key, n++, a, dtype);
      lists.push_back({matrix, normal_sample(key, n++, b, dtype)});
    };
    add({4, 2}, {4, 1});
    add({2, 3}, {2, 2});
    add({2, 2}, {2, 1});
    add({2, 3, 2}, {3, 1});
    add({3, 2}, {2, 3, 1});
    add({3, 2}, {3, 0});
    add({0, 3, 2}, {0, 3, 1});
    add({1, 1}, {1, 1});
    return lists;
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{full_rank(key, 0, {300, 14, 8}, dtype), noise(key, 1, {300, 14, 3}, dtype)};
  };
  c.errors = {
      {"rows",
       [] {
         (void)lstsq(zeros({3, 2}), zeros({2, 1}));
       },
       "ShapeError",
       {"[lstsq]", "(3, 2)", "(2, 1)", "unsqueeze"}},
      {"leading axes",
       [] {
         (void)lstsq(zeros({2, 3, 2}), zeros({4, 3, 1}));
       },
       "ShapeError",
       {"[lstsq]", "(2, 3, 2)", "broadcast"}},
      {"rank",
       [] {
         (void)lstsq(stack({tensor({{1, 2}, {3, 4}, {5, 6}}), tensor({{1, 2}, {2, 4}, {3, 6}})}), ones({2, 3, 1}));
       },
       "ValueError",
       {"[lstsq]", "matrix 1 of 2", "rank deficient", "svd"}},
      {"dtypes",
       [] {
         (void)lstsq(zeros({2, 2}), zeros({2, 1}, float64));
       },
       "DtypeError",
       {"[lstsq]", "float64"}}};
  return c;
}

// --- eigh and svd -----------------------------------------------------------------------------------------------------------------

OpCase eigh_case() {
  OpCase c;
  c.name = "eigh";
  c.covers = {"eigh", "matmul"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 1e-5;
  c.mode_tol = 1e-9;  // gaps of about 1 between eigenvalues
  c.function = [](Tensors x) {
    EighResult r = eigh(std::move(x[0]));
    return Tensors{std::move(r.values), std::move(r.vectors)};
  };
  c.reference = [](const Arrays& x) { return per_matrix(x, {naive_eigenvalues, naive_eigenvectors}); };
  c.samples = batches(positive, kSquares);
  c.large = [](Key key, DType dtype) { return Tensors{positive(key, 0, {300, 10, 10}, dtype)}; };
  const auto call = [](Tensor a) { (void)eigh(std::move(a)); };
  c.errors = {not_square("eigh", call), integers("eigh", call)};
  return c;
}

OpCase svd_case() {
  OpCase c;
  c.name = "svd";
  c.covers = {"svd", "matmul"};
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 2e-5;
  c.mode_tol = 1e-9;
  c.function = [](Tensors x) {
    SvdResult r = svd(std::move(x[0]));
    return Tensors{std::move(r.u), std::move(r.s), std::move(r.vt)};
  };
  c.reference = [](const Arrays& x) { return per_matrix(x, {naive_svd_u, naive_svd_s, naive_svd_vt}); };
  c.samples = batches(full_rank, kRectangles);
  c.large = [](Key key, DType dtype) { return Tensors{full_rank(key, 0, {300, 12, 8}, dtype)}; };
  const auto call = [](Tensor a) { (void)svd(std::move(a)); };
  c.errors = {one_axis("svd", call), integers("svd", call)};
  return c;
}

// --- expm and phi1 ----------------------------------------------------------------------------------------------------------------

OpCase matrix_function_case(bool phi) {
  OpCase c;
  c.name = phi ? "phi1" : "expm";
  c.covers = {c.name, phi ? "phi1_frechet" : "expm_frechet"};
  c.tolerance_f32 = 1e-5;
  c.function = [phi](Tensors x) { return detail::one(phi ? phi1(std::move(x[0])) : expm(std::move(x[0]))); };
  c.reference = [phi](const Arrays& x) { return per_matrix(x, {phi ? naive_phi1 : naive_expm}); };
  c.samples = [](Key key, DType dtype) {
    Lists lists = batches(noise, kSquares)(key, dtype);
    lists.push_back({noise(key, 20, {3, 2, 2}, dtype) * 4.0});  // scaled and doubled
    lists.push_back({zeros({2, 2}, dtype)});
    return lists;
  };
  c.large = [](Key key, DType dtype) { return Tensors{noise(key, 0, {1000, 7, 7}, dtype)}; };
  const auto call = [phi](Tensor a) { (void)(phi ? phi1(std::move(a)) : expm(std::move(a))); };
  c.errors = {not_square(phi ? "phi1" : "expm", call), integers(phi ? "phi1" : "expm", call)};
  return c;
}

// By GEMM and pivoted LU.
OpCase large_matrix_function_case(bool phi) {
  OpCase c = matrix_function_case(phi);
  c.name += "/large";
  c.tolerance_f64 = 1e-12;
  c.tolerance_f32 = 5e-5;
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    for (const double scale : {0.1, 0.5, 2.0}) lists.push_back({noise(key, lists.size(), {25, 25}, dtype) * scale});
    return lists;
  };
  c.large = [](Key key, DType dtype) { return Tensors{noise(key, 0, {40, 30, 30}, dtype) * 0.3}; };
  c.no_empty = "as in the entry without /large";
  c.no_single = c.no_empty;
  c.no_errors = c.no_empty;
  c.errors.clear();
  return c;
}

}  // namespace

std::vector<OpCase> factor_cases() {
  return {cholesky_case(),
          triangular_case({}, ""),
          triangular_case({.upper = true, .unit_diagonal = true}, "upper_unit"),
          triangular_case({.transposed = true, .right = true}, "transposed_right"),
          triangular_case({.upper = true, .right = true}, "upper_right"),
          inverse_case(),
          det_case(),
          slogdet_case(),
          qr_case(),
          lstsq_case(),
          eigh_case(),
          svd_case(),
          matrix_function_case(false),
          matrix_function_case(true),
          large_matrix_function_case(false),
          large_matrix_function_case(true)};
}

}  // namespace solvent::testing
