// Gathering and scattering on a GPU in shapes that reach every kernel: rows in units, single elements, lines owned by
// threads, sorted lists with runs over many chunks; and the errors of indices out of range.

#include <algorithm>
#include <cmath>
#include <string>

#include "solvent/core/error.h"
#include "solvent/core/stream.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(77);

Tensor random_index(const Shape& shape, std::int64_t size, std::uint64_t n) {
  return randint(kKey.fold_in(n), shape, 0, size, cpu_device);
}
Tensor sample(const Shape& shape, DType dtype, std::uint64_t n) {
  return dtype == int64 ? randint(kKey.fold_in(n), shape, -1000, 1000, cpu_device)
                        : normal(kKey.fold_in(n), shape, 0, 1, {dtype, cpu_device});
}

TEST_CASE("cuda: gather moves rows and single elements", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64, int64})
    for (const std::int64_t width : {1, 3, 4, 32}) {
      INFO(to_string(dtype) << " width " << width);
      const Tensor table = sample({50, width}, dtype, 1);
      const Tensor index = random_index({300}, 50, 2);
      CHECK(same_bits(embedding(to(table, kGpu), to(index, kGpu)), embedding(table, index)));
      CHECK(same_bits(index_select(to(table, kGpu), to(index, kGpu), 0), index_select(table, index, 0)));
      const Tensor x = sample({4, 50, width}, dtype, 3);
      const Tensor each = random_index({4, 90, width}, 50, 4);
      CHECK(same_bits(gather(to(x, kGpu), to(each, kGpu), 1), gather(x, each, 1)));
      const Tensor shared = random_index({1, 90, 1}, 50, 5);
      CHECK(same_bits(gather(to(x, kGpu), to(shared, kGpu), 1), gather(x, shared, 1)));
      const Tensor turned = permute(x, {2, 1, 0});
      CHECK(
          same_bits(index_select(permute(to(x, kGpu), {2, 1, 0}), to(index, kGpu), 1), index_select(turned, index, 1)));
      const Tensor shifted =
          slice(sample({50, width + 1}, dtype, 6), 1, 1, width + 1);  // rows off multiples of 16 bytes
      CHECK(same_bits(embedding(to(contiguous(shifted), kGpu), to(index, kGpu)), embedding(shifted, index)));
      CHECK(same_bits(embedding(slice(to(sample({50, width + 1}, dtype, 6), kGpu), 1, 1, width + 1), to(index, kGpu)),
                      embedding(shifted, index)));
    }
}

TEST_CASE("cuda: scatter_add owns lines and sorts lists", "[cuda]") {
  if (!has_cuda_test_device()) return;
  struct Case {
    Shape x, index;
    std::int64_t axis, size;
  };
  const Case cases[] = {
      {{20, 7}, {20, 7}, 0, 5},              // short lines
      {{300, 3}, {300, 3}, 0, 40},           // long lines, each with its own list
      {{2, 700}, {2, 700}, 1, 1000},         // along the last axis, more places than addends
      {{2100, 4}, {2100, 1}, 0, 300},        // one list for all lines
      {{2050}, {2050}, 0, 2},                // runs over many chunks
      {{2, 600, 3}, {1, 600, 1}, 1, 70000},  // three digits
      {{40, 16400}, {40, 16400}, 0, 3},      // enough lines for a thread each
      {{700, 2}, {700, 1}, 0, 1},            // everything in one place
  };
  std::uint64_t n = 10;
  for (const DType dtype : {float32, float64, int64})
    for (const Case& c : cases) {
      if (dtype == int64 && c.size > 40) continue;  // sorted as floats are
      INFO(to_string(dtype) << " " << to_string(c.x) << " to " << c.size);
      const Tensor x = sample(c.x, dtype, ++n);
      const Tensor index = random_index(c.index, c.size, ++n);
      const Tensor expected = scatter_add(cast(x, dtype == float32 ? float64 : dtype), index, c.axis, c.size);
      const Tensor got = scatter_add(to(x, kGpu), to(index, kGpu), c.axis, c.size);
      CHECK(got.dtype() == dtype);
      CHECK(error(got, expected) <= (dtype == float32 ? 3e-6 : dtype == float64 ? 1e-13 : 0.0));
      CHECK(same_bits(got, scatter_add(to(x, kGpu), to(index, kGpu), c.axis, c.size)));
    }
  // Skewed: half of the entries are one index, as with padding; and runs that end exactly at a chunk's end.
  const Tensor x = sample({1024, 3}, float64, 91);
  const Tensor index = random_index({1024, 1}, 100, 92);
  const Tensor skewed = where(less(index, full({}, 50, {int64, cpu_device})), full({}, 7, {int64, cpu_device}), index);
  CHECK(error(scatter_add(to(x, kGpu), to(skewed, kGpu), 0, 100), scatter_add(x, skewed, 0, 100)) <= 1e-13);
  const Tensor blocks = reshape(arange(0, 16, 1, {int64, cpu_device}), {16, 1});
  const Tensor even = reshape(broadcast_to(blocks, {16, 64}), {1024, 1});
  CHECK(error(scatter_add(to(x, kGpu), to(even, kGpu), 0, 16), scatter_add(x, even, 0, 16)) <= 1e-13);
}

