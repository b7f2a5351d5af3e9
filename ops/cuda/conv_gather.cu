// conv and conv_input_grad as implicit products (see conv_gather.h and conv_tile.h): per group
//
//     result (rows, columns) = filters (rows, channels * taps) * columns (channels * taps, columns)
//
// with one column per image and position; columns are made in shared memory from the maps and never exist elsewhere. Bound
// by arithmetic: 128 x 128 tiles for many float rows, else 64 x 64. Groups of few rows (depthwise) and extents beyond 2^29
// use one thread per result, bound by reads of the cache.

#include <cstdint>
#include <type_traits>

#include "solvent/ops/cuda/conv.h"
#include "solvent/ops/cuda/conv_gather.h"
#include "solvent/ops/cuda/conv_tile.h"

namespace solvent::cuda {
namespace {

constexpr std::int64_t kFewRows = 8;

// --- tiles ----------------------------------------------------------------------------------------------------------------

// What a tile does with one pair (channel, tap).
struct Tap {
  std::int64_t source;  // offset in the maps
  std::int64_t filter;  // offset in the filters, -1 beyond the last one
  int h, w;             // offset in rows and columns
};

// The image and result of one column of a class.
struct Column {
  std::int64_t image, h, w;
  __device__ Column(const Walk& rows, const Walk& columns, std::int64_t number) {
    const std::int64_t line = number / columns.results;
    w = number - line * columns.results;
    image = line / rows.results;
    h = line - image * rows.results;
  }
};

template <class T, int kQuads>
struct GatherOperands {
  using P = Panels<T, kQuads>;
  const GatherCall<T>& call;
  const Walk& h;
  const Walk& w;
  Tap (&taps)[2][P::kDepth];
  std::int64_t depth;
  const T* filter;  // of the tile's first row
  std::int64_t rows;
  const T* source;  // of this thread's column: where its first tap would be
  int row, column;  // of the source; kOutside if there is no such column

  __device__ void prepare(std::int64_t step, int slot) {
    const int k = static_cast<int>(threadIdx.x);
    if (k >= P::kDepth) return;
    const std::int64_t at = step * P::kDepth + k;
    if (at >= depth) {
      taps[slot][k] = {0, -1, kOutside, kOutside};
      return;
    }
    const std::int64_t line = at / w.taps;
    const std::int64_t j = at - line * w.taps;
    const std::int64_t channel = line / h.taps;
    const std::int64_t i = line - channel * h.taps;
    const std::int64_t dh = i * h.tap_step;
    const std::int64_t dw = j * w.tap_step;
    taps[slot][k] = {channel * call.source_plane() + dh * call.w.source + dw,
                     channel * call.filter_channel + (h.first_tap + i * h.tap_stride) * call.w.kernel + w.first_tap +
                         j * w.tap_stride,
                     static_cast<int>(dh), static_cast<int>(dw)};
  }

  __device__ void load(int slot, T* a, T* b) const {
    const std::int64_t offset = taps[slot][by_depth_k<P>()].filter;
    SOLVENT_UNROLL
    for (int r = 0; r < P::kLoads; ++r) {
      const int m = by_depth_row<P>(r);
      a[r] = offset >= 0 && m < rows ? filter[m * call.filter_row + offset] : T{0};
    }
    const auto height = static_cast<unsigned>(call.h.source);
    const auto width = static_cast<unsigned>(call.w.source);
    SOLVENT_UNROLL
    for (int r = 0; r < P::kLoads; ++r) {
      const Tap tap = taps[slot][by_row_k<P>(r)];
      const bool inside = static_cast<unsigned>(row + tap.h) < height && static_cast<unsigned>(column + tap.w) < width;
      b[r] = inside ? source[tap.source] : T{0};
    }
  }

