// Vector loops behind engine/basic.h. Memory-bound: one pass, no temporaries; fresh results larger than the last-level
// cache are written past it (a normal store would first read the line). Deterministic: sums are formed per block of fixed
// size, and blocks are added in index order. bfloat16 is computed in float32 and every result rounded once; what other types
// do in vectors is left to the compiler there, except for affine and sums, whose blocks pass through a float32 buffer.

#include "solvent/core/engine/basic.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "solvent/core/engine/bfloat16.h"
#include "solvent/core/engine/iterate.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"

#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/basic.h"
#endif

#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/core/cpu/basic_kernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::engine::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V, class T>
HWY_INLINE void store(V v, D d, T* y, bool stream) {
  if (stream) {
    hn::Stream(v, d, y);
  } else {
    hn::StoreU(v, d, y);
  }
}

// y = a + b for dense operands.
template <class T>
void add_dense(const T* a, const T* b, T* y, std::int64_t count, bool stream) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const auto s0 = hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    const auto s1 = hn::Add(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes));
    store(s0, d, y + i, stream);
    store(s1, d, y + i + lanes, stream);
  }
  for (; i + lanes <= count; i += lanes) store(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i, stream);
  for (; i < count; ++i) y[i] = a[i] + b[i];
  if (stream) hwy::FlushStream();
}

// y = a + b; a stride is 0 or 1.
template <class T>
void add_run(const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, T* y, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto splat_a = hn::Set(d, a[0]);
  const auto splat_b = hn::Set(d, b[0]);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::Add(stride_a ? hn::LoadU(d, a + i) : splat_a, stride_b ? hn::LoadU(d, b + i) : splat_b), d, y + i);
  for (; i < count; ++i) y[i] = a[i * stride_a] + b[i * stride_b];
}

// One multiply-add with a single rounding, in vectors and in the tail alike.
template <class T>
void affine_run(const T* x, T scale, T shift, T* y, std::int64_t count, bool stream) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto a = hn::Set(d, scale);
  const auto b = hn::Set(d, shift);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(hn::MulAdd(hn::LoadU(d, x + i), a, b), d, y + i, stream);
  const hn::CappedTag<T, 1> one;
  for (; i < count; ++i)
    hn::StoreU(hn::MulAdd(hn::LoadU(one, x + i), hn::Set(one, scale), hn::Set(one, shift)), one, y + i);
  if (stream) hwy::FlushStream();
}

// Sum of at most 4096 consecutive elements with 32 float32 (16 float64) running sums, whatever the vector width.
template <class T>
double sum_block(const T* x, std::int64_t count) {
  constexpr std::int64_t kSums = 64 / static_cast<std::int64_t>(sizeof(T)) * 2;
  const hn::CappedTag<T, static_cast<std::size_t>(kSums)> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN T partial[kSums] = {};
  std::int64_t i = 0;
  if (lanes * 4 == kSums) {
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (; i + kSums <= count; i += kSums) {
      s0 = hn::Add(s0, hn::LoadU(d, x + i));
      s1 = hn::Add(s1, hn::LoadU(d, x + i + lanes));
      s2 = hn::Add(s2, hn::LoadU(d, x + i + 2 * lanes));
      s3 = hn::Add(s3, hn::LoadU(d, x + i + 3 * lanes));
    }
    hn::Store(s0, d, partial);
    hn::Store(s1, d, partial + lanes);
    hn::Store(s2, d, partial + 2 * lanes);
    hn::Store(s3, d, partial + 3 * lanes);
  } else if (lanes * 2 == kSums) {
    auto s0 = hn::Zero(d), s1 = s0;
    for (; i + kSums <= count; i += kSums) {
      s0 = hn::Add(s0, hn::LoadU(d, x + i));
      s1 = hn::Add(s1, hn::LoadU(d, x + i + lanes));
    }
    hn::Store(s0, d, partial);
    hn::Store(s1, d, partial + lanes);
  } else {
    for (; i + kSums <= count; i += kSums)
      for (std::int64_t j = 0; j < kSums; j += lanes)
        hn::Store(hn::Add(hn::Load(d, partial + j), hn::LoadU(d, x + i + j)), d, partial + j);
  }
  for (std::int64_t j = 0; i < count; ++i, ++j) partial[j] += x[i];
  double total = 0;
  for (const T p : partial) total += static_cast<double>(p);
  return total;
}

