#pragma once
/// Benchmarks on a GPU: the rows of compare.h with times from pairs of events on the stream. The environment variable
/// SOLVENT_BENCH_SIZE chooses the sizes: `full` (the default, for a card with 60 GB or more), `quick` (seconds per program),
/// `smoke` (tiny: whether the rows work at all, also in the emulator).

#include <cstdint>
#include <string>

#include "solvent/core/stream.h"
#include "solvent/tests/bench/compare.h"

namespace solvent::bench {

/// cuda:0
inline constexpr Device bench_gpu() { return {DeviceType::cuda, 0}; }

/// What SOLVENT_BENCH_SIZE says. Ends the process with exit code 2 for other words.
enum class BenchSize : std::uint8_t { full, quick, smoke };
BenchSize bench_size();

/// The value for the size in force.
template <class T>
T by_size(T full, T quick, T smoke) {
  return bench_size() == BenchSize::full ? full : bench_size() == BenchSize::quick ? quick : smoke;
}

/// Seconds on the GPU's stream from the first call's work to the end of the last one's, per call. Where the host is slower
/// than the device this is the host's time, as a user sees it.
double device_seconds(const std::function<void()>& run, int calls);
/// Seconds that the host is busy per call, without waiting for the device's work.
double enqueue_seconds(const std::function<void()>& run, int calls);

/// A row timed by device_seconds (or another timer), in a program that runs only where there is a GPU. Smoke rows take two
/// rounds.
bool add_cuda_row(const std::string& name, std::function<Row()> make, Timer timer = device_seconds);

/// Values of every size and sign on the GPU, at most 1 in magnitude; different for each seed. Made on the device, since a
/// gigabyte of random numbers takes longer to copy than to use.
Tensor device_values(const Shape& shape, int seed = 1, DType dtype = float32);

/// Largest |a - b| of tensors of one floating dtype on any device; NaN if any is, or if the shapes differ.
double largest_difference(const Tensor& a, const Tensor& b);

/// A copy on the device of as many bytes as `like` has. `our_bytes_per_byte`: bytes that our call moves (reads and writes)
/// per byte of `like`; a copy moves 2.
Peer device_copy_peer(const Tensor& like, double at_least, double our_bytes_per_byte = 2.0);

// --- NVIDIA's libraries, called directly; without `run` in builds that lack them -------------------------------------------

/// How cuBLAS multiplies.
enum class GemmKind : std::uint8_t {
  f32,
  tf32,
  bf16,  ///< float32 matrices, rounded on the way
  f64,
  bf16_storage,  ///< matrices of bfloat16, sums in float32
};
/// While it lives, products of float32 matrices may have that precision (f32 and f64: none reduced).
class PrecisionGuard {
 public:
  explicit PrecisionGuard(GemmKind kind);
  ~PrecisionGuard();
  PrecisionGuard(const PrecisionGuard&) = delete;
  PrecisionGuard& operator=(const PrecisionGuard&) = delete;
};
/// c = a b for row-major square matrices of extent n by cuBLAS into a buffer of its own. `result` holds it afterwards.
struct PeerResult {
  Peer peer;
  Tensor result;  ///< empty without cuBLAS
};
/// a, b (n, n) on the GPU.
PeerResult cublas_peer(GemmKind kind, const Tensor& a, const Tensor& b, double at_least);

/// Which of a convolution's three products.
enum class ConvPass : std::uint8_t { forward, input_grad, weight_grad };
/// Square maps, filters and strides; zeros all around.
struct ConvCase {
  const char* name;
  std::int64_t n, c, o, map, kernel, stride, padding;
  /// Extent of the result.
  [[nodiscard]] std::int64_t out() const { return (map + 2 * padding - kernel) / stride + 1; }
};
/// cuDNN's fastest deterministic algorithm, found by trying them; float32 throughout unless `tf32`.
/// `x` and `y` are what it reads: (map, filter), (gradient, filter) or (map, gradient).
PeerResult cudnn_peer(const ConvCase& c, ConvPass pass, bool tf32, const Tensor& x, const Tensor& y,
                      const Shape& result, double at_least);

/// CUB's DeviceScan of h[t] = a[t] h[t-1] + b[t] over one long sequence, as pairs (a, b) composed; and of a plain sum.
/// @{
PeerResult cub_recurrence_peer(const Tensor& a, const Tensor& b, double at_least);
PeerResult cub_sum_peer(const Tensor& x, double at_least);
/// @}

/// "cuBLAS 130000, cuDNN 91300, CUB 300001", or what is missing.
std::string peer_versions();

}  // namespace solvent::bench
