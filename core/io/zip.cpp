// The zip format (APPNOTE.TXT 6.3): members, each behind a local header, then a directory, then its end record. Only the
// directory is believed, and only after checks; local headers must agree with it.
#include "solvent/core/io/zip.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/io/file_reader.h"

#if SOLVENT_WITH_ZLIB
#include <zlib.h>
#endif

namespace solvent {

namespace {

constexpr std::uint32_t kLocalSignature = 0x04034b50, kDirectorySignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr std::uint64_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr std::uint64_t kMaxComment = 0xffff;
constexpr std::size_t kMaxEntries = 131072;  // 11 MiB of ZipEntry, whatever the archive claims
// Deflate expands one byte to at most 1032 (zlib's technical notes); the rest covers streams of a few bytes.
constexpr std::uint64_t kMaxExpansion = 1032, kExpansionSlack = 1032;
constexpr std::size_t kPieceBytes = std::size_t{1} << 16;

std::uint16_t u16(const std::byte* p) {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(p[0]) | std::to_integer<unsigned>(p[1]) << 8U);
}
std::uint32_t u32(const std::byte* p) { return u16(p) | std::uint32_t{u16(p + 2)} << 16U; }
std::uint64_t u64(const std::byte* p) { return u32(p) | std::uint64_t{u32(p + 4)} << 32U; }

#if SOLVENT_WITH_ZLIB
std::uint32_t update_crc(std::uint32_t crc, const std::byte* data, std::size_t bytes) {
  return static_cast<std::uint32_t>(crc32_z(crc, reinterpret_cast<const Bytef*>(data), bytes));
}
#else
constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1U) ? 0xedb88320U ^ (c >> 1U) : c >> 1U;
    table[i] = c;
  }
  return table;
}();

std::uint32_t update_crc(std::uint32_t crc, const std::byte* data, std::size_t bytes) {
  crc = ~crc;
  for (std::size_t i = 0; i < bytes; ++i)
    crc = kCrcTable[(crc ^ std::to_integer<std::uint32_t>(data[i])) & 0xffU] ^ (crc >> 8U);
  return ~crc;
}
#endif

struct DirectoryPlace {
  std::uint64_t offset = 0, bytes = 0, count = 0;
  std::uint64_t end = 0;  // where the end records start: the directory must stop before
};

// The end record is the last thing in the file but for a comment of any length.
std::uint64_t find_end_record(const detail::FileReader& file, std::vector<std::byte>& tail) {
  if (file.size() < kEndBytes)
    file.fail(fmt::format("has {} bytes; a zip file has at least {}", file.size(), kEndBytes));
  const std::uint64_t tail_bytes = std::min(file.size(), kEndBytes + kMaxComment);
  tail.resize(static_cast<std::size_t>(tail_bytes));
  file.read(file.size() - tail_bytes, tail.data(), tail_bytes);
  for (std::size_t at = tail.size() - kEndBytes;; --at) {
    const std::byte* record = tail.data() + at;
    if (u32(record) == kEndSignature && at + kEndBytes + u16(record + 20) == tail.size()) {
      tail.erase(tail.begin(), tail.begin() + static_cast<std::ptrdiff_t>(at));
      return file.size() - tail.size();
    }
    if (at == 0) break;
  }
  file.fail("has no end record; it is no zip file or is truncated");
}

// Zip64: the true values stand in a second record that a locator before the end record points to.
void read_zip64_record(const detail::FileReader& file, DirectoryPlace& place) {
  std::array<std::byte, kLocator64Bytes> locator{};
  if (place.end < kLocator64Bytes) return;
  file.read(place.end - kLocator64Bytes, locator.data(), locator.size());
  if (u32(locator.data()) != kLocator64Signature) return;
  const std::uint64_t at = u64(locator.data() + 8), limit = place.end - kLocator64Bytes;
  std::array<std::byte, kEnd64Bytes> record{};
  if (at > limit || limit - at < kEnd64Bytes) file.fail("has a zip64 end record outside the file; it is corrupt");
  file.read(at, record.data(), record.size());
  if (u32(record.data()) != kEnd64Signature) file.fail("has no zip64 end record where the locator says; it is corrupt");
  if (u32(record.data() + 16) != 0 || u32(record.data() + 20) != 0) file.fail("is one part of a split archive");
  place.count = u64(record.data() + 32);
  place.bytes = u64(record.data() + 40);
  place.offset = u64(record.data() + 48);
  place.end = at;
}

