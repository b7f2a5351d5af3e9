#include "solvent/experiments/common/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/experiments/common/canvas.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

// Okabe and Ito's colours, told apart by colour-blind readers too; blue and vermilion first.
constexpr std::array<Color, 7> kPalette = {Color::hex(0x0072B2), Color::hex(0xD55E00), Color::hex(0x009E73),
                                           Color::hex(0xCC79A7), Color::hex(0xE69F00), Color::hex(0x56B4E9),
                                           Color::hex(0x555555)};
constexpr Color kInk = Color::hex(0x262B33), kFaintInk = Color::hex(0x5F6772), kAxis = Color::hex(0x9AA3AE),
                kGrid = Color::hex(0xE6E9ED), kMinorGrid = Color::hex(0xF2F4F6), kPaper = Color::hex(0xFFFFFF);

// Cap heights in pixels at scale 1.
constexpr double kTitleSize = 11.5, kPanelTitleSize = 9.5, kLabelSize = 8.5, kTickSize = 8, kCaptionSize = 7.5;
constexpr int kWantedTicksX = 6, kWantedTicksY = 6;

/// One axis: from data to 0..1.
struct AxisRange {
  double low = 0, high = 1;
  bool is_log = false;

  [[nodiscard]] bool accepts(double v) const { return std::isfinite(v) && (!is_log || v > 0); }
  [[nodiscard]] double fraction(double v) const {
    if (is_log) return std::log(v / low) / std::log(high / low);
    return (v - low) / (high - low);
  }
};

AxisRange make_range(const std::vector<double>& values, bool is_log, std::optional<double> fixed_low,
                     std::optional<double> fixed_high, double margin) {
  AxisRange range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), is_log};
  for (const double v : values) {
    if (!range.accepts(v)) continue;
    range.low = std::min(range.low, v);
    range.high = std::max(range.high, v);
  }
  if (range.low > range.high) range = {is_log ? 0.1 : 0.0, is_log ? 10.0 : 1.0, is_log};  // no data at all
  if (is_log) {
    const double spread = std::max(range.high / range.low, 1.2);
    if (range.high / range.low < 1.2) range.high = range.low * spread;
    const double factor = std::pow(spread, margin);
    range.low /= factor;
    range.high *= factor;
  } else {
    double spread = range.high - range.low;
    if (spread <= 1e-12 * std::max(std::abs(range.low), std::abs(range.high))) {
      spread = std::max(std::abs(range.high), 1.0) * 0.2;
      range.low -= spread / 2;
      range.high += spread / 2;
    }
    range.low -= margin * spread;
    range.high += margin * spread;
  }
  if (fixed_low && range.accepts(*fixed_low)) range.low = *fixed_low;
  if (fixed_high && range.accepts(*fixed_high)) range.high = *fixed_high;
  if (!(range.high > range.low)) range.high = is_log ? range.low * 10 : range.low + 1;
  return range;
}

/// Keeps first, lowest, highest and last of the points that fall into one column of pixels: the picture is the same,
/// and a million points cost no more than a thousand.
std::vector<Point> decimate(const std::vector<Point>& points) {
  std::vector<Point> kept;
  for (std::size_t i = 0; i < points.size();) {
    std::size_t end = i, lowest = i, highest = i;
    const double column = std::floor(points[i].x);
    while (end < points.size() && std::floor(points[end].x) == column) {
      if (points[end].y < points[lowest].y) lowest = end;
      if (points[end].y > points[highest].y) highest = end;
      ++end;
    }
    std::array<std::size_t, 4> chosen = {i, lowest, highest, end - 1};
    std::sort(chosen.begin(), chosen.end());
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      if (k == 0 || chosen[k] != chosen[k - 1]) kept.push_back(points[chosen[k]]);
    }
    i = end;
  }
  return kept;
}

