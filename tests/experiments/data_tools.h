#pragma once
/// Stand-ins for the data sets: every reader's format written from a few values, so that tests need no download.

#include <lzma.h>
#include <zlib.h>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/core/rng.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/zip_writer.h"

namespace solvent::experiments::testing {

inline std::span<const std::byte> span_of(const std::string& bytes) { return std::as_bytes(std::span(bytes)); }

/// zlib's deflate in the wrapper that `window_bits` asks for: 15 zlib, 31 gzip, -15 none.
inline std::string deflated(const std::string& bytes, int window_bits) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string gzip(const std::string& bytes) { return deflated(bytes, 15 + 16); }

/// An xz file; `preset` up to 9 decides the dictionary.
inline std::string xz(const std::string& bytes, std::uint32_t preset = 6) {
  std::string out(lzma_stream_buffer_bound(bytes.size()), '\0');
  std::size_t size = 0;
  lzma_easy_buffer_encode(preset, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                          bytes.size(), reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size());
  out.resize(size);
  return out;
}

inline std::string big_endian(std::uint32_t value, int bytes = 4) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i));
  return text;
}

inline std::string idx_bytes(const std::vector<std::uint32_t>& shape, const std::string& data,
                             std::uint32_t type = 0x08) {
  std::string bytes = big_endian(type << 8U | static_cast<std::uint32_t>(shape.size()));
  for (const std::uint32_t extent : shape) bytes += big_endian(extent);
  return bytes + data;
}

/// A CIFAR record: labels, then 3072 bytes that start with `value` and count up.
inline std::string cifar_record(const std::string& labels, int value) {
  std::string record = labels;
  for (int i = 0; i < 3072; ++i) record += static_cast<char>(value + i);
  return record;
}

struct TarItem {
  std::string name, content;
  char type = '0';
};

/// A ustar archive with its end mark.
inline std::string tar_bytes(const std::vector<TarItem>& items) {
  std::string out;
  for (const TarItem& item : items) {
    std::string header(512, '\0');
    const auto put = [&](std::size_t at, const std::string& text) { header.replace(at, text.size(), text); };
    const auto octal = [](std::uint64_t value, int digits) {
      std::string text;
      for (int i = digits - 1; i >= 0; --i) text += static_cast<char>('0' + (value >> (3 * i) & 7U));
      return text;
    };
    put(0, item.name.substr(0, 100));
    put(100, "0000644");
    put(124, octal(item.content.size(), 11));
    put(136, octal(0, 11));
    put(148, std::string(8, ' '));
    header[156] = item.type;
    put(257, "ustar");
    put(263, "00");
    std::uint64_t sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    put(148, octal(sum, 6) + std::string("\0 ", 2));
    out += header + item.content + std::string((512 - item.content.size() % 512) % 512, '\0');
  }
  return out + std::string(1024, '\0');
}

inline std::string png_chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(tests::crc32_of(body));
}

struct PngOptions {
  int bits = 1, colour = 0, interlace = 0;
  std::string palette = {}, extra = {};  ///< contents of PLTE; whole chunks before IDAT
};

/// A PNG whose filtered rows (filter byte, packed pixels) are `rows`.
inline std::string png_bytes(std::uint32_t height, std::uint32_t width, const std::string& rows,
                             const PngOptions& options = {}) {
  const auto byte = [](int value) { return std::string(1, static_cast<char>(value)); };
  const std::string header = big_endian(width) + big_endian(height) + byte(options.bits) + byte(options.colour) +
                             std::string(2, '\0') + byte(options.interlace);
  std::string out = "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header);
  if (!options.palette.empty()) out += png_chunk("PLTE", options.palette);
  return out + options.extra + png_chunk("IDAT", deflated(rows, 15)) + png_chunk("IEND", "");
}

