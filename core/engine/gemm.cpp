// Matrix products: which kernel, and which piece on which thread.
//
// Products are computed by our own kernels (cpu/gemm_kernels.cpp), also when a BLAS is linked: OpenBLAS splits its sums
// according to the number of threads, so that the same program gives other bits on another machine, and below 256^3 it
// is slower. SOLVENT_GEMM=blas in the environment hands large products to BLAS nevertheless, as a peer for benchmarks
// and for machines whose BLAS is much better tuned; this is the only place of the library that calls it.
//
// Large products: for each block of k, op(B) is packed into panels once by all threads; then tiles of C, a block of rows
// by a range of columns, are computed independently. Skinny and small ones skip the packing, products with few results
// and long sums are cut along k. All cuts depend on sizes only.
#include "solvent/core/engine/gemm.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#if SOLVENT_WITH_BLAS
#include <cblas.h>
#endif

#include "solvent/core/allocator.h"
#include "solvent/core/cpu/gemm_kernels.h"
#include "solvent/core/engine/blas_setup.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"

namespace solvent::engine {
namespace {

// Multiply-adds per piece of a parallel loop, at least: about 10 us.
constexpr double kPieceWork = 1 << 19;
// Large products: rows, depth and columns of the blocks. A block of A stays in L2, a panel of B in L1, all of the packed
// B in L3.
constexpr std::int64_t kBlockRows = 96;
constexpr std::int64_t kRowStep = 24;  // a multiple of the kernels' 6 and 8 rows
constexpr std::int64_t kBlockDepth = 256;
constexpr std::int64_t kDepthStep = 8;
constexpr std::int64_t kBlockColumns = 4096;
// Columns per tile and how many tiles there should be: more pieces keep more threads busy, but each tile may copy
// its block of A anew.
constexpr std::int64_t kTileColumns = 512;
constexpr std::int64_t kLeastColumns = 64;
constexpr std::int64_t kTiles = 16;
constexpr std::int64_t kOftenRead = 256;  // columns
// Elements packed per piece of a parallel loop, about 10 us, in groups of panels.
constexpr std::int64_t kPackElements = 1 << 15;
constexpr std::int64_t kPackStep = 4;
// Sides up to which packing does not pay.
constexpr std::int64_t kSkinny = 24;
// Their pieces: multiply-adds at least (half as many, as there is no packing to wait for), and a multiple of lines.
constexpr double kSkinnyWork = 1 << 18;
constexpr std::int64_t kSkinnyStep = 32;
// Products with few results and a long sum are cut along k.
constexpr std::int64_t kSplitResults = 128 * 128;
constexpr std::int64_t kSplitDepth = 2048;
constexpr std::int64_t kMaxSplits = 32;

// Memory of the caching allocator that may be refused.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) noexcept : bytes_(static_cast<std::size_t>(count) * sizeof(T)) {
    try {
      data_ = static_cast<T*>(detail::allocate(bytes_, cpu_device));
    } catch (const Error&) {  // the caller has a slower way without
    }
  }
  ~Scratch() {
    if (data_) detail::deallocate(data_, bytes_, cpu_device);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] T* data() const noexcept { return data_; }

