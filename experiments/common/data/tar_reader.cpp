// POSIX.1-1988 ustar: 512-byte headers with octal numbers, data padded to 512 bytes, two zero blocks at the end.
#include "solvent/experiments/common/data/tar_reader.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr std::size_t kBlock = 512, kMaxName = 4096;
using Block = std::array<std::uint8_t, kBlock>;

std::string_view text_field(const Block& block, std::size_t offset, std::size_t length) {
  const std::string_view field(reinterpret_cast<const char*>(block.data()) + offset, length);
  return field.substr(0, field.find('\0'));
}

/// Octal with blanks around, or GNU's base 256 for large sizes; nothing if it is neither.
std::optional<std::uint64_t> number_field(const Block& block, std::size_t offset, std::size_t length) {
  std::uint64_t value = 0;
  if (block[offset] & 0x80U) {
    for (std::size_t i = 0; i < length; ++i) {
      const std::uint64_t byte = i == 0 ? block[offset] & 0x7fU : block[offset + i];
      if (value >> 55U) return std::nullopt;
      value = value << 8U | byte;
    }
    return value;
  }
  std::string_view digits = text_field(block, offset, length);
  while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
  while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
  for (const char c : digits) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value * 8 + static_cast<std::uint64_t>(c - '0');  // at most 12 digits: 36 bits
  }
  return value;
}

/// Sum of the header's bytes with the checksum's own field as blanks.
std::uint64_t checksum(const Block& block) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : block[i];
  return sum;
}

}  // namespace

void TarReader::fail(const std::string& problem) const {
  throw DataError(fmt::format("[read_tar] {}: byte {}: {}", stream_.name(), stream_.offset(), problem));
}

void TarReader::skip_rest() {
  if (stream_.skip(left_ + padding_) != left_ + padding_) {
    fail(fmt::format("the archive ends inside \"{}\". Fetch it again.", name_));
  }
  left_ = padding_ = 0;
}

std::string TarReader::read_long_name() {
  if (left_ > kMaxName) fail(fmt::format("a name of {} bytes; expected at most {}", left_, kMaxName));
  std::string name(static_cast<std::size_t>(left_), '\0');
  read(name.data(), name.size());
  return name.substr(0, name.find('\0'));
}

bool TarReader::next() {
  std::string long_name;
  while (true) {
    skip_rest();
    Block header{};
    const std::size_t got = stream_.read(header.data(), kBlock);
    if (got != kBlock) fail("the archive ends without its end mark; it is truncated. Fetch it again.");
    if (std::all_of(header.begin(), header.end(), [](std::uint8_t byte) { return byte == 0; })) return false;
    const auto sum = number_field(header, 148, 8), size = number_field(header, 124, 12);
    if (!sum || *sum != checksum(header) || !size) fail("a damaged header; expected a tar archive. Fetch it again.");
    if (*size > stream_.max_size())
      fail(fmt::format("a member claims {} bytes, more than the archive can hold", *size));
    size_ = left_ = *size;
    padding_ = (kBlock - size_ % kBlock) % kBlock;
    const std::string_view prefix = text_field(header, 257, 5) == "ustar" ? text_field(header, 345, 155) : "";
    name_ = prefix.empty() ? std::string() : std::string(prefix) + "/";
    name_ += text_field(header, 0, 100);
    const auto type = static_cast<char>(header[156]);
    if (type == 'L') {
      long_name = read_long_name();
    } else if (type == '0' || type == '\0') {
      if (!long_name.empty()) name_ = long_name;
      return true;
    } else if (type != 'x' && type != 'g') {
      long_name.clear();  // a folder or link: its long name is used up
    }
  }
}

std::size_t TarReader::read(void* data, std::size_t bytes) {
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, left_));
  const std::size_t got = stream_.read(data, wanted);
  left_ -= got;
  if (got < wanted) fail(fmt::format("the archive ends inside \"{}\". Fetch it again.", name_));
  return got;
}

}  // namespace solvent::experiments
