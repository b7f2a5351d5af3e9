// The fused adjoint of the GRU; the reversed scan over Jacobians in memory is its twin.

#include <algorithm>
#include <memory>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/gru_problem.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::solvers {
namespace {

const Device kGpu = testing::cuda_test_device();
using testing::has_cuda_test_device;
using Problem = testing::GruProblem;

/// The adjoint does not ask whether states solve anything.
Tensor some_states(const Problem& p, std::uint64_t key = 4) {
  return to(normal(Key(key), {p.xs.size(0), p.h0.size(0), p.h0.size(1)}, 0.0, 0.4, p.h0.dtype()), kGpu);
}

Tensor twin(const Problem& p, const Tensor& hs, const Tensor& g) {
  const SequenceProblem generic(p.cell, p.h0, p.xs, p.theta);
  return generic.scan_reversed(generic.linearize(hs, JacobianKind::dense).jacobian, g);
}

double largest_difference(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item(); }

void check_case(const Problem& p) {
  INFO("n " << p.h0.size(1) << " T " << p.xs.size(0) << " B " << p.xs.size(1) << " " << to_string(p.h0.dtype()));
  const Tensor hs = some_states(p), g = some_states(p, 5);
  const Tensor got = p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, g), expected = twin(p, hs, g);
  REQUIRE(got.defined());
  REQUIRE(got.shape() == expected.shape());
  CHECK(got.device() == kGpu);
  CHECK(largest_difference(got, expected) < (p.h0.dtype() == float32 ? 3e-6 : 5e-15) * (1 + max(abs(expected)).item()));
  CHECK(testing::same_bits(p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, g), got));
}

TEST_CASE("cuda adjoint: that of Jacobians in memory, whatever the sizes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    for (const std::int64_t n : {1, 2, 3, 4, 5, 8, 9, 16, 17, 32})
      for (const std::int64_t steps : {1, 2, 16, 17, 32, 33, 100}) {
        check_case(testing::gru_problem(n, steps, 1, dtype));
        if (steps % 2 == 0) check_case(testing::gru_problem(n, steps, 3, dtype));
      }
  }
}

TEST_CASE("cuda adjoint: many chunks", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    for (const std::int64_t n : {1, 2, 3, 4}) check_case(testing::gru_problem(n, 4097, n == 2 ? 3 : 1, dtype));
    for (const std::int64_t n : {6, 8}) check_case(testing::gru_problem(n, 2500, n == 8 ? 1 : 2, dtype));
    check_case(testing::gru_problem(16, 1000, 1, dtype));
    check_case(testing::gru_problem(30, 400, 2, dtype));
  }
  check_case(testing::gru_problem(1, 20, 700, float32));
  check_case(testing::gru_problem(12, 40, 60, float32));
}

// With many chunks too, where maps of chunks are scanned: in one block, or in chunks of maps again.
TEST_CASE("cuda adjoint: the same bits in any batch", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [n, steps] : {std::pair{1, 9000}, {2, 300}, {4, 4500}, {6, 5000}, {17, 300}}) {
    INFO("n " << n << " T " << steps);
    const Problem p = testing::gru_problem(n, steps, 3, float32);
    const Tensor hs = some_states(p), g = some_states(p, 5);
    const Tensor all = p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, g);
    for (std::int64_t b = 0; b < 3; ++b) {
      const auto of_b = [b](const Tensor& x) { return slice(x, 1, b, b + 1); };
      const Tensor one = p.cell.fused_adjoint(of_b(hs), slice(p.h0, 0, b, b + 1), of_b(p.xs), p.theta, of_b(g));
      CHECK(testing::same_bits(contiguous(of_b(all)), one));
    }
  }
}

TEST_CASE("cuda adjoint: cells of Flax and PyTorch", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {2, 4, 7}) {
    check_case(
        testing::gru_problem(n, 150, 2, float64, 1.0, nn::RecurrentInit::flax));  // orthogonal weights, long memory
    const nn::GruCell gru(2, n, Key(3), {.dtype = float64});
    const nn::PyTorchGru same = gru.to_pytorch();
    const nn::GruCell shifted = nn::GruCell::from_pytorch(
        {same.weight_ih, same.weight_hh, same.bias_ih, normal(Key(6), {3 * n}, 0.0, 0.5, float64)});
    check_case(testing::gru_problem(shifted, 150, 2));
  }
}

TEST_CASE("cuda adjoint: strided operands", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const auto turned = [](const Tensor& x) { return transpose(contiguous(transpose(x, 0, 1)), 0, 1); };
  for (const std::int64_t n : {3, 6}) {
    Problem p = testing::gru_problem(n, 90, 2, float32);
    const Tensor hs = some_states(p), g = some_states(p, 5);
    const Tensor dense = p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, g);
    p.xs = turned(p.xs);
    p.h0 = turned(p.h0);
    p.theta[1] = turned(p.theta[1]);
    CHECK(testing::same_bits(p.cell.fused_adjoint(turned(hs), p.h0, p.xs, p.theta, turned(g)), dense));
    // One number for all: strides of zero.
    const Tensor one = ones({}, {float32, kGpu});
    const Tensor same = p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, broadcast_to(one, hs.shape()));
    CHECK(largest_difference(same, twin(p, hs, ones(hs.shape(), {float32, kGpu}))) < 1e-4);
  }
}

