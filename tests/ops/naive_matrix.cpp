#include "solvent/tests/ops/naive_matrix.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace solvent::testing {
namespace {

Shape leading(const Shape& s) {
  Shape lead = s;
  lead.pop_back();
  lead.pop_back();
  return lead;
}

Shape joined(Shape lead, const Shape& inner) {
  for (int i = 0; i < inner.rank(); ++i) lead.push_back(inner[i]);
  return lead;
}

Array matrix_at(const Array& a, std::int64_t index) {
  const Shape shape{a.shape.at(-2), a.shape.at(-1)};
  const auto begin = a.values.begin() + static_cast<std::ptrdiff_t>(index * shape.product());
  return {shape, {begin, begin + static_cast<std::ptrdiff_t>(shape.product())}};
}

Array stacked(const Shape& lead, const std::vector<Array>& parts, const Shape& each) {
  Array out(joined(lead, each));
  out.values.clear();
  for (const Array& p : parts) out.values.insert(out.values.end(), p.values.begin(), p.values.end());
  return out;
}

Array identity(std::int64_t n) {
  Array out(Shape{n, n});
  for (std::int64_t i = 0; i < n; ++i) out.at({i, i}) = 1.0;
  return out;
}

Array symmetric(const Array& a) {
  const Array t = naive_transpose(a);
  return map(a, t, [](double x, double y) { return (x + y) / 2; });
}

Array two_operands(const Array& a, const Array& b, const std::function<Array(const Array&, const Array&)>& f) {
  const Shape lead = broadcast_shapes("test", leading(a.shape), leading(b.shape));
  const Array wide_a = broadcast(a, joined(lead, {a.shape.at(-2), a.shape.at(-1)}));
  const Array wide_b = broadcast(b, joined(lead, {b.shape.at(-2), b.shape.at(-1)}));
  std::vector<Array> parts;
  for (std::int64_t i = 0; i < lead.product(); ++i) parts.push_back(f(matrix_at(wide_a, i), matrix_at(wide_b, i)));
  const Shape each =
      f(Array(Shape{a.shape.at(-2), a.shape.at(-1)}, 0.0), Array(Shape{b.shape.at(-2), b.shape.at(-1)})).shape;
  return stacked(lead, parts, each);
}

struct Eigen {
  Array values;
  Array vectors;
};

// Cyclic two-sided Jacobi, ascending.
Eigen jacobi(const Array& matrix) {
  Array a = symmetric(matrix);
  const std::int64_t n = a.shape[0];
  Array v = identity(n);
  for (int sweep = 0; sweep < 60; ++sweep)
    for (std::int64_t p = 0; p < n; ++p)
      for (std::int64_t q = p + 1; q < n; ++q) {
        if (a.at({p, q}) == 0.0) continue;
        const double angle = 0.5 * std::atan2(2 * a.at({p, q}), a.at({q, q}) - a.at({p, p}));
        Array rotation = identity(n);
        rotation.at({p, p}) = rotation.at({q, q}) = std::cos(angle);
        rotation.at({p, q}) = std::sin(angle);
        rotation.at({q, p}) = -std::sin(angle);
        a = naive_product(naive_product(naive_transpose(rotation), a), rotation);
        a.at({p, q}) = a.at({q, p}) = 0.0;
        v = naive_product(v, rotation);
      }
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](auto i, auto j) { return a.at({i, i}) < a.at({j, j}); });
  Eigen out{Array(Shape{n}), Array(Shape{n, n})};
  for (std::int64_t j = 0; j < n; ++j) {
    const std::int64_t from = order[static_cast<std::size_t>(j)];
    out.values[j] = a.at({from, from});
    double largest = 0.0;
    for (std::int64_t i = 0; i < n; ++i)
      if (std::abs(v.at({i, from})) > std::abs(largest)) largest = v.at({i, from});
    for (std::int64_t i = 0; i < n; ++i) out.vectors.at({i, j}) = v.at({i, from}) * (largest < 0 ? -1.0 : 1.0);
  }
  return out;
}

struct Svd {
  Array u, s, vt;
};

