#include "solvent/core/matmul_precision.h"

#include <atomic>

namespace solvent {
namespace {

std::atomic<MatmulPrecision> g_precision{MatmulPrecision::highest};

}  // namespace

void set_matmul_precision(MatmulPrecision precision) noexcept {
  g_precision.store(precision, std::memory_order_relaxed);
}

MatmulPrecision matmul_precision() noexcept { return g_precision.load(std::memory_order_relaxed); }

std::string to_string(MatmulPrecision precision) {
  switch (precision) {
    case MatmulPrecision::tf32: return "tf32";
    case MatmulPrecision::bf16: return "bf16";
    default: return "highest";
  }
}

}  // namespace solvent