DirectoryPlace find_directory(const detail::FileReader& file) {
  std::vector<std::byte> record;
  DirectoryPlace place;
  place.end = find_end_record(file, record);
  const std::byte* p = record.data();
  if (u16(p + 4) != 0 && u16(p + 4) != 0xffff) file.fail("is one part of a split archive; join the parts first");
  place.count = u16(p + 10);
  place.bytes = u32(p + 12);
  place.offset = u32(p + 16);
  if (place.count == 0xffff || place.bytes == 0xffffffff || place.offset == 0xffffffff) read_zip64_record(file, place);
  if (place.offset > place.end || place.bytes > place.end - place.offset)
    file.fail(
        fmt::format("claims a directory of {} bytes at {}, which lies outside the file; it is truncated or corrupt",
                    place.bytes, place.offset));
  if (place.count > kMaxEntries)
    file.fail(fmt::format("claims {} members; expected at most {}", place.count, kMaxEntries));
  if (place.count > place.bytes / kDirectoryBytes)
    file.fail(fmt::format("claims {} members in a directory of {} bytes; it is corrupt", place.count, place.bytes));
  return place;
}

std::string quoted(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 80)) {
    const auto byte = static_cast<unsigned char>(c);
    text += byte < 0x20 || byte >= 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return "'" + text + "'";
}

// Sizes and offsets that do not fit 32 bits stand in an extra field, only those, in this order.
void read_zip64_field(const detail::FileReader& file, std::span<const std::byte> extra, ZipEntry& entry) {
  const bool any = entry.size == 0xffffffff || entry.packed_size == 0xffffffff || entry.header_offset == 0xffffffff;
  if (!any) return;
  while (extra.size() >= 4) {
    const std::size_t bytes = u16(extra.data() + 2);
    if (bytes > extra.size() - 4) break;
    if (u16(extra.data()) != 0x0001) {
      extra = extra.subspan(4 + bytes);
      continue;
    }
    std::span<const std::byte> field = extra.subspan(4, bytes);
    for (std::uint64_t* value : {&entry.size, &entry.packed_size, &entry.header_offset}) {
      if (*value != 0xffffffff) continue;
      if (field.size() < 8) file.fail(fmt::format("member {}: the zip64 field is too short", quoted(entry.name)));
      *value = u64(field.data());
      field = field.subspan(8);
    }
    return;
  }
  // No such field: the values are what they are, and the checks that follow judge them.
}

void check_entry(const detail::FileReader& file, const ZipEntry& entry, std::uint64_t data_end) {
  if (!entry.is_deflated && entry.size != entry.packed_size)
    file.fail(fmt::format("member {} is stored, but claims {} bytes packed and {} unpacked; it is corrupt",
                          quoted(entry.name), entry.packed_size, entry.size));
  // Before the multiplication: a packed size above the file's could overflow it.
  if (entry.header_offset > data_end || data_end - entry.header_offset < kLocalBytes ||
      entry.packed_size > data_end - entry.header_offset - kLocalBytes)
    file.fail(fmt::format("member {} claims {} bytes at {}, outside the file; it is truncated or corrupt",
                          quoted(entry.name), entry.packed_size, entry.header_offset));
  if (entry.size > entry.packed_size * kMaxExpansion + kExpansionSlack)
    file.fail(fmt::format("member {} claims to unpack {} bytes to {}, more than deflate can; it is corrupt",
                          quoted(entry.name), entry.packed_size, entry.size));
}

ZipEntry read_entry(const detail::FileReader& file, std::span<const std::byte>& directory, std::uint64_t data_end) {
  const std::byte* p = directory.data();
  if (directory.size() < kDirectoryBytes || u32(p) != kDirectorySignature)
    file.fail("has a damaged directory: no entry where one is announced; it is corrupt");
  const std::size_t name = u16(p + 28), extra = u16(p + 30), comment = u16(p + 32);
  if (directory.size() - kDirectoryBytes < name + extra + comment)
    file.fail("has a damaged directory: an entry goes beyond its end; it is corrupt");
  ZipEntry entry;
  entry.name = {reinterpret_cast<const char*>(p) + kDirectoryBytes, name};
  const unsigned flags = u16(p + 8), method = u16(p + 10);
  if (flags & 0x2041U) file.fail(fmt::format("member {} is encrypted; unpack it yourself", quoted(entry.name)));
  if (method != 0 && method != 8)
    file.fail(fmt::format("member {} uses compression method {}; expected 0 (stored) or 8 (deflate)",
                          quoted(entry.name), method));
  entry.is_deflated = method == 8;
  entry.crc32 = u32(p + 16);
  entry.packed_size = u32(p + 20);
  entry.size = u32(p + 24);
  entry.header_offset = u32(p + 42);
  read_zip64_field(file, directory.subspan(kDirectoryBytes + name, extra), entry);
  check_entry(file, entry, data_end);
  directory = directory.subspan(kDirectoryBytes + name + extra + comment);
  return entry;
}

