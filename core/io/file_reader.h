#pragma once
/// Reading binary files whose claims are not trusted. Internal to core.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace solvent::detail {

/// A regular file opened for reading, or bytes in memory that stand for one. Every error is an IoError that starts with
/// the operation and the path.
class FileReader {
 public:
  FileReader(const char* op, std::string path);
  /// `bytes` must outlive the reader; `name` stands for the path in messages.
  FileReader(const char* op, std::span<const std::byte> bytes, std::string name);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  /// Bytes in the file when it was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Exactly `bytes` bytes from `offset`; anything less is an error.
  void read(std::uint64_t offset, void* to, std::uint64_t bytes) const;
  /// "[op] 'path'", in front of every message.
  [[nodiscard]] std::string prefix() const;
  /// Throws IoError "<prefix>: <message>".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const char* op_;
  std::string path_;
  int descriptor_;  // -1: the bytes are in memory
  const std::byte* memory_ = nullptr;
  std::uint64_t size_ = 0;
};

/// A file, or a member of one, read from its start to its end: what the parsers of nested formats consume.
class SequentialSource {
 public:
  virtual ~SequentialSource();
  /// Bytes in total, as claimed; read() checks the claim.
  [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;
  /// The next `bytes` bytes; anything less is an error.
  virtual void read(void* to, std::uint64_t bytes) = 0;
  /// "[op] 'path'", in front of every message.
  [[nodiscard]] virtual std::string prefix() const = 0;
  /// Throws IoError "<prefix>: <message>".
  [[noreturn]] void fail(const std::string& message) const;
};

/// A whole file as a source.
class FileSource final : public SequentialSource {
 public:
  explicit FileSource(const FileReader& file) : file_(file) {}
  [[nodiscard]] std::uint64_t size() const noexcept override { return file_.size(); }
  void read(void* to, std::uint64_t bytes) override {
    file_.read(offset_, to, bytes);
    offset_ += bytes;
  }
  [[nodiscard]] std::string prefix() const override { return file_.prefix(); }

 private:
  const FileReader& file_;
  std::uint64_t offset_ = 0;
};

}  // namespace solvent::detail