 private:
  T* data_ = nullptr;
  std::size_t bytes_;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

double work_of(std::int64_t m, std::int64_t n, std::int64_t k) noexcept {
  return static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// Size of equal parts of `total`: at most `most`, rounded up to a multiple of `step` (which divides `most`).
constexpr std::int64_t even_part(std::int64_t total, std::int64_t most, std::int64_t step) noexcept {
  return ceil_div(ceil_div(total, ceil_div(total, most)), step) * step;
}

template <class T>
GemmCall<T> make_call(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                      std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept {
  return {m,    n, k,  alpha, a, trans_a ? 1 : lda, trans_a ? lda : 1, b, trans_b ? 1 : ldb, trans_b ? ldb : 1,
          beta, c, ldc};
}

// C = beta * C without reading C when beta is 0 (it may be uninitialised memory full of NaN).
template <class T>
void scale(std::int64_t m, std::int64_t n, T beta, T* c, std::int64_t ldc) noexcept {
  if (beta == T{1}) return;
  for (std::int64_t i = 0; i < m; ++i) {
    T* row = c + i * ldc;
    if (beta == T{0})
      std::fill(row, row + n, T{0});
    else
      for (std::int64_t j = 0; j < n; ++j) row[j] *= beta;
  }
}

template <class T>
void serial_gemm(const GemmCall<T>& call) noexcept {
  gemm_kernels(T{}).batch(call, 0, 0, 0, 1);
}

// Rows (or columns, if they are more) split into pieces that read B in place.
template <class T>
void skinny_gemm(const GemmCall<T>& call) noexcept {
  const bool by_rows = call.m >= call.n;
  const std::int64_t longer = by_rows ? call.m : call.n;
  const double work = work_of(call.m, call.n, call.k);
  const std::int64_t pieces = std::clamp<std::int64_t>(static_cast<std::int64_t>(work / kSkinnyWork), 1, longer);
  const std::int64_t piece = ceil_div(ceil_div(longer, pieces), kSkinnyStep) * kSkinnyStep;
  parallel_for(longer, piece, [&](std::int64_t begin, std::int64_t end) {
    GemmCall<T> part = call;
    if (by_rows) {
      part.m = end - begin;
      part.a += begin * call.a_row;
      part.c += begin * call.ldc;
    } else {
      part.n = end - begin;
      part.b += begin * call.b_col;
      part.c += begin;
    }
    serial_gemm(part);
  });
}

// Room for a block of A in either orientation with padded rows.
template <class T>
struct alignas(64) BlockBuffer {
  static constexpr std::int64_t kPad = 32;
  T values[(kBlockRows + kPad) * (kBlockDepth + kPad)];
};

// Rows are read where they are: copying them would cost 3 to 8 % of the product. Columns (a piece of a cache line for each
// p, in few cache sets) are copied, and rows further apart than a page if they are read often enough.
template <class T>
bool is_worth_copying(const GemmCall<T>& tile) noexcept {
  constexpr std::int64_t kPage = 4096 / static_cast<std::int64_t>(sizeof(T));
  return tile.a_col != 1 || (tile.a_row > kPage && tile.n > kOftenRead);
}

// A block of op(A) copied out of the matrix, rows padded: with strides of a power of two its lines would share few cache
// sets. Keeps the orientation, so that the copy is a copy of runs.
template <class T>
void copy_block(GemmCall<T>& tile, T* to) noexcept {
  const bool is_row_major = tile.a_col == 1;
  const std::int64_t runs = is_row_major ? tile.m : tile.k;
  const std::int64_t length = is_row_major ? tile.k : tile.m;
  const std::int64_t stride = is_row_major ? tile.a_row : tile.a_col;
  const std::int64_t padded = ceil_div(length, 16) * 16 + 16;
  for (std::int64_t i = 0; i < runs; ++i)
    std::memcpy(to + i * padded, tile.a + i * stride, static_cast<std::size_t>(length) * sizeof(T));
  tile.a = to;
  (is_row_major ? tile.a_row : tile.a_col) = padded;
}

// C += op(A) op(B) for one block of k whose op(B) is packed.
template <class T>
void multiply_block(const GemmCall<T>& call, const T* packed) noexcept {
  const GemmKernels<T>& kernels = gemm_kernels(T{});
  // Blocks of equal height; columns are cut further when there are few blocks.
  const std::int64_t height = even_part(call.m, kBlockRows, kRowStep);
  const std::int64_t rows = ceil_div(call.m, height);
  const std::int64_t widest = std::min(kTileColumns, ceil_div(call.n, ceil_div(kTiles, rows)));
  const std::int64_t width = ceil_div(std::max(widest, kLeastColumns), kernels.panel) * kernels.panel;
  const std::int64_t columns = ceil_div(call.n, width);
  parallel_for(rows * columns, 1, [&](std::int64_t begin, std::int64_t end) {
    BlockBuffer<T> block;
    for (std::int64_t index = begin; index < end; ++index) {
      // Down the columns: the short last block of rows then falls to every thread alike.
      const std::int64_t i = index % rows * height;
      const std::int64_t j = index / rows * width;
      GemmCall<T> tile = call;
      tile.m = std::min(height, call.m - i);
      tile.n = std::min(width, call.n - j);
      tile.a += i * call.a_row;
      tile.c += i * call.ldc + j;
      if (is_worth_copying(tile)) copy_block(tile, block.values);
      kernels.multiply_packed(tile, packed + j * call.k);
    }
  });
}

template <class T>
void packed_gemm(const GemmCall<T>& call) noexcept {
  const GemmKernels<T>& kernels = gemm_kernels(T{});
  const std::int64_t panel = kernels.panel;
  const std::int64_t depth = even_part(call.k, kBlockDepth, kDepthStep);
  const std::int64_t width = std::min(ceil_div(call.n, panel) * panel, kBlockColumns);
  const Scratch<T> packed(width * depth);
  if (!packed.data()) return skinny_gemm(call);
  for (std::int64_t j = 0; j < call.n; j += width) {
    for (std::int64_t p = 0; p < call.k; p += depth) {
      GemmCall<T> block = call;
      block.n = std::min(width, call.n - j);
      block.k = std::min(depth, call.k - p);
      block.a += p * call.a_col;
      block.b += p * call.b_row + j * call.b_col;
      block.c += j;
      if (p > 0) block.beta = T{1};
      const std::int64_t grain = ceil_div(kPackElements, block.k * kPackStep * panel) * kPackStep * panel;
      parallel_for(block.n, grain, [&](std::int64_t begin, std::int64_t end) {
        kernels.pack(block.b + begin * block.b_col, block.b_row, block.b_col, block.k, end - begin,
                     packed.data() + begin * block.k);
      });
      multiply_block(block, packed.data());
    }
  }
}

// Few results, long sums (a weight gradient contracts all rows of a batch): pieces of k in parallel, then their sum in
// order. False if there is no memory for the partial results.
template <class T>
bool split_gemm(const GemmCall<T>& call) noexcept {
  const std::int64_t depth = std::max(kSplitDepth, ceil_div(call.k, kMaxSplits));
  const std::int64_t splits = ceil_div(call.k, depth);
  const std::int64_t results = call.m * call.n;
  const Scratch<T> scratch(splits * results);
  T* const partial = scratch.data();
  if (!partial) return false;
  parallel_for(splits, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      GemmCall<T> piece = call;
      piece.k = std::min(depth, call.k - s * depth);
      piece.a += s * depth * call.a_col;
      piece.b += s * depth * call.b_row;
      piece.beta = T{0};
      piece.c = partial + s * results;
      piece.ldc = call.n;
      serial_gemm(piece);
    }
  });
  for (std::int64_t i = 0; i < call.m; ++i) {
    for (std::int64_t j = 0; j < call.n; ++j) {
      T sum = partial[i * call.n + j];
      for (std::int64_t s = 1; s < splits; ++s) sum += partial[s * results + i * call.n + j];
      T& c = call.c[i * call.ldc + j];
      c = call.beta == T{0} ? sum : sum + call.beta * c;
    }
  }
  return true;
}

template <class T>
void own_gemm(const GemmCall<T>& call, double work) noexcept {
  if (work <= kPieceWork) return serial_gemm(call);
  if (call.m * call.n <= kSplitResults && call.k >= 2 * kSplitDepth && split_gemm(call)) return;
  if (std::min(call.m, call.n) <= kSkinny) return skinny_gemm(call);
  packed_gemm(call);
}

#if SOLVENT_WITH_BLAS

void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
               const float* b, int ldb, float beta, float* c, int ldc) noexcept {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
               const double* b, int ldb, double beta, double* c, int ldc) noexcept {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

bool is_blas_wanted() noexcept {
  static const bool wanted = [] {
    const char* text = std::getenv("SOLVENT_GEMM");
    return text && std::strcmp(text, "blas") == 0;
  }();
  return wanted;
}

// False if BLAS may not, cannot or need not be used for this call.
template <class T>
bool try_blas(bool trans_a, bool trans_b, const GemmCall<T>& call, std::int64_t lda, std::int64_t ldb,
              double work) noexcept {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  constexpr double kLeastWork = 64.0 * 64 * 64;
  if (!is_blas_wanted() || work < kLeastWork || in_parallel_region()) return false;
  if (std::max({call.m, call.n, call.k, lda, ldb, call.ldc}) > kMax) return false;
  detail::prepare_blas();
  blas_gemm(trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, static_cast<int>(call.m),
            static_cast<int>(call.n), static_cast<int>(call.k), call.alpha, call.a, static_cast<int>(lda), call.b,
            static_cast<int>(ldb), call.beta, call.c, static_cast<int>(call.ldc));
  return true;
}

#endif

}  // namespace

