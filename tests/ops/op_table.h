#pragma once
/// The table of operations: one entry per operation, from which op_matrix_test.cpp makes all the checks that hold for
/// every operation. An entry says how to call the operation, what it must compute (a naive twin on doubles), and with
/// which inputs; the matrix does the rest. An operation without an entry fails the build's tests.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/rng.h"

namespace solvent::testing {

/// Host copy of a tensor in double, row-major: what naive twins work on.
struct Array {
  Shape shape;
  std::vector<double> values;

  Array() = default;
  explicit Array(Shape s, double fill = 0.0);
  Array(Shape s, std::vector<double> v);
  /// Copies any dtype and any strides (bool: 0 or 1).
  explicit Array(const Tensor& t);

  [[nodiscard]] std::int64_t numel() const { return static_cast<std::int64_t>(values.size()); }
  double& operator[](std::int64_t i) { return values[static_cast<std::size_t>(i)]; }
  double operator[](std::int64_t i) const { return values[static_cast<std::size_t>(i)]; }
  /// Element at a multi-index (one entry per axis).
  double& at(const Dims& index);
  [[nodiscard]] double at(const Dims& index) const;
};
using Arrays = std::vector<Array>;

/// Calls `f(index)` for every multi-index of `shape` in row-major order.
void for_each_index(const Shape& shape, const std::function<void(const Dims&)>& f);
/// NumPy broadcasting by index arithmetic.
Array broadcast(const Array& a, const Shape& shape);
/// Elementwise with broadcasting.
Array map(const Array& a, const std::function<double(double)>& f);
Array map(const Array& a, const Array& b, const std::function<double(double, double)>& f);

/// Lists of inputs for a sample of an operation, for a key and a dtype.
using Samples = std::function<std::vector<Tensors>(Key, DType)>;
/// One list of normal tensors for each entry: of one tensor, or of several.
Samples normals(std::vector<Shape> shapes);
Samples normals_of_several(std::vector<std::vector<Shape>> shapes);

/// Sample tensors. `n` separates the inputs of one sample: give each a different number.
Tensor normal_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype);
/// Uniform in [low, high).
Tensor uniform_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype, double low, double high);
/// Distinct values in random order, at least 1/4 apart, so that the largest stays the largest under small steps.
Tensor distinct_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype);
/// One such tensor per shape, as OpCase::samples wants them.
Samples distinct_samples(std::vector<Shape> shapes);
/// int64 in [low, high).
Tensor integer_sample(Key key, std::uint64_t n, const Shape& shape, std::int64_t low, std::int64_t high);
/// bool, true with probability 1/2.
Tensor boolean_sample(Key key, std::uint64_t n, const Shape& shape);

/// A call that must fail: type of the exception and parts of its text (what was given, what to do).
struct ErrorCase {
  std::string what;  ///< for the report: "axis out of range"
  std::function<void()> call;
  std::string type;               ///< "ShapeError", "DtypeError", "ValueError", "DeviceError"
  std::vector<std::string> text;  ///< every part must occur in the message; include "[name]" of the operation
};

/// One way of calling one or more operations.
struct OpCase {
  /// Unique; by convention the OpDef's name, or "name/variant".
  std::string name;
  /// Names of OpDefs that a call of `function` or of its derivatives reaches; the gate checks that together the entries
  /// cover all_ops(). The matrix verifies that the first one really is recorded (unless not differentiable).
  std::vector<std::string> covers;
  /// The call. Takes its inputs by value and should std::move them into the operation, so that donation is tested:
  ///     [](Tensors x) { return detail::one(tanh(std::move(x[0]))); }
  std::function<Tensors(Tensors)> function;
  /// Naive twin: same outputs from the inputs' values in double. For float32 the inputs are rounded first.
  std::function<Arrays(const Arrays&)> reference;
  /// Lists of inputs, in at least three shapes, with the given floating dtype (indices and masks keep theirs). Keep them
  /// small (at most about 60 elements: they go through second-order gradchecks) and away from kinks. Among them must be
  /// one with an empty input and one where every input has at most one element, unless `no_empty` / `no_single` say why not.
  Samples samples;
  /// Calls that must throw; at least one unless `no_errors` says why.
  std::vector<ErrorCase> errors = {};

  // --- tolerances: |got - expected| <= tol * max(1, |expected|) ------------------------------------------------------
  double tolerance_f64 = 1e-13;  ///< float64 value against the naive twin
  double tolerance_f32 = 2e-6;   ///< float32 value and first derivatives against float64

  // --- what holds ------------------------------------------------------------------------------------------------------
  /// Linear in its floating inputs together (checked: additivity, and <A x, y> = <x, A^T y> by vjp and jvp).
  bool linear = false;
  /// Strided inputs give the same bits as contiguous ones. If false, they agree to the tolerances.
  bool strided_bitwise = true;
  /// Larger inputs (about 100,000 elements) that reach parallel code, for 1 thread = 2 threads; else samples are used.
  std::function<Tensors(Key, DType)> large = nullptr;
  /// Options of gradcheck: step, absolute and relative tolerance against differences, and between modes.
  double gradcheck_eps = 1e-6;
  double gradcheck_atol = 1e-6;
  double gradcheck_rtol = 1e-5;
  double mode_tol = 1e-10;
  /// Reason to check first derivatives only.
  std::string no_second_order = {};

  // --- exceptions, each with its reason -----------------------------------------------------------------------------------
  std::string not_differentiable = {};  ///< results are constants (the OpDef says so too)
  std::string no_empty = {};
  std::string no_single = {};
  std::string no_errors = {};
  std::string no_float32 = {};
  std::string no_forward = {};  ///< reverse mode only, checked against differences
  std::string no_strided = {};  ///< e.g. no tensor inputs
};

/// Entries by family; each is defined in the file named.
std::vector<OpCase> elementwise_cases();   // op_table.cpp
std::vector<OpCase> activation_cases();    // op_table.cpp
std::vector<OpCase> conv_cases();          // op_table_conv.cpp
std::vector<OpCase> reduce_cases();        // op_table_reduce.cpp
std::vector<OpCase> loss_cases();          // op_table_reduce.cpp
std::vector<OpCase> norm_cases();          // op_table_norm.cpp
std::vector<OpCase> pool_cases();          // op_table_pool.cpp
std::vector<OpCase> random_cases();        // op_table_reduce.cpp
std::vector<OpCase> basis_cases();         // op_table_basis.cpp: autodiff's own ops and mechanism ops
std::vector<OpCase> shape_cases();         // op_table_shape.cpp: shape_ops and index
std::vector<OpCase> linalg_cases();        // op_table_linalg.cpp: linalg, scan, gru
std::vector<OpCase> einsum_cases();        // op_table_einsum.cpp, part of more_cases
std::vector<OpCase> distribution_cases();  // op_table_distributions.cpp, part of more_cases
std::vector<OpCase> more_cases();          // op_table_more.cpp: sort, matrix_parts, compositions
std::vector<OpCase> factor_cases();        // op_table_factor.cpp: factor, spectral

/// All of them, in that order.
const std::vector<OpCase>& op_table();

}  // namespace solvent::testing
