#include "solvent/autodiff/transforms.h"

#include <thread>

#include "solvent/autodiff/custom.h"
#include "solvent/autodiff/debug.h"
#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;

namespace {

using Fn = std::function<Tensor(const Tensor&)>;

Tensor num(double v) { return scalar(v, float64); }

// d/dx of f in forward or reverse mode.
Fn derivative(const Fn& f, char mode) {
  if (mode == 'f') return [f](const Tensor& x) { return jvp(f, x, ones_like(stop_gradient(x))).tangent; };
  return [f](const Tensor& x) { return grad(f, x); };
}

Tensor fourth_power(const Tensor& x) {
  const Tensor y = x * x;
  return y * y;
}

}  // namespace

TEST_CASE("derivatives of x^4 are the same in every order of nesting") {
  const std::vector<std::pair<std::string, double>> cases = {
      {"f", 108},  {"r", 108},  {"ff", 108}, {"fr", 108},  {"rf", 108},  {"rr", 108}, {"fff", 72},
      {"rfr", 72}, {"frf", 72}, {"rrr", 72}, {"ffff", 24}, {"rrff", 24}, {"rrrr", 24}};
  for (const auto& [modes, unused] : cases) {
    Fn f = fourth_power;
    for (const char mode : modes) f = derivative(f, mode);
    const double expected[] = {4 * 27.0, 12 * 9.0, 24 * 3.0, 24.0};
    INFO(modes);
    CHECK(f(num(3)).item() == Approx(expected[modes.size() - 1]).epsilon(1e-13));
  }
}

TEST_CASE("perturbations of nested transforms are not confused") {
  // d/dx [x * d/dy (x + y)] at x = 1 is 1; a system without levels answers 2.
  for (const char outer : {'f', 'r'}) {
    for (const char inner : {'f', 'r'}) {
      const Fn f = [inner](const Tensor& x) {
        const Tensor slope = derivative([&x](const Tensor& y) { return x + y; }, inner)(num(1));
        return x * slope;
      };
      CHECK(derivative(f, outer)(num(1)).item() == 1.0);
    }
  }
}

TEST_CASE("a view taken inside a function keeps its gradient") {
  // A view made behind the mechanism's back would return 0 instead of 4.
  const Tensor g = grad([](const Tensor& x) { return sum(square(select(x, 0, 1))); }, tensor({1, 2, 3}, float64));
  CHECK(g.to_vector<double>() == std::vector<double>{0, 4, 0});
}

TEST_CASE("functions of several tensors, auxiliary outputs, constants") {
  const Tensor x = tensor({1, 2}, float64), y = tensor({3, 5}, float64);
  const ValueAndGrad r = value_and_grad_aux(
      [](const Tensors& v) -> Tensors {
        return {sum(v[0] * v[0]), exp(v[1])};
      },
      {x, y});
  CHECK(r.value.item() == 5);
  CHECK(r.grads[0].to_vector<double>() == std::vector<double>{2, 4});
  CHECK(r.grads[1].to_vector<double>() == std::vector<double>{0, 0});  // does not influence the value
  REQUIRE(r.aux.size() == 1);
  CHECK_FALSE(is_differentiated(r.aux[0]));
  CHECK(grad([](const Tensor&) { return num(2); }, x).to_vector<double>() == std::vector<double>{0, 0});
  CHECK(grad([](const Tensor& v) { return sum(v); }, x).to_vector<double>() == std::vector<double>{1, 1});
  // A function that returns its argument, and the same value twice.
  VjpResult same = vjp([](const Tensors& v) -> Tensors { return {v[0], v[0]}; }, {x});
  CHECK(same.pullback({x, y})[0].to_vector<double>() == std::vector<double>{4, 7});
}

TEST_CASE("stop_gradient and non-differentiable operations cut derivatives") {
  const Tensor x = num(2);
  CHECK(grad([](const Tensor& v) { return v * stop_gradient(v); }, x).item() == 2);
  CHECK(grad([](const Tensor& v) { return v * floor(v * 1.3); }, x).item() == 2);
  CHECK(grad([](const Tensor& v) { return where(greater(v, num(1)), v * v, v); }, x).item() == 4);
  CHECK(grad([](const Tensor& v) { return v.item() > 1 ? v * 3.0 : v; }, x).item() == 3);  // branching on data
}

