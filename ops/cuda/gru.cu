// The gated recurrent unit on a GPU. What does not depend on the previous step is done for all steps at once: products with
// the inputs, the gates of known states, and the weights' gradients are matrix products; what is left is sequential and runs
// in the persistent kernels of gru_steps.cu (up to 64 units), or as one product and one elementwise kernel per step (more
// units, or many sequences of a single step).
// Intermediate results are made for at most kBlockBytes of steps at once. Sums over steps and sequences have an order that
// depends on sizes only.

#include "solvent/ops/cuda/gru.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "solvent/core/cuda/blas.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/gru_cell.h"
#include "solvent/ops/rule_util.h"

namespace solvent::cuda {
namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{256} << 20;
const char* const kForward = "gru_sequence";
const char* const kBackward = "gru_sequence_grad";

struct Sizes {
  std::int64_t steps, batch, input, hidden;
  Device device;
};

// Row-major operands: xs, h0, w_ih, w_hh, b, b_hn, and backwards hs, g, gates.
struct Operands {
  Tensor t[9];
  Sizes sizes;

  explicit Operands(std::span<const Tensor> inputs) {
    for (std::size_t i = 0; i < inputs.size(); ++i) t[i] = engine::contiguous(inputs[i]);
    sizes = {t[0].size(0), t[0].size(1), t[0].size(2), t[1].size(1), t[0].device()};
  }
  template <class T>
  [[nodiscard]] const T* ptr(std::size_t i) const {
    return t[i].defined() ? engine::ptr<T>(t[i]) : nullptr;
  }
};

template <class T>
std::int64_t steps_at_once(const Sizes& s, std::int64_t values_per_unit) {
  const std::int64_t bytes = s.batch * s.hidden * values_per_unit * static_cast<std::int64_t>(sizeof(T));
  return std::clamp<std::int64_t>(kBlockBytes / bytes, 1, s.steps);
}

template <class T>
T* allocate(Tensor& t, std::int64_t rows, std::int64_t columns, Device device) {
  t = engine::empty(Shape{rows, columns}, dtype_of<T>, device);
  return engine::mutable_ptr<T>(t);
}

// A block per sequence, unless there are many sequences of one step: then all rows at once.
bool goes_persistent(const Sizes& s) {
  constexpr std::int64_t kManyRows = 1024;
  return s.hidden <= kGruPersistentHidden && (s.steps > 1 || s.batch < kManyRows);
}

// c (m, n) = op(a) op(b) + beta c; nothing to do for empty results, no products of empty sums.
template <class T>
void multiply(Gemm<T> call, Device device) {
  if (call.m == 0 || call.n == 0 || call.k == 0) return;
  call.precision = matmul_precision();
  gemm(call, device);
}

// x (rows, k) w^T, w (m, k)
template <class T>
void times_transposed(const T* x, const T* w, std::int64_t rows, std::int64_t k, std::int64_t m, T* to, Device device) {
  Gemm<T> call;
  call.trans_b = true;
  call.m = rows;
  call.n = m;
  call.k = k;
  call.a = x;
  call.lda = k;
  call.b = w;
  call.ldb = k;
  call.c = to;
  call.ldc = m;
  multiply(call, device);
}

// --- the cell on rows -----------------------------------------------------------------------------------------------------

template <class T>
struct CellCall {
  std::int64_t rows, hidden;
  const T* xw;    // (rows, 3 hidden) or null for zeros
  const T* hw;    // (rows, 3 hidden)
  const T* b;     // (3 hidden), or null if xw has it
  const T* b_hn;  // (hidden)
  const T* h;     // (rows, hidden)
  T* next;        // (rows, hidden) or null
  T* gates;       // (rows, 4, hidden) or null

