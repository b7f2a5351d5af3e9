// Groups of parameters, frozen ones, scheduled momenta, averages of weights, accumulation of gradients.

#include <cmath>
#include <memory>

#include "solvent/nn/functional.h"
#include "solvent/nn/linear.h"
#include "solvent/nn/mlp.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-12;

struct Pair : Module {
  Parameter weight, bias;
  Pair(Tensor w, Tensor b) : weight(std::move(w)), bias(std::move(b)) {}
  void visit(Visitor& v) override {
    v("layer.weight", weight);
    v("layer.bias", bias);
  }
  [[nodiscard]] Tensors values() const { return {weight, bias}; }
};

Pair start_of(const Golden& golden) { return {golden["start.0"], golden["start.1"]}; }

Tensors grads_at(const Golden& golden, std::int64_t step) {
  return {select(golden["grads.0"], 0, step), select(golden["grads.1"], 0, step)};
}

void check_golden(const Golden& golden, const std::string& name, std::int64_t step, const Tensors& values) {
  if (step != 1 && step != 10 && step != 50) return;
  INFO(name << ", step " << step);
  for (std::size_t i = 0; i < 2; ++i)
    CHECK_CLOSE(values[i], golden[name + "." + std::to_string(step) + "." + std::to_string(i)], kGoldenTolerance);
}

TEST_CASE("groups: own rates and decays equal PyTorch's over 50 steps", "[nn]") {
  const Golden golden("optim");
  Pair a = start_of(golden), b = start_of(golden);
  Sgd sgd({.learning_rate = 0.05, .momentum = 0.9});
  sgd.set_groups(
      a, {{.name = "weights", .selects = name_ends_with("weight"), .rate_multiplier = 0.2, .weight_decay = 0.3}});
  AdamW adam({.learning_rate = 0.02, .weight_decay = 0.1});
  adam.set_groups(b, {{.name = "no decay", .selects = rank_at_most(1), .weight_decay = 0.0},
                      {.name = "fast", .selects = name_starts_with("layer."), .learning_rate = 0.04}});
  for (std::int64_t step = 1; step <= 50; ++step) {
    sgd.step(a, grads_at(golden, step - 1));
    adam.step(b, grads_at(golden, step - 1));
    check_golden(golden, "sgd_groups", step, a.values());
    check_golden(golden, "adamw_groups", step, b.values());
  }
  CHECK(sgd.learning_rate("weights") == Approx(0.01));
  sgd.set_learning_rate(0.1);
  CHECK(sgd.learning_rate("weights") == Approx(0.02));
  adam.set_learning_rate(0.5);
  CHECK(adam.learning_rate("fast") == 0.04);
  CHECK(adam.learning_rate("no decay") == 0.5);
  adam.set_learning_rate("fast", 0.07);
  CHECK(adam.learning_rate("fast") == 0.07);
}

TEST_CASE("groups: frozen parameters rest, and thawed ones go on like PyTorch's", "[nn]") {
  const Golden golden("optim");
  std::vector<std::pair<std::string, std::unique_ptr<Optimizer>>> cases;
  cases.emplace_back("sgd_frozen",
                     std::make_unique<Sgd>(
                         SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.02}));
  cases.emplace_back("adam_frozen", std::make_unique<Adam>(AdamOptions{.learning_rate = 0.01}));
  cases.emplace_back("adamax_frozen", std::make_unique<Adamax>(AdamaxOptions{.learning_rate = 0.02}));
  for (auto& [name, optimizer] : cases) {
    INFO(name);
    Pair model = start_of(golden);
    optimizer->set_groups(model, {{.name = "biases", .selects = name_ends_with("bias")}});
    for (std::int64_t step = 1; step <= 50; ++step) {
      Tensors grads = grads_at(golden, step - 1);
      const bool frozen = step - 1 >= 5 && step - 1 < 25;
      optimizer->set_frozen("biases", frozen);
      const Tensor before = model.bias;
      if (frozen) grads[1] = Tensor();  // nobody has to compute it
      optimizer->step(model, grads);
      CHECK((model.bias.value().impl() == before.impl()) == frozen);
      check_golden(golden, name, step, model.values());
    }
    const StateDict state = optimizer->state_dict();
    CHECK(state[2].first == "parameter_steps");
    CHECK(state[2].second.to_vector<std::int64_t>() == std::vector<std::int64_t>{50, 30});
  }
}

