// Optimizers against 50 steps of PyTorch's (tests/golden/make_optim.py), their guarantees, clipping.

#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "solvent/core/parallel.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/linear.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-12;

struct Case {
  std::string name;
  std::function<std::unique_ptr<Optimizer>()> make;
};

std::vector<Case> cases() {
  const auto sgd = [](SgdOptions o) {
    return [o]() -> std::unique_ptr<Optimizer> { return std::make_unique<Sgd>(o); };
  };
  const auto adam = [](AdamOptions o) {
    return [o]() -> std::unique_ptr<Optimizer> { return std::make_unique<Adam>(o); };
  };
  const auto adamw = [](AdamOptions o) {
    return [o]() -> std::unique_ptr<Optimizer> { return std::make_unique<AdamW>(o); };
  };
  const auto adamax = [](AdamaxOptions o) {
    return [o]() -> std::unique_ptr<Optimizer> { return std::make_unique<Adamax>(o); };
  };
  return {
      {"sgd", sgd({.learning_rate = 0.05})},
      {"sgd_momentum", sgd({.learning_rate = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.02})},
      {"sgd_nesterov", sgd({.learning_rate = 0.05, .momentum = 0.8, .weight_decay = 0.02, .nesterov = true})},
      {"adam", adam({.learning_rate = 0.01})},
      {"adam_decay", adam({.learning_rate = 0.02, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.05})},
      {"adamw", adamw({.learning_rate = 0.02, .weight_decay = 0.1})},
      {"adam_amsgrad", adam({.learning_rate = 0.02, .weight_decay = 0.05, .amsgrad = true})},
      {"adamw_amsgrad",
       adamw({.learning_rate = 0.02, .beta1 = 0.7, .beta2 = 0.8, .weight_decay = 0.1, .amsgrad = true})},
      {"adamax", adamax({.learning_rate = 0.02})},
      {"adamax_decay", adamax({.learning_rate = 0.02, .beta1 = 0.8, .beta2 = 0.9, .eps = 1e-3, .weight_decay = 0.05})}};
}

/// Slots without a module.
struct Slots {
  std::vector<Parameter> slots;
  explicit Slots(const Tensors& values) {
    for (const Tensor& v : values) slots.emplace_back(v);
  }
  ParameterList list() {
    ParameterList l;
    for (Parameter& p : slots) l.push_back(&p);
    return l;
  }
};

Tensors grads_at(const Golden& golden, std::int64_t step) {
  return {select(golden["grads.0"], 0, step), select(golden["grads.1"], 0, step)};
}

TEST_CASE("optimizers: 50 steps equal PyTorch's", "[nn]") {
  const Golden golden("optim");
  for (const Case& c : cases()) {
    INFO(c.name);
    Slots params({golden["start.0"], golden["start.1"]});
    const auto optimizer = c.make();
    for (std::int64_t step = 1; step <= 50; ++step) {
      optimizer->step(params.list(), grads_at(golden, step - 1));
      if (step != 1 && step != 10 && step != 50) continue;
      for (std::size_t i = 0; i < 2; ++i)
        CHECK_CLOSE(params.slots[i].value(), golden[c.name + "." + std::to_string(step) + "." + std::to_string(i)],
                    kGoldenTolerance);
    }
    CHECK(optimizer->steps() == 50);
  }
}

TEST_CASE("optimizers: float32 follows float64", "[nn]") {
  const Golden golden("optim");
  for (const Case& c : cases()) {
    INFO(c.name);
    Slots params({cast(golden["start.0"], float32), cast(golden["start.1"], float32)});
    const auto optimizer = c.make();
    for (std::int64_t step = 0; step < 50; ++step) {
      Tensors grads = grads_at(golden, step);
      for (Tensor& g : grads) g = cast(g, float32);
      optimizer->step(params.list(), grads);
    }
    for (std::size_t i = 0; i < 2; ++i)
      CHECK_CLOSE(cast(params.slots[i].value(), float64), golden[c.name + ".50." + std::to_string(i)], 2e-5);
  }
}

