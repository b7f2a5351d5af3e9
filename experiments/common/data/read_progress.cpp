#include "solvent/experiments/common/data/read_progress.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <ostream>
#include <utility>

#include <fmt/format.h>

namespace solvent::experiments {

namespace {

constexpr double kQuiet_s = 0.5, kRedraw_s = 0.1, kLine_s = 10;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Display {
 public:
  Display(std::ostream& out, bool is_terminal, std::function<double()> clock)
      : out_(out), is_terminal_(is_terminal), clock_(clock ? std::move(clock) : steady_seconds) {}

  void update(const std::string& name, std::uint64_t done, std::uint64_t total) {
    const double now = clock_();
    if (name != name_) {
      name_ = name;
      last_s_ = now - (is_terminal_ ? kRedraw_s : kLine_s) + kQuiet_s;  // first line after the quiet time
    }
    if (done >= total) {
      if (is_drawn_) out_ << "\r\x1b[K" << std::flush;
      is_drawn_ = false;
      name_.clear();
      return;
    }
    if (now - last_s_ < (is_terminal_ ? kRedraw_s : kLine_s)) return;
    last_s_ = now;
    const std::string base = std::filesystem::path(name).filename().string();
    const std::string line = fmt::format("reading {}  {}%", base, 100 * done / std::max<std::uint64_t>(total, 1));
    if (is_terminal_) {
      out_ << "\r\x1b[K" << line << std::flush;
      is_drawn_ = true;
    } else {
      out_ << line << std::endl;
    }
  }

 private:
  std::ostream& out_;
  bool is_terminal_, is_drawn_ = false;
  std::function<double()> clock_;
  std::string name_;
  double last_s_ = 0;
};

}  // namespace

ReadProgress show_read_progress(std::ostream& out, bool is_terminal, std::function<double()> clock) {
  auto display = std::make_shared<Display>(out, is_terminal, std::move(clock));
  return [display](const std::string& name, std::uint64_t done, std::uint64_t total) {
    display->update(name, done, total);
  };
}

}  // namespace solvent::experiments
