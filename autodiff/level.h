#pragma once
/// Levels and boxes. Internal to autodiff/: nothing outside this folder includes it.
///
/// A transform pushes a Level on the thread's stack. A value touched by it is a boxed tensor: a handle that shares the
/// primal's storage and carries a Box naming the level. Depth (position in the stack) orders levels; the serial number
/// identifies them, so a tensor that outlives its transform is recognised.

#include <cstdint>

#include "solvent/core/tensor.h"

namespace solvent::detail {

class Tape;

struct Level {
  std::uint64_t serial = 0;
  std::int64_t directions = 0;  // forward: K, 0 = plain tangents
  Tape* tape = nullptr;         // reverse only
  int depth = 0;                // 1-based position in the stack
  int barred = 0;               // > 0: values of this level may not be used (implicit functions)
};

struct Box : AdBox {
  std::uint64_t serial = 0;
  int depth = 0;
  std::int32_t value = -1;  // reverse: id on the tape
  Tensor primal;
  Tensor tangent;  // forward
};

inline Box* box_of(const Tensor& t) noexcept { return static_cast<Box*>(t.impl()->ad); }

inline constexpr int kMaxLevels = 64;

struct LevelStack {
  Level* items[kMaxLevels];
  int size;
};

extern constinit thread_local LevelStack t_levels;

/// Pushes a level for the duration of a scope.
class LevelScope {
 public:
  explicit LevelScope(Tape* tape, std::int64_t directions = 0);
  ~LevelScope();
  LevelScope(const LevelScope&) = delete;
  LevelScope& operator=(const LevelScope&) = delete;
  [[nodiscard]] const Level& level() const noexcept { return level_; }

  /// Boxes an input of the function: forward with its tangent (empty = constant), reverse with its value id.
  [[nodiscard]] Tensor box_forward(const Tensor& primal, Tensor tangent) const;
  [[nodiscard]] Tensor box_reverse(const Tensor& primal, std::int32_t value) const;

 private:
  Level level_;
};

/// What a value is at one level.
struct Peeled {
  Tensor primal;
  Tensor tangent;           // forward; empty = zero
  std::int32_t value = -1;  // reverse; -1 = constant
};

/// Takes `level` off a function result. Values not boxed at this level are constants to it.
Peeled peel(const Level& level, const Tensor& t);

/// All levels on the stack are barred for the duration of a scope; levels pushed inside are not.
class BarScope {
 public:
  explicit BarScope(const char* what);
  ~BarScope();
  BarScope(const BarScope&) = delete;
  BarScope& operator=(const BarScope&) = delete;

 private:
  int size_;
  const char* previous_;
};

/// New box around `primal` (which may itself be boxed at a lower level).
Tensor make_box(const Level& level, const Tensor& primal, Tensor tangent, std::int32_t value);

[[noreturn]] void throw_escaped(std::string_view op);
[[noreturn]] void throw_captured(std::string_view op);

}  // namespace solvent::detail
