#include "solvent/experiments/common/data/input_stream.h"

#include <lzma.h>
#include <zlib.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr std::size_t kInputBytes = 1U << 16U, kOutputBytes = 1U << 18U;
constexpr std::size_t kMaxLineBytes = 8U << 20U;  // the archive's longest have about 4 MB
constexpr std::uint64_t kProgressBytes = 1U << 20U;
constexpr std::uint64_t kXzMemoryLimit = 128U << 20U;  // `xz -9` needs 65 MiB
// Deflate expands one byte to at most 1032 (zlib's technical notes, "maximum expansion factor"). LZMA's adaptive bits cost
// at least 0.022 bit each, a match of 273 bytes about twelve of them: below 9000.
constexpr std::uint64_t kMaxGzipExpansion = 1032, kMaxXzExpansion = 9000;

enum class Codec { plain, gzip, xz };

}  // namespace

// The undecoded side: a file or memory, read in pieces.
struct InputStream::State {
  std::string name;
  std::FILE* file = nullptr;
  std::span<const std::byte> memory;
  ReadProgress progress;
  std::uint64_t size = 0, consumed = 0, reported = 0;  // bytes of the undecoded side
  Codec codec = Codec::plain;
  z_stream gzip{};
  lzma_stream xz = LZMA_STREAM_INIT;
  bool is_finished = false;

  std::vector<std::uint8_t> input, buffer;
  std::size_t input_begin = 0, input_end = 0;  // undecoded bytes at hand
  std::size_t begin = 0, end = 0;              // unread part of the buffer
  std::uint64_t offset = 0, max_size = 0;

  ~State() {
    if (codec == Codec::gzip) inflateEnd(&gzip);
    if (codec == Codec::xz) lzma_end(&xz);
    if (file) std::fclose(file);
  }

  [[noreturn]] void fail(const std::string& reason) const {
    throw DataError(fmt::format("[read] {} is truncated or corrupt after {} decompressed bytes: {}. Fetch it again.",
                                name, offset, reason));
  }

  std::size_t read_raw(std::uint8_t* to, std::size_t bytes) {
    std::size_t count = 0;
    if (file) {
      count = std::fread(to, 1, bytes, file);
      if (count < bytes && std::ferror(file)) fail(std::strerror(errno));
    } else {
      count = std::min(bytes, memory.size());
      if (count > 0) std::memcpy(to, memory.data(), count);
      memory = memory.subspan(count);
    }
    consumed += count;
    if (progress && (consumed - reported >= kProgressBytes || (count < bytes && reported < consumed))) {
      reported = consumed;
      progress(name, consumed, size);
    }
    return count;
  }

  /// Makes undecoded bytes available; false at the end.
  bool refill_input() {
    if (input_begin < input_end) return true;
    input_begin = 0;
    input_end = read_raw(input.data(), input.size());
    return input_end > 0;
  }

  void start() {
    input.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kInputBytes, size)));
    refill_input();
    constexpr std::uint8_t kGzipMagic[] = {0x1f, 0x8b};
    constexpr std::uint8_t kXzMagic[] = {0xfd, '7', 'z', 'X', 'Z', 0};
    const auto starts_with = [&](std::span<const std::uint8_t> magic) {
      return input_end >= magic.size() && std::equal(magic.begin(), magic.end(), input.begin());
    };
    max_size = size;
    bool is_ready = true;
    if (starts_with(kGzipMagic)) {
      codec = Codec::gzip;
      max_size = size * kMaxGzipExpansion;
      is_ready = inflateInit2(&gzip, MAX_WBITS + 16) == Z_OK;  // + 16: gzip wrapper only
    } else if (starts_with(kXzMagic)) {
      codec = Codec::xz;
      max_size = size * kMaxXzExpansion;
      is_ready = lzma_stream_decoder(&xz, kXzMemoryLimit, LZMA_CONCATENATED) == LZMA_OK;
    }
    buffer.resize(codec == Codec::plain ? input.size() : kOutputBytes);
    if (!is_ready) throw DataError(fmt::format("[read] {}: no memory for the decompressor", name));
  }

  /// Fills `buffer`; 0 at the end.
  std::size_t decode() {
    switch (codec) {
      case Codec::gzip: return decode_gzip();
      case Codec::xz: return decode_xz();
      case Codec::plain: break;
    }
    if (!refill_input()) return 0;
    const std::size_t count = std::min(buffer.size(), input_end - input_begin);
    std::memcpy(buffer.data(), input.data() + input_begin, count);
    input_begin += count;
    return count;
  }

  std::size_t decode_gzip() {
    gzip.next_out = buffer.data();
    gzip.avail_out = static_cast<uInt>(buffer.size());
    while (gzip.avail_out > 0 && !is_finished) {
      if (!refill_input()) {
        if (gzip.avail_out < buffer.size()) break;  // hand out what there is; the next call finds nothing and fails
        fail("unexpected end of file");
      }
      gzip.next_in = input.data() + input_begin;
      gzip.avail_in = static_cast<uInt>(input_end - input_begin);
      const int code = inflate(&gzip, Z_NO_FLUSH);
      input_begin = input_end - gzip.avail_in;
      if (code == Z_STREAM_END) {
        is_finished = !next_gzip_member();
      } else if (code != Z_OK) {
        if (gzip.avail_out < buffer.size()) break;  // as above: inflate returns the same error again
        fail(gzip.msg ? gzip.msg : "invalid data");
      }
    }
    return buffer.size() - gzip.avail_out;
  }

  /// Several gzip streams may follow each other; padding with zeros is tolerated.
  bool next_gzip_member() {
    while (refill_input()) {
      if (input[input_begin] == 0x1f) return inflateReset(&gzip) == Z_OK;
      if (input[input_begin] != 0) fail("other data behind the end of the stream");
      ++input_begin;
    }
    return false;
  }

  std::size_t decode_xz() {
    xz.next_out = buffer.data();
    xz.avail_out = buffer.size();
    while (xz.avail_out > 0 && !is_finished) {
      const bool has_input = refill_input();
      xz.next_in = input.data() + input_begin;
      xz.avail_in = input_end - input_begin;
      const lzma_ret code = lzma_code(&xz, has_input ? LZMA_RUN : LZMA_FINISH);
      input_begin = input_end - xz.avail_in;
      if (code == LZMA_STREAM_END) {
        is_finished = true;
      } else if (code == LZMA_MEMLIMIT_ERROR) {
        throw DataError(fmt::format("[read] {} needs more than {} MiB to decompress; compress it with `xz -9` or less",
                                    name, kXzMemoryLimit >> 20U));
      } else if (code != LZMA_OK) {
        if (xz.avail_out < buffer.size()) break;
        fail(code == LZMA_BUF_ERROR ? "unexpected end of file" : "invalid data");
      }
    }
    return buffer.size() - xz.avail_out;
  }
};

