// All cells: closed-form Jacobians three ways, all derivative modes; GRU and Elman cells: PyTorch's values and gradients, closed-form Jacobians three ways, all derivative modes.

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/nn/elman.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/gru.h"
#include "solvent/nn/lem.h"
#include "solvent/nn/lstm.h"
#include "solvent/nn/para_gru.h"
#include "solvent/nn/para_lstm.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;
using testing::max_difference;

constexpr double kGoldenTolerance = 1e-12;
constexpr double kModeTolerance = 1e-13;  // the same formula in another order

GruCell golden_gru(const Golden& golden) {
  return GruCell::from_pytorch(
      {golden["gru.weight_ih_l0"], golden["gru.weight_hh_l0"], golden["gru.bias_ih_l0"], golden["gru.bias_hh_l0"]});
}

/// A cell as the tests use it: functions and sample rows.
struct Sample {
  std::string name;
  RecurrentCell cell;
  Tensor h, x;
};

std::vector<Sample> samples() {
  std::vector<Sample> list;
  constexpr std::int64_t kRows = 6;
  for (const RecurrentInit init : {RecurrentInit::equinox, RecurrentInit::flax})
    for (const std::int64_t n : {1, 2, 5}) {
      const Key key = Key(17).fold_in(static_cast<std::uint64_t>(n));
      const Tensor h = normal(key.fold_in(0), {kRows, n}, 0, 0.7, float64);
      const Tensor x = normal(key.fold_in(1), {kRows, 3}, 0, 1, float64);
      const std::string suffix = std::string(to_string(init)) + " " + std::to_string(n);
      GruCell gru(3, n, key, {.init = init, .dtype = float64});
      if (init == RecurrentInit::flax) {  // zero biases would hide errors in them
        gru.b.assign(normal(key.fold_in(2), {3 * n}, 0, 0.5, float64));
        gru.b_hn.assign(normal(key.fold_in(3), {n}, 0, 0.5, float64));
      }
      list.push_back({"gru " + suffix, gru.functions(), h, x});
      list.push_back({"elman " + suffix, ElmanCell(3, n, key, {.init = init, .dtype = float64}).functions(), h, x});
      const Tensor pair = normal(key.fold_in(4), {kRows, 2 * n}, 0, 0.7, float64);
      LstmCell lstm(3, n, key, {.init = init, .dtype = float64});
      lstm.b.assign(normal(key.fold_in(5), {4 * n}, 0, 0.5, float64));
      list.push_back({"lstm " + suffix, lstm.functions(), pair, x});
      const LemInit lem_init = init == RecurrentInit::flax ? LemInit::he_normal : LemInit::uniform;
      list.push_back(
          {"lem " + suffix, LemCell(3, n, key, {.dt = 0.6, .init = lem_init, .dtype = float64}).functions(), pair, x});
      const ParaInit para_init = init == RecurrentInit::flax ? ParaInit::paper : ParaInit::reference;
      const ParaOptions para{.heads = 1, .init = para_init, .dtype = float64};
      list.push_back({"para_gru " + suffix, ParaGruCell(3, n, key, para).functions(), h, x});
      list.push_back({"para_lstm " + suffix, ParaLstmCell(3, n, key, para).functions(), pair, x});
    }
  const ParaOptions heads{.heads = 3, .dtype = float64};
  const Tensor x = normal(Key(18), {kRows, 3}, 0, 1, float64);
  const Tensor h = normal(Key(19), {kRows, 12}, 0, 0.7, float64);
  list.push_back({"para_gru, 3 heads", ParaGruCell(3, 12, Key(20), heads).functions(), h, x});
  list.push_back({"para_lstm, 3 heads", ParaLstmCell(3, 6, Key(20), heads).functions(), h, x});
  return list;
}

