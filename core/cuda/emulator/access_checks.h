#pragma once
/// Finds data races and reads of memory that nothing has written, in kernels that the emulator runs.
///
/// With SOLVENT_EMULATOR_CHECKS (preset `cuda-races`) the kernels are compiled with -fsanitize=thread, but linked to these
/// functions instead of ThreadSanitizer's, as the Linux kernel does for its own detector: every access of a kernel to memory
/// calls access_checks.cpp, which knows CUDA's rules instead of those of C++'s threads. Two accesses to the same bytes by
/// different threads of a launch, of which one writes, are a race unless
///   - both are atomic functions, or
///   - they are in the same block and __syncthreads() is between them, or
///   - they are in the same warp and a chain of __syncwarp() whose masks name the lanes is between them.
/// Exchanges between lanes (__shfl_*_sync, votes) order no memory, blocks of one launch are never ordered, and launches
/// always are: streams are in order here (SOLVENT_EMULATOR_LATE=1 is for those that are not). So a race is found whatever
/// the order in which the threads ran, but only on the paths that they took.
///
/// A read is of unwritten memory if no thread of this block wrote it before (shared memory), or if nothing has written it
/// since cudaMalloc (global memory: use SOLVENT_CUDA_CACHE=0, for which every tensor is an allocation of its own).
///
/// Not seen: what stand-ins for libraries and copies to the host read; accesses in inline functions that are not inlined, where
/// the linker takes them from a file without these checks; and, with GCC, the store of a structure that a function returns
/// (`shared[i] = f(x)`), which is then reported as unwritten where it is read: give the result a name, then store it.
///
/// Of the concurrent readers of a place those of one warp are kept, and that there were others: enough to find a race with
/// a write always, though it may be reported with another reader. A read in a launch is compared to the last write only.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace solvent::cuda::emulator {

/// While it lives, findings are collected instead of printed, and do not make the process fail. For tests of the checks.
class CollectFindings {
 public:
  CollectFindings();
  ~CollectFindings();
  CollectFindings(const CollectFindings&) = delete;
  CollectFindings& operator=(const CollectFindings&) = delete;

  /// One text per pair of places in the code, in the order of finding.
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  friend struct Report;
  std::vector<std::string> texts_;
};

/// What the scheduler tells the checks. Without SOLVENT_EMULATOR_CHECKS nothing of it does anything.
namespace access {

#if SOLVENT_EMULATOR_CHECKS

/// One launch: others wait for its end.
class Launch {
 public:
  Launch();
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
};
/// The next block, whose dynamic shared memory this is.
void begin_block(const void* shared, std::size_t bytes);
/// Thread `number` of the block runs from here on, on this stack, whose memory is its own.
void run_thread(unsigned number, const void* stack, std::size_t bytes);
/// The same on the stack of the host's thread.
void run_thread(unsigned number);
void passed_block_barrier();
void passed_warp_barrier(unsigned first_thread, unsigned mask);

/// Device memory that nothing has written, that is gone, and that a call of the runtime wrote.
/// @{
void allocated(const void* p, std::size_t bytes);
void freed(const void* p, std::size_t bytes);
void written(const void* p, std::size_t bytes);
/// @}

#else

struct Launch {
  Launch() {}  // not trivial: an object nobody names is no warning
};
inline void begin_block(const void*, std::size_t) {}
inline void run_thread(unsigned, const void*, std::size_t) {}
inline void run_thread(unsigned) {}
inline void passed_block_barrier() {}
inline void passed_warp_barrier(unsigned, unsigned) {}
inline void allocated(const void*, std::size_t) {}
inline void freed(const void*, std::size_t) {}
inline void written(const void*, std::size_t) {}

#endif

}  // namespace access
}  // namespace solvent::cuda::emulator