class PanelPainter {
 public:
  PanelPainter(Canvas& canvas, const Panel& panel, const Rectangle& area, double scale)
      : canvas_(canvas), panel_(panel), area_(area), scale_(scale) {
    has_bars_ =
        std::any_of(panel.series.begin(), panel.series.end(), [](const Series& s) { return s.draw == Draw::bars; });
    set_ranges();
    y_ticks_ = panel.log_y ? log_ticks(y_.low, y_.high) : linear_ticks(y_.low, y_.high, kWantedTicksY);
    if (!has_bars_) {
      x_ticks_ = panel.log_x ? log_ticks(x_.low, x_.high) : linear_ticks(x_.low, x_.high, kWantedTicksX);
    }
    set_plot_area();
  }

  void paint() {
    paint_grid();
    canvas_.set_clip(plot_);
    if (has_bars_) paint_bars();
    for (std::size_t i = 0; i < panel_.series.size(); ++i) paint_curve(panel_.series[i], i);
    canvas_.reset_clip();
    paint_axes();
    paint_labels();
    if (has_bars_) paint_bar_texts();
    if (!has_data_) {
      canvas_.text({(plot_.left + plot_.right) / 2, (plot_.top + plot_.bottom) / 2}, "no finite values",
                   {px(kLabelSize), kFaintInk, Align::center});
    }
    paint_legend();
  }

 private:
  [[nodiscard]] double px(double units) const { return units * scale_; }
  [[nodiscard]] double map_x(double v) const { return plot_.left + x_.fraction(v) * plot_.width(); }
  [[nodiscard]] double map_y(double v) const { return plot_.bottom - y_.fraction(v) * plot_.height(); }
  [[nodiscard]] static Color color_of(const Series& series, std::size_t position) {
    const auto index = series.color >= 0 ? static_cast<std::size_t>(series.color) : position;
    return kPalette[index % kPalette.size()];
  }

  void set_ranges() {
    std::vector<double> xs, ys;
    AxisRange accept_x{0, 1, panel_.log_x}, accept_y{0, 1, panel_.log_y};
    for (const Series& series : panel_.series) {
      if (series.draw == Draw::bars) {
        ys.insert(ys.end(), series.y.begin(), series.y.end());
        continue;
      }
      for (std::size_t i = 0; i < series.y.size(); ++i) {
        if (!accept_x.accepts(series.x[i]) || !accept_y.accepts(series.y[i])) continue;
        xs.push_back(series.x[i]);
        ys.push_back(series.y[i]);
      }
    }
    has_data_ = std::any_of(ys.begin(), ys.end(), [&](double v) { return accept_y.accepts(v); });
    if (has_bars_ && !panel_.log_y) ys.push_back(0);  // bars grow from zero
    x_ = make_range(xs, panel_.log_x, panel_.x_min, panel_.x_max, 0.02);
    y_ = make_range(ys, panel_.log_y, panel_.y_min, panel_.y_max, has_bars_ ? 0.12 : 0.06);
    if (has_bars_ && !panel_.log_y && !panel_.y_min &&
        std::none_of(ys.begin(), ys.end(), [](double v) { return v < 0; })) {
      y_.low = 0;
    }
    if (has_bars_) x_ = {0, static_cast<double>(std::max<std::size_t>(panel_.categories.size(), 1)), false};
  }

  void set_plot_area() {
    double widest = 0;
    for (const Tick& tick : y_ticks_) widest = std::max(widest, Canvas::text_width(tick.text, px(kTickSize)));
    plot_.left = area_.left + px(panel_.y_label.empty() ? 12 : 30) + widest + px(6);
    plot_.right = area_.right - px(16);
    plot_.top = area_.top + px(panel_.title.empty() ? 14 : 32);
    plot_.bottom = area_.bottom - px(panel_.x_label.empty() ? 26 : 46);
  }

