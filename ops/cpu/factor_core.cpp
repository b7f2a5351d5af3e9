// Cholesky, LU, triangular systems and QR of one row-major matrix.
//
// All are blocked: inside a block (or panel of columns) vector loops over rows, everything else by GEMM, so large
// matrices run at its speed and on its threads. The sequence of operations depends on sizes only: the same bits for any
// number of threads, alone or inside a batch. Nothing here allocates or throws.
// Panels of large matrices are turned or copied so that their loops run over whole vectors of memory that lies together.
// Own code instead of LAPACK: OpenBLAS's results depend on its number of threads, calls on small matrices cost more than
// the factorisation, and the build without BLAS needs it anyway.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/factor_core.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "hwy/highway.h"
#include "solvent/core/engine/gemm.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/row_loops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

constexpr std::int64_t kFactorBlock = 48;
constexpr std::int64_t kPanelColumns = 32;  // as in qr_work
constexpr std::int64_t kUpdateColumns = 128;
// Columns that LU factors in a copy of 256 KiB at most on the stack, and from how many rows on.
constexpr std::int64_t kPackedColumns = 16;
constexpr std::int64_t kPackedBytes = 1 << 18;
constexpr std::int64_t kLeastPackedRows = 96;

// --- Cholesky ---------------------------------------------------------------------------------------------------------------

// Elements [j0, count) of one row of the diagonal block, from those before.
template <class T>
HWY_INLINE void cholesky_row(const T* a, std::int64_t n, std::int64_t j0, std::int64_t count, const T* inverse,
                             T* row) {
  for (std::int64_t j = j0; j < count; ++j)
    row[j] = (row[j] - dot_rows(j - j0, row + j0, a + j * n + j0)) * inverse[j - j0];
}

// The same for elements [j0, j1) of `count` rows below the block, 4 vectors of rows side by side.
template <class T>
void cholesky_rows(const T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, const T* inverse, T* rows,
                   std::int64_t count) {
  const hn::ScalableTag<T> d;
  const std::int64_t N = lanes<T>();
  const std::int64_t side = 4 * N;
  alignas(64) T columns[static_cast<std::size_t>(kFactorBlock) * 4 * hn::MaxLanes(hn::ScalableTag<T>())];
  for (std::int64_t top = 0; top < count; top += side) {
    const std::int64_t here = std::min(side, count - top);
    for (std::int64_t i = 0; i < side; ++i) {  // idle lanes repeat the first row
      const T* row = rows + (top + (i < here ? i : 0)) * n;
      for (std::int64_t j = j0; j < j1; ++j) columns[(j - j0) * side + i] = row[j];
    }
    for (std::int64_t j = j0; j < j1; ++j) {
      T* column = columns + (j - j0) * side;
      auto sum0 = hn::LoadU(d, column);
      auto sum1 = hn::LoadU(d, column + N);
      auto sum2 = hn::LoadU(d, column + 2 * N);
      auto sum3 = hn::LoadU(d, column + 3 * N);
      for (std::int64_t k = j0; k < j; ++k) {
        const T* other = columns + (k - j0) * side;
        const auto factor = hn::Set(d, a[j * n + k]);
        sum0 = hn::NegMulAdd(factor, hn::LoadU(d, other), sum0);
        sum1 = hn::NegMulAdd(factor, hn::LoadU(d, other + N), sum1);
        sum2 = hn::NegMulAdd(factor, hn::LoadU(d, other + 2 * N), sum2);
        sum3 = hn::NegMulAdd(factor, hn::LoadU(d, other + 3 * N), sum3);
      }
      const auto scale = hn::Set(d, inverse[j - j0]);
      hn::StoreU(hn::Mul(sum0, scale), d, column);
      hn::StoreU(hn::Mul(sum1, scale), d, column + N);
      hn::StoreU(hn::Mul(sum2, scale), d, column + 2 * N);
      hn::StoreU(hn::Mul(sum3, scale), d, column + 3 * N);
    }
    for (std::int64_t i = 0; i < here; ++i)
      for (std::int64_t j = j0; j < j1; ++j) rows[(top + i) * n + j] = columns[(j - j0) * side + i];
  }
}

