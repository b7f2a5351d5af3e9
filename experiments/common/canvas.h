#pragma once
/// A small anti-aliased raster: lines, discs, rectangles and text in one built-in stroke font.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace solvent::experiments {

struct Point {
  double x = 0, y = 0;
};

/// sRGB components 0..1.
struct Color {
  float red = 0, green = 0, blue = 0;
  /// 0xRRGGBB.
  static constexpr Color hex(std::uint32_t rgb) {
    return {static_cast<float>((rgb >> 16U) & 255U) / 255.0F, static_cast<float>((rgb >> 8U) & 255U) / 255.0F,
            static_cast<float>(rgb & 255U) / 255.0F};
  }
};

struct Rectangle {
  double left = 0, top = 0, right = 0, bottom = 0;
  [[nodiscard]] double width() const { return right - left; }
  [[nodiscard]] double height() const { return bottom - top; }
};

enum class Align { left, center, right };

/// How text is drawn. `size` is the height of capital letters in pixels.
struct TextStyle {
  double size = 9;
  Color color = {};
  Align align = Align::left;
  double angle_degrees = 0;  ///< counter-clockwise around the anchor
  bool bold = false;
};

/// Pixel coordinates: x to the right, y downwards, pixel (i, j) covers [i, i+1) x [j, j+1).
class Canvas {
 public:
  /// Filled with `background`. @throws ValueError for sizes outside 1..16384.
  Canvas(int width, int height, Color background);

  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] int height() const { return height_; }
  /// Limits all drawing to a rectangle, until reset_clip().
  void set_clip(const Rectangle& clip) { clip_ = clip; }
  void reset_clip();

  void fill(const Rectangle& area, Color color, double alpha = 1);
  /// Connected line with round joins and ends. One coverage per pixel, so a translucent line has no dark joints.
  void polyline(std::span<const Point> points, double line_width, Color color, double alpha = 1);
  /// Several lines blended as one.
  void polylines(std::span<const std::vector<Point>> lines, double line_width, Color color, double alpha = 1);
  /// The same in dashes of the given lengths.
  void dashed(std::span<const Point> points, double line_width, double on, double off, Color color, double alpha = 1);
  void disc(Point center, double radius, Color color, double alpha = 1);

  /// Draws UTF-8 text with its baseline at `anchor`. `^{...}` raises and shrinks a part. Characters that the font lacks
  /// become a small box.
  void text(Point anchor, std::string_view text, const TextStyle& style);
  /// Width of a text in pixels.
  static double text_width(std::string_view text, double size);

  /// 8-bit RGB, row by row.
  [[nodiscard]] std::vector<std::uint8_t> to_rgb8() const;

 private:
  void blend(std::size_t pixel, Color color, float alpha);
  [[nodiscard]] Rectangle clipped(const Rectangle& area) const;

  int width_, height_;
  Rectangle clip_;
  std::vector<float> pixels_;  // (height, width, 3)
};

/// 8-bit pixels (height, width, channels) as the bytes of a PNG file. @throws ValueError for a wrong size
std::string encode_png(int width, int height, int channels, std::span<const std::uint8_t> pixels);

/// Writes 8-bit pixels (height, width, channels) as PNG, atomically. @throws IoError; ValueError for a wrong size.
void write_png(const std::filesystem::path& file, int width, int height, int channels,
               std::span<const std::uint8_t> pixels);

}  // namespace solvent::experiments
