#pragma once
/// What an operation is: a constant record of kernels and derivative rules. Every operation of the library goes through
/// `apply()` (apply.h); all differentiation lives behind it, so kernels never see it.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "solvent/core/tensor.h"

namespace solvent {

/// A short list of tensors (outputs of an operation); up to three are stored inline.
class SOLVENT_API TensorVec {
 public:
  TensorVec() noexcept = default;
  /// n empty handles.
  explicit TensorVec(int n) : size_(n) {
    if (n > kInline) heap_ = std::make_unique<Tensor[]>(static_cast<std::size_t>(n));
  }
  /// From the tensors given.
  /// @{
  TensorVec(Tensor t) noexcept : size_(1) { inline_[0] = std::move(t); }  // NOLINT: implicit, the usual case
  TensorVec(Tensor a, Tensor b) noexcept : size_(2) {
    inline_[0] = std::move(a);
    inline_[1] = std::move(b);
  }
  TensorVec(Tensor a, Tensor b, Tensor c) noexcept : size_(3) {
    inline_[0] = std::move(a);
    inline_[1] = std::move(b);
    inline_[2] = std::move(c);
  }
  explicit TensorVec(Tensors values) : TensorVec(static_cast<int>(values.size())) {
    for (int i = 0; i < size_; ++i) (*this)[i] = std::move(values[static_cast<std::size_t>(i)]);
  }
  /// @}
  /// Moves only: a list owns its handles.
  /// @{
  TensorVec(TensorVec&& o) noexcept = default;
  TensorVec& operator=(TensorVec&& o) noexcept = default;
  /// @}

  /// Number of tensors.
  [[nodiscard]] int size() const noexcept { return size_; }
  /// Unchecked access in order.
  /// @{
  Tensor* data() noexcept { return heap_ ? heap_.get() : inline_; }
  [[nodiscard]] const Tensor* data() const noexcept { return heap_ ? heap_.get() : inline_; }
  Tensor& operator[](int i) noexcept { return data()[i]; }
  const Tensor& operator[](int i) const noexcept { return data()[i]; }
  Tensor* begin() noexcept { return data(); }
  Tensor* end() noexcept { return data() + size_; }
  [[nodiscard]] const Tensor* begin() const noexcept { return data(); }
  [[nodiscard]] const Tensor* end() const noexcept { return data() + size_; }
  /// @}
  /// Moves everything into a std::vector.
  Tensors take() {
    Tensors v(static_cast<std::size_t>(size_));
    for (int i = 0; i < size_; ++i) v[static_cast<std::size_t>(i)] = std::move((*this)[i]);
    return v;
  }

 private:
  static constexpr int kInline = 3;
  Tensor inline_[kInline];
  std::unique_ptr<Tensor[]> heap_;
  int size_ = 0;
};

/// Non-tensor arguments of an operation (axes, scalars, keys, target shapes).
///
/// Axes are counted from the right (negative), so that they stay valid when tangents carry a leading axis of K
/// directions. A front end makes its attributes on the stack; they are cloned only when a call is recorded.
struct SOLVENT_API Attrs {
  virtual ~Attrs();
  /// A copy that outlives the call; AttrsBase supplies it.
  [[nodiscard]] virtual std::unique_ptr<Attrs> clone() const = 0;
  /// For tape dumps, e.g. "axes=(-1)"; may be empty.
  [[nodiscard]] virtual std::string describe() const { return {}; }
  /// Where an operation without tensor inputs runs.
  [[nodiscard]] virtual Device device() const { return {}; }
};

/// Supplies clone(): `struct ReduceAttrs : AttrsBase<ReduceAttrs> { Axes axes; bool keepdims; };`
template <class Derived>
struct AttrsBase : Attrs {
  /// A copy of the derived object.
  [[nodiscard]] std::unique_ptr<Attrs> clone() const override {
    return std::make_unique<Derived>(static_cast<const Derived&>(*this));
  }
};

/// How much of an input or output the derivative rules read.
enum class Save : std::uint8_t { none, shape, data };

/// What a derivative rule sees of one call of its operation. Saved values still carry the derivative information of
/// outer transforms, which is why rules written with ordinary ops are right at every order.
class SOLVENT_API Rule {
 public:
  /// Made by the levels, not by users; `needs` is null if all cotangents are wanted.
  Rule(const struct OpDef& op, const Attrs* attrs, const Tensor* inputs, int num_inputs, const Tensor* outputs,
       int num_outputs, std::int64_t directions, const bool* needs) noexcept
      : op_(op),
        attrs_(attrs),
        inputs_(inputs),
        outputs_(outputs),
        needs_(needs),
        num_inputs_(num_inputs),
        num_outputs_(num_outputs),
        directions_(directions) {}