/// The value and Jacobian computed by operations: under a transform no fused kernel may be used.
StepJacobian by_operations(const RecurrentCell::JacobianFn& jacobian, const Sample& s) {
  StepJacobian out;
  const VjpResult r = vjp(
      [&](const Tensors& in) {
        const StepJacobian j = jacobian(in[0], s.x, s.cell.theta);
        return Tensors{j.value, j.jacobian};
      },
      {s.h});
  return {r.values[0], r.values[1]};
}

/// Diagonals of (N, n, n).
Tensor diagonals(const Tensor& jacobian) { return sum(jacobian * eye(jacobian.size(-1), jacobian.dtype()), {-1}); }

TEST_CASE("cells: the closed-form Jacobian equals forward mode and central differences", "[nn]") {
  for (const Sample& s : samples()) {
    INFO(s.name);
    const StepJacobian closed = s.cell.jacobian(s.h, s.x, s.cell.theta);
    const auto step = [&](const Tensor& rows, std::int64_t first) {
      return s.cell.step(rows, slice(s.x, 0, first, first + rows.size(0)), s.cell.theta);
    };
    const RowsJacobian generic = jacfwd_rows(step, s.h);
    CHECK_CLOSE(closed.value, generic.value, kModeTolerance);
    CHECK_CLOSE(closed.jacobian, generic.jacobian, kModeTolerance);

    const std::int64_t n = s.h.size(1);
    constexpr double kEps = 1e-6;
    for (std::int64_t j = 0; j < n; ++j) {
      const Tensor e = slice(eye(n, float64), 0, j, j + 1) * kEps;
      const Tensor difference =
          (s.cell.step(s.h + e, s.x, s.cell.theta) - s.cell.step(s.h - e, s.x, s.cell.theta)) / (2 * kEps);
      CHECK_CLOSE(select(closed.jacobian, -1, j), difference, 1e-9);
    }
  }
}

TEST_CASE("cells: fused steps and Jacobians equal the ones made of operations, dense and diagonal", "[nn]") {
  for (const Sample& s : samples()) {
    INFO(s.name);
    const VjpResult step =
        vjp([&](const Tensors& in) { return Tensors{s.cell.step(in[0], s.x, s.cell.theta)}; }, {s.h});
    CHECK_CLOSE(s.cell.step(s.h, s.x, s.cell.theta), step.values[0], kModeTolerance);
    const StepJacobian fused = s.cell.jacobian(s.h, s.x, s.cell.theta);
    const StepJacobian ops = by_operations(s.cell.jacobian, s);
    CHECK_CLOSE(fused.value, ops.value, kModeTolerance);
    CHECK_CLOSE(fused.jacobian, ops.jacobian, kModeTolerance);
    const StepJacobian fused_diagonal = s.cell.jacobian_diagonal(s.h, s.x, s.cell.theta);
    const StepJacobian ops_diagonal = by_operations(s.cell.jacobian_diagonal, s);
    CHECK_CLOSE(fused_diagonal.value, ops.value, kModeTolerance);
    CHECK_CLOSE(fused_diagonal.jacobian, diagonals(fused.jacobian), kModeTolerance);
    CHECK_CLOSE(ops_diagonal.jacobian, diagonals(fused.jacobian), kModeTolerance);
  }
}

/// Blocks (N, n/k, k, k) of (N, n, n), element by element.
Tensor blocks_of(const Tensor& jacobian, std::int64_t k) {
  const std::int64_t rows = jacobian.size(0), n = jacobian.size(1), channels = n / k;
  const std::vector<double> all = testing::values_of(jacobian);
  std::vector<double> blocks;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < channels; ++i)
      for (std::int64_t a = 0; a < k; ++a)
        for (std::int64_t b = 0; b < k; ++b)
          blocks.push_back(all[static_cast<std::size_t>((r * n + a * channels + i) * n + b * channels + i)]);
  return from_vector(blocks, {rows, channels, k, k});
}