// sums[j] += x[j]
template <class T>
void accumulate_run(const T* x, T* sums, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, sums + i), hn::LoadU(d, x + i)), d, sums + i);
  for (; i < count; ++i) sums[i] += x[i];
}

void add_dense_f32(const float* a, const float* b, float* y, std::int64_t n, bool stream) {
  add_dense(a, b, y, n, stream);
}
void add_dense_f64(const double* a, const double* b, double* y, std::int64_t n, bool stream) {
  add_dense(a, b, y, n, stream);
}
void add_f32(const float* a, std::int64_t sa, const float* b, std::int64_t sb, float* y, std::int64_t n) {
  add_run(a, sa, b, sb, y, n);
}
void add_f64(const double* a, std::int64_t sa, const double* b, std::int64_t sb, double* y, std::int64_t n) {
  add_run(a, sa, b, sb, y, n);
}
void affine_f32(const float* x, float a, float b, float* y, std::int64_t n, bool stream) {
  affine_run(x, a, b, y, n, stream);
}
void affine_f64(const double* x, double a, double b, double* y, std::int64_t n, bool stream) {
  affine_run(x, a, b, y, n, stream);
}
double sum_f32(const float* x, std::int64_t n) { return sum_block(x, n); }
double sum_f64(const double* x, std::int64_t n) { return sum_block(x, n); }
void accumulate_f32(const float* x, float* s, std::int64_t n) { accumulate_run(x, s, n); }
void accumulate_f64(const double* x, double* s, std::int64_t n) { accumulate_run(x, s, n); }

}  // namespace solvent::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::engine {
namespace {

HWY_EXPORT(add_dense_f32);
HWY_EXPORT(add_dense_f64);
HWY_EXPORT(add_f32);
HWY_EXPORT(add_f64);
HWY_EXPORT(affine_f32);
HWY_EXPORT(affine_f64);
HWY_EXPORT(sum_f32);
HWY_EXPORT(sum_f64);
HWY_EXPORT(accumulate_f32);
HWY_EXPORT(accumulate_f64);

constexpr std::int64_t kSumBlock = 4096;
constexpr std::int64_t kScratch = 512;
constexpr std::size_t kStreamBytes = std::size_t{32} << 20;

// Whether a fresh result of n elements is written past the caches. Blocks of kElementGrain elements keep the alignment.
template <class T>
bool worth_streaming(const T* y, std::int64_t n) noexcept {
  return static_cast<std::size_t>(n) >= kStreamBytes / sizeof(T) && reinterpret_cast<std::uintptr_t>(y) % 64 == 0;
}

void vector_add_dense(const float* a, const float* b, float* y, std::int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(add_dense_f32)(a, b, y, n, stream);
}
void vector_add_dense(const double* a, const double* b, double* y, std::int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(add_dense_f64)(a, b, y, n, stream);
}
void vector_add_dense(const std::int64_t* a, const std::int64_t* b, std::int64_t* y, std::int64_t n, bool) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}
void vector_add_dense(const BFloat16* a, const BFloat16* b, BFloat16* y, std::int64_t n, bool) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = BFloat16(a[i] + b[i]);
}

