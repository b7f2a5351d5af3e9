#pragma once
/// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
///
/// There is no generator state. A Key names a stream; element i of a random tensor is a pure function of (key, i):
/// counter floor(i / 4), lane i mod 4. So threads, chunking and device do not matter, and Key = f(seed, epoch, step)
/// leaves nothing to checkpoint.

#include <array>
#include <cstdint>
#include <vector>

#include "solvent/core/export.h"

namespace solvent {

/// The bare generator; everything else is Key.
namespace philox {
/// Input and output of the generator: 128 bits.
using Counter = std::array<std::uint32_t, 4>;
/// Key of the generator: 64 bits.
using Seed = std::array<std::uint32_t, 2>;

/// Four words in a plain array, which kernels can index.
struct Words {
  std::uint32_t word[4];  ///< in the order of the stream
};

/// Ten rounds of Philox4x32.
SOLVENT_HD constexpr Words rounds(Words c, std::uint32_t key0, std::uint32_t key1) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c.word[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c.word[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.word[1] ^ key0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.word[3] ^ key1, static_cast<std::uint32_t>(p0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

/// Words 4 `block` to 4 `block` + 3 of the stream of Key(seed, stream), on the host and in kernels.
SOLVENT_HD constexpr Words words(std::uint64_t seed, std::uint64_t stream, std::uint64_t block) noexcept {
  return rounds({{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                  static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}},
                static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

/// The generator on the host: ten rounds of Philox4x32 from counter and key.
constexpr Counter block(const Counter& c, const Seed& k) noexcept {
  const Words w = rounds({{c[0], c[1], c[2], c[3]}}, k[0], k[1]);
  return {w.word[0], w.word[1], w.word[2], w.word[3]};
}
}  // namespace philox

/// Names one stream of random numbers.
struct SOLVENT_API Key {
  std::uint64_t seed = 0;    ///< the number a user chose
  std::uint64_t stream = 0;  ///< which of its 2^64 streams

  constexpr Key() = default;
  /// Stream `st` of seed `s`.
  explicit constexpr Key(std::uint64_t s, std::uint64_t st = 0) : seed(s), stream(st) {}

  /// n keys whose streams are independent of each other and of this key's.
  [[nodiscard]] std::vector<Key> split(int n) const;
  /// The key for a number, such as a step or an epoch; distinct numbers give independent keys.
  [[nodiscard]] Key fold_in(std::uint64_t number) const noexcept;

  /// Word `i` of the stream (uniform 32 bits).
  [[nodiscard]] std::uint32_t bits(std::uint64_t i) const noexcept;
  /// Element `i` uniform in [0, 1): the upper 53 bits of the words 2i (upper half) and 2i + 1.
  [[nodiscard]] double uniform(std::uint64_t i) const noexcept;

  friend constexpr bool operator==(const Key&, const Key&) = default;
};

}  // namespace solvent
