// Jacobians of a GRU step at 160,000 states (T = 10,000, B = 16): the closed form against forward mode with n directions.
// `x:peak_over_jacobian` is the peak of additional memory over the size of the Jacobian, generic and closed form.

#include <algorithm>
#include <cmath>
#include <string>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/allocator.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"

namespace solvent::bench {
namespace {

constexpr std::int64_t kRows = 160000;

// Peak of memory during `run` beyond what was active before.
double peak_bytes(const std::function<void()>& run) {
  reset_peak_memory();
  const std::size_t before = memory_stats().active;
  run();
  return static_cast<double>(memory_stats().peak - before);
}

Row jacobian_row(std::int64_t n) {
  const double scale = 1 / std::sqrt(static_cast<double>(n));
  const Tensors theta = {random_normal({3 * n, n}, 2) * scale, random_normal({3 * n, n}, 3) * scale,
                         random_normal({3 * n}, 4) * 0.1, random_normal({n}, 5) * 0.1};
  const Tensor h = tanh(random_normal({kRows, n}, 6));
  const Tensor xw = nn::GruCell::project(random_normal({kRows, n}, 7), theta);
  auto closed = [=] { return nn::GruCell::jacobian_projected(h, xw, theta).jacobian; };
  auto generic = [=] {
    return jacfwd_rows(
               [&](const Tensor& rows, std::int64_t first) {
                 return nn::GruCell::step_projected(rows, slice(xw, 0, first, first + rows.size(0)), theta);
               },
               h)
        .jacobian;
  };
  const double bytes = 4.0 * static_cast<double>(kRows * n * n);
  const double generic_peak = peak_bytes([&] { keep(generic()); }) / bytes;
  const double closed_peak = peak_bytes([&] { keep(closed()); }) / bytes;
  Row row;
  row.run = [closed] { keep(closed()); };
  row.bytes = bytes;
  row.peers = {{.name = "generic", .run = [generic] { keep(generic()); }, .at_least = 1.0, .max_rounds = 7}};
  row.error = [=] { return max_difference(closed(), generic()); };
  row.tolerance = 1e-4;
  row.rounds = 9;
  row.note = "fresh output";
  row.extra = {{"x:peak_over_jacobian_generic", generic_peak},
               {"x:peak_over_jacobian_closed", closed_peak},
               {"max:peak_over_jacobian_generic", 2.0}};
  return row;
}

bool add_jacobian(std::int64_t n) {
  return add_row("jacobian/gru_n" + std::to_string(n) + "_160000_rows", [n] { return jacobian_row(n); });
}

const bool kRegistered[] = {add_jacobian(4), add_jacobian(16), add_jacobian(32)};

}  // namespace
}  // namespace solvent::bench
