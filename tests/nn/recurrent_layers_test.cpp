// Bidirectional, strided and stacked layers: PyTorch's values and gradients, their definitions, errors.

#include "solvent/autodiff/gradcheck.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-12;

GruCell gru_of(const Golden& golden, const std::string& suffix) {
  const auto at = [&](const std::string& key) { return golden["bi_gru." + key + "_" + suffix]; };
  return GruCell::from_pytorch({at("weight_ih"), at("weight_hh"), at("bias_ih"), at("bias_hh")});
}

LstmCell lstm_of(const Golden& golden, const std::string& suffix) {
  const auto at = [&](const std::string& key) { return golden["bi_lstm." + key + "_" + suffix]; };
  return LstmCell::from_pytorch({at("weight_ih"), at("weight_hh"), at("bias_ih"), at("bias_hh")});
}

template <class Cell, class Make>
void check_bidirectional(const std::string& name, const Golden& golden, Make make) {
  INFO(name);
  using Layer = Bidirectional<Cell>;
  Stacked<Layer> model(std::vector<Layer>{Layer(make(golden, "l0"), make(golden, "l0_reverse")),
                                          Layer(make(golden, "l1"), make(golden, "l1_reverse"))});
  const Tensor& xs = golden[name + ".xs"];
  CHECK_CLOSE(model(xs), golden[name + ".output"], kGoldenTolerance);
  const auto loss = [&](const Tensor& in) { return sum(model(in) * golden[name + ".weights"]); };
  CHECK_CLOSE(grad(loss, xs), golden[name + ".grad.xs"], kGoldenTolerance);
  const Tensors grads = nn::value_and_grad(model, [&] { return loss(xs); }).grads;
  const auto names = model.named_parameters();
  CHECK(names[0].first == "layers.0.forward.w_ih");
  int compared = 0;
  for (std::size_t i = 0; i < names.size(); ++i)
    for (const std::string which : {"w_ih", "w_hh"})
      for (const std::string layer : {"0", "1"})
        for (const std::string direction : {"forward", "backward"})
          if (names[i].first == "layers." + layer + "." + direction + "." + which) {
            const std::string theirs = ".grad.weight_" + which.substr(2) + "_l" + layer;
            CHECK_CLOSE(grads[i], golden[name + theirs + (direction == "backward" ? "_reverse" : "")],
                        kGoldenTolerance);
            ++compared;
          }
  CHECK(compared == 8);
}

TEST_CASE("Stacked, Bidirectional: two layers equal PyTorch's", "[nn]") {
  const Golden golden("cells");
  check_bidirectional<GruCell>("bi_gru", golden, gru_of);
  check_bidirectional<LstmCell>("bi_lstm", golden, lstm_of);
}

TEST_CASE("Bidirectional: shared weights see a reversed sequence as the reversed result", "[nn]") {
  const Bidirectional layer(LstmCell(3, 4, Key(1), {.dtype = float64}));
  const Tensor xs = normal(Key(2), {7, 2, 3}, 0, 1, float64);
  const Tensor y = layer(xs);
  CHECK(y.shape() == Shape{7, 2, 4});
  CHECK_CLOSE(layer(flip(xs, 0)), flip(y, 0), 1e-15);
  CHECK(layer.num_parameters() == layer.forward.num_parameters());
  const Bidirectional joined_outputs(layer.forward, Merge::concat);
  CHECK(joined_outputs(xs).shape() == Shape{7, 2, 8});
  CHECK_CLOSE(slice(joined_outputs(xs), -1, 0, 4), Rnn(layer.forward)(xs), 0);
  // The last output of the backward direction is one step on the last input.
  const RecurrentCell cell = layer.forward.functions();
  const Tensor one = cell.step(zeros({2, 8}, float64), select(xs, 0, 6), cell.theta);
  CHECK_CLOSE(slice(select(joined_outputs(xs), 0, 6), -1, 4, 8), slice(one, -1, 0, 4), 1e-14);
}