TEST_CASE("misuse is reported with the way out") {
  const Tensor x = tensor({1, 2}, float64);
  CHECK_THROWS_WITH(grad([](const Tensor& v) { return v; }, x), Catch::Contains("expected one element"));
  CHECK_THROWS_AS(grad([](const Tensor& v) { return sum(v); }, arange(0, 3)), DtypeError);
  CHECK_THROWS_WITH(grad([](const Tensor& v) { return sum(v); }, arange(0, 3)), Catch::Contains("float32 or float64"));
  VjpResult1 r = vjp([](const Tensor& v) { return v * v; }, x);
  CHECK_THROWS_WITH(r.pullback(num(1)), Catch::Contains("expected (2,)"));
  CHECK_THROWS_AS(r.pullback(ones({2})), DtypeError);
  static_cast<void>(r.pullback(x, true));
  static_cast<void>(r.pullback(x));
  CHECK_THROWS_WITH(r.pullback(x), Catch::Contains("retain = true"));
  CHECK_THROWS_AS(jvp([](const Tensor& v) { return v; }, x, num(1)), ShapeError);
}

TEST_CASE("a tensor that escapes its transform is recognised") {
  Tensor leaked;
  const Tensor x = num(2);
  static_cast<void>(grad(
      [&](const Tensor& v) {
        leaked = v * v;
        return leaked;
      },
      x));
  CHECK(leaked.item() == 4);  // metadata and values stay readable
  CHECK_THROWS_AS(leaked * 2.0, AutodiffError);
  CHECK_THROWS_WITH(leaked * 2.0, Catch::Contains("escaped"));
  // Inside a later transform of the same depth the serial number tells them apart.
  CHECK_THROWS_WITH(grad([&](const Tensor& v) { return v * leaked; }, x), Catch::Contains("escaped"));
  CHECK_THROWS_WITH(jvp([&](const Tensor& v) { return v * leaked; }, x, x), Catch::Contains("escaped"));
  CHECK(stop_gradient(leaked).item() == 4);
}

TEST_CASE("a differentiated tensor used on another thread is an error, and levels unwind on exceptions") {
  std::string message;
  CHECK_THROWS_AS(grad(
                      [&](const Tensor& v) -> Tensor {
                        std::thread([&] {
                          try {
                            static_cast<void>(v * v);
                          } catch (const AutodiffError& e) {
                            message = e.what();
                          }
                        }).join();
                        throw ValueError("stop");
                      },
                      num(1)),
                  ValueError);
  CHECK(message.find("another thread") != std::string::npos);
  CHECK_FALSE(transform_active());
  CHECK(grad([](const Tensor& v) { return v * v; }, num(3)).item() == 6);
}

TEST_CASE("Jacobians and Hessians agree between modes and with closed forms") {
  const Tensor x = tensor({0.3, -0.7, 1.1}, float64);
  const Tensor w = tensor({{1, 2, 3}, {0, -1, 2}}, float64);
  const auto f = [&](const Tensor& v) { return tanh(matmul(w, v)); };
  const Tensor forward = jacfwd(f, x), reverse = jacrev(f, x), chunked = jacfwd(f, x, 2);
  REQUIRE(forward.shape() == Shape{2, 3});
  const Tensor y = f(x);
  const auto expected = ((1.0 - unsqueeze(y * y, 1)) * w).to_vector<double>();
  for (const Tensor& j : {forward, reverse, chunked}) {
    const auto got = contiguous(j).to_vector<double>();
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(1e-14));
  }
  const auto loss = [&](const Tensor& v) { return sum(f(v) * f(v)); };
  const Tensor h = hessian(loss, x);
  REQUIRE(h.shape() == Shape{3, 3});
  const auto hv = hvp(loss, x, tensor({1, 0, -1}, float64)).to_vector<double>();
  const auto full = contiguous(h).to_vector<double>();
  for (int i = 0; i < 3; ++i) {
    const auto row = static_cast<std::size_t>(3 * i);
    CHECK(hv[static_cast<std::size_t>(i)] == Approx(full[row] - full[row + 2]).epsilon(1e-12));
    for (int j = 0; j < 3; ++j)
      CHECK(full[row + static_cast<std::size_t>(j)] ==
            Approx(full[static_cast<std::size_t>(3 * j + i)]).epsilon(1e-12));
  }
  // Chunked Jacobians stay differentiable under an outer transform.
  const Tensor third = grad([&](const Tensor& v) { return sum(jacfwd(loss, v, 2)); }, x);
  const auto row_sums = contiguous(sum(h, {-1})).to_vector<double>();
  for (std::size_t i = 0; i < 3; ++i) CHECK(third.to_vector<double>()[i] == Approx(row_sums[i]).epsilon(1e-12));
}

