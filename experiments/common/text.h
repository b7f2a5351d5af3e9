#pragma once
/// Small text helpers shared by the experiment programs.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace solvent::experiments {

/// Number of single-character insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`
/// (restricted Damerau-Levenshtein distance). Case-sensitive, byte-wise.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `name`, ignoring case and taking `_` for `-`; empty when none is near enough to be a
/// likely typing error (at most a third of the longer name differs). The first of equally near ones wins.
std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> candidates);

/// Shortest decimal text that reads back to the same bits; "nan", "inf" and "-inf" for the rest.
std::string format_exact(double value);

/// Human-readable number with `digits` significant digits, as `%g` prints it.
std::string format_short(double value, int digits = 4);

/// "0.8 s", "42 s", "3:07", "1:02:45", "2 d 03:00:00"; "--" when not finite or negative.
std::string format_duration(double seconds);

/// Removes blanks, tabs, CR and LF at both ends.
std::string_view trim(std::string_view text);

/// Pieces of `text` between `separator`s; one empty piece for an empty text.
std::vector<std::string_view> split(std::string_view text, char separator);

/// The pieces that split() lists, one after the other and without a list: a line may have millions of them.
///
///     Pieces pieces(line, ',');
///     for (std::string_view piece; pieces.next(piece);) use(piece);
class Pieces {
 public:
  Pieces(std::string_view text, char separator) : rest_(text), separator_(separator) {}
  bool next(std::string_view& piece);

 private:
  std::string_view rest_;
  char separator_;
  bool has_more_ = true;
};

/// Whether `text` is well-formed UTF-8 (no overlong forms, no surrogates).
bool is_utf8(std::string_view text);

/// Text quoted in a message: cut to 40 bytes, anything but printable ASCII spelled as \xNN.
std::string excerpt(std::string_view text);

/// Joins with `separator`.
std::string join(std::span<const std::string> items, std::string_view separator);

/// ASCII lower case.
std::string to_lower(std::string_view text);

/// Breaks `text` at blanks into lines of at most `width` characters; continuation lines start with `indent` blanks.
/// A word longer than a line stays whole.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent);

/// Whole-text number parsers: empty result when `text` is not exactly one number of that kind. A leading plus sign is
/// accepted. `parse_real` also reads nan and inf; overflow gives an empty result.
std::optional<std::int64_t> parse_integer(std::string_view text);
std::optional<double> parse_real(std::string_view text);

}  // namespace solvent::experiments
