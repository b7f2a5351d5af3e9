// Joins, padding and pieces on a GPU in shapes that reach every unit of 1 to 16 bytes, several launches and every fallback.

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

// 0, 1, 2, ... modulo 251, so that every dtype holds the values.
Tensor counting(const Shape& shape, DType dtype) {
  const Tensor i = fmod(arange(0, static_cast<double>(shape.product()), 1, float64), full({}, 251, float64));
  return reshape(cast(i, dtype), shape);
}

Tensors moved(const Tensors& xs) {
  Tensors out;
  for (const Tensor& x : xs) out.push_back(to(x, kGpu));
  return out;
}

const DType kTypes[] = {float64, float32, int64, uint8, boolean};

TEST_CASE("cuda: concat and stack of many sizes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : kTypes)
    for (const std::int64_t width : {1, 3, 8, 64}) {
      INFO(to_string(dtype) << " width " << width);
      Tensors parts;  // more pieces than one launch takes, some of them empty
      for (std::int64_t i = 0; i < 101; ++i) parts.push_back(counting({3, i % 5, width}, dtype));
      CHECK(same_bits(concat(moved(parts), 1), concat(parts, 1)));
      Tensors equal(101, counting({5, width}, dtype));
      for (const std::int64_t axis : {0, 1, 2}) CHECK(same_bits(stack(moved(equal), axis), stack(equal, axis)));
      const Tensors large = {counting({300, width}, dtype), counting({700, width}, dtype)};
      CHECK(same_bits(concat(moved(large), 0), concat(large, 0)));
    }
}

TEST_CASE("cuda: joins read pieces of any layout", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = counting({6, 10, 8}, float32);
  const auto pieces = [](const Tensor& t) -> Tensors {
    return {slice(t, 2, 0, 4),  // rows with gaps
            slice(t, 2, 4, 8),
            slice(t, 2, 1, 5),                                            // starts off a multiple of 16 bytes
            slice(t, 2, 0, 8, 2),                                         // every second column
            flip(slice(t, 2, 0, 4), 2),                                   // backwards
            slice(broadcast_to(slice(t, 2, 0, 1), {6, 10, 4}), 2, 0, 4),  // one value per row
            broadcast_to(slice(slice(t, 0, 0, 1), 2, 0, 4), {6, 10, 4}),  // no stride along axis 0
            slice(permute(reshape(t, {10, 6, 8}), {1, 0, 2}), 2, 0, 4)};  // axes that do not merge
  };
  const Tensor y = to(x, kGpu);
  for (const std::int64_t axis : {0, 1, 2}) {
    INFO("axis " << axis);
    CHECK(same_bits(concat(pieces(y), axis), concat(pieces(x), axis)));
    CHECK(same_bits(stack(pieces(y), axis), stack(pieces(x), axis)));
  }
}

TEST_CASE("cuda: pad and its adjoint", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : kTypes)
    for (const std::int64_t width : {1, 2, 5, 32}) {
      INFO(to_string(dtype) << " width " << width);
      const Tensor x = counting({4, 17, width}, dtype);
      const Tensor y = to(x, kGpu);
      for (const std::int64_t axis : {0, 1, 2}) {
        CHECK(same_bits(pad(y, axis, 2, 3, 1.0), pad(x, axis, 2, 3, 1.0)));
        CHECK(same_bits(pad(flip(y, axis), axis, 0, 5, 0.0), pad(flip(x, axis), axis, 0, 5, 0.0)));
      }
      CHECK(same_bits(pad(slice(y, 1, 0, 0), 1, 2, 2, 1.0), pad(slice(x, 1, 0, 0), 1, 2, 2, 1.0)));
      CHECK(same_bits(pad(permute(y, {2, 0, 1}), 1, 1, 1, 1.0), pad(permute(x, {2, 0, 1}), 1, 1, 1, 1.0)));
    }
  // Adjoints of steps, forwards and backwards, place elements with gaps.
  const Tensor x = cast(counting({3, 40, 6}, int64), float64);
  for (const std::int64_t step : {1, 3, -1, -4}) {
    INFO("step " << step);
    const auto f = [step](const Tensor& t) {
      return step > 0 ? sum(square(slice(t, 1, 2, 35, step))) : sum(square(slice(t, 1, 35, 2, step)));
    };
    CHECK(same_bits(grad(f, to(x, kGpu)), grad(f, x)));
  }
}

TEST_CASE("cuda: pieces and copies", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = counting({5, 300, 7}, float32);
  const Tensor y = to(x, kGpu);
  const Tensors expected = split(x, {100, 0, 200}, 1);
  const Tensors got = split(y, {100, 0, 200}, 1);
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(got[i], expected[i]));
  const Tensors rows = unstack(y, 1);
  const Tensors cpu_rows = unstack(x, 1);
  REQUIRE(rows.size() == cpu_rows.size());
  for (std::size_t i = 0; i < rows.size(); i += 13) CHECK(same_bits(rows[i], cpu_rows[i]));
  CHECK(same_bits(stack(rows, 1), x));
  CHECK(same_bits(clone(permute(y, {2, 0, 1})), permute(x, {2, 0, 1})));
  CHECK(same_bits(slice(y, 1, 290, 10, -7), slice(x, 1, 290, 10, -7)));
}

}  // namespace
}  // namespace solvent::testing
