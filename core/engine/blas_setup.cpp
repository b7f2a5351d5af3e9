// Thread settings of the BLAS that the dynamic linker chose. Debian's alternatives decide at load time which flavour of
// OpenBLAS that is, so the check is made at run time.
#include "solvent/core/engine/blas_setup.h"

#include <atomic>
#include <cstdio>
#include <string_view>

#if SOLVENT_WITH_OPENMP
#include <omp.h>
#endif

#include "solvent/core/parallel.h"

#ifndef SOLVENT_WITH_OPENBLAS
#define SOLVENT_WITH_OPENBLAS 0
#endif

#if SOLVENT_WITH_OPENBLAS
extern "C" {
// Declared here: OpenBLAS's own header defines macros and types that clash with other libraries'.
void openblas_set_num_threads(int num_threads);
int openblas_get_parallel(void);
char* openblas_get_config(void);
}
#endif

namespace solvent::detail {

// All versions of OpenBLAS with OpenMP threads ask for the calling thread's setting first, and go on alone if it is 1.
#if SOLVENT_WITH_OPENMP
SerialBlas::SerialBlas() noexcept : previous_(omp_get_max_threads()) { omp_set_num_threads(1); }
SerialBlas::~SerialBlas() { omp_set_num_threads(previous_); }
#else
SerialBlas::SerialBlas() noexcept : previous_(1) {}
SerialBlas::~SerialBlas() { static_cast<void>(previous_); }
#endif

#if SOLVENT_WITH_OPENBLAS

namespace {

constexpr int kOpenMpThreads = 2;  // openblas_get_parallel(): 0 = serial, 1 = own threads, 2 = OpenMP

const char* threading_name() {
  switch (openblas_get_parallel()) {
    case 0: return "one thread";
    case 1: return "own threads";
    case kOpenMpThreads: return "OpenMP threads";
    default: return "unknown threads";
  }
}

}  // namespace

void set_blas_threads(int n) noexcept { openblas_set_num_threads(n); }

void prepare_blas() noexcept {
  static std::atomic<bool> prepared{false};
  if (prepared.load(std::memory_order_acquire)) return;
  if (prepared.exchange(true, std::memory_order_acq_rel)) return;
  set_blas_threads(num_threads());
#if SOLVENT_WITH_OPENMP
  if (openblas_get_parallel() != kOpenMpThreads) {
    std::fprintf(stderr,
                 "solvent: the loaded OpenBLAS uses %s, expected OpenMP threads; matrix products next to parallel "
                 "loops take about twice as long. Install the package libopenblas-openmp-dev.\n",
                 threading_name());
  }
#endif
}

bool blas_can_be_serial() noexcept {
  const int threads = openblas_get_parallel();
  if (threads != 0 && (threads != kOpenMpThreads || SOLVENT_WITH_OPENMP == 0)) return false;
  return std::string_view(openblas_get_config()).find("USE64BITINT") == std::string_view::npos;
}

std::string blas_description() {
  std::string text = openblas_get_config();
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text + " (" + threading_name() + ")";
}

#else

void set_blas_threads(int) noexcept {}
void prepare_blas() noexcept {}
// Threads of an unknown library obey OpenMP, or their number has nothing to do with ours.
bool blas_can_be_serial() noexcept { return SOLVENT_WITH_BLAS != 0; }
std::string blas_description() { return SOLVENT_WITH_BLAS ? "threads not controlled" : "own kernels"; }

#endif

}  // namespace solvent::detail