// Overlapping members let a small file unpack to petabytes (Fifield 2019, "A better zip bomb").
void check_overlap(const detail::FileReader& file, const std::vector<ZipEntry>& entries) {
  std::vector<std::uint32_t> order(entries.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return entries[a].header_offset != entries[b].header_offset ? entries[a].header_offset < entries[b].header_offset
                                                                : a < b;
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const ZipEntry &before = entries[order[i - 1]], &entry = entries[order[i]];
    if (entry.header_offset - before.header_offset < kLocalBytes + before.packed_size)
      file.fail(fmt::format("members {} and {} overlap; it is corrupt or a zip bomb", quoted(before.name),
                            quoted(entry.name)));
  }
}

}  // namespace

struct ZipArchive::State {
  detail::FileReader file;
  std::vector<std::byte> directory;  // the entries' names point into it
  std::vector<ZipEntry> entries;
  std::uint64_t data_end = 0;

  template <class... Args>
  explicit State(Args&&... args) : file("zip", std::forward<Args>(args)...) {
    const DirectoryPlace place = find_directory(file);
    data_end = place.offset;
    directory.resize(static_cast<std::size_t>(place.bytes));
    file.read(place.offset, directory.data(), place.bytes);
    entries.reserve(static_cast<std::size_t>(place.count));
    std::span<const std::byte> rest = directory;
    for (std::uint64_t i = 0; i < place.count; ++i) entries.push_back(read_entry(file, rest, data_end));
    check_overlap(file, entries);
  }
};

ZipArchive::ZipArchive(const std::string& path) : state_(std::make_unique<State>(path)) {}
ZipArchive::ZipArchive(std::span<const std::byte> bytes, const std::string& name)
    : state_(std::make_unique<State>(bytes, name)) {}
ZipArchive::~ZipArchive() = default;
ZipArchive::ZipArchive(ZipArchive&&) noexcept = default;
ZipArchive& ZipArchive::operator=(ZipArchive&&) noexcept = default;

const std::vector<ZipEntry>& ZipArchive::entries() const noexcept { return state_->entries; }

const ZipEntry* ZipArchive::find(std::string_view name) const noexcept {
  for (const ZipEntry& entry : state_->entries)
    if (entry.name == name) return &entry;
  return nullptr;
}

// --- members ------------------------------------------------------------------------------------------------------------

struct ZipMember::State {
  const detail::FileReader& file;
  ZipEntry entry;
  std::uint64_t offset, packed_left, unpacked = 0;
  std::uint32_t crc = 0;
  bool is_done = false;

  State(const detail::FileReader& f, const ZipEntry& e, std::uint64_t data_offset)
      : file(f), entry(e), offset(data_offset), packed_left(e.packed_size) {
#if SOLVENT_WITH_ZLIB
    if (entry.is_deflated) {
      input.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kPieceBytes, packed_left)));
      if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) file.fail("zlib could not be started");  // negative: no wrapper
    }
#else
    if (entry.is_deflated)
      fail("is deflated, and this build has no zlib; configure with -DSOLVENT_ZLIB=ON or store it uncompressed");
#endif
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
#if SOLVENT_WITH_ZLIB
    if (entry.is_deflated) inflateEnd(&stream);
#endif
  }

  [[noreturn]] void fail(const std::string& message) const {
    file.fail(fmt::format("member {} {}", quoted(entry.name), message));
  }

  std::size_t read_stored(std::byte* to, std::size_t bytes) {
    const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, packed_left));
    file.read(offset, to, count);
    offset += count;
    packed_left -= count;
    if (packed_left == 0) is_done = true;
    return count;
  }