TEST_CASE("cells: blocks are those of the whole Jacobian, and all of it for channelwise cells", "[nn]") {
  int with_blocks = 0, channelwise = 0;
  for (const Sample& s : samples()) {
    INFO(s.name);
    const Tensor dense = s.cell.jacobian(s.h, s.x, s.cell.theta).jacobian;
    const std::int64_t k = s.cell.components;
    CHECK(static_cast<bool>(s.cell.jacobian_blocks) == (k > 1));
    const Tensor blocks = blocks_of(dense, k);
    if (k > 1) {
      ++with_blocks;
      const StepJacobian closed = s.cell.jacobian_blocks(s.h, s.x, s.cell.theta);
      CHECK_CLOSE(closed.jacobian, blocks, kModeTolerance);
      CHECK_CLOSE(closed.value, s.cell.step(s.h, s.x, s.cell.theta), kModeTolerance);
      CHECK_CLOSE(s.cell.jacobian_blocks_projected(s.h, s.cell.project(s.x, s.cell.theta), s.cell.theta).jacobian,
                  blocks, kModeTolerance);
    }
    const double inside = sum(abs(blocks)).item(), all = sum(abs(dense)).item();
    if (s.cell.channelwise) {
      ++channelwise;
      CHECK(inside == Approx(all));
    } else if (dense.size(1) > k) {
      CHECK(inside < 0.99 * all);
    }
  }
  CHECK(with_blocks == 19);
  CHECK(channelwise == 14);
}

TEST_CASE("cells: projecting the input first gives the same step and Jacobians", "[nn]") {
  for (const Sample& s : samples()) {
    INFO(s.name);
    const Tensors& theta = s.cell.theta;
    const Tensor xw = s.cell.project(s.x, theta);
    CHECK_CLOSE(s.cell.step_projected(s.h, xw, theta), s.cell.step(s.h, s.x, theta), kModeTolerance);
    CHECK_CLOSE(s.cell.jacobian_projected(s.h, xw, theta).jacobian, s.cell.jacobian(s.h, s.x, theta).jacobian,
                kModeTolerance);
    CHECK_CLOSE(s.cell.jacobian_diagonal_projected(s.h, xw, theta).jacobian,
                s.cell.jacobian_diagonal(s.h, s.x, theta).jacobian, kModeTolerance);
    // Any leading axes: (T, B, m) -> (T, B, p).
    const Tensor folded = s.cell.project(reshape(s.x, {3, 2, 3}), theta);
    CHECK_CLOSE(reshape(folded, xw.shape()), xw, kModeTolerance);
  }
}

TEST_CASE("cells: gradcheck of the step and of both Jacobians in all modes and orders", "[nn]") {
  for (const Sample& s : samples()) {
    if (s.h.size(1) > 2) continue;
    Tensors inputs = s.cell.theta;
    inputs.push_back(s.h);
    inputs.push_back(s.x);
    const auto with = [&](auto f) {
      return TensorsFn([f](const Tensors& in) {
        const Tensors theta(in.begin(), in.end() - 2);
        return f(in[in.size() - 2], in[in.size() - 1], theta);
      });
    };
    const auto check = [&](const char* what, const TensorsFn& f) {
      const GradcheckReport report = gradcheck(f, inputs);
      INFO(s.name << ", " << what << ": " << report.message);
      CHECK(report.ok);
    };
    const auto list = [](const StepJacobian& j) { return Tensors{j.value, j.jacobian}; };
    check("step", with([&](auto& h, auto& x, auto& theta) { return Tensors{s.cell.step(h, x, theta)}; }));
    check("jacobian", with([&](auto& h, auto& x, auto& theta) { return list(s.cell.jacobian(h, x, theta)); }));
    if (s.cell.jacobian_blocks)
      check("blocks", with([&](auto& h, auto& x, auto& theta) { return list(s.cell.jacobian_blocks(h, x, theta)); }));
    check("diagonal", with([&](auto& h, auto& x, auto& theta) { return list(s.cell.jacobian_diagonal(h, x, theta)); }));
  }
}