TEST_CASE("optimizers: every element is updated, whatever the length and the number of threads", "[nn]") {
  const NumThreadsGuard guard(1);
  for (const Case& c : cases())
    for (const std::int64_t n : {1, 3, 8, 31, 1000, 16384, 40001}) {
      INFO(c.name << ", " << n);
      const Tensor start = normal(Key(1), {n});
      const Tensor g = normal(Key(2), {n});
      const auto run = [&](int threads) {
        set_num_threads(threads);
        Slots params({start});
        const auto optimizer = c.make();
        for (int i = 0; i < 3; ++i) optimizer->step(params.list(), {g});
        return params.slots[0].value();
      };
      const Tensor one = run(1);
      CHECK(identical(run(3), one));
      // The last element alone gives the same bits: no dependence on position.
      Slots last({slice(start, 0, n - 1, n)});
      const auto optimizer = c.make();
      for (int i = 0; i < 3; ++i) optimizer->step(last.list(), {slice(g, 0, n - 1, n)});
      CHECK(identical(last.slots[0].value(), slice(one, 0, n - 1, n)));
      CHECK(testing::max_difference(one, start) > 0);
    }
}

TEST_CASE("optimizers: update in place, but never a value that someone else holds", "[nn]") {
  for (const Case& c : cases()) {
    INFO(c.name);
    Slots params({clone(normal(Key(1), {100}))});
    const Tensor g = normal(Key(2), {100});
    const auto optimizer = c.make();
    optimizer->step(params.list(), {g});
    const float* memory = params.slots[0].value().data<float>();
    optimizer->step(params.list(), {g});
    CHECK(params.slots[0].value().data<float>() == memory);

    const Tensor held = params.slots[0].value();
    const StateDict held_state = optimizer->state_dict();
    std::vector<Tensor> copies{clone(held)};
    for (const auto& [name, value] : held_state) copies.push_back(clone(value));
    optimizer->step(params.list(), {g});
    CHECK(identical(held, copies[0]));
    for (std::size_t i = 0; i < held_state.size(); ++i)
      if (held_state[i].second.dtype() != int64) CHECK(identical(held_state[i].second, copies[i + 1]));
    CHECK_FALSE(identical(params.slots[0].value(), held));
  }
}

TEST_CASE("optimizers: strided and broadcast gradients", "[nn]") {
  for (const Case& c : cases()) {
    INFO(c.name);
    const Tensor start = normal(Key(1), {4, 6});
    const Tensor strided = mT(normal(Key(2), {6, 4}));
    const Tensor broadcast = broadcast_to(normal(Key(3), {6}), {4, 6});
    Slots a({start}), b({start});
    const auto one = c.make();
    const auto two = c.make();
    one->step(a.list(), {strided});
    two->step(b.list(), {contiguous(strided)});
    one->step(a.list(), {broadcast});
    two->step(b.list(), {contiguous(broadcast)});
    CHECK(identical(a.slots[0].value(), b.slots[0].value()));
  }
}

TEST_CASE("optimizers: a continuation from the state dict has the same bits", "[nn]") {
  const Golden golden("optim");
  for (const Case& c : cases()) {
    INFO(c.name);
    Slots a({golden["start.0"], golden["start.1"]});
    const auto first = c.make();
    for (std::int64_t step = 0; step < 20; ++step) first->step(a.list(), grads_at(golden, step));
    first->set_learning_rate(0.003);

    Slots b({a.slots[0].value(), a.slots[1].value()});
    const auto second = c.make();
    second->load_state_dict(first->state_dict());
    CHECK(second->steps() == 20);
    CHECK(second->learning_rate() == 0.003);
    for (std::int64_t step = 20; step < 40; ++step) {
      first->step(a.list(), grads_at(golden, step));
      second->step(b.list(), grads_at(golden, step));
    }
    for (std::size_t i = 0; i < 2; ++i) CHECK(identical(a.slots[i].value(), b.slots[i].value()));
  }
}

