// gru_sequence beyond the table of operations: against a loop of elementary operations, memory, gates saved or not.

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/allocator.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

double max_abs(const Tensor& t) { return max(abs(t)).item(); }
double max_difference(const Tensor& a, const Tensor& b) { return max_abs(a - b); }

Tensors arguments(std::int64_t steps, std::int64_t batch, std::int64_t input, std::int64_t hidden,
                  DType dtype = float64) {
  const Shape shapes[] = {{steps, batch, input}, {batch, hidden}, {3 * hidden, input},
                          {3 * hidden, hidden},  {3 * hidden},    {hidden}};
  Tensors x;
  for (const Shape& shape : shapes) x.push_back(normal(Key(31).fold_in(x.size()), shape, 0, 0.7, dtype));
  return x;
}

Tensor fused(const Tensors& x) { return gru_sequence(x[0], x[1], x[2], x[3], x[4], x[5]); }

// The definition, one step at a time: r, z, n in this order.
Tensor composed(const Tensors& x) {
  const std::int64_t hidden = x[1].size(1);
  const auto gate = [&](const Tensor& t, std::int64_t i) { return slice(t, -1, i * hidden, (i + 1) * hidden); };
  Tensor h = x[1];
  Tensors states;
  for (const Tensor& input : unstack(x[0], 0)) {
    const Tensor from_x = matmul(input, mT(x[2])) + x[4];
    const Tensor from_h = matmul(h, mT(x[3]));
    const Tensor r = sigmoid(gate(from_x, 0) + gate(from_h, 0));
    const Tensor z = sigmoid(gate(from_x, 1) + gate(from_h, 1));
    const Tensor c = tanh(gate(from_x, 2) + r * (gate(from_h, 2) + x[5]));
    h = (1.0 - z) * c + z * h;
    states.push_back(h);
  }
  return stack(std::move(states), 0);
}

Tensor loss_of(const Tensor& hs) {
  const Tensor weights = normal(Key(41), hs.shape(), 0, 1, hs.dtype());
  return sum(hs * weights) + sum(square(hs));
}

}  // namespace

TEST_CASE("gru_sequence: equals a loop of elementary operations, values and gradients") {
  for (const auto& [steps, batch, input, hidden] : std::vector<std::array<std::int64_t, 4>>{
           {1, 1, 1, 1}, {2, 1, 3, 2}, {7, 3, 2, 5}, {20, 9, 4, 17}, {5, 2, 0, 3}, {33, 1, 3, 16}}) {
    const Tensors x = arguments(steps, batch, input, hidden);
    INFO("T " << steps << " B " << batch << " I " << input << " H " << hidden);
    CHECK(max_difference(fused(x), composed(x)) < 1e-13);
    const Tensors expected = grad([](const Tensors& t) { return loss_of(composed(t)); }, x);
    const Tensors got = grad([](const Tensors& t) { return loss_of(fused(t)); }, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (x[i].numel() == 0) continue;
      INFO("argument " << i);
      CHECK(max_difference(got[i], expected[i]) < 1e-12 * std::max(1.0, max_abs(expected[i])));
    }
  }
}

TEST_CASE("gru_sequence: float32 gradients stay close to float64 ones") {
  const Tensors x = arguments(50, 8, 6, 16);
  Tensors single;
  for (const Tensor& t : x) single.push_back(cast(t, float32));
  const Tensors expected = grad([](const Tensors& t) { return loss_of(fused(t)); }, x);
  const Tensors got = grad(
      [](const Tensors& t) {
        return sum(fused(t) * cast(normal(Key(41), {50, 8, 16}, 0, 1, float64), float32)) + sum(square(fused(t)));
      },
      single);
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(max_difference(cast(got[i], float64), expected[i]) < 2e-5 * std::max(1.0, max_abs(expected[i])));
}