  void paint_grid() {
    for (const Tick& tick : y_ticks_) {
      const double y = std::round(map_y(tick.value)) + 0.0;
      if (y < plot_.top - 0.5 || y > plot_.bottom + 0.5) continue;
      canvas_.fill({plot_.left, y - px(0.5), plot_.right, y + px(0.5)}, tick.text.empty() ? kMinorGrid : kGrid);
    }
    for (const Tick& tick : x_ticks_) {
      const double x = std::round(map_x(tick.value));
      if (x < plot_.left - 0.5 || x > plot_.right + 0.5) continue;
      canvas_.fill({x - px(0.5), plot_.top, x + px(0.5), plot_.bottom}, tick.text.empty() ? kMinorGrid : kGrid);
    }
  }

  /// Pieces of a series without gaps, in pixels.
  [[nodiscard]] std::vector<std::vector<Point>> pieces_of(const Series& series) const {
    std::vector<std::vector<Point>> pieces;
    bool is_open = false;
    for (std::size_t i = 0; i < series.y.size(); ++i) {
      const bool is_drawable = x_.accepts(series.x[i]) && y_.accepts(series.y[i]);
      if (is_drawable) {
        if (!is_open) pieces.emplace_back();
        pieces.back().push_back({map_x(series.x[i]), map_y(series.y[i])});
      }
      is_open = is_drawable;
    }
    for (auto& piece : pieces) piece = decimate(piece);
    return pieces;
  }

  void paint_curve(const Series& series, std::size_t position) {
    if (series.draw == Draw::bars) return;
    const Color color = color_of(series, position);
    const auto pieces = pieces_of(series);
    for (const auto& piece : pieces) occupied_.insert(occupied_.end(), piece.begin(), piece.end());
    if (series.draw == Draw::line || series.draw == Draw::line_and_points) {
      canvas_.polylines(pieces, px(series.width), color, series.alpha);
    }
    if (series.draw == Draw::dashed_line) {
      for (const auto& piece : pieces) {
        canvas_.dashed(piece, px(series.width), px(4.5 + series.width), px(3 + series.width), color, series.alpha);
      }
    }
    if (series.draw == Draw::points || series.draw == Draw::line_and_points) {
      for (const auto& piece : pieces) {
        for (const Point& p : piece) {
          canvas_.disc(p, px(series.width + 2.2), kPaper);
          canvas_.disc(p, px(series.width + 1), color, series.alpha);
        }
      }
    }
  }

  struct Bar {
    Rectangle box;
    double value;
    Color color;
  };

  [[nodiscard]] std::vector<Bar> bars() const {
    std::vector<Bar> result;
    std::size_t groups = 0, group = 0;
    for (const Series& s : panel_.series) groups += s.draw == Draw::bars ? 1 : 0;
    const double slot = plot_.width() / static_cast<double>(std::max<std::size_t>(panel_.categories.size(), 1));
    const double thickness = std::min(slot * 0.72 / static_cast<double>(groups), px(64));
    const double zero = panel_.log_y ? plot_.bottom : std::clamp(map_y(0), plot_.top, plot_.bottom);
    for (std::size_t i = 0; i < panel_.series.size(); ++i) {
      const Series& series = panel_.series[i];
      if (series.draw != Draw::bars) continue;
      for (std::size_t k = 0; k < series.y.size(); ++k) {
        if (!y_.accepts(series.y[k])) continue;
        const double center = plot_.left + slot * (static_cast<double>(k) + 0.5) +
                              thickness * (static_cast<double>(group) - (static_cast<double>(groups) - 1) / 2);
        const double end = map_y(series.y[k]);
        const double half = thickness / 2 * (groups > 1 ? 0.94 : 1);
        // A single group of bars is told apart by the places' names; colour follows the place then.
        const Color color = groups == 1 && series.color < 0 ? kPalette[k % kPalette.size()] : color_of(series, i);
        result.push_back(
            {{center - half, std::min(end, zero), center + half, std::max(end, zero)}, series.y[k], color});
      }
      ++group;
    }
    return result;
  }

  void paint_bars() {
    for (const Bar& bar : bars()) canvas_.fill(bar.box, bar.color, 0.88);
  }

