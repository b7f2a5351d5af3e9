// Runs the rows of one program. Options are Google Benchmark's (--benchmark_filter=REGEX, --benchmark_out=FILE, ...) and
// --threads=N. The table shows a row per benchmark and a line per peer; "MISSED" marks a target that was not reached.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "solvent/core/build_info.h"
#include "solvent/core/parallel.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

namespace {

using solvent::bench::Row;

std::string duration(double s) {
  if (s < 1e-6) return fmt::format("{:.1f} ns", s * 1e9);
  if (s < 1e-3) return fmt::format("{:.2f} us", s * 1e6);
  if (s < 1) return fmt::format("{:.2f} ms", s * 1e3);
  return fmt::format("{:.2f} s", s);
}

std::string target(bool met, const std::string& text) { return fmt::format("  {} {}", met ? "ok" : "MISSED", text); }

class TableReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    fmt::print("{:<34} {:>12} {:>12} {:>9}  target\n", "row / peer", "ours", "peer", "ratio");
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) report(run);
    std::fflush(stdout);
  }

 private:
  static void report(const Run& run) {
    const std::string name = run.run_name.function_name;
    if (run.error_occurred) {
      fmt::print("{:<34} FAILED: {}\n", name, run.error_message);
      return;
    }
    auto value = [&](const std::string& counter) {
      const auto it = run.counters.find(counter);
      return it == run.counters.end() ? 0.0 : it->second.value;
    };
    std::string line = fmt::format("{:<34} {:>12}", name, duration(value("ours_s")));
    if (value("gflops") > 0) line += fmt::format("  {:.1f} GFLOP/s", value("gflops"));
    if (value("gbytes") > 0) line += fmt::format("  {:.1f} GB/s", value("gbytes"));
    if (value("limit_s") > 0) line += target(value("ours_s") <= value("limit_s"), "<= " + duration(value("limit_s")));
    if (value("gflops_min") > 0)
      line += target(value("gflops") >= value("gflops_min"), fmt::format(">= {} GFLOP/s", value("gflops_min")));
    for (const auto& [counter, c] : run.counters)
      if (counter.starts_with("x:")) line += fmt::format("  {} {:.3g}", counter.substr(2), c.value);
    if (!run.report_label.empty()) line += "  (" + run.report_label + ")";
    fmt::print("{}\n", line);
    for (const auto& [counter, c] : run.counters) {
      if (!counter.starts_with("peer_s:")) continue;
      const std::string peer = counter.substr(7);
      const double ratio = value("ratio:" + peer), least = value("min:" + peer);
      fmt::print("  {:<32} {:>12} {:>12} {:>9.2f}{}\n", peer, "", duration(c.value), ratio,
                 least > 0 ? target(ratio >= least, fmt::format(">= {}", least)) : "");
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--threads=", 10) == 0) {
      char* end = nullptr;
      const long n = std::strtol(argv[i] + 10, &end, 10);
      if (*end != '\0' || n < 1 || n > 4096) {
        fmt::print(stderr, "{}: got \"{}\"; expected --threads=N with N >= 1\n", argv[0], argv[i]);
        return 2;
      }
      solvent::set_num_threads(static_cast<int>(n));
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  solvent::bench::torch_peer::set_threads(solvent::num_threads());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (const std::string reason = solvent::bench::call_before_rows(); !reason.empty()) {
    fmt::print("skipped: {}\n", reason);
    return 2;
  }
  benchmark::AddCustomContext("threads", std::to_string(solvent::num_threads()));
  benchmark::AddCustomContext("libtorch", solvent::bench::torch_peer::description());
  const std::string& info = solvent::build_info();
  for (std::size_t begin = 0; begin < info.size();) {
    std::size_t end = info.find('\n', begin);
    if (end == std::string::npos) end = info.size();
    const std::string line = info.substr(begin, end - begin);
    if (const std::size_t colon = line.find(": "); colon != std::string::npos)
      benchmark::AddCustomContext("solvent_" + line.substr(0, colon), line.substr(colon + 2));
    begin = end + 1;
  }
  TableReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
}
