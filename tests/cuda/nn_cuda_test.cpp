// Modules, optimizers, averages and norms on a GPU against the same on the CPU.

#include <cmath>
#include <cstring>

#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/core/stream.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/optimizers.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent::nn {
namespace {

const Device kGpu = testing::cuda_test_device();
using testing::has_cuda_test_device;

Tensor sample(std::uint64_t seed, const Shape& shape, DType dtype) { return normal(Key(seed), shape, 0.0, 1.0, dtype); }

double tolerance_of(DType dtype) { return dtype == float32 ? 1e-5 : 1e-13; }

void check_close(const Tensor& got, const Tensor& expected, double tolerance) {
  REQUIRE(got.shape() == expected.shape());
  const std::vector<double> a = cast(to(got, cpu_device), float64).to_vector<double>();
  const std::vector<double> b = cast(to(expected, cpu_device), float64).to_vector<double>();
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool both_nan = std::isnan(a[i]) && std::isnan(b[i]);
    const double error = both_nan || a[i] == b[i] ? 0 : std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    worst = testing::larger(worst, error);
  }
  CHECK(worst <= tolerance);
}

// More parameters than one launch takes, of sizes around packs and chunks.
std::vector<Shape> many_shapes() {
  std::vector<Shape> shapes = {{3, 5}, {}, {0, 4}, {4096}, {4097}, {9001}};
  for (std::int64_t n = 1; n <= 70; ++n) shapes.push_back({n});
  return shapes;
}

std::vector<Parameter> slots_on(Device device, DType dtype) {
  std::vector<Parameter> slots;
  for (std::size_t i = 0; i < many_shapes().size(); ++i)
    slots.emplace_back(to(sample(i, many_shapes()[i], dtype), device));
  return slots;
}

Tensors grads_on(Device device, DType dtype, int step) {
  Tensors grads;
  for (std::size_t i = 0; i < many_shapes().size(); ++i)
    grads.push_back(to(sample(1000 * static_cast<std::uint64_t>(step) + i, many_shapes()[i], dtype), device));
  return grads;
}

ParameterList list_of(std::vector<Parameter>& slots) {
  ParameterList list;
  for (Parameter& p : slots) list.push_back(&p);
  return list;
}

TEST_CASE("cuda optimizers: 20 steps equal the CPU's, for states and parameters", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64})
    for (const auto& [name, make] : testing::optimizers()) {
      INFO(name << " " << to_string(dtype));
      std::vector<Parameter> expected = slots_on(cpu_device, dtype), got = slots_on(kGpu, dtype);
      const Tensor first = got[0].value();
      const std::vector<double> before = cast(first, float64).to_vector<double>();
      const auto on_cpu = make(), on_gpu = make();
      for (int step = 0; step < 20; ++step) {
        on_cpu->step(list_of(expected), grads_on(cpu_device, dtype, step));
        on_gpu->step(list_of(got), grads_on(kGpu, dtype, step));
      }
      CHECK(cast(first, float64).to_vector<double>() == before);  // someone held the old value
      for (std::size_t i = 0; i < got.size(); ++i) {
        CHECK(got[i].value().device() == kGpu);
        check_close(got[i].value(), expected[i].value(), 10 * tolerance_of(dtype));
      }
      const StateDict state = on_gpu->state_dict(), reference = on_cpu->state_dict();
      REQUIRE(state.size() == reference.size());
      for (std::size_t i = 0; i < state.size(); ++i)
        check_close(state[i].second, reference[i].second, tolerance_of(dtype));
    }
}

// The update of an optimizer without a kernel of its own.
class Halve : public Optimizer {
 public:
  Halve() : Optimizer("Halve", 1.0, 0.0, {"sum"}) {}

 private:
  template <class T>
  static void run(T* p, const T* g, T* const* state, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      state[0][i] += g[i];
      p[i] = p[i] / 2 - state[0][i];
    }
  }
  void update_block(float* p, const float* g, float* const* s, std::int64_t n,
                    const StepContext&) const noexcept override {
    run(p, g, s, n);
  }
  void update_block(double* p, const double* g, double* const* s, std::int64_t n,
                    const StepContext&) const noexcept override {
    run(p, g, s, n);
  }
};

