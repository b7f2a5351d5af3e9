// Products of matrices on GPUs.
//
// Large products are cuBLAS's (core/cuda/blas.h); operands are read where they lie, transposed or not, and leading axes of
// stride 0 stay so. Batches that no single stride describes are given to it as arrays of pointers, which a kernel fills.
// Products with all extents at most 32 are done here, since cuBLAS is slow on batches of small ones: a block takes as many
// products as fill it, brings their operands to shared memory in the order of memory, and each thread computes a tile of
// 1, 2 x 2 or 4 x 4 results in registers. Bound by memory: each operand is read once and each result written once.
// A matrix times a vector, or a vector times a matrix, is not a product cuBLAS is fast at either: rows that are dense in
// memory take a warp each, dense columns a thread each with their length cut into 16 parts. Bound by memory: the matrix is
// read once, 16 bytes (rows) or 4 to 8 (columns) per thread and turn.
// outer writes packs of 16 bytes, each result once; bound by those writes.
// Deterministic: every result is one sum in the order of k. bfloat16 is multiplied and added in float32, on all paths, and
// each result rounded once.

#include <algorithm>
#include <cstdint>

#include "solvent/core/cuda/blas.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/iterate.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/linalg.h"
#include "solvent/ops/matrix_layout.h"

namespace solvent::cuda {
namespace {

using detail::layout_of;
using Layout = detail::MatrixLayout;

// The type of sums.
template <class T>
using SumOf = typename Gemm<T>::Scalar;

// --- small products -----------------------------------------------------------------------------------------------------

constexpr std::int64_t kSmall = 32;
constexpr std::size_t kSmallShared = std::size_t{40} << 10;  // the default limit, with some blocks side by side

template <class T>
struct SmallCall {
  const T* a;
  const T* b;
  T* c;
  StridedIndex<2> lead;  // offsets of a and b
  std::int64_t batch;
  int m, n, k;
  int lda, ldb;  // of the matrices in memory
  bool trans_a, trans_b;
  int group;             // products at once in a block
  int tiles_m, tiles_n;  // of threads for each product
};

// (rows, cols) matrices of products [first, first + count) to shared memory, row-major with odd leading dimension `to_ld`,
// which keeps both directions free of bank conflicts; consecutive threads read consecutive elements.
template <class T, int kOperand>
__device__ void stage(const SmallCall<T>& call, std::int64_t first, int count, const T* x, int rows, int cols, int ld,
                      bool transposed, int to_ld, SumOf<T>* to) {
  const int size = rows * cols;
  const int runs = transposed ? rows : cols;  // length of what is dense in memory
  for (int e = static_cast<int>(threadIdx.x); e < count * size; e += static_cast<int>(blockDim.x)) {
    const int product = e / size;
    const int line = (e - product * size) / runs;
    const int at = e - product * size - line * runs;
    std::int64_t offset[2];
    call.lead.locate(first + product, offset);
    const SumOf<T> value = x[offset[kOperand] + static_cast<std::int64_t>(line) * ld + at];
    const int row = transposed ? at : line;
    const int col = transposed ? line : at;
    to[(product * rows + row) * to_ld + col] = value;
  }
}

// Rows ti, ti + tiles_m, ... and columns tj, tj + tiles_n, ... of one product.
template <class T, int kTile>
__device__ void small_tile(const SmallCall<T>& call, const SumOf<T>* a, int lda, const SumOf<T>* b, int ldb, int ti,
                           int tj, T* c) {
  SumOf<T> sum[kTile][kTile] = {};
  int row[kTile];
  int col[kTile];
  for (int r = 0; r < kTile; ++r) {  // beyond the edge the last one again, which is not stored
    row[r] = std::min(ti + r * call.tiles_m, call.m - 1) * lda;
    col[r] = std::min(tj + r * call.tiles_n, call.n - 1);
  }
  for (int p = 0; p < call.k; ++p) {
    SumOf<T> left[kTile];
    SumOf<T> right[kTile];
    for (int r = 0; r < kTile; ++r) {
      left[r] = a[row[r] + p];
      right[r] = b[p * ldb + col[r]];
    }
    for (int r = 0; r < kTile; ++r)
      for (int s = 0; s < kTile; ++s) sum[r][s] += left[r] * right[s];
  }
  for (int r = 0; r < kTile; ++r)
    for (int s = 0; s < kTile; ++s)
      if (ti + r * call.tiles_m < call.m && tj + s * call.tiles_n < call.n)
        c[static_cast<std::int64_t>(ti + r * call.tiles_m) * call.n + tj + s * call.tiles_n] =
            static_cast<T>(sum[r][s]);
}

template <class T, int kTile>
__global__ void small_kernel(SmallCall<T> call) {
  const int lda = call.k | 1;
  const int ldb = call.n | 1;
  SumOf<T>* const a = dynamic_shared<SumOf<T>>();
  SumOf<T>* const b = a + static_cast<std::int64_t>(call.group) * call.m * lda;
  const int tiles = call.tiles_m * call.tiles_n;
  const int product = static_cast<int>(threadIdx.x) / tiles;
  const int tile = static_cast<int>(threadIdx.x) - product * tiles;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * call.group; first < call.batch;
       first += static_cast<std::int64_t>(gridDim.x) * call.group) {
    const int count = static_cast<int>(std::min(static_cast<std::int64_t>(call.group), call.batch - first));
    __syncthreads();  // the operands before may still be read
    stage<T, 0>(call, first, count, call.a, call.m, call.k, call.lda, call.trans_a, lda, a);
    stage<T, 1>(call, first, count, call.b, call.k, call.n, call.ldb, call.trans_b, ldb, b);
    __syncthreads();
    if (product < count)
      small_tile<T, kTile>(call, a + product * call.m * lda, lda, b + product * call.k * ldb, ldb, tile / call.tiles_n,
                           tile % call.tiles_n, call.c + (first + product) * call.m * call.n);
  }
}

template <class T>
void small_products(const Tensor& a, const Layout& la, const Tensor& b, const Layout& lb, Tensor& c) {
  const int lead = c.rank() - 2;
  SmallCall<T> call{};
  call.a = engine::ptr<T>(a);
  call.b = engine::ptr<T>(b);
  call.c = engine::mutable_ptr<T>(c);
  const Shape lead_shape = detail::leading_axes(c.shape());
  const Strides lead_a = detail::leading_axes(a.strides());
  const Strides lead_b = detail::leading_axes(b.strides());
  const Strides* const strides[] = {&lead_a, &lead_b};
  call.lead = StridedIndex<2>(lead_shape, strides);
  call.batch = lead_shape.product();
  call.m = static_cast<int>(c.shape()[lead]);
  call.n = static_cast<int>(c.shape()[lead + 1]);
  call.k = static_cast<int>(a.shape()[lead + 1]);
  call.lda = static_cast<int>(la.ld);
  call.ldb = static_cast<int>(lb.ld);
  call.trans_a = la.transposed;
  call.trans_b = lb.transposed;
  const int results = call.m * call.n;
  const int tile = results <= 64 ? 1 : results <= 256 ? 2 : 4;
  call.tiles_m = (call.m + tile - 1) / tile;
  call.tiles_n = (call.n + tile - 1) / tile;
  const int tiles = call.tiles_m * call.tiles_n;
  const auto each = static_cast<std::size_t>(call.m * (call.k | 1) + call.k * (call.n | 1)) * sizeof(SumOf<T>);
  const auto fit = static_cast<std::int64_t>(std::max<std::size_t>(kSmallShared / each, 1));
  call.group = static_cast<int>(std::min({std::int64_t{kThreads} / tiles, fit, call.batch}));
  Launch where = over_blocks("matmul", (call.batch + call.group - 1) / call.group, c.device());
  where.block = dim3(static_cast<unsigned>((call.group * tiles + 31) / 32 * 32));
  where.shared_bytes = static_cast<std::size_t>(call.group) * each;
  if (tile == 1) {
    launch(where, small_kernel<T, 1>, call);
  } else if (tile == 2) {
    launch(where, small_kernel<T, 2>, call);
  } else {
    launch(where, small_kernel<T, 4>, call);
  }
}

// --- matrices times vectors -----------------------------------------------------------------------------------------------

template <class T>
struct VectorCall {
  const T* a;            // matrices
  const T* x;            // vectors
  T* y;                  // (batch, m), dense
  StridedIndex<2> lead;  // offsets of a and x
  std::int64_t batch, m, k;
  std::int64_t ld;  // between the rows of a, or between its columns
  std::int64_t x_stride;
  bool packed;  // rows may be read in packs
};

// Dense rows: a warp each.
template <class T>
__global__ void dense_rows_kernel(VectorCall<T> call) {
  constexpr int kPack = kPackSize<T>;
  const std::int64_t lane = threadIdx.x % 32;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t item = blockIdx.x * warps + threadIdx.x / 32; item < call.batch * call.m;
       item += gridDim.x * warps) {
    const std::int64_t matrix = item / call.m;
    std::int64_t offset[2];
    call.lead.locate(matrix, offset);
    const T* const row = call.a + offset[0] + (item - matrix * call.m) * call.ld;
    const T* const x = call.x + offset[1];
    auto sum = SumOf<T>(0);
    const std::int64_t packs = call.packed ? call.k / kPack : 0;
    for (std::int64_t p = lane; p < packs; p += 32) {
      const Pack<T, kPack> part = reinterpret_cast<const Pack<T, kPack>*>(row)[p];
      for (int j = 0; j < kPack; ++j) sum += part.value[j] * x[(p * kPack + j) * call.x_stride];
    }
    for (std::int64_t i = packs * kPack + lane; i < call.k; i += 32) sum += row[i] * x[i * call.x_stride];
    sum = warp_fold(sum, Plus{});
    if (lane == 0) call.y[item] = static_cast<T>(sum);
  }
}

