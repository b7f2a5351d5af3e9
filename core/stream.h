#pragma once
/// Streams, events and graphs of a GPU.
///
/// Every operation on a GPU runs on the current stream of the calling thread, in order; the host goes on at once and waits
/// only where it reads values (`item`, `to_vector`, `to(x, cpu_device)`). Tensors may be used on another stream after the
/// first one has been synchronised, or after an event of the first one has been waited for.
///
/// Indices and labels out of range do not stop the host either. Operations take memory-safe values in their place (their
/// docstrings say which), go on, and the ValueError of the CPU is thrown, once, by the next call of the same thread
///   - that waits for a GPU (`item`, `to_vector`, `to(x, cpu_device)`, `synchronize`, Stream::synchronize, Event::synchronize),
///     if the work it waited for includes the check or the GPU has done that work meanwhile; or
///   - that checks indices on a GPU or replays a graph, if the GPU has done the work meanwhile.
/// So no value that depends on a bad index reaches the host without an error. Of several failures known by then the first one
/// is thrown, with the number of the others. What a thread has not looked at when it ends is thrown in the next thread that
/// makes such a call; what is left when the program ends is printed to stderr, without changing the exit code. With
/// SOLVENT_CUDA_DEBUG=1 in the environment the call itself waits and throws. Factorisations and linear systems wait for their checks.

#include <cstddef>
#include <functional>
#include <memory>

#include "solvent/core/tensor.h"

namespace solvent {

/// Number of GPUs that this build and machine can use; 0 in builds without CUDA and on machines without a driver.
SOLVENT_API int gpu_count() noexcept;

/// Waits until all work given to the device's current stream of this thread has been done; returns at once for the CPU.
/// @throws DeviceError if there is no such device, or if work failed.
SOLVENT_API void synchronize(Device device);

/// A copy of a tensor on the CPU in pinned memory, from which GPUs copy by themselves: `to(pin_memory(x), gpu)` returns at
/// once, and the copy runs in stream order beside the work of the host, which keeps the memory until the copy has ended.
/// Tensors in other memory pass through pinned buffers; then `to` returns when the last part of them has been read. `x` itself if
/// it is pinned and contiguous already, or where there is no GPU. Pinned memory is taken from all other programs: pin what is
/// uploaded again and again, or is made while the GPU works.
/// @throws DeviceError if `x` is not on the CPU; AutodiffError if it is being differentiated; OutOfMemoryError
[[nodiscard]] SOLVENT_API Tensor pin_memory(const Tensor& x);
/// True for tensors in pinned memory.
[[nodiscard]] SOLVENT_API bool is_pinned(const Tensor& x);
/// Counters of pinned memory; `cached` includes the buffers through which copies of other memory pass (4 MiB each, up to 8
/// for a GPU). All 0 in builds without CUDA.
[[nodiscard]] SOLVENT_API MemoryStats pinned_memory_stats();
/// Sets the limit of pinned memory; 0 = no limit. Copies without room for their buffers take the driver's, which are slower;
/// pin_memory throws OutOfMemoryError.
SOLVENT_API void set_pinned_memory_limit(std::size_t bytes);
/// Returns pinned memory that is not in use to the system.
SOLVENT_API void empty_pinned_cache() noexcept;

/// A queue of work on one GPU, besides the default one. Work on different streams may overlap.
class SOLVENT_API Stream {
 public:
  /// @throws DeviceError if `device` is not a GPU of this machine.
  explicit Stream(Device device);
  /// Waits for its work. Tensors made on it stay valid.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Where it runs.
  [[nodiscard]] Device device() const noexcept { return device_; }
  /// Waits until all of its work has been done. @throws DeviceError if work failed.
  void synchronize() const;
  /// cudaStream_t, for code that calls CUDA itself.
  [[nodiscard]] void* handle() const noexcept { return handle_; }

 private:
  Device device_;
  void* handle_ = nullptr;
};

/// Makes a stream current on this thread while it lives.
class SOLVENT_API StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream);  ///< until the guard is destroyed
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  [[maybe_unused]] Device device_;
  [[maybe_unused]] void* before_;
};

/// A point in a stream's work.
class SOLVENT_API Event {
 public:
  /// @throws DeviceError if `device` is not a GPU of this machine.
  explicit Event(Device device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Marks what the current stream has been given so far.
  void record();
  /// Makes the current stream wait for the mark; the host goes on.
  void wait() const;
  /// Makes the host wait for the mark.
  void synchronize() const;
  /// Milliseconds from `start` to this mark; waits for both. Both must have been recorded.
  [[nodiscard]] double milliseconds_since(const Event& start) const;

 private:
  [[maybe_unused]] Device device_;
  [[maybe_unused]] void* handle_ = nullptr;
};

/// A function of tensors of fixed shapes, recorded once as a CUDA graph and replayed without the host's cost of its
/// operations. The function must do the same work at every call: it may not read values on the host, copy from the host, or
/// depend on anything but its inputs (parameters that change are inputs).
///
/// Checks of values (indices and labels out of range, singular matrices) belong to the recorded work: a replay that fails
/// runs to its end, without the host waiting, and then the ValueError that the operation throws outside of graphs is thrown
/// where those of indices are (see above). The results of the failed replay are wrong. A graph keeps its first failure.
///
///     Graph step = graph([&](const Tensors& in) { return Tensors{loss(in[0], in[1])}; }, {x, y});
///     Tensors out = step({x2, y2});      // copies the inputs, replays, returns copies of the results
class SOLVENT_API Graph {
 public:
  using Function = std::function<Tensors(const Tensors&)>;  ///< of tensors on one GPU

  /// Runs the recorded work on the current stream for other inputs. The results are new tensors. Replays on different streams
  /// wait for each other. Not within a function that is being recorded (DeviceError).
  /// @throws ShapeError, DtypeError, DeviceError if an input differs from the example's shape, dtype or device; ValueError
  /// for what a check of an earlier replay found.
  [[nodiscard]] Tensors operator()(const Tensors& inputs);
  /// Moves only: a graph owns its memory.
  /// @{
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;
  ~Graph();
  /// @}

 private:
  friend SOLVENT_API Graph graph(Function function, const Tensors& example_inputs);
  struct State;
  explicit Graph(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Runs `function` once to warm up and once to record it (`expm` and `phi1` then do 12 doublings for each matrix, and report
/// one that needs more). @throws DeviceError if the inputs do not live on one GPU or the
/// function does what cannot be recorded; AutodiffError if an input is being differentiated.
[[nodiscard]] SOLVENT_API Graph graph(Graph::Function function, const Tensors& example_inputs);

}  // namespace solvent
