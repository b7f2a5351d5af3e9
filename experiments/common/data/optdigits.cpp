#include "solvent/experiments/common/data/optdigits.h"

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

constexpr std::int64_t kPixels = 64, kMaxPixel = 16, kNumDigits = 10;

ImageSet read(InputStream& file) {
  ImageSet set;
  set.name = "optdigits";
  set.height = set.width = 8;
  set.max_value = kMaxPixel;
  set.class_names = numbered_classes(kNumDigits);
  set.origin = file.name();
  std::int64_t line_number = 0;
  for (std::string line; file.read_line(line);) {
    ++line_number;
    const auto fail = [&](const std::string& problem) {
      throw DataError(fmt::format("[read_optdigits] {}:{}: {}", file.name(), line_number, problem));
    };
    if (trim(line).empty()) continue;
    std::int64_t count = 0;
    Pieces pieces(trim(line), ',');
    for (std::string_view piece; pieces.next(piece); ++count) {
      const auto value = parse_integer(trim(piece));
      const std::int64_t limit = count < kPixels ? kMaxPixel : kNumDigits - 1;
      if (count > kPixels || !value || *value < 0 || *value > limit) {
        fail(fmt::format("number {} is \"{}\"; expected 64 integers 0 to 16 and a digit", count + 1, excerpt(piece)));
      }
      if (count < kPixels) {
        set.pixels.push_back(static_cast<std::uint8_t>(*value));
      } else {
        set.labels.push_back(*value);
      }
    }
    if (count != kPixels + 1) fail(fmt::format("{} numbers; expected 64 pixels and a digit", count));
  }
  if (set.size() == 0) throw DataError(fmt::format("[read_optdigits] {} is empty", file.name()));
  return set;
}

}  // namespace

ImageSet read_optdigits(const std::filesystem::path& path, const ReadProgress& progress) {
  InputStream file(path, progress);
  return read(file);
}

ImageSet parse_optdigits(std::span<const std::byte> bytes, const std::string& name) {
  InputStream file(bytes, name);
  return read(file);
}

}  // namespace solvent::experiments