void vector_add(const float* a, std::int64_t sa, const float* b, std::int64_t sb, float* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_f32)(a, sa, b, sb, y, n);
}
void vector_add(const double* a, std::int64_t sa, const double* b, std::int64_t sb, double* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_f64)(a, sa, b, sb, y, n);
}
void vector_affine(const float* x, float a, float b, float* y, std::int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(affine_f32)(x, a, b, y, n, stream);
}
void vector_affine(const double* x, double a, double b, double* y, std::int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(affine_f64)(x, a, b, y, n, stream);
}
double vector_sum(const float* x, std::int64_t n) { return HWY_DYNAMIC_DISPATCH(sum_f32)(x, n); }
double vector_sum(const double* x, std::int64_t n) { return HWY_DYNAMIC_DISPATCH(sum_f64)(x, n); }
void vector_accumulate(const float* x, float* s, std::int64_t n) { HWY_DYNAMIC_DISPATCH(accumulate_f32)(x, s, n); }
void vector_accumulate(const double* x, double* s, std::int64_t n) { HWY_DYNAMIC_DISPATCH(accumulate_f64)(x, s, n); }

// Dense operands are the usual case and one run: no walk over axes.
template <class T>
void add_dense_typed(const T* a, const T* b, T* y, std::int64_t n) {
  const bool stream = a != y && b != y && worth_streaming(y, n);
  parallel_for(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    vector_add_dense(a + begin, b + begin, y + begin, end - begin, stream);
  });
}

template <class T>
void add_typed(const T* a, const T* b, T* y, const Loops& loops) {
  const std::int64_t sa = loops.inner_stride(0), sb = loops.inner_stride(1);
  const bool vectors = (sa == 0 || sa == 1) && (sb == 0 || sb == 1);
  parallel_runs(loops, 3, [&](const std::int64_t* offset, std::int64_t count) {
    const T* pa = a + offset[0];
    const T* pb = b + offset[1];
    T* py = y + offset[2];
    if constexpr (std::is_floating_point_v<T>) {
      if (vectors) return vector_add(pa, sa, pb, sb, py, count);
    }
    for (std::int64_t i = 0; i < count; ++i) py[i] = static_cast<T>(pa[i * sa] + pb[i * sb]);
  });
}

// The type in which elements of type T are computed.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

// y = a x + b, x with a stride.
void affine_strided(const std::int64_t* x, std::int64_t sx, std::int64_t a, std::int64_t b, std::int64_t* y,
                    std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = a * x[i * sx] + b;
}

// Through a contiguous buffer, so that all layouts give the same bits.
template <class T>
void affine_strided(const T* x, std::int64_t sx, T a, T b, T* y, std::int64_t count) {
  if (sx == 1) return vector_affine(x, a, b, y, count, false);
  T buffer[kScratch];
  for (std::int64_t i = 0; i < count; i += kScratch) {
    const std::int64_t n = std::min(kScratch, count - i);
    for (std::int64_t j = 0; j < n; ++j) buffer[j] = x[(i + j) * sx];
    vector_affine(buffer, a, b, y + i, n, false);
  }
}

// The bits of the operation in float32, rounded.
void affine_strided(const BFloat16* x, std::int64_t sx, float a, float b, BFloat16* y, std::int64_t count) {
  float buffer[kScratch];
  for (std::int64_t i = 0; i < count; i += kScratch) {
    const std::int64_t n = std::min(kScratch, count - i);
    if (sx == 1) {
      convert(x + i, buffer, n);
    } else {
      for (std::int64_t j = 0; j < n; ++j) buffer[j] = x[(i + j) * sx];
    }
    vector_affine(buffer, a, b, buffer, n, false);
    convert(buffer, y + i, n);
  }
}

template <class T>
void affine_dense_typed(const T* x, double scale, double shift, T* y, std::int64_t n) {
  const auto a = static_cast<Compute<T>>(scale), b = static_cast<Compute<T>>(shift);
  const bool stream = x != y && worth_streaming(y, n);
  parallel_for(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    if constexpr (std::is_floating_point_v<T>) {
      vector_affine(x + begin, a, b, y + begin, end - begin, stream);
    } else {
      affine_strided(x + begin, 1, a, b, y + begin, end - begin);
    }
  });
}