constexpr int kParts = 16;

// Dense columns: 32 of them by a block, each in kParts parts.
template <class T>
__global__ void dense_columns_kernel(VectorCall<T> call) {
  __shared__ SumOf<T> sums[kParts][32];
  const std::int64_t tiles = (call.m + 31) / 32;
  for (std::int64_t item = blockIdx.x; item < call.batch * tiles; item += gridDim.x) {
    const std::int64_t matrix = item / tiles;
    const std::int64_t i = (item - matrix * tiles) * 32 + threadIdx.x;
    std::int64_t offset[2];
    call.lead.locate(matrix, offset);
    const T* const a = call.a + offset[0] + i;
    const T* const x = call.x + offset[1];
    auto sum = SumOf<T>(0);
    for (std::int64_t k = threadIdx.y; k < call.k && i < call.m; k += kParts)
      sum += a[k * call.ld] * x[k * call.x_stride];
    __syncthreads();  // the sums may still be read
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || i >= call.m) continue;
    for (int part = 1; part < kParts; ++part) sum += sums[part][threadIdx.x];
    call.y[matrix * call.m + i] = static_cast<T>(sum);
  }
}

// True if no matrix of the batch stands for several: those are read once by a product with all their vectors.
bool is_distinct(const Tensor& t) {
  for (int axis = 0; axis < t.rank() - 2; ++axis)
    if (t.shape()[axis] > 1 && t.strides()[axis] == 0) return false;
  return true;
}

