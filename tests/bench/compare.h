#pragma once
/// Benchmarks against peers. A row is one measured call of Solvent together with other ways to do the same work: a raw
/// BLAS call, memcpy, a scalar loop, libtorch. All of them take turns in one process, round by round, so that the ratio
/// survives a machine whose speed changes; times and ratios are medians over the rounds.
///
///     const bool registered = add_row("elementwise/exp/16M", [] {
///       const Tensor x = random_normal({1 << 24});
///       Row row;
///       row.run = [x] { keep(exp(x)); };
///       row.peers = {memcpy_peer(x, 0.8)};
///       return row;
///     });
///
/// Rows are built when they run, and freed after. Results are Google Benchmark's: the text table comes from our reporter,
/// JSON from --benchmark_out=FILE. Counters (all times in seconds, per item):
///   ours_s, ours_p10_s, ours_p90_s    limit_s (what ours_s may be at most)    gflops, gbytes (per second), *_min
///   peer_s:NAME    ratio:NAME (scale * peer / ours)    min:NAME (what the ratio must reach)

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "solvent/core/tensor.h"

namespace solvent::bench {

/// Another way to do a row's work. An empty `run` (a peer that this build lacks) is left out.
struct Peer {
  std::string name;
  std::function<void()> run;
  double at_least = 0;    ///< target of the ratio; 0: reported only
  double scale = 1;       ///< ratio = scale * peer time / our time: our bytes over the peer's in bandwidth comparisons
  int max_rounds = 1000;  ///< slow peers take part in the first rounds only
};

struct Row {
  std::function<void()> run;
  std::vector<Peer> peers;
  double items = 1;    ///< one call does this many items; every time is per item
  double at_most = 0;  ///< target of our time, in seconds per item; 0: none
  double flops = 0;    ///< per call
  double gflops_at_least = 0;
  double bytes = 0;  ///< per call
  int rounds = 21;
  double min_section = 2e-3;  ///< seconds that one party runs before the next takes its turn, at least
  double max_seconds = 3;     ///< of rounds, after which a row with three of them stops
  /// Largest error of the result; run once before timing, the row fails above `tolerance`.
  std::function<double()> error;
  double tolerance = 0;
  std::string note;                                   ///< for example "fresh output"
  std::vector<std::pair<std::string, double>> extra;  ///< further counters
};

/// Mean seconds of one of `calls` calls of `run`.
using Timer = std::function<double(const std::function<void()>& run, int calls)>;

/// Registers a row; returns true. Times are the host's clock unless a timer is given.
bool add_row(const std::string& name, std::function<Row()> make, Timer timer = {});

/// Has `hook` called before the first row. A text that it returns ends the program with exit code 2 and "skipped: <text>".
bool before_rows(std::function<std::string()> hook);
/// Calls them; the first text, or "".
std::string call_before_rows();

/// Keeps a result from being optimised away.
inline void keep(const Tensor& t) { benchmark::DoNotOptimize(t.impl()); }

/// Standard normal float32 values from a fixed key.
Tensor random_normal(const Shape& shape, std::uint64_t seed = 1);
/// Largest |a - b| over all elements; NaN if any is.
double max_difference(const Tensor& a, const Tensor& b);
double max_difference(const Tensor& a, const std::vector<float>& b);

// --- peers made of loops ------------------------------------------------------------------------------------------------

/// memcpy of as many bytes as `like` has into a buffer touched before, split over the threads.
/// `our_bytes_per_byte`: bytes that our call moves (reads and writes) per byte of `like`; memcpy moves 2.
Peer memcpy_peer(const Tensor& like, double at_least, double our_bytes_per_byte = 2.0);
/// Reads every element of `x` once, split over the threads.
Peer read_peer(const Tensor& x, double at_least = 0, double scale = 1.0);
/// y = a + 3 b over `elements` floats with normal stores on one thread: 12 bytes per element.
Peer triad_peer(std::int64_t elements, double at_least, double our_bytes_per_element);

}  // namespace solvent::bench
