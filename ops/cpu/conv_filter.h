#pragma once
/// Filters and their gradients in the layouts of oneDNN. Internal to ops/cpu.
///
/// oneDNN's own reorders move about 0.5 elements of a filter per nanosecond on one thread, which was up to a tenth of a
/// convolution; these move 1 to 5, on all threads.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "solvent/core/export.h"

namespace solvent::cpu {

/// Adds partial sums in pairs, then the sums of pairs, and so on: the order depends on the number of parts only, but each
/// sum is computed by the thread that comes second, so that almost all of them stay in one core's cache. Adding all parts
/// at the end costs three times as much, since lines that a core has written cross over to another, and back in the next
/// call.
class SOLVENT_API SumTree {
 public:
  explicit SumTree(std::int64_t num_parts) : num_parts_(num_parts), arrived_(static_cast<std::size_t>(num_parts)) {}

  /// Says that a part is complete. `sums` holds the parts one behind the other, `count` floats each (a multiple of 16);
  /// the last call leaves their sum in the first. To be called once for every part, by any thread.
  void add(std::int64_t part, float* sums, std::int64_t count) noexcept;

 private:
  std::int64_t num_parts_;
  std::vector<std::atomic<int>> arrived_;  // how many of the two sums whose second part begins here are complete
};

/// One of a filter's axes: groups, O, I, kh, kw.
struct FilterAxis {
  std::int64_t size = 1;
  std::int64_t stride = 0;  ///< in the row-major filter, which may be a part of a larger one
  std::int64_t padded = 1;  ///< extent in the blocked layout
  /// Stride in the blocked layout of what is left of a position when it is divided by the blocks of its axis.
  std::int64_t blocked = 0;
};

/// A block inside of a layout. The last one varies fastest.
struct FilterBlock {
  std::int64_t size;
  std::size_t axis;
};

/// Moves filters between row-major memory and a blocked layout.
///
/// The place of an element is a sum of one offset per axis, whatever the blocks are, so tables of these offsets describe
/// every layout. The axis whose neighbours are neighbours in memory, channels as a rule, is moved in vectors.
class SOLVENT_API FilterLayout {
 public:
  FilterLayout() = default;
  FilterLayout(const std::array<FilterAxis, 5>& axes, const std::vector<FilterBlock>& blocks);

  /// Row-major to blocked; channels of the padding become 0. `blocked` begins at a cache line. On all threads.
  void pack(const float* plain, float* blocked) const noexcept;
  /// Blocked to row-major. On all threads.
  void unpack(const float* blocked, float* plain) const noexcept;

 private:
  struct Channels {
    std::int64_t size = 1;
    std::int64_t stride = 0;               // row-major
    std::vector<std::int64_t> offsets{0};  // blocked, for every position with the padding
    [[nodiscard]] std::int64_t padded() const noexcept { return static_cast<std::int64_t>(offsets.size()); }
    [[nodiscard]] std::int64_t offset(std::int64_t i) const noexcept { return offsets[static_cast<std::size_t>(i)]; }
  };
  struct Tap {
    std::int64_t plain;
    std::int64_t blocked;
  };
  template <class Move>
  void for_vectors(Move&& move) const noexcept;

  std::array<Channels, 3> channels_;  // groups, O and I; first those that are moved in vectors
  std::vector<Tap> taps_;
  std::int64_t lanes_ = 1;  // of a vector
};

}  // namespace solvent::cpu
