// Normalisation, softmax, cross entropy, dropout and pooling of one layer's data, forward and backward with respect to data
// and parameters, against libtorch. Fresh outputs on both sides.

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

namespace solvent::bench {
namespace {

/// A function of data and perhaps parameters, and the cotangent of its result.
struct Problem {
  TensorsFn f;
  Tensors inputs;
  Tensor seed;
  std::vector<std::int64_t> labels = {};
};

Tensor forward_of(const Problem& p) { return std::move(p.f(p.inputs)[0]); }
Tensor gradient_of(const Problem& p) { return std::move(vjp(p.f, p.inputs).pullback(Tensors{p.seed})[0]); }

/// `name` as torch_peer::layer knows it.
Row layer_row(const std::string& name, const Problem& p, bool backward, double target, double tolerance) {
  const Tensor& x = p.inputs[0];
  const std::vector<std::int64_t> shape(x.shape().begin(), x.shape().end());
  const torch_peer::Call torch = torch_peer::layer(name, x.data<float>(), shape, p.labels, backward);
  const auto compute = [p, backward] { return backward ? gradient_of(p) : forward_of(p); };
  Row row;
  row.run = [compute] { keep(compute()); };
  row.rounds = 15;
  row.peers = {{.name = "libtorch", .run = torch.run, .at_least = target, .max_rounds = 9}};
  if (torch.result) {
    row.error = [compute, result = torch.result] { return max_difference(compute(), result()); };
    row.tolerance = tolerance;
  }
  return row;
}

Problem batch_norm_problem(const Shape& shape) {
  const Tensor x = random_normal(shape);
  const std::int64_t channels = shape[1];
  return {[](const Tensors& v) { return Tensors{batch_norm(v[0], v[1], v[2]).value}; },
          {x, ones({channels}), zeros({channels})},
          x};
}

Problem layer_norm_problem() {
  const Tensor x = random_normal({16384, 768});
  return {[](const Tensors& v) { return Tensors{layer_norm(v[0], v[1], v[2])}; }, {x, ones({768}), zeros({768})}, x};
}

Problem softmax_problem() {
  const Tensor x = random_normal({16000, 1000});
  return {[](const Tensors& v) { return Tensors{softmax(v[0])}; }, {x}, x};
}

// Off the last axis: through copies that put the axis last and back.
Problem softmax_channels_problem() {
  const Tensor x = random_normal({64, 64, 32, 32});
  return {[](const Tensors& v) { return Tensors{softmax(v[0], 1)}; }, {x}, x};
}

Problem cross_entropy_problem(std::int64_t rows, std::int64_t classes) {
  std::vector<std::int64_t> labels(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i * 7919 % 1000) % classes;
  const Tensor target = from_vector(labels, {rows});
  return {[target](const Tensors& v) { return Tensors{cross_entropy(v[0], target)}; },
          {random_normal({rows, classes})},
          ones({}),
          labels};
}

Problem max_pool_problem(const Shape& shape, const MaxPoolOptions& options) {
  const auto f = [options](const Tensors& v) { return Tensors{max_pool2d(v[0], options)}; };
  const Tensor x = random_normal(shape);
  return {f, {x}, ones(max_pool2d(x, options).shape())};
}

Row dropout_row() {
  const Tensor x = random_normal({std::int64_t{1} << 24});
  Row row;
  row.run = [x] { keep(dropout(x, 0.5, Key(1))); };
  row.bytes = 8.0 * static_cast<double>(x.numel());
  row.note = "fresh output";
  const torch_peer::Call torch = torch_peer::layer("dropout", x.data<float>(), {x.numel()}, {}, false);
  row.peers = {memcpy_peer(x, 0), {.name = "libtorch", .run = torch.run, .max_rounds = 5}};
  return row;
}

/// Rows "<title>/forward" and "<title>/backward"; the latter includes the forward pass. Target 0: reported only.
bool add_layer(const std::string& title, const std::string& name, const std::function<Problem()>& make, double target,
               double tolerance) {
  return add_row("layers/" + title + "/forward", [=] { return layer_row(name, make(), false, target, tolerance); }) &&
         add_row("layers/" + title + "/backward", [=] { return layer_row(name, make(), true, target, tolerance); });
}

const Shape kMaps = {64, 64, 32, 32};
const MaxPoolOptions kStem = {.window = 3, .stride = 2, .padding = 1};

const bool kRegistered[] = {
    add_layer(
        "batch_norm_64x64x32x32", "batch_norm", [] { return batch_norm_problem(kMaps); }, 4, 1e-4),
    add_layer(
        "batch_norm_4096x512", "batch_norm",
        [] {
          return batch_norm_problem({4096, 512});
        },
        0, 1e-4),
    add_layer("layer_norm_16384x768", "layer_norm", layer_norm_problem, 4, 1e-4),
    add_layer("softmax_16000x1000", "softmax", softmax_problem, 5, 1e-5),
    add_layer("softmax_channels_64x64x32x32", "softmax_channels", softmax_channels_problem, 2, 1e-5),
    add_layer(
        "cross_entropy_16384x1000", "cross_entropy", [] { return cross_entropy_problem(16384, 1000); }, 3, 1e-4),
    add_layer(
        "cross_entropy_4096x10", "cross_entropy", [] { return cross_entropy_problem(4096, 10); }, 3, 1e-4),
    add_layer(
        "max_pool_2x2_64x64x32x32", "max_pool_2x2", [] { return max_pool_problem(kMaps, {}); }, 1.5, 0),
    add_layer(
        "max_pool_3x3_16x64x56x56", "max_pool_stem",
        [] {
          return max_pool_problem({16, 64, 56, 56}, kStem);
        },
        1.5, 0),
    add_row("layers/dropout_16M", dropout_row),
};

}  // namespace
}  // namespace solvent::bench