  __device__ GruUnit<T> unit(std::int64_t row, std::int64_t i) const {
    T of_x[3];
    for (int g = 0; g < 3; ++g) {
      of_x[g] = xw != nullptr ? xw[(row * 3 + g) * hidden + i] : T(0);
      if (b != nullptr) of_x[g] += b[g * hidden + i];
    }
    const T* const of_h = hw + row * 3 * hidden + i;
    return GruUnit<T>(of_x[0] + of_h[0], of_x[1] + of_h[hidden], of_x[2], of_h[2 * hidden] + b_hn[i]);
  }
};

template <class T>
__global__ void cell_kernel(CellCall<T> call) {
  for (std::int64_t e = global_thread(); e < call.rows * call.hidden; e += grid_threads()) {
    const std::int64_t row = e / call.hidden;
    const std::int64_t i = e - row * call.hidden;
    const GruUnit<T> unit = call.unit(row, i);
    if (call.next != nullptr) call.next[e] = unit.next(call.h[e]);
    if (call.gates != nullptr) {
      T* const to = call.gates + row * 4 * call.hidden + i;
      to[0] = unit.r;
      to[call.hidden] = unit.z;
      to[2 * call.hidden] = unit.n;
      to[3 * call.hidden] = unit.q;
    }
  }
}

template <class T>
void launch_cell(const char* name, const CellCall<T>& call, Device device) {
  if (call.rows > 0) launch(over_elements(name, call.rows * call.hidden, device), cell_kernel<T>, call);
}

// --- the Jacobian -----------------------------------------------------------------------------------------------------------

// Blocks of `rows_per_block` rows: slopes into shared memory, then the matrices element by element, so that writes, which
// bound the kernel, are coalesced.
template <class T>
__global__ void jacobian_kernel(CellCall<T> call, const T* w_hh, T* jacobian, bool diagonal,
                                std::int64_t rows_per_block) {
  T* const slopes = dynamic_shared<T>();  // r, z, q, and the gate z, for all units of the block's rows
  const std::int64_t hidden = call.hidden;
  const std::int64_t units = rows_per_block * hidden;
  const T* const w_r = w_hh;
  const T* const w_z = w_hh + hidden * hidden;
  const T* const w_n = w_hh + 2 * hidden * hidden;
  for (std::int64_t first = blockIdx.x * rows_per_block; first < call.rows; first += gridDim.x * rows_per_block) {
    const std::int64_t rows = call.rows - first < rows_per_block ? call.rows - first : rows_per_block;
    __syncthreads();
    for (std::int64_t e = threadIdx.x; e < rows * hidden; e += blockDim.x) {
      const std::int64_t row = first + e / hidden;
      const std::int64_t i = e % hidden;
      const GruUnit<T> unit = call.unit(row, i);
      const T h = call.h[row * hidden + i];
      const GruSlopes<T> s(unit, h);
      call.next[row * hidden + i] = unit.next(h);
      if (diagonal) {
        const std::int64_t at = i * hidden + i;
        jacobian[row * hidden + i] = std::fma(s.q, w_n[at], std::fma(s.z, w_z[at], s.r * w_r[at])) + unit.z;
      } else {
        slopes[e] = s.r;
        slopes[units + e] = s.z;
        slopes[2 * units + e] = s.q;
        slopes[3 * units + e] = unit.z;
      }
    }
    if (diagonal) continue;
    __syncthreads();
    for (std::int64_t e = threadIdx.x; e < rows * hidden * hidden; e += blockDim.x) {
      const std::int64_t unit = e / hidden;  // of the block
      const std::int64_t j = e - unit * hidden;
      const std::int64_t i = unit % hidden;
      const std::int64_t at = i * hidden + j;
      T value =
          std::fma(slopes[2 * units + unit], w_n[at], std::fma(slopes[units + unit], w_z[at], slopes[unit] * w_r[at]));
      if (i == j) value += slopes[3 * units + unit];
      jacobian[first * hidden * hidden + e] = value;
    }
  }
}

template <class T>
void launch_jacobian(const CellCall<T>& call, const T* w_hh, T* jacobian, bool diagonal, Device device) {
  constexpr std::int64_t kUnits = 1024;  // per block
  const std::int64_t rows_per_block = std::max<std::int64_t>(kUnits / call.hidden, 1);
  Launch where = over_blocks("GruCell", (call.rows + rows_per_block - 1) / rows_per_block, device);
  if (!diagonal) where.shared_bytes = static_cast<std::size_t>(4 * rows_per_block * call.hidden) * sizeof(T);
  launch(where, jacobian_kernel<T>, call, w_hh, jacobian, diagonal, rows_per_block);
}

// --- forwards ---------------------------------------------------------------------------------------------------------------

template <class T>
void step_by_products(const GruStates<T>& call, Device device) {
  Tensor products;
  T* const hw = allocate<T>(products, call.batch, 3 * call.hidden, device);
  const std::int64_t row = call.batch * call.hidden;
  for (std::int64_t t = 0; t < call.steps; ++t) {
    const T* const h = t == 0 ? call.before : call.hs + (t - 1) * row;
    times_transposed(h, call.w_hh, call.batch, call.hidden, 3 * call.hidden, hw, device);
    const CellCall<T> cell{.rows = call.batch,
                           .hidden = call.hidden,
                           .xw = call.xw != nullptr ? call.xw + t * 3 * row : nullptr,
                           .hw = hw,
                           .b = call.b,
                           .b_hn = call.b_hn,
                           .h = h,
                           .next = call.hs + t * row,
                           .gates = call.gates != nullptr ? call.gates + t * 4 * row : nullptr};
    launch_cell(kForward, cell, device);
  }
}

template <class T>
void forward(const Operands& in, T* hs, T* gates) {
  const Sizes& s = in.sizes;
  const std::int64_t row = s.batch * s.hidden;
  const std::int64_t block = steps_at_once<T>(s, 3);
  Tensor projected;
  T* const xw = s.input > 0 ? allocate<T>(projected, block * s.batch, 3 * s.hidden, s.device) : nullptr;
  for (std::int64_t first = 0; first < s.steps; first += block) {
    const std::int64_t steps = std::min(block, s.steps - first);
    times_transposed(in.ptr<T>(0) + first * s.batch * s.input, in.ptr<T>(2), steps * s.batch, s.input, 3 * s.hidden, xw,
                     s.device);
    const GruStates<T> call{.steps = steps,
                            .batch = s.batch,
                            .hidden = s.hidden,
                            .xw = xw,
                            .w_hh = in.ptr<T>(3),
                            .b = in.ptr<T>(4),
                            .b_hn = in.ptr<T>(5),
                            .before = first == 0 ? in.ptr<T>(1) : hs + (first - 1) * row,
                            .hs = hs + first * row,
                            .gates = gates != nullptr ? gates + first * 4 * row : nullptr,
                            .active = nullptr,
                            .last = nullptr};
    if (goes_persistent(s)) {
      gru_states(call, s.device);
    } else {
      step_by_products(call, s.device);
    }
  }
}

// --- backwards --------------------------------------------------------------------------------------------------------------

// u (rows, 4 hidden) and carry of one step; `carry` becomes z l, without the products.
template <class T>
__global__ void adjoint_step_kernel(GruAdjoint<T> call, std::int64_t t) {
  const std::int64_t hidden = call.hidden;
  for (std::int64_t e = global_thread(); e < call.batch * hidden; e += grid_threads()) {
    const std::int64_t sequence = e / hidden;
    const std::int64_t i = e - sequence * hidden;
    const std::int64_t row = t * call.batch + sequence;
    const T* const from = call.gates + row * 4 * hidden + i;
    GruUnit<T> unit;
    unit.r = from[0];
    unit.z = from[hidden];
    unit.n = from[2 * hidden];
    unit.q = from[3 * hidden];
    const T h = t > 0 ? call.hs[(row - call.batch) * hidden + i] : call.before[e];
    const GruSlopes<T> slopes(unit, h);
    const T l = call.g[row * hidden + i] + call.carry[e];
    T* const to = call.u + row * 4 * hidden + i;
    to[0] = l * slopes.n;
    to[hidden] = l * slopes.r;
    to[2 * hidden] = l * slopes.z;
    to[3 * hidden] = l * slopes.q;
    call.carry[e] = l * unit.z;
  }
}

template <class T>
void adjoint_by_products(const GruAdjoint<T>& call, Device device) {
  const std::int64_t hidden = call.hidden;
  for (std::int64_t t = call.steps - 1; t >= 0; --t) {
    launch(over_elements(kBackward, call.batch * hidden, device), adjoint_step_kernel<T>, call, t);
    Gemm<T> product;  // carry += (u_r, u_z, u_q) W_hh
    product.m = call.batch;
    product.n = hidden;
    product.k = 3 * hidden;
    product.a = call.u + (t * call.batch * 4 + 1) * hidden;
    product.lda = 4 * hidden;
    product.b = call.w_hh;
    product.ldb = hidden;
    product.beta = T(1);
    product.c = call.carry;
    product.ldc = hidden;
    product.precision = matmul_precision();
    gemm(product, device);
  }
}

// Sums of the columns of u, in float64: over chunks of rows by a thread each, then over the chunks in order by a block. A
// thread's loads follow each other, so chunks are short: long sums of few columns would leave most multiprocessors idle.
constexpr std::int64_t kSumRows = 64;

template <class T>
__global__ void column_sums_kernel(const T* u, std::int64_t rows, std::int64_t columns, std::int64_t chunks,
                                   double* partial) {
  for (std::int64_t e = global_thread(); e < chunks * columns; e += grid_threads()) {
    const std::int64_t chunk = e / columns;
    const std::int64_t column = e - chunk * columns;
    const std::int64_t end = (chunk + 1) * kSumRows < rows ? (chunk + 1) * kSumRows : rows;
    double sum = 0;
    for (std::int64_t row = chunk * kSumRows; row < end; ++row) sum += static_cast<double>(u[row * columns + column]);
    partial[e] = sum;
  }
}

__global__ void add_chunks_kernel(const double* partial, std::int64_t columns, std::int64_t chunks, bool first,
                                  double* total) {
  for (std::int64_t column = blockIdx.x; column < columns; column += gridDim.x) {
    double sum = 0;
    for (std::int64_t chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x)
      sum += partial[chunk * columns + column];
    sum = block_fold(sum, 0.0, Plus{});
    if (threadIdx.x == 0) total[column] = first ? sum : total[column] + sum;
  }
}

// Small gradients of weights over many rows, in the same way: entry (i, j) sums u[row, i] x[row, j]. Products of such shapes
// (long sums, hardly any entries) leave most multiprocessors idle.
constexpr std::int64_t kSumEntries = 64;

template <class T>
__global__ void weight_sums_kernel(const T* u, std::int64_t stride, const T* x, std::int64_t columns, std::int64_t rows,
                                   std::int64_t entries, std::int64_t chunks, double* partial) {
  for (std::int64_t e = global_thread(); e < chunks * entries; e += grid_threads()) {
    const std::int64_t chunk = e / entries;
    const std::int64_t i = (e - chunk * entries) / columns;
    const std::int64_t j = e % columns;  // entries are a multiple of columns
    const std::int64_t end = (chunk + 1) * kSumRows < rows ? (chunk + 1) * kSumRows : rows;
    double sum = 0;
    for (std::int64_t row = chunk * kSumRows; row < end; ++row)
      sum = std::fma(static_cast<double>(u[row * stride + i]), static_cast<double>(x[row * columns + j]), sum);
    partial[e] = sum;
  }
}

template <class T>
__global__ void weight_totals_kernel(const double* partial, std::int64_t entries, std::int64_t chunks, T beta, T* to) {
  for (std::int64_t entry = blockIdx.x; entry < entries; entry += gridDim.x) {
    double sum = 0;
    for (std::int64_t chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) sum += partial[chunk * entries + entry];
    sum = block_fold(sum, 0.0, Plus{});
    if (threadIdx.x == 0) to[entry] = beta == T(0) ? static_cast<T>(sum) : static_cast<T>(sum + to[entry]);
  }
}

// u's columns are n, r, z, q; the bias of the inputs has the order r, z, n, that of the states q.
template <class T>
__global__ void biases_kernel(const double* total, std::int64_t hidden, T* d_b, T* d_b_hn) {
  for (std::int64_t i = global_thread(); i < hidden; i += grid_threads()) {
    if (d_b != nullptr) {
      d_b[i] = static_cast<T>(total[hidden + i]);
      d_b[hidden + i] = static_cast<T>(total[2 * hidden + i]);
      d_b[2 * hidden + i] = static_cast<T>(total[i]);
    }
    if (d_b_hn != nullptr) d_b_hn[i] = static_cast<T>(total[3 * hidden + i]);
  }
}

template <class T>
struct Gradients {
  T* of[6];  // xs, h0, w_ih, w_hh, b, b_hn; null if not wanted
};

// One call of `backward`: buffers and the loop over blocks of steps.
template <class T>
class Backward {
 public:
  Backward(const Operands& in, const Gradients<T>& out)
      : in_(in), s_(in.sizes), out_(out), block_(steps_at_once<T>(s_, 8)) {
    u_ = allocate<T>(memory_[0], block_ * s_.batch, 4 * s_.hidden, s_.device);
    carry_ = allocate<T>(memory_[1], s_.batch, s_.hidden, s_.device);
    if (in.ptr<T>(8) == nullptr) {
      gates_ = allocate<T>(memory_[2], block_ * s_.batch, 4 * s_.hidden, s_.device);
      xw_ = allocate<T>(memory_[3], block_ * s_.batch, 3 * s_.hidden, s_.device);
      hw_ = allocate<T>(memory_[4], block_ * s_.batch, 3 * s_.hidden, s_.device);
    }
    chunks_ = (block_ * s_.batch + kSumRows - 1) / kSumRows;
    partial_ = allocate<double>(memory_[5], chunks_ + 1, 4 * s_.hidden, s_.device);
    total_ = partial_ + chunks_ * 4 * s_.hidden;
  }

