// bfloat16: the number itself, tensors of it, and files.

#include "solvent/core/bfloat16.h"

#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>

#include <unistd.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/io/npy.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;
using Catch::Contains;

namespace {

constexpr bool is_nan(std::uint16_t bits) { return (bits & 0x7fff) > 0x7f80; }

double value_of(std::uint16_t bits) { return static_cast<double>(static_cast<float>(BFloat16::from_bits(bits))); }

// By definition: of the two neighbours of |x| the nearer one, at a tie the even one. The neighbour after the largest number
// stands for infinity and counts as 2^128.
std::uint16_t rounded(double x) {
  const double size = std::abs(x);
  std::uint16_t low = 0;
  for (std::uint16_t step = 0x4000; step != 0; step = static_cast<std::uint16_t>(step >> 1)) {
    const auto next = static_cast<std::uint16_t>(low + step);
    if (next < 0x7f80 && value_of(next) <= size) low = next;
  }
  const auto high = static_cast<std::uint16_t>(low + 1);
  const double above = high == 0x7f80 ? 0x1p128 : value_of(high);
  // Differences of neighbours are exact in long double.
  const long double down = static_cast<long double>(size) - static_cast<long double>(value_of(low));
  const long double up = static_cast<long double>(above) - static_cast<long double>(size);
  const bool is_up = up < down || (up == down && (low & 1) != 0);
  return static_cast<std::uint16_t>((is_up ? high : low) | (std::signbit(x) ? 0x8000 : 0));
}

std::string temporary_file(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("solvent-" + std::to_string(::getpid()) + "-" + name)).string();
}

Tensor all_patterns() {
  std::vector<BFloat16> values;
  for (int bits = 0; bits < 0x10000; ++bits) values.push_back(BFloat16::from_bits(static_cast<std::uint16_t>(bits)));
  return from_vector(values, {256, 256});
}

}  // namespace

TEST_CASE("bfloat16: all 65536 patterns pass through float32 and float64 unchanged, signalling NaNs quiet") {
  std::int64_t wrong = 0;
  CHECK(BFloat16(std::nan("")).bits == 0x7fc0);
  CHECK(BFloat16(-std::nan("")).bits == 0xffc0);
  for (int pattern = 0; pattern < 0x10000; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const float value = BFloat16::from_bits(bits);
    const auto expected = static_cast<std::uint16_t>(is_nan(bits) ? bits | 0x40 : bits);
    wrong += std::isnan(value) != is_nan(bits);
    wrong += std::bit_cast<std::uint32_t>(value) != static_cast<std::uint32_t>(bits) << 16;
    wrong += BFloat16(value).bits != expected;
    const std::uint16_t wide = BFloat16(static_cast<double>(value)).bits;
    wrong += is_nan(bits) ? !is_nan(wide) : wide != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("bfloat16: float32 and float64 round to nearest, ties to even") {
  const Key key(1);
  std::int64_t wrong = 0;
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const auto bits = key.bits(i);
    const auto value = std::bit_cast<float>(bits);
    if (!std::isfinite(value)) continue;
    wrong += BFloat16(value).bits != rounded(static_cast<double>(value));
    // The float32 on the tie below, and the float64 numbers around it, which a rounding to float32 would move onto it.
    const auto tie = static_cast<double>(std::bit_cast<float>((bits & 0xffff0000U) | 0x8000U));
    if (!std::isfinite(tie)) continue;
    for (const double x : {tie, std::nextafter(tie, 0.0), std::nextafter(tie, 2 * tie)})
      wrong += BFloat16(x).bits != rounded(x);
  }
  CHECK(wrong == 0);
}

TEST_CASE("bfloat16: limits, subnormal numbers, infinities and NaN") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(BFloat16(0x1.fep127).bits == 0x7f7f);  // the largest
  CHECK(BFloat16(std::nextafter(0x1.ffp127, 0)).bits == 0x7f7f);
  CHECK(BFloat16(0x1.ffp127).bits == 0x7f80);  // a tie between it and 2^128
  CHECK(BFloat16(1e300).bits == 0x7f80);
  CHECK(BFloat16(-1e300).bits == 0xff80);
  CHECK(BFloat16(infinity).bits == 0x7f80);
  CHECK(BFloat16(0x1p-133).bits == 0x0001);  // the smallest
  CHECK(BFloat16(0x1p-134).bits == 0x0000);
  CHECK(BFloat16(std::nextafter(0x1p-134, 1.0)).bits == 0x0001);
  CHECK(BFloat16(-1e-300).bits == 0x8000);
  CHECK(is_nan(BFloat16(std::nan("")).bits));
  CHECK(is_nan(BFloat16(std::nanf("")).bits));
  CHECK(BFloat16{}.bits == 0);
  CHECK(sizeof(BFloat16) == 2);
  CHECK(std::is_trivially_copyable_v<BFloat16>);
  CHECK(std::is_trivially_default_constructible_v<BFloat16>);
  static_assert(static_cast<float>(BFloat16(1.0 + 0x1p-8)) == 1.0F);
  static_assert(BFloat16(2) * BFloat16(3) == 6.0F);
}