TEST_CASE("Jacobians of and by nothing are empty") {
  const auto f = [](const Tensor& x) { return mul(slice(x, 0, 0, 0), slice(x, 0, 0, 0)); };
  const auto g = [](const Tensor& x) { return add(sum(x), ones({2})); };
  CHECK(jacfwd(f, ones({3})).shape() == Shape{0, 3});
  CHECK(jacrev(f, ones({3})).shape() == Shape{0, 3});
  CHECK(jacfwd(g, ones({0})).shape() == Shape{2, 0});
  CHECK(jacrev(g, ones({0})).shape() == Shape{2, 0});
}

TEST_CASE("row Jacobians equal Jacobians row by row, in blocks and under transforms") {
  const std::int64_t rows = 5000, n = 6;  // several blocks
  const Tensor x = normal(Key(1), {rows, n}, 0, 1, float64);
  const Tensor w = normal(Key(2), {n, 4}, 0, 1, float64), shift = normal(Key(3), {rows, 4}, 0, 1, float64);
  const auto f = [&](const Tensor& v, std::int64_t first) {
    return tanh(matmul(v, w) + slice(shift, 0, first, first + v.size(0)));
  };
  const RowsJacobian r = jacfwd_rows(f, x);
  REQUIRE(r.jacobian.shape() == Shape{rows, 4, n});
  for (const std::int64_t row : {std::int64_t{0}, std::int64_t{777}, rows - 1}) {
    const Tensor one = jacfwd([&](const Tensor& v) { return f(unsqueeze(v, 0), row); }, select(x, 0, row));
    const auto expected = contiguous(reshape(one, {4, n})).to_vector<double>();
    const auto got = contiguous(select(r.jacobian, 0, row)).to_vector<double>();
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-14));
  }
  const auto values = contiguous(f(x, 0)).to_vector<double>();
  CHECK(r.value.to_vector<double>() == values);
  // An error inside a block reaches the caller.
  CHECK_THROWS_AS(jacfwd_rows(
                      [](const Tensor& v, std::int64_t first) -> Tensor {
                        if (first > 0) throw ValueError("block");
                        return v;
                      },
                      x),
                  ValueError);
  CHECK_THROWS_AS(jacfwd_rows([](const Tensor& v, std::int64_t) { return sum(v); }, x), ShapeError);
  const Tensor small = slice(x, 0, 0, 7);
  const GradcheckReport report = gradcheck(
      [&](const Tensors& v) -> Tensors {
        return {jacfwd_rows([&](const Tensor& t, std::int64_t first) { return f(t, first); }, v[0]).jacobian};
      },
      {contiguous(small)});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("linearize applies the derivative and its transpose many times") {
  const Tensor x = tensor({0.5, -1.0}, float64);
  int calls = 0;
  const Linearized l = linearize(
      [&](const Tensors& v) -> Tensors {
        ++calls;
        return {sin(v[0]) * v[0], sum(v[0])};
      },
      {x});
  const Tensor t = tensor({1, 2}, float64), g = tensor({3, -1}, float64);
  for (int repeat = 0; repeat < 2; ++repeat) {
    const Tensors tangents = l.jvp({t});
    const Tensors cotangents = l.vjp({g, num(2)});
    double left = 0, right = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      left += tangents[0].to_vector<double>()[i] * g.to_vector<double>()[i];
      right += cotangents[0].to_vector<double>()[i] * t.to_vector<double>()[i];
    }
    left += 2 * tangents[1].item();
    CHECK(left == Approx(right).epsilon(1e-14));
  }
  CHECK(calls == 1);
  CHECK(l.jvp({tensor({{1, 2}, {0, 1}}, float64)}, 2)[0].shape() == Shape{2, 2});
  CHECK_THROWS_AS(l.jvp({num(1)}), ShapeError);
}

