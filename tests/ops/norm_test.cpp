// Batch and weight normalisation against PyTorch (tests/golden/make_pool_norm.py), their invariances, and dropout's masks.

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-13;

// Values and gradients of f(inputs) at name.<inputs> against name.output and name.grad.<inputs>.
template <class F>
void check_golden(const Golden& golden, const std::string& name, const std::vector<std::string>& inputs, F f) {
  INFO(name);
  Tensors xs;
  for (const std::string& input : inputs) xs.push_back(golden[name + "." + input]);
  CHECK_CLOSE(f(xs), golden[name + ".output"], kGoldenTolerance);
  const auto loss = [&](const Tensors& v) { return Tensors{f(v)}; };
  const Tensors gradients = vjp(TensorsFn(loss), xs).pullback(Tensors{golden[name + ".weights"]});
  for (std::size_t i = 0; i < inputs.size(); ++i)
    CHECK_CLOSE(gradients[i], golden[name + ".grad." + inputs[i]], kGoldenTolerance);
}

TEST_CASE("batch_norm, weight_norm: values and gradients equal PyTorch's", "[ops]") {
  const Golden golden("pool_norm");
  for (const char* name : {"batch_norm", "batch_norm_flat"})
    check_golden(golden, name, {"x", "weight", "bias"},
                 [](const Tensors& x) { return batch_norm(x[0], x[1], x[2], 1e-3).value; });
  check_golden(golden, "weight_norm", {"v", "g"}, [](const Tensors& x) { return weight_norm(x[0], x[1]); });
  check_golden(golden, "weight_norm_input", {"v", "g"}, [](const Tensors& x) { return weight_norm(x[0], x[1], 1); });
}

TEST_CASE("batch_norm: each channel has mean bias and deviation weight, whatever its scale and shift", "[ops]") {
  const Tensor x = normal(Key(1), {8, 3, 5, 7}, 0, 1, float64);
  const Tensor weight = tensor({2.0, 0.5, 1.0}, float64);
  const Tensor bias = tensor({-1.0, 0.0, 3.0}, float64);
  const Tensor y = batch_norm(x, weight, bias, 0.0).value;
  CHECK_CLOSE(mean(y, {0, 2, 3}), bias, 1e-13);
  CHECK_CLOSE(sqrt(var(y, {0, 2, 3})), weight, 1e-13);
  CHECK_CLOSE(batch_norm(x * 5.0 + 7.0, weight, bias, 0.0).value, y, 1e-12);
}

TEST_CASE("batch_norm: a mean that dwarfs the deviation costs no digits of the variance", "[ops]") {
  // float32 with mean 1000 and deviation 1: a sum of squares would leave two digits.
  for (const Shape& shape : {Shape{64, 2, 32, 32}, Shape{5000, 2}}) {
    const Tensor x = normal(Key(2), shape, 0, 1, float32);
    const BatchNormResult near = batch_norm(x, {}, {});
    const BatchNormResult far = batch_norm(x + 1000.0, {}, {});
    CHECK(max(abs(far.var - near.var) / near.var).item() < 1e-4);  // x + 1000 is rounded to 6e-5 itself
    const Tensor wide = cast(x + 1000.0, float64);
    const Axes axes = shape.rank() == 4 ? Axes{0, 2, 3} : Axes{0};
    CHECK(max(abs(cast(far.var, float64) - var(wide, axes))).item() < 5e-6);  // float32 sums of 4096 squares
    CHECK(max(abs(cast(far.mean, float64) - mean(wide, axes))).item() < 1e-4);
  }
}