template <class T>
void affine_typed(const T* x, double scale, double shift, T* y, const Loops& loops) {
  const std::int64_t sx = loops.inner_stride(0);
  const auto a = static_cast<Compute<T>>(scale), b = static_cast<Compute<T>>(shift);
  parallel_runs(loops, 2, [&](const std::int64_t* offset, std::int64_t count) {
    affine_strided(x + offset[0], sx, a, b, y + offset[1], count);
  });
}

template <class F>
void dispatch_number(DType dtype, const char* op, F&& f) {
  if (dtype == DType::int64) return f(detail::TypeTag<std::int64_t>{});
  dispatch_floating(dtype, op, f);
}

// Kept and summed axes of a reduction, each merged among themselves.
struct Reduction {
  Loops kept;     // operand 0: input, operand 1: output
  Loops reduced;  // operand 0: input
};

Reduction plan(const Tensor& x, const Tensor& y) {
  Shape kept, reduced;
  Strides kept_in, kept_out, reduced_in;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (y.shape()[axis] == x.shape()[axis]) {
      kept.push_back(x.shape()[axis]);
      kept_in.push_back(x.strides()[axis]);
      kept_out.push_back(y.strides()[axis]);
    } else {
      reduced.push_back(x.shape()[axis]);
      reduced_in.push_back(x.strides()[axis]);
    }
  }
  const Strides* both[] = {&kept_in, &kept_out};
  const Strides* in[] = {&reduced_in};
  return {merge_axes(kept, both, 2), merge_axes(reduced, in, 1)};
}

// n elements in the type of sums: themselves, or converted into the buffer.
template <class T>
const T* as_computed(const T* x, T*, std::int64_t) noexcept {
  return x;
}
const float* as_computed(const BFloat16* x, float* buffer, std::int64_t n) {
  convert(x, buffer, n);
  return buffer;
}

template <class T>
double sum_strided(const T* x, std::int64_t stride, std::int64_t count) {
  double total = 0;
  if constexpr (std::is_floating_point_v<T>) {
    if (stride == 1) {
      for (std::int64_t i = 0; i < count; i += kSumBlock) total += vector_sum(x + i, std::min(kSumBlock, count - i));
      return total;
    }
  }
  Compute<T> buffer[kScratch];
  for (std::int64_t i = 0; i < count; i += kScratch) {
    const std::int64_t n = std::min(kScratch, count - i);
    if (std::is_same_v<T, BFloat16> && stride == 1) {
      as_computed(x + i, buffer, n);
    } else {
      for (std::int64_t j = 0; j < n; ++j) buffer[j] = x[(i + j) * stride];
    }
    total += vector_sum(buffer, n);
  }
  return total;
}

// Sum over all reduced axes starting at x.
template <class T>
double sum_all(const T* x, const Loops& reduced) {
  double total = 0;
  for (std::int64_t run = 0; run < reduced.outer(); ++run) {
    std::int64_t offset = 0;
    run_offsets(reduced, run, 1, &offset);
    total += sum_strided(x + offset, reduced.inner_stride(0), reduced.inner());
  }
  return total;
}

// One long contiguous or strided run to one number: blocks in parallel, added in order.
template <class T>
double sum_long(const T* x, std::int64_t stride, std::int64_t count) {
  constexpr std::int64_t kPart = 16 * kSumBlock;
  const std::int64_t parts = (count + kPart - 1) / kPart;
  std::vector<double> partial(static_cast<std::size_t>(parts));
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p)
      partial[static_cast<std::size_t>(p)] =
          sum_strided(x + p * kPart * stride, stride, std::min(kPart, count - p * kPart));
  });
  double total = 0;
  for (const double p : partial) total += p;
  return total;
}

