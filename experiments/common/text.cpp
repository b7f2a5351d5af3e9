#include "solvent/experiments/common/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <system_error>

#include <fmt/format.h>

namespace solvent::experiments {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  const std::size_t columns = b.size() + 1;
  std::vector<std::size_t> before(columns), previous(columns), current(columns);
  for (std::size_t j = 0; j < columns; ++j) previous[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j < columns; ++j) {
      const std::size_t replace = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replace});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) current[j] = std::min(current[j], before[j - 2] + 1);
    }
    before.swap(previous);
    previous.swap(current);
  }
  return previous[b.size()];
}

namespace {

std::string comparable(std::string_view name) {
  std::string text = to_lower(name);
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

}  // namespace

std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> candidates) {
  const std::string wanted = comparable(name);
  std::optional<std::string> best;
  std::size_t best_distance = 0;
  for (const std::string& candidate : candidates) {
    const std::string other = comparable(candidate);
    std::size_t distance = edit_distance(wanted, other);
    // A name cut short or prolonged ("rate" for "learning-rate") is a likely slip although many letters differ.
    const bool contained = wanted.size() >= 3 && other.size() >= 3 &&
                           (other.find(wanted) != std::string::npos || wanted.find(other) != std::string::npos);
    const std::size_t limit = std::max(wanted.size(), other.size()) / 3;
    if (contained) distance = std::min(distance, std::max<std::size_t>(limit, 1));
    const bool is_replaced = distance >= std::max(wanted.size(), other.size());  // "x" is no slip for "a"
    if (is_replaced || distance > std::max<std::size_t>(limit, 1)) continue;
    if (!best || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string format_exact(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

std::string format_short(double value, int digits) { return fmt::format("{:.{}g}", value, digits); }

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "--";
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  if (seconds > 1e12) return "--";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t s = whole % 60, m = whole / 60 % 60, h = whole / 3600 % 24, d = whole / 86400;
  if (whole < 60) return fmt::format("{} s", s);
  if (whole < 3600) return fmt::format("{}:{:02}", m, s);
  if (d == 0) return fmt::format("{}:{:02}:{:02}", h, m, s);
  return fmt::format("{} d {:02}:{:02}:{:02}", d, h, m, s);
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (true) {
    const std::size_t end = text.find(separator);
    pieces.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

bool Pieces::next(std::string_view& piece) {
  if (!has_more_) return false;
  const std::size_t end = rest_.find(separator_);
  has_more_ = end != std::string_view::npos;
  piece = rest_.substr(0, end);
  if (has_more_) rest_.remove_prefix(end + 1);
  return true;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[k])); };
    const std::uint32_t lead = byte(i);
    const std::size_t count = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || count > text.size() - i) return false;
    std::uint32_t code = count == 1 ? lead : lead & (0x7fU >> count);
    for (std::size_t k = 1; k < count; ++k) {
      if ((byte(i + k) & 0xc0U) != 0x80) return false;
      code = code << 6U | (byte(i + k) & 0x3fU);
    }
    const bool is_overlong = (count == 3 && code < 0x800) || (count == 4 && code < 0x10000);
    if (is_overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += count;
  }
  return true;
}

std::string excerpt(std::string_view text) {
  constexpr std::size_t kLength = 40;
  std::string quoted;
  for (const char c : text.substr(0, kLength)) {
    const auto byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20 || byte >= 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return text.size() <= kLength ? quoted : quoted + "...";
}

std::string join(std::span<const std::string> items, std::string_view separator) {
  return fmt::format("{}", fmt::join(items.begin(), items.end(), separator));
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  std::string result;
  std::size_t column = 0;
  bool line_is_empty = true;
  for (const std::string_view word : split(text, ' ')) {
    if (word.empty()) continue;
    if (!line_is_empty && column + 1 + word.size() > width) {
      result += '\n';
      result.append(indent, ' ');
      column = indent;
    } else if (!line_is_empty) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
    line_is_empty = false;
  }
  return result;
}

namespace {

template <class T>
std::optional<T> parse_whole(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  T value{};
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc{} || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text) { return parse_whole<std::int64_t>(text); }

std::optional<double> parse_real(std::string_view text) { return parse_whole<double>(text); }

}  // namespace solvent::experiments
