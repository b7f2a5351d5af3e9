// Lines are drawn by distance: a pixel's coverage is how far its centre lies inside the stroke, clamped to one pixel of
// transition. The coverage of all segments of a stroke is combined by maximum before it is blended once.

#include "solvent/experiments/common/canvas.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/experiments/common/stroke_font.h"

namespace solvent::experiments {

namespace {

constexpr int kMaxSize = 16384;
constexpr double kCapHeight = 10;       // font units
constexpr double kLetterSpacing = 2.5;  // font units
constexpr double kSuperscriptScale = 0.72, kSuperscriptRise = 0.55;

double distance_to_segment(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double squared = dx * dx + dy * dy;
  const double along = squared > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / squared, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - along * dx, p.y - a.y - along * dy);
}

Rectangle bounds_of(std::span<const std::vector<Point>> lines, double margin) {
  constexpr double kFar = 1e9;
  Rectangle box{kFar, kFar, -kFar, -kFar};
  for (const auto& line : lines) {
    for (const Point& p : line) {
      box = {std::min(box.left, p.x), std::min(box.top, p.y), std::max(box.right, p.x), std::max(box.bottom, p.y)};
    }
  }
  return {box.left - margin, box.top - margin, box.right + margin, box.bottom + margin};
}

/// Coverage of a set of strokes within a box of whole pixels.
class CoverageMask {
 public:
  explicit CoverageMask(const Rectangle& box)
      : left_(static_cast<int>(std::floor(box.left))),
        top_(static_cast<int>(std::floor(box.top))),
        width_(static_cast<int>(std::ceil(box.right)) - left_),
        height_(static_cast<int>(std::ceil(box.bottom)) - top_) {
    width_ = std::max(width_, 0);
    height_ = std::max(height_, 0);
    coverage_.assign(static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_), 0.0F);
  }

  void add_segment(Point a, Point b, double radius) {
    const double reach = radius + 1;
    const int x0 = std::max(static_cast<int>(std::floor(std::min(a.x, b.x) - reach)) - left_, 0);
    const int x1 = std::min(static_cast<int>(std::ceil(std::max(a.x, b.x) + reach)) - left_, width_);
    const int y0 = std::max(static_cast<int>(std::floor(std::min(a.y, b.y) - reach)) - top_, 0);
    const int y1 = std::min(static_cast<int>(std::ceil(std::max(a.y, b.y) + reach)) - top_, height_);
    for (int y = y0; y < y1; ++y) {
      for (int x = x0; x < x1; ++x) {
        const Point center{x + left_ + 0.5, y + top_ + 0.5};
        const double covered = std::clamp(radius + 0.5 - distance_to_segment(center, a, b), 0.0, 1.0);
        float& cell =
            coverage_[static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)];
        cell = std::max(cell, static_cast<float>(covered));
      }
    }
  }

  /// Calls visit(x, y, coverage) for every touched pixel.
  template <class Visit>
  void for_each(Visit&& visit) const {
    std::size_t k = 0;
    for (int y = 0; y < height_; ++y) {
      for (int x = 0; x < width_; ++x, ++k) {
        if (coverage_[k] > 0) visit(x + left_, y + top_, coverage_[k]);
      }
    }
  }

 private:
  int left_, top_, width_, height_;
  std::vector<float> coverage_;
};

/// Characters of a text with their place: superscripts are raised and smaller.
struct PlacedGlyph {
  const Glyph* glyph;
  double x, y, scale;  // font units; y upwards
};

double layout(std::string_view text, std::vector<PlacedGlyph>* glyphs) {
  const std::vector<char32_t> characters = decode_utf8(text);
  double x = 0, end = 0;
  bool raised = false;
  for (std::size_t i = 0; i < characters.size(); ++i) {
    if (!raised && characters[i] == U'^' && i + 1 < characters.size() && characters[i + 1] == U'{') {
      raised = true;
      ++i;
      continue;
    }
    if (raised && characters[i] == U'}') {
      raised = false;
      continue;
    }
    const double scale = raised ? kSuperscriptScale : 1;
    const Glyph& glyph = glyph_of(characters[i]);
    if (glyphs) glyphs->push_back({&glyph, x, raised ? kSuperscriptRise * kCapHeight : 0, scale});
    end = x + glyph.width * scale;
    x = end + kLetterSpacing * scale;
  }
  return end;
}

}  // namespace

Canvas::Canvas(int width, int height, Color background) : width_(width), height_(height) {
  if (width < 1 || height < 1 || width > kMaxSize || height > kMaxSize) {
    throw ValueError(fmt::format("[Canvas] got {} x {} pixels; expected 1 to {}", width, height, kMaxSize));
  }
  const std::size_t count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  pixels_.resize(3 * count);
  for (std::size_t i = 0; i < count; ++i) {
    pixels_[3 * i] = background.red;
    pixels_[3 * i + 1] = background.green;
    pixels_[3 * i + 2] = background.blue;
  }
  reset_clip();
}

void Canvas::reset_clip() { clip_ = {0, 0, static_cast<double>(width_), static_cast<double>(height_)}; }