// y = op(A) x for matrices A (batch, ...) with layout `la`, or with `right` x op(A), which is op(A)^T x.
template <class T>
void times_vector(const Tensor& a, const Layout& la, const Tensor& x, const Layout& lx, bool right, Tensor& y) {
  const int lead = y.rank() - 2;
  VectorCall<T> call{};
  call.a = engine::ptr<T>(a);
  call.x = engine::ptr<T>(x);
  call.y = engine::mutable_ptr<T>(y);
  const Shape lead_shape = detail::leading_axes(y.shape());
  const Strides lead_a = detail::leading_axes(a.strides());
  const Strides lead_x = detail::leading_axes(x.strides());
  const Strides* const strides[] = {&lead_a, &lead_x};
  call.lead = StridedIndex<2>(lead_shape, strides);
  call.batch = lead_shape.product();
  call.m = right ? a.shape()[lead + 1] : a.shape()[lead];
  call.k = right ? a.shape()[lead] : a.shape()[lead + 1];
  call.ld = la.ld;
  // A column (k, 1) has its elements ld apart unless it is read as a transposed row; a row (1, k) the other way round.
  call.x_stride = lx.transposed != right ? 1 : lx.ld;
  if (la.transposed == right) {
    call.packed = is_aligned(call.a) && call.ld % kPackSize<T> == 0;
    for (int axis = 0; axis < lead; ++axis) call.packed = call.packed && lead_a[axis] % kPackSize<T> == 0;
    launch(over_blocks("matmul", (call.batch * call.m + 7) / 8, y.device()), dense_rows_kernel<T>, call);
    return;
  }
  Launch where = over_blocks("matmul", call.batch * ((call.m + 31) / 32), y.device());
  where.block = dim3(32, kParts);
  launch(where, dense_columns_kernel<T>, call);
}

// --- large products -----------------------------------------------------------------------------------------------------

// More runs of equally spaced products than this go as pointers, in one call, if they are aligned as cuBLAS wants that.
constexpr std::int64_t kMostCalls = 4;

