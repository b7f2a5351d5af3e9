// Matrix products through `matmul` against the raw BLAS call on the same operands, and libtorch. BLAS and Solvent have the
// same number of threads. The result of `matmul` is fresh, BLAS writes into one buffer.

#if SOLVENT_BENCH_BLAS
#include <cblas.h>
#endif

#include <algorithm>
#include <cmath>
#include <string>

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

namespace solvent::bench {
namespace {

Tensor blas_result(const Tensor& a, const Tensor& b, [[maybe_unused]] std::int64_t n) {
#if SOLVENT_BENCH_BLAS
  const Tensor c = zeros({n, n});
  const int m = static_cast<int>(n);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, m, m, 1.0f, a.data<float>(), m, b.data<float>(), m, 0.0f,
              const_cast<float*>(c.data<float>()), m);
  return c;
#else
  return matmul(cast(a, float64), cast(b, float64));
#endif
}

Peer blas_peer([[maybe_unused]] const Tensor& a, [[maybe_unused]] const Tensor& b, [[maybe_unused]] std::int64_t n,
               [[maybe_unused]] double at_least) {
  Peer peer{.name = "BLAS", .run = {}, .at_least = at_least};
#if SOLVENT_BENCH_BLAS
  const Tensor c = zeros({n, n});
  peer.run = [a, b, c, m = static_cast<int>(n)] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, m, m, 1.0f, a.data<float>(), m, b.data<float>(), m, 0.0f,
                const_cast<float*>(c.data<float>()), m);
  };
#endif
  return peer;
}

// Entries are sums of n products of standard normal numbers.
double product_tolerance(std::int64_t n) { return 1e-5 * std::max(1.0, std::sqrt(static_cast<double>(n)) * 4); }

Row square_row(std::int64_t n) {
  const Tensor a = random_normal({n, n}), b = random_normal({n, n}, 2);
  const torch_peer::Call torch = torch_peer::matmul(a.data<float>(), b.data<float>(), 0, n, n, n);
  Row row;
  row.run = [a, b] { keep(matmul(a, b)); };
  row.flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  row.peers = {blas_peer(a, b, n, n >= 64 ? 0.95 : 0), {.name = "libtorch", .run = torch.run}};
  row.error = [a, b, n] { return max_difference(matmul(a, b), blas_result(a, b, n)); };
  row.tolerance = product_tolerance(n);
  row.rounds = n >= 2048 ? 7 : 21;
  return row;
}

Row batched_row(std::int64_t batch, std::int64_t m, std::int64_t k, std::int64_t n) {
  const Tensor a = random_normal({batch, m, k}), b = random_normal({batch, k, n}, 2);
  const torch_peer::Call torch = torch_peer::matmul(a.data<float>(), b.data<float>(), batch, m, k, n);
  Row row;
  row.run = [a, b] { keep(matmul(a, b)); };
  row.flops = 2.0 * static_cast<double>(batch * m * k * n);
  row.gflops_at_least = 150;
  row.peers = {{.name = "libtorch bmm", .run = torch.run}};
#if SOLVENT_BENCH_BLAS
  const Tensor c = zeros({batch, m, n});
  row.peers.push_back({.name = "BLAS loop", .run = [=] {
                         const float* pa = a.data<float>();
                         const float* pb = b.data<float>();
                         float* pc = const_cast<float*>(c.data<float>());
                         const int im = static_cast<int>(m), ik = static_cast<int>(k), in = static_cast<int>(n);
                         for (std::int64_t i = 0; i < batch; ++i)
                           cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, im, in, ik, 1.0f, pa + i * m * k, ik,
                                       pb + i * k * n, in, 0.0f, pc + i * m * n, in);
                       }});
#endif
  if (torch.result) {
    row.error = [a, b, result = torch.result] { return max_difference(matmul(a, b), result()); };
    row.tolerance = product_tolerance(k);
  }
  return row;
}

bool add_square(std::int64_t n) {
  return add_row("matmul/" + std::to_string(n), [n] { return square_row(n); });
}

const bool kRegistered[] = {
    add_square(16),
    add_square(64),
    add_square(128),
    add_square(256),
    add_square(512),
    add_square(1024),
    add_square(2048),
    add_row("matmul/batch_4096_16x16x16", [] { return batched_row(4096, 16, 16, 16); }),
    add_row("matmul/batch_4096_16x48x16", [] { return batched_row(4096, 16, 48, 16); }),
};

}  // namespace
}  // namespace solvent::bench
