#include "solvent/nn/sequential.h"

#include <algorithm>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace detail {
void throw_key_wanted() {
  throw ValueError("[Layer] this layer draws random numbers and was called without a Key; call it as layer(x, key).");
}
}  // namespace detail

namespace {

Tensor call_layer(const Layer& layer, const Tensor& x, const Key* key, std::uint64_t number) {
  return key != nullptr ? layer(x, key->fold_in(number)) : layer(x);
}

void visit_layer(Visitor& visitor, const std::string& name, Layer& layer) {
  if (Module* module = layer.module(); module != nullptr) visitor(name, *module);
}

}  // namespace

// --- Sequential ------------------------------------------------------------------------------------------------------

Sequential::Sequential(std::initializer_list<Layer> layers) {
  for (const Layer& layer : layers) add(layer);
}

Sequential& Sequential::add(Layer layer) { return add(std::to_string(layers_.size()), std::move(layer)); }

Sequential& Sequential::add(std::string name, Layer layer) {
  if (name.empty() || name.find('.') != std::string::npos ||
      std::find(names_.begin(), names_.end(), name) != names_.end())
    throw ValueError(
        fmt::format("[Sequential] got the name '{}'; expected one that is not empty, has no dot and is not "
                    "taken by another layer.",
                    name));
  names_.push_back(std::move(name));
  layers_.push_back(std::move(layer));
  return *this;
}

Tensor Sequential::operator()(const Tensor& x) const {
  Tensor y = x;
  for (const Layer& layer : layers_) y = layer(y);
  return y;
}

Tensor Sequential::operator()(const Tensor& x, Key key) const {
  Tensor y = x;
  for (std::size_t i = 0; i < layers_.size(); ++i) y = layers_[i](y, key.fold_in(i));
  return y;
}

void Sequential::visit(Visitor& visitor) {
  for (std::size_t i = 0; i < layers_.size(); ++i) visit_layer(visitor, names_[i], layers_[i]);
}

// --- Residual --------------------------------------------------------------------------------------------------------

Residual::Residual(Layer body, std::optional<Layer> shortcut)
    : body_(std::move(body)), shortcut_(std::move(shortcut)) {}

Tensor Residual::call(const Tensor& x, const Key* key) const {
  Tensor y = call_layer(body_, x, key, 0);
  Tensor direct = shortcut_ ? call_layer(*shortcut_, x, key, 1) : x;
  if (!(y.shape() == direct.shape()))  // broadcasting would hide a forgotten projection
    throw ShapeError(
        fmt::format("[Residual] got {} from the body and {} from the shortcut; expected the same shape. Give "
                    "a shortcut that projects x.",
                    describe(y), describe(direct)));
  return std::move(y) + std::move(direct);
}

Tensor Residual::operator()(const Tensor& x) const { return call(x, nullptr); }
Tensor Residual::operator()(const Tensor& x, Key key) const { return call(x, &key); }

void Residual::visit(Visitor& visitor) {
  visit_layer(visitor, "body", body_);
  if (shortcut_) visit_layer(visitor, "shortcut", *shortcut_);
}

// --- DenseBlock ------------------------------------------------------------------------------------------------------

DenseBlock::DenseBlock(std::vector<Layer> layers, std::int64_t axis) : layers_(std::move(layers)), axis_(axis) {}

Tensor DenseBlock::call(const Tensor& x, const Key* key) const {
  Tensors features = {x};
  for (std::size_t p = 0; p < layers_.size(); ++p)
    features.push_back(call_layer(layers_[p], p == 0 ? x : concat(features, axis_), key, p));
  return layers_.empty() ? x : concat(std::move(features), axis_);
}

Tensor DenseBlock::operator()(const Tensor& x) const { return call(x, nullptr); }
Tensor DenseBlock::operator()(const Tensor& x, Key key) const { return call(x, &key); }

Tensor DenseBlock::evaluate(std::size_t p, const Tensors& features) const {
  if (p >= layers_.size() || features.size() != p + 1)
    throw ValueError(fmt::format(
        "[DenseBlock] got layer {} and {} features; expected a layer below {} and one feature more than its "
        "number: the block's input and the results of the layers before.",
        p, features.size(), layers_.size()));
  return layers_[p](p == 0 ? features[0] : concat(features, axis_));
}

void DenseBlock::visit(Visitor& visitor) {
  for (std::size_t p = 0; p < layers_.size(); ++p)
    visit_layer(visitor, "denselayer" + std::to_string(p + 1), layers_[p]);
}

}  // namespace solvent::nn
