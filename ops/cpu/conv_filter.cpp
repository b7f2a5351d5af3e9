#include "solvent/ops/cpu/conv_filter.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "solvent/core/parallel.h"

namespace solvent::cpu {
namespace {

constexpr std::int64_t kPieceElements = 1 << 14;  // of a parallel loop: 5 us
constexpr std::int64_t kMaxLanes = 16;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

// Where every position of an axis is, the other positions being 0.
std::vector<std::int64_t> offsets_of(const FilterAxis& axis, std::size_t index,
                                     const std::vector<FilterBlock>& blocks) {
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(axis.padded));
  for (std::size_t position = 0; position < offsets.size(); ++position) {
    auto rest = static_cast<std::int64_t>(position);
    std::int64_t stride = 1;
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
      if (block->axis == index) {
        offsets[position] += rest % block->size * stride;
        rest /= block->size;
      }
      stride *= block->size;
    }
    offsets[position] += rest * axis.blocked;
  }
  return offsets;
}

// The largest power of two, at most 16, such that all aligned runs of that length are neighbours in memory.
std::int64_t run_length(const std::vector<std::int64_t>& offsets) noexcept {
  for (std::int64_t run = kMaxLanes; run > 1; run /= 2) {
    const auto length = static_cast<std::size_t>(run);
    bool fits = offsets.size() % length == 0;
    for (std::size_t i = 0; fits && i < offsets.size(); ++i)
      fits = offsets[i] == offsets[i - i % length] + static_cast<std::int64_t>(i % length);
    if (fits) return run;
  }
  return 1;
}

// Four elements and a loop over them: what the baseline of x86-64 has. The loops here wait for caches, not for arithmetic.
constexpr std::int64_t kQuad = 4;

#if defined(__SSE2__)

// Past the caches: the readers of the last call sit on all cores, whose copies of a line would have to be invalidated one
// by one before an ordinary store (20 to 30 ns each, measured).
void stream(float* to, float a, float b, float c, float d) noexcept { _mm_stream_ps(to, _mm_setr_ps(a, b, c, d)); }
void finish_stream() noexcept { _mm_sfence(); }  // other threads read after the parallel region

void add(float* to, const float* from, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; i += kQuad)
    _mm_store_ps(to + i, _mm_add_ps(_mm_load_ps(to + i), _mm_load_ps(from + i)));
}

#else

void stream(float* to, float a, float b, float c, float d) noexcept {
  to[0] = a;
  to[1] = b;
  to[2] = c;
  to[3] = d;
}
void finish_stream() noexcept {}

void add(float* to, const float* from, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

#endif

template <std::int64_t kLanes>
void gather(const float* from, std::int64_t stride, float* to) noexcept {
  for (std::int64_t l = 0; l < kLanes; l += kQuad, from += kQuad * stride)
    stream(to + l, from[0], from[stride], from[2 * stride], from[3 * stride]);
}

// `count` of `lanes` elements from memory with a stride; the others become 0.
void gather(const float* from, std::int64_t stride, std::int64_t count, std::int64_t lanes, float* to) noexcept {
  if (count == 16) return gather<16>(from, stride, to);
  if (count == 8 && lanes == 8) return gather<8>(from, stride, to);
  if (lanes < kQuad) {
    for (std::int64_t l = 0; l < lanes; ++l) to[l] = l < count ? from[l * stride] : 0.0f;
    return;
  }
  const auto at = [=](std::int64_t l) { return l < count ? from[l * stride] : 0.0f; };
  for (std::int64_t l = 0; l < lanes; l += kQuad) stream(to + l, at(l), at(l + 1), at(l + 2), at(l + 3));
}

template <std::int64_t kLanes>
void scatter(const float* from, float* to, std::int64_t stride) noexcept {
  for (std::int64_t l = 0; l < kLanes; ++l) to[l * stride] = from[l];
}

void scatter(const float* from, std::int64_t count, float* to, std::int64_t stride) noexcept {
  if (count == 16) return scatter<16>(from, to, stride);
  if (count == 8) return scatter<8>(from, to, stride);
  for (std::int64_t l = 0; l < count; ++l) to[l * stride] = from[l];
}

}  // namespace