  void paint_bar_texts() {
    if (panel_.bar_values) {
      for (const Bar& bar : bars()) {
        const std::string text = format_short(bar.value, 3) + panel_.bar_suffix;
        canvas_.text({(bar.box.left + bar.box.right) / 2, bar.box.top - px(5)}, text,
                     {px(kTickSize), kInk, Align::center});
      }
    }
    const double slot = plot_.width() / static_cast<double>(std::max<std::size_t>(panel_.categories.size(), 1));
    for (std::size_t k = 0; k < panel_.categories.size(); ++k) {
      canvas_.text({plot_.left + slot * (static_cast<double>(k) + 0.5), plot_.bottom + px(16)}, panel_.categories[k],
                   {px(kTickSize), kInk, Align::center});
    }
  }

  void paint_axes() {
    const double half = px(0.6);
    canvas_.fill({plot_.left - half, plot_.bottom - half, plot_.right, plot_.bottom + half}, kAxis);
    canvas_.fill({plot_.left - half, plot_.top, plot_.left + half, plot_.bottom + half}, kAxis);
    for (const Tick& tick : x_ticks_) {
      const double x = std::round(map_x(tick.value));
      if (x < plot_.left - 0.5 || x > plot_.right + 0.5) continue;
      const double length = px(tick.text.empty() ? 2.5 : 4.5);
      canvas_.fill({x - half, plot_.bottom, x + half, plot_.bottom + length}, kAxis);
      canvas_.text({x, plot_.bottom + px(16)}, tick.text, {px(kTickSize), kFaintInk, Align::center});
    }
    for (const Tick& tick : y_ticks_) {
      const double y = std::round(map_y(tick.value));
      if (y < plot_.top - 0.5 || y > plot_.bottom + 0.5) continue;
      const double length = px(tick.text.empty() ? 2.5 : 4.5);
      canvas_.fill({plot_.left - length, y - half, plot_.left, y + half}, kAxis);
      canvas_.text({plot_.left - px(8), y + px(kTickSize / 2)}, tick.text, {px(kTickSize), kFaintInk, Align::right});
    }
  }

  void paint_labels() {
    const double middle_x = (plot_.left + plot_.right) / 2, middle_y = (plot_.top + plot_.bottom) / 2;
    canvas_.text({plot_.left, plot_.top - px(12)}, panel_.title, {px(kPanelTitleSize), kInk, Align::left, 0, true});
    canvas_.text({middle_x, area_.bottom - px(12)}, panel_.x_label, {px(kLabelSize), kInk, Align::center});
    canvas_.text({area_.left + px(18), middle_y}, panel_.y_label, {px(kLabelSize), kInk, Align::center, 90});
  }

  void paint_legend() {
    std::vector<std::size_t> entries;
    double widest = 0;
    for (std::size_t i = 0; i < panel_.series.size(); ++i) {
      if (panel_.series[i].label.empty()) continue;
      entries.push_back(i);
      widest = std::max(widest, Canvas::text_width(panel_.series[i].label, px(kTickSize)));
    }
    if (entries.empty()) return;
    const double row = px(17), swatch = px(24), padding = px(8);
    const double width = widest + swatch + px(8) + 2 * padding;
    const double height = row * static_cast<double>(entries.size()) + 2 * padding - px(4);
    const Rectangle box = legend_place(width, height);
    canvas_.fill({box.left - px(1), box.top - px(1), box.right + px(1), box.bottom + px(1)}, kGrid);
    canvas_.fill(box, kPaper, 0.92);
    for (std::size_t k = 0; k < entries.size(); ++k) {
      const Series& series = panel_.series[entries[k]];
      const Color color = color_of(series, entries[k]);
      const double y = box.top + padding + row * (static_cast<double>(k) + 0.5) - px(2);
      const std::vector<Point> sample = {{box.left + padding, y}, {box.left + padding + swatch, y}};
      if (series.draw == Draw::bars) canvas_.fill({sample[0].x, y - px(5), sample[1].x, y + px(5)}, color, 0.88);
      if (series.draw == Draw::dashed_line) {
        canvas_.dashed(sample, px(series.width), px(4.5 + series.width), px(3 + series.width), color, series.alpha);
      }
      if (series.draw == Draw::line || series.draw == Draw::line_and_points) {
        canvas_.polyline(sample, px(series.width), color, series.alpha);
      }
      if (series.draw == Draw::points || series.draw == Draw::line_and_points) {
        canvas_.disc({(sample[0].x + sample[1].x) / 2, y}, px(series.width + 1), color, series.alpha);
      }
      canvas_.text({sample[1].x + px(8), y + px(kTickSize / 2)}, series.label, {px(kTickSize), kInk});
    }
  }

