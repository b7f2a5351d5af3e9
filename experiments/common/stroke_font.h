#pragma once
/// The plotter's font: glyphs as strokes, so that one table serves every size and angle.

#include <string_view>
#include <vector>

#include "solvent/experiments/common/canvas.h"

namespace solvent::experiments {

/// Glyph in font units: baseline at y = 0, capital letters 10 high, y upwards.
struct Glyph {
  double width = 0;
  std::vector<std::vector<Point>> strokes;
};

/// The glyph of a Unicode character; a box for those that the font lacks.
const Glyph& glyph_of(char32_t character);

/// Decodes UTF-8; bytes that are none become U+FFFD.
std::vector<char32_t> decode_utf8(std::string_view text);

}  // namespace solvent::experiments