TEST_CASE("bfloat16: integers round once") {
  CHECK(BFloat16(0).bits == 0);
  CHECK(BFloat16(true).bits == 0x3f80);
  CHECK(value_of(BFloat16(255).bits) == 255);
  CHECK(value_of(BFloat16(257).bits) == 256);
  CHECK(value_of(BFloat16(259).bits) == 260);
  constexpr std::int64_t kTie = (std::int64_t{1} << 62) + (std::int64_t{1} << 54);  // neighbours are 2^55 apart
  CHECK(value_of(BFloat16(kTie).bits) == 0x1p62);
  CHECK(value_of(BFloat16(kTie + 1).bits) == 0x1p62 + 0x1p55);  // float64 does not know kTie + 1
  CHECK(value_of(BFloat16(kTie - 1).bits) == 0x1p62);
  CHECK(value_of(BFloat16(-kTie).bits) == -0x1p62);
  CHECK(value_of(BFloat16(-kTie - 1).bits) == -0x1p62 - 0x1p55);
  CHECK(value_of(BFloat16(std::numeric_limits<std::int64_t>::max()).bits) == 0x1p63);
  CHECK(value_of(BFloat16(std::numeric_limits<std::int64_t>::min()).bits) == -0x1p63);
}

TEST_CASE("bfloat16: PyTorch rounds the same way, and its files are read") {
  const SafetensorsFile file = load_safetensors("golden/bfloat16.safetensors");
  const auto find = [&](const std::string& name) {
    for (const auto& [key, value] : file.tensors)
      if (key == name) return value;
    throw Error("no tensor " + name);
  };
  const std::vector<float> values = find("values").to_vector<float>();
  const Tensor rounded_by_torch = find("rounded");
  REQUIRE(rounded_by_torch.dtype() == bfloat16);
  const std::vector<BFloat16> expected = rounded_by_torch.to_vector<BFloat16>();
  REQUIRE(values.size() == expected.size());
  REQUIRE(values.size() > 200);
  for (std::size_t i = 0; i < values.size(); ++i) {
    INFO(values[i]);
    CHECK(BFloat16(values[i]).bits == expected[i].bits);
  }
  CHECK(std::isnan(find("nan").item()));
}

