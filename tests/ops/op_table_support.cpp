// Host arrays and sample tensors for the table of operations.

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {

Array::Array(Shape s, double fill) : shape(s), values(static_cast<std::size_t>(s.product()), fill) {}

Array::Array(Shape s, std::vector<double> v) : shape(s), values(std::move(v)) {
  if (shape.product() != static_cast<std::int64_t>(values.size()))
    throw std::logic_error("Array: " + to_string(shape) + " does not hold " + std::to_string(values.size()) +
                           " values");
}

Array::Array(const Tensor& t) : shape(t.shape()) {
  dispatch_all(t.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (const T v : t.to_vector<T>()) values.push_back(static_cast<double>(v));
  });
}

namespace {

std::size_t offset_of(const Shape& shape, const Dims& index) {
  std::int64_t offset = 0;
  for (int i = 0; i < shape.rank(); ++i) offset = offset * shape[i] + index[i];
  return static_cast<std::size_t>(offset);
}

}  // namespace

double& Array::at(const Dims& index) { return values.at(offset_of(shape, index)); }
double Array::at(const Dims& index) const { return values.at(offset_of(shape, index)); }

void for_each_index(const Shape& shape, const std::function<void(const Dims&)>& f) {
  const std::int64_t n = shape.product();
  for (std::int64_t i = 0; i < n; ++i) {
    Dims index = Dims::filled(shape.rank(), 0);
    std::int64_t rest = i;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      index[axis] = rest % shape[axis];
      rest /= shape[axis];
    }
    f(index);
  }
}

Array broadcast(const Array& a, const Shape& shape) {
  Array out(shape);
  const int shift = shape.rank() - a.shape.rank();
  for_each_index(shape, [&](const Dims& index) {
    Dims from;
    for (int i = 0; i < a.shape.rank(); ++i) from.push_back(a.shape[i] == 1 ? 0 : index[i + shift]);
    out.at(index) = a.at(from);
  });
  return out;
}

Array map(const Array& a, const std::function<double(double)>& f) {
  Array out(a.shape);
  for (std::int64_t i = 0; i < a.numel(); ++i) out[i] = f(a[i]);
  return out;
}

Array map(const Array& a, const Array& b, const std::function<double(double, double)>& f) {
  const Shape shape = broadcast_shapes("map", a.shape, b.shape);
  const Array x = broadcast(a, shape);
  const Array y = broadcast(b, shape);
  Array out(shape);
  for (std::int64_t i = 0; i < out.numel(); ++i) out[i] = f(x[i], y[i]);
  return out;
}

namespace {

Tensor floating(const std::vector<double>& values, const Shape& shape, DType dtype) {
  if (dtype == float64) return from_vector(values, shape);
  return from_vector(std::vector<float>(values.begin(), values.end()), shape);
}

}  // namespace

Samples normals(std::vector<Shape> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    std::vector<Tensors> lists;
    for (std::size_t i = 0; i < shapes.size(); ++i) lists.push_back({normal_sample(key, i, shapes[i], dtype)});
    return lists;
  };
}

Samples normals_of_several(std::vector<std::vector<Shape>> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    std::vector<Tensors> lists;
    std::uint64_t n = 0;
    for (const auto& list : shapes) {
      lists.emplace_back();
      for (const Shape& shape : list) lists.back().push_back(normal_sample(key, n++, shape, dtype));
    }
    return lists;
  };
}

Tensor normal_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  const Key k = key.fold_in(n);
  std::vector<double> values(static_cast<std::size_t>(shape.product()));
  for (std::size_t i = 0; i < values.size(); i += 2) {  // Box and Muller, independent of the library's normal()
    const double radius = std::sqrt(-2.0 * std::log(1.0 - k.uniform(i)));
    const double angle = 6.283185307179586 * k.uniform(i + 1);
    values[i] = radius * std::cos(angle);
    if (i + 1 < values.size()) values[i + 1] = radius * std::sin(angle);
  }
  return floating(values, shape, dtype);
}

Tensor uniform_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype, double low, double high) {
  const Key k = key.fold_in(n);
  std::vector<double> values(static_cast<std::size_t>(shape.product()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = low + (high - low) * k.uniform(i);
  return floating(values, shape, dtype);
}

Tensor distinct_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  std::vector<std::pair<double, std::size_t>> order;
  const Key k = key.fold_in(n);
  for (std::size_t i = 0; i < static_cast<std::size_t>(shape.product()); ++i) order.emplace_back(k.uniform(i), i);
  std::sort(order.begin(), order.end());
  std::vector<double> values(order.size());
  for (std::size_t rank = 0; rank < order.size(); ++rank)
    values[order[rank].second] = 0.25 * static_cast<double>(rank) - 0.1 * static_cast<double>(order.size());
  return floating(values, shape, dtype);
}

Samples distinct_samples(std::vector<Shape> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    std::vector<Tensors> lists;
    for (std::size_t i = 0; i < shapes.size(); ++i) lists.push_back({distinct_sample(key, i, shapes[i], dtype)});
    return lists;
  };
}

Tensor integer_sample(Key key, std::uint64_t n, const Shape& shape, std::int64_t low, std::int64_t high) {
  const Key k = key.fold_in(n);
  std::vector<std::int64_t> values(static_cast<std::size_t>(shape.product()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = low + static_cast<std::int64_t>(k.uniform(i) * static_cast<double>(high - low));
  return from_vector(values, shape);
}

Tensor boolean_sample(Key key, std::uint64_t n, const Shape& shape) {
  const Key k = key.fold_in(n);
  std::vector<bool> values(static_cast<std::size_t>(shape.product()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = k.uniform(i) < 0.5;
  return from_vector(values, shape);
}

const std::vector<OpCase>& op_table() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> all;
    for (auto& family :
         {elementwise_cases(), activation_cases(), reduce_cases(), loss_cases(), random_cases(), pool_cases(),
          norm_cases(), basis_cases(), shape_cases(), linalg_cases(), more_cases(), factor_cases(), conv_cases()})
      all.insert(all.end(), family.begin(), family.end());
    return all;
  }();
  return table;
}

}  // namespace solvent::testing