TEST_CASE("donation of dying buffers changes no result and works under a level") {
  const Tensor x = normal(Key(5), {64}, 0, 1, float64);
  const auto chain = [](Tensor v, bool keep) {
    std::vector<Tensor> alive;
    for (int i = 0; i < 20; ++i) {
      if (keep) alive.push_back(v);  // a second handle forbids reuse
      v = affine(std::move(v), 0.5, 0.1);
      Tensor squared = v * v * 0.1;
      v = add(std::move(squared), std::move(v));
    }
    return v;
  };
  for (const bool keep : {false, true}) {
    const auto f = [&](const Tensor& v) { return sum(chain(v, keep)); };
    static std::vector<double> first;
    const auto g = grad(f, x).to_vector<double>();
    if (first.empty()) first = g;
    CHECK(g == first);
  }
  reset_peak_memory();
  const std::size_t before = memory_stats().active;
  const Tensor large = zeros({1 << 20}, float64);  // 8 MiB
  static_cast<void>(grad(
      [](const Tensor& v) {
        Tensor y = v;
        for (int i = 0; i < 50; ++i) y = affine(std::move(y), 1.0, 1.0);  // needs no saved values
        return sum(y);
      },
      large));
  CHECK(memory_stats().peak - before < 6u * (8u << 20));  // 50 buffers without donation
}

TEST_CASE("long tapes: 40 000 nodes sweep and die without recursion") {
  const Tensor w = normal(Key(1), {8, 8}, 0, 0.3, float64);
  const auto f = [&](const Tensor& h0) {
    Tensor h = h0;
    for (int t = 0; t < 10000; ++t) h = tanh(matmul(h, w) + h * 0.1);
    return sum(h);
  };
  VjpResult1 r = vjp(f, ones({1, 8}, float64));
  CHECK(r.pullback.num_nodes() >= 40000);
  CHECK(isfinite(sum(r.pullback(num(1)))).item() == 1);
}

TEST_CASE("tapes can be read: counts, text and DOT") {
  VjpResult1 r = vjp([](const Tensor& v) { return sum(tanh(v) * 2.0 + 1.0); }, ones({3}, float64));
  const auto counts = debug::node_counts(r.pullback);
  CHECK(counts.at("tanh") == 1);
  CHECK(counts.at("affine") == 2);
  const std::string text = debug::dump_text(r.pullback);
  CHECK(text.find("= tanh(%0)") != std::string::npos);
  const std::string dot = debug::dump_dot(r.pullback);
  CHECK(dot.find("digraph") == 0);
  CHECK(dot.find("-> n1") != std::string::npos);
  // Nothing extra is recorded: constants are not on the tape.
  VjpResult1 constant = vjp([](const Tensor& v) { return v + sum(exp(ones({3}, float64))); }, ones({3}, float64));
  CHECK(debug::node_counts(constant.pullback).count("exp") == 0);
}

TEST_CASE("gradcheck finds a wrong rule") {
  const auto wrong = [](const Tensors& v) {
    return custom_vjp(
        [](const Tensors& x) -> Tensors { return {x[0] * x[0]}; },
        [](const Tensors& x, const Tensors&, const Tensors& g) -> Tensors { return {g[0] * x[0] * 2.01}; }, v);
  };
  const Tensor x = tensor({1.5, -0.5}, float64);
  CHECK_THROWS_AS(gradcheck(wrong, {x}), AutodiffError);  // forward mode through custom_vjp
  const auto wrong_jvp = [](const Tensors& v) {
    return custom_jvp([](const Tensors& a) -> Tensors { return {a[0] * a[0]}; },
                      [](const Tensors& a, const Tensors& t) -> Tensors { return {a[0] * t[0] * 2.01}; }, v);
  };
  const GradcheckReport report = gradcheck(wrong_jvp, {x});
  CHECK_FALSE(report.ok);
  CHECK(report.message.find("central differences") != std::string::npos);
  CHECK_THROWS_WITH(gradcheck([](const Tensors& v) { return v; }, {ones({2})}), Catch::Contains("float64"));
}
