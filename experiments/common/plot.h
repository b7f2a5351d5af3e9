#pragma once
/// Figures with several panels of lines, points or bars, written as PNG without help from outside.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace solvent::experiments {

/// How a series is drawn.
enum class Draw { line, dashed_line, points, line_and_points, bars };

/// One curve or one group of bars.
struct Series {
  std::string label = {};      ///< in the legend; none if empty
  std::vector<double> x = {};  ///< for bars: ignored, bars stand at the categories
  std::vector<double> y = {};  ///< a non-finite value (or one <= 0 on a log axis) interrupts the line
  Draw draw = Draw::line;
  double width = 2;  ///< of the line, in pixels at scale 1
  double alpha = 1;  ///< opacity
  int color = -1;    ///< index into the palette; -1: the position among the panel's series
};

/// One panel.
struct Panel {
  std::string title = {}, x_label = {}, y_label = {};
  bool log_x = false, log_y = false;
  /// Limits; what is absent follows from the data.
  std::optional<double> x_min = {}, x_max = {}, y_min = {}, y_max = {};
  std::vector<Series> series = {};
  /// Names of the bars' places, from left to right.
  std::vector<std::string> categories = {};
  /// Writes each bar's value above it, e.g. "12 ms": significant digits and a suffix.
  bool bar_values = true;
  std::string bar_suffix = {};
};

struct Figure {
  std::string title = {};
  std::string caption = {};  ///< small line below everything: sizes, machine, command
  int columns = 2;
  double panel_width = 520, panel_height = 360;  ///< including labels, in pixels at scale 1
  double scale = 2;                              ///< pixels per unit; 2 suits dense screens
  std::vector<Panel> panels = {};
};

/// Draws the figure and writes it atomically. @throws ValueError if there is no panel or x and y differ in length;
/// IoError.
void save_figure(const Figure& figure, const std::filesystem::path& file);

/// Exponential running mean with the bias of its start removed; NaNs are left out. For noisy losses: the raw line pale,
/// this one on top. `weight` in (0, 1]: of the newest value.
std::vector<double> smooth(const std::vector<double>& values, double weight);

/// Positions and texts of an axis' ticks. Exposed for tests.
struct Tick {
  double value = 0;
  std::string text = {};  ///< empty for a minor tick
};
std::vector<Tick> linear_ticks(double low, double high, int wanted);
std::vector<Tick> log_ticks(double low, double high);

}  // namespace solvent::experiments