TEST_CASE("gru_sequence: forward mode equals the loop, single and K directions") {
  const Tensors x = arguments(6, 2, 3, 4);
  const std::int64_t k = 3;
  Tensors directions;
  for (const Tensor& t : x)
    directions.push_back(normal(Key(51).fold_in(directions.size()), prepend(k, t.shape()), 0, 1, float64));
  const auto tangent = [&](Tensor (*f)(const Tensors&), const Tensors& v, std::int64_t count) {
    return jvp_batched([f](const Tensors& t) { return Tensors{f(t)}; }, x, v, count).tangents[0];
  };
  const Tensor all = tangent(fused, directions, k);
  CHECK(max_difference(all, tangent(composed, directions, k)) < 1e-12);
  Tensors first;
  for (const Tensor& t : directions) first.push_back(select(t, 0, 0));
  CHECK(max_difference(tangent(fused, first, 0), select(all, 0, 0)) < 1e-13);
  // Along one argument only: the others are constants.
  for (std::size_t i = 0; i < x.size(); ++i) {
    Tensors only(x.size());
    only[i] = directions[i];
    INFO("argument " << i);
    CHECK(max_difference(tangent(fused, only, k), tangent(composed, only, k)) < 1e-12);
  }
}

TEST_CASE("gru_sequence: long jvps work in blocks of time") {
  // 64 MB of Jacobians are about 2000 steps of this size.
  const Tensors x = arguments(2500, 1, 1, 64, float64);
  Tensors v(x.size());
  v[1] = normal(Key(61), {1, 64}, 0, 1, float64);
  v[3] = normal(Key(62), {192, 64}, 0, 0.01, float64);
  Tensors scaled = x;
  scaled[3] = x[3] * 0.2;
  const auto f = [](const Tensors& t) { return Tensors{fused(t)}; };
  const Tensor tangent = jvp(f, scaled, v).tangents[0];
  const double eps = 1e-6;
  Tensors up = scaled;
  Tensors down = scaled;
  for (const std::size_t i : {std::size_t{1}, std::size_t{3}}) {
    up[i] = scaled[i] + v[i] * eps;
    down[i] = scaled[i] - v[i] * eps;
  }
  const Tensor difference = (fused(up) - fused(down)) / (2 * eps);
  CHECK(max_difference(tangent, difference) < 1e-6 * std::max(1.0, max_abs(tangent)));
}

TEST_CASE("gru_sequence: second derivatives equal the loop's in all four nestings") {
  const Tensors x = arguments(4, 2, 2, 3);
  Tensors v;
  for (const Tensor& t : x) v.push_back(normal(Key(71).fold_in(v.size()), t.shape(), 0, 1, float64));
  const auto loss = [](Tensor (*f)(const Tensors&)) { return [f](const Tensors& t) { return loss_of(f(t)); }; };
  const auto dot_with_v = [&](const Tensors& g) {
    Tensor s = zeros({}, float64);
    for (std::size_t i = 0; i < g.size(); ++i) s = s + sum(g[i] * v[i]);
    return s;
  };
  const auto forward_reverse = [&](Tensor (*f)(const Tensors&)) {
    return jvp([&](const Tensors& t) { return grad(loss(f), t); }, x, v).tangents;
  };
  const auto reverse_reverse = [&](Tensor (*f)(const Tensors&)) {
    return grad([&](const Tensors& t) { return dot_with_v(grad(loss(f), t)); }, x);
  };
  const auto reverse_forward = [&](Tensor (*f)(const Tensors&)) {
    return grad(
        [&](const Tensors& t) { return jvp([&](const Tensors& u) { return Tensors{loss(f)(u)}; }, t, v).tangents[0]; },
        x);
  };
  const Tensors expected = forward_reverse(composed);
  const Tensors results[] = {forward_reverse(fused), reverse_reverse(fused), reverse_forward(fused)};
  for (std::size_t mode = 0; mode < 3; ++mode)
    for (std::size_t i = 0; i < x.size(); ++i) {
      INFO("mode " << mode << ", argument " << i);
      CHECK(max_difference(results[mode][i], expected[i]) < 1e-11 * std::max(1.0, max_abs(expected[i])));
    }
  const auto forward_forward = [&](Tensor (*f)(const Tensors&)) {
    const auto inner = [&](const Tensors& t) {
      return Tensors{jvp([&](const Tensors& u) { return Tensors{loss(f)(u)}; }, t, v).tangents[0]};
    };
    return jvp(inner, x, v).tangents[0].item();
  };
  CHECK(forward_forward(fused) == Approx(forward_forward(composed)).epsilon(1e-11));
}