// A22 -= L21 L21^T, lower blocks.
template <class T>
void cholesky_update(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1) {
  for (std::int64_t c = j1; c < n; c += kUpdateColumns)
    engine::gemm<T>(false, true, n - c, std::min(kUpdateColumns, n - c), j1 - j0, T(-1), a + c * n + j0, n,
                    a + c * n + j0, n, T(1), a + c * n + c, n);
}

template <class T>
std::int64_t cholesky_one(T* a, std::int64_t n) {
  T inverse[kFactorBlock];
  for (std::int64_t j0 = 0; j0 < n; j0 += kFactorBlock) {
    const std::int64_t j1 = std::min(j0 + kFactorBlock, n);
    for (std::int64_t i = j0; i < j1; ++i) {
      T* row = a + i * n;
      cholesky_row(a, n, j0, i, inverse, row);
      const T pivot = row[i] - dot_rows(i - j0, row + j0, row + j0);
      if (pivot <= T(0)) return i;  // a NaN goes on and is seen in the result
      row[i] = std::sqrt(pivot);
      inverse[i - j0] = T(1) / row[i];
    }
    const T* factors = inverse;
    parallel_for(n - j1, 64, [=](std::int64_t begin, std::int64_t end) {
      cholesky_rows(a, n, j0, j1, factors, a + (j1 + begin) * n, end - begin);
    });
    cholesky_update(a, n, j0, j1);
  }
  for (std::int64_t i = 0; i < n; ++i) std::fill(a + i * n + i + 1, a + (i + 1) * n, T(0));
  return -1;
}

// Elements (i, j) for kRows consecutive i >= j, less the products of what is left of them.
template <int kRows, class D, class T = hn::TFromD<D>>
HWY_INLINE void subtract_products(D d, const T* a, std::int64_t n, std::int64_t i, std::int64_t j, hn::Vec<D>* sum) {
  const std::int64_t N = lanes<T>();
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) sum[r] = hn::LoadU(d, a + ((i + r) * n + j) * N);
  for (std::int64_t k = 0; k < j; ++k) {
    const auto top = hn::LoadU(d, a + (j * n + k) * N);
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) sum[r] = hn::NegMulAdd(hn::LoadU(d, a + ((i + r) * n + k) * N), top, sum[r]);
  }
}

// Left-looking, column by column; element (i, j) of lane l is a[(i n + j) N + l].
template <class T>
void cholesky_columns(T* a, std::int64_t n, std::int64_t count, std::int64_t* failed) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t N = lanes<T>();
  for (std::int64_t j = 0; j < n; ++j) {
    V sum[4];
    subtract_products<1>(d, a, n, j, j, sum);
    T* pivot = a + (j * n + j) * N;
    hn::StoreU(sum[0], d, pivot);
    for (std::int64_t lane = 0; lane < count; ++lane)
      if (pivot[lane] <= T(0) && failed[lane] < 0) failed[lane] = j;
    const V root = hn::Sqrt(sum[0]);
    const V inverse = hn::Div(hn::Set(d, T(1)), root);
    hn::StoreU(root, d, pivot);
    std::int64_t i = j + 1;
    for (; i + 4 <= n; i += 4) {
      subtract_products<4>(d, a, n, i, j, sum);
      HWY_UNROLL(4)
      for (int r = 0; r < 4; ++r) hn::StoreU(hn::Mul(sum[r], inverse), d, a + ((i + r) * n + j) * N);
    }
    for (; i < n; ++i) {
      subtract_products<1>(d, a, n, i, j, sum);
      hn::StoreU(hn::Mul(sum[0], inverse), d, a + (i * n + j) * N);
    }
  }
}