  void run() {
    set_bytes(carry_, 0, static_cast<std::size_t>(s_.batch * s_.hidden) * sizeof(T), s_.device);
    for (std::int64_t end = s_.steps; end > 0; end = std::max<std::int64_t>(end - block_, 0)) {
      const std::int64_t first = std::max<std::int64_t>(end - block_, 0);
      const std::int64_t steps = end - first;
      adjoint(first, steps);
      const T beta = end == s_.steps ? T(0) : T(1);
      if (out_.of[0] != nullptr) inputs(first, steps);
      if (out_.of[2] != nullptr) input_weights(first, steps, beta);
      if (out_.of[3] != nullptr) state_weights(first, steps, beta);
      if (out_.of[4] != nullptr || out_.of[5] != nullptr) biases(steps, end == s_.steps);
    }
    if (out_.of[1] != nullptr)
      copy_on_device(out_.of[1], carry_, static_cast<std::size_t>(s_.batch * s_.hidden) * sizeof(T), s_.device);
    if (out_.of[4] != nullptr || out_.of[5] != nullptr)
      launch(over_elements(kBackward, s_.hidden, s_.device), biases_kernel<T>, total_, s_.hidden, out_.of[4],
             out_.of[5]);
  }

 private:
  [[nodiscard]] const T* before(std::int64_t first) const {
    return first == 0 ? in_.template ptr<T>(1) : in_.template ptr<T>(6) + (first - 1) * s_.batch * s_.hidden;
  }

