#include "solvent/core/engine/strided_copy.h"

#include <cstring>
#include <numeric>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;

namespace {

// Element by element, by definition.
template <class T>
std::vector<T> gather(const T* src, const Shape& shape, const Strides& strides) {
  std::vector<T> out;
  const std::int64_t n = shape.product();
  for (std::int64_t index = 0; index < n; ++index) {
    std::int64_t rest = index;
    std::int64_t offset = 0;
    for (int i = shape.rank() - 1; i >= 0; --i) {
      offset += rest % shape[i] * strides[i];
      rest /= shape[i];
    }
    out.push_back(src[offset]);
  }
  return out;
}

template <class T>
void check_permuted(const Shape& base, const std::vector<int>& order) {
  std::vector<T> values(static_cast<std::size_t>(base.product()));
  std::iota(values.begin(), values.end(), T{1});
  const Strides base_strides = contiguous_strides(base);
  Shape shape;
  Strides strides;
  for (const int axis : order) {
    shape.push_back(base[axis]);
    strides.push_back(base_strides[axis]);
  }
  std::vector<T> out(values.size(), T{0});
  engine::strided_copy(shape, sizeof(T), reinterpret_cast<const std::byte*>(values.data()), strides,
                       reinterpret_cast<std::byte*>(out.data()), contiguous_strides(shape));
  INFO("base " << to_string(base) << ", result " << to_string(shape));
  CHECK((out == gather(values.data(), shape, strides)));
}

}  // namespace

TEST_CASE("strided_copy: random permutations of random shapes, all element sizes") {
  Chooser choose(1);
  for (int trial = 0; trial < 300; ++trial) {
    const int rank = static_cast<int>(choose.integer(1, 5));
    Shape base;
    for (int i = 0; i < rank; ++i) base.push_back(choose.integer(1, i == 0 ? 40 : 9));
    std::vector<int> order(static_cast<std::size_t>(rank));
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = order.size(); i-- > 1;)
      std::swap(order[i], order[static_cast<std::size_t>(choose.integer(0, static_cast<std::int64_t>(i)))]);
    check_permuted<std::uint32_t>(base, order);
    check_permuted<std::uint64_t>(base, order);
    check_permuted<std::uint16_t>(base, order);
    check_permuted<std::uint8_t>(base, order);
  }
}

TEST_CASE("strided_copy: large transposes, square, narrow and with odd remainders") {
  for (const auto& [rows, columns] :
       {std::pair{1024, 1024}, {777, 1029}, {3, 100003}, {100003, 3}, {16, 70000}, {70001, 17}})
    check_permuted<std::uint32_t>({rows, columns}, {1, 0});
  check_permuted<std::uint64_t>({300, 5, 129}, {2, 0, 1});
  check_permuted<std::uint16_t>({513, 259}, {1, 0});
  check_permuted<std::uint16_t>({4100, 4099}, {1, 0});
  check_permuted<std::uint8_t>({513, 259}, {1, 0});
  check_permuted<std::uint32_t>({3072, 3072}, {1, 0});  // past the cache: non-temporal stores
}

TEST_CASE("strided_copy: the bits do not depend on the number of threads") {
  const Tensor x = arange(0, 3 * 400 * 500, 1, float32);
  const Tensor transposed = engine::view(x, {3, 500, 400}, {200000, 1, 500}, 0);
  std::vector<float> reference;
  for (const int threads : {1, 2, 3, 7}) {
    const NumThreadsGuard guard(threads);
    const std::vector<float> values = engine::contiguous(transposed).to_vector<float>();
    if (reference.empty()) reference = values;
    CHECK((values == reference));
  }
}

TEST_CASE("strided_copy: repeated, reversed and strided sources") {
  const Tensor x = arange(0, 60, 1, float64);
  const auto check = [&](const Shape& shape, const Strides& strides, std::int64_t offset) {
    INFO(to_string(shape) << to_string(strides));
    CHECK((engine::contiguous(engine::view(x, shape, strides, offset)).to_vector<double>() ==
           gather(engine::ptr<double>(x) + offset, shape, strides)));
  };
  check({7, 5}, {0, 1}, 3);
  check({7, 5}, {1, 0}, 3);
  check({4, 3, 5}, {0, 0, 0}, 9);
  check({6, 5}, {-10, 2}, 50);
  check({5, 6}, {2, -10}, 50);
  check({3, 1, 4}, {20, 99, 3}, 1);
  check({2, 0, 4}, {20, 1, 3}, 1);
  check({}, {}, 17);
}

TEST_CASE("strided_copy: writing into a strided destination touches nothing else") {
  Chooser choose(2);
  for (int trial = 0; trial < 100; ++trial) {
    const std::int64_t rows = choose.integer(1, 40);
    const std::int64_t columns = choose.integer(1, 40);
    Tensor dst = full({rows + 3, columns + 2}, -1.0);
    const Tensor src = arange(0, static_cast<double>(rows * columns), 1, float32);
    const bool transpose = choose.integer(0, 1) == 1;
    Tensor window = engine::view(dst, {rows, columns}, {columns + 2, 1}, columns + 2 + 1);
    const Tensor from = engine::view(src, {rows, columns}, transpose ? Strides{1, rows} : Strides{columns, 1}, 0);
    engine::copy_into(from, window);
    CHECK((window.to_vector<float>() == from.to_vector<float>()));
    double sum = 0;
    for (const float v : dst.to_vector<float>()) sum += v;
    const auto n = static_cast<double>(rows * columns);
    CHECK(sum == n * (n - 1) / 2 - (static_cast<double>((rows + 3) * (columns + 2)) - n));
  }
}

TEST_CASE("contiguous: returns the tensor itself when there is nothing to do") {
  const Tensor x = ones({3, 4});
  CHECK(engine::ptr<float>(engine::contiguous(x)) == engine::ptr<float>(x));
}
