#pragma once
/// Containers of layers: one after the other, with a shortcut, densely connected.
///
///     nn::Sequential net{nn::Linear(784, 256, key.fold_in(0)), relu, nn::Dropout(0.2), nn::Linear(256, 10, key.fold_in(1))};
///     Tensor logits = net(x, key.fold_in(step));  // net(x) without layers that draw random numbers

#include <concepts>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "solvent/core/rng.h"
#include "solvent/nn/module.h"

namespace solvent::nn {

namespace detail {
[[noreturn]] SOLVENT_API void throw_key_wanted();
}  // namespace detail

/// A layer of any type as a value: a module or a function `Tensor(Tensor)`, or one that also takes a Key. Copies are deep, as
/// copies of modules are (slots of their own that share tensors).
class SOLVENT_API Layer {
 public:
  /// Wraps `f`: callable as f(x), f(x, key) or both, on a const object.
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, Layer> &&
           (std::is_invocable_r_v<Tensor, const std::decay_t<F>&, const Tensor&> ||
            std::is_invocable_r_v<Tensor, const std::decay_t<F>&, const Tensor&, Key>)) Layer(F&& f)
      : held_(std::make_unique<Held<std::decay_t<F>>>(std::forward<F>(f))) {}  // NOLINT: implicit, for lists

  /// A layer of its own that shares the tensors.
  Layer(const Layer& other) : held_(other.held_->clone()) {}
  /// Leaves `other` without a layer; it may only be assigned to or destroyed.
  Layer(Layer&& other) noexcept = default;
  /// As the constructors.
  Layer& operator=(const Layer& other) {
    held_ = other.held_->clone();
    return *this;
  }
  /// As the constructors.
  Layer& operator=(Layer&& other) noexcept = default;
  ~Layer() = default;

  /// @throws ValueError if the layer needs a Key; what the layer throws
  Tensor operator()(const Tensor& x) const { return held_->call(x, nullptr); }
  /// Layers without random numbers ignore the key.
  Tensor operator()(const Tensor& x, Key key) const { return held_->call(x, &key); }

  /// The module inside, or null for a function.
  [[nodiscard]] Module* module() noexcept { return held_->module(); }
  /// The object inside if it is an M, or null.
  template <class M>
  [[nodiscard]] M* get_if() noexcept {
    auto* held = dynamic_cast<Held<M>*>(held_.get());
    return held != nullptr ? &held->f : nullptr;
  }

 private:
  struct Base {
    virtual ~Base() = default;
    [[nodiscard]] virtual std::unique_ptr<Base> clone() const = 0;
    virtual Tensor call(const Tensor& x, const Key* key) const = 0;
    virtual Module* module() noexcept = 0;
  };

  template <class F>
  struct Held final : Base {
    F f;
    explicit Held(F value) : f(std::move(value)) {}
    std::unique_ptr<Base> clone() const override { return std::make_unique<Held>(f); }
    Tensor call(const Tensor& x, const Key* key) const override {
      if constexpr (std::is_invocable_r_v<Tensor, const F&, const Tensor&, Key>)
        if (key != nullptr) return f(x, *key);
      if constexpr (std::is_invocable_r_v<Tensor, const F&, const Tensor&>)
        return f(x);
      else
        detail::throw_key_wanted();
    }
    Module* module() noexcept override {
      if constexpr (std::derived_from<F, Module>)
        return &f;
      else
        return nullptr;
    }
  };

  std::unique_ptr<Base> held_;
};

/// Layers one after the other. Parameters are named by position ("0.weight") or by the names given.
class SOLVENT_API Sequential : public Module {
 public:
  Sequential() = default;
  /// Layers named "0", "1", ...
  Sequential(std::initializer_list<Layer> layers);

  /// Appends a layer under its position or a name. @throws ValueError for a name that is taken, empty or holds a dot
  Sequential& add(Layer layer);
  /// The same under a name.
  Sequential& add(std::string name, Layer layer);

  /// The last layer's result; x itself without layers. @throws ValueError if a layer needs a Key; what layers throw
  Tensor operator()(const Tensor& x) const;
  /// Layer i gets key.fold_in(i).
  Tensor operator()(const Tensor& x, Key key) const;

  /// Number of layers.
  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }
  /// Layer i < size().
  [[nodiscard]] Layer& operator[](std::size_t i) { return layers_.at(i); }
  /// The same for reading.
  [[nodiscard]] const Layer& operator[](std::size_t i) const { return layers_.at(i); }

  void visit(Visitor& visitor) override;

 private:
  std::vector<std::string> names_;
  std::vector<Layer> layers_;
};

/// y = body(x) + x, or body(x) + shortcut(x) (He et al. 2016, arXiv:1512.03385).
class SOLVENT_API Residual : public Module {
 public:
  /// Parameters are named "body.*" and "shortcut.*".
  explicit Residual(Layer body, std::optional<Layer> shortcut = {});

  /// @throws ShapeError unless both branches have one shape; what the layers throw
  Tensor operator()(const Tensor& x) const;
  /// The body gets key.fold_in(0), the shortcut key.fold_in(1).
  Tensor operator()(const Tensor& x, Key key) const;

  void visit(Visitor& visitor) override;

 private:
  Tensor call(const Tensor& x, const Key* key) const;

  Layer body_;
  std::optional<Layer> shortcut_;
};

/// Densely connected layers (Huang et al. 2017, arXiv:1608.06993): layer p sees the input and the results of all layers
/// before it, joined along the channels, z_p = layer_p([z_0, ..., z_{p-1}]); the result is [z_0, ..., z_n].
class SOLVENT_API DenseBlock : public Module {
 public:
  /// Parameters are named "denselayer1.*", "denselayer2.*", ... as in torchvision. `axis` is that of the channels.
  explicit DenseBlock(std::vector<Layer> layers, std::int64_t axis = 1);

  /// x (N, C, ...) -> (N, C + the layers' channels, ...). @throws what the layers and concat throw
  Tensor operator()(const Tensor& x) const;
  /// Layer p (from 0) gets key.fold_in(p).
  Tensor operator()(const Tensor& x, Key key) const;
  /// The result of layer p (from 0) alone, for `features` z_0, ..., z_p: what an iteration that updates all layers at once
  /// from their old inputs evaluates. @throws ValueError unless there are p + 1 features and a layer p
  [[nodiscard]] Tensor evaluate(std::size_t p, const Tensors& features) const;

  /// Number of layers.
  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }

  void visit(Visitor& visitor) override;

 private:
  Tensor call(const Tensor& x, const Key* key) const;

  std::vector<Layer> layers_;
  std::int64_t axis_;
};

}  // namespace solvent::nn