  // u and carry of a block of steps.
  void adjoint(std::int64_t first, std::int64_t steps) {
    const std::int64_t row = s_.batch * s_.hidden;
    const T* gates = in_.template ptr<T>(8);
    if (gates != nullptr) {
      gates += first * 4 * row;
    } else {
      recompute_gates(first, steps);
      gates = gates_;
    }
    const GruAdjoint<T> call{.steps = steps,
                             .batch = s_.batch,
                             .hidden = s_.hidden,
                             .w_hh = in_.template ptr<T>(3),
                             .gates = gates,
                             .before = before(first),
                             .hs = in_.template ptr<T>(6) + first * row,
                             .g = in_.template ptr<T>(7) + first * row,
                             .carry = carry_,
                             .u = u_};
    if (goes_persistent(s_)) {
      gru_adjoint(call, s_.device);
    } else {
      adjoint_by_products(call, s_.device);
    }
  }

  // From the states, all steps at once.
  void recompute_gates(std::int64_t first, std::int64_t steps) {
    const std::int64_t rows = steps * s_.batch;
    times_transposed(in_.template ptr<T>(0) + first * s_.batch * s_.input, in_.template ptr<T>(2), rows, s_.input,
                     3 * s_.hidden, xw_, s_.device);
    const T* const w_hh = in_.template ptr<T>(3);
    times_transposed(before(first), w_hh, s_.batch, s_.hidden, 3 * s_.hidden, hw_, s_.device);
    times_transposed(in_.template ptr<T>(6) + first * s_.batch * s_.hidden, w_hh, rows - s_.batch, s_.hidden,
                     3 * s_.hidden, hw_ + s_.batch * 3 * s_.hidden, s_.device);
    launch_cell(kBackward,
                CellCall<T>{.rows = rows,
                            .hidden = s_.hidden,
                            .xw = s_.input > 0 ? xw_ : nullptr,
                            .hw = hw_,
                            .b = in_.template ptr<T>(4),
                            .b_hn = in_.template ptr<T>(5),
                            .h = nullptr,
                            .next = nullptr,
                            .gates = gates_},
                s_.device);
  }