TEST_CASE("optimizers: a step that throws changes nothing", "[nn]") {
  Slots params({tensor({1, 2}), tensor({3})});
  Adam adam;
  const Tensors good{tensor({1, 1}), tensor({1})};
  adam.step(params.list(), good);
  const Tensors before{params.slots[0].value(), params.slots[1].value()};
  CHECK_ERROR(ShapeError, adam.step(params.list(), {tensor({1, 1})}), "[Adam]", "2 parameters and 1 gradients");
  CHECK_ERROR(ShapeError, adam.step(params.list(), {tensor({1, 1}), tensor({1, 2})}), "[Adam]", "parameter 1",
              "float32(1,)", "float32(2,)");
  CHECK_ERROR(DtypeError, adam.step(params.list(), {tensor({1, 1}), tensor({1}, float64)}), "[Adam]", "float64(1,)",
              "cast");
  CHECK_ERROR(ShapeError, adam.step(params.list(), {tensor({1, 1}), Tensor()}), "[Adam]", "empty handle");
  CHECK_ERROR(ShapeError, adam.step({&params.slots[0]}, {tensor({1, 1})}), "[Adam]", "its state belongs to 2");
  CHECK_ERROR(AutodiffError,
              grad(
                  [&](const Tensor& x) {
                    adam.step(params.list(), {tensor({1, 1}), x});
                    return sum(x);
                  },
                  tensor({1})),
              "[Adam]", "differentiated");
  Slots other({tensor({1, 2, 3}), tensor({3})});
  CHECK_ERROR(ShapeError, adam.step(other.list(), {tensor({1, 2, 3}), tensor({1})}), "[Adam]", "another model");
  CHECK(adam.steps() == 1);
  for (std::size_t i = 0; i < 2; ++i) CHECK(params.slots[i].value().impl() == before[i].impl());
  adam.step(params.list(), good);
  CHECK(adam.steps() == 2);
}

TEST_CASE("sgd_step: the steps of Sgd as a function", "[nn]") {
  for (const SgdOptions& options :
       {SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.02},
        SgdOptions{.learning_rate = 0.05, .momentum = 0.8, .nesterov = true}, SgdOptions{.learning_rate = 0.1}}) {
    const Tensors start = {normal(Key(1), {40, 30}), normal(Key(2), {7})};
    Slots params(start);
    Sgd sgd(options);
    Tensors values = start;
    Tensors velocities;
    if (options.momentum != 0) velocities = {zeros({40, 30}), zeros({7})};
    for (std::uint64_t step = 0; step < 4; ++step) {
      const Tensors grads = {transpose(normal(Key(10 + step), {30, 40}), 0, 1), normal(Key(20 + step), {7})};
      sgd.step(params.list(), grads);
      const Tensors old = values;  // somebody holds them: they stay
      const std::vector<float> before = old[1].to_vector<float>();
      SgdStep next = sgd_step(values, velocities, grads, options);
      CHECK(old[1].to_vector<float>() == before);
      values = std::move(next.parameters);
      velocities = std::move(next.velocities);
      for (std::size_t i = 0; i < 2; ++i) CHECK(identical(values[i], params.slots[i].value()));
    }
  }
  Tensor mine = ones({3});
  const void* const memory = mine.data<float>();
  Tensors list;
  list.push_back(std::move(mine));
  const SgdStep in_place = sgd_step(std::move(list), {}, {ones({3})}, {.learning_rate = 1});
  CHECK(in_place.parameters[0].data<float>() == memory);
  CHECK(in_place.parameters[0].to_vector<float>() == std::vector<float>{0, 0, 0});
}

TEST_CASE("sgd_step: operands that do not fit are refused", "[nn]") {
  const Tensors p = {ones({3}), ones({2})};
  const SgdOptions with{.momentum = 0.9};
  CHECK_ERROR(ShapeError, (void)sgd_step(p, {}, {ones({3})}, {}), "[sgd_step]", "2 parameters", "1 gradients");
  CHECK_ERROR(ShapeError, (void)sgd_step(p, {}, p, with), "[sgd_step]", "0 velocities",
              "no velocities without momentum");
  CHECK_ERROR(ShapeError, (void)sgd_step(p, p, p, {}), "[sgd_step]", "2 velocities");
  CHECK_ERROR(ShapeError, (void)sgd_step(p, {}, {ones({3}), ones({3})}, {}), "[sgd_step]", "parameter 1",
              "float32(3,)");
  CHECK_ERROR(ShapeError, (void)sgd_step(p, {ones({3}), ones({1})}, p, with), "[sgd_step]", "its velocity");
  CHECK_ERROR(ShapeError, (void)sgd_step({Tensor()}, {}, {ones({1})}, {}), "[sgd_step]", "empty handle");
  CHECK_ERROR(DtypeError, (void)sgd_step({ones({1})}, {}, {ones({1}, float64)}, {}), "[sgd_step]", "same dtype");
  CHECK_ERROR(DtypeError, (void)sgd_step({ones({1}, int64)}, {}, {ones({1}, int64)}, {}), "[sgd_step]", "float64");
  CHECK_ERROR(AutodiffError,
              (void)grad([&](const Tensor& x) { return sum(sgd_step({x}, {}, {x}, {}).parameters[0]); }, ones({2})),
              "[sgd_step]", "being differentiated");
  CHECK_ERROR(ValueError, (void)sgd_step(p, {}, p, {.learning_rate = -1}), "learning rate -1");
}

