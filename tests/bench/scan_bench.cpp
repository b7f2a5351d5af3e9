// First-order linear recurrences. Diagonal ones against a one-thread triad of the same run (12 bytes per element) and a
// scalar loop; dense ones against a plain read of the matrices on all threads.

#include <cmath>
#include <string>

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"

namespace solvent::bench {
namespace {

// h[t] = a[t] h[t-1] + b[t] for `chains` neighbouring chains, in float64 if Accumulator is.
template <class Accumulator>
void scalar_scan(const float* a, const float* b, float* h, std::int64_t steps, std::int64_t chains) {
  for (std::int64_t c = 0; c < chains; ++c) {
    Accumulator state = 0;
    for (std::int64_t t = 0; t < steps; ++t) {
      const std::int64_t i = t * chains + c;
      state = static_cast<Accumulator>(a[i]) * state + static_cast<Accumulator>(b[i]);
      h[i] = static_cast<float>(state);
    }
  }
}

Tensor scalar_result(const Tensor& a, const Tensor& b, std::int64_t steps, std::int64_t chains) {
  std::vector<float> h(static_cast<std::size_t>(steps * chains));
  scalar_scan<double>(a.data<float>(), b.data<float>(), h.data(), steps, chains);
  return from_vector(h, b.shape());
}

Row diagonal_row(std::int64_t steps, std::int64_t batch, std::int64_t n) {
  const std::int64_t chains = batch * n;
  const Tensor a = tanh(random_normal({steps, batch, n})), b = random_normal({steps, batch, n}, 2),
               h0 = zeros({batch, n});
  Row row;
  row.run = [a, b, h0] { keep(affine_scan(a, b, h0)); };
  row.bytes = 12.0 * static_cast<double>(steps * chains);
  row.error = [=] { return max_difference(affine_scan(a, b, h0), scalar_result(a, b, steps, chains)); };
  row.tolerance = 1e-4;
  row.note = "fresh output";
  row.peers = {triad_peer(steps * chains, chains > 1 ? 0.75 : 0, 12)};
  if (chains == 1) {
    const Tensor h = zeros({steps});
    row.peers.push_back({.name = "scalar loop",
                         .run =
                             [=] {
                               scalar_scan<float>(a.data<float>(), b.data<float>(), const_cast<float*>(h.data<float>()),
                                                  steps, 1);
                               benchmark::ClobberMemory();
                             },
                         .at_least = 2.5});
  }
  return row;
}

Row dense_row(std::int64_t n, double of_read) {
  constexpr std::int64_t kSteps = 10000, kBatch = 16;
  const double scale = 0.5 / std::sqrt(static_cast<double>(n));  // contracting
  const Tensor a = random_normal({kSteps, kBatch, n, n}) * scale, b = random_normal({kSteps, kBatch, n}, 2);
  const Tensor h0 = random_normal({kBatch, n}, 3);
  Row row;
  row.run = [a, b, h0] { keep(affine_scan(a, b, h0)); };
  row.bytes = 4.0 * static_cast<double>(kSteps * kBatch * n * (n + 2));
  row.error = [=] {
    const Tensor wide = affine_scan(cast(a, float64), cast(b, float64), cast(h0, float64));
    const Tensor step = matmul(cast(slice(a, 0, 1, 2), float64), reshape(slice(wide, 0, 0, 1), {1, kBatch, n, 1}));
    const Tensor second = reshape(step, {1, kBatch, n}) + cast(slice(b, 0, 1, 2), float64);
    const double recurrence = max(abs(second - slice(wide, 0, 1, 2))).item();
    return std::max(recurrence, max_difference(affine_scan(a, b, h0), cast(wide, float32)));
  };
  row.tolerance = 1e-4;
  row.note = "fresh output";
  row.peers = {read_peer(a, of_read)};
  return row;
}

bool add_dense(std::int64_t n) {
  return add_row("scan/dense_n" + std::to_string(n) + "_T10000_B16", [n] { return dense_row(n, 1 / 1.5); });
}

const bool kRegistered[] = {
    add_row("scan/diagonal_T16384_512_chains", [] { return diagonal_row(16384, 16, 32); }),
    add_row("scan/diagonal_T10000000_1_chain", [] { return diagonal_row(10000000, 1, 1); }),
    add_dense(2),
    add_dense(4),
    add_dense(8),
    add_dense(16),
};

}  // namespace
}  // namespace solvent::bench