  __device__ void place(P& panels, int slot, const T* a, const T* b) const {
    SOLVENT_UNROLL
    for (int r = 0; r < P::kLoads; ++r) {
      panels.a[slot][by_depth_k<P>()][by_depth_row<P>(r)] = a[r];
      panels.b[slot][by_row_k<P>(r)][by_row_row<P>()] = b[r];
    }
  }
};

// Writes this thread's quads of one row of results.
template <class T>
__device__ void write_row(const GatherCall<T>& call, const Walk& h, const Walk& w, std::int64_t first,
                          std::int64_t columns, T* result, std::int64_t image_step, const T* sum, int quad) {
  const std::int64_t number = first + tile_column(quad);
  if (number >= columns) return;
  if (call.packed) {  // columns of one image are in order of memory, and quads do not straddle images
    const std::int64_t plane = call.result_plane();
    const std::int64_t image = number / plane;
    store_quad(sum + quad, result + image * image_step + (number - image * plane));
    return;
  }
  for (int j = 0; j < 4 && number + j < columns; ++j) {
    const Column at(h, w, number + j);
    result[at.image * image_step + (h.first_result + at.h * h.result_step) * call.w.result + w.first_result +
           at.w * w.result_step] = sum[quad + j];
  }
}

template <class T, int kQuads, bool kAdjoint>
__global__ void __launch_bounds__(kTileThreads) gather_tiles_kernel(GatherCall<T> call) {
  using P = Panels<T, kQuads>;
  __shared__ P panels;
  __shared__ Tap taps[2][P::kDepth];
  for (std::int64_t t = blockIdx.x; t < call.tiles; t += gridDim.x) {
    std::int64_t rest = t / call.row_tiles;
    const std::int64_t row = (t - rest * call.row_tiles) * P::kSize;
    const std::int64_t first = rest % call.column_tiles * P::kSize;
    rest /= call.column_tiles;
    const std::int64_t group = rest % call.groups;
    const std::int64_t number = rest / call.groups;  // of the class
    const Walk h = call.h.template walk<kAdjoint>(number / call.w.classes);
    const Walk w = call.w.template walk<kAdjoint>(number % call.w.classes);
    const std::int64_t columns = call.images * h.results * w.results;
    if (first >= columns) continue;  // a class with fewer results than the largest one
    const std::int64_t mine = first + by_row_row<P>();
    const Column at(h, w, mine < columns ? mine : 0);
    const std::int64_t base_h = h.first + at.h * h.step;
    const std::int64_t base_w = w.first + at.w * w.step;
    GatherOperands<T, kQuads> operands{call,
                                       h,
                                       w,
                                       taps,
                                       call.channels * h.taps * w.taps,
                                       call.filter + group * call.filter_group + row * call.filter_row,
                                       call.rows - row,
                                       call.source +
                                           (at.image * call.groups + group) * call.channels * call.source_plane() +
                                           base_h * call.w.source + base_w,
                                       mine < columns ? static_cast<int>(base_h) : kOutside,
                                       mine < columns ? static_cast<int>(base_w) : kOutside};
    T sum[P::kPerThread][P::kPerThread] = {};
    accumulate<T, kQuads>(panels, operands, operands.depth, sum);
    const std::int64_t image_step = call.groups * call.rows * call.result_plane();
    SOLVENT_UNROLL
    for (int i = 0; i < P::kPerThread; ++i) {
      const std::int64_t m = row + tile_row(i);
      T* const result = call.result + (group * call.rows + m) * call.result_plane();
      SOLVENT_UNROLL
      for (int quad = 0; quad < P::kPerThread; quad += 4)
        if (m < call.rows) write_row(call, h, w, first, columns, result, image_step, sum[i], quad);
    }
  }
}

// --- one thread per result --------------------------------------------------------------------------------------------------

template <class T, bool kAdjoint>
__global__ void gather_each_kernel(GatherCall<T> call, std::int64_t n) {
  for (std::int64_t e = global_thread(); e < n; e += grid_threads()) {
    std::int64_t rest = e / call.w.result;
    const std::int64_t result_w = e - rest * call.w.result;
    const std::int64_t result_h = rest % call.h.result;
    rest /= call.h.result;  // (image * groups + group) * rows + row
    const std::int64_t image_group = rest / call.rows;
    const Walk h = call.h.template walk<kAdjoint>(result_h % call.h.classes);
    const Walk w = call.w.template walk<kAdjoint>(result_w % call.w.classes);
    const std::int64_t base_h = h.first + result_h / call.h.classes * h.step;
    const std::int64_t base_w = w.first + result_w / call.w.classes * w.step;
    const T* const filter = call.filter + image_group % call.groups * call.filter_group +
                            rest % call.rows * call.filter_row + h.first_tap * call.w.kernel + w.first_tap;
    const T* const source = call.source + image_group * call.channels * call.source_plane();
    T sum{0};
    for (std::int64_t c = 0; c < call.channels; ++c)
      for (std::int64_t i = 0; i < h.taps; ++i) {
        const std::int64_t at_h = base_h + i * h.tap_step;
        if (at_h < 0 || at_h >= call.h.source) continue;
        const T* const from = source + c * call.source_plane() + at_h * call.w.source;
        const T* const weights = filter + c * call.filter_channel + i * h.tap_stride * call.w.kernel;
        for (std::int64_t j = 0; j < w.taps; ++j) {
          const std::int64_t at_w = base_w + j * w.tap_step;
          if (at_w >= 0 && at_w < call.w.source) sum += weights[j * w.tap_stride] * from[at_w];
        }
      }
    call.result[e] = sum;
  }
}

// --- calls ------------------------------------------------------------------------------------------------------------------

template <class T, int kQuads, bool kAdjoint>
void launch_tiles(const char* name, GatherCall<T>& call, Device device) {
  constexpr std::int64_t kSize = Panels<T, kQuads>::kSize;
  call.row_tiles = (call.rows + kSize - 1) / kSize;
  call.column_tiles = (call.images * call.h.most_results() * call.w.most_results() + kSize - 1) / kSize;
  call.tiles = call.row_tiles * call.column_tiles * call.groups * call.h.classes * call.w.classes;
  const bool in_order = call.h.classes == 1 && call.w.classes == 1;
  call.packed = in_order && call.h.result * call.w.result % 4 == 0 && is_aligned(call.result);
  launch(over_blocks(name, call.tiles, device, kTileThreads), gather_tiles_kernel<T, kQuads, kAdjoint>, call);
}

template <class T, bool kAdjoint>
void run_gather(const char* name, GatherCall<T>& call, Device device) {
  const bool fits = call.h.reach() < kMaxTileExtent && call.w.reach() < kMaxTileExtent;
  if (call.rows < kFewRows || !fits) {
    const std::int64_t n = call.images * call.groups * call.rows * call.h.result * call.w.result;
    return launch(over_elements(name, n, device), gather_each_kernel<T, kAdjoint>, call, n);
  }
  if constexpr (std::is_same_v<T, float>) {
    // Large tiles where they are mostly full and there are enough for every multiprocessor: the bits are the same.
    const std::int64_t columns = call.images * call.h.result * call.w.result;
    const std::int64_t large = (call.rows + 127) / 128 * ((columns + 127) / 128) * call.groups;
    if (call.rows > 96 && large >= multiprocessors(device)) return launch_tiles<T, 2, kAdjoint>(name, call, device);
  }
  launch_tiles<T, 1, kAdjoint>(name, call, device);
}

// The filters are (O, C, taps) in each group: the adjoint gives C channels for O.
template <class T, bool kAdjoint>
void gather(const char* name, const cpu::ConvShape& s, const T* source, const T* filter, T* result, Device device) {
  const std::int64_t per_output = s.group_c() * s.taps();
  GatherCall<T> call{};
  call.source = source;
  call.filter = filter;
  call.result = result;
  call.h = GatherAxis(s.g.h, kAdjoint);
  call.w = GatherAxis(s.g.w, kAdjoint);
  call.images = s.n;
  call.groups = s.g.groups;
  call.rows = kAdjoint ? s.group_c() : s.group_o();
  call.channels = kAdjoint ? s.group_o() : s.group_c();
  call.filter_row = kAdjoint ? s.taps() : per_output;
  call.filter_channel = kAdjoint ? per_output : s.taps();
  call.filter_group = s.group_o() * per_output;
  run_gather<T, kAdjoint>(name, call, device);
}

}  // namespace

template <class T>
void own_conv(const cpu::ConvShape& s, const T* x, const T* w, T* y, Device device) {
  gather<T, false>("conv", s, x, w, y, device);
}

template <class T>
void own_conv_input_grad(const cpu::ConvShape& s, const T* g, const T* w, T* x, Device device) {
  gather<T, true>("conv_input_grad", s, g, w, x, device);
}

#define SOLVENT_INSTANTIATE(T)                                                   \
  template void own_conv(const cpu::ConvShape&, const T*, const T*, T*, Device); \
  template void own_conv_input_grad(const cpu::ConvShape&, const T*, const T*, T*, Device);
SOLVENT_INSTANTIATE(float)
SOLVENT_INSTANTIATE(double)
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cuda