template <class T>
void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
          std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept {
  if (m <= 0 || n <= 0) return;
  if (k <= 0 || alpha == T{0}) return scale(m, n, beta, c, ldc);
  const GemmCall<T> call = make_call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const double work = work_of(m, n, k);
#if SOLVENT_WITH_BLAS
  if (try_blas(trans_a, trans_b, call, lda, ldb, work)) return;
#endif
  own_gemm(call, work);
}

template <class T>
void gemm_batched(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                  std::int64_t lda, std::int64_t stride_a, const T* b, std::int64_t ldb, std::int64_t stride_b, T beta,
                  T* c, std::int64_t ldc, std::int64_t stride_c, std::int64_t batch) noexcept {
  if (batch <= 0 || m <= 0 || n <= 0) return;
  // A shared right operand and rows that follow each other: one product with batch * m rows.
  if (batch == 1 || (stride_b == 0 && !trans_a && stride_a == m * lda && stride_c == m * ldc))
    return gemm(trans_a, trans_b, batch * m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const double work = work_of(m, n, k);
  if (k <= 0 || alpha == T{0} || work > 4 * kPieceWork) {
    for (std::int64_t i = 0; i < batch; ++i)
      gemm(trans_a, trans_b, m, n, k, alpha, a + i * stride_a, lda, b + i * stride_b, ldb, beta, c + i * stride_c, ldc);
    return;
  }
  const GemmCall<T> first = make_call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const auto grain = static_cast<std::int64_t>(std::max(1.0, kPieceWork / work));
  parallel_for(batch, grain, [&](std::int64_t begin, std::int64_t end) {
    GemmCall<T> call = first;
    call.a += begin * stride_a;
    call.b += begin * stride_b;
    call.c += begin * stride_c;
    gemm_kernels(T{}).batch(call, stride_a, stride_b, stride_c, end - begin);
  });
}

#define SOLVENT_INSTANTIATE(T)                                                                                       \
  template SOLVENT_API void gemm<T>(bool, bool, std::int64_t, std::int64_t, std::int64_t, T, const T*, std::int64_t, \
                                    const T*, std::int64_t, T, T*, std::int64_t) noexcept;                           \
  template SOLVENT_API void gemm_batched<T>(bool, bool, std::int64_t, std::int64_t, std::int64_t, T, const T*,       \
                                            std::int64_t, std::int64_t, const T*, std::int64_t, std::int64_t, T, T*, \
                                            std::int64_t, std::int64_t, std::int64_t) noexcept;
SOLVENT_INSTANTIATE(float)
SOLVENT_INSTANTIATE(double)
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::engine