TEST_CASE("optimizers: slots in use by value_and_grad are refused", "[nn]") {
  Linear layer(2, 1, Key(1));
  Sgd sgd;
  CHECK_ERROR(AutodiffError,
              nn::value_and_grad(layer,
                                 [&] {
                                   sgd.step(layer, {zeros({1, 2}), zeros({1})});
                                   return sum(layer(tensor({{1, 2}})));
                                 }),
              "[Sgd]", "running nn::value_and_grad");
  CHECK(sgd.steps() == 0);
}

TEST_CASE("optimizers: states that do not fit are reported completely and not loaded", "[nn]") {
  Slots params({tensor({1, 2})});
  Adam adam;
  adam.step(params.list(), {tensor({1, 1})});
  StateDict state = adam.state_dict();
  Sgd sgd({.momentum = 0.9});
  CHECK_ERROR(ValueError, sgd.load_state_dict(state), "[Sgd]", "unexpected: exp_avg.0", "missing: momentum.0",
              "nothing was loaded");
  CHECK(sgd.steps() == 0);
  state.erase(state.begin());  // step
  state.back().first = "exp_avg_sq.5";
  CHECK_ERROR(ValueError, adam.load_state_dict(state), "missing: step", "missing: exp_avg_sq.0",
              "unexpected: exp_avg_sq.5");
  state = adam.state_dict();
  state[2].second = from_vector<std::int64_t>({7}, {1});
  CHECK_ERROR(ValueError, adam.load_state_dict(state), "parameter_steps: got 7 for parameter 0 after 1 steps");
  state = adam.state_dict();
  state[0].second = tensor({1});
  CHECK_ERROR(ValueError, adam.load_state_dict(state), "step: got float32(1,), expected int64()");
}

TEST_CASE("optimizers: options out of range are refused", "[nn]") {
  CHECK_ERROR(ValueError, Sgd({.learning_rate = -1}), "[Sgd]", "learning rate -1");
  CHECK_ERROR(ValueError, Sgd({.learning_rate = std::numeric_limits<double>::quiet_NaN()}), "[Sgd]", "nan");
  CHECK_ERROR(ValueError, Sgd({.momentum = -0.5}), "[Sgd]", "momentum");
  CHECK_ERROR(ValueError, Sgd({.nesterov = true}), "[Sgd]", "nesterov", "momentum > 0");
  CHECK_ERROR(ValueError, Adam({.beta1 = 1.0}), "[Adam]", "beta1 1");
  CHECK_ERROR(ValueError, AdamW({.eps = -1e-8}), "[AdamW]", "eps");
  CHECK_ERROR(ValueError, AdamW({.weight_decay = -0.1}), "[AdamW]", "weight_decay -0.1");
  CHECK_ERROR(ValueError, Adamax({.beta2 = 1.5}), "[Adamax]", "beta2 1.5");
  CHECK_ERROR(ValueError, Adamax({.eps = -1}), "[Adamax]", "eps -1");
  CHECK_ERROR(ValueError, Sgd().set_momentum(0.9), "[Sgd]", "another");
  CHECK_THROWS_AS(Sgd({.momentum = 0.9}).set_momentum(-1), ValueError);
  Adam adam;
  CHECK_THROWS_AS(adam.set_learning_rate(-1), ValueError);
}

TEST_CASE("optimizers: not-a-number in a gradient reaches the parameter", "[nn]") {
  for (const Case& c : cases()) {
    INFO(c.name);
    Slots params({tensor({1, 2, 3})});
    c.make()->step(params.list(), {tensor({0, std::numeric_limits<double>::quiet_NaN(), 0})});
    const std::vector<float> v = params.slots[0].value().to_vector<float>();
    CHECK(std::isnan(v[1]));
    CHECK(std::isfinite(v[0]));
    CHECK(std::isfinite(v[2]));
  }
}

TEST_CASE("training: a small regression converges with every optimizer", "[nn]") {
  const Tensor x = normal(Key(1), {64, 3}, 0, 1, float64);
  const Tensor y = matmul(x, mT(tensor({{1, -2, 0.5}}, float64))) + 0.3;
  for (const Case& c : cases()) {
    if (c.name != "sgd" && c.name != "adam" && c.name != "adamax") continue;  // weight decay moves the optimum
    INFO(c.name);
    Linear layer(3, 1, Key(2), {.dtype = float64});
    const auto optimizer = c.make();
    double loss = 0;
    for (int i = 0; i < 600; ++i) {
      const auto r = nn::value_and_grad(layer, [&] { return mse_loss(layer(x), y); });
      optimizer->step(layer, r.grads);
      loss = r.value.item();
    }
    CHECK(loss < 1e-4);
  }
}