TEST_CASE("batch_norm: derivatives to third order, through the statistics", "[ops]") {
  const Tensor weight = tensor({1.5, -0.5}, float64);
  const Tensor seed = normal(Key(4), {3, 2, 2}, 0, 1, float64);
  // The gradient of a function of the normalised x, once more: gradcheck adds two orders.
  const auto gradient = [&](const Tensors& v) {
    return Tensors{grad([&](const Tensor& x) { return sum(seed * batch_norm(x, v[1], {}, 0.1).value); }, v[0])};
  };
  const GradcheckReport report =
      gradcheck(gradient, {normal(Key(3), {3, 2, 2}, 0, 1, float64), weight}, {.mode_tol = 1e-9});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("batch_norm: the cotangents of mean and variance reach x", "[ops]") {
  const Tensor x = normal(Key(5), {4, 2, 3}, 0, 1, float64);
  const Tensor g = grad([](const Tensor& v) { return sum(batch_norm(v, {}, {}).var * 2.0); }, x);
  CHECK_CLOSE(g, (x - mean(x, {0, 2}, true)) * (4.0 / 12.0), 1e-15);
}

TEST_CASE("batch_norm_eval: equals batch_norm for the batch's own statistics", "[ops]") {
  const Tensor x = normal(Key(6), {4, 3, 20});
  const Tensor weight = normal(Key(7), {3});
  const BatchNormResult r = batch_norm(x, weight, {});
  CHECK_CLOSE(batch_norm_eval(x, r.mean, r.var, weight, {}), r.value, 1e-6);
  const Golden golden("pool_norm");
  for (const std::string name : {"batch_norm", "batch_norm_flat"})
    CHECK_CLOSE(batch_norm_eval(golden[name + ".x"], golden[name + ".running_mean"], golden[name + ".running_var"],
                                golden[name + ".weight"], golden[name + ".bias"], 1e-3),
                golden[name + ".eval"], kGoldenTolerance);
}

TEST_CASE("weight_norm: the scale of v does not matter, the gain is the norm", "[ops]") {
  const Tensor v = normal(Key(8), {4, 3, 2}, 0, 1, float64);
  const Tensor gain = tensor({1.0, -2.0, 0.5, 3.0}, float64);
  const Tensor w = weight_norm(v, gain);
  CHECK_CLOSE(weight_norm(v * 17.0, gain), w, 1e-15);
  CHECK_CLOSE(sqrt(sum(square(w), {1, 2})), abs(gain), 1e-15);
  CHECK(weight_norm(normal(Key(9), {3, 5}), ones({5}), 1).shape() == Shape{3, 5});
  CHECK(std::isnan(weight_norm(zeros({1, 2}), ones({1})).to_vector<float>()[0]));
}

TEST_CASE("dropout: frequency, scale and limits", "[ops]") {
  const std::int64_t n = 1 << 20;
  const Tensor y = dropout(ones({n}), 0.25, Key(1));
  const double kept = sum(cast(not_equal(y, zeros({})), float32)).item() / static_cast<double>(n);
  CHECK(std::fabs(kept - 0.75) < 5 * std::sqrt(0.25 * 0.75 / static_cast<double>(n)));
  CHECK(max(y).item() == Approx(1 / 0.75).epsilon(1e-7));
  const Tensor x = normal(Key(2), {1000});
  CHECK(identical(dropout(x, 0.0, Key(1)), x));
  CHECK(identical(dropout(x, 1.0, Key(1)), zeros({1000})));
  // Dropped means zero, also where x is not finite.
  CHECK(identical(dropout(full({64}, INFINITY), 1.0, Key(1)), zeros({64})));
}

TEST_CASE("dropout: the mask is a function of key and position", "[ops]") {
  const Tensor x = ones({5000});
  CHECK(identical(dropout(x, 0.5, Key(3)), reshape(dropout(reshape(x, {50, 100}), 0.5, Key(3)), {5000})));
  CHECK(!identical(dropout(x, 0.5, Key(3)), dropout(x, 0.5, Key(4))));
  CHECK(identical(dropout(x, 0.5, Key(3)), cast(dropout(cast(x, float64), 0.5, Key(3)), float32)));
  // A prefix has the mask of the whole.
  CHECK(identical(dropout(ones({777}), 0.5, Key(3)), slice(dropout(x, 0.5, Key(3)), 0, 0, 777)));
}

TEST_CASE("channel_dropout: whole maps, each sample its own", "[ops]") {
  const Tensor y = channel_dropout(ones({16, 8, 5, 5}), 0.5, Key(4));
  const Tensor low = min(reshape(y, {16, 8, 25}), -1);
  const Tensor high = max(reshape(y, {16, 8, 25}), -1);
  CHECK(identical(low, high));
  const std::vector<float> kept = low.to_vector<float>();
  bool samples_differ = false;
  for (std::size_t i = 8; i < kept.size(); ++i) samples_differ = samples_differ || kept[i] != kept[i - 8];
  CHECK(samples_differ);
}

}  // namespace
}  // namespace solvent