template <class T>
void cholesky_lanes(T* a, std::int64_t n, std::int64_t count, std::int64_t* failed, T* work) {
  const std::int64_t N = lanes<T>();
  std::fill(failed, failed + count, -1);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) {
      T* to = work + (i * n + j) * N;
      for (std::int64_t lane = 0; lane < N; ++lane) {
        const T* from = a + (lane < count ? lane : 0) * n * n;  // idle lanes repeat the first matrix
        to[lane] = i == j ? from[i * n + i] : (from[i * n + j] + from[j * n + i]) * T(0.5);
      }
    }
  cholesky_columns(work, n, count, failed);
  for (std::int64_t lane = 0; lane < count; ++lane)
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) a[(lane * n + i) * n + j] = j <= i ? work[(i * n + j) * N + lane] : T(0);
}

// --- LU with partial pivoting, right-looking -------------------------------------------------------------------------------------

// Factors rows [j0, n) of columns [j0, j1), swapping whole rows. Returns the column of a zero pivot or -1.
template <class T>
std::int64_t factor_panel(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, std::int64_t* pivots) {
  for (std::int64_t j = j0; j < j1; ++j) {
    std::int64_t p = j;
    for (std::int64_t i = j + 1; i < n; ++i)
      if (std::abs(a[i * n + j]) > std::abs(a[p * n + j])) p = i;
    pivots[j] = p;
    if (p != j) std::swap_ranges(a + j * n, a + (j + 1) * n, a + p * n);
    const T pivot = a[j * n + j];
    if (pivot == T(0)) return j;
    for (std::int64_t i = j + 1; i < n; ++i) {
      T* row = a + i * n;
      const T factor = row[j] /= pivot;
      const T* top = a + j * n;
      add_row(j1 - j - 1, -factor, top + j + 1, row + j + 1);
    }
  }
  return -1;
}

// Column j of `rows` rows of kPackedColumns: its elements below the diagonal become factors, of which the columns to the
// right lose their multiples of row j.
template <class T>
void eliminate_packed(T* packed, std::int64_t rows, std::int64_t j) {
  const hn::CappedTag<T, kPackedColumns> d;
  const std::int64_t N = static_cast<std::int64_t>(hn::Lanes(d));
  const T pivot = packed[j * kPackedColumns + j];
  for (std::int64_t i = j + 1; i < rows; ++i) packed[i * kPackedColumns + j] /= pivot;
  for (std::int64_t c = (j + 1) / N * N; c < kPackedColumns; c += N) {
    const auto right = hn::Gt(hn::Iota(d, static_cast<T>(c)), hn::Set(d, static_cast<T>(j)));
    const auto top = hn::LoadU(d, packed + j * kPackedColumns + c);
    for (std::int64_t i = j + 1; i < rows; ++i) {
      T* to = packed + i * kPackedColumns + c;
      const auto old = hn::LoadU(d, to);
      const auto factor = hn::Set(d, packed[i * kPackedColumns + j]);
      hn::StoreU(hn::IfThenElse(right, hn::NegMulAdd(factor, top, old), old), d, to);
    }
  }
}

// factor_panel for at most kPackedColumns columns, in a copy whose rows lie together: in the matrix each row is another
// page, and with sizes of a power of two all of them share a few cache sets.
template <class T>
std::int64_t factor_packed(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, std::int64_t* pivots) {
  alignas(64) T packed[kPackedBytes / sizeof(T)];
  const std::int64_t rows = n - j0;
  const std::int64_t width = j1 - j0;
  for (std::int64_t i = 0; i < rows; ++i) {
    T* to = packed + i * kPackedColumns;
    std::copy_n(a + (j0 + i) * n + j0, width, to);
    std::fill(to + width, to + kPackedColumns, T(0));
  }
  for (std::int64_t j = 0; j < width; ++j) {
    std::int64_t p = j;
    T largest = std::abs(packed[j * kPackedColumns + j]);
    for (std::int64_t i = j + 1; i < rows; ++i)
      if (const T size = std::abs(packed[i * kPackedColumns + j]); size > largest) {
        largest = size;
        p = i;
      }
    pivots[j0 + j] = j0 + p;
    if (p != j) {
      std::swap_ranges(a + (j0 + j) * n, a + (j0 + j + 1) * n, a + (j0 + p) * n);
      std::swap_ranges(packed + j * kPackedColumns, packed + (j + 1) * kPackedColumns, packed + p * kPackedColumns);
    }
    if (packed[j * kPackedColumns + j] == T(0)) return j0 + j;
    eliminate_packed(packed, rows, j);
  }
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(packed + i * kPackedColumns, width, a + (j0 + i) * n + j0);
  return -1;
}

