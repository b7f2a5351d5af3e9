// PNG (ISO/IEC 15948): chunks IHDR, PLTE, IDAT..., IEND; the zlib stream of all IDAT chunks holds one filter byte and the
// packed pixels per row.
#include "solvent/experiments/common/data/png_reader.h"

#include <zlib.h>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr std::uint32_t kMaxExtent = 4096;

std::uint32_t u32(const std::byte* p) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8U | std::to_integer<std::uint32_t>(p[i]);
  return value;
}

int paeth(int left, int up, int corner) {
  const int estimate = left + up - corner;
  const int a = std::abs(estimate - left), b = std::abs(estimate - up), c = std::abs(estimate - corner);
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

class PngReader {
 public:
  PngReader(std::span<const std::byte> bytes, const std::string& name) : rest_(bytes), name_(name) {}

  GreyImage read() {
    constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
    if (rest_.size() < kSignature.size() ||
        !std::equal(kSignature.begin(), kSignature.end(), rest_.begin(),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; })) {
      fail("does not start as a PNG image");
    }
    rest_ = rest_.subspan(kSignature.size());
    if (next_chunk() != "IHDR") fail("does not start with the chunk IHDR");
    read_header();
    for (std::string_view type = next_chunk(); type != "IEND"; type = next_chunk()) {
      if (type == "PLTE") read_palette();
      if (type == "IDAT") data_.push_back(chunk_);
      const bool is_critical = (type[0] & 0x20) == 0;
      if (is_critical && type != "PLTE" && type != "IDAT") fail(fmt::format("has the unknown critical chunk {}", type));
    }
    if (is_palette_ && palette_.empty()) fail("has no palette");
    inflate_rows();
    unfilter();
    return unpack();
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(fmt::format("[read_png] {} {}", name_, problem));
  }

  /// Moves to the next chunk and returns its type.
  std::string_view next_chunk() {
    if (rest_.size() < 12) fail("ends before the chunk IEND; it is truncated");
    const std::uint32_t length = u32(rest_.data());
    if (length > rest_.size() - 12) fail("has a chunk that goes beyond its end; it is truncated");
    const std::string_view type(reinterpret_cast<const char*>(rest_.data()) + 4, 4);
    if (!std::all_of(type.begin(), type.end(),
                     [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); })) {
      fail("has a chunk whose type is no letters; it is corrupt");
    }
    chunk_ = rest_.subspan(8, length);
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(rest_.data()) + 4, length + 4);
    if (crc != u32(rest_.data() + 8 + length)) fail(fmt::format("has a chunk {} with a wrong checksum", type));
    rest_ = rest_.subspan(12 + length);
    return type;
  }

  void read_header() {
    if (chunk_.size() != 13) fail("has a damaged header");
    const std::uint32_t width = u32(chunk_.data()), height = u32(chunk_.data() + 4);
    bits_ = std::to_integer<int>(chunk_[8]);
    const int colour = std::to_integer<int>(chunk_[9]), interlace = std::to_integer<int>(chunk_[12]);
    if (width < 1 || height < 1 || width > kMaxExtent || height > kMaxExtent) {
      fail(fmt::format("claims {} x {} pixels; expected 1 to {}", height, width, kMaxExtent));
    }
    const bool has_bits = bits_ == 1 || bits_ == 2 || bits_ == 4 || bits_ == 8;
    if (!has_bits || (colour != 0 && colour != 3) || interlace != 0) {
      fail(fmt::format(
          "has colour type {}, {} bits and interlacing {}; expected 0 (grey) or 3 (palette), at most 8 bits "
          "and none",
          colour, bits_, interlace));
    }
    is_palette_ = colour == 3;
    image_.height = height;
    image_.width = width;
    row_bytes_ = (static_cast<std::size_t>(width) * static_cast<std::size_t>(bits_) + 7) / 8;
  }

  void read_palette() {
    if (chunk_.size() % 3 != 0 || chunk_.empty() || chunk_.size() > 768) fail("has a damaged palette");
    palette_.clear();
    for (std::size_t i = 0; i < chunk_.size(); i += 3) {
      if (chunk_[i] != chunk_[i + 1] || chunk_[i] != chunk_[i + 2]) fail("has colours; expected a grey image");
      palette_.push_back(std::to_integer<std::uint8_t>(chunk_[i]));
    }
  }

  /// Exactly one filter byte and row_bytes_ per row: what else the stream may hold is not unpacked.
  void inflate_rows() {
    rows_.resize((row_bytes_ + 1) * static_cast<std::size_t>(image_.height));
    z_stream stream{};
    if (inflateInit(&stream) != Z_OK) fail("cannot be decompressed: no memory");
    stream.next_out = rows_.data();
    stream.avail_out = static_cast<uInt>(rows_.size());
    int code = Z_OK;
    for (const std::span<const std::byte> piece : data_) {
      stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(piece.data()));
      stream.avail_in = static_cast<uInt>(piece.size());
      while (code == Z_OK && stream.avail_in > 0) code = inflate(&stream, Z_NO_FLUSH);
    }
    const std::size_t missing = stream.avail_out;
    inflateEnd(&stream);
    if (missing > 0)
      fail(fmt::format("lacks {} of {} bytes of pixels; it is truncated or corrupt", missing, rows_.size()));
    if (code != Z_STREAM_END) fail("holds more data than pixels, or its checksum is wrong; it is corrupt");
  }

  /// Reverses the prediction of each row from its left and upper neighbours (bytes, since a pixel has at most one).
  void unfilter() {
    std::vector<std::uint8_t> zeros(row_bytes_, 0);
    const std::uint8_t* above = zeros.data();
    for (std::int64_t y = 0; y < image_.height; ++y) {
      std::uint8_t* row = rows_.data() + static_cast<std::size_t>(y) * (row_bytes_ + 1);
      const int filter = *row++;
      if (filter > 4) fail(fmt::format("has row {} with filter {}; expected 0 to 4", y, filter));
      for (std::size_t i = 0; i < row_bytes_; ++i) {
        const int left = i > 0 ? row[i - 1] : 0, up = above[i], corner = i > 0 ? above[i - 1] : 0;
        const int predictions[] = {0, left, up, (left + up) / 2, paeth(left, up, corner)};
        row[i] = static_cast<std::uint8_t>(row[i] + predictions[filter]);
      }
      above = row;
    }
  }

  GreyImage unpack() {
    const int per_byte = 8 / bits_, mask = (1 << bits_) - 1;
    image_.pixels.reserve(static_cast<std::size_t>(image_.height * image_.width));
    for (std::int64_t y = 0; y < image_.height; ++y) {
      const std::uint8_t* row = rows_.data() + static_cast<std::size_t>(y) * (row_bytes_ + 1) + 1;
      for (std::int64_t x = 0; x < image_.width; ++x) {
        const int shift = (per_byte - 1 - static_cast<int>(x % per_byte)) * bits_;
        const int value = row[x / per_byte] >> shift & mask;
        if (is_palette_ && static_cast<std::size_t>(value) >= palette_.size())
          fail("uses a colour outside its palette");
        image_.pixels.push_back(is_palette_ ? palette_[static_cast<std::size_t>(value)]
                                            : static_cast<std::uint8_t>(value * 255 / mask));
      }
    }
    return std::move(image_);
  }

  std::span<const std::byte> rest_, chunk_;
  const std::string& name_;
  GreyImage image_;
  int bits_ = 8;
  bool is_palette_ = false;
  std::size_t row_bytes_ = 0;
  std::vector<std::uint8_t> palette_, rows_;
  std::vector<std::span<const std::byte>> data_;
};

}  // namespace

GreyImage parse_png(std::span<const std::byte> bytes, const std::string& name) { return PngReader(bytes, name).read(); }

}  // namespace solvent::experiments
