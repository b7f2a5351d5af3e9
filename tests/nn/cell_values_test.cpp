// LSTM, LEM, ParaGRU, ParaLSTM against PyTorch and the papers' formulas (tests/golden/make_cells.py); initial values; errors.

#include <cmath>

#include "solvent/nn/functional.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-12;

Tensor unroll(const RecurrentCell& cell, const Tensor& xs, const Tensor& s0) {
  Tensor s = s0;
  Tensors states;
  for (const Tensor& x : unstack(xs)) states.push_back(s = cell.step(s, x, cell.theta));
  return stack(states);
}

/// States, and gradients in theta, inputs and start, of the golden case `name`.
void check_case(const Golden& golden, const std::string& name, const RecurrentCell& cell,
                const std::vector<std::string>& theta_names) {
  INFO(name);
  const Tensor &xs = golden[name + ".xs"], &s0 = golden[name + ".s0"];
  CHECK_CLOSE(unroll(cell, xs, s0), golden[name + ".output"], kGoldenTolerance);
  Tensors inputs = cell.theta;
  inputs.push_back(xs);
  inputs.push_back(s0);
  std::vector<std::string> names = theta_names;
  names.insert(names.end(), {"xs", "s0"});
  const Tensors grads = vjp(
                            [&](const Tensors& in) {
                              RecurrentCell c = cell;
                              c.theta = Tensors(in.begin(), in.end() - 2);
                              const Tensor states = unroll(c, in[in.size() - 2], in[in.size() - 1]);
                              return Tensors{sum(states * golden[name + ".weights"])};
                            },
                            inputs)
                            .pullback(Tensors{scalar(1.0, float64)});
  for (std::size_t i = 0; i < names.size(); ++i) {
    INFO(names[i]);
    CHECK_CLOSE(grads[i], golden[name + ".grad." + names[i]], kGoldenTolerance);
  }
}

TEST_CASE("LstmCell: states and gradients equal PyTorch's", "[nn]") {
  const Golden golden("cells");
  const PyTorchLstm p{golden["lstm.weight_ih"], golden["lstm.weight_hh"], golden["lstm.bias_ih"],
                      golden["lstm.bias_hh"]};
  const LstmCell cell = LstmCell::from_pytorch(p);
  check_case(golden, "lstm", cell.functions(), {"weight_ih", "weight_hh", "bias_ih"});
  const LstmCell again = LstmCell::from_pytorch(cell.to_pytorch());
  CHECK(identical(again.b, cell.b));
  CHECK(cell.state_size() == 12);
  CHECK(cell.output_size() == 6);
  CHECK(cell.input_size() == 4);
  CHECK(cell.functions().output_size == 6);
}

TEST_CASE("LemCell, ParaGruCell, ParaLstmCell: states and gradients equal the papers' formulas", "[nn]") {
  const Golden golden("cells");
  LemCell lem(4, 6, Key(1), {.dt = 0.7, .dtype = float64});
  lem.load_state_dict(
      {{"w_ih", golden["lem.w_ih"]}, {"w_hh", golden["lem.w_hh"]}, {"w_z", golden["lem.w_z"]}, {"b", golden["lem.b"]}});
  check_case(golden, "lem", lem.functions(), {"w_ih", "w_hh", "w_z", "b"});
  ParaGruCell gru(4, 6, Key(1), {.dtype = float64});
  gru.load_state_dict({{"w_in", golden["para_gru.w_in"]}, {"a", golden["para_gru.a"]}, {"b", golden["para_gru.b"]}});
  check_case(golden, "para_gru", gru.functions(), {"w_in", "a", "b"});
  ParaLstmCell lstm(4, 6, Key(1), {.dtype = float64});
  lstm.load_state_dict({{"w_in", golden["para_lstm.w_in"]},
                        {"a", golden["para_lstm.a"]},
                        {"p", golden["para_lstm.p"]},
                        {"b", golden["para_lstm.b"]}});
  check_case(golden, "para_lstm", lstm.functions(), {"w_in", "a", "p", "b"});
}

TEST_CASE("cells: operator() and step are the functions handed out", "[nn]") {
  const Tensor x = normal(Key(1), {5, 4}, 0, 1, float64), s = normal(Key(2), {5, 6}, 0, 1, float64);
  const auto check = [&](const auto& cell) {
    const RecurrentCell f = cell.functions();
    CHECK(identical(cell(s, x), f.step(s, x, f.theta)));
    CHECK(f.state_size == 6);
    CHECK(f.input_size == 4);
  };
  check(LstmCell(4, 3, Key(3), {.dtype = float64}));
  check(LemCell(4, 3, Key(3), {.dt = 0.5, .dtype = float64}));
  check(ParaGruCell(4, 6, Key(3), {.dtype = float64}));
  check(ParaLstmCell(4, 3, Key(3), {.heads = 1, .dtype = float64}));
}

