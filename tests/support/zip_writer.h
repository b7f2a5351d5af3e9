#pragma once
/// Zip archives for tests, correct or wrong in any field.

#include <cstdint>
#include <string>
#include <vector>

namespace solvent::tests {

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += i < 8 ? static_cast<char>(value >> (8 * i)) : char{0};
  return text;
}

inline std::uint32_t crc32_of(const std::string& bytes) {
  std::uint32_t crc = 0xffffffffU;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1U) ? 0xedb88320U ^ (crc >> 1U) : crc >> 1U;
  }
  return ~crc;
}

/// A deflate stream of one stored block (at most 65535 bytes): valid without a compressor.
inline std::string deflate_stored(const std::string& bytes) {
  const auto length = static_cast<std::uint16_t>(bytes.size());
  return std::string("\x01", 1) + little_endian(length, 2) + little_endian(static_cast<std::uint16_t>(~length), 2) +
         bytes;
}

struct ZipItem {
  std::string name, content;
  std::string packed = {};  ///< what lies in the archive; `content` if empty and method is 0
  unsigned method = 0, flags = 0;
  std::int64_t claimed_size = -1, claimed_packed = -1, claimed_offset = -1, claimed_crc = -1;
  std::string local_name = {};  ///< if it differs from `name`
};

struct ZipEnd {
  std::int64_t count = -1, bytes = -1, offset = -1;
  std::string comment = {};
  bool zip64 = false;  ///< write the zip64 records, and all ones in the old one
};

/// The archive of `items`; `end` overrides fields of the end record.
inline std::string zip_bytes(const std::vector<ZipItem>& items, const ZipEnd& end = {}) {
  const auto pick = [](std::int64_t claimed, std::uint64_t real) {
    return claimed >= 0 ? static_cast<std::uint64_t>(claimed) : real;
  };
  std::string out, directory;
  for (const ZipItem& item : items) {
    const std::string& data = item.packed.empty() && item.method == 0 ? item.content : item.packed;
    const std::string& local = item.local_name.empty() ? item.name : item.local_name;
    const std::string fields = little_endian(item.flags, 2) + little_endian(item.method, 2) + little_endian(0, 4) +
                               little_endian(pick(item.claimed_crc, crc32_of(item.content)), 4) +
                               little_endian(pick(item.claimed_packed, data.size()), 4) +
                               little_endian(pick(item.claimed_size, item.content.size()), 4);
    directory += "PK\x01\x02" + little_endian(20, 2) + little_endian(20, 2) + fields +
                 little_endian(item.name.size(), 2) + little_endian(0, 12) +
                 little_endian(pick(item.claimed_offset, out.size()), 4) + item.name;
    out += "PK\x03\x04" + little_endian(20, 2) + fields + little_endian(local.size(), 2) + little_endian(0, 2) + local;
    out += data;
  }
  const std::uint64_t count = pick(end.count, items.size()), bytes = pick(end.bytes, directory.size());
  const std::uint64_t offset = pick(end.offset, out.size());
  out += directory;
  if (end.zip64) {
    const std::uint64_t at = out.size();
    out += "PK\x06\x06" + little_endian(44, 8) + little_endian(45, 2) + little_endian(45, 2) + little_endian(0, 8) +
           little_endian(count, 8) + little_endian(count, 8) + little_endian(bytes, 8) + little_endian(offset, 8);
    out += "PK\x06\x07" + little_endian(0, 4) + little_endian(at, 8) + little_endian(1, 4);
  }
  const std::uint64_t ones = 0xffffffff;
  return out + "PK\x05\x06" + little_endian(0, 4) + little_endian(end.zip64 ? ones : count, 2) +
         little_endian(end.zip64 ? ones : count, 2) + little_endian(end.zip64 ? ones : bytes, 4) +
         little_endian(end.zip64 ? ones : offset, 4) + little_endian(end.comment.size(), 2) + end.comment;
}

}  // namespace solvent::tests
