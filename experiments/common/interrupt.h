#pragma once
/// Ctrl-C and SIGTERM: the first one asks the program to save and stop, the second one ends it at once.

#include <csignal>

namespace solvent::experiments {

/// Installs the handlers for a scope (the main thread's training loop) and restores the previous ones at its end.
///
/// ```cpp
/// InterruptGuard interrupt;
/// while (step < steps && !interrupt.requested()) { ... }
/// save_checkpoint();
/// ```
/// One guard at a time. The handler only sets a flag and writes one line to stderr, both safe in a signal handler.
class InterruptGuard {
 public:
  /// @throws ValueError if another guard is alive.
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// True once a signal arrived.
  [[nodiscard]] bool requested() const noexcept;
  /// The signal that arrived, 0 if none.
  [[nodiscard]] int signal_number() const noexcept;

 private:
  struct sigaction previous_int_ {};
  struct sigaction previous_term_ {};
};

}  // namespace solvent::experiments