// Columns: kept axis contiguous, rows summed. Rows are added into float32 sums for at most 64 rows, then into float64.
template <class T>
void sum_columns(const T* x, const Loops& reduced, std::int64_t first_row, std::int64_t last_row, std::int64_t columns,
                 double* sums) {
  constexpr std::int64_t kRows = 64;
  Compute<T> block[kScratch];
  Compute<T> buffer[kScratch];
  for (std::int64_t row = first_row; row < last_row; row += kRows) {
    std::fill_n(block, columns, Compute<T>(0));
    for (std::int64_t r = row; r < std::min(row + kRows, last_row); ++r) {
      std::int64_t offset = 0;
      std::int64_t index = r;
      for (int axis = reduced.rank - 1; axis >= 0; --axis) {
        offset += index % reduced.extent[axis] * reduced.stride[0][axis];
        index /= reduced.extent[axis];
      }
      vector_accumulate(as_computed(x + offset, buffer, columns), block, columns);
    }
    for (std::int64_t j = 0; j < columns; ++j) sums[j] += static_cast<double>(block[j]);
  }
}

template <class T>
void sum_to_columns(const T* x, T* y, const Reduction& r) {
  constexpr std::int64_t kRowsPerTask = 8192;
  const std::int64_t columns = r.kept.inner(), rows = r.reduced.total;
  const std::int64_t row_tasks = std::max<std::int64_t>(1, (rows + kRowsPerTask - 1) / kRowsPerTask);
  const std::int64_t column_tasks = (columns + kScratch - 1) / kScratch;
  const std::int64_t outer = r.kept.outer();
  std::vector<double> partial(static_cast<std::size_t>(outer * row_tasks * columns), 0.0);
  const std::int64_t work = std::max<std::int64_t>(1, std::min(rows, kRowsPerTask) * std::min(columns, kScratch));
  parallel_for(outer * row_tasks * column_tasks, std::max<std::int64_t>(1, kElementGrain / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t task = begin; task < end; ++task) {
                   const std::int64_t column = task % column_tasks * kScratch;
                   const std::int64_t part = task / column_tasks % row_tasks;
                   const std::int64_t group = task / column_tasks / row_tasks;
                   std::int64_t offset[2];
                   run_offsets(r.kept, group, 2, offset);
                   sum_columns(x + offset[0] + column, r.reduced, part * kRowsPerTask,
                               std::min(rows, (part + 1) * kRowsPerTask), std::min(kScratch, columns - column),
                               partial.data() + (group * row_tasks + part) * columns + column);
                 }
               });
  for (std::int64_t group = 0; group < outer; ++group) {
    std::int64_t offset[2];
    run_offsets(r.kept, group, 2, offset);
    for (std::int64_t j = 0; j < columns; ++j) {
      double total = 0;
      for (std::int64_t part = 0; part < row_tasks; ++part)
        total += partial[static_cast<std::size_t>((group * row_tasks + part) * columns + j)];
      y[offset[1] + j] = static_cast<T>(total);
    }
  }
}

template <class T>
void sum_to_typed(const T* x, T* y, const Reduction& r) {
  if (r.kept.total == 0) return;
  if (r.reduced.total == 0) {
    std::fill_n(y, r.kept.total, T(0));  // y is dense
    return;
  }
  if (r.kept.total == 1 && r.reduced.outer() == 1) {
    *y = static_cast<T>(sum_long(x, r.reduced.inner_stride(0), r.reduced.inner()));
    return;
  }
  const bool columns = r.kept.inner_stride(0) == 1 && r.kept.inner() > 1 && r.reduced.inner_stride(0) != 1;
  if (columns) return sum_to_columns(x, y, r);
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / std::max<std::int64_t>(1, r.reduced.total));
  parallel_for(r.kept.total, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::int64_t offset[2];
      run_offsets(r.kept, i / r.kept.inner(), 2, offset);
      const std::int64_t j = i % r.kept.inner();
      const T* from = x + offset[0] + j * r.kept.inner_stride(0);
      y[offset[1] + j * r.kept.inner_stride(1)] = static_cast<T>(sum_all(from, r.reduced));
    }
  });
}