TEST_CASE("cuda: indices out of range are reported as on the CPU", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Tensor index = random_index({40, 50}, 9, 100);
  index = where(equal(reshape(arange(0, 2000, 1, {int64, cpu_device}), {40, 50}), full({}, 1234, {int64, cpu_device})),
                full({}, 9, {int64, cpu_device}), index);
  const auto message = [](auto f) {
    try {
      (void)f();
      synchronize(kGpu);  // checks_cuda_test.cpp says when errors of a GPU come
    } catch (const ValueError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const auto is_same = [&](auto on_gpu, auto on_cpu) {
    const std::string expected = message(on_cpu);
    CHECK(expected.find("got index") != std::string::npos);
    CHECK(message(on_gpu).find(expected) == 0);
  };
  const Tensor x = sample({9, 50}, float32, 101);
  CHECK(message([&] { return gather(x, index, 0); }).find("got index 9 at position 1234") != std::string::npos);
  is_same([&] { return gather(to(x, kGpu), to(index, kGpu), 0); }, [&] { return gather(x, index, 0); });
  is_same(
      [&] {
        return one_hot(permute(to(index, kGpu), {1, 0}), 9);
      },
      [&] {
        return one_hot(permute(index, {1, 0}), 9);
      });
  const auto wide = [](const Tensor& i) { return broadcast_to(slice(i, 1, 34, 35), {40, 50}); };  // stride 0: read once
  is_same(
      [&] {
        return scatter_add(ones({40, 50}, {float32, kGpu}), wide(to(index, kGpu)), 0, 9);
      },
      [&] {
        return scatter_add(ones({40, 50}), wide(index), 0, 9);
      });
  const Tensor negative = tensor({0, 1, -1}, int64);
  is_same([&] { return embedding(to(x, kGpu), to(negative, kGpu)); }, [&] { return embedding(x, negative); });
  CHECK(same_bits(one_hot(to(random_index({300}, 17, 102), kGpu), 17), one_hot(random_index({300}, 17, 102), 17)));
}

TEST_CASE("cuda: few and many indices report the first one out of range", "[cuda]") {
  if (!has_cuda_test_device()) return;
  // One block checks up to 4096.
  for (const std::int64_t n : {1, 255, 256, 257, 4096, 4097, 20000}) {
    for (const std::int64_t bad : {std::int64_t{0}, n / 2, n - 1}) {
      std::vector<std::int64_t> values;
      for (std::int64_t i = 0; i < n; ++i)
        values.push_back(i < bad ? i % 9 : i == bad ? -3 : 9);  // later ones are bad, too
      const Tensor index = from_vector(values, {n});
      std::string text = "no error";
      try {
        (void)one_hot(to(index, kGpu), 9);
        synchronize(kGpu);
      } catch (const ValueError& e) {
        text = e.what();
      }
      INFO(n);
      CHECK(text.find("got index -3 at position " + std::to_string(bad) + " (") != std::string::npos);
    }
    const Tensor good = random_index({n}, 9, 103);
    CHECK(same_bits(one_hot(to(good, kGpu), 9), one_hot(good, 9)));
    synchronize(kGpu);
  }
}

}  // namespace
}  // namespace solvent::testing
