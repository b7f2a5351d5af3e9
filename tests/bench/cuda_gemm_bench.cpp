// Products of square matrices against raw cuBLAS in the same process: float32, float32 with factors rounded to TF32 and
// bfloat16, float64, and matrices of bfloat16.

#include <cmath>
#include <string>

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/cuda_compare.h"

namespace solvent::bench {
namespace {

struct Kind {
  const char* name;
  GemmKind peer;
  DType dtype;
  double unit;  // rounding of the factors
};

constexpr Kind kKinds[] = {
    {"float32", GemmKind::f32, DType::float32, 6e-8},
    {"tf32", GemmKind::tf32, DType::float32, 5e-4},
    {"bf16", GemmKind::bf16, DType::float32, 4e-3},
    {"float64", GemmKind::f64, DType::float64, 2e-16},
    {"bfloat16", GemmKind::bf16_storage, DType::bfloat16, 4e-3},
};

Row gemm_row(const Kind& kind, std::int64_t n) {
  const Tensor a = device_values({n, n}, 1, kind.dtype), b = device_values({n, n}, 2, kind.dtype);
  const PeerResult cublas = cublas_peer(kind.peer, a, b, 0.97);
  auto product = [=] {
    const PrecisionGuard precision(kind.peer);
    return matmul(a, b);
  };
  Row row;
  row.run = [product] { keep(product()); };
  row.flops = 2.0 * std::pow(static_cast<double>(n), 3);
  row.peers = {cublas.peer};
  row.error = [=] {
    if (!cublas.peer.run)
      return largest_difference(to(product(), cpu_device), matmul(to(a, cpu_device), to(b, cpu_device)));
    cublas.peer.run();
    return largest_difference(product(), cublas.result);
  };
  // Two orders of sums of n products of at most 1, each product with the rounding of its factors.
  const double sums = kind.dtype == float64 ? 2e-16 : 8e-8;
  row.tolerance = 8 * kind.unit * std::sqrt(static_cast<double>(n)) + sums * static_cast<double>(n);
  return row;
}

bool add_all() {
  for (const Kind& kind : kKinds)
    for (const std::int64_t n : {1024, 2048, 4096, 8192}) {
      if (bench_size() == BenchSize::quick && n != 1024 && n != 4096) continue;
      const std::int64_t extent = bench_size() == BenchSize::smoke ? n / 64 : n;
      add_cuda_row("gemm/" + std::string(kind.name) + "/" + std::to_string(extent),
                   [kind, extent] { return gemm_row(kind, extent); });
    }
  return true;
}

const bool kRegistered = add_all();

}  // namespace
}  // namespace solvent::bench
