// The scans beyond the table of operations: long sequences against a loop, exact cases, layouts, and the oracle values
// of the DEER specification, section 9.1.

#include <cmath>
#include <vector>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

double max_abs(const Tensor& t) { return max(abs(t)).item(); }
double max_difference(const Tensor& a, const Tensor& b) { return max_abs(a - b); }

Tensor sample(std::uint64_t n, const Shape& shape, DType dtype = float64) {
  return normal(Key(23).fold_in(n), shape, 0, 1, dtype);
}

// The recurrence by a loop of matrix-vector products: a (T, B, n, n), b (T, B, n), h0 (B, n).
Tensor loop(const Tensor& a, const Tensor& b, const Tensor& h0) {
  const Tensors as = unstack(a, 0);
  const Tensors bs = unstack(b, 0);
  Tensor h = h0;
  Tensors states;
  for (std::size_t t = 0; t < as.size(); ++t) {
    h = squeeze(matmul(as[t], unsqueeze(h, -1)), -1) + bs[t];
    states.push_back(h);
  }
  return stack(std::move(states), 0);
}

// Backwards in time with transposed matrices.
Tensor loop_reversed(const Tensor& a, const Tensor& b) {
  const Tensors as = unstack(a, 0);
  const Tensors bs = unstack(b, 0);
  Tensor l = bs.back();
  Tensors states(as.size());
  states.back() = l;
  for (std::size_t t = as.size() - 1; t > 0; --t) {
    l = squeeze(matmul(mT(as[t]), unsqueeze(l, -1)), -1) + bs[t - 1];
    states[t - 1] = l;
  }
  return stack(std::move(states), 0);
}

Tensor dense_blocks(const Tensor& blocks) {  // (T, B, m, k, k) -> (T, B, m k, m k)
  const std::int64_t m = blocks.size(2);
  const std::int64_t k = blocks.size(3);
  const Tensor unit = reshape(eye(m, blocks.dtype()), {m, 1, m, 1});
  const Tensor spread = unsqueeze(blocks, -2) * unit;  // (T, B, m, k, m, k)
  return reshape(spread, {blocks.size(0), blocks.size(1), m * k, m * k});
}

}  // namespace

TEST_CASE("affine_scan: equals a loop to 1e-12 of the running maximum") {
  // DEER specification 9.1: T = 100, n = 4, A ~ N(0, 1) / 3.
  for (const std::int64_t batch : {1, 2, 16}) {
    const Tensor a = sample(0, {100, batch, 4, 4}) / 3.0;
    const Tensor b = sample(1, {100, batch, 4});
    const Tensor h0 = sample(2, {batch, 4});
    const Tensor expected = loop(a, b, h0);
    CHECK(max_difference(affine_scan(a, b, h0), expected) <= 1e-12 * max_abs(expected));
    const Tensor reversed = loop_reversed(a, b);
    CHECK(max_difference(affine_scan_reversed(a, b), reversed) <= 1e-12 * max_abs(reversed));
  }
}

TEST_CASE("affine_scan: lengths around chunk borders, one sequence and many") {
  for (const std::int64_t steps : {1, 2, 3, 7, 64, 65, 1000, 4097, 20011})
    for (const std::int64_t batch : {1, 3}) {
      const Tensor a = sample(0, {steps, batch, 3, 3}) * 0.3;
      const Tensor b = sample(1, {steps, batch, 3});
      const Tensor h0 = sample(2, {batch, 3});
      INFO("T = " << steps << ", B = " << batch);
      CHECK(max_difference(affine_scan(a, b, h0), loop(a, b, h0)) <= 1e-12);
      CHECK(max_difference(affine_scan_reversed(a, b), loop_reversed(a, b)) <= 1e-12);
    }
}

