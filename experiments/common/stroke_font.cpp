#include "solvent/experiments/common/stroke_font.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <numbers>
#include <sstream>
#include <string>

namespace solvent::experiments {

namespace {

// Strokes in a tiny language; numbers are font units and degrees:
//   m x y                    start a stroke
//   l x y [x y ...]          lines to
//   a cx cy rx ry from to    start a stroke that is an elliptic arc (counter-clockwise if to > from)
//   c cx cy rx ry from to    continue the stroke with an arc
struct GlyphSource {
  char32_t character;
  double width;
  const char* path;
};

constexpr GlyphSource kGlyphs[] = {
    {U' ', 2.6, ""},
    {U'A', 8, "m 0 0 l 4 10 8 0 m 1.3 3.3 l 6.7 3.3"},
    {U'B', 6.8, "m 0 5.2 l 0 10 3.6 10 c 3.6 7.6 2.7 2.4 90 -90 l 0 5.2 0 0 3.8 0 c 3.8 2.6 3 2.6 -90 90"},
    {U'C', 8, "a 4.6 5 4.6 5 45 315"},
    {U'D', 7.6, "m 0 0 l 0 10 2.8 10 c 2.8 5 4.8 5 90 -90 l 0 0"},
    {U'E', 6, "m 6 10 l 0 10 0 0 6 0 m 0 5.2 l 5.2 5.2"},
    {U'F', 5.8, "m 5.8 10 l 0 10 0 0 m 0 5.2 l 5 5.2"},
    {U'G', 8.6, "a 4.6 5 4.6 5 45 350 l 9.1 4.8 5.4 4.8"},
    {U'H', 7.2, "m 0 0 l 0 10 m 7.2 0 l 7.2 10 m 0 5.2 l 7.2 5.2"},
    {U'I', 0, "m 0 0 l 0 10"},
    {U'J', 4.8, "m 4.8 10 l 4.8 2.6 c 2.4 2.6 2.4 2.6 0 -165"},
    {U'K', 6.8, "m 0 0 l 0 10 m 6.4 10 l 0 3.6 m 2.3 5.9 l 6.8 0"},
    {U'L', 5.4, "m 0 10 l 0 0 5.4 0"},
    {U'M', 8.8, "m 0 0 l 0 10 4.4 2 8.8 10 8.8 0"},
    {U'N', 7.2, "m 0 0 l 0 10 7.2 0 7.2 10"},
    {U'O', 9.2, "a 4.6 5 4.6 5 0 360"},
    {U'P', 6.4, "m 0 0 l 0 10 3.6 10 c 3.6 7.3 2.8 2.7 90 -90 l 0 4.6"},
    {U'Q', 9.2, "a 4.6 5 4.6 5 0 360 m 5.8 2.8 l 9.2 -0.9"},
    {U'R', 6.8, "m 0 0 l 0 10 3.6 10 c 3.6 7.3 2.8 2.7 90 -90 l 0 4.6 m 3.5 4.6 l 6.8 0"},
    {U'S', 6.4, "a 3.2 7.6 3 2.4 30 270 c 3.2 2.6 3.2 2.6 90 -155"},
    {U'T', 7.4, "m 0 10 l 7.4 10 m 3.7 10 l 3.7 0"},
    {U'U', 7, "m 0 10 l 0 3.5 c 3.5 3.5 3.5 3.5 180 360 l 7 10"},
    {U'V', 7.8, "m 0 10 l 3.9 0 7.8 10"},
    {U'W', 11, "m 0 10 l 2.8 0 5.5 9.4 8.2 0 11 10"},
    {U'X', 7, "m 0 0 l 7 10 m 0 10 l 7 0"},
    {U'Y', 7.2, "m 0 10 l 3.6 4.8 7.2 10 m 3.6 4.8 l 3.6 0"},
    {U'Z', 6.6, "m 0 10 l 6.6 10 0 0 6.6 0"},
    {U'a', 5.6, "a 2.8 3.5 2.8 3.5 0 360 m 5.6 7 l 5.6 0"},
    {U'b', 5.6, "m 0 10 l 0 0 a 2.8 3.5 2.8 3.5 0 360"},
    {U'c', 4.8, "a 2.8 3.5 2.8 3.5 48 312"},
    {U'd', 5.6, "a 2.8 3.5 2.8 3.5 0 360 m 5.6 10 l 5.6 0"},
    {U'e', 5.5, "m 0 3.7 l 5.6 3.7 c 2.8 3.5 2.8 3.5 3 312"},
    {U'f', 3.4, "m 1.3 0 l 1.3 8.2 c 3.2 8.2 1.9 1.8 180 85 m 0 6.7 l 3.2 6.7"},
    {U'g', 5.6, "a 2.8 3.5 2.8 3.5 0 360 m 5.6 7 l 5.6 -0.2 c 2.8 -0.2 2.8 2.8 0 -145"},
    {U'h', 5.2, "m 0 10 l 0 0 m 0 4.2 c 2.6 4.2 2.6 2.8 180 0 l 5.2 0"},
    {U'i', 0, "m 0 7 l 0 0 m 0 9.5 l 0 9.9"},
    {U'j', 1.4, "m 1.4 7 l 1.4 -1.4 c -0.2 -1.4 1.6 1.6 0 -80 m 1.4 9.5 l 1.4 9.9"},
    {U'k', 5, "m 0 10 l 0 0 m 4.7 7 l 0 2.5 m 1.7 4.1 l 5 0"},
    {U'l', 0, "m 0 10 l 0 0"},
    {U'm', 8.6, "m 0 7 l 0 0 m 0 4.8 c 2.15 4.8 2.15 2.2 180 0 l 4.3 0 m 4.3 4.8 c 6.45 4.8 2.15 2.2 180 0 l 8.6 0"},
    {U'n', 5.2, "m 0 7 l 0 0 m 0 4.2 c 2.6 4.2 2.6 2.8 180 0 l 5.2 0"},
    {U'o', 5.8, "a 2.9 3.5 2.9 3.5 0 360"},
    {U'p', 5.6, "m 0 7 l 0 -3 a 2.8 3.5 2.8 3.5 0 360"},
    {U'q', 5.6, "a 2.8 3.5 2.8 3.5 0 360 m 5.6 7 l 5.6 -3"},
    {U'r', 3.2, "m 0 7 l 0 0 m 0 4 c 2.9 4 2.9 3 180 80"},
    {U's', 4.8, "a 2.4 5.3 2.2 1.7 35 270 c 2.4 1.8 2.4 1.8 90 -150"},
    {U't', 3.4, "m 1.3 9.4 l 1.3 1.9 c 3.2 1.9 1.9 1.9 180 275 m 0 7 l 3.3 7"},
    {U'u', 5.2, "m 0 7 l 0 2.8 c 2.6 2.8 2.6 2.8 180 360 m 5.2 7 l 5.2 0"},
    {U'v', 5.2, "m 0 7 l 2.6 0 5.2 7"},
    {U'w', 8, "m 0 7 l 2 0 4 6.6 6 0 8 7"},
    {U'x', 5, "m 0 7 l 5 0 m 5 7 l 0 0"},
    {U'y', 5.4, "m 0 7 l 2.7 0 m 5.4 7 l 2.1 -1.7 c 0.7 -1.2 1.5 1.8 -20 -90"},
    {U'z', 4.8, "m 0 7 l 4.8 7 0 0 4.8 0"},
    {U'0', 6, "a 3 5 3 5 0 360"},
    {U'1', 6, "m 1.2 8.2 l 3.5 10 3.5 0"},
    {U'2', 6, "a 2.9 7.2 2.7 2.8 165 -38 l 0.2 0 6 0"},
    {U'3', 6, "a 2.8 7.6 2.5 2.4 150 -90 c 2.8 2.6 3.1 2.6 90 -150"},
    {U'4', 6, "m 4.5 0 l 4.5 10 0 3 6.2 3"},
    {U'5', 6, "m 5.3 10 l 1.1 10 0.7 5.5 c 2.9 3.25 3 3.25 135 -150"},
    {U'6', 6, "a 3.05 3.15 2.95 3.15 0 360 m 0.1 3.15 c 5.1 3.15 5 6.85 180 98"},
    {U'7', 6, "m 0 10 l 6 10 2.2 0"},
    {U'8', 6, "a 3 7.6 2.5 2.4 0 360 a 3 2.6 3 2.6 0 360"},
    {U'9', 6, "a 2.95 6.85 2.95 3.15 0 360 m 5.9 6.85 c 0.9 6.85 5 6.85 0 -82"},
    {U'.', 0.4, "m 0.2 0 l 0.2 0.4"},
    {U',', 1, "m 0.7 0.4 l 0.1 -1.8"},
    {U':', 0.4, "m 0.2 0 l 0.2 0.4 m 0.2 5.6 l 0.2 6"},
    {U';', 1, "m 0.7 0.4 l 0.1 -1.8 m 0.6 5.6 l 0.6 6"},
    {U'-', 3.6, "m 0 3.7 l 3.6 3.7"},
    {U'\u2212', 5, "m 0 4 l 5 4"},
    {U'\u2013', 5, "m 0 3.7 l 5 3.7"},
    {U'+', 5.6, "m 0 4 l 5.6 4 m 2.8 1.2 l 2.8 6.8"},
    {U'*', 4.6, "m 2.3 9.6 l 2.3 5 m 0.3 8.5 l 4.3 6.1 m 4.3 8.5 l 0.3 6.1"},
    {U'/', 4.4, "m 0 -1 l 4.4 10.6"},
    {U'\\', 4.4, "m 0 10.6 l 4.4 -1"},
    {U'=', 5.6, "m 0 5.4 l 5.6 5.4 m 0 2.6 l 5.6 2.6"},
    {U'<', 5.2, "m 5.2 7.2 l 0 4 5.2 0.8"},
    {U'>', 5.2, "m 0 7.2 l 5.2 4 0 0.8"},
    {U'(', 2.4, "a 6 4.2 6 8.6 138 222"},
    {U')', 2.4, "a -3.6 4.2 6 8.6 42 -42"},
    {U'[', 2, "m 2 10.6 l 0 10.6 0 -1.8 2 -1.8"},
    {U']', 2, "m 0 10.6 l 2 10.6 2 -1.8 0 -1.8"},
    {U'{', 2.6, "m 2.6 10.6 l 1.2 10 1.2 5.4 0 4.4 1.2 3.4 1.2 -1.2 2.6 -1.8"},
    {U'}', 2.6, "m 0 10.6 l 1.4 10 1.4 5.4 2.6 4.4 1.4 3.4 1.4 -1.2 0 -1.8"},
    {U'|', 0, "m 0 10.6 l 0 -1.8"},
    {U'_', 6, "m 0 -1 l 6 -1"},
    {U'\'', 0.4, "m 0.2 10 l 0.2 7.4"},
    {U'"', 2.2, "m 0.2 10 l 0.2 7.4 m 2 10 l 2 7.4"},
    {U'`', 1.6, "m 0 10 l 1.6 8"},
    {U'!', 0.4, "m 0.2 10 l 0.2 3 m 0.2 0 l 0.2 0.4"},
    {U'?', 5, "a 2.5 7.6 2.4 2.4 165 -60 l 2.5 4.4 2.5 3 m 2.5 0 l 2.5 0.4"},
    {U'%', 8.4, "a 1.8 7.9 1.8 2.1 0 360 a 6.6 2.1 1.8 2.1 0 360 m 7 10 l 1.4 0"},
    {U'#', 6.8, "m 1 0 l 2.6 10 m 4.2 0 l 5.8 10 m 0.2 6.6 l 6.8 6.6 m 0 3.4 l 6.6 3.4"},
    {U'&', 7.4, "m 7.2 0 l 1.8 6.4 c 3 8 1.9 2 215 -35 l 1.6 4.8 c 2.6 2.6 2.6 2.6 120 300 l 7 4.6"},
    {U'@', 9.6, "a 4.8 4.2 2 2.2 0 360 m 6.8 6.4 l 6.8 3 c 8.2 3 1.4 1.2 180 340 c 4.8 4 4.8 5 -10 300"},
    {U'$', 6, "a 3 7.3 2.8 2.1 30 270 c 3 2.7 3 2.5 90 -155 m 3 10.8 l 3 -1"},
    {U'^', 4.4, "m 0 7.4 l 2.2 10 4.4 7.4"},
    {U'~', 5.6, "m 0 3.4 c 1.5 3.4 1.5 1.4 180 40 l 3 3.7 c 4.1 4.4 1.5 1.4 220 360"},
    {U'\u00d7', 5, "m 0 1.6 l 5 6.6 m 0 6.6 l 5 1.6"},
    {U'\u00b7', 0.4, "m 0.2 3.8 l 0.2 4.2"},
    {U'\u00b1', 5.6, "m 0 5 l 5.6 5 m 2.8 2.4 l 2.8 7.6 m 0 0.4 l 5.6 0.4"},
    {U'\u00b5', 5.2, "m 0 7 l 0 -3 m 0 2.8 c 2.6 2.8 2.6 2.8 180 360 m 5.2 7 l 5.2 0"},
    {U'\u00b0', 2.4, "a 1.2 8.8 1.2 1.2 0 360"},
    {U'\u2264', 5.2, "m 5.2 8 l 0 5 5.2 2 m 0 0 l 5.2 0"},
    {U'\u2265', 5.2, "m 0 8 l 5.2 5 0 2 m 0 0 l 5.2 0"},
    {U'\u2192', 7, "m 0 4 l 7 4 m 4.4 6.6 l 7 4 4.4 1.4"},
};

constexpr const char* kMissingGlyph = "m 0 0 l 0 8 5 8 5 0 0 0";

void append_arc(std::vector<Point>& stroke, double cx, double cy, double rx, double ry, double from, double to) {
  const int pieces = std::max(2, static_cast<int>(std::abs(to - from) / 10));
  for (int i = 0; i <= pieces; ++i) {
    const double angle = (from + (to - from) * i / pieces) * std::numbers::pi / 180;
    stroke.push_back({cx + rx * std::cos(angle), cy + ry * std::sin(angle)});
  }
}

Glyph parse_glyph(double width, const char* path) {
  Glyph glyph;
  glyph.width = width;
  std::istringstream stream(path);
  char command = 0;
  std::string token;
  const auto number = [&] {
    double value = 0;
    stream >> value;
    return value;
  };
  while (stream >> token) {
    const bool is_command = token.size() == 1 && std::string_view("mlac").find(token[0]) != std::string_view::npos;
    if (is_command) {
      command = token[0];
      if (command == 'm' || command == 'a') glyph.strokes.emplace_back();
    }
    if (command == 'm' || command == 'l') {
      const double x = is_command ? number() : std::stod(token);
      const double y = number();
      glyph.strokes.back().push_back({x, y});
    } else {
      const double cx = number(), cy = number(), rx = number(), ry = number(), from = number(), to = number();
      append_arc(glyph.strokes.back(), cx, cy, rx, ry, from, to);
    }
  }
  return glyph;
}

std::map<char32_t, Glyph> make_font() {
  std::map<char32_t, Glyph> font;
  for (const GlyphSource& source : kGlyphs) font[source.character] = parse_glyph(source.width, source.path);
  font[0] = parse_glyph(5, kMissingGlyph);
  return font;
}

}  // namespace

const Glyph& glyph_of(char32_t character) {
  static const std::map<char32_t, Glyph> kFont = make_font();
  const auto it = kFont.find(character);
  return it == kFont.end() ? kFont.at(0) : it->second;
}

std::vector<char32_t> decode_utf8(std::string_view text) {
  constexpr char32_t kReplacement = 0xfffd;
  std::vector<char32_t> characters;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<std::uint8_t>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5U == 6 ? 2 : lead >> 4U == 14 ? 3 : lead >> 3U == 30 ? 4 : 0;
    char32_t value = length == 1 ? lead : lead & (0xffU >> (length + 1));
    bool is_valid = length > 0 && i + length <= text.size();
    for (std::size_t k = 1; is_valid && k < length; ++k) {
      const auto next = static_cast<std::uint8_t>(text[i + k]);
      is_valid = next >> 6U == 2;
      value = value << 6U | (next & 63U);
    }
    characters.push_back(is_valid ? value : kReplacement);
    i += is_valid ? length : 1;
  }
  return characters;
}

}  // namespace solvent::experiments