TEST_CASE("gru_sequence: third derivatives by reverse over reverse over reverse") {
  const Tensors x = arguments(3, 1, 1, 2);
  const auto third = [&](Tensor (*f)(const Tensors&)) {
    const auto along = [](const auto& g, const Tensors& t) {
      Tensor s = zeros({}, float64);
      for (const Tensor& part : grad(g, t)) s = s + sum(sin(part));
      return s;
    };
    const auto first = [&](const Tensors& t) { return loss_of(f(t)); };
    const auto second = [&](const Tensors& t) { return along(first, t); };
    return grad([&](const Tensors& t) { return along(second, t); }, x);
  };
  const Tensors got = third(fused);
  const Tensors expected = third(composed);
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(max_difference(got[i], expected[i]) < 1e-10 * std::max(1.0, max_abs(expected[i])));
}

TEST_CASE("gru_sequence: gates beyond 64 MB are recomputed, not kept, unless H is large") {
  const std::int64_t steps = 5000;
  const std::int64_t batch = 16;
  const std::int64_t hidden = 64;  // gates: 5000 * 16 * 4 * 64 * 4 bytes = 82 MB; states: 20 MB
  Tensors x = arguments(steps, batch, 1, hidden, float32);
  x[3] = x[3] * 0.2;
  reset_peak_memory();
  const std::size_t before = memory_stats().active;
  VjpResult r = vjp([](const Tensors& t) { return Tensors{fused(t)}; }, x);
  const std::size_t kept = memory_stats().active - before;
  CHECK(kept < 30u << 20);
  // A short sequence keeps them.
  const Tensors few = arguments(500, batch, 1, hidden, float32);
  const std::size_t start = memory_stats().active;
  VjpResult short_run = vjp([](const Tensors& t) { return Tensors{fused(t)}; }, few);
  const std::size_t states = 500u * 16u * 64u * 4u;
  CHECK(memory_stats().active - start >= 5 * states);
  // So does a wide layer: 2100 * 16 * 4 * 128 * 4 bytes = 69 MB of gates.
  const Tensors wide = arguments(2100, batch, 1, 128, float32);
  const std::size_t wide_start = memory_stats().active;
  VjpResult wide_run = vjp([](const Tensors& t) { return Tensors{fused(t)}; }, wide);
  CHECK(memory_stats().active - wide_start >= 5 * (2100u * 16u * 128u * 4u));
  // Gradients of the long run are right: shift of h0 only.
  Tensors cotangent{pad(ones({1, batch, hidden}), 0, 0, steps - 1)};
  const Tensors g = r.pullback(cotangent);
  Tensors head = x;
  head[0] = slice(x[0], 0, 0, 1);
  const Tensors expected =
      vjp([](const Tensors& t) { return Tensors{composed(t)}; }, head).pullback(Tensors{ones({1, batch, hidden})});
  CHECK(max_difference(g[1], expected[1]) < 1e-5);
  CHECK(max_difference(g[3], expected[3]) < 1e-4);
}

TEST_CASE("gru_sequence: only wanted gradients are computed, strided arguments are accepted") {
  Tensors x = arguments(5, 3, 2, 4);
  const Tensor w_columns = mT(clone(mT(x[3])));
  const Tensor xs_strided = permute(clone(permute(x[0], {1, 0, 2})), {1, 0, 2});
  CHECK(max_difference(gru_sequence(xs_strided, x[1], x[2], w_columns, x[4], x[5]), fused(x)) == 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto only = [&](const Tensor& t) {
      Tensors y = x;
      y[i] = t;
      return loss_of(fused(y));
    };
    const Tensors all = grad([](const Tensors& t) { return loss_of(fused(t)); }, x);
    INFO("argument " << i);
    CHECK(max_difference(grad(only, x[i]), all[i]) == 0.0);
  }
}

TEST_CASE("gru_sequence: the same bits for any number of threads") {
  const Tensors x = arguments(200, 20, 8, 32, float32);
  const NumThreadsGuard guard(1);
  const Tensors one = grad([](const Tensors& t) { return sum(fused(t)); }, x);
  set_num_threads(2);
  const Tensors two = grad([](const Tensors& t) { return sum(fused(t)); }, x);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(one[i].to_vector<float>() == two[i].to_vector<float>());
}

}  // namespace solvent
