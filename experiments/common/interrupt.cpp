#include "solvent/experiments/common/interrupt.h"

#include <unistd.h>
#include <cerrno>
#include <string_view>

#include "solvent/core/error.h"

namespace solvent::experiments {

namespace {

volatile std::sig_atomic_t g_signal = 0;
bool g_guard_alive = false;

extern "C" void handle_interrupt(int number) {
  const int saved_errno = errno;
  if (g_signal != 0) {
    // The second press: die of the signal itself, so that shells see what ended the program.
    std::signal(number, SIG_DFL);
    ::raise(number);
  }
  g_signal = number;
  constexpr std::string_view kMessage = "\nstopping after this step, then saving; once more to quit without saving\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  errno = saved_errno;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  if (g_guard_alive) throw ValueError("[InterruptGuard] another guard is alive; use one per program");
  g_guard_alive = true;
  g_signal = 0;
  struct sigaction action {};
  action.sa_handler = handle_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // a signal must not make a write of a checkpoint fail
  sigaction(SIGINT, &action, &previous_int_);
  sigaction(SIGTERM, &action, &previous_term_);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &previous_int_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
  g_guard_alive = false;
}

bool InterruptGuard::requested() const noexcept { return g_signal != 0; }

int InterruptGuard::signal_number() const noexcept { return g_signal; }

}  // namespace solvent::experiments
