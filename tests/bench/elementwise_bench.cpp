// Memory-bound operations: large elementwise ones, sums and row-wise normalisations, against memcpy of the same run (as
// bandwidth: bytes read and written per second) and libtorch. Our results are fresh tensors; the caching allocator reuses
// their pages. libtorch is measured with fresh results and with its out= form, which reuses one buffer.

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

namespace solvent::bench {
namespace {

constexpr std::int64_t kLarge = std::int64_t{1} << 24;

void add_torch(Row& row, const std::string& name, const Tensor& x, const Tensor& y, std::int64_t rows,
               std::int64_t columns, double target, const std::function<Tensor()>& ours, double tolerance) {
  const float* px = x.data<float>();
  const float* py = y.defined() ? y.data<float>() : nullptr;
  const torch_peer::Call fresh = torch_peer::elementwise(name, px, py, rows, columns, false);
  const torch_peer::Call out = torch_peer::elementwise(name, px, py, rows, columns, true);
  row.peers.push_back({.name = "libtorch", .run = fresh.run, .at_least = target, .max_rounds = 9});
  row.peers.push_back({.name = "libtorch out=", .run = out.run, .max_rounds = 9});
  if (fresh.result) {
    row.error = [ours, result = fresh.result] { return max_difference(ours(), result()); };
    row.tolerance = tolerance;
  }
}

Row elementwise_row(const std::string& name, Tensor (*f)(Tensor), double of_memcpy) {
  const Tensor x = random_normal({kLarge});
  Row row;
  row.run = [x, f] { keep(f(x)); };
  row.bytes = 8.0 * kLarge;
  row.peers = {memcpy_peer(x, of_memcpy)};
  row.note = "fresh output";
  add_torch(
      row, name, x, {}, 1, kLarge, 0, [x, f] { return f(x); }, 1e-4);
  return row;
}

Row add_row_16m() {
  const Tensor x = random_normal({kLarge}), y = random_normal({kLarge}, 2);
  Row row;
  row.run = [x, y] { keep(x + y); };
  row.bytes = 12.0 * kLarge;
  row.peers = {memcpy_peer(x, 0.8, 3.0)};
  row.note = "fresh output";
  add_torch(
      row, "add", x, y, 1, kLarge, 0, [x, y] { return x + y; }, 0);
  return row;
}

Row rows_row(const std::string& name, Tensor (*f)(const Tensor&), std::int64_t rows, std::int64_t columns,
             double of_memcpy, double of_torch) {
  const Tensor x = random_normal({rows, columns});
  Row row;
  row.run = [x, f] { keep(f(x)); };
  row.bytes = 8.0 * static_cast<double>(rows * columns);
  row.peers = {memcpy_peer(x, of_memcpy)};
  row.note = "fresh output";
  add_torch(
      row, name, x, {}, rows, columns, of_torch, [x, f] { return f(x); }, 1e-4);
  return row;
}

Row sum_row() {
  const Tensor x = random_normal({kLarge});
  Row row;
  row.run = [x] { keep(sum(x)); };
  row.bytes = 4.0 * kLarge;
  row.peers = {memcpy_peer(x, 0.8, 1.0), read_peer(x)};
  // Both add 16 M numbers of either sign in blocks; the sum is about 4000 and its rounding in float32 2e-4.
  add_torch(
      row, "sum", x, {}, 1, kLarge, 0, [x] { return sum(x); }, 0.1);
  return row;
}

Tensor softmax_rows(const Tensor& x) { return softmax(x); }
Tensor layer_norm_rows(const Tensor& x) { return layer_norm(x); }

const bool kRegistered[] = {
    add_row("elementwise/add_16M", add_row_16m),
    add_row("elementwise/exp_16M", [] { return elementwise_row("exp", exp, 0.8); }),
    add_row("elementwise/tanh_16M", [] { return elementwise_row("tanh", tanh, 0.8); }),
    add_row("elementwise/sigmoid_16M", [] { return elementwise_row("sigmoid", sigmoid, 0.8); }),
    add_row("elementwise/gelu_16M", [] { return elementwise_row("gelu", gelu, 0.8); }),
    add_row("elementwise/gelu_tanh_16M", [] { return elementwise_row("gelu_tanh", gelu_tanh, 0.8); }),
    add_row("rows/softmax_1000000x10", [] { return rows_row("softmax", softmax_rows, 1000000, 10, 0, 5); }),
    add_row("rows/softmax_16000x1000", [] { return rows_row("softmax", softmax_rows, 16000, 1000, 0, 5); }),
    add_row("rows/softmax_320x50000", [] { return rows_row("softmax", softmax_rows, 320, 50000, 0, 5); }),
    add_row("rows/layer_norm_16384x768", [] { return rows_row("layer_norm", layer_norm_rows, 16384, 768, 0.7, 0); }),
    add_row("rows/sum_16M", sum_row),
};

}  // namespace
}  // namespace solvent::bench