// Rows [j0, j1) of columns [from, to) <- L11^-1 times them, on strips of columns.
template <class T>
void substitute_rows(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, std::int64_t from, std::int64_t to) {
  parallel_for(to - from, kUpdateColumns, [=](std::int64_t begin, std::int64_t end) {
    const std::int64_t c = from + begin;
    for (std::int64_t i = j0 + 1; i < j1; ++i)
      for (std::int64_t j = j0; j < i; ++j) add_row(end - begin, -a[i * n + j], a + j * n + c, a + i * n + c);
  });
}

// Rows [j1, n) of columns [j1, to) lose L21 U12.
template <class T>
void subtract_block(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, std::int64_t to) {
  engine::gemm<T>(false, false, n - j1, to - j1, j1 - j0, T(-1), a + j1 * n + j0, n, a + j0 * n + j1, n, T(1),
                  a + j1 * n + j1, n);
}

// Columns [j0, j1): factor_panel, or for many rows narrow panels in copies.
template <class T>
std::int64_t factor_block(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, std::int64_t* pivots) {
  constexpr std::int64_t kMostRows = kPackedBytes / (kPackedColumns * static_cast<std::int64_t>(sizeof(T)));
  if (n - j0 < kLeastPackedRows || n - j0 > kMostRows) return factor_panel(a, n, j0, j1, pivots);
  for (std::int64_t s0 = j0; s0 < j1; s0 += kPackedColumns) {
    const std::int64_t s1 = std::min(s0 + kPackedColumns, j1);
    if (const std::int64_t zero = factor_packed(a, n, s0, s1, pivots); zero >= 0) return zero;
    if (s1 == j1) break;
    substitute_rows(a, n, s0, s1, s1, j1);
    subtract_block(a, n, s0, s1, j1);
  }
  return -1;
}

template <class T>
std::int64_t lu_one(T* a, std::int64_t n, std::int64_t* pivots) {
  for (std::int64_t j0 = 0; j0 < n; j0 += kFactorBlock) {
    const std::int64_t j1 = std::min(j0 + kFactorBlock, n);
    if (const std::int64_t zero = factor_block(a, n, j0, j1, pivots); zero >= 0) return zero;
    if (j1 == n) break;
    substitute_rows(a, n, j0, j1, j1, n);
    subtract_block(a, n, j0, j1, n);
  }
  return -1;
}

template <class T>
void lu_solve_one(const T* lu, std::int64_t n, const std::int64_t* pivots, T* x, std::int64_t k) {
  for (std::int64_t i = 0; i < n; ++i)
    if (pivots[i] != i) std::swap_ranges(x + i * k, x + (i + 1) * k, x + pivots[i] * k);
  const auto subtract = [&](std::int64_t i, std::int64_t j) {  // row i -= lu[i, j] * row j
    add_row(k, -lu[i * n + j], x + j * k, x + i * k);
  };
  for (std::int64_t i0 = 0; i0 < n; i0 += kFactorBlock) {
    const std::int64_t i1 = std::min(i0 + kFactorBlock, n);
    if (i0 > 0) engine::gemm<T>(false, false, i1 - i0, k, i0, T(-1), lu + i0 * n, n, x, k, T(1), x + i0 * k, k);
    for (std::int64_t i = i0 + 1; i < i1; ++i)
      for (std::int64_t j = i0; j < i; ++j) subtract(i, j);
  }
  for (std::int64_t i1 = n; i1 > 0;) {
    const std::int64_t i0 = (i1 - 1) / kFactorBlock * kFactorBlock;
    if (i1 < n)
      engine::gemm<T>(false, false, i1 - i0, k, n - i1, T(-1), lu + i0 * n + i1, n, x + i1 * k, k, T(1), x + i0 * k, k);
    for (std::int64_t i = i1 - 1; i >= i0; --i) {
      for (std::int64_t j = i + 1; j < i1; ++j) subtract(i, j);
      divide_row(k, lu[i * n + i], x + i * k);
    }
    i1 = i0;
  }
}

