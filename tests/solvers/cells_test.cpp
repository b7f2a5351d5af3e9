// Every cell of nn/ through every method of solve_sequence: states and implicit gradients equal the step-by-step loop's.

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/nn/elman.h"
#include "solvent/nn/gru.h"
#include "solvent/nn/lem.h"
#include "solvent/nn/lstm.h"
#include "solvent/nn/para_lstm.h"
#include "solvent/nn/recurrent_layers.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;
using namespace solvent::solvers;

namespace {

constexpr std::int64_t kSteps = 37, kBatch = 2, kInputs = 4, kHidden = 6;

double distance(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item(); }

std::vector<std::pair<std::string, nn::RecurrentCell>> cells() {
  const Key key(7);
  return {{"elman", nn::ElmanCell(kInputs, kHidden, key, {.dtype = float64}).functions()},
          {"gru", nn::GruCell(kInputs, kHidden, key, {.dtype = float64}).functions()},
          {"lstm", nn::LstmCell(kInputs, kHidden, key, {.dtype = float64}).functions()},
          {"lem", nn::LemCell(kInputs, kHidden, key, {.dt = 0.8, .dtype = float64}).functions()},
          {"para_gru", nn::ParaGruCell(kInputs, kHidden, key, {.dtype = float64}).functions()},
          {"para_lstm", nn::ParaLstmCell(kInputs, kHidden, key, {.dtype = float64}).functions()}};
}

std::vector<SequenceMethod> methods() {
  return {Sequential{},
          Jacobi{},
          GaussSeidel{.block = 5},
          Deer{},
          Deer{.window = 10},
          Deer{.jacobian = JacobianKind::diagonal},
          Deer{.jacobian = JacobianKind::blocks},
          Deer{.jacobian = JacobianKind::blocks, .damping = 0.1},
          Shooting{.chunk = 8, .burn_in = 4}};
}

struct Data {
  Tensor h0, xs, weights;
};

Data data_for(const nn::RecurrentCell& cell) {
  return {normal(Key(1), {kBatch, cell.state_size}, 0, 0.5, float64),
          normal(Key(2), {kSteps, kBatch, kInputs}, 0, 1, float64),
          normal(Key(3), {kSteps, kBatch, cell.state_size}, 0, 1, float64)};
}

Options tight(Adjoint adjoint = Adjoint::implicit) {
  Options o;
  o.termination.atol = 1e-13;
  o.termination.rtol = 0;
  o.adjoint = adjoint;
  return o;
}

/// Gradients of a weighted sum of all states in h0, xs and the parameters.
Tensors gradients(const SequenceCell& cell, const Tensors& theta, const Data& d, const SequenceMethod& method,
                  const Options& options) {
  Tensors inputs{d.h0, d.xs};
  inputs.insert(inputs.end(), theta.begin(), theta.end());
  const auto loss = [&](const Tensors& in) {
    const Tensors parameters(in.begin() + 2, in.end());
    return Tensors{sum(solve_sequence(cell, in[0], in[1], parameters, method, options).value * d.weights)};
  };
  return vjp(loss, inputs).pullback(Tensors{scalar(1.0, float64)});
}

}  // namespace

TEST_CASE("every cell reaches the loop's states by every method") {
  for (const auto& [name, cell] : cells()) {
    const Data d = data_for(cell);
    const Tensor expected = solve_sequence(cell, d.h0, d.xs, Sequential{.fused = false}).value;
    for (const SequenceMethod& method : methods()) {
      const Solution s = solve_sequence(cell, d.h0, d.xs, method, tight());
      INFO(name << ": " << s.message());
      CHECK(s.ok());
      CHECK(distance(s.value, expected) < 1e-11);
    }
  }
}

TEST_CASE("every cell's implicit gradients equal backpropagation through time, by every method") {
  for (const auto& [name, cell] : cells()) {
    const Data d = data_for(cell);
    const SequenceCell functions = sequence_cell(cell);
    const Tensors expected = gradients(functions, cell.theta, d, Sequential{.fused = false}, tight(Adjoint::unrolled));
    for (const SequenceMethod& method : methods()) {
      INFO(name << " by " << name_of(method));
      const Tensors g = gradients(functions, cell.theta, d, method, tight());
      for (std::size_t i = 0; i < g.size(); ++i) CHECK(distance(g[i], expected[i]) < 1e-10);
    }
  }
}

