#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "solvent/experiments/common/plot.h"

namespace solvent::experiments {

namespace {

/// Largest of 1, 2, 5 times a power of ten that is at most about `rough`.
double nice_step(double rough) {
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double fraction = rough / power;
  return power * (fraction < 1.5 ? 1 : fraction < 3.5 ? 2 : fraction < 7.5 ? 5 : 10);
}

std::string tick_text(double value, double step) {
  if (std::abs(value) < step * 1e-6) return "0";
  const double magnitude = std::max(std::abs(value), step);
  if (magnitude >= 1e6 || magnitude < 1e-4) {
    const int exponent = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
    const double mantissa = value / std::pow(10.0, exponent);
    if (std::abs(std::abs(mantissa) - 1) < 1e-9) return fmt::format("{}10^{{{}}}", value < 0 ? "\u2212" : "", exponent);
    return fmt::format("{:.3g}\u00d710^{{{}}}", mantissa, exponent);
  }
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  std::string text = fmt::format("{:.{}f}", value, digits);
  if (text.front() == '-') text = "\u2212" + text.substr(1);
  return text;
}

}  // namespace

std::vector<Tick> linear_ticks(double low, double high, int wanted) {
  const double step = nice_step((high - low) / std::max(wanted, 1));
  std::vector<Tick> ticks;
  const double slack = 1e-9 * (high - low);
  for (double k = std::ceil((low - slack) / step); k * step <= high + slack; ++k) {
    ticks.push_back({k * step, tick_text(k * step, step)});
  }
  return ticks;
}

std::vector<Tick> log_ticks(double low, double high) {
  const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
  const double decades = std::log10(high / low);
  // Within a decade or two also 2 and 5 get texts; over many decades not even every power does.
  const bool label_inner = decades < 2.2;
  const int every = std::max(1, static_cast<int>(std::ceil(decades / 8)));
  std::vector<Tick> ticks;
  for (int e = first; e <= last; ++e) {
    for (int m = 1; m <= 9; ++m) {
      const double value = m * std::pow(10.0, e);
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      Tick tick{value, ""};
      const bool is_labelled = m == 1 ? (e % every == 0) : (label_inner && (m == 2 || m == 5));
      if (is_labelled) {
        const bool is_plain = e >= -2 && e <= 3;
        if (is_plain) {
          tick.text = fmt::format("{:g}", value);
        } else {
          tick.text = m == 1 ? fmt::format("10^{{{}}}", e) : fmt::format("{}\u00d710^{{{}}}", m, e);
        }
      }
      if (decades > 8 && m != 1) continue;  // minor ticks would be a grey mass
      ticks.push_back(tick);
    }
  }
  return ticks;
}

std::vector<double> smooth(const std::vector<double>& values, double weight) {
  std::vector<double> result;
  result.reserve(values.size());
  double sum = 0, total = 0;
  for (const double value : values) {
    if (!std::isnan(value)) {
      sum = (1 - weight) * sum + weight * value;
      total = (1 - weight) * total + weight;
    }
    result.push_back(total > 0 ? sum / total : value);
  }
  return result;
}

}  // namespace solvent::experiments