TEST_CASE("cells: initial values follow the papers' recipes", "[nn]") {
  const LstmCell flax(3, 8, Key(1), {.init = RecurrentInit::flax, .dtype = float64});
  const Tensor gate = slice(flax.w_hh.value(), 0, 8, 16);
  CHECK_CLOSE(matmul(gate, mT(gate)), eye(8, float64), 1e-13);
  CHECK(max(abs(flax.b.value())).item() == 0);
  const LstmCell equinox(3, 16, Key(1));
  CHECK(max(abs(equinox.w_hh.value())).item() <= 0.25);
  CHECK(max(abs(equinox.b.value())).item() > 0.1);

  const ParaGruCell gru(64, 128, Key(1), {.heads = 4, .dtype = float64});
  CHECK(max(abs(gru.w_in.value())).item() <= std::sqrt(6.0 / (16 + 32)));
  CHECK(max(abs(gru.w_in.value())).item() > 0.95 * std::sqrt(6.0 / (16 + 32)));
  CHECK_CLOSE(select(gru.b.value(), 0, 0), affine(cast(arange(0, 128), float64), -1.0 / 127, 0), 1e-15);
  CHECK(max(abs(slice(gru.b.value(), 0, 1, 3))).item() == 0);
  const ParaLstmCell paper(64, 128, Key(1), {.heads = 4, .init = ParaInit::paper, .dtype = float64});
  CHECK(max(abs(paper.w_in.value())).item() <= std::sqrt(3.0 / 16));
  CHECK(max(abs(paper.b.value())).item() == 0);

  const LemCell he(6, 32, Key(1), {.dt = 0.0016, .init = LemInit::he_normal});
  CHECK(max(abs(he.b.value())).item() == 0);
  CHECK(he.num_parameters() == 4 * 32 * 6 + 3 * 32 * 32 + 32 * 32 + 4 * 32);
}

TEST_CASE("cells: wrong sizes and shapes are refused with advice, for the joint-state cells too", "[nn]") {
  CHECK_ERROR(ValueError, LstmCell(0, 4, Key(1)), "[LstmCell]", "0 inputs");
  CHECK_ERROR(ValueError, LemCell(3, 0, Key(1)), "[LemCell]", "0 hidden");
  CHECK_ERROR(ValueError, LemCell(3, 4, Key(1), {.dt = 1.5}), "[LemCell]", "dt 1.5");
  CHECK_ERROR(ValueError, ParaGruCell(3, 4, Key(1)), "[ParaGruCell]", "3 inputs", "2 heads", "multiples");
  CHECK_ERROR(ValueError, ParaLstmCell(4, 5, Key(1)), "[ParaLstmCell]", "5 units");
  const LstmCell lstm(3, 4, Key(1));
  CHECK_ERROR(ShapeError, lstm(zeros({2, 4}), zeros({2, 3})), "[LstmCell::step]", "(N, 8)");
  CHECK_ERROR(ShapeError, LstmCell::project(zeros({2, 4}), lstm.theta()), "[LstmCell::project]", "(..., 3)");
  CHECK_ERROR(ShapeError, LstmCell::from_theta({zeros({3, 3}), zeros({4, 4}), zeros({16})}), "[LstmCell]",
              "w_hh (4H, H)", "from_pytorch");
  const LemCell lem(3, 4, Key(1));
  CHECK_ERROR(ShapeError, lem(zeros({2, 8}), zeros({2, 4})), "[LemCell::step]", "(N, 3)");
  CHECK_ERROR(ShapeError, LemCell::step(zeros({2, 8}), zeros({2, 3}), lstm.theta(), 1), "[LemCell::step]",
              "w_z (H, H)");
  const ParaGruCell gru(4, 6, Key(1));
  CHECK_ERROR(ShapeError, gru(zeros({2, 6}), zeros({2, 3})), "[ParaGruCell::step]", "(N, 4)");
  CHECK_ERROR(ShapeError, ParaGruCell::step(zeros({2, 6}), zeros({2, 4}), lstm.theta()), "[ParaGruCell::step]",
              "a (3, n)");
  const ParaLstmCell para(4, 6, Key(1));
  CHECK_ERROR(ShapeError, para(zeros({2, 6}), zeros({2, 4})), "[ParaLstmCell::step]", "(N, 12)");
  CHECK_ERROR(ShapeError, ParaLstmCell::step(zeros({2, 12}), zeros({2, 4}), gru.theta()), "[ParaLstmCell::step]",
              "p (2, n)");
}