// From 16 units on a GRU's residual is differentiated by its fused kernels, all steps as sequences of one step.
TEST_CASE("implicit derivatives of a wide GRU are right in all modes") {
  const nn::RecurrentCell gru = nn::GruCell(kInputs, 17, Key(7), {.dtype = float64}).functions();
  const SequenceCell cell = sequence_cell(gru);
  const Data d = data_for(gru);
  const Tensors expected = gradients(cell, gru.theta, d, Sequential{.fused = false}, tight(Adjoint::unrolled));
  const Tensors got = gradients(cell, gru.theta, d, Deer{}, tight());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(distance(got[i], expected[i]) < 1e-10);
  const auto few_steps = [&](const Tensors& v) -> Tensors {
    return {solve_sequence(cell, v[0], v[1], {gru.theta[0], gru.theta[1], v[2], v[3]}, Deer{}, tight()).value};
  };
  const Tensor h0 = normal(Key(1), {1, 17}, 0, 0.5, float64), xs = normal(Key(2), {2, 1, kInputs}, 0, 1, float64);
  const GradcheckReport report = gradcheck(few_steps, {h0, xs, gru.theta[2], gru.theta[3]});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("blocks: of a dense cell they are a better quasi-Newton method than the diagonal") {
  const nn::RecurrentCell lstm = nn::LstmCell(kInputs, kHidden, Key(7), {.dtype = float64}).functions();
  const Data d = data_for(lstm);
  const auto steps = [&](JacobianKind kind) {
    return solve_sequence(lstm, d.h0, d.xs, Deer{.jacobian = kind}, tight()).stats.steps;
  };
  CHECK(name_of(Deer{.jacobian = JacobianKind::blocks}) == "block_deer");
  CHECK(steps(JacobianKind::dense) < steps(JacobianKind::blocks));
  CHECK(steps(JacobianKind::blocks) <= steps(JacobianKind::diagonal));
}

TEST_CASE("channelwise cells: Newton never forms a dense Jacobian, and converges as if it did") {
  for (auto [name, cell] : cells()) {
    if (!cell.channelwise) continue;
    INFO(name);
    const Data d = data_for(cell);
    SequenceCell functions = sequence_cell(cell);
    int dense_calls = 0;
    functions.jacobian = [&dense_calls, inner = functions.jacobian](auto& h, auto& x, auto& theta) {
      ++dense_calls;
      return inner(h, x, theta);
    };
    const Solution s = solve_sequence(functions, d.h0, d.xs, cell.theta, Deer{}, tight());
    CHECK(s.ok());
    gradients(functions, cell.theta, d, Deer{}, tight());
    CHECK(dense_calls == 0);
    SequenceCell general = sequence_cell(cell);
    general.channelwise = false;
    const Solution full = solve_sequence(general, d.h0, d.xs, cell.theta, Deer{}, tight());
    CHECK(full.stats.steps == s.stats.steps);
    CHECK(distance(full.value, s.value) < 1e-13);
  }
}

TEST_CASE("linearize: closed forms equal what is derived from the step alone, for all kinds") {
  for (const auto& [name, cell] : cells()) {
    const Data d = data_for(cell);
    const SequenceCell closed = sequence_cell(cell);
    SequenceCell bare;
    bare.step = closed.step;
    bare.project = closed.project;
    bare.components = closed.components;
    bare.channelwise = closed.channelwise;
    SequenceCell unaware = bare;
    unaware.channelwise = false;
    const SequenceProblem a(closed, d.h0, d.xs, cell.theta), b(bare, d.h0, d.xs, cell.theta),
        c(unaware, d.h0, d.xs, cell.theta);
    const Tensor hs = normal(Key(5), {kSteps, kBatch, cell.state_size}, 0, 0.5, float64);
    const Tensor r = normal(Key(6), {kSteps, kBatch, cell.state_size}, 0, 0.5, float64);
    for (const JacobianKind kind : {JacobianKind::dense, JacobianKind::diagonal, JacobianKind::blocks}) {
      INFO(name << ", kind " << static_cast<int>(kind));
      const CellJacobian exact = a.linearize(hs, kind);
      for (const SequenceProblem* p : {&b, &c}) {
        const CellJacobian derived = p->linearize(hs, kind);
        CHECK(distance(exact.value, derived.value) < 1e-13);
        CHECK(distance(exact.jacobian, derived.jacobian) < 1e-13);
      }
    }
    if (cell.channelwise) {  // the scan over blocks is the dense scan in another order
      const Tensor dense = a.linearize(hs, JacobianKind::dense).jacobian;
      const Tensor exact = a.linearize(hs, a.exact_kind()).jacobian;
      CHECK(distance(a.scan(exact, r), a.scan(dense, r)) < 1e-12);
      CHECK(distance(a.scan_reversed(exact, r), a.scan_reversed(dense, r)) < 1e-12);
      const Tensor many = stack({r, r * 2.0});
      CHECK(distance(select(a.scan(exact, many), 0, 1), a.scan(exact, r) * 2.0) < 1e-12);
    }
  }
}

TEST_CASE("a channelwise cell of one's own needs only its step: three components per channel, all derivative modes") {
  // A damped rotation of each channel, driven by the input: theta = {rates (C)}.
  const auto step = [](const Tensor& s, const Tensor& x, const Tensors& theta) {
    const std::int64_t c = theta[0].size(0);
    const Tensors p = split(s, {c, c, c}, -1);
    return concat({tanh(p[1] * theta[0] + x), tanh(p[2] - p[0] * 0.5), p[0] * p[1] * 0.3 + p[2] * 0.2}, -1);
  };
  SequenceCell cell;
  cell.step = step;
  cell.components = 3;
  cell.channelwise = true;
  const Tensor h0 = normal(Key(1), {2, 6}, 0, 0.5, float64), xs = normal(Key(2), {15, 2, 2}, 0, 1, float64);
  const Tensors theta{normal(Key(3), {2}, 0, 0.5, float64)};
  const Tensor expected = solve_sequence(cell, h0, xs, theta, Sequential{}).value;
  const Solution s = solve_sequence(cell, h0, xs, theta, Deer{}, tight());
  INFO(s.message());
  CHECK(s.ok());
  CHECK(distance(s.value, expected) < 1e-12);
  const auto f = [&](const Tensors& in) {
    return Tensors{solve_sequence(cell, in[0], in[1], {in[2]}, Deer{}, tight()).value};
  };
  const GradcheckReport report = gradcheck(f, {h0, slice(xs, 0, 0, 4), theta[0]});
  INFO(report.message);
  CHECK(report.ok);

  cell.components = 4;
  CHECK_THROWS_AS(solve_sequence(cell, h0, xs, theta, Deer{}), ShapeError);
}

TEST_CASE("a cell struct of nn/ with nothing but a step runs through every method") {
  nn::RecurrentCell cell;
  cell.state_size = 3;
  cell.input_size = 3;
  cell.theta = {normal(Key(1), {3, 3}, 0, 0.4, float64)};
  cell.step = [](const Tensor& h, const Tensor& x, const Tensors& theta) { return tanh(matmul(h, theta[0]) + x); };
  const Tensor h0 = zeros({2, 3}, float64), xs = normal(Key(2), {20, 2, 3}, 0, 1, float64);
  const Tensor expected = solve_sequence(cell, h0, xs, Sequential{}).value;
  for (const SequenceMethod& method : methods()) {
    INFO(name_of(method));
    CHECK(distance(solve_sequence(cell, h0, xs, method, tight()).value, expected) < 1e-12);
  }
}

TEST_CASE("layers of nn/ take a solver for their recurrences, with the loop's values and gradients") {
  using Head = nn::Bidirectional<nn::LstmCell>;
  const nn::StridedHeads<Head> layer(
      {Head(nn::LstmCell(kInputs, 3, Key(1), {.dtype = float64}), nn::LstmCell(kInputs, 3, Key(2), {.dtype = float64})),
       Head(nn::LstmCell(kInputs, 2, Key(3), {.dtype = float64}), nn::Merge::concat)});
  const Tensor xs = normal(Key(4), {24, 2, kInputs}, 0, 1, float64);
  const nn::Recurrence newton = [](const nn::RecurrentCell& cell, const Tensor& h0, const Tensor& x) {
    return solve_sequence(cell, h0, x, Deer{}, tight()).value;
  };
  CHECK(distance(layer(xs, newton), layer(xs)) < 1e-12);
  const Tensor w = normal(Key(5), {24, 2, 10}, 0, 1, float64);
  const Tensor by_newton = grad([&](const Tensor& in) { return sum(layer(in, newton) * w); }, xs);
  const Tensor by_loop = grad([&](const Tensor& in) { return sum(layer(in) * w); }, xs);
  CHECK(distance(by_newton, by_loop) < 1e-11);
}
