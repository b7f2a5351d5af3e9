// Sorting along an axis on the CPU.
//
// Elements are mapped to unsigned keys whose order is the one wanted (descending: complemented), so that all types and both
// directions share one sort of (key, position). Long lines: least significant digit radix sort, 8 bits per pass, which is
// stable by itself; passes in which all digits agree are skipped. Short lines and few largest elements: comparison of
// (key, position), which is a strict order, so that the result does not depend on the algorithm. Lines are independent and
// run in parallel, in waves that share scratch memory.

#include "solvent/ops/cpu/sort_kernels.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/sort_key.h"

namespace solvent::cpu {
namespace {

using solvent::detail::sort_key;
using solvent::detail::SortKey;

constexpr std::int64_t kRadixLength = 64;     // below, counting digits costs more than comparing
constexpr std::int64_t kGrain = 1 << 14;      // elements per task
constexpr std::int64_t kPartialFraction = 8;  // select first if at most 1 / 8 of a line is wanted

template <class Key>
struct Item {
  Key key;
  std::uint32_t position;
  friend bool operator<(const Item& a, const Item& b) noexcept {
    return a.key < b.key || (a.key == b.key && a.position < b.position);
  }
};

// Sorts n items; the result is in the returned one of the two arrays.
template <class Key>
Item<Key>* radix_sort(Item<Key>* items, Item<Key>* other, std::int64_t n) noexcept {
  constexpr int kPasses = sizeof(Key);
  std::array<std::array<std::uint32_t, 256>, kPasses> counts{};
  for (std::int64_t i = 0; i < n; ++i)
    for (std::size_t pass = 0; pass < kPasses; ++pass) ++counts[pass][(items[i].key >> (8 * pass)) & 255];
  for (std::size_t pass = 0; pass < kPasses; ++pass) {
    auto& count = counts[pass];
    if (count[(items[0].key >> (8 * pass)) & 255] == static_cast<std::uint32_t>(n)) continue;
    std::uint32_t start = 0;
    for (std::uint32_t& c : count) start += std::exchange(c, start);
    for (std::int64_t i = 0; i < n; ++i) other[count[(items[i].key >> (8 * pass)) & 255]++] = items[i];
    std::swap(items, other);
  }
  return items;
}

// The first `count` of n items in order. A selection shuffles items of equal keys, so what it leaves is compared, not
// distributed by digits.
template <class Key>
const Item<Key>* first_sorted(Item<Key>* items, Item<Key>* other, std::int64_t n, std::int64_t count) noexcept {
  const bool few = count <= n / kPartialFraction;
  if (!few && n >= kRadixLength) return radix_sort(items, other, n);
  if (few && count > 0) std::nth_element(items, items + (count - 1), items + n);
  std::sort(items, items + (few ? count : n));
  return items;
}

struct Lines {
  std::int64_t outer = 1;
  std::int64_t size = 0;
  std::int64_t inner = 1;
  std::int64_t count = 0;
};

template <class T>
void sort_line(const T* x, const Lines& lines, bool descending, Item<SortKey<T>>* scratch, T* value,
               std::int64_t* index) noexcept {
  using Key = SortKey<T>;
  const Key flip = descending ? ~Key{0} : Key{0};
  for (std::int64_t i = 0; i < lines.size; ++i)
    scratch[i] = {static_cast<Key>(sort_key(x[i * lines.inner]) ^ flip), static_cast<std::uint32_t>(i)};
  const Item<Key>* sorted = first_sorted(scratch, scratch + lines.size, lines.size, lines.count);
  for (std::int64_t i = 0; i < lines.count; ++i) {
    const std::int64_t from = sorted[i].position;
    value[i * lines.inner] = x[from * lines.inner];
    index[i * lines.inner] = from;
  }
}

template <class T>
void sort_lines(const T* x, const Lines& lines, bool descending, T* value, std::int64_t* index) {
  using Items = Item<SortKey<T>>;
  const std::int64_t total = lines.outer * lines.inner;
  const std::int64_t group = std::max<std::int64_t>(1, kGrain / lines.size);
  const std::int64_t tasks = (total + group - 1) / group;
  const std::int64_t slots = std::min<std::int64_t>(tasks, 4 * num_threads());
  const std::int64_t slot_items = 2 * lines.size;
  const auto bytes = slots * slot_items * static_cast<std::int64_t>(sizeof(Items));
  Tensor scratch = engine::empty({bytes / 8 + 1}, int64, cpu_device);
  auto* items = reinterpret_cast<Items*>(engine::mutable_ptr<std::int64_t>(scratch));
  for (std::int64_t wave = 0; wave < tasks; wave += slots) {
    parallel_for(std::min(slots, tasks - wave), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t slot = begin; slot < end; ++slot) {
        const std::int64_t first = (wave + slot) * group;
        for (std::int64_t line = first; line < std::min(first + group, total); ++line) {
          const std::int64_t o = line / lines.inner;
          const std::int64_t i = line % lines.inner;
          const std::int64_t to = o * lines.count * lines.inner + i;
          sort_line(x + o * lines.size * lines.inner + i, lines, descending, items + slot * slot_items, value + to,
                    index + to);
        }
      }
    });
  }
}

}  // namespace

std::pair<Tensor, Tensor> sort(const Tensor& x, int axis, std::int64_t count, bool descending) {
  const Tensor dense = engine::contiguous(x);
  Lines lines;
  lines.size = x.shape()[axis];
  lines.count = count;
  for (int i = 0; i < axis; ++i) lines.outer *= x.shape()[i];
  for (int i = axis + 1; i < x.rank(); ++i) lines.inner *= x.shape()[i];
  Shape shape = x.shape();
  shape[axis] = count;
  Tensor value = engine::empty(shape, x.dtype(), x.device());
  Tensor index = engine::empty(shape, int64, x.device());
  if (value.numel() == 0) return {std::move(value), std::move(index)};
  const auto run = [&](auto tag) {
    using T = typename decltype(tag)::type;
    sort_lines(engine::ptr<T>(dense), lines, descending, engine::mutable_ptr<T>(value),
               engine::mutable_ptr<std::int64_t>(index));
  };
  if (x.dtype() == int64) {
    run(solvent::detail::TypeTag<std::int64_t>{});
  } else {
    dispatch_float(x.dtype(), "sort", run);
  }
  return {std::move(value), std::move(index)};
}

}  // namespace solvent::cpu