template <class T>
struct Pointers {
  const T** a;
  const T** b;
  T** c;
};

template <class T>
__global__ void pointers_kernel(const T* a, const T* b, T* c, StridedIndex<2> lead, std::int64_t step_c, Pointers<T> to,
                                std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[2];
    lead.locate(i, offset);
    to.a[i] = a + offset[0];
    to.b[i] = b + offset[1];
    to.c[i] = c + i * step_c;
  }
}

template <class T>
void scattered(Gemm<T> call, const StridedIndex<2>& lead, std::int64_t count, Device device) {
  static_assert(sizeof(void*) == sizeof(std::int64_t));
  Tensor memory = engine::empty({3, count}, DType::int64, device);
  auto* const first = reinterpret_cast<unsigned char*>(engine::mutable_ptr<std::int64_t>(memory));
  const auto bytes = static_cast<std::size_t>(count) * sizeof(void*);
  const Pointers<T> to{reinterpret_cast<const T**>(first), reinterpret_cast<const T**>(first + bytes),
                       reinterpret_cast<T**>(first + 2 * bytes)};
  launch(over_elements("matmul", count, device), pointers_kernel<T>, call.a, call.b, call.c, lead, call.m * call.n, to,
         count);
  call.batch = count;
  gemm_pointers(call, to.a, to.b, to.c, device);
}

// Whether matrices may be given as pointers: cuBLAS demands of each of them 16 bytes if k is a multiple of 8, or 4 if it is
// even, but for float64.
template <class T>
bool may_be_scattered(const Gemm<T>& call, const Strides& lead_a, const Strides& lead_b) {
  if (sizeof(T) == sizeof(double)) return true;
  const std::uintptr_t unit = call.k % 8 == 0 ? 16 : call.k % 2 == 0 ? 4 : 1;
  std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(call.a) | reinterpret_cast<std::uintptr_t>(call.b) |
                        reinterpret_cast<std::uintptr_t>(call.c);
  const auto add = [&](std::int64_t elements) { bits |= static_cast<std::uintptr_t>(elements) * sizeof(T); };
  for (const std::int64_t stride : lead_a) add(stride);
  for (const std::int64_t stride : lead_b) add(stride);
  add(call.m * call.n);
  return bits % unit == 0;
}

template <class T>
void large_products(const Tensor& a, const Layout& la, const Tensor& b, const Layout& lb, MatmulPrecision precision,
                    Tensor& c) {
  const int lead = c.rank() - 2;
  Gemm<T> call;
  call.trans_a = la.transposed;
  call.trans_b = lb.transposed;
  call.m = c.shape()[lead];
  call.n = c.shape()[lead + 1];
  call.k = a.shape()[lead + 1];
  call.a = engine::ptr<T>(a);
  call.lda = la.ld;
  call.b = engine::ptr<T>(b);
  call.ldb = lb.ld;
  call.c = engine::mutable_ptr<T>(c);
  call.ldc = call.n;
  call.precision = precision;
  const Shape lead_shape = detail::leading_axes(c.shape());
  const Strides lead_a = detail::leading_axes(a.strides());
  const Strides lead_b = detail::leading_axes(b.strides());
  const Strides lead_c = detail::leading_axes(c.strides());
  const Strides* const strides[] = {&lead_a, &lead_b, &lead_c};
  const engine::Loops loops = engine::merge_axes(lead_shape, strides, 3);
  if (loops.outer() > kMostCalls && may_be_scattered(call, lead_a, lead_b)) {
    const Strides* const operands[] = {&lead_a, &lead_b};
    return scattered<T>(call, StridedIndex<2>(lead_shape, operands), loops.total, c.device());
  }
  call.batch = loops.inner();
  call.stride_a = loops.inner_stride(0);
  call.stride_b = loops.inner_stride(1);
  call.stride_c = loops.inner_stride(2);
  // A batch that shares its right operand and whose left rows are equally spaced is one tall matrix.
  const std::int64_t lda = call.m == 1 && call.batch > 1 && call.stride_a >= call.k ? call.stride_a : call.lda;
  if (call.batch > 1 && call.stride_b == 0 && !call.trans_a && call.stride_a == call.m * lda) {
    call.lda = lda;
    call.m *= call.batch;
    call.batch = 1;
  }
  for (std::int64_t i = 0; i < loops.outer(); ++i) {
    std::int64_t offset[3];
    engine::run_offsets(loops, i, 3, offset);
    Gemm<T> run = call;
    run.a += offset[0];
    run.b += offset[1];
    run.c += offset[2];
    gemm(run, c.device());
  }
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, MatmulPrecision precision) {
  const Layout la = layout_of(a);
  const Layout lb = layout_of(b);
  const bool has_work = a.numel() > 0 && b.numel() > 0;
  if (has_work && !la.readable) return matmul(detail::dense_matrices(a), b, precision);
  if (has_work && !lb.readable) return matmul(a, detail::dense_matrices(b), precision);
  Shape shape = a.shape();
  shape[shape.rank() - 1] = b.shape().back();
  if (!has_work) return zeros(shape, {a.dtype(), a.device()});  // empty, or zeros if only the inner extent is 0
  Tensor c = engine::empty(shape, a.dtype(), a.device());
  const bool small =
      a.size(-1) <= kSmall && c.size(-1) <= kSmall && c.size(-2) <= kSmall && la.ld < (1 << 24) && lb.ld < (1 << 24);
  dispatch_floating(a.dtype(), "matmul", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (small) return small_products<T>(a, la, b, lb, c);
    if (c.size(-1) == 1 && is_distinct(a)) return times_vector<T>(a, la, b, lb, false, c);
    if (c.size(-2) == 1 && is_distinct(b)) return times_vector<T>(b, lb, a, la, true, c);
    large_products<T>(a, la, b, lb, precision, c);
  });
  return c;
}