/// A drawing of `size` x `size` on white paper with one black pixel at (row, column), 1 bit.
inline std::string drawing_png(std::uint32_t size, std::uint32_t row, std::uint32_t column) {
  std::string rows;
  for (std::uint32_t y = 0; y < size; ++y) {
    rows += '\0';
    std::string bits((size + 7) / 8, '\xff');
    if (y == row) bits[column / 8] = static_cast<char>(bits[column / 8] & ~(0x80 >> column % 8));
    rows += bits;
  }
  return png_bytes(size, size, rows);
}

/// An npy file.
inline std::string npy_bytes(const std::string& descr, const std::string& shape, const std::string& data) {
  const std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return "\x93NUMPY" + std::string("\x01\x00", 2) + tests::little_endian(header.size(), 2) + header + data;
}

/// A batch of ImageNet32: labels as given (from 1), image i filled with the byte i.
inline std::string imagenet32_bytes(const std::vector<int>& labels) {
  const std::string n = std::to_string(labels.size());
  std::string data, numbers;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    data += std::string(3072, static_cast<char>(i));
    numbers += tests::little_endian(static_cast<std::uint64_t>(labels[i]), 8);
  }
  return tests::zip_bytes({{.name = "data.npy", .content = npy_bytes("|u1", "(" + n + ", 3072)", data)},
                           {.name = "labels.npy", .content = npy_bytes("<i8", "(" + n + ",)", numbers)}});
}

/// Calls `parse` with many damaged copies of `good`; it must return or throw E, nothing else. Returns how many it refused.
template <class E, class F>
int count_refused(const std::string& good, int trials, std::uint64_t seed, F&& parse) {
  const Key key(seed);
  int refused = 0;
  for (std::uint64_t trial = 0; trial < static_cast<std::uint64_t>(trials); ++trial) {
    const Key own = key.fold_in(trial);
    std::string bytes = good;
    const std::uint64_t edits = 1 + own.bits(0) % 4;
    for (std::uint64_t e = 0; e < edits && !bytes.empty(); ++e) {
      const std::size_t at = own.bits(1 + 4 * e) % bytes.size();
      const auto byte = static_cast<char>(own.bits(2 + 4 * e));
      constexpr std::string_view kPieces = ",:?@{}'\"\\\n\r\0 -e9.#\xff";
      const char piece = kPieces[own.bits(3 + 4 * e) % kPieces.size()];
      switch (own.bits(4 + 4 * e) % 6) {
        case 0: bytes[at] = byte; break;
        case 1: bytes[at] = piece; break;
        case 2: bytes.insert(at, 1, piece); break;
        case 3: bytes.erase(at, 1 + own.bits(2 + 4 * e) % 9); break;
        case 4: bytes[at] = static_cast<char>(bytes[at] ^ (1 << own.bits(2 + 4 * e) % 8)); break;
        default: bytes.resize(at); break;
      }
    }
    try {
      parse(span_of(bytes));
    } catch (const E&) {
      ++refused;
    }
  }
  return refused;
}

/// Peak resident memory that `action` adds, in bytes; nothing where the system does not tell.
template <class F>
std::int64_t peak_growth(F&& action) {
  const auto status = [](const std::string& field) -> std::int64_t {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(field)) return std::atoll(line.c_str() + field.size()) * 1024;
    }
    return 0;
  };
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts from the present use
  const std::int64_t before = status("VmHWM:");
  action();
  return status("VmHWM:") - before;
}

/// Folder with the real data, or empty.
inline std::filesystem::path real_data() {
  const char* folder = std::getenv("SOLVENT_DATA");
  return folder ? folder : "";
}

inline bool skip_without(const std::filesystem::path& file) {
  if (!real_data().empty() && std::filesystem::exists(file)) return false;
  WARN("skipped: set SOLVENT_DATA to the folder with " << file.filename().string());
  return true;
}

/// Sets an environment variable for a scope.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    const char* before = std::getenv(name);
    had_ = before != nullptr;
    if (before) previous_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() { had_ ? setenv(name_, previous_.c_str(), 1) : unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::string previous_;
  bool had_ = false;
};

}  // namespace solvent::experiments::testing
