#include <zlib.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/experiments/common/canvas.h"
#include "solvent/experiments/common/plot.h"
#include "solvent/experiments/common/stroke_font.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;
using solvent::experiments::testing::read_text;
using solvent::experiments::testing::TemporaryDirectory;

namespace {

struct Image {
  int width = 0, height = 0, channels = 0;
  std::vector<std::uint8_t> pixels;

  [[nodiscard]] std::vector<int> at(int x, int y) const {
    const auto k = static_cast<std::size_t>((y * width + x) * channels);
    return {pixels.begin() + static_cast<std::ptrdiff_t>(k),
            pixels.begin() + static_cast<std::ptrdiff_t>(k) + channels};
  }
};

std::uint32_t big_endian(const std::string& text, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<std::uint8_t>(text[at + i]);
  return value;
}

/// Decodes an 8-bit PNG by its specification (RFC 2083, section 6), checking every chunk's checksum.
Image decode_png(const std::string& file) {
  REQUIRE(file.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  Image image;
  std::string packed;
  for (std::size_t at = 8; at < file.size();) {
    const std::uint32_t length = big_endian(file, at);
    const std::string type = file.substr(at + 4, 4);
    const auto* body = reinterpret_cast<const Bytef*>(file.data() + at + 4);
    REQUIRE(crc32(0, body, length + 4) == big_endian(file, at + 8 + length));
    if (type == "IHDR") {
      image.width = static_cast<int>(big_endian(file, at + 8));
      image.height = static_cast<int>(big_endian(file, at + 12));
      REQUIRE(file[at + 16] == 8);
      image.channels = file[at + 17] == 2 ? 3 : file[at + 17] == 6 ? 4 : file[at + 17] == 0 ? 1 : 0;
      REQUIRE(image.channels != 0);
    }
    if (type == "IDAT") packed += file.substr(at + 8, length);
    at += 12 + length;
  }
  const auto row = static_cast<std::size_t>(image.width * image.channels);
  std::vector<std::uint8_t> raw((row + 1) * static_cast<std::size_t>(image.height));
  uLongf size = raw.size();
  REQUIRE(uncompress(raw.data(), &size, reinterpret_cast<const Bytef*>(packed.data()), packed.size()) == Z_OK);
  REQUIRE(size == raw.size());
  image.pixels.resize(row * static_cast<std::size_t>(image.height));
  const auto channels = static_cast<std::size_t>(image.channels);
  for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y) {
    const std::uint8_t filter = raw[y * (row + 1)];
    REQUIRE(filter < 5);
    for (std::size_t x = 0; x < row; ++x) {
      const int left = x >= channels ? image.pixels[y * row + x - channels] : 0;
      const int up = y > 0 ? image.pixels[(y - 1) * row + x] : 0;
      const int corner = x >= channels && y > 0 ? image.pixels[(y - 1) * row + x - channels] : 0;
      const int guess = left + up - corner;
      const int to_left = std::abs(guess - left), to_up = std::abs(guess - up), to_corner = std::abs(guess - corner);
      const int paeth = to_left <= to_up && to_left <= to_corner ? left : to_up <= to_corner ? up : corner;
      const int predicted[] = {0, left, up, (left + up) / 2, paeth};
      image.pixels[y * row + x] = static_cast<std::uint8_t>(raw[y * (row + 1) + 1 + x] + predicted[filter]);
    }
  }
  return image;
}

std::vector<std::string> texts(const std::vector<Tick>& ticks) {
  std::vector<std::string> result;
  for (const Tick& tick : ticks) {
    if (!tick.text.empty()) result.push_back(tick.text);
  }
  return result;
}

using Texts = std::vector<std::string>;

/// Number of pixels with about this colour.
int count_color(const Image& image, int r, int g, int b) {
  int count = 0;
  for (std::size_t k = 0; k < image.pixels.size(); k += 3) {
    const bool is_near = std::abs(image.pixels[k] - r) < 12 && std::abs(image.pixels[k + 1] - g) < 12 &&
                         std::abs(image.pixels[k + 2] - b) < 12;
    count += is_near ? 1 : 0;
  }
  return count;
}

Image draw(const Figure& figure) {
  const TemporaryDirectory dir;
  save_figure(figure, dir / "f.png");
  return decode_png(read_text(dir / "f.png"));
}

}  // namespace

TEST_CASE("png: pixels survive a round trip through an independent decoder") {
  const TemporaryDirectory dir;
  for (const int channels : {1, 3, 4}) {
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(37 * 23 * channels));
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * i / 7 + i);
    write_png(dir / "a.png", 37, 23, channels, pixels);
    const Image image = decode_png(read_text(dir / "a.png"));
    CHECK(image.width == 37);
    CHECK(image.height == 23);
    CHECK(image.pixels == pixels);
  }
  const std::vector<std::uint8_t> few(5);
  CHECK_THAT(message_of<solvent::ValueError>([&] { write_png(dir / "b.png", 2, 2, 3, few); }),
             Contains("got 5 bytes for 2 x 2 pixels of 3"));
  CHECK_THROWS_AS(write_png(dir / "no/such/b.png", 1, 5, 1, few), solvent::IoError);
}

