#include "solvent/core/rng.h"

#include <cmath>
#include <set>

#include "solvent/core/error.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;

// Known-answer vectors for philox4x32-10 published with Random123 (kat_vectors).
TEST_CASE("philox: the published known answers") {
  using philox::block;
  using philox::Counter;
  CHECK(block({0, 0, 0, 0}, {0, 0}) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(block({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(block({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("key: bits follow the documented layout of counter and key") {
  const Key key(0x299f31d0a4093822u, 0x0370734413198a2eu);
  const std::uint64_t block = 0x85a308d3243f6a88u >> 2;  // any large block number
  const philox::Counter expected = philox::block(
      {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0x13198a2e, 0x03707344},
      {0xa4093822, 0x299f31d0});
  for (std::uint64_t lane = 0; lane < 4; ++lane) CHECK(key.bits(4 * block + lane) == expected[lane]);
  const philox::Words words = philox::words(key.seed, key.stream, block);  // the form for kernels
  for (std::size_t lane = 0; lane < 4; ++lane) CHECK(words.word[lane] == expected[lane]);
}

TEST_CASE("key: uniform is built from the words 2i and 2i + 1 and lies in [0, 1)") {
  const Key key(42);
  double sum = 0;
  double sum_of_squares = 0;
  constexpr int kCount = 100000;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const double u = key.uniform(i);
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    const std::uint64_t word = std::uint64_t{key.bits(2 * i)} << 32 | key.bits(2 * i + 1);
    REQUIRE(u == static_cast<double>(word >> 11) / 9007199254740992.0);
    sum += u;
    sum_of_squares += u * u;
  }
  const double tolerance = 5 / std::sqrt(12.0 * kCount);  // five standard deviations of the mean
  CHECK(std::abs(sum / kCount - 0.5) < tolerance);
  CHECK(std::abs(sum_of_squares / kCount - 1.0 / 3) < tolerance);
}

TEST_CASE("key: derived keys are distinct and their streams uncorrelated") {
  const Key key(7);
  const std::vector<Key> keys = key.split(1000);
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen{{key.seed, key.stream}};
  for (const Key& k : keys) seen.insert({k.seed, k.stream});
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const Key k = key.fold_in(i);
    seen.insert({k.seed, k.stream});
  }
  CHECK(seen.size() == 2001);

  constexpr int kCount = 20000;
  const auto correlation = [&](const Key& a, const Key& b) {
    double sum = 0;
    for (std::uint64_t i = 0; i < kCount; ++i) sum += (a.uniform(i) - 0.5) * (b.uniform(i) - 0.5);
    return 12 * sum / kCount;
  };
  const double tolerance = 5 / std::sqrt(static_cast<double>(kCount));
  CHECK(std::abs(correlation(key, keys[0])) < tolerance);
  CHECK(std::abs(correlation(keys[0], keys[1])) < tolerance);
  CHECK(std::abs(correlation(key.fold_in(0), keys[0])) < tolerance);
  CHECK(std::abs(correlation(key.fold_in(0), key.fold_in(1))) < tolerance);
  CHECK(std::abs(correlation(key.fold_in(1).fold_in(2), key.fold_in(2).fold_in(1))) < tolerance);
}

TEST_CASE("key: derivation is a function of the key alone and stays what it is") {
  CHECK(Key(3).split(5)[4] == Key(3).split(9)[4]);
  CHECK(Key(3).fold_in(11) == Key(3).fold_in(11));
  CHECK_FALSE(Key(3, 1).fold_in(11) == Key(3, 2).fold_in(11));
  CHECK(Key(3).split(0).empty());
  CHECK_THAT(message_of<ValueError>([] { (void)Key(3).split(-1); }), Catch::Contains("[split] got n = -1"));
}