TEST_CASE("cells: float32 agrees with float64 to float32 precision", "[nn]") {
  for (const Sample& s : samples()) {
    INFO(s.name);
    Tensors narrow;
    for (const Tensor& t : s.cell.theta) narrow.push_back(cast(t, float32));
    const StepJacobian wide = s.cell.jacobian(s.h, s.x, s.cell.theta);
    const StepJacobian j = s.cell.jacobian(cast(s.h, float32), cast(s.x, float32), narrow);
    CHECK(j.jacobian.dtype() == float32);
    CHECK_CLOSE(cast(j.value, float64), wide.value, 2e-6);
    CHECK_CLOSE(cast(j.jacobian, float64), wide.jacobian, 2e-6);
  }
}

TEST_CASE("cells: strided rows and no rows", "[nn]") {
  for (const Sample& s : samples()) {
    INFO(s.name);
    const Tensor h = mT(contiguous(mT(s.h)));  // column-major
    const Tensor x = slice(concat({s.x, s.x}, -1), -1, 3, 6);
    CHECK_CLOSE(s.cell.jacobian(h, x, s.cell.theta).jacobian, s.cell.jacobian(s.h, s.x, s.cell.theta).jacobian,
                kModeTolerance);
    const StepJacobian none = s.cell.jacobian(slice(h, 0, 0, 0), slice(x, 0, 0, 0), s.cell.theta);
    CHECK(none.value.shape() == Shape{0, h.size(1)});
    CHECK(none.jacobian.shape() == Shape{0, h.size(1), h.size(1)});
  }
}

TEST_CASE("Gru: states and gradients equal PyTorch's", "[nn]") {
  const Golden golden("layers");
  Gru gru(golden_gru(golden));
  const Tensor& xs = golden["gru.xs"];
  const Tensor h0 = select(golden["gru.h0"], 0, 0);
  CHECK_CLOSE(gru(xs, h0), golden["gru.output"], kGoldenTolerance);

  const auto loss = [&](const Tensor& inputs, const Tensor& start) {
    return sum(gru(inputs, start) * golden["gru.weights"]);
  };
  const Tensors grads = nn::value_and_grad(gru, [&] { return loss(xs, h0); }).grads;
  CHECK_CLOSE(grads[0], golden["gru.grad.weight_ih_l0"], kGoldenTolerance);
  CHECK_CLOSE(grads[1], golden["gru.grad.weight_hh_l0"], kGoldenTolerance);
  CHECK_CLOSE(grads[2], golden["gru.grad.bias_ih_l0"], kGoldenTolerance);
  CHECK_CLOSE(grads[3], slice(golden["gru.grad.bias_hh_l0"], 0, 10, 15), kGoldenTolerance);
  CHECK_CLOSE(grad([&](const Tensor& in) { return loss(in, h0); }, xs), golden["gru.grad.xs"], kGoldenTolerance);
  CHECK_CLOSE(grad([&](const Tensor& in) { return loss(xs, in); }, h0), select(golden["gru.grad.h0"], 0, 0),
              kGoldenTolerance);
}

TEST_CASE("Gru: the layer is the cell applied step by step", "[nn]") {
  const Gru gru(3, 4, Key(5), {.init = RecurrentInit::flax, .dtype = float64});
  const Tensor xs = normal(Key(6), {7, 2, 3}, 0, 1, float64);
  Tensor h = zeros({2, 4}, float64);
  Tensors states;
  for (const Tensor& x : unstack(xs)) states.push_back(h = gru.cell(h, x));
  CHECK_CLOSE(gru(xs), stack(states), kModeTolerance);
  CHECK_ERROR(ShapeError, gru(zeros({7, 3}, float64)), "[Gru]", "(T, B, I)");
  CHECK_THROWS_AS(gru(zeros({0, 2, 3}, float64)), ShapeError);
}