TEST_CASE("groups: a continuation with a frozen group has the same bits; never-trained parameters have no state",
          "[nn]") {
  const Golden golden("optim");
  const auto make = [&](Pair& model) {
    Adam adam({.learning_rate = 0.01});
    adam.set_groups(model, {{.name = "frozen", .selects = name_ends_with("bias"), .frozen = true},
                            {.name = "own", .selects = name_ends_with("weight")}});
    return adam;
  };
  Pair a = start_of(golden);
  Adam first = make(a);
  for (std::int64_t step = 0; step < 20; ++step) first.step(a, grads_at(golden, step));
  first.set_learning_rate("own", 0.03);
  const StateDict state = first.state_dict();
  for (const auto& [name, value] : state) CHECK_FALSE(name.ends_with(".1"));

  Pair b(a.weight, a.bias);
  Adam second = make(b);
  second.load_state_dict(state);
  CHECK(second.learning_rate("own") == 0.03);
  CHECK(second.learning_rate("frozen") == 0.01);
  for (std::int64_t step = 20; step < 30; ++step)
    for (auto [optimizer, model] : {std::pair{&first, &a}, std::pair{&second, &b}}) {
      optimizer->set_frozen("frozen", step < 25);
      optimizer->step(*model, grads_at(golden, step));
    }
  CHECK(identical(a.weight, b.weight));
  CHECK(identical(a.bias, b.bias));
  CHECK_FALSE(identical(a.bias, golden["start.1"]));

  Adam plain({.learning_rate = 0.01});
  CHECK_ERROR(ValueError, plain.load_state_dict(state), "unexpected: group_rates", "groups it was saved with");
}

TEST_CASE("groups: what cannot be meant is refused", "[nn]") {
  Pair model(ones({2, 2}), ones({2}));
  Sgd sgd;
  const auto groups = [&](ParameterGroup g) { sgd.set_groups(model, {std::move(g)}); };
  CHECK_ERROR(ValueError, groups({.name = "encoder", .selects = name_starts_with("encoder.")}), "[Sgd]", "\"encoder\"",
              "no parameters", "named_parameters");
  CHECK_ERROR(ValueError, groups({.name = "x"}), "\"x\" has no selector");
  CHECK_ERROR(ValueError, groups({.name = "", .selects = rank_at_most(2)}), "its own name");
  CHECK_ERROR(ValueError, groups({.name = "x", .selects = rank_at_most(2), .rate_multiplier = -1}), "learning rate -1");
  CHECK_ERROR(ValueError, groups({.name = "x", .selects = rank_at_most(2), .weight_decay = -1}), "weight_decay -1");
  CHECK_ERROR(
      ValueError,
      sgd.set_groups(model, {{.name = "a", .selects = rank_at_most(1)}, {.name = "a", .selects = rank_at_most(2)}}),
      "\"a\"", "its own name");
  CHECK_ERROR(ValueError, sgd.learning_rate("a"), "set_groups first");
  groups({.name = "all", .selects = rank_at_most(2)});
  CHECK_ERROR(ValueError, sgd.set_frozen("biases", true), "\"biases\"", "expected one of: all");
  CHECK_ERROR(ValueError, sgd.set_learning_rate("all", -1), "learning rate -1");
  Linear other(2, 2, Key(1), {.bias = false});
  CHECK_ERROR(ShapeError, sgd.step(other, {zeros({2, 2})}), "1 parameters", "with 2", "set_groups");
}

TEST_CASE("optimizers: rate and momentum of one-cycle training, and the average of the weights, equal PyTorch's",
          "[nn]") {
  const Golden golden("optim");
  const OneCycleSchedule rate{.initial = 0.004, .peak = 0.1, .end = 4e-7, .total_steps = 50};
  const OneCycleSchedule momentum{.initial = 0.95, .peak = 0.85, .end = 0.95, .total_steps = 50};
  Pair model = start_of(golden);
  Sgd sgd({.learning_rate = 0.1, .momentum = 0.9});
  Ema ema(model, {.decay = 0.9});
  for (std::int64_t step = 1; step <= 50; ++step) {
    sgd.set_learning_rate(rate(sgd.steps()));
    sgd.set_momentum(momentum(sgd.steps()));
    sgd.step(model, grads_at(golden, step - 1));
    ema.update(model);
    check_golden(golden, "sgd_one_cycle", step, model.values());
    check_golden(golden, "ema", step, ema.values());
  }
  CHECK(ema.updates() == 50);
}

TEST_CASE("Ema: with bias correction it is the weighted mean of the weights so far", "[nn]") {
  Linear layer(2, 1, Key(1), {.bias = false, .dtype = float64});
  Ema ema(layer, {.decay = 0.75, .bias_correction = true});
  CHECK(identical(ema.values()[0], layer.weight));
  double weights = 0;
  Tensor sum = zeros({1, 2}, float64);
  for (int t = 0; t < 9; ++t) {
    const Tensor value = normal(Key(2).fold_in(static_cast<std::uint64_t>(t)), {1, 2}, 0, 1, float64);
    layer.weight.assign(value);
    ema.update(layer);
    weights = 0.75 * weights + 0.25;
    sum = sum * 0.75 + value * 0.25;
    CHECK_CLOSE(ema.values()[0], sum / weights, 1e-14);
    if (t == 0) CHECK_CLOSE(ema.values()[0], value, 1e-15);
  }
}