TEST_CASE("affine_scan: blocks and diagonals equal the dense scan") {
  for (const std::int64_t k : {1, 2, 3, 4})
    for (const std::int64_t batch : {1, 5}) {
      const Tensor a = sample(0, {300, batch, 2, k, k}) * 0.4;
      const Tensor b = sample(1, {300, batch, 2 * k});
      const Tensor h0 = sample(2, {batch, 2 * k});
      const Tensor dense = dense_blocks(a);
      INFO("k = " << k << ", B = " << batch);
      CHECK(max_difference(affine_scan(a, b, h0), affine_scan(dense, b, h0)) < 1e-12);
      CHECK(max_difference(affine_scan_reversed(a, b), affine_scan_reversed(dense, b)) < 1e-12);
      if (k == 1) {
        const Tensor diagonal = reshape(a, {300, batch, 2});
        CHECK(max_difference(affine_scan(diagonal, b, h0), affine_scan(dense, b, h0)) < 1e-12);
        CHECK(max_difference(affine_scan_reversed(diagonal, b), affine_scan_reversed(dense, b)) < 1e-12);
      }
    }
}

TEST_CASE("affine_scan: a diagonal of plus and minus one is exact") {
  // DEER specification 9.1: products of signs for any T, without rounding.
  for (const std::int64_t steps : {1, 31, 1000, 100003}) {
    const Tensor bits = bernoulli(Key(5), {steps, 1, 3}, 0.5);
    const Tensor a = cast(bits, float64) * 2.0 - 1.0;
    const Tensor first = pad(ones({1, 1, 3}, float64), 0, 0, steps - 1);  // b = 1 at the first step, else 0
    const std::vector<double> h = affine_scan(a, first, zeros({1, 3}, float64)).to_vector<double>();
    const std::vector<double> signs = a.to_vector<double>();
    std::vector<double> expected{1, 1, 1};
    bool equal = true;
    for (std::size_t t = 0; t < static_cast<std::size_t>(steps); ++t)
      for (std::size_t i = 0; i < 3; ++i) {
        if (t > 0) expected[i] *= signs[t * 3 + i];
        equal = equal && h[t * 3 + i] == expected[i];
      }
    INFO("T = " << steps);
    CHECK(equal);
  }
}

TEST_CASE("affine_scan: rotations keep the norm of the state") {
  // DEER specification 9.1: random 2x2 rotations, in blocks and dense.
  const std::int64_t steps = 5000;
  const Tensor angle = uniform(Key(6), {steps, 1, 1}, -3.0, 3.0, float64);
  const Tensor c = cos(angle);
  const Tensor s = sin(angle);
  const Tensor rotation = stack({stack({c, -s}, -1), stack({s, c}, -1)}, -2);  // (T, 1, 1, 2, 2)
  const Tensor zero = zeros({steps, 1, 2}, float64);
  const Tensor h0 = tensor({{0.6, 0.8}}, float64);
  for (const Tensor& a : {rotation, reshape(rotation, {steps, 1, 2, 2})}) {
    const Tensor norm = sum(square(affine_scan(a, zero, h0)), {-1});
    CHECK(max_abs(norm - 1.0) < 1e-12);
    CHECK(max_abs(sum(square(affine_scan_reversed(a, pad(unsqueeze(h0, 0), 0, steps - 1, 0))), {-1}) - 1.0) < 1e-12);
  }
}

TEST_CASE("affine_scan: matrices of any strides") {
  const Tensor a = sample(0, {2, 2, 50, 3}) * 0.3;  // (n, n, T, B), as K directions produce Jacobians
  const Tensor strided = permute(a, {2, 3, 0, 1});  // (T, B, n, n)
  const Tensor columns = mT(clone(mT(strided)));    // column-major matrices
  const Tensor b = permute(sample(1, {3, 2, 50}), {2, 0, 1});
  const Tensor h0 = broadcast_to(sample(2, {2}), {3, 2});
  const Tensor expected = affine_scan(clone(strided), clone(b), clone(h0));
  CHECK(max_difference(affine_scan(strided, b, h0), expected) < 1e-14);
  CHECK(max_difference(affine_scan(columns, b, h0), expected) < 1e-14);
  const Tensor reversed = affine_scan_reversed(clone(strided), clone(b));
  CHECK(max_difference(affine_scan_reversed(strided, b), reversed) < 1e-14);
  CHECK(max_difference(affine_scan_reversed(columns, b), reversed) < 1e-14);
  CHECK(max_difference(affine_scan(flip(flip(strided, 0), 0), b, h0), expected) < 1e-14);
}