TEST_CASE("cuda adjoint: other sizes and devices are left to the generic path", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Problem wide = testing::gru_problem(33, 3, 1, float32), p = testing::gru_problem(3, 5, 2, float32);
  const Tensor hs = some_states(p);
  CHECK(!wide.cell.fused_adjoint(some_states(wide), wide.h0, wide.xs, wide.theta, some_states(wide)).defined());
  CHECK(!p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, cast(hs, float64)).defined());
  CHECK(!p.cell.fused_adjoint(hs, p.h0, p.xs, p.theta, unsqueeze(hs, 0)).defined());
  Tensors theta;
  for (const Tensor& t : p.theta) theta.push_back(to(t, cpu_device));
  const Tensor on_cpu = to(hs, cpu_device);
  CHECK(!p.cell.fused_adjoint(on_cpu, to(p.h0, cpu_device), to(p.xs, cpu_device), theta, on_cpu).defined());
}

// --- as part of implicit gradients ----------------------------------------------------------------------------------------

/// `p` with a count of the calls of its fused adjoint.
std::shared_ptr<int> count_calls(Problem& p) {
  auto calls = std::make_shared<int>(0);
  p.cell.fused_adjoint = [calls, inner = p.cell.fused_adjoint](const Tensor& hs, const Tensor& h0, const Tensor& xs,
                                                               const Tensors& theta, const Tensor& g) {
    ++*calls;
    return inner(hs, h0, xs, theta, g);
  };
  return calls;
}

Options tight() { return {.termination = {.atol = 1e-12, .rtol = 0}}; }

Tensors arguments(const Problem& p) {
  Tensors all = {p.h0, p.xs};
  all.insert(all.end(), p.theta.begin(), p.theta.end());
  return all;
}

Tensor loss(const Problem& p, const SequenceMethod& method, const Tensors& all) {
  const Tensors theta(all.begin() + 2, all.end());
  const Tensor hs = solve_sequence(p.cell, all[0], all[1], theta, method, tight()).value;
  return sum(square(hs) + 0.1 * hs);
}

Tensors gradients(const Problem& p, const SequenceMethod& method) {
  return grad([&](const Tensors& all) { return loss(p, method, all); }, arguments(p));
}

void check_equal(const Tensors& got, const Tensors& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("argument " << i);
    CHECK(largest_difference(got[i], expected[i]) < tolerance * (1 + max(abs(expected[i])).item()));
  }
}

TEST_CASE("cuda adjoint: gradients by every method equal backpropagation through time", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [n, steps] : {std::pair{1, 600}, {4, 90}, {6, 90}, {17, 40}}) {
    Problem p = testing::gru_problem(n, steps, 2, float64);
    const auto calls = count_calls(p);
    const Tensors expected = gradients(p, Sequential{});
    CHECK(*calls == 0);
    for (const SequenceMethod& method : {SequenceMethod(Deer{}), SequenceMethod(Deer{.window = 50}),
                                         SequenceMethod(Deer{.jacobian = JacobianKind::diagonal}),
                                         SequenceMethod(Shooting{}), SequenceMethod(GaussSeidel{})}) {
      INFO("n " << n << " " << name_of(method));
      *calls = 0;
      check_equal(gradients(p, method), expected, 1e-11);
      CHECK(*calls == 1);
    }
    *calls = 0;
    check_equal(gradients(p, Deer{.fused = false}), expected, 1e-11);
    check_equal(gradients(p, Shooting{.fused = false}), expected, 1e-11);
    CHECK(*calls == 0);
  }
}

// What the gradient's own derivative adds to the cotangent of the states is of first order again, and on plain tensors.
TEST_CASE("cuda adjoint: second derivatives and forward mode differentiate the generic path", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Problem p = testing::gru_problem(3, 40, 2, float64);
  const auto calls = count_calls(p);
  const Tensors at = arguments(p);
  Tensors direction;
  for (std::size_t i = 0; i < at.size(); ++i)
    direction.push_back(to(normal(Key(20 + i), at[i].shape(), 0.0, 1.0, float64), kGpu));
  const auto inner = [&](const SequenceMethod& method) {
    return [&p, &direction, method](const Tensors& all) {
      const Tensors g = grad([&](const Tensors& x) { return loss(p, method, x); }, all);
      Tensor dot = sum(g[0] * direction[0]);
      for (std::size_t i = 1; i < g.size(); ++i) dot = dot + sum(g[i] * direction[i]);
      return dot;
    };
  };
  const Tensors expected = grad(inner(Sequential{}), at);
  CHECK(*calls == 0);
  check_equal(grad(inner(Deer{}), at), expected, 1e-9);
  CHECK(*calls == 1);
  *calls = 0;
  const auto tangent = [&](const SequenceMethod& method) {
    return jvp([&](const Tensors& all) { return Tensors{loss(p, method, all)}; }, at, direction).tangents;
  };
  check_equal(tangent(Deer{}), tangent(Sequential{}), 1e-11);
  CHECK(*calls == 0);
}

TEST_CASE("cuda adjoint: a solve that has not converged has no gradient", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Problem p = testing::gru_problem(3, 60, 2, float64);
  const auto calls = count_calls(p);
  for (const bool fused : {false, true})
    for (const OnFailure on_failure : {OnFailure::throw_error, OnFailure::return_best}) {
      Options options = tight();
      options.termination.max_steps = 1;
      options.on_failure = on_failure;
      const auto f = [&](const Tensors& all) {
        const Tensors theta(all.begin() + 2, all.end());
        return sum(solve_sequence(p.cell, all[0], all[1], theta, Deer{.fused = fused}, options).value);
      };
      CHECK_THROWS_AS(grad(f, arguments(p)), SolverError);
    }
  CHECK(*calls == 0);
}

}  // namespace
}  // namespace solvent::solvers
