#pragma once
/// Progress of a loop: one redrawn bar on a terminal, occasional plain lines elsewhere.

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace solvent::experiments {

/// ```
/// classify  43% [=========>            ]  172/400  loss 0.7312  accuracy 0.81  8.3 steps/s  ETA 0:27
/// ```
/// Speed and ETA come from an exponential average over about the last 20 updates, so a slow first step is forgotten.
class Progress {
 public:
  struct Options {
    std::string label = "";              ///< in front of every line
    std::int64_t total = 0;              ///< steps of the whole run
    std::int64_t first = 0;              ///< steps done before (a resumed run)
    std::string unit = "steps";          ///< what is counted
    bool is_terminal = false;            ///< redraw one line, or print plain lines
    int width = 100;                     ///< columns of the terminal
    double redraw_interval_s = 0.1;      ///< terminal: at most this often
    double line_interval_s = 10;         ///< plain lines: at most this often; the last step is always printed
    std::function<double()> clock = {};  ///< seconds; the steady clock if empty
  };

  /// Writes to `out`, which must outlive this.
  Progress(std::ostream& out, Options options);
  /// Ends the bar's line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps are done (counted from the start of the whole run). `extra` follows the loss: "accuracy 0.81".
  void update(std::int64_t done, double loss, std::string_view extra = {});
  /// Prints a message above the bar.
  void note(std::string_view text);
  /// Draws the last state and moves to the next line. Called by the destructor if need be.
  void finish();

  /// Steps per second, 0 before the second update.
  [[nodiscard]] double speed() const { return speed_; }
  /// Seconds left, by the present speed.
  [[nodiscard]] double eta_s() const;

 private:
  void draw();
  [[nodiscard]] std::string line() const;

  std::ostream& out_;
  Options options_;
  std::int64_t done_;
  double loss_ = 0, speed_ = 0, speed_weight_ = 0, last_update_s_ = 0, last_draw_s_ = 0;
  std::string extra_;
  bool has_update_ = false, is_drawn_ = false, is_finished_ = false;
  std::int64_t drawn_at_ = -1;
};

/// Whether stderr/stdout (file descriptor 2/1) is a terminal that can redraw a line, and its width (100 if unknown).
bool is_terminal(int descriptor);
int terminal_width(int descriptor);

}  // namespace solvent::experiments