TEST_CASE("affine_scan: leading axes share the matrices, broadcast between b and h0") {
  const Tensor a = sample(0, {20, 2, 3, 3}) * 0.4;
  const Tensor b = sample(1, {4, 20, 2, 3});
  const Tensor h0 = sample(2, {2, 3});
  const Tensor all = affine_scan(a, b, h0);
  CHECK(all.shape() == Shape{4, 20, 2, 3});
  for (std::int64_t i = 0; i < 4; ++i)
    CHECK(max_difference(select(all, 0, i), affine_scan(a, select(b, 0, i), h0)) < 1e-13);
  const Tensor from_states = affine_scan(a, select(b, 0, 0), sample(3, {5, 2, 3}));
  CHECK(from_states.shape() == Shape{5, 20, 2, 3});
}

TEST_CASE("affine_scan_reversed: is the adjoint of affine_scan in b") {
  for (const Shape& shape : {Shape{30, 2, 3, 3}, Shape{30, 2, 3}, Shape{30, 2, 1, 3, 3}}) {
    const Tensor a = sample(0, shape) * 0.5;  // not symmetric
    const Tensor b = sample(1, {30, 2, 3});
    const Tensor g = sample(2, {30, 2, 3});
    const double forward = sum(affine_scan(a, b, zeros({2, 3}, float64)) * g).item();
    const double backward = sum(b * affine_scan_reversed(a, g)).item();
    CHECK(forward == Approx(backward).epsilon(1e-12));
  }
}

TEST_CASE("affine_scan: gradients equal those of the loop, non-symmetric matrices, n = 3") {
  const auto scalar = [](const Tensor& h) { return sum(sin(h)); };
  const Tensors x{sample(0, {12, 2, 3, 3}) * 0.5, sample(1, {12, 2, 3}), sample(2, {2, 3})};
  const Tensors of_scan = grad([&](const Tensors& t) { return scalar(affine_scan(t[0], t[1], t[2])); }, x);
  const Tensors of_loop = grad([&](const Tensors& t) { return scalar(loop(t[0], t[1], t[2])); }, x);
  for (std::size_t i = 0; i < 3; ++i) CHECK(max_difference(of_scan[i], of_loop[i]) < 1e-12);
  const Tensors y{x[0], x[1]};
  const Tensors of_reversed = grad([&](const Tensors& t) { return scalar(affine_scan_reversed(t[0], t[1])); }, y);
  const Tensors of_reversed_loop = grad([&](const Tensors& t) { return scalar(loop_reversed(t[0], t[1])); }, y);
  for (std::size_t i = 0; i < 2; ++i) CHECK(max_difference(of_reversed[i], of_reversed_loop[i]) < 1e-12);
}

TEST_CASE("affine_scan: third derivatives equal those of the loop") {
  // d/dx three times, in mixed modes, of a function in which all arguments depend on x.
  const Tensor direction = sample(0, {4, 1, 2, 2});
  const auto through = [&](const auto& scan) {
    const auto f = [&scan, &direction](const Tensor& x) {
      return sum(square(scan(x * 0.5, sum(x * direction, {-1}), select(select(x, 0, 0), -1, 0))));
    };
    const Tensor x = sample(1, {4, 1, 2, 2});
    const Tensor v = sample(2, {4, 1, 2, 2});
    const auto second = [&](const Tensor& y) { return hvp(f, y, v); };
    const Tensor forward_third = jvp(second, x, v).tangent;
    const Tensor reverse_third = grad([&](const Tensor& y) { return sum(second(y) * v); }, x);
    CHECK(max_difference(forward_third, reverse_third) < 1e-10 * std::max(1.0, max_abs(forward_third)));
    return forward_third;
  };
  const Tensor of_scan =
      through([](const Tensor& a, const Tensor& b, const Tensor& h) { return affine_scan(a, b, h); });
  const Tensor of_loop = through([](const Tensor& a, const Tensor& b, const Tensor& h) { return loop(a, b, h); });
  CHECK(max_difference(of_scan, of_loop) < 1e-10 * std::max(1.0, max_abs(of_loop)));
}