Svd naive_svd(const Array& a) {
  const bool tall = a.shape[0] >= a.shape[1];
  const Array t = tall ? a : naive_transpose(a);
  const std::int64_t m = t.shape[0];
  const std::int64_t n = t.shape[1];
  const Eigen eigen = jacobi(naive_product(naive_transpose(t), t));
  Svd out{Array(Shape{m, n}), Array(Shape{n}), Array(Shape{n, n})};
  const Array images = naive_product(t, eigen.vectors);
  for (std::int64_t k = 0; k < n; ++k) {
    const std::int64_t from = n - 1 - k;
    double square = 0.0;
    double largest = 0.0;
    for (std::int64_t i = 0; i < m; ++i) {
      square += images.at({i, from}) * images.at({i, from});
      if (std::abs(images.at({i, from})) > std::abs(largest)) largest = images.at({i, from});
    }
    out.s[k] = std::sqrt(square);
    const double sign = largest < 0 ? -1.0 : 1.0;
    for (std::int64_t i = 0; i < m; ++i) out.u.at({i, k}) = sign * images.at({i, from}) / out.s[k];
    for (std::int64_t i = 0; i < n; ++i) out.vt.at({k, i}) = sign * eigen.vectors.at({i, from});
  }
  if (tall) return out;
  return {naive_transpose(out.vt), out.s, naive_transpose(out.u)};
}

using Wide = std::vector<long double>;

Wide wide_product(const Wide& a, const Wide& b, std::size_t n) {
  Wide c(n * n, 0.0L);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t k = 0; k < n; ++k) c[i * n + j] += a[i * n + k] * b[k * n + j];
  return c;
}

// {e^a, phi1(a)}: phi1 = sum a^k / (k + 1)!, e^a = 1 + a phi1; phi1(2a) = (phi1(a) + e^a phi1(a)) / 2.
std::pair<Array, Array> exponentials(const Array& a) {
  const auto n = static_cast<std::size_t>(a.shape[0]);
  double norm = 0.0;
  for (const double x : a.values) norm += std::abs(x);
  int doublings = 0;
  while (std::ldexp(norm, -doublings) > 0.25) ++doublings;
  Wide x(a.values.begin(), a.values.end());
  for (long double& e : x) e = std::ldexp(e, -doublings);
  Wide term(n * n, 0.0L);
  for (std::size_t i = 0; i < n; ++i) term[i * n + i] = 1.0L;
  const Wide unit = term;
  Wide phi = term;
  for (int k = 1; k < 24; ++k) {
    term = wide_product(term, x, n);
    for (long double& e : term) e /= k + 1;
    for (std::size_t i = 0; i < n * n; ++i) phi[i] += term[i];
  }
  Wide e = wide_product(x, phi, n);
  for (std::size_t i = 0; i < n * n; ++i) e[i] += unit[i];
  for (int k = 0; k < doublings; ++k) {
    const Wide product = wide_product(e, phi, n);
    for (std::size_t i = 0; i < n * n; ++i) phi[i] = (phi[i] + product[i]) / 2;
    e = wide_product(e, e, n);
  }
  return {Array(a.shape, {e.begin(), e.end()}), Array(a.shape, {phi.begin(), phi.end()})};
}

}  // namespace

Arrays per_matrix(const Arrays& x, const std::vector<MatrixFn>& functions) {
  const Shape lead = leading(x[0].shape);
  Arrays out;
  for (const MatrixFn& f : functions) {
    std::vector<Array> parts;
    for (std::int64_t i = 0; i < lead.product(); ++i) parts.push_back(f(matrix_at(x[0], i)));
    Array probe(Shape{x[0].shape.at(-2), x[0].shape.at(-1)});  // only for the shape of an empty batch
    for (std::int64_t i = 0; i < std::min(probe.shape[0], probe.shape[1]); ++i)
      probe.at({i, i}) = static_cast<double>(i + 1);
    out.push_back(stacked(lead, parts, f(probe).shape));
  }
  return out;
}

Array naive_product(const Array& a, const Array& b) {
  Array c(Shape{a.shape[0], b.shape[1]});
  for (std::int64_t i = 0; i < a.shape[0]; ++i)
    for (std::int64_t j = 0; j < b.shape[1]; ++j)
      for (std::int64_t k = 0; k < a.shape[1]; ++k) c.at({i, j}) += a.at({i, k}) * b.at({k, j});
  return c;
}

Array naive_transpose(const Array& a) {
  Array t(Shape{a.shape[1], a.shape[0]});
  for (std::int64_t i = 0; i < a.shape[0]; ++i)
    for (std::int64_t j = 0; j < a.shape[1]; ++j) t.at({j, i}) = a.at({i, j});
  return t;
}