TEST_CASE("clip_by_global_norm: equals PyTorch's", "[nn]") {
  const Golden golden("optim");
  for (std::int64_t step = 0; step < 3; ++step) {
    const ClippedGrads clipped = clip_by_global_norm(grads_at(golden, step), 2.5);
    const std::string at = std::to_string(step);
    CHECK(clipped.norm == Approx(golden["clip_norm." + at].item()).epsilon(1e-13));
    for (std::size_t i = 0; i < 2; ++i)
      CHECK_CLOSE(clipped.grads[i], golden["clip." + at + "." + std::to_string(i)], 1e-13);
  }
}

TEST_CASE("clip_each_by_norm, clip_by_value: equal PyTorch's", "[nn]") {
  const Golden golden("optim");
  for (std::int64_t step = 0; step < 3; ++step) {
    const SeparatelyClippedGrads each = clip_each_by_norm(grads_at(golden, step), 1.5);
    const Tensors values = clip_by_value(grads_at(golden, step), 0.4);
    for (std::size_t i = 0; i < 2; ++i) {
      const std::string at = std::to_string(step) + "." + std::to_string(i);
      CHECK_CLOSE(each.grads[i], golden["clip_each." + at], 1e-13);
      CHECK(each.norms[i] == Approx(global_norm({grads_at(golden, step)[i]})));
      CHECK_CLOSE(values[i], golden["clip_value." + at], 0);
    }
  }
  const Tensor g = tensor({3, 4});
  CHECK(clip_each_by_norm({g}, 6).grads[0].impl() == g.impl());
  CHECK_CLOSE(clip_each_by_norm({g, g * 2.0}, 1, 0).grads[1], tensor({0.6, 0.8}), 1e-7);
  CHECK(std::isnan(clip_by_value({tensor({std::numeric_limits<double>::quiet_NaN()})}, 1)[0].item()));
  CHECK_ERROR(ValueError, clip_each_by_norm({g}, -1), "[clip_each_by_norm]", "max_norm -1");
  CHECK_ERROR(ValueError, clip_by_global_norm({g}, 1, -1), "[clip_by_global_norm]", "eps -1");
  CHECK_ERROR(ValueError, clip_by_value({g}, 0), "[clip_by_value]", "limit 0");
}

TEST_CASE("clip_by_global_norm: leaves small gradients alone and hides nothing", "[nn]") {
  const Tensor g = tensor({3, 4});
  const ClippedGrads untouched = clip_by_global_norm({g}, 6);
  CHECK(untouched.norm == 5.0);
  CHECK(untouched.grads[0].impl() == g.impl());
  CHECK(clip_by_global_norm({tensor({3e30, 4e30})}, 1).norm == Approx(5e30));  // squares overflow float32
  const ClippedGrads bad = clip_by_global_norm({tensor({1, std::numeric_limits<double>::quiet_NaN()})}, 1);
  CHECK(std::isnan(bad.norm));
  CHECK(std::isnan(bad.grads[0].to_vector<float>()[0]));
  CHECK(global_norm({}) == 0);
  CHECK(global_norm({mT(normal(Key(1), {50, 40}))}) == Approx(global_norm({normal(Key(1), {50, 40})})).epsilon(1e-14));
  CHECK_ERROR(ValueError, clip_by_global_norm({g}, 0), "[clip_by_global_norm]", "max_norm 0");
  CHECK_ERROR(DtypeError, global_norm({arange(0, 3)}), "[global_norm]", "int64");
  CHECK_ERROR(DtypeError, global_norm({ones({3}, bfloat16)}), "[global_norm]", "bfloat16(3,)");
}

TEST_CASE("global_norm: same bits for any number of threads", "[nn]") {
  const Tensor g = normal(Key(1), {100001});
  const NumThreadsGuard guard(1);
  const double one = global_norm({g});
  set_num_threads(3);
  CHECK(global_norm({g}) == one);
  CHECK(one == Approx(std::sqrt(sum(square(cast(g, float64))).item())).epsilon(1e-13));
}

}  // namespace
}  // namespace solvent::nn