TEST_CASE("affine_scan: K directions inside K directions") {
  // Flat arguments keep the rank of the second derivative within eight axes.
  const Tensor b = sample(0, {3, 2, 2});
  const auto f = [&](const Tensor& a) {
    const Tensor matrices = reshape(a, {3, 2, 2, 2});
    return reshape(affine_scan(matrices, b, zeros({2, 2}, float64)) + affine_scan_reversed(matrices, b), {12});
  };
  const Tensor a = sample(1, {24});
  const Tensor forward = jacfwd([&](const Tensor& x) { return jacfwd(f, x); }, a);
  const Tensor mixed = jacfwd([&](const Tensor& x) { return jacrev(f, x); }, a);
  const Tensor reversed = jacrev([&](const Tensor& x) { return jacfwd(f, x); }, a);
  CHECK(forward.shape() == Shape{12, 24, 24});
  CHECK(max_difference(forward, mixed) < 1e-12);
  CHECK(max_difference(forward, reversed) < 1e-12);
}

TEST_CASE("affine_scan: the same bits for any number of threads") {
  for (const std::int64_t batch : {1, 16}) {
    const Tensor a = sample(0, {5000, batch, 4, 4}, float32) * 0.3;
    const Tensor b = sample(1, {5000, batch, 4}, float32);
    const Tensor h0 = sample(2, {batch, 4}, float32);
    const NumThreadsGuard guard(1);
    const Tensor one = affine_scan(a, b, h0);
    const Tensor one_reversed = affine_scan_reversed(a, b);
    set_num_threads(2);
    CHECK(one.to_vector<float>() == affine_scan(a, b, h0).to_vector<float>());
    CHECK(one_reversed.to_vector<float>() == affine_scan_reversed(a, b).to_vector<float>());
  }
}

TEST_CASE("cumsum: integers, long axes and threads") {
  CHECK(cumsum(tensor({1, 2, 3}, int64), 0).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 3, 6});
  CHECK(cumsum(tensor({1, 2, 3}, int64), -1, true).to_vector<std::int64_t>() == std::vector<std::int64_t>{6, 5, 3});
  const Tensor x = sample(0, {400, 500}, float32);
  const NumThreadsGuard guard(1);
  const Tensor a = cumsum(x, 0);
  const Tensor b = cumsum(mT(x), -1, true);
  set_num_threads(2);
  CHECK(a.to_vector<float>() == cumsum(x, 0).to_vector<float>());
  CHECK(b.to_vector<float>() == cumsum(mT(x), -1, true).to_vector<float>());
}

TEST_CASE("cumprod: derivatives are exact with zeros, where dividing by x would give NaN") {
  const Tensor x = tensor({2, 0, 3, 0, 5}, float64);
  const Tensor g = grad([](const Tensor& t) { return sum(cumprod(t, 0)); }, x);
  // y = (a, ab, abc, abcd, abcde) at b = d = 0: dy/db = a + ac, all others but dy/da = 1 vanish.
  CHECK(g.to_vector<double>() == std::vector<double>{1, 8, 0, 0, 0});
  // d2/db dd = ac + ace
  const Tensor h = hessian([](const Tensor& t) { return sum(cumprod(t, 0)); }, x);
  CHECK(select(select(h, 0, 1), 0, 3).item() == 36.0);
  CHECK(cumprod(tensor({3, 0, 2}, int64), 0, true, true).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{0, 2, 1});
}

}  // namespace solvent