#if SOLVENT_WITH_CUDA
bool is_on_gpu(const Tensor& t) noexcept { return t.impl()->device.type == DeviceType::cuda; }
#endif

}  // namespace

Tensor add(Tensor& a, Tensor& b) {
#if SOLVENT_WITH_CUDA
  if (is_on_gpu(a)) return cuda::add(a, b);
#endif
  Tensor y;
  dispatch_number(a.dtype(), "add", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* pa = ptr<T>(a);
    const T* pb = ptr<T>(b);
    if (a.is_contiguous() && b.is_contiguous()) {
      const std::int64_t n = a.numel();
      if (can_donate(a)) {
        y = std::move(a);
      } else if (can_donate(b)) {
        y = std::move(b);
      } else {
        y = empty(a.shape(), dtype_of<T>, a.device());
      }
      return add_dense_typed<T>(pa, pb, mutable_ptr<T>(y), n);
    }
    const Strides sa = a.strides(), sb = b.strides();
    const Shape shape = a.shape();
    Tensor& reuse = can_donate(a) ? a : b;
    y = take_or_empty(reuse, shape, dtype_of<T>);
    const Strides* strides[] = {&sa, &sb, &y.strides()};
    add_typed<T>(pa, pb, mutable_ptr<T>(y), merge_axes(shape, strides, 3));
  });
  return y;
}

Tensor affine(Tensor& x, double scale, double shift) {
#if SOLVENT_WITH_CUDA
  if (is_on_gpu(x)) return cuda::affine(x, scale, shift);
#endif
  Tensor y;
  dispatch_number(x.dtype(), "affine", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* px = ptr<T>(x);
    if (x.is_contiguous()) {
      const std::int64_t n = x.numel();
      y = can_donate(x) ? std::move(x) : empty(x.shape(), dtype_of<T>, x.device());
      return affine_dense_typed<T>(px, scale, shift, mutable_ptr<T>(y), n);
    }
    const Strides sx = x.strides();
    const Shape shape = x.shape();
    y = take_or_empty(x, shape, dtype_of<T>);
    const Strides* strides[] = {&sx, &y.strides()};
    affine_typed<T>(px, scale, shift, mutable_ptr<T>(y), merge_axes(shape, strides, 2));
  });
  return y;
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
#if SOLVENT_WITH_CUDA
  if (is_on_gpu(x)) return cuda::sum_to(x, shape);
#endif
  Tensor y = empty(shape, x.dtype(), x.device());
  const Reduction r = plan(x, y);
  if (x.dtype() == DType::int64) {
    const auto* px = ptr<std::int64_t>(x);
    auto* py = mutable_ptr<std::int64_t>(y);
    for (std::int64_t i = 0; i < r.kept.total; ++i) {
      std::int64_t offset[2];
      run_offsets(r.kept, i / r.kept.inner(), 2, offset);
      const std::int64_t j = i % r.kept.inner();
      std::int64_t total = 0;
      for (std::int64_t k = 0; k < r.reduced.total; ++k) {
        std::int64_t at = 0;
        run_offsets(r.reduced, k / r.reduced.inner(), 1, &at);
        total += px[offset[0] + j * r.kept.inner_stride(0) + at + k % r.reduced.inner() * r.reduced.inner_stride(0)];
      }
      py[offset[1] + j * r.kept.inner_stride(1)] = total;
    }
    return y;
  }
  dispatch_floating(x.dtype(), "sum", [&](auto tag) {
    using T = typename decltype(tag)::type;
    sum_to_typed<T>(ptr<T>(x), mutable_ptr<T>(y), r);
  });
  return y;
}

}  // namespace solvent::engine
#endif  // HWY_ONCE
