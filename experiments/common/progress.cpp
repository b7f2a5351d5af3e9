#include "solvent/experiments/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <ostream>
#include <string_view>

#include <fmt/format.h>

#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

// Weight of one update in the averaged step time: remembers about the last 20.
constexpr double kSpeedWeight = 0.05;
constexpr int kMinBarWidth = 10, kMaxBarWidth = 30;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Progress::Progress(std::ostream& out, Options options)
    : out_(out), options_(std::move(options)), done_(options_.first) {
  if (!options_.clock) options_.clock = steady_seconds;
  last_update_s_ = options_.clock();
  last_draw_s_ = -std::numeric_limits<double>::infinity();  // the first update is always shown
}

Progress::~Progress() {
  try {
    finish();
  } catch (...) {  // a stream set to throw: nothing useful is left to do in a destructor
  }
}

void Progress::update(std::int64_t done, double loss, std::string_view extra) {
  const double now = options_.clock();
  if (done > done_) {
    const double step_s = std::max(now - last_update_s_, 1e-9) / static_cast<double>(done - done_);
    // Bias-corrected exponential average of the time per step, as in Adam's moments.
    const double average_s = speed_ > 0 ? 1 / speed_ : 0;
    const double sum = average_s * speed_weight_ * (1 - kSpeedWeight) + step_s * kSpeedWeight;
    speed_weight_ = speed_weight_ * (1 - kSpeedWeight) + kSpeedWeight;
    speed_ = speed_weight_ / sum;
  }
  done_ = done;
  loss_ = loss;
  extra_ = extra;
  last_update_s_ = now;
  has_update_ = true;
  const double interval = options_.is_terminal ? options_.redraw_interval_s : options_.line_interval_s;
  if (now - last_draw_s_ >= interval) {
    last_draw_s_ = now;
    draw();
  }
}

double Progress::eta_s() const {
  if (speed_ <= 0) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(std::max<std::int64_t>(options_.total - done_, 0)) / speed_;
}

std::string Progress::line() const {
  const double fraction =
      options_.total > 0 ? std::clamp(static_cast<double>(done_) / static_cast<double>(options_.total), 0.0, 1.0) : 0;
  const std::string head = fmt::format("{}{}{:3.0f}%", options_.label, options_.label.empty() ? "" : "  ",
                                       std::min(100 * fraction, done_ < options_.total ? 99.0 : 100.0));
  std::string tail = fmt::format("{}/{}  loss {}", done_, options_.total, format_short(loss_));
  if (!extra_.empty()) tail += "  " + extra_;
  if (speed_ > 0) {
    tail += speed_ >= 0.1 ? fmt::format("  {} {}/s", format_short(speed_, 3), options_.unit)
                          : fmt::format("  {} per step", format_duration(1 / speed_));
  }
  tail += done_ < options_.total ? fmt::format("  ETA {}", format_duration(eta_s())) : "";
  if (!options_.is_terminal) return head + "  " + tail;

  const int room = options_.width - 1 - static_cast<int>(head.size() + tail.size()) - 5;
  if (room < kMinBarWidth) return (head + "  " + tail).substr(0, static_cast<std::size_t>(options_.width - 1));
  const auto width = static_cast<std::size_t>(std::min(room, kMaxBarWidth));
  const auto filled = static_cast<std::size_t>(fraction * static_cast<double>(width));
  std::string bar(width, ' ');
  std::fill_n(bar.begin(), filled, '=');
  if (filled < width) bar[filled] = '>';
  return fmt::format("{} [{}]  {}", head, bar, tail);
}

void Progress::draw() {
  if (options_.is_terminal) {
    out_ << "\r\x1b[K" << line() << std::flush;  // back to column 0, clear the line
    is_drawn_ = true;
  } else {
    out_ << line() << std::endl;
  }
  drawn_at_ = done_;
}

void Progress::note(std::string_view text) {
  if (is_drawn_) out_ << "\r\x1b[K";
  out_ << text << std::endl;
  if (is_drawn_ && !is_finished_) draw();
}

void Progress::finish() {
  if (is_finished_) return;
  is_finished_ = true;
  if (has_update_ && (options_.is_terminal || drawn_at_ != done_)) draw();
  if (is_drawn_) out_ << std::endl;
  is_drawn_ = false;
}

bool is_terminal(int descriptor) {
  const char* term = std::getenv("TERM");
  return ::isatty(descriptor) == 1 && term && std::string_view(term) != "dumb";
}

int terminal_width(int descriptor) {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
  return 100;
}

}  // namespace solvent::experiments
