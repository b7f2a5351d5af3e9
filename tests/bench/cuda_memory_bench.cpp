// Operations that memory bounds, on 1 GiB of float32, against a copy on the device in the same run: elementwise functions,
// sums, softmax and layer_norm. A row of 1.00 moves bytes as fast as the copy does.

#include <string>

#include "solvent/core/cuda/runtime.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/cuda_compare.h"

namespace solvent::bench {
namespace {

using Function = Tensor (*)(const Tensor&);

const std::int64_t kElements = by_size<std::int64_t>(1 << 28, 1 << 26, 1 << 12);
const std::int64_t kWidth = by_size<std::int64_t>(4096, 4096, 64);
const std::string kSuffix = "_" + std::to_string(kElements);

double bytes(double per_element) { return per_element * static_cast<double>(kElements); }

// Largest difference to the same function of the same values on the CPU, over their size for sums.
double error_of(Function f, const Tensor& x, double scale) {
  return largest_difference(to(f(x), cpu_device), f(to(x, cpu_device))) / scale;
}

Row row_of(Function f, const Shape& shape, double bytes_per_element, double of_copy, double error_scale) {
  const Tensor x = device_values(shape);
  Row row;
  row.run = [f, x] { keep(f(x)); };
  row.bytes = bytes(bytes_per_element);
  row.peers = {device_copy_peer(x, of_copy, bytes_per_element / 4)};
  row.error = [f, x, error_scale] { return error_of(f, x, error_scale); };
  row.tolerance = 1e-6;
  return row;
}

bool add_elementwise(const std::string& name, Function f) {
  return add_cuda_row("memory/" + name + kSuffix, [f] { return row_of(f, {kElements}, 8, 0.90, 1); });
}

// Rows of kWidth elements.
bool add_rows(const std::string& name, Function f, double bytes_per_element, double error_scale) {
  return add_cuda_row("memory/" + name + kSuffix + "_by_" + std::to_string(kWidth), [=] {
    return row_of(f, {kElements / kWidth, kWidth}, bytes_per_element, 0.85, error_scale);
  });
}

Row copy_row() {
  const Tensor x = device_values({kElements}), y = full({kElements}, 0.0, {float32, bench_gpu()});
  Row row;
  row.run = [x, y] {
    cuda::copy_on_device(y.impl()->storage->data, x.impl()->storage->data, static_cast<std::size_t>(kElements) * 4,
                         bench_gpu());
  };
  row.bytes = bytes(8);
  row.error = [x, y, run = row.run] {
    run();
    return largest_difference(x, y);
  };
  row.note = "cudaMemcpyAsync";
  return row;
}

Row add_two_row() {
  const Tensor x = device_values({kElements}), y = device_values({kElements}, 2);
  Row row;
  row.run = [x, y] { keep(x + y); };
  row.bytes = bytes(12);
  row.peers = {device_copy_peer(x, 0.90, 3)};
  row.error = [x, y] { return largest_difference(to(x + y, cpu_device), to(x, cpu_device) + to(y, cpu_device)); };
  return row;
}

const bool kRegistered[] = {
    add_cuda_row("memory/copy" + kSuffix, copy_row),
    add_cuda_row("memory/add" + kSuffix, add_two_row),
    add_elementwise("exp", [](const Tensor& x) { return exp(x); }),
    add_elementwise("tanh", [](const Tensor& x) { return tanh(x); }),
    add_elementwise("gelu", [](const Tensor& x) { return gelu(x); }),
    add_cuda_row("memory/sum" + kSuffix,
                 [] {
                   return row_of([](const Tensor& x) { return sum(x); }, {kElements}, 4, 0.85,
                                 static_cast<double>(kElements) / 1e3);
                 }),
    add_rows(
        "row_sums", [](const Tensor& x) { return sum(x, {-1}); }, 4, 64),
    add_rows(
        "column_sums", [](const Tensor& x) { return sum(x, {0}); }, 4, 256),
    add_rows(
        "softmax", [](const Tensor& x) { return softmax(x); }, 8, 1),
    add_rows(
        "layer_norm", [](const Tensor& x) { return layer_norm(x); }, 8, 4),
};

}  // namespace
}  // namespace solvent::bench