  /// Primal value; the OpDef must declare Save::data for it. @throws AutodiffError otherwise.
  /// @{
  [[nodiscard]] const Tensor& input(int i) const;
  [[nodiscard]] const Tensor& output(int i = 0) const;
  /// @}
  /// Shape, dtype, device of an input or output declared Save::shape or Save::data. @throws AutodiffError otherwise.
  /// @{
  [[nodiscard]] const Shape& input_shape(int i) const;
  [[nodiscard]] const Shape& output_shape(int i = 0) const;
  [[nodiscard]] DType input_dtype(int i) const;
  [[nodiscard]] Device input_device(int i) const;
  /// @}
  /// Number of inputs or outputs of the call.
  /// @{
  [[nodiscard]] int num_inputs() const noexcept { return num_inputs_; }
  [[nodiscard]] int num_outputs() const noexcept { return num_outputs_; }
  /// @}
  /// Forward rules: number K of directions on the leading axis of every tangent, or 0 for plain tangents.
  [[nodiscard]] std::int64_t directions() const noexcept { return directions_; }
  /// Shape of input i's (output i's) tangent: `input_shape(i)` with K in front if K > 0.
  /// @{
  [[nodiscard]] Shape tangent_shape(int i) const;
  [[nodiscard]] Shape output_tangent_shape(int i = 0) const;
  /// @}
  /// Reverse rules: whether a cotangent for input i is wanted (others may be left empty).
  [[nodiscard]] bool needs(int i) const noexcept { return needs_ == nullptr || needs_[i]; }
  /// The attributes of the call; A is the type that the front end made.
  template <class A>
  [[nodiscard]] const A& attrs() const noexcept {
    return static_cast<const A&>(*attrs_);
  }
  /// The same for operations that are also called without attributes: null then.
  template <class A>
  [[nodiscard]] const A* attrs_if_any() const noexcept {
    return static_cast<const A*>(attrs_);
  }

 private:
  const Tensor& checked(const Tensor* values, int i, bool data, const char* what) const;

  const OpDef& op_;
  const Attrs* attrs_;
  const Tensor* inputs_;
  const Tensor* outputs_;
  const bool* needs_;
  int num_inputs_;
  int num_outputs_;
  std::int64_t directions_;
};

/// Computes the outputs from unboxed inputs that share one device. May move from `inputs` to reuse their memory
/// (engine::take_or_empty). Trusts its inputs: the front end has checked them.
using Kernel = TensorVec (*)(std::span<Tensor> inputs, const Attrs* attrs);
/// Tangents of the outputs from the tangents of the inputs (an empty handle is a zero). Written with front ends only.
using JvpRule = TensorVec (*)(const Rule& rule, std::span<const Tensor> tangents);
/// Cotangents of the inputs from those of the outputs (an empty handle is a zero). Written with front ends only.
using VjpRule = TensorVec (*)(const Rule& rule, std::span<const Tensor> cotangents);
/// Mechanism ops only (checkpoint): outputs followed by their tangents, computed together.
using JointJvp = TensorVec (*)(std::span<Tensor> inputs, std::span<const Tensor> tangents, const Attrs* attrs,
                               std::int64_t directions);

/// Number of inputs for which an OpDef can say separately what is saved.
inline constexpr int kMaxSaves = 8;

/// The record of one operation; define it `constinit const` in a .cpp file beside its rules.
struct OpDef {
  std::string_view name;  ///< for errors, dumps and the op table; unique
  Kernel cpu = nullptr;   ///< computes on the CPU
  Kernel cuda = nullptr;  ///< computes on a GPU; null in builds without CUDA
  JvpRule jvp = nullptr;  ///< forward rule
  VjpRule vjp = nullptr;  ///< reverse rule
  /// Union of what jvp and vjp read. Operations with more inputs repeat the last entry set by `num_saves`.
  Save inputs[kMaxSaves] = {};
  int num_saves = 1;          ///< entries of `inputs` in use
  Save outputs = Save::none;  ///< what the rules read of the outputs
  /// False: results are constants (comparisons, floor, argmax, integer results); jvp and vjp stay null.
  bool differentiable = true;
  JointJvp joint_jvp = nullptr;  ///< in place of `jvp`, for operations that compute value and tangent together

  /// What the rules read of input i.
  [[nodiscard]] constexpr Save save_of_input(int i) const noexcept { return inputs[i < num_saves ? i : num_saves - 1]; }
};

}  // namespace solvent