TEST_CASE("Ema: averages are applied for a while and the weights come back, whatever happens", "[nn]") {
  Mlp model({3, 4, 2}, Key(1), {.dtype = float64});
  Ema ema(model, {.decay = 0.5});
  const Tensors start = model.parameter_values();
  ema.update(model);
  for (Parameter* p : model.parameters()) p->update([](Tensor&& v) { return std::move(v) + 1.0; });
  ema.update(model);
  const Tensors trained = model.parameter_values();
  const Tensors averages = ema.values();
  for (std::size_t i = 0; i < start.size(); ++i) CHECK_CLOSE(averages[i], start[i] + 0.5, 1e-15);
  {
    const EmaScope scope = ema.applied_to(model);
    for (std::size_t i = 0; i < start.size(); ++i) CHECK(identical(model.parameter_values()[i], averages[i]));
  }
  for (std::size_t i = 0; i < start.size(); ++i) CHECK(model.parameter_values()[i].impl() == trained[i].impl());
  try {
    const EmaScope scope = ema.applied_to(model);
    throw 1;
  } catch (int) {
  }
  CHECK(model.parameter_values()[0].impl() == trained[0].impl());
  ema.copy_to(model);
  CHECK(identical(model.parameter_values()[0], averages[0]));

  Linear other(3, 4, Key(1), {.dtype = float64});
  CHECK_ERROR(ShapeError, ema.update(other), "[Ema::update]", "2 parameters", "made for 4");
  Mlp wider({3, 5, 2}, Key(1), {.dtype = float64});
  CHECK_ERROR(ShapeError, ema.applied_to(wider), "[Ema::applied_to]", "float64(5, 3)", "made for");
  Mlp narrow({3, 4, 2}, Key(1));
  CHECK_ERROR(DtypeError, ema.copy_to(narrow), "[Ema::copy_to]", "Module::to");
  CHECK_ERROR(ValueError, Ema(model, {.decay = 1.0}), "[Ema]", "decay 1");
  CHECK_ERROR(AutodiffError,
              nn::value_and_grad(model,
                                 [&] {
                                   ema.copy_to(model);
                                   return sum(model(ones({1, 3}, float64)));
                                 }),
              "[Ema::copy_to]");
}

TEST_CASE("Ema and GradientAccumulator: saved and loaded as modules, with the same bits", "[nn]") {
  Linear layer(3, 2, Key(1));
  const auto advance = [&](std::uint64_t i) { layer.weight.assign(normal(Key(i), {2, 3})); };
  Ema a(layer, {.decay = 0.9, .bias_correction = true});
  GradientAccumulator g(layer);
  for (std::uint64_t i = 1; i < 6; ++i) {
    advance(i);
    a.update(layer);
  }
  g.add({ones({2, 3}), ones({2})}, 0.5);
  Ema b(layer, {.decay = 0.9, .bias_correction = true});
  GradientAccumulator h(layer);
  b.load_state_dict(a.state_dict());
  h.load_state_dict(g.state_dict());
  CHECK(b.updates() == 5);
  CHECK(h.count() == 1);
  advance(9);
  a.update(layer);
  b.update(layer);
  for (std::size_t i = 0; i < 2; ++i) CHECK(identical(a.values()[i], b.values()[i]));
  const Tensors grads{normal(Key(2), {2, 3}), normal(Key(3), {2})};
  g.add(grads);
  h.add(grads);
  const Tensors mean = g.take_mean(), other = h.take_mean();
  for (std::size_t i = 0; i < 2; ++i) CHECK(identical(mean[i], other[i]));
  CHECK(a.num_parameters() == 0);
}

TEST_CASE("GradientAccumulator: batches weighted by their size give the gradient of all samples", "[nn]") {
  Linear layer(3, 2, Key(1), {.dtype = float64});
  const Tensor x = normal(Key(2), {10, 3}, 0, 1, float64);
  const Tensor y = normal(Key(3), {10, 2}, 0, 1, float64);
  const auto grads_of = [&](std::int64_t first, std::int64_t last) {
    return nn::value_and_grad(layer,
                              [&] { return mse_loss(layer(slice(x, 0, first, last)), slice(y, 0, first, last)); })
        .grads;
  };
  const Tensors whole = grads_of(0, 10);
  GradientAccumulator accumulated(layer);
  for (int round = 0; round < 2; ++round) {
    accumulated.add(grads_of(0, 4), 4);
    accumulated.add(grads_of(4, 5), 1);
    accumulated.add(grads_of(5, 10), 5);
    CHECK(accumulated.count() == 3);
    const Tensors mean = accumulated.take_mean();
    for (std::size_t i = 0; i < 2; ++i) CHECK_CLOSE(mean[i], whole[i], 1e-14);
    CHECK(accumulated.count() == 0);
  }
  accumulated.add(whole);
  accumulated.add(whole);
  CHECK_CLOSE(accumulated.take_sum()[0], whole[0] * 2.0, 1e-15);
  CHECK_ERROR(ValueError, accumulated.take_mean(), "[GradientAccumulator]", "call add first");
  CHECK_ERROR(ValueError, accumulated.add(whole, 0), "weight 0");
  CHECK_ERROR(ShapeError, accumulated.add({whole[0]}), "1 gradients", "expected 2");
  CHECK_ERROR(ShapeError, accumulated.add({whole[0], zeros({3}, float64)}), "bias", "float64(3,)", "float64(2,)");
  CHECK_ERROR(DtypeError, accumulated.add({whole[0], zeros({2})}), "cast");
}

}  // namespace
}  // namespace solvent::nn