TEST_CASE("bfloat16: type, factories and access") {
  CHECK(size_of(bfloat16) == 2);
  CHECK(is_floating(bfloat16));
  CHECK(is_storage_type(bfloat16));
  CHECK_FALSE(is_storage_type(float32));
  CHECK(to_string(bfloat16) == "bfloat16");
  CHECK(dtype_of<BFloat16> == bfloat16);
  CHECK(value_of(static_cast<std::uint16_t>(BFloat16(1.0).bits + 1)) == 1.0 + epsilon_of(bfloat16));
  const Tensor t = tensor({{1.5, -2}, {0.1, 1e39}}, bfloat16);
  CHECK(t.dtype() == bfloat16);
  CHECK(describe(t) == "bfloat16(2, 2)");
  CHECK(t.to_vector<BFloat16>()[2].bits == 0x3dcd);
  CHECK(t.data<BFloat16>()[3].bits == 0x7f80);
  CHECK(full({3}, 1.0 + 0x1p-8 + 0x1p-40, bfloat16).to_vector<BFloat16>()[2].bits == 0x3f81);  // one rounding
  CHECK(scalar(0.1, bfloat16).item() == 0.10009765625);
  CHECK(ones({2}, bfloat16).to_vector<BFloat16>()[1].bits == 0x3f80);
  CHECK(eye(2, bfloat16).to_vector<BFloat16>()[3].bits == 0x3f80);
  CHECK(arange(0, 3, 0.5, bfloat16).to_vector<BFloat16>()[5].bits == BFloat16(2.5).bits);
  CHECK(linspace(0, 1, 3, bfloat16).to_vector<BFloat16>()[1].bits == BFloat16(0.5).bits);
  CHECK(zeros_like(t).dtype() == bfloat16);
  CHECK(to_string(tensor({1, 2.5}, bfloat16)) == "[1.0, 2.5] bfloat16(2,)");
  CHECK(to_string(from_vector(std::vector{BFloat16(std::nan("")), BFloat16(-HUGE_VAL)}, {2})) ==
        "[ nan, -inf] bfloat16(2,)");
  const std::string message = message_of<DtypeError>([&] { static_cast<void>(t.to_vector<float>()); });
  CHECK_THAT(message, Contains("got a bfloat16 tensor"));
}

TEST_CASE("bfloat16: operations that compute in float32 and float64 say what to do") {
  const std::string message = message_of<DtypeError>([] { dispatch_float(bfloat16, "exp", [](auto) {}); });
  CHECK_THAT(message, Contains("[exp] got dtype bfloat16; expected float32 or float64."));
  CHECK_THAT(message, Contains("bfloat16 is a storage type") && Contains("matmul") && Contains("cast(x, float32)"));
  CHECK(dispatch_floating(bfloat16, "exp", [](auto tag) { return sizeof(typename decltype(tag)::type); }) == 2);
  CHECK_THAT(message_of<DtypeError>([] { dispatch_floating(int64, "exp", [](auto) {}); }),
             Contains("[exp] got dtype int64"));
}

TEST_CASE("bfloat16: safetensors keep every bit; npy has no such type") {
  const std::string path = temporary_file("bfloat16");
  const Tensor all = all_patterns();
  const Tensor transposed = engine::view(all, {256, 256}, {1, 256}, 0);
  save_safetensors(path, {{"small", scalar(1, uint8)}, {"all", all}, {"transposed", transposed}, {"f", scalar(1)}});
  const SafetensorsFile file = load_safetensors(path);
  REQUIRE(file.tensors.size() == 4);
  CHECK(file.tensors[0].first == "f");  // the largest elements first, so that all are aligned
  CHECK(file.tensors[3].first == "small");
  REQUIRE(file.tensors[1].second.dtype() == bfloat16);
  const std::vector<BFloat16> read = file.tensors[1].second.to_vector<BFloat16>();
  const std::vector<BFloat16> turned = file.tensors[2].second.to_vector<BFloat16>();
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < read.size(); ++i) {
    wrong += read[i].bits != i;
    wrong += turned[i].bits != i % 256 * 256 + i / 256;
  }
  CHECK(wrong == 0);
  CHECK_THAT(message_of<DtypeError>([&] { save_npy(path, all); }),
             Contains("[save_npy] got dtype bfloat16") && Contains("cast(x, float32)") && Contains("save_safetensors"));
  CHECK(load_safetensors(path).tensors.size() == 4);  // the file was not touched
  std::filesystem::remove(path);
}
