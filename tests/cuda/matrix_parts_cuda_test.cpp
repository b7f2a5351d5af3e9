// Triangles and diagonals on a GPU: tall, wide and batched matrices, every size of element, any layout.

#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

TEST_CASE("cuda: triangles and diagonals equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Shape shapes[] = {{3, 17, 31}, {31, 17}, {2, 2, 40, 40}, {4, 0, 3}};
  std::uint64_t n = 0;
  for (const Shape& shape : shapes)
    for (const DType dtype : {float32, float64, int64, boolean}) {
      const Tensor x = cast(randint(Key(++n), shape, 0, 100), dtype);
      const Tensor y = to(x, kGpu);
      for (const std::int64_t offset : {0, 1, -1, 5, -20, 60, -60}) {
        INFO(to_string(shape) << " " << to_string(dtype) << " offset " << offset);
        CHECK(same_bits(tril(y, offset), tril(x, offset)));
        CHECK(same_bits(triu(mT(y), offset), triu(mT(x), offset)));
        CHECK(same_bits(diagonal(y, offset), diagonal(x, offset)));
        CHECK(same_bits(diag_embed(y, offset), diag_embed(x, offset)));
        CHECK(same_bits(diag_embed(mT(y), offset), diag_embed(mT(x), offset)));
      }
    }
}

}  // namespace
}  // namespace solvent::testing
