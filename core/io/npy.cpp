// NumPy's .npy format: "\x93NUMPY", version, length of the header, a Python dictionary literal, raw data. The dictionary
// is read by a parser for exactly the three keys the format defines.
#include "solvent/core/io/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/host_access.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/file_reader.h"
#include "solvent/core/io/npy_reader.h"

namespace solvent {
namespace {

static_assert(std::endian::native == std::endian::little, "written as little-endian");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kMaxHeaderBytes = 1 << 20;  // three keys fit many times
constexpr std::uint64_t kAlignment = 64;

struct Descr {
  DType dtype;
  std::string_view name;
};
constexpr Descr kDescrs[] = {{DType::float32, "<f4"},
                             {DType::float64, "<f8"},
                             {DType::int64, "<i8"},
                             {DType::boolean, "|b1"},
                             {DType::uint8, "|u1"}};

std::string_view descr_of(DType dtype) {
  for (const Descr& entry : kDescrs)
    if (entry.dtype == dtype) return entry.name;
  throw DtypeError(fmt::format(
      "[save_npy] got dtype {}, for which the format has no name; expected float32, float64, int64, bool or "
      "uint8. Write cast(x, float32), or use save_safetensors.",
      to_string(dtype)));
}

struct Header {
  std::optional<DType> dtype;
  std::optional<bool> fortran_order;
  std::optional<Shape> shape;
};

// Recursive descent over {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
class HeaderParser {
 public:
  HeaderParser(const detail::SequentialSource& file, std::string_view text) : file_(file), rest_(text) {}

  Header parse() {
    Header header;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr" && !header.dtype)
        header.dtype = dtype();
      else if (key == "fortran_order" && !header.fortran_order)
        header.fortran_order = boolean();
      else if (key == "shape" && !header.shape)
        header.shape = shape();
      else
        file_.fail(fmt::format("the header has the unexpected or repeated key '{}'", key));
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) file_.fail("the header goes on behind its dictionary");
    if (!header.dtype || !header.fortran_order || !header.shape)
      file_.fail("the header lacks one of 'descr', 'fortran_order' and 'shape'");
    return header;
  }

 private:
  void skip_space() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
  }
  bool accept(char c) {
    skip_space();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!accept(c))
      file_.fail(
          fmt::format("the header is not a valid dictionary: expected '{}' before '{}'", c, rest_.substr(0, 20)));
  }
  std::string_view quoted() {
    skip_space();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"'))
      file_.fail(
          fmt::format("the header is not a valid dictionary: expected a string before '{}'", rest_.substr(0, 20)));
    const char quote = rest_.front();
    const std::size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) file_.fail("the header has a string without end");
    const std::string_view text = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return text;
  }
  DType dtype() {
    skip_space();
    if (!rest_.empty() && rest_.front() == '[') file_.fail("holds a structured array; expected a plain one");
    const std::string_view name = quoted();
    for (const Descr& entry : kDescrs) {
      const bool is_byte = size_of(entry.dtype) == 1;  // byte order does not matter
      if (name.size() == 3 && name.substr(1) == entry.name.substr(1) &&
          (name[0] == '<' || name[0] == '=' || name[0] == '|' || (is_byte && name[0] == '>')))
        return entry.dtype;
    }
    file_.fail(
        fmt::format("has dtype '{}'; Solvent reads little-endian f4, f8, i8, b1 and u1. Convert it in Python with "
                    "astype",
                    name));
  }
  bool boolean() {
    skip_space();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    }
    file_.fail("'fortran_order' is neither True nor False");
  }
  Shape shape() {
    Shape result;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t extent = -1;
      const auto [stop, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      if (error != std::errc{} || extent < 0)
        file_.fail(fmt::format("'shape' has an extent that is not a whole number of at least 0 before '{}'",
                               rest_.substr(0, 20)));
      rest_.remove_prefix(static_cast<std::size_t>(stop - rest_.data()));
      if (result.rank() == kMaxRank)
        file_.fail(fmt::format("has more than {} axes, the most Solvent supports", kMaxRank));
      result.push_back(extent);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return result;
  }

  const detail::SequentialSource& file_;
  std::string_view rest_;
};