Array naive_inverse(const Array& matrix) {
  Array a = matrix;
  const std::int64_t n = a.shape[0];
  Array x = identity(n);
  for (std::int64_t j = 0; j < n; ++j) {
    std::int64_t p = j;
    for (std::int64_t i = j; i < n; ++i)
      if (std::abs(a.at({i, j})) > std::abs(a.at({p, j}))) p = i;
    const double pivot = a.at({p, j});
    for (std::int64_t c = 0; c < n; ++c) {
      std::swap(a.at({j, c}), a.at({p, c}));
      std::swap(x.at({j, c}), x.at({p, c}));
      a.at({j, c}) /= pivot;
      x.at({j, c}) /= pivot;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      if (i == j) continue;
      const double f = a.at({i, j});
      for (std::int64_t c = 0; c < n; ++c) {
        a.at({i, c}) -= f * a.at({j, c});
        x.at({i, c}) -= f * x.at({j, c});
      }
    }
  }
  return x;
}

Array naive_det(const Array& a) {
  const std::int64_t n = a.shape[0];
  if (n == 0) return {Shape{}, std::vector<double>{1.0}};
  double sum = 0.0;
  for (std::int64_t column = 0; column < n; ++column) {
    Array minor(Shape{n - 1, n - 1});
    for (std::int64_t i = 1; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        if (j != column) minor.at({i - 1, j < column ? j : j - 1}) = a.at({i, j});
    sum += (column % 2 == 0 ? 1.0 : -1.0) * a.at({0, column}) * naive_det(minor)[0];
  }
  return {Shape{}, std::vector<double>{sum}};
}

Array naive_cholesky(const Array& matrix) {
  const Array a = symmetric(matrix);
  const std::int64_t n = a.shape[0];
  Array l(a.shape);
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = j; i < n; ++i) {
      double sum = a.at({i, j});
      for (std::int64_t k = 0; k < j; ++k) sum -= l.at({i, k}) * l.at({j, k});
      l.at({i, j}) = i == j ? std::sqrt(sum) : sum / l.at({j, j});
    }
  return l;
}

Array naive_q(const Array& a) {
  const std::int64_t m = a.shape[0];
  const std::int64_t k = std::min(m, a.shape[1]);
  Array q(Shape{m, k});
  for (std::int64_t j = 0; j < k; ++j) {
    for (std::int64_t i = 0; i < m; ++i) q.at({i, j}) = a.at({i, j});
    for (int pass = 0; pass < 2; ++pass)
      for (std::int64_t p = 0; p < j; ++p) {
        double product = 0.0;
        for (std::int64_t i = 0; i < m; ++i) product += q.at({i, p}) * q.at({i, j});
        for (std::int64_t i = 0; i < m; ++i) q.at({i, j}) -= product * q.at({i, p});
      }
    double square = 0.0;
    for (std::int64_t i = 0; i < m; ++i) square += q.at({i, j}) * q.at({i, j});
    for (std::int64_t i = 0; i < m; ++i) q.at({i, j}) /= std::sqrt(square);
  }
  return q;
}

Array naive_r(const Array& a) {
  Array r = naive_product(naive_transpose(naive_q(a)), a);
  for (std::int64_t i = 0; i < r.shape[0]; ++i)
    for (std::int64_t j = 0; j < i; ++j) r.at({i, j}) = 0.0;
  return r;
}

Array naive_eigenvalues(const Array& a) { return jacobi(a).values; }
Array naive_eigenvectors(const Array& a) { return jacobi(a).vectors; }
Array naive_svd_u(const Array& a) { return naive_svd(a).u; }
Array naive_svd_s(const Array& a) { return naive_svd(a).s; }
Array naive_svd_vt(const Array& a) { return naive_svd(a).vt; }

Array naive_triangular(const Array& a, const Array& b, TriangularOptions o) {
  return two_operands(a, b, [o](const Array& matrix, const Array& rhs) {
    Array t = matrix;
    const std::int64_t n = t.shape[0];
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        if (i == j && o.unit_diagonal) t.at({i, j}) = 1.0;
        if (o.upper ? j < i : j > i) t.at({i, j}) = 0.0;
      }
    const Array inverse = naive_inverse(o.transposed ? naive_transpose(t) : t);
    return o.right ? naive_product(rhs, inverse) : naive_product(inverse, rhs);
  });
}

Array naive_lstsq(const Array& a, const Array& b) {
  return two_operands(a, b, [](const Array& matrix, const Array& rhs) {
    const Array t = naive_transpose(matrix);
    if (matrix.shape[0] >= matrix.shape[1])
      return naive_product(naive_inverse(naive_product(t, matrix)), naive_product(t, rhs));
    return naive_product(t, naive_product(naive_inverse(naive_product(matrix, t)), rhs));
  });
}

Array naive_expm(const Array& a) { return exponentials(a).first; }
Array naive_phi1(const Array& a) { return exponentials(a).second; }

}  // namespace solvent::testing