TEST_CASE("ElmanCell: states and gradients equal PyTorch's RNN", "[nn]") {
  const Golden golden("layers");
  ElmanCell cell(3, 5, Key(1), {.dtype = float64});
  cell.w_ih.assign(golden["rnn.weight_ih_l0"]);
  cell.w_hh.assign(golden["rnn.weight_hh_l0"]);
  cell.b.assign(golden["rnn.bias_ih_l0"] + golden["rnn.bias_hh_l0"]);
  const auto run = [&](const Tensor& xs) {
    Tensor h = select(golden["rnn.h0"], 0, 0);
    Tensors states;
    for (const Tensor& x : unstack(xs)) states.push_back(h = cell(h, x));
    return stack(states);
  };
  CHECK_CLOSE(run(golden["rnn.xs"]), golden["rnn.output"], kGoldenTolerance);
  const auto loss = [&](const Tensor& xs) { return sum(run(xs) * golden["rnn.weights"]); };
  const Tensors grads = nn::value_and_grad(cell, [&] { return loss(golden["rnn.xs"]); }).grads;
  CHECK_CLOSE(grads[0], golden["rnn.grad.weight_ih_l0"], kGoldenTolerance);
  CHECK_CLOSE(grads[1], golden["rnn.grad.weight_hh_l0"], kGoldenTolerance);
  CHECK_CLOSE(grads[2], golden["rnn.grad.bias_ih_l0"], kGoldenTolerance);
  CHECK_CLOSE(grad(loss, golden["rnn.xs"]), golden["rnn.grad.xs"], kGoldenTolerance);
}

TEST_CASE("GruCell: layouts of other libraries", "[nn]") {
  const Key key(9);
  const auto random = [&](std::uint64_t i, const Shape& shape) { return normal(key.fold_in(i), shape, 0, 1, float64); };
  const Tensor h = random(100, {4, 2});
  const Tensor x = random(101, {4, 3});

  SECTION("Flax: one dense layer per gate, kernels (in, out)") {
    const FlaxGru p{random(0, {3, 2}), random(1, {3, 2}), random(2, {3, 2}), random(3, {2, 2}), random(4, {2, 2}),
                    random(5, {2, 2}), random(6, {2}),    random(7, {2}),    random(8, {2}),    random(9, {2})};
    const Tensor r = sigmoid(matmul(x, p.ir_kernel) + p.ir_bias + matmul(h, p.hr_kernel));
    const Tensor z = sigmoid(matmul(x, p.iz_kernel) + p.iz_bias + matmul(h, p.hz_kernel));
    const Tensor n = tanh(matmul(x, p.in_kernel) + p.in_bias + r * (matmul(h, p.hn_kernel) + p.hn_bias));
    const GruCell cell = GruCell::from_flax(p);
    CHECK_CLOSE(cell(h, x), (1.0 - z) * n + z * h, kModeTolerance);
    const FlaxGru q = cell.to_flax();
    CHECK(identical(q.iz_kernel, p.iz_kernel));
    CHECK(identical(q.hn_kernel, p.hn_kernel));
    CHECK(identical(q.in_bias, p.in_bias));
    CHECK(identical(GruCell::from_flax(q)(h, x), cell(h, x)));
  }
  SECTION("Equinox: h' = n + z (h - n)") {
    const EquinoxGru p{random(0, {6, 3}), random(1, {6, 2}), random(2, {6}), random(3, {2})};
    const Tensors i = split(matmul(x, mT(p.weight_ih)) + p.bias, {2, 2, 2}, -1);
    const Tensors g = split(matmul(h, mT(p.weight_hh)), {2, 2, 2}, -1);
    const Tensor n = tanh(i[2] + sigmoid(i[0] + g[0]) * (g[2] + p.bias_n));
    const GruCell cell = GruCell::from_equinox(p);
    CHECK_CLOSE(cell(h, x), n + sigmoid(i[1] + g[1]) * (h - n), kModeTolerance);
    CHECK(cell.to_equinox().bias_n.impl() == p.bias_n.impl());
  }
  SECTION("PyTorch: two biases") {
    const PyTorchGru p{random(0, {6, 3}), random(1, {6, 2}), random(2, {6}), random(3, {6})};
    const GruCell cell = GruCell::from_pytorch(p);
    const PyTorchGru q = cell.to_pytorch();
    CHECK_CLOSE(slice(q.bias_ih, 0, 0, 4), slice(p.bias_ih + p.bias_hh, 0, 0, 4), 0);
    CHECK_CLOSE(slice(q.bias_ih, 0, 4, 6), slice(p.bias_ih, 0, 4, 6), 0);
    CHECK_CLOSE(q.bias_hh, concat({zeros({4}, float64), slice(p.bias_hh, 0, 4, 6)}), 0);
    CHECK_CLOSE(GruCell::from_pytorch(q)(h, x), cell(h, x), 0);
  }
}