#if SOLVENT_WITH_ZLIB
  z_stream stream{};
  std::vector<std::byte> input;

  std::size_t inflate_into(std::byte* to, std::size_t bytes) {
    std::size_t done = 0;
    while (done < bytes && !is_done) {
      if (stream.avail_in == 0 && packed_left > 0) {
        const std::uint64_t count = std::min<std::uint64_t>(input.size(), packed_left);
        file.read(offset, input.data(), count);
        offset += count;
        packed_left -= count;
        stream.next_in = reinterpret_cast<Bytef*>(input.data());
        stream.avail_in = static_cast<uInt>(count);
      }
      const std::size_t room = std::min(bytes - done, std::size_t{1} << 30U);
      stream.next_out = reinterpret_cast<Bytef*>(to + done);
      stream.avail_out = static_cast<uInt>(room);
      const int code = inflate(&stream, Z_NO_FLUSH);
      done += room - stream.avail_out;
      if (code == Z_STREAM_END) {
        is_done = true;
      } else if (code != Z_OK || (stream.avail_in == 0 && packed_left == 0 && stream.avail_out > 0)) {
        fail(fmt::format("is truncated or corrupt after {} unpacked bytes: {}", unpacked + done,
                         stream.msg ? stream.msg : "the data end early"));
      }
    }
    return done;
  }
#else
  std::size_t inflate_into(std::byte*, std::size_t) { return 0; }  // the constructor refused
#endif

  std::size_t read(std::byte* to, std::size_t bytes) {
    if (is_checked) return 0;
    // One byte beyond the claimed size may be asked for: that is how surplus data show.
    std::size_t done = entry.is_deflated ? inflate_into(to, bytes) : read_stored(to, bytes);
    if (done > entry.size - unpacked) fail(fmt::format("unpacks to more than the {} bytes it claims", entry.size));
    crc = update_crc(crc, to, done);
    unpacked += done;
    if (is_done && done < bytes) finish();
    return done;
  }

  void finish() {
    is_checked = true;
    if (unpacked != entry.size)
      fail(fmt::format("unpacks to {} bytes; expected the {} of its directory entry", unpacked, entry.size));
    if (crc != entry.crc32)
      fail(fmt::format("has checksum {:08x}; expected {:08x}. The file is corrupt", crc, entry.crc32));
  }

  bool is_checked = false;
};

ZipMember::ZipMember(std::unique_ptr<State> state) : state_(std::move(state)) {}
ZipMember::~ZipMember() = default;
ZipMember::ZipMember(ZipMember&&) noexcept = default;
ZipMember& ZipMember::operator=(ZipMember&&) noexcept = default;

std::size_t ZipMember::read(void* to, std::size_t bytes) {
  return bytes == 0 ? 0 : state_->read(static_cast<std::byte*>(to), bytes);
}

ZipMember ZipArchive::open(const ZipEntry& entry) const {
  const detail::FileReader& file = state_->file;
  std::array<std::byte, kLocalBytes> header{};
  file.read(entry.header_offset, header.data(), header.size());
  const std::size_t name = u16(header.data() + 26), extra = u16(header.data() + 28);
  std::string local_name(name, '\0');
  const std::uint64_t data_offset = entry.header_offset + kLocalBytes + name + extra;
  const bool fits = data_offset <= state_->data_end && entry.packed_size <= state_->data_end - data_offset;
  if (fits) file.read(entry.header_offset + kLocalBytes, local_name.data(), name);
  if (!fits || u32(header.data()) != kLocalSignature || local_name != entry.name)
    file.fail(fmt::format("member {} has no matching local header at byte {}; it is corrupt", quoted(entry.name),
                          entry.header_offset));
  return ZipMember(std::make_unique<ZipMember::State>(file, entry, data_offset));
}

std::vector<std::byte> ZipArchive::read(const ZipEntry& entry, std::uint64_t max_bytes) const {
  if (entry.size > max_bytes)
    state_->file.fail(
        fmt::format("member {} unpacks to {} bytes; expected at most {}", quoted(entry.name), entry.size, max_bytes));
  ZipMember member = open(entry);
  std::vector<std::byte> bytes;
  while (true) {
    const std::size_t before = bytes.size();
    // At least one byte more than claimed, so that the stream's end and checksum are reached.
    const std::uint64_t left = entry.size - before + 1;
    const std::size_t room = static_cast<std::size_t>(std::min<std::uint64_t>(left, std::max(before, kPieceBytes)));
    bytes.resize(before + room);
    const std::size_t got = member.read(bytes.data() + before, room);
    bytes.resize(before + got);
    if (got < room) return bytes;
  }
}

}  // namespace solvent