Rectangle Canvas::clipped(const Rectangle& area) const {
  return {std::max({area.left, clip_.left, 0.0}), std::max({area.top, clip_.top, 0.0}),
          std::min({area.right, clip_.right, static_cast<double>(width_)}),
          std::min({area.bottom, clip_.bottom, static_cast<double>(height_)})};
}

void Canvas::blend(std::size_t pixel, Color color, float alpha) {
  float* p = pixels_.data() + 3 * pixel;
  p[0] += alpha * (color.red - p[0]);
  p[1] += alpha * (color.green - p[1]);
  p[2] += alpha * (color.blue - p[2]);
}

void Canvas::fill(const Rectangle& area, Color color, double alpha) {
  const Rectangle box = clipped(area);
  for (int y = static_cast<int>(std::floor(box.top)); y < std::ceil(box.bottom); ++y) {
    const double rows = std::min(box.bottom, y + 1.0) - std::max(box.top, static_cast<double>(y));
    for (int x = static_cast<int>(std::floor(box.left)); x < std::ceil(box.right); ++x) {
      const double columns = std::min(box.right, x + 1.0) - std::max(box.left, static_cast<double>(x));
      if (rows <= 0 || columns <= 0) continue;
      blend(static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x), color,
            static_cast<float>(alpha * rows * columns));
    }
  }
}

void Canvas::polylines(std::span<const std::vector<Point>> lines, double line_width, Color color, double alpha) {
  const double radius = line_width / 2;
  CoverageMask mask(clipped(bounds_of(lines, radius + 1)));
  for (const auto& line : lines) {
    if (line.size() == 1) mask.add_segment(line[0], line[0], radius);
    for (std::size_t i = 1; i < line.size(); ++i) mask.add_segment(line[i - 1], line[i], radius);
  }
  mask.for_each([&](int x, int y, float coverage) {
    blend(static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x), color,
          coverage * static_cast<float>(alpha));
  });
}

void Canvas::polyline(std::span<const Point> points, double line_width, Color color, double alpha) {
  const std::vector<std::vector<Point>> lines = {{points.begin(), points.end()}};
  polylines(lines, line_width, color, alpha);
}

void Canvas::dashed(std::span<const Point> points, double line_width, double on, double off, Color color,
                    double alpha) {
  std::vector<std::vector<Point>> dashes;
  double phase = 0;  // position within one period of on + off
  for (std::size_t i = 1; i < points.size(); ++i) {
    const Point a = points[i - 1], b = points[i];
    const double length = std::hypot(b.x - a.x, b.y - a.y);
    for (double done = 0; done < length;) {
      const bool is_on = phase < on;
      const double step = std::min((is_on ? on : on + off) - phase, length - done);
      if (is_on) {
        const auto at = [&](double s) { return Point{a.x + (b.x - a.x) * s / length, a.y + (b.y - a.y) * s / length}; };
        if (phase == 0 || dashes.empty()) dashes.push_back({at(done)});
        dashes.back().push_back(at(done + step));
      }
      done += step;
      phase += step;
      if (phase >= on + off - 1e-9) phase = 0;
      if (step <= 0) break;  // rounding at a boundary; the rest is shorter than a pixel's thousandth
    }
  }
  polylines(dashes, line_width, color, alpha);
}

void Canvas::disc(Point center, double radius, Color color, double alpha) {
  const std::vector<std::vector<Point>> dot = {{center}};
  polylines(dot, 2 * radius, color, alpha);
}

double Canvas::text_width(std::string_view text, double size) { return layout(text, nullptr) * size / kCapHeight; }

void Canvas::text(Point anchor, std::string_view text, const TextStyle& style) {
  std::vector<PlacedGlyph> glyphs;
  const double unit = style.size / kCapHeight;
  const double width = layout(text, &glyphs) * unit;
  const double shift = style.align == Align::left ? 0 : style.align == Align::center ? width / 2 : width;
  const double angle = style.angle_degrees * std::numbers::pi / 180;
  const double c = std::cos(angle), s = std::sin(angle);
  std::vector<std::vector<Point>> strokes;
  for (const PlacedGlyph& placed : glyphs) {
    for (const auto& stroke : placed.glyph->strokes) {
      std::vector<Point>& line = strokes.emplace_back();
      for (const Point& p : stroke) {
        const double x = (placed.x + p.x * placed.scale) * unit - shift, y = (placed.y + p.y * placed.scale) * unit;
        line.push_back({anchor.x + x * c - y * s, anchor.y - x * s - y * c});
      }
    }
  }
  polylines(strokes, std::max(style.size * (style.bold ? 0.17 : 0.125), 1.0), style.color);
}

std::vector<std::uint8_t> Canvas::to_rgb8() const {
  std::vector<std::uint8_t> bytes(pixels_.size());
  for (std::size_t i = 0; i < pixels_.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(std::lround(255 * std::clamp(pixels_[i], 0.0F, 1.0F)));
  }
  return bytes;
}

}  // namespace solvent::experiments
