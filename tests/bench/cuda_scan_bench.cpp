// First-order linear recurrences h[t] = a[t] h[t-1] + b[t] and running sums on a GPU: many neighbouring chains against a copy
// on the device, and one chain of 2^16 to 2^30 steps against CUB's scan of pairs in the same run.

#include <algorithm>
#include <string>

#include "solvent/core/engine/view.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/cuda_compare.h"

namespace solvent::bench {
namespace {

// Factors in (-0.95, 0.95): the recurrence forgets, so rounding errors do not grow.
Tensor factors(const Shape& shape) { return affine(device_values(shape, 1), 0.95, 0); }

// Largest defect |h[t] - a[t] h[t-1] - b[t]|, found with other operations than the scan. All (T, B, n).
double defect(const Tensor& h, const Tensor& a, const Tensor& b, const Tensor& h0) {
  const std::int64_t t = h.size(0);
  const Tensor first =
      slice(h, 0, 0, 1) - (slice(a, 0, 0, 1) * reshape(h0, slice(h, 0, 0, 1).shape()) + slice(b, 0, 0, 1));
  double worst = max(abs(first)).item();
  if (t > 1) {
    const Tensor rest = slice(h, 0, 1, t) - (slice(a, 0, 1, t) * slice(h, 0, 0, t - 1) + slice(b, 0, 1, t));
    worst = std::max(worst, max(abs(rest)).item());
  }
  return worst;
}

// `time_last`: memory (B, n, T) with the chains' steps side by side, as state space models have them.
Row diagonal_row(std::int64_t steps, std::int64_t batch, std::int64_t n, bool time_last) {
  auto laid_out = [=](const Tensor& t) { return time_last ? permute(t, {2, 0, 1}) : t; };
  const Shape shape = time_last ? Shape{batch, n, steps} : Shape{steps, batch, n};
  const Tensor a = laid_out(factors(shape)), b = laid_out(device_values(shape, 2));
  const Tensor h0 = device_values({batch, n}, 3);
  Row row;
  row.run = [=] { keep(affine_scan(a, b, h0)); };
  row.bytes = 12.0 * static_cast<double>(steps * batch * n);
  row.peers = {device_copy_peer(b, 0.85, 3)};
  row.error = [=] { return defect(affine_scan(a, b, h0), a, b, h0); };
  row.tolerance = 1e-5;
  row.note = time_last ? "memory (B, n, T)" : "memory (T, B, n)";
  return row;
}

Row chain_row(std::int64_t steps) {
  const Tensor a = factors({steps, 1, 1}), b = device_values({steps, 1, 1}, 2),
               h0 = zeros({1, 1}, {float32, bench_gpu()});
  const PeerResult cub = cub_recurrence_peer(a, b, 1.0);
  Row row;
  row.run = [=] { keep(affine_scan(a, b, h0)); };
  row.bytes = 12.0 * static_cast<double>(steps);
  row.peers = {cub.peer, device_copy_peer(b, 0, 3)};
  row.error = [=] {
    const Tensor h = affine_scan(a, b, h0);
    const double error = defect(h, a, b, h0);
    if (!cub.peer.run) return error;
    cub.peer.run();
    return std::max(error, largest_difference(h, reshape(cub.result, h.shape())));
  };
  row.tolerance = 2e-5;
  return row;
}

Row sum_row(std::int64_t steps) {
  const Tensor x = device_values({steps}, 2);
  const PeerResult cub = cub_sum_peer(x, 1.0);
  Row row;
  row.run = [=] { keep(cumsum(x, 0)); };
  row.bytes = 8.0 * static_cast<double>(steps);
  row.peers = {cub.peer, device_copy_peer(x, 0)};
  row.error = [=] {  // differences of neighbours give the terms back, up to the rounding of the sums
    const Tensor y = cumsum(x, 0);
    const Tensor back = slice(y, 0, 1, steps) - slice(y, 0, 0, steps - 1);
    return largest_difference(back, slice(x, 0, 1, steps)) / std::max(1.0, max(abs(y)).item());
  };
  row.tolerance = 1e-6;
  return row;
}

bool add_all() {
  const std::int64_t batch = by_size<std::int64_t>(8, 8, 2), n = by_size<std::int64_t>(1536, 512, 3);
  const std::int64_t steps = by_size<std::int64_t>(65536, 16384, 37);
  for (const bool time_last : {false, true})
    add_cuda_row("scan/diagonal_" + std::to_string(batch) + "x" + std::to_string(n) + "x" + std::to_string(steps) +
                     (time_last ? "/time_last" : "/time_first"),
                 [=] { return diagonal_row(steps, batch, n, time_last); });
  const int first = by_size(16, 16, 9), last = by_size(30, 24, 13), stride = by_size(1, 4, 2);
  for (int power = first; power <= last; power += stride) {
    const std::string name = "/2^" + std::to_string(power);
    add_cuda_row("scan/one_chain" + name, [=] { return chain_row(std::int64_t{1} << power); });
    if (power % 4 == 0 || power == last)
      add_cuda_row("scan/cumsum" + name, [=] { return sum_row(std::int64_t{1} << power); });
  }
  return true;
}

const bool kRegistered = add_all();

}  // namespace
}  // namespace solvent::bench