// --- triangular systems -------------------------------------------------------------------------------------------------------

// Rows [i0, i1) of x in the order of substitution; rows outside are already eliminated.
template <class T>
void substitute_block(const T* a, std::int64_t n, std::int64_t i0, std::int64_t i1, bool upper, bool unit, T* x,
                      std::int64_t k) {
  for (std::int64_t step = 0; step < i1 - i0; ++step) {
    const std::int64_t i = upper ? i1 - 1 - step : i0 + step;
    const std::int64_t first = upper ? i + 1 : i0;
    const std::int64_t last = upper ? i1 : i;
    T* row = x + i * k;
    if (k == 1) {
      *row -= dot_rows(last - first, a + i * n + first, x + first);
    } else {
      for (std::int64_t j = first; j < last; ++j) add_row(k, -a[i * n + j], x + j * k, row);
    }
    if (unit) continue;
    divide_row(k, a[i * n + i], row);
  }
}

template <class T>
std::int64_t triangular_one(const T* a, std::int64_t n, bool upper, bool unit, T* x, std::int64_t k) {
  for (std::int64_t i = 0; i < n && !unit; ++i)
    if (a[i * n + i] == T(0)) return i;
  const std::int64_t blocks = (n + kFactorBlock - 1) / kFactorBlock;
  for (std::int64_t step = 0; step < blocks; ++step) {
    const std::int64_t i0 = (upper ? blocks - 1 - step : step) * kFactorBlock;
    const std::int64_t i1 = std::min(i0 + kFactorBlock, n);
    const std::int64_t first = upper ? i1 : 0;
    const std::int64_t count = upper ? n - i1 : i0;
    if (count > 0)
      engine::gemm<T>(false, false, i1 - i0, k, count, T(-1), a + i0 * n + first, n, x + first * k, k, T(1), x + i0 * k,
                      k);
    substitute_block(a, n, i0, i1, upper, unit, x, k);
  }
  return -1;
}

// --- QR -------------------------------------------------------------------------------------------------------------------

// Householder vectors of columns [j0, j1), rows [j0, m), in place; w has j1 - j0 elements.
template <class T>
void qr_panel(T* a, std::int64_t m, std::int64_t n, std::int64_t j0, std::int64_t j1, T* tau, T* w) {
  for (std::int64_t j = j0; j < j1; ++j) {
    T* top = a + j * n;
    tau[j - j0] = reflector(top + j, m - j, n);
    const std::int64_t rest = j1 - j - 1;
    if (rest == 0 || tau[j - j0] == T(0)) continue;
    std::copy(top + j + 1, top + j1, w);
    for (std::int64_t i = j + 1; i < m; ++i) add_row(rest, a[i * n + j], a + i * n + j + 1, w);
    scale_row(rest, -tau[j - j0], w);
    add_row(rest, T(1), w, top + j + 1);
    for (std::int64_t i = j + 1; i < m; ++i) add_row(rest, a[i * n + j], w, a + i * n + j + 1);
  }
}