TEST_CASE("cuda sgd_step: equals the CPU's, outside of graphs and in one", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const SgdOptions options{.learning_rate = 0.05, .momentum = 0.8, .weight_decay = 0.02, .nesterov = true};
    const auto values_on = [dtype](Device device, std::uint64_t seed) {
      Tensors values;
      for (std::size_t i = 0; i < many_shapes().size(); ++i)
        values.push_back(to(sample(seed + i, many_shapes()[i], dtype), device));
      return values;
    };
    // What others hold stays: the kernel reads one place and writes another.
    const Tensors parameters = values_on(kGpu, 1), velocities = values_on(kGpu, 500);
    const Tensors grads = grads_on(kGpu, dtype, 1);
    const SgdStep expected =
        sgd_step(values_on(cpu_device, 1), values_on(cpu_device, 500), grads_on(cpu_device, dtype, 1), options);
    const SgdStep apart = sgd_step(parameters, velocities, grads, options);
    const SgdStep in_place = sgd_step(values_on(kGpu, 1), values_on(kGpu, 500), grads, options);
    const std::size_t count = parameters.size();
    Tensors all = parameters;
    all.insert(all.end(), velocities.begin(), velocities.end());
    all.insert(all.end(), grads.begin(), grads.end());
    Tensors nothing;
    for (const Tensor& t : all) nothing.push_back(zeros(t.shape(), {dtype, kGpu}));
    Graph step = graph(
        [&](const Tensors& in) {
          const auto at = [&](std::size_t k) { return in.begin() + static_cast<std::ptrdiff_t>(k * count); };
          SgdStep next = sgd_step({at(0), at(1)}, {at(1), at(2)}, {at(2), at(3)}, options);
          next.parameters.insert(next.parameters.end(), next.velocities.begin(), next.velocities.end());
          return next.parameters;
        },
        nothing);
    const Tensors replayed = step(all);
    for (std::size_t i = 0; i < count; ++i) {
      INFO(i);
      check_close(apart.parameters[i], expected.parameters[i], tolerance_of(dtype));
      check_close(apart.velocities[i], expected.velocities[i], tolerance_of(dtype));
      CHECK(testing::same_bits(in_place.parameters[i], apart.parameters[i]));
      CHECK(testing::same_bits(in_place.velocities[i], apart.velocities[i]));
      CHECK(testing::same_bits(replayed[i], apart.parameters[i]));
      CHECK(testing::same_bits(replayed[count + i], apart.velocities[i]));
      CHECK(testing::same_bits(parameters[i], sample(1 + i, many_shapes()[i], dtype)));
    }
  }
}

TEST_CASE("cuda optimizers: one without a kernel is updated by way of the host", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::vector<Parameter> slots = {Parameter(to(tensor({2, 4}, float64), kGpu))};
  Halve halve;
  for (int i = 0; i < 2; ++i) halve.step(list_of(slots), {to(tensor({1, -1}, float64), kGpu)});
  CHECK(slots[0].value().to_vector<double>() == std::vector<double>{-2.0, 3.5 - 1 + 1});
  CHECK(slots[0].value().device() == kGpu);
}

TEST_CASE("cuda optimizers: states follow a module that moves", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::vector<Parameter> moving = slots_on(cpu_device, float64), staying = slots_on(cpu_device, float64);
  Adam a(AdamOptions{.learning_rate = 0.02}), b(AdamOptions{.learning_rate = 0.02});
  for (int step = 0; step < 6; ++step) {
    const Device device = step % 4 < 2 ? cpu_device : kGpu;
    for (Parameter& p : moving) p = Parameter(to(p.value(), device));
    a.step(list_of(moving), grads_on(device, float64, step));
    b.step(list_of(staying), grads_on(cpu_device, float64, step));
  }
  for (std::size_t i = 0; i < moving.size(); ++i) check_close(moving[i].value(), staying[i].value(), 1e-13);
}