double variance_of(const Tensor& t) { return mean(square(t)).item(); }

TEST_CASE("init: distributions of the papers' initialisers", "[nn]") {
  const TensorOptions wide = float64;
  CHECK(max(abs(init::lecun_uniform(Key(1), {200, 48}, wide))).item() == Approx(0.25).epsilon(1e-3));
  CHECK(variance_of(init::lecun_uniform(Key(1), {200, 48}, wide)) == Approx(1.0 / 48).epsilon(0.03));
  CHECK(variance_of(init::xlstm_normal(Key(1), {200, 48}, wide)) == Approx(4.0 / (5 * 48)).epsilon(0.05));
  const Tensor bounded = init::bounded_lecun_normal(Key(1), {5000, 2}, 0.9, wide);
  CHECK(max(abs(bounded)).item() <= 0.9);
  CHECK(max(abs(bounded)).item() > 0.88);
  CHECK(variance_of(init::bounded_lecun_normal(Key(1), {100, 100}, 0.9, wide)) == Approx(0.01).epsilon(0.05));
  const Tensor decays = init::negative_exponential(Key(1), {10000}, 0, 8, wide);
  CHECK(max(decays).item() <= 1);
  CHECK(min(decays).item() >= std::exp(-8.0));
  CHECK(mean(log(decays)).item() == Approx(-4).epsilon(0.02));

  const Shape kernel{64, 32, 3, 3};
  CHECK(init::kernel_fans_of(kernel).in == 288);
  CHECK(init::kernel_fans_of(kernel).out == 576);
  CHECK(max(abs(init::standard_kaiming(Key(1), kernel, wide))).item() == Approx(std::sqrt(6.0 / 288)).epsilon(1e-3));
  CHECK(max(abs(init::weighted_kaiming(Key(1), kernel, 0.6, wide))).item() ==
        Approx(0.6 / std::sqrt(288.0)).epsilon(1e-3));
  CHECK(variance_of(init::kaiming_normal_fan_out(Key(1), kernel, wide)) == Approx(2.0 / 576).epsilon(0.05));
  const Tensor rows = reshape(init::orthogonal_kernel(Key(1), {8, 4, 3, 3}, 1.0, wide), {8, 36});
  CHECK_CLOSE(matmul(rows, mT(rows)), eye(8, float64), 1e-13);

  CHECK_ERROR(ValueError, init::bounded_lecun_normal(Key(1), {2, 2}, 0), "bound 0");
  CHECK_ERROR(ValueError, init::negative_exponential(Key(1), {2}, 3, 1), "low 3");
  CHECK_ERROR(ShapeError, init::kernel_fans_of({3}), "(out, in, extents...)");
}

TEST_CASE("init: goe slices are symmetric with the variances of the experiments' code", "[nn]") {
  const Tensor slices = init::goe(Key(1), {20000, 3, 3}, 1.0, float64);
  CHECK(identical(slices, contiguous(mT(slices))));
  CHECK(variance_of(select(select(slices, 1, 1), 1, 0)) == Approx(1.0 / 3).epsilon(0.05));
  CHECK(variance_of(select(select(slices, 1, 2), 1, 2)) == Approx(8.0 / 3).epsilon(0.05));
  CHECK_FALSE(identical(select(slices, 0, 0), select(slices, 0, 1)));
  const Tensor states = init::goe_state(Key(1), {5000, 4, 4}, 0.5, float64);
  CHECK(identical(states, contiguous(mT(states))));
  CHECK(variance_of(select(select(states, 1, 3), 1, 3)) == Approx(1.0 / 16).epsilon(0.06));
  CHECK(variance_of(select(select(states, 1, 3), 1, 1)) == Approx(1.0 / 16).epsilon(0.06));
  CHECK_ERROR(ShapeError, init::goe(Key(1), {3, 2}, 1), "[goe]", "(..., k, k)");
  CHECK_ERROR(ValueError, init::goe_state(Key(1), {2, 2}, -1), "[goe_state]", "variance -1");
}

}  // namespace
}  // namespace solvent::nn