// The panel's reflectors as I - V T V^T (Schreiber & Van Loan 1989): V (m - j0, b) dense, T (b, b) upper triangular.
template <class T>
void block_reflector(const T* a, std::int64_t m, std::int64_t n, std::int64_t j0, std::int64_t b, const T* tau, T* v,
                     T* t, T* gram) {
  const std::int64_t rows = m - j0;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < b; ++j) v[i * b + j] = i > j ? a[(j0 + i) * n + j0 + j] : i == j ? T(1) : T(0);
  engine::gemm<T>(true, false, b, b, rows, T(1), v, b, v, b, T(0), gram, b);
  std::fill(t, t + b * b, T(0));
  for (std::int64_t j = 0; j < b; ++j) {
    for (std::int64_t i = 0; i < j; ++i) {
      T sum = T(0);
      for (std::int64_t p = i; p < j; ++p) sum += t[i * b + p] * gram[p * b + j];
      t[i * b + j] = -tau[j] * sum;
    }
    t[j * b + j] = tau[j];
  }
}

// c (rows, columns) <- (I - V op(T) V^T) c; work: 2 b columns.
template <class T>
void apply_block_reflector(const T* v, const T* t, bool transposed, std::int64_t rows, std::int64_t b, T* c,
                           std::int64_t ld, std::int64_t columns, T* work) {
  if (columns == 0) return;
  T* product = work + b * columns;
  engine::gemm<T>(true, false, b, columns, rows, T(1), v, b, c, ld, T(0), work, columns);
  engine::gemm<T>(transposed, false, b, columns, b, T(1), t, b, work, columns, T(0), product, columns);
  engine::gemm<T>(false, false, rows, columns, b, T(-1), v, b, product, columns, T(1), c, ld);
}

template <class T>
void qr_one(T* a, std::int64_t m, std::int64_t n, T* q, T* r, T* work) {
  T* v = work;
  T* t = v + m * kPanelColumns;
  T* gram = t + kPanelColumns * kPanelColumns;
  T* product = gram + kPanelColumns * kPanelColumns;
  T* w = product + 2 * kPanelColumns * n;
  T* tau = w + n;  // of all columns
  for (std::int64_t j0 = 0; j0 < n; j0 += kPanelColumns) {
    const std::int64_t j1 = std::min(j0 + kPanelColumns, n);
    qr_panel(a, m, n, j0, j1, tau + j0, w);
    if (j1 == n) break;
    block_reflector(a, m, n, j0, j1 - j0, tau + j0, v, t, gram);
    apply_block_reflector(v, t, true, m - j0, j1 - j0, a + j0 * n + j1, n, n - j1, product);
  }
  std::fill(q, q + m * n, T(0));
  for (std::int64_t j = 0; j < n; ++j) q[j * n + j] = T(1);
  for (std::int64_t j0 = (n - 1) / kPanelColumns * kPanelColumns; j0 >= 0; j0 -= kPanelColumns) {
    const std::int64_t b = std::min(kPanelColumns, n - j0);
    block_reflector(a, m, n, j0, b, tau + j0, v, t, gram);
    apply_block_reflector(v, t, false, m - j0, b, q + j0 * n + j0, n, n - j0, product);
  }
  for (std::int64_t j = 0; j < n; ++j) {  // diagonal of r >= 0
    const T sign = a[j * n + j] < T(0) ? T(-1) : T(1);
    for (std::int64_t c = 0; c < n; ++c) r[j * n + c] = c < j ? T(0) : sign * a[j * n + c];
    if (sign < T(0))
      for (std::int64_t i = 0; i < m; ++i) q[i * n + j] = -q[i * n + j];
  }
}

template <class T>
const FactorKernels<T>& kernels() {
  static const FactorKernels<T> table{cholesky_one<T>, lanes<T>(),        cholesky_lanes<T>, lu_one<T>,
                                      lu_solve_one<T>, triangular_one<T>, qr_one<T>};
  return table;
}

const FactorKernels<float>& factor_float() { return kernels<float>(); }
const FactorKernels<double>& factor_double() { return kernels<double>(); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(factor_float);
HWY_EXPORT(factor_double);

const FactorKernels<float>& factor_kernels(float) noexcept { return HWY_DYNAMIC_DISPATCH(factor_float)(); }
const FactorKernels<double>& factor_kernels(double) noexcept { return HWY_DYNAMIC_DISPATCH(factor_double)(); }

}  // namespace solvent::cpu
#endif  // HWY_ONCE