TEST_CASE("cuda optimizers: parameter and gradient must share a device", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::vector<Parameter> slots = {Parameter(ones({2}, {float32, kGpu}))};
  Sgd sgd;
  CHECK_THROWS_AS(sgd.step(list_of(slots), {ones({2})}), DeviceError);
  CHECK_THROWS_WITH(sgd.step(list_of(slots), {ones({2})}), Catch::Contains("[Sgd]") && Catch::Contains("cuda:0") &&
                                                               Catch::Contains("cpu") &&
                                                               Catch::Contains("to(x, device)"));
}

TEST_CASE("cuda Module::to moves parameters and buffers and back", "[cuda]") {
  if (!has_cuda_test_device()) return;
  BatchNorm2d layer(3);
  const StateDict before = layer.state_dict();
  layer.to(kGpu);
  for (const auto& [name, value] : layer.state_dict()) CHECK(value.device() == kGpu);
  for (const auto& [name, value] : before) CHECK(value.device() == cpu_device);
  const StateDict on_gpu = layer.state_dict();
  layer.to(float64);
  CHECK(layer.parameters()[0]->value().device() == kGpu);
  layer.to(cpu_device);
  layer.load_state_dict(before, Strict::no);
  const StateDict after = layer.state_dict();
  REQUIRE(after.size() == before.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    CHECK(after[i].second.device() == cpu_device);
    check_close(after[i].second, before[i].second, 0);
  }
}

TEST_CASE("cuda Module::to refuses a device that is not there and changes nothing", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Linear layer(2, 3, Key(1));
  CHECK_THROWS_AS(layer.to(Device{DeviceType::cuda, 99}), DeviceError);
  for (const Parameter* p : layer.parameters()) CHECK(p->value().device() == cpu_device);
}

TEST_CASE("cuda Ema: averages equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const bool bias_correction : {false, true}) {
    Linear layer(40, 3, Key(1), {.dtype = float64});
    Linear moved = layer;
    moved.to(kGpu);
    const EmaOptions options{.decay = 0.9, .bias_correction = bias_correction};
    Ema expected(layer, options), got(moved, options);
    for (std::uint64_t step = 0; step < 5; ++step) {
      for (std::size_t i = 0; i < layer.parameters().size(); ++i) {
        const Tensor value = sample(step, layer.parameters()[i]->value().shape(), float64);
        layer.parameters()[i]->assign(value);
        moved.parameters()[i]->assign(to(value, kGpu));
      }
      expected.update(layer);
      got.update(moved);
    }
    const Tensors a = got.values(), b = expected.values();
    for (std::size_t i = 0; i < a.size(); ++i) {
      CHECK(a[i].device() == kGpu);
      check_close(a[i], b[i], 1e-14);
    }
    CHECK_THROWS_WITH(got.update(layer), Catch::Contains("cuda:0") && Catch::Contains("Module::to"));
  }
}

TEST_CASE("cuda clipping: norms equal the CPU's and have the same bits twice", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Tensors grads = grads_on(cpu_device, float64, 3);
  grads.push_back(sample(9, {3, 16384}, float32));
  grads.push_back(transpose(sample(10, {30, 41}, float32), 0, 1));
  Tensors moved;
  for (const Tensor& g : grads) moved.push_back(to(g, kGpu));
  moved.back() = transpose(to(sample(10, {30, 41}, float32), kGpu), 0, 1);
  const double expected = global_norm(grads), got = global_norm(moved), again = global_norm(moved);
  CHECK(std::abs(got / expected - 1) < 1e-14);
  CHECK(std::memcmp(&got, &again, sizeof(got)) == 0);
  Tensors mixed = moved;
  mixed[0] = grads[0];
  CHECK(std::abs(global_norm(mixed) / expected - 1) < 1e-14);
  const ClippedGrads a = clip_by_global_norm(grads, 1.5), b = clip_by_global_norm(moved, 1.5);
  for (std::size_t i = 0; i < grads.size(); ++i) check_close(b.grads[i], a.grads[i], 1e-6);
  CHECK(std::isnan(global_norm({to(tensor({1, NAN}, float32), kGpu)})));
  CHECK(global_norm({zeros({0}, {float32, kGpu})}) == 0);
}

}  // namespace
}  // namespace solvent::nn