  // c (units of `columns` of u, n) (+)= u[:, columns]^T x, x (rows, n).
  void weights(std::int64_t column, std::int64_t count, const T* u, const T* x, std::int64_t rows, std::int64_t n, T* c,
               T beta) const {
    if (count * n > 0 && count * n <= kSumEntries && rows >= 16 * kSumRows) {
      const std::int64_t chunks = (rows + kSumRows - 1) / kSumRows;
      Tensor memory;
      double* const partial = allocate<double>(memory, chunks, count * n, s_.device);
      launch(over_elements(kBackward, chunks * count * n, s_.device), weight_sums_kernel<T>, u + column, 4 * s_.hidden,
             x, n, rows, count * n, chunks, partial);
      launch(over_blocks(kBackward, count * n, s_.device), weight_totals_kernel<T>, partial, count * n, chunks, beta,
             c);
      return;
    }
    Gemm<T> call;
    call.trans_a = true;
    call.m = count;
    call.n = n;
    call.k = rows;
    call.a = u + column;
    call.lda = 4 * s_.hidden;
    call.b = x;
    call.ldb = n;
    call.beta = beta;
    call.c = c;
    call.ldc = n;
    multiply(call, s_.device);
  }

  void input_weights(std::int64_t first, std::int64_t steps, T beta) const {
    const std::int64_t h = s_.hidden;
    const T* const xs = in_.template ptr<T>(0) + first * s_.batch * s_.input;
    weights(h, 2 * h, u_, xs, steps * s_.batch, s_.input, out_.of[2], beta);
    weights(0, h, u_, xs, steps * s_.batch, s_.input, out_.of[2] + 2 * h * s_.input, beta);
  }