InputStream::InputStream(const std::filesystem::path& file, ReadProgress progress) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.name = file.string();
  s.progress = std::move(progress);
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) {
    throw MissingDataError(fmt::format("[read] {} does not exist; check the path", s.name));
  }
  if (std::filesystem::is_directory(status)) {
    throw DataError(fmt::format("[read] {} is a directory; expected a file", s.name));
  }
  s.size = std::filesystem::file_size(file, error);
  s.file = error ? nullptr : std::fopen(file.c_str(), "rb");
  if (!s.file) throw DataError(fmt::format("[read] cannot open {}: {}", s.name, std::strerror(errno)));
  s.start();
}

InputStream::InputStream(std::span<const std::byte> bytes, std::string name) : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  state_->memory = bytes;
  state_->size = bytes.size();
  state_->start();
}

InputStream::~InputStream() = default;

bool InputStream::refill() {
  State& s = *state_;
  s.begin = 0;
  s.end = s.is_finished ? 0 : s.decode();
  return s.end > 0;
}

std::size_t InputStream::read(void* data, std::size_t bytes) {
  State& s = *state_;
  std::size_t done = 0;
  while (done < bytes) {
    if (s.begin == s.end && !refill()) break;
    const std::size_t count = std::min(bytes - done, s.end - s.begin);
    std::memcpy(static_cast<char*>(data) + done, s.buffer.data() + s.begin, count);
    s.begin += count;
    s.offset += count;
    done += count;
  }
  return done;
}

std::size_t InputStream::append(std::vector<std::uint8_t>& out, std::uint64_t bytes) {
  State& s = *state_;
  std::size_t done = 0;
  while (done < bytes) {
    if (s.begin == s.end && !refill()) break;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(bytes - done, s.end - s.begin));
    out.insert(out.end(), s.buffer.data() + s.begin, s.buffer.data() + s.begin + count);
    s.begin += count;
    s.offset += count;
    done += count;
  }
  return done;
}

std::uint64_t InputStream::skip(std::uint64_t bytes) {
  State& s = *state_;
  std::uint64_t done = 0;
  while (done < bytes) {
    if (s.begin == s.end && !refill()) break;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(bytes - done, s.end - s.begin));
    s.begin += count;
    s.offset += count;
    done += count;
  }
  return done;
}

bool InputStream::read_line(std::string& line) {
  State& s = *state_;
  line.clear();
  bool has_any = false;
  while (true) {
    if (s.begin == s.end && !refill()) break;
    has_any = true;
    const std::uint8_t* first = s.buffer.data() + s.begin;
    const auto* newline = static_cast<const std::uint8_t*>(std::memchr(first, '\n', s.end - s.begin));
    const std::size_t count = newline ? static_cast<std::size_t>(newline - first) : s.end - s.begin;
    if (line.size() + count > kMaxLineBytes) {
      throw DataError(fmt::format("[read] {} has a line above {} MiB at byte {}; expected a text file", s.name,
                                  kMaxLineBytes >> 20U, s.offset));
    }
    line.append(reinterpret_cast<const char*>(first), count);
    s.begin += count + (newline ? 1 : 0);
    s.offset += count + (newline ? 1 : 0);
    if (newline) break;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return has_any;
}

std::uint64_t InputStream::offset() const { return state_->offset; }
std::uint64_t InputStream::max_size() const { return state_->max_size; }
const std::string& InputStream::name() const { return state_->name; }

}  // namespace solvent::experiments