void SumTree::add(std::int64_t part, float* sums, std::int64_t count) noexcept {
  for (std::int64_t step = 1; step < num_parts_; step *= 2) {
    const std::int64_t left = part / (2 * step) * (2 * step);
    const std::int64_t right = left + step;
    part = left;
    if (right >= num_parts_) continue;
    if (arrived_[static_cast<std::size_t>(right)].fetch_add(1, std::memory_order_acq_rel) == 0) return;
    cpu::add(sums + left * count, sums + right * count, count);
  }
}

FilterLayout::FilterLayout(const std::array<FilterAxis, 5>& axes, const std::vector<FilterBlock>& blocks) {
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    channels_[i] = {axes[i].size, axes[i].stride, offsets_of(axes[i], i, blocks)};
    const std::int64_t run = run_length(channels_[i].offsets);
    if (run <= lanes_) continue;
    lanes_ = run;
    std::swap(channels_[0], channels_[i]);
  }
  const std::vector<std::int64_t> rows = offsets_of(axes[3], 3, blocks);
  const std::vector<std::int64_t> columns = offsets_of(axes[4], 4, blocks);
  for (std::int64_t i = 0; i < axes[3].size; ++i)
    for (std::int64_t j = 0; j < axes[4].size; ++j)
      taps_.push_back({i * axes[3].stride + j * axes[4].stride,
                       rows[static_cast<std::size_t>(i)] + columns[static_cast<std::size_t>(j)]});
  // Streaming stores want vectors at multiples of their size.
  bool is_aligned = true;
  for (const Channels& axis : channels_)
    for (std::size_t i = 0; i < axis.offsets.size(); i += &axis == &channels_[0] ? static_cast<std::size_t>(lanes_) : 1)
      is_aligned = is_aligned && axis.offsets[i] % lanes_ == 0;
  for (const Tap& tap : taps_) is_aligned = is_aligned && tap.blocked % lanes_ == 0;
  if (!is_aligned) lanes_ = 1;
}

// move(row-major offset, blocked offset, lanes that exist) for every vector.
template <class Move>
void FilterLayout::for_vectors(Move&& move) const noexcept {
  const Channels& rows = channels_[0];
  const Channels& outer = channels_[1];
  const Channels& inner = channels_[2];
  const std::int64_t pairs = outer.padded() * inner.padded();
  const std::int64_t grain = ceil_div(kPieceElements, static_cast<std::int64_t>(taps_.size()) * lanes_);
  parallel_for(rows.padded() / lanes_ * pairs, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t r = item / pairs * lanes_;
      const std::int64_t o = item % pairs / inner.padded();
      const std::int64_t i = item % pairs % inner.padded();
      const bool exists = o < outer.size && i < inner.size;
      const std::int64_t count = exists ? std::clamp<std::int64_t>(rows.size - r, 0, lanes_) : 0;
      const std::int64_t plain = r * rows.stride + o * outer.stride + i * inner.stride;
      const std::int64_t blocked = rows.offset(r) + outer.offset(o) + inner.offset(i);
      for (const Tap& tap : taps_) move(plain + tap.plain, blocked + tap.blocked, count);
    }
    finish_stream();
  });
}

void FilterLayout::pack(const float* plain, float* blocked) const noexcept {
  const std::int64_t stride = channels_[0].stride;
  const std::int64_t lanes = lanes_;
  for_vectors([=](std::int64_t from, std::int64_t to, std::int64_t count) {
    gather(plain + from, stride, count, lanes, blocked + to);
  });
}

void FilterLayout::unpack(const float* blocked, float* plain) const noexcept {
  const std::int64_t stride = channels_[0].stride;
  for_vectors([=](std::int64_t to, std::int64_t from, std::int64_t count) {
    scatter(blocked + from, count, plain + to, stride);
  });
}

}  // namespace solvent::cpu