  void state_weights(std::int64_t first, std::int64_t steps, T beta) const {
    const std::int64_t h = s_.hidden;
    const T* const later = in_.template ptr<T>(6) + first * s_.batch * h;
    weights(h, 3 * h, u_, before(first), s_.batch, h, out_.of[3], beta);
    weights(h, 3 * h, u_ + s_.batch * 4 * h, later, (steps - 1) * s_.batch, h, out_.of[3], T(1));
  }

  void inputs(std::int64_t first, std::int64_t steps) const {
    const std::int64_t h = s_.hidden;
    Gemm<T> call;
    call.m = steps * s_.batch;
    call.n = s_.input;
    call.k = 2 * h;
    call.a = u_ + h;
    call.lda = 4 * h;
    call.b = in_.template ptr<T>(2);
    call.ldb = s_.input;
    call.c = out_.of[0] + first * s_.batch * s_.input;
    call.ldc = s_.input;
    multiply(call, s_.device);
    call.k = h;
    call.a = u_;
    call.b += 2 * h * s_.input;
    call.beta = T(1);
    multiply(call, s_.device);
  }

  void biases(std::int64_t steps, bool first) const {
    const std::int64_t rows = steps * s_.batch;
    const std::int64_t columns = 4 * s_.hidden;
    const std::int64_t chunks = (rows + kSumRows - 1) / kSumRows;
    launch(over_elements(kBackward, chunks * columns, s_.device), column_sums_kernel<T>, u_, rows, columns, chunks,
           partial_);
    launch(over_blocks(kBackward, columns, s_.device), add_chunks_kernel, partial_, columns, chunks, first, total_);
  }

