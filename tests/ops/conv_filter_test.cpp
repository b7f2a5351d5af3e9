// Layouts of filters, and sums in trees.

#include "solvent/ops/cpu/conv_filter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "solvent/ops/cpu/conv_scratch.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

// Where a layout such as OIhw16i16o keeps an element, written down from its definition.
struct LayoutCase {
  std::string name;
  std::array<std::int64_t, 5> sizes;  // groups, O, I, kh, kw
  std::array<std::int64_t, 5> padded;
  std::vector<std::size_t> outer;  // axes outside of the blocks, the last one varies fastest
  std::vector<cpu::FilterBlock> inner;
};

const std::vector<LayoutCase> kLayouts = {
    {"OIhw16i16o", {1, 40, 20, 2, 3}, {1, 48, 32, 2, 3}, {0, 1, 2, 3, 4}, {{16, 2}, {16, 1}}},
    {"OIhw16o16i", {1, 40, 20, 2, 3}, {1, 48, 32, 2, 3}, {0, 1, 2, 3, 4}, {{16, 1}, {16, 2}}},
    {"IOhw16o16i", {1, 32, 48, 1, 1}, {1, 32, 48, 1, 1}, {0, 2, 1, 3, 4}, {{16, 1}, {16, 2}}},
    {"OIhw8i8o", {1, 12, 9, 5, 5}, {1, 16, 16, 5, 5}, {0, 1, 2, 3, 4}, {{8, 2}, {8, 1}}},
    {"Ohwi16o", {1, 64, 3, 7, 7}, {1, 64, 3, 7, 7}, {0, 1, 3, 4, 2}, {{16, 1}}},
    {"OIhw4i16o4i", {1, 16, 16, 3, 3}, {1, 16, 16, 3, 3}, {0, 1, 2, 3, 4}, {{4, 2}, {16, 1}, {4, 2}}},
    {"gOIhw16i16o", {3, 8, 5, 3, 3}, {3, 16, 16, 3, 3}, {0, 1, 2, 3, 4}, {{16, 2}, {16, 1}}},
    {"Goihw16g", {24, 1, 1, 3, 3}, {32, 1, 1, 3, 3}, {0, 1, 2, 3, 4}, {{16, 0}}},
    {"hwio", {1, 12, 5, 3, 2}, {1, 12, 5, 3, 2}, {3, 4, 2, 1, 0}, {}},
    {"oihw", {1, 3, 5, 3, 2}, {1, 3, 5, 3, 2}, {0, 1, 2, 3, 4}, {}},
};

TEST_CASE("conv filter: elements lie where the layout's definition says, the padding is 0, and unpack is the inverse") {
  for (const LayoutCase& c : kLayouts) {
    INFO(c.name);
    std::array<cpu::FilterAxis, 5> axes;
    std::int64_t stride = 1;
    for (std::size_t i = 5; i-- > 0;
         stride *= c.sizes[i] + (i == 2 ? 1 : 0))  // a part of filters with one more channel
      axes[i] = {c.sizes[i], stride, c.padded[i], 0};
    const std::int64_t plain_count = stride;
    std::array<std::int64_t, 5> rest = c.padded;
    std::int64_t count = 1;
    for (const cpu::FilterBlock& block : c.inner) {
      rest[block.axis] /= block.size;
      count *= block.size;
    }
    for (std::size_t i = c.outer.size(); i-- > 0; count *= rest[c.outer[i]]) axes[c.outer[i]].blocked = count;
    const cpu::FilterLayout layout(axes, c.inner);

    const Tensor plain = normal_sample(Key(5), 0, {plain_count}, float32);
    const float* const from = plain.data<float>();
    const cpu::Scratch blocked = cpu::Scratch::of<float>(count);
    auto* const to = blocked.as<float>();
    std::fill(to, to + count, 7.0f);
    layout.pack(from, to);

    std::vector<float> expected(static_cast<std::size_t>(count), 0.0f);
    std::array<std::int64_t, 5> at{};
    for (std::int64_t n = 0; n < c.sizes[0] * c.sizes[1] * c.sizes[2] * c.sizes[3] * c.sizes[4]; ++n) {
      std::int64_t index = n;
      std::int64_t source = 0;
      for (std::size_t i = 5; i-- > 0; index /= c.sizes[i]) {
        at[i] = index % c.sizes[i];
        source += at[i] * axes[i].stride;
      }
      std::int64_t target = 0;
      std::int64_t step = 1;
      for (std::size_t b = c.inner.size(); b-- > 0; step *= c.inner[b].size) {
        std::int64_t& position = at[c.inner[b].axis];
        target += position % c.inner[b].size * step;
        position /= c.inner[b].size;
      }
      for (std::size_t i = 0; i < 5; ++i) target += at[i] * axes[i].blocked;
      expected[static_cast<std::size_t>(target)] = from[source];
    }
    CHECK(std::vector<float>(to, to + count) == expected);

    std::vector<float> back(static_cast<std::size_t>(plain_count), 0.0f);
    layout.unpack(to, back.data());
    for (std::int64_t n = 0; n < plain_count; ++n) {
      const bool is_other_channel = n / axes[2].stride % (c.sizes[2] + 1) == c.sizes[2];
      INFO(n);
      CHECK(back[static_cast<std::size_t>(n)] == (is_other_channel ? 0.0f : from[n]));
    }
  }
}

TEST_CASE("conv filter: a tree adds every part once, in an order that depends on their number only") {
  const std::int64_t count = 48;
  for (const std::int64_t parts : {1, 2, 3, 5, 8, 11, 16}) {
    INFO(parts << " parts");
    const Tensor values = normal_sample(Key(6), 0, {parts, count}, float32);
    const auto total = [&](auto&& order) {
      const cpu::Scratch sums = cpu::Scratch::of<float>(parts * count);
      auto* const memory = sums.as<float>();
      std::copy_n(values.data<float>(), parts * count, memory);
      cpu::SumTree tree(parts);
      for (std::int64_t i = 0; i < parts; ++i) tree.add(order(i), memory, count);
      return std::vector<float>(memory, memory + count);
    };
    const std::vector<float> up = total([](std::int64_t i) { return i; });
    CHECK(total([&](std::int64_t i) { return parts - 1 - i; }) == up);
    CHECK(total([&](std::int64_t i) { return parts % 2 ? 2 * i % parts : i ^ 1; }) == up);
    const Array wide(values);
    for (std::int64_t j = 0; j < count; ++j) {
      double expected = 0;
      for (std::int64_t i = 0; i < parts; ++i) expected += wide[i * count + j];
      CHECK(std::abs(up[static_cast<std::size_t>(j)] - expected) <= 1e-5);
    }
  }
}

}  // namespace
}  // namespace solvent::testing
