#include "solvent/core/rng.h"

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent {
namespace {

constexpr std::uint32_t low(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x); }
constexpr std::uint32_t high(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x >> 32); }
constexpr std::uint64_t join(std::uint32_t lo, std::uint32_t hi) noexcept { return std::uint64_t{hi} << 32 | lo; }

// XORed into the seed, so that derived keys never come from blocks that bits() hands out (digits of sqrt 2 and sqrt 3).
constexpr std::uint64_t kSplitDomain = 0x6A09E667F3BCC908u;
constexpr std::uint64_t kFoldDomain = 0xBB67AE8584CAA73Bu;

// For a fixed seed this maps (stream, number) one to one to the new key: distinct numbers cannot collide.
constexpr Key derive(const Key& key, std::uint64_t domain, std::uint64_t number) noexcept {
  const std::uint64_t seed = key.seed ^ domain;
  const philox::Counter block =
      philox::block({low(number), high(number), low(key.stream), high(key.stream)}, {low(seed), high(seed)});
  return Key(join(block[0], block[1]), join(block[2], block[3]));
}

}  // namespace

std::vector<Key> Key::split(int n) const {
  if (n < 0) throw ValueError(fmt::format("[split] got n = {}; expected the number of keys, at least 0.", n));
  std::vector<Key> keys;
  keys.reserve(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) keys.push_back(derive(*this, kSplitDomain, static_cast<std::uint64_t>(i)));
  return keys;
}

Key Key::fold_in(std::uint64_t number) const noexcept { return derive(*this, kFoldDomain, number); }

std::uint32_t Key::bits(std::uint64_t i) const noexcept { return philox::words(seed, stream, i / 4).word[i % 4]; }

double Key::uniform(std::uint64_t i) const noexcept {
  const philox::Words block = philox::words(seed, stream, i / 2);  // words 2i and 2i + 1 lie in one block of four
  const std::uint64_t word = join(block.word[2 * (i % 2) + 1], block.word[2 * (i % 2)]);
  return static_cast<double>(word >> 11) * 0x1p-53;
}

}  // namespace solvent