  const Operands& in_;
  Sizes s_;
  Gradients<T> out_;
  std::int64_t block_, chunks_ = 0;
  Tensor memory_[6];
  T* u_ = nullptr;
  T* carry_ = nullptr;
  T* gates_ = nullptr;
  T* xw_ = nullptr;
  T* hw_ = nullptr;
  double* partial_ = nullptr;
  double* total_ = nullptr;
};

}  // namespace

TensorVec gru_forward_pass(std::span<const Tensor> inputs, bool keep_gates) {
  const Operands in(inputs);
  const Sizes& s = in.sizes;
  const DType dtype = inputs[0].dtype();
  Tensor hs = engine::empty({s.steps, s.batch, s.hidden}, dtype, s.device);
  Tensor gates;
  if (keep_gates) gates = engine::empty({s.steps, s.batch, 4, s.hidden}, dtype, s.device);
  dispatch_float(dtype, kForward, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (s.batch > 0) forward<T>(in, engine::mutable_ptr<T>(hs), keep_gates ? engine::mutable_ptr<T>(gates) : nullptr);
  });
  if (!keep_gates) return hs;
  return {std::move(hs), std::move(gates)};
}

TensorVec gru_gradients(std::span<const Tensor> inputs, const std::array<bool, 6>& wanted) {
  const Operands in(inputs);
  TensorVec grads(6);
  for (std::size_t i = 0; i < 6; ++i) {
    const Tensor& like = inputs[i];
    grads[static_cast<int>(i)] = wanted[i] && in.sizes.batch > 0
                                     ? engine::empty(like.shape(), like.dtype(), like.device())
                                     : solvent::detail::zeros_view(like.shape(), like.dtype(), like.device());
  }
  if (in.sizes.batch == 0) return grads;
  dispatch_float(inputs[0].dtype(), kBackward, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Gradients<T> out{};
    for (std::size_t i = 0; i < 6; ++i)
      if (wanted[i] && inputs[i].numel() > 0) out.of[i] = engine::mutable_ptr<T>(grads[static_cast<int>(i)]);
    Backward<T>(in, out).run();
  });
  return grads;
}

Tensor gru_cell(const Tensor& h, const Tensor& xw, const Tensor& w_hh, const Tensor& b_hn, Tensor* jacobian) {
  const std::int64_t rows = h.size(0);
  const std::int64_t hidden = h.size(1);
  Tensor next = engine::empty(h.shape(), h.dtype(), h.device());
  if (rows == 0) return next;
  const Tensor dense_h = engine::contiguous(h), dense_xw = engine::contiguous(xw);
  const Tensor weights = engine::contiguous(w_hh), bias = engine::contiguous(b_hn);
  dispatch_float(h.dtype(), "GruCell", [&](auto tag) {
    using T = typename decltype(tag)::type;
    Tensor products;
    T* const hw = allocate<T>(products, rows, 3 * hidden, h.device());
    const T* const w = engine::ptr<T>(weights);
    times_transposed(engine::ptr<T>(dense_h), w, rows, hidden, 3 * hidden, hw, h.device());
    const CellCall<T> call{.rows = rows,
                           .hidden = hidden,
                           .xw = engine::ptr<T>(dense_xw),
                           .hw = hw,
                           .b = nullptr,
                           .b_hn = engine::ptr<T>(bias),
                           .h = engine::ptr<T>(dense_h),
                           .next = engine::mutable_ptr<T>(next),
                           .gates = nullptr};
    if (jacobian == nullptr) return launch_cell("GruCell", call, h.device());
    launch_jacobian(call, w, engine::mutable_ptr<T>(*jacobian), jacobian->rank() == 2, h.device());
  });
  return next;
}

}  // namespace solvent::cuda
