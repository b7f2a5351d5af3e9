#include "solvent/core/io/crc32c.h"

#include <string>
#include <string_view>
#include <vector>

#include "solvent/tests/support/catch.h"

namespace {

std::uint32_t crc_of(std::string_view text) { return solvent::crc32c(text.data(), text.size()); }

/// One bit at a time: the definition.
std::uint32_t slow_crc(std::string_view text) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

}  // namespace

TEST_CASE("crc32c: the test vectors of RFC 3720") {
  CHECK(crc_of("") == 0);
  CHECK(crc_of("123456789") == 0xE3069283);
  CHECK(crc_of(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc_of(std::string(32, '\xff')) == 0x62A8AB43);
  std::string rising;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  CHECK(crc_of(rising) == 0x46DD794E);
}

TEST_CASE("crc32c: any length, alignment and division into pieces") {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 37 + i / 7);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t size = 0; begin + size <= text.size(); size += 1 + size / 3) {
      const std::string_view piece = std::string_view(text).substr(begin, size);
      const std::uint32_t expected = slow_crc(piece);
      REQUIRE(crc_of(piece) == expected);
      for (std::size_t cut = 0; cut <= size; cut += 1 + size / 4) {
        const std::uint32_t first = solvent::crc32c(piece.data(), cut);
        REQUIRE(solvent::crc32c(piece.data() + cut, size - cut, first) == expected);
      }
    }
  }
}