TEST_CASE("cells: initial values of both schemes", "[nn]") {
  const GruCell equinox(3, 16, Key(1));
  for (const Tensor& t : equinox.theta()) {
    CHECK(max(abs(t)).item() <= 0.25);
    CHECK(max(abs(t)).item() > 0.15);
  }
  const GruCell flax(3, 16, Key(1), {.init = RecurrentInit::flax});
  for (const Tensor& w : split(flax.w_hh.value(), {16, 16, 16}, 0)) CHECK_CLOSE(matmul(w, mT(w)), eye(16), 1e-6);
  CHECK(max(abs(flax.b.value())).item() == 0);
  CHECK(max(abs(flax.b_hn.value())).item() == 0);
  CHECK(max(abs(flax.w_ih.value())).item() > 0);
  CHECK(identical(GruCell(3, 16, Key(1)).w_hh.value(), equinox.w_hh.value()));
  CHECK(equinox.num_parameters() == 48 * 3 + 48 * 16 + 48 + 16);
}

TEST_CASE("cells: wrong shapes are refused with advice", "[nn]") {
  const GruCell gru(3, 4, Key(1));
  const ElmanCell elman(3, 4, Key(1));
  CHECK_ERROR(ValueError, GruCell(0, 4, Key(1)), "[GruCell]", "0 inputs");
  CHECK_ERROR(ValueError, ElmanCell(3, 0, Key(1)), "[ElmanCell]", "0 hidden");
  CHECK_ERROR(ShapeError, gru(zeros({2, 4}), zeros({3, 3})), "[GruCell::step]", "float32(2, 4)", "float32(3, 3)",
              "(N, 4)");
  CHECK_ERROR(ShapeError, gru(zeros({5, 2, 4}), zeros({5, 2, 3})), "[GruCell::step]", "reshape");
  CHECK_ERROR(ShapeError, elman(zeros({2, 4}), zeros({2, 4})), "[ElmanCell::step]", "(N, 3)");
  CHECK_ERROR(ShapeError, GruCell::step(zeros({2, 4}), zeros({2, 3}), elman.theta()), "[GruCell::step]", "b_hn (H)",
              "from_pytorch");
  CHECK_ERROR(ShapeError, ElmanCell::step(zeros({2, 4}), zeros({2, 3}), gru.theta()), "[ElmanCell::step]", "b (H)");
  CHECK_ERROR(ShapeError, GruCell::jacobian_projected(zeros({2, 4}), zeros({2, 3}), gru.theta()), "[GruCell::jacobian]",
              "(N, 12)");
  CHECK_ERROR(ShapeError, GruCell::project(zeros({2, 4}), gru.theta()), "[GruCell::project]", "(..., 3)");
  CHECK_ERROR(DtypeError, GruCell::step_projected(zeros({2, 4}, float64), zeros({2, 12}), gru.theta()),
              "[GruCell::step]", "float64(2, 4)", "cast");
  CHECK_ERROR(DtypeError, GruCell::jacobian(zeros({2, 4}, float64), zeros({2, 3}), gru.theta()), "[GruCell::jacobian]",
              "cast");
  CHECK_ERROR(ShapeError, GruCell::from_theta({zeros({12, 3}), zeros({4, 12}), zeros({12}), zeros({4})}), "[GruCell]",
              "w_hh (3H, H)");
}

}  // namespace
}  // namespace solvent::nn