  /// The corner where the legend hides the least.
  [[nodiscard]] Rectangle legend_place(double width, double height) const {
    const double gap = px(8);
    Rectangle best;
    std::size_t least = std::numeric_limits<std::size_t>::max();
    for (const bool is_top : {true, false}) {
      for (const bool is_right : {true, false}) {
        const double left = is_right ? plot_.right - gap - width : plot_.left + gap;
        const double top = is_top ? plot_.top + gap : plot_.bottom - gap - height;
        const Rectangle box{left, top, left + width, top + height};
        const auto hidden = static_cast<std::size_t>(std::count_if(occupied_.begin(), occupied_.end(), [&](Point p) {
          return p.x > box.left - gap && p.x < box.right + gap && p.y > box.top - gap && p.y < box.bottom + gap;
        }));
        if (hidden < least) {
          least = hidden;
          best = box;
        }
      }
    }
    return best;
  }

  Canvas& canvas_;
  const Panel& panel_;
  Rectangle area_, plot_;
  double scale_;
  bool has_bars_ = false, has_data_ = false;
  AxisRange x_, y_;
  std::vector<Tick> x_ticks_, y_ticks_;
  std::vector<Point> occupied_;
};

void check(const Figure& figure) {
  if (figure.panels.empty() || figure.columns < 1 || !(figure.scale > 0)) {
    throw ValueError(fmt::format("[save_figure] got {} panels in {} columns at scale {}; expected at least one of each",
                                 figure.panels.size(), figure.columns, figure.scale));
  }
  for (const Panel& panel : figure.panels) {
    for (const Series& series : panel.series) {
      const std::size_t expected = series.draw == Draw::bars ? panel.categories.size() : series.x.size();
      if (series.y.size() == expected) continue;
      throw ValueError(fmt::format("[save_figure] series \"{}\" of \"{}\" has {} values of y; expected {}, one per {}",
                                   series.label, panel.title, series.y.size(), expected,
                                   series.draw == Draw::bars ? "category" : "x"));
    }
  }
}

}  // namespace

void save_figure(const Figure& figure, const std::filesystem::path& file) {
  check(figure);
  const double s = figure.scale;
  const auto count = static_cast<int>(figure.panels.size());
  const int columns = std::min(figure.columns, count), rows = (count + columns - 1) / columns;
  const double head = figure.title.empty() ? 6 : 40, foot = figure.caption.empty() ? 4 : 26;
  const double width = columns * figure.panel_width, height = head + rows * figure.panel_height + foot;
  Canvas canvas(static_cast<int>(std::lround(width * s)), static_cast<int>(std::lround(height * s)), kPaper);
  canvas.text({width * s / 2, 27 * s}, figure.title, {kTitleSize * s, kInk, Align::center, 0, true});
  canvas.text({width * s / 2, (height - 11) * s}, figure.caption, {kCaptionSize * s, kFaintInk, Align::center});
  for (int i = 0; i < count; ++i) {
    const double left = i % columns * figure.panel_width * s;
    const double top = (head + i / columns * figure.panel_height) * s;
    const Rectangle area{left, top, left + figure.panel_width * s, top + figure.panel_height * s};
    PanelPainter(canvas, figure.panels[static_cast<std::size_t>(i)], area, s).paint();
  }
  const std::vector<std::uint8_t> pixels = canvas.to_rgb8();
  write_png(file, canvas.width(), canvas.height(), 3, pixels);
}

}  // namespace solvent::experiments