TEST_CASE("StridedHeads: each head runs on its interleaved subsequences by themselves", "[nn]") {
  using Head = Rnn<GruCell>;
  std::vector<Head> heads;
  for (std::uint64_t h = 0; h < 5; ++h) heads.emplace_back(GruCell(3, 2, Key(h), {.dtype = float64}));
  const StridedHeads<Head> layer(heads, 3);
  CHECK(layer.stride(2) == 4);
  CHECK(layer.stride(3) == 1);
  const Tensor xs = normal(Key(9), {8, 2, 3}, 0, 1, float64);
  const Tensor y = layer(xs);
  CHECK(y.shape() == Shape{8, 2, 10});
  for (std::size_t h = 0; h < 5; ++h) {
    const std::int64_t stride = layer.stride(h), first = static_cast<std::int64_t>(2 * h);
    for (std::int64_t j = 0; j < stride; ++j) {
      const Tensor alone = heads[h](slice(xs, 0, j, 8, stride));
      CHECK_CLOSE(slice(slice(y, -1, first, first + 2), 0, j, 8, stride), alone, 1e-14);
    }
  }
  CHECK(identical(joined(interleaved(xs, 4), 4), xs));
  CHECK_ERROR(ShapeError, layer(slice(xs, 0, 0, 6)), "[interleaved]", "stride 4", "T = 6", "fewer strides");
  CHECK_ERROR(ValueError, StridedHeads<Head>({}), "[StridedHeads]", "0 heads");
  CHECK_ERROR(ValueError, StridedHeads<Head>(heads, 0), "0 strides");
}

TEST_CASE("StridedHeads: the recurrent part of the sequential CIFAR-10 model has the paper's size", "[nn]") {
  // 8 layers of 8 heads GRU(64 -> 8); with the MLPs, norms and linear layers the model has 182,154 parameters.
  using Head = Rnn<GruCell>;
  std::vector<Head> heads;
  for (std::uint64_t h = 0; h < 8; ++h) heads.emplace_back(GruCell(64, 8, Key(h)));
  const Stacked<StridedHeads<Head>> model(std::vector<StridedHeads<Head>>(8, StridedHeads<Head>(heads)));
  CHECK(model.num_parameters() + 8 * (2 * 64 * 64 + 128) + 8 * 2 * 128 + (3 * 64 + 64) + (64 * 10 + 10) == 182154);
  CHECK(model(normal(Key(1), {128, 1, 64})).shape() == Shape{128, 1, 64});
}

TEST_CASE("layers: the recurrence is evaluated by whatever is handed over", "[nn]") {
  const Bidirectional<ParaLstmCell> layer(ParaLstmCell(4, 6, Key(1), {.dtype = float64}),
                                          ParaLstmCell(4, 6, Key(2), {.dtype = float64}));
  const Tensor xs = normal(Key(3), {5, 2, 4}, 0, 1, float64);
  int calls = 0;
  const Recurrence naive = [&calls](const RecurrentCell& cell, const Tensor& h0, const Tensor& x) {
    ++calls;
    Tensor h = h0;
    Tensors states;
    for (const Tensor& row : unstack(x)) states.push_back(h = cell.step(h, row, cell.theta));
    return stack(states);
  };
  CHECK_CLOSE(layer(xs, naive), layer(xs), 1e-14);
  CHECK(calls == 2);
  CHECK_ERROR(ShapeError, layer(zeros({5, 4}, float64)), "[run_outputs]", "(T, B, I)");
  CHECK_THROWS_AS(layer(zeros({0, 2, 4}, float64)), ShapeError);
}

TEST_CASE("layers: gradcheck of a bidirectional strided layer in all modes", "[nn]") {
  using Head = Bidirectional<ElmanCell>;
  std::vector<Head> heads{
      Head(ElmanCell(2, 2, Key(1), {.dtype = float64}), ElmanCell(2, 2, Key(2), {.dtype = float64})),
      Head(ElmanCell(2, 1, Key(3), {.dtype = float64}), Merge::concat)};
  StridedHeads<Head> layer(heads);
  const Tensor xs = normal(Key(4), {4, 1, 2}, 0, 1, float64);
  const auto f = nn::bind(layer, [](const StridedHeads<Head>& l, const Tensors& in) { return Tensors{l(in[0])}; });
  Tensors inputs = layer.parameter_values();
  inputs.push_back(xs);
  const GradcheckReport report =
      gradcheck([&](const Tensors& in) { return f(Tensors(in.begin(), in.end() - 1), {in.back()}); }, inputs);
  INFO(report.message);
  CHECK(report.ok);
}

}  // namespace
}  // namespace solvent::nn
