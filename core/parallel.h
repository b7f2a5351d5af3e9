#pragma once
/// Threads. All parallelism inside kernels goes through `parallel_for`, whose partition depends only on (n, grain),
/// never on the number of threads, so results are the same bits for any thread count.

#include <cstdint>
#include <type_traits>
#include <utility>

#include "solvent/core/export.h"

namespace solvent {

/// Number of threads kernels may use (default: the cores this process may run on, or OMP_NUM_THREADS).
SOLVENT_API int num_threads() noexcept;

/// Sets the number of threads of Solvent's kernels, of BLAS and of oneDNN. @throws ValueError if n < 1.
SOLVENT_API void set_num_threads(int n);

/// Restores the previous number of threads at the end of the scope.
class SOLVENT_API NumThreadsGuard {
 public:
  /// Calls set_num_threads(n). @throws ValueError if n < 1.
  explicit NumThreadsGuard(int n);
  ~NumThreadsGuard();
  NumThreadsGuard(const NumThreadsGuard&) = delete;
  NumThreadsGuard& operator=(const NumThreadsGuard&) = delete;

 private:
  int previous_;
};

/// True while the calling thread runs inside a parallel region (nested regions run serially).
SOLVENT_API bool in_parallel_region() noexcept;

namespace detail {
using RangeFn = void (*)(void* context, std::int64_t begin, std::int64_t end) noexcept;
/// Runs fn on blocks [i*grain, min(n, (i+1)*grain)); blocks are handed out statically or dynamically.
SOLVENT_API void parallel_blocks(std::int64_t n, std::int64_t grain, RangeFn fn, void* context) noexcept;
}  // namespace detail

/// Calls `body(begin, end)` on consecutive blocks of at most `grain` indices covering [0, n).
///
/// The blocks are the same in serial and parallel runs, so a per-block partial result has the same bits for any
/// number of threads. `body` must not throw.
/// Choose `grain` so that a block is at least about 20 us of work.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& body) {
  if (n <= 0) return;
  if (n <= grain) {
    body(std::int64_t{0}, n);
    return;
  }
  using Body = std::remove_reference_t<F>;
  detail::parallel_blocks(
      n, grain,
      [](void* context, std::int64_t begin, std::int64_t end) noexcept { (*static_cast<Body*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace solvent