std::uint64_t checked_bytes(const detail::SequentialSource& file, const Shape& shape, DType dtype) {
  // Zeros count as ones here, as in NumPy: strides are products of the other extents.
  std::int64_t bytes = static_cast<std::int64_t>(size_of(dtype));
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    is_empty = is_empty || extent == 0;
    if (extent != 0 && __builtin_mul_overflow(bytes, extent, &bytes))
      file.fail(fmt::format("claims shape {}, whose size overflows 64 bits", to_string(shape)));
  }
  return is_empty ? 0 : static_cast<std::uint64_t>(bytes);
}

// Fortran order is row-major order of the reversed axes.
Tensor reverse_axes(const Tensor& t) {
  Shape shape;
  Strides strides;
  for (int i = t.rank() - 1; i >= 0; --i) {
    shape.push_back(t.shape()[i]);
    strides.push_back(t.strides()[i]);
  }
  return engine::contiguous(engine::view(t, shape, strides, 0));
}

}  // namespace

void save_npy(const std::string& path, const Tensor& t) {
  const Tensor dense = detail::host_contiguous("save_npy", t);
  std::string shape = to_string(t.shape());  // Python's syntax, including "(3,)" and "()"
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr_of(t.dtype()), shape);
  const std::uint64_t unpadded = kMagic.size() + 4 + header.size() + 1;
  header.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());  // at most 8 extents: far below 65536

  AtomicFile file(path);
  file.write(kMagic);
  file.write(std::string_view("\x01\x00", 2));
  file.write(&length, sizeof length);
  file.write(header);
  file.write(detail::host_bytes(dense), static_cast<std::size_t>(dense.numel()) * size_of(dense.dtype()));
  file.commit();
}

namespace detail {

Tensor read_npy(SequentialSource& file) {
  std::array<unsigned char, 12> start{};
  constexpr std::uint64_t kVersion1Start = 10;
  if (file.size() < kVersion1Start)
    file.fail(fmt::format("has {} bytes; an npy file has at least {}", file.size(), kVersion1Start));
  file.read(start.data(), kVersion1Start);
  if (std::memcmp(start.data(), kMagic.data(), kMagic.size()) != 0)
    file.fail("does not start with '\\x93NUMPY'; not an npy file");
  const int version = start[6];
  if (version < 1 || version > 3) file.fail(fmt::format("has format version {}; expected 1, 2 or 3", version));
  const std::uint64_t header_start = version == 1 ? kVersion1Start : start.size();
  if (file.size() < header_start) file.fail("ends inside its header; the file is truncated");
  if (version > 1) file.read(start.data() + kVersion1Start, start.size() - kVersion1Start);
  std::uint64_t length = start[8] | std::uint64_t{start[9]} << 8;
  if (version > 1) length |= std::uint64_t{start[10]} << 16 | std::uint64_t{start[11]} << 24;
  if (length > file.size() - header_start || length > kMaxHeaderBytes)
    file.fail(fmt::format("claims a header of {} bytes but has {} bytes; the file is truncated or corrupt", length,
                          file.size()));
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(text.data(), length);

  const Header header = HeaderParser(file, text).parse();
  const std::uint64_t bytes = checked_bytes(file, *header.shape, *header.dtype);
  const std::uint64_t present = file.size() - header_start - length;
  if (bytes != present)
    file.fail(fmt::format("claims {} of shape {}, {} bytes, but has {} bytes of data; the file is {}",
                          to_string(*header.dtype), to_string(*header.shape), bytes, present,
                          bytes > present ? "truncated" : "corrupt"));
  Shape stored = *header.shape;
  if (*header.fortran_order) std::reverse(stored.begin(), stored.end());
  Tensor t = engine::empty(stored, *header.dtype);
  auto* const data = static_cast<std::uint8_t*>(t.impl()->storage->data);
  file.read(data, bytes);
  if (*header.dtype == DType::boolean && std::any_of(data, data + bytes, [](auto b) { return b > 1; }))
    file.fail("is of bool type but has bytes other than 0 and 1");
  return *header.fortran_order ? reverse_axes(t) : t;
}

}  // namespace detail

Tensor load_npy(const std::string& path) {
  const detail::FileReader file("load_npy", path);
  detail::FileSource source(file);
  return detail::read_npy(source);
}

Tensor parse_npy(std::span<const std::byte> bytes, const std::string& name) {
  const detail::FileReader file("parse_npy", bytes, name);
  detail::FileSource source(file);
  return detail::read_npy(source);
}

}  // namespace solvent