TEST_CASE("canvas: lines cover the pixels they pass, the clip holds, coverage is exact for half a pixel") {
  Canvas canvas(20, 10, Color::hex(0xffffff));
  const std::vector<Point> line = {{2, 5}, {18, 5}};
  canvas.set_clip({0, 0, 10, 10});
  canvas.polyline(line, 2, Color::hex(0x000000));
  canvas.reset_clip();
  canvas.fill({15, 0, 15.5, 1}, Color::hex(0x000000));
  Image image{20, 10, 3, canvas.to_rgb8()};
  CHECK(image.at(5, 4) == std::vector<int>{0, 0, 0});
  CHECK(image.at(5, 5) == std::vector<int>{0, 0, 0});
  CHECK(image.at(5, 2) == std::vector<int>{255, 255, 255});
  CHECK(image.at(12, 5) == std::vector<int>{255, 255, 255});
  CHECK(image.at(15, 0) == std::vector<int>{128, 128, 128});
  CHECK_THROWS_AS(Canvas(0, 10, {}), solvent::ValueError);
  CHECK_THROWS_AS(Canvas(10, 100000, {}), solvent::ValueError);
}

TEST_CASE("canvas: a translucent line has no darker joints") {
  Canvas canvas(30, 30, Color::hex(0xffffff));
  const std::vector<Point> line = {{5, 15}, {15, 15}, {25, 15}, {15, 15}};
  canvas.polyline(line, 6, Color::hex(0x000000), 0.5);
  const Image image{30, 30, 3, canvas.to_rgb8()};
  CHECK(image.at(10, 15) == image.at(15, 15));
  CHECK(image.at(10, 15) == std::vector<int>{128, 128, 128});
}

TEST_CASE("canvas: dashes alternate with the given lengths") {
  Canvas canvas(60, 9, Color::hex(0xffffff));
  const std::vector<Point> line = {{0, 4.5}, {25, 4.5}, {60, 4.5}};
  canvas.dashed(line, 2, 6, 6, Color::hex(0x000000));
  const Image image{60, 9, 3, canvas.to_rgb8()};
  for (const int x : {3, 15, 27, 39, 51}) CHECK(image.at(x, 4)[0] == 0);
  for (const int x : {9, 21, 33, 45, 57}) CHECK(image.at(x, 4)[0] == 255);
}

TEST_CASE("font: all printable ASCII has glyphs, UTF-8 is decoded, superscripts are narrower") {
  const Glyph& missing = glyph_of(U'\u4e2d');
  CHECK_FALSE(missing.strokes.empty());
  for (char32_t c = 33; c < 127; ++c) {
    INFO(static_cast<int>(c));
    CHECK(&glyph_of(c) != &missing);
    CHECK_FALSE(glyph_of(c).strokes.empty());
    for (const auto& stroke : glyph_of(c).strokes) {
      for (const Point& p : stroke) {
        CHECK(p.x > -2);
        CHECK(p.x < 13);
        CHECK(p.y > -4);
        CHECK(p.y < 12);
      }
    }
  }
  CHECK(decode_utf8("a\xc3\x97\xe2\x86\x92") == std::vector<char32_t>{U'a', U'\u00d7', U'\u2192'});
  CHECK(decode_utf8("\xff\xc3") == std::vector<char32_t>{0xfffd, 0xfffd});
  CHECK(Canvas::text_width("10^{-3}", 10) < Canvas::text_width("10-3", 10));
  CHECK(Canvas::text_width("", 10) == 0);
}

TEST_CASE("ticks: linear axes have round numbers") {
  CHECK(texts(linear_ticks(0, 10, 6)) == Texts{"0", "2", "4", "6", "8", "10"});
  CHECK(texts(linear_ticks(-0.1, 0.32, 5)) == Texts{"\u22120.1", "0", "0.1", "0.2", "0.3"});
  CHECK(texts(linear_ticks(0.9971, 0.9989, 4)) == Texts{"0.9975", "0.9980", "0.9985"});
  CHECK(texts(linear_ticks(0, 3e7, 3)) == Texts{"0", "10^{7}", "2\u00d710^{7}", "3\u00d710^{7}"});
  for (const Tick& tick : linear_ticks(3, 17, 6)) CHECK((tick.value >= 3 && tick.value <= 17));
}

