#pragma once
/// Shapes and strides: up to eight 64-bit extents stored inline (no allocation).

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "solvent/core/export.h"

namespace solvent {

/// Largest number of axes of a tensor.
inline constexpr int kMaxRank = 8;

namespace detail {
[[noreturn]] SOLVENT_API void throw_rank(std::int64_t rank);
[[noreturn]] SOLVENT_API void throw_axis(const char* op, std::int64_t axis, int rank);
}  // namespace detail

/// A list of at most kMaxRank integers. Used for shapes, strides (in elements) and axis lists.
class Dims {
 public:
  constexpr Dims() = default;
  /// From a list of values. @throws ShapeError if there are more than kMaxRank.
  /// @{
  constexpr Dims(std::initializer_list<std::int64_t> values) { assign(values.begin(), values.size()); }
  Dims(const std::vector<std::int64_t>& values) { assign(values.data(), values.size()); }  // NOLINT: implicit
  explicit constexpr Dims(std::span<const std::int64_t> values) { assign(values.data(), values.size()); }
  /// @}
  /// `rank` copies of `value`.
  static constexpr Dims filled(int rank, std::int64_t value) {
    Dims d;
    for (int i = 0; i < rank; ++i) d.push_back(value);
    return d;
  }

  /// Number of entries, and whether there are none.
  /// @{
  [[nodiscard]] constexpr int rank() const noexcept { return rank_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return static_cast<std::size_t>(rank_); }
  [[nodiscard]] constexpr bool empty() const noexcept { return rank_ == 0; }
  /// @}

  /// Unchecked access, 0 <= i < rank.
  /// @{
  constexpr std::int64_t operator[](int i) const noexcept { return values_[i]; }
  constexpr std::int64_t& operator[](int i) noexcept { return values_[i]; }
  /// @}
  /// Checked access; negative axes count from the right. @throws ShapeError
  [[nodiscard]] constexpr std::int64_t at(std::int64_t axis) const {
    if (axis < -rank_ || axis >= rank_) detail::throw_axis("shape", axis, rank_);
    return values_[axis < 0 ? axis + rank_ : axis];
  }

  /// Entries in order; front() and back() need at least one.
  /// @{
  constexpr const std::int64_t* begin() const noexcept { return values_; }
  constexpr const std::int64_t* end() const noexcept { return values_ + rank_; }
  constexpr std::int64_t* begin() noexcept { return values_; }
  constexpr std::int64_t* end() noexcept { return values_ + rank_; }
  [[nodiscard]] constexpr std::int64_t front() const noexcept { return values_[0]; }
  [[nodiscard]] constexpr std::int64_t back() const noexcept { return values_[rank_ - 1]; }
  /// @}

  /// Appends an entry. @throws ShapeError beyond kMaxRank.
  constexpr void push_back(std::int64_t v) {
    if (rank_ == kMaxRank) detail::throw_rank(rank_ + 1);
    values_[rank_++] = v;
  }
  /// Removes the last entry of a list that is not empty.
  constexpr void pop_back() noexcept { --rank_; }
  /// Inserts before position i, 0 <= i <= rank.
  constexpr void insert(int i, std::int64_t v) {
    push_back(v);
    for (int j = rank_ - 1; j > i; --j) values_[j] = values_[j - 1];
    values_[i] = v;
  }
  /// Removes entry i, 0 <= i < rank.
  constexpr void erase(int i) noexcept {
    for (int j = i; j + 1 < rank_; ++j) values_[j] = values_[j + 1];
    --rank_;
  }

  /// Product of all entries (1 for rank 0).
  [[nodiscard]] constexpr std::int64_t product() const noexcept {
    std::int64_t p = 1;
    for (int i = 0; i < rank_; ++i) p *= values_[i];
    return p;
  }

  friend constexpr bool operator==(const Dims& a, const Dims& b) noexcept {
    return a.rank_ == b.rank_ && std::equal(a.begin(), a.end(), b.begin());
  }

 private:
  constexpr void assign(const std::int64_t* values, std::size_t n) {
    if (n > static_cast<std::size_t>(kMaxRank)) detail::throw_rank(static_cast<std::int64_t>(n));
    for (std::size_t i = 0; i < n; ++i) values_[i] = values[i];
    rank_ = static_cast<int>(n);
  }

  std::int64_t values_[kMaxRank] = {};
  int rank_ = 0;
};

/// What the integers mean: extents of axes, distances in elements, or numbers of axes.
/// @{
using Shape = Dims;
using Strides = Dims;
using Axes = Dims;
/// @}

/// "(2, 3)", "(4,)", "()".
SOLVENT_API std::string to_string(const Dims& dims);

/// Row-major strides in elements.
constexpr Strides contiguous_strides(const Shape& shape) {
  Strides s = Dims::filled(shape.rank(), 1);
  for (int i = shape.rank() - 2; i >= 0; --i) s[i] = s[i + 1] * std::max<std::int64_t>(shape[i + 1], 1);
  return s;
}

/// Maps an axis in [-rank, rank) to [0, rank). @throws ShapeError naming `op`.
constexpr int normalise_axis(const char* op, std::int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) detail::throw_axis(op, axis, rank);
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

/// NumPy broadcasting of two shapes (right-aligned, extents equal or 1). @throws ShapeError naming `op`.
SOLVENT_API Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

/// shape with `k` put before the first axis; the shape of K tangent directions.
constexpr Shape prepend(std::int64_t k, Shape shape) {
  shape.insert(0, k);
  return shape;
}

}  // namespace solvent