// --- outer ----------------------------------------------------------------------------------------------------------------

namespace {

template <class T>
struct OuterCall {
  const T* a;
  const T* b;
  T* y;
  StridedIndex<2> rows;  // of (..., m): the element of a, the vector of b
  std::int64_t b_stride;
  std::int64_t packs_per_row;
  Divider divider;  // by packs_per_row, if `small`
  bool small;
  std::int64_t packs;
};

template <class T, int kPack>
__global__ void outer_kernel(OuterCall<T> call) {
  for (std::int64_t i = global_thread(); i < call.packs; i += grid_threads()) {
    const std::int64_t row = call.small ? call.divider.divide(static_cast<std::uint32_t>(i)) : i / call.packs_per_row;
    const std::int64_t col = (i - row * call.packs_per_row) * kPack;
    std::int64_t offset[2];
    call.rows.locate(row, offset);
    const T factor = call.a[offset[0]];
    const T* const b = call.b + offset[1];
    Pack<T, kPack> out;
    for (int j = 0; j < kPack; ++j) out.value[j] = static_cast<T>(factor * b[(col + j) * call.b_stride]);
    reinterpret_cast<Pack<T, kPack>*>(call.y)[i] = out;
  }
}

template <class T>
void outer_typed(const Tensor& a, const Tensor& b, Tensor& y) {
  OuterCall<T> call{};
  call.a = engine::ptr<T>(a);
  call.b = engine::ptr<T>(b);
  call.y = engine::mutable_ptr<T>(y);
  call.b_stride = b.strides().back();
  Strides b_rows = b.strides();
  b_rows[b.rank() - 1] = 0;
  const Strides* const strides[] = {&a.strides(), &b_rows};
  call.rows = StridedIndex<2>(a.shape(), strides);
  const std::int64_t n = b.shape().back();
  const bool packed = n % kPackSize<T> == 0 && is_aligned(call.y);
  call.packs_per_row = packed ? n / kPackSize<T> : n;
  call.packs = a.numel() * call.packs_per_row;
  call.small = call.packs < (std::int64_t{1} << 31);
  if (call.small) call.divider = Divider(static_cast<std::uint32_t>(call.packs_per_row));
  const Launch where = over_elements("outer", call.packs, y.device());
  if (packed) {
    launch(where, outer_kernel<T, kPackSize<T>>, call);
  } else {
    launch(where, outer_kernel<T, 1>, call);
  }
}

}  // namespace

Tensor outer(const Tensor& a, const Tensor& b) {
  Shape shape = a.shape();
  shape.push_back(b.shape().back());
  Tensor y = engine::empty(shape, a.dtype(), a.device());
  if (y.numel() == 0) return y;
  dispatch_floating(a.dtype(), "outer", [&](auto tag) { outer_typed<typename decltype(tag)::type>(a, b, y); });
  return y;
}

TensorVec outer(std::span<Tensor> inputs, const Attrs*) { return outer(inputs[0], inputs[1]); }

}  // namespace solvent::cuda