TEST_CASE("ticks: logarithmic axes have decades, and 2 and 5 where few") {
  CHECK(texts(log_ticks(0.5, 30)) == Texts{"0.5", "1", "2", "5", "10", "20"});
  CHECK(texts(log_ticks(1e-6, 1e-2)) == Texts{"10^{-6}", "10^{-5}", "10^{-4}", "10^{-3}", "0.01"});
  CHECK(texts(log_ticks(1e-12, 1e12)).size() <= 9);
  CHECK(log_ticks(1, 1000).size() == 28);  // with minor ones
}

TEST_CASE("smooth: removes the bias of its start and passes over NaN") {
  CHECK(smooth({5, 5, 5}, 0.1) == std::vector<double>{5, 5, 5});
  const auto result = smooth({std::nan(""), 2, std::nan(""), 4}, 0.5);
  CHECK(std::isnan(result[0]));
  CHECK(result[1] == 2);
  CHECK(result[2] == 2);
  CHECK(result[3] == Approx((0.25 * 0 + 0.5 * 4 + 0.25 * 2) / 0.75));
}

TEST_CASE("figure: curves, legend and panels appear in their colours") {
  Figure figure;
  figure.scale = 1;
  figure.columns = 2;
  Panel panel;
  panel.title = "t";
  panel.series = {{"one", {0, 1, 2}, {0, 1, 0}}, {"two", {0, 1, 2}, {1, 0, 1}, Draw::dashed_line}};
  figure.panels = {panel, panel, panel};
  const Image image = draw(figure);
  CHECK(image.width == 1040);
  CHECK(image.height == 730);
  CHECK(count_color(image, 0x00, 0x72, 0xB2) > 1500);  // three blue curves
  CHECK(count_color(image, 0xD5, 0x5E, 0x00) > 700);   // dashed, so fewer
  CHECK(count_color(image, 255, 255, 255) > 500000);
  figure.panels = {panel};
  const Image single = draw(figure);
  CHECK(single.width == 520);
}

TEST_CASE("figure: gaps, non-positive values on log axes, constants, nothing at all") {
  const double nan = std::nan("");
  Figure figure;
  figure.scale = 1;
  Panel panel;
  panel.log_y = true;
  panel.series = {{"", {0, 1, 2, 3}, {1, -1, nan, 10}}, {"", {0, 1}, {INFINITY, 0}}};
  figure.panels = {panel};
  CHECK(count_color(draw(figure), 0x00, 0x72, 0xB2) < 30);  // two lonely points, no line between them
  panel.log_y = false;
  panel.series = {{"", {0, 1}, {3, 3}}};
  figure.panels = {panel};
  CHECK(count_color(draw(figure), 0x00, 0x72, 0xB2) > 300);
  panel.series = {{"all nan", {0, 1}, {nan, nan}}, {"empty", {}, {}}};
  figure.panels = {panel};
  CHECK_NOTHROW(draw(figure));
  panel.series = {{"", {0, 1e300}, {-1e300, 1e300}}};
  figure.panels = {panel};
  CHECK_NOTHROW(draw(figure));
}

TEST_CASE("figure: a million points keep their spikes") {
  Figure figure;
  figure.scale = 1;
  Series series;
  for (int i = 0; i < 1000000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 500000 ? 1 : 0);
  }
  Panel panel;
  panel.series = {series};
  figure.panels = {panel};
  const Image image = draw(figure);
  int top = image.height;
  for (int y = image.height - 1; y >= 0; --y) {
    for (int x = 0; x < image.width; ++x) {
      if (image.at(x, y)[0] < 30 && image.at(x, y)[2] > 150) top = std::min(top, y);
    }
  }
  CHECK(top < image.height / 4);
}

TEST_CASE("figure: bars stand on zero and bear their values") {
  Figure figure;
  figure.scale = 1;
  Panel panel;
  panel.categories = {"a", "b", "c"};
  panel.series = {{"", {}, {1, 2, std::nan("")}, Draw::bars}};
  panel.bar_suffix = " ms";
  figure.panels = {panel};
  const Image image = draw(figure);
  const int blue = count_color(image, 0x1f, 0x83, 0xbb), orange = count_color(image, 0xda, 0x71, 0x1f);
  CHECK(blue > 1000);
  CHECK(orange == Approx(2 * blue).epsilon(0.05));
  panel.log_y = true;
  figure.panels = {panel};
  CHECK_NOTHROW(draw(figure));
}

TEST_CASE("figure: impossible descriptions are refused") {
  CHECK_THROWS_AS(save_figure({}, "x.png"), solvent::ValueError);
  Figure figure;
  figure.panels = {Panel{}};
  figure.panels[0].title = "P";
  figure.panels[0].series = {{"s", {1, 2}, {1}}};
  CHECK_THAT(message_of<solvent::ValueError>([&] { save_figure(figure, "x.png"); }),
             Contains("series \"s\" of \"P\" has 1 values of y; expected 2, one per x"));
}
