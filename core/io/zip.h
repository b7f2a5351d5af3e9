#pragma once
/// Reading zip archives: stored and deflated members, zip64. Nothing that the archive claims is trusted: offsets must lie
/// in the file, members must not overlap, sizes must be possible for deflate, checksums are verified.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/core/export.h"

namespace solvent {

/// One member of an archive, as its directory describes it.
struct ZipEntry {
  std::string_view name;            ///< with folders, as stored; valid as long as the archive
  std::uint64_t size = 0;           ///< bytes when unpacked
  std::uint64_t packed_size = 0;    ///< bytes in the archive
  std::uint64_t header_offset = 0;  ///< of the member's local header
  std::uint32_t crc32 = 0;          ///< of the unpacked bytes
  bool is_deflated = false;         ///< compressed (method 8), or stored as it is (method 0)
};

class ZipMember;

/// An open archive.
///
///     const ZipArchive archive("images.zip");
///     for (const ZipEntry& entry : archive.entries())
///       if (entry.name.ends_with(".png")) use(archive.read(entry, 1 << 20));
class SOLVENT_API ZipArchive {
 public:
  /// Reads the directory. @throws IoError naming what is wrong: no zip file, truncated, split, encrypted, more than
  /// 131072 members, members that overlap or lie outside the file, an unsupported compression method.
  explicit ZipArchive(const std::string& path);
  /// The same from bytes in memory, which must outlive the archive; `name` stands for the path in messages.
  explicit ZipArchive(std::span<const std::byte> bytes, const std::string& name = "memory");
  ~ZipArchive();
  /// Takes over the open archive.
  /// @{
  ZipArchive(ZipArchive&&) noexcept;
  ZipArchive& operator=(ZipArchive&&) noexcept;
  /// @}
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;

  /// Members in the order of the directory, folders (names that end in a slash) included.
  [[nodiscard]] const std::vector<ZipEntry>& entries() const noexcept;
  /// The first member of this name, or null.
  [[nodiscard]] const ZipEntry* find(std::string_view name) const noexcept;
  /// The unpacked bytes. Memory grows with what really comes out of the archive.
  /// @throws IoError if the member is larger than `max_bytes` (a zip bomb?), corrupt, or deflated in a build without zlib.
  [[nodiscard]] std::vector<std::byte> read(const ZipEntry& entry, std::uint64_t max_bytes) const;
  /// The member as a stream. The archive must outlive it. @throws IoError for a corrupt local header.
  [[nodiscard]] ZipMember open(const ZipEntry& entry) const;

 private:
  friend class ZipMember;
  struct State;
  std::unique_ptr<State> state_;
};

/// A member being unpacked.
class SOLVENT_API ZipMember {
 public:
  ~ZipMember();
  /// Takes over the open stream.
  /// @{
  ZipMember(ZipMember&&) noexcept;
  ZipMember& operator=(ZipMember&&) noexcept;
  /// @}
  ZipMember(const ZipMember&) = delete;
  ZipMember& operator=(const ZipMember&) = delete;

  /// Up to `bytes` more unpacked bytes; fewer only at the end, where the checksum is verified. @throws IoError
  std::size_t read(void* to, std::size_t bytes);

 private:
  friend class ZipArchive;
  struct State;
  explicit ZipMember(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace solvent
