// conv_weight_grad as an implicit product (see conv_tile.h): per group
//
//     w (rows = O, columns = C taps) = g (O, positions) * columns^T (positions, C taps)
//
// over the positions of all images. There are few results and many addends, so positions are cut into parts of fixed length,
// by sizes only; a second kernel adds the parts in order. Bound by arithmetic. Filters of few rows or columns (depthwise)
// and extents beyond 2^29 use one block per weight, bound by reads of the cache.

#include <algorithm>
#include <cstdint>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/conv.h"
#include "solvent/ops/cuda/conv_tile.h"
#include "solvent/ops/cuda/planes.h"

namespace solvent::cuda {
namespace {

constexpr std::int64_t kFew = 8;             // rows or columns that are not worth a tile
constexpr std::int64_t kWantedTiles = 528;   // of all parts together: four for each multiprocessor of an H200
constexpr std::int64_t kLeastPart = 256;     // positions
constexpr std::int64_t kMostPart = 1 << 14;  // positions, unless parts would take too much memory
constexpr std::int64_t kPartBytes = std::int64_t{256} << 20;

template <class T>
struct WeightCall {
  const T* x;
  const T* g;
  T* w;  // part by part
  cpu::ConvAxis h_axis, w_axis;
  std::int64_t groups, images;
  std::int64_t rows, columns;    // of the filters of a group
  std::int64_t channels;         // of x, per group
  std::int64_t positions, part;  // of all images, and of one part
  std::int64_t parts, row_tiles, column_tiles, tiles;
  PlaneIndex index;  // of positions

  [[nodiscard]] __device__ std::int64_t map() const { return h_axis.in * w_axis.in; }
  [[nodiscard]] __device__ std::int64_t result() const { return h_axis.out * w_axis.out; }
};

// --- tiles ----------------------------------------------------------------------------------------------------------------

// One position of the filter.
struct Position {
  std::int64_t x;  // offset in the maps of its first tap
  std::int64_t g;  // offset in the results, -1 beyond the last one
  int h, w;        // row and column of its first tap
};

// One column of the filters: a channel and a tap.
struct FilterColumn {
  std::int64_t x;
  int h, w;
};

template <class T>
struct WeightOperands {
  using P = Panels<T, 1>;
  const WeightCall<T>& call;
  Position (&positions)[2][P::kDepth];
  std::int64_t begin, end;  // of the part
  const T* x;               // of the group
  const T* g;               // of the tile's first row
  std::int64_t rows;
  FilterColumn columns[P::kLoads];

  __device__ void set_columns(std::int64_t first) {
    SOLVENT_UNROLL
    for (int r = 0; r < P::kLoads; ++r) {
      const std::int64_t n = first + by_depth_row<P>(r);
      if (n >= call.columns) {
        columns[r] = {0, kOutside, kOutside};
        continue;
      }
      const std::int64_t line = n / call.w_axis.kernel;
      const std::int64_t channel = line / call.h_axis.kernel;
      const std::int64_t dh = (line - channel * call.h_axis.kernel) * call.h_axis.dilation;
      const std::int64_t dw = (n - line * call.w_axis.kernel) * call.w_axis.dilation;
      columns[r] = {channel * call.map() + dh * call.w_axis.in + dw, static_cast<int>(dh), static_cast<int>(dw)};
    }
  }

  __device__ void prepare(std::int64_t step, int slot) {
    const int k = static_cast<int>(threadIdx.x);
    if (k >= P::kDepth) return;
    const std::int64_t p = begin + step * P::kDepth + k;
    if (p >= end) {
      positions[slot][k] = {0, -1, kOutside, kOutside};
      return;
    }
    std::int64_t image = 0;
    std::int64_t row = 0;
    std::int64_t column = 0;
    call.index.locate(p, image, row, column);
    const std::int64_t h = row * call.h_axis.stride - call.h_axis.before;
    const std::int64_t w = column * call.w_axis.stride - call.w_axis.before;
    positions[slot][k] = {image * call.groups * call.channels * call.map() + h * call.w_axis.in + w,
                          image * call.groups * call.rows * call.result() + row * call.w_axis.out + column,
                          static_cast<int>(h), static_cast<int>(w)};
  }

  __device__ void load(int slot, T* a, T* b) const {
    const Position at = positions[slot][by_depth_k<P>()];
    const auto height = static_cast<unsigned>(call.h_axis.in);
    const auto width = static_cast<unsigned>(call.w_axis.in);
    SOLVENT_UNROLL
    for (int r = 0; r < P::kLoads; ++r) {
      const int m = by_depth_row<P>(r);
      a[r] = at.g >= 0 && m < rows ? g[m * call.result() + at.g] : T{0};
      const FilterColumn& n = columns[r];
      const bool inside = static_cast<unsigned>(at.h + n.h) < height && static_cast<unsigned>(at.w + n.w) < width;
      b[r] = inside ? x[at.x + n.x] : T{0};
    }
  }

  __device__ void place(P& panels, int slot, const T* a, const T* b) const {
    SOLVENT_UNROLL
    for (int r = 0; r < P::kLoads; ++r) {
      panels.a[slot][by_depth_k<P>()][by_depth_row<P>(r)] = a[r];
      panels.b[slot][by_depth_k<P>()][by_depth_row<P>(r)] = b[r];
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kTileThreads) weight_tiles_kernel(WeightCall<T> call) {
  using P = Panels<T, 1>;
  __shared__ P panels;
  __shared__ Position positions[2][P::kDepth];
  for (std::int64_t t = blockIdx.x; t < call.tiles; t += gridDim.x) {
    const std::int64_t column = t % call.column_tiles * P::kSize;
    std::int64_t rest = t / call.column_tiles;
    const std::int64_t row = rest % call.row_tiles * P::kSize;
    rest /= call.row_tiles;
    const std::int64_t group = rest % call.groups;
    const std::int64_t part = rest / call.groups;
    const std::int64_t begin = part * call.part;
    const std::int64_t end = begin + call.part < call.positions ? begin + call.part : call.positions;
    WeightOperands<T> operands{call,
                               positions,
                               begin,
                               end,
                               call.x + group * call.channels * call.map(),
                               call.g + (group * call.rows + row) * call.result(),
                               call.rows - row,
                               {}};
    operands.set_columns(column);
    T sum[P::kPerThread][P::kPerThread] = {};
    accumulate<T, 1>(panels, operands, end - begin, sum);
    T* const w = call.w + (part * call.groups + group) * call.rows * call.columns;
    SOLVENT_UNROLL
    for (int i = 0; i < P::kPerThread; ++i) {
      const std::int64_t m = row + tile_row(i);
      SOLVENT_UNROLL
      for (int j = 0; j < P::kPerThread; ++j) {
        const std::int64_t n = column + tile_column(j);
        if (m < call.rows && n < call.columns) w[m * call.columns + n] = sum[i][j];
      }
    }
  }
}

template <class T>
__global__ void add_parts_kernel(const T* partial, T* w, std::int64_t parts, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    double total = 0;
    for (std::int64_t part = 0; part < parts; ++part) total += static_cast<double>(partial[part * n + i]);
    w[i] = static_cast<T>(total);
  }
}

// --- one block per weight ---------------------------------------------------------------------------------------------------

template <class T>
__global__ void weight_each_kernel(WeightCall<T> call, std::int64_t weights) {
  for (std::int64_t item = blockIdx.x; item < weights; item += gridDim.x) {
    std::int64_t rest = item / call.w_axis.kernel;
    const std::int64_t dw = (item - rest * call.w_axis.kernel) * call.w_axis.dilation - call.w_axis.before;
    const std::int64_t dh = rest % call.h_axis.kernel * call.h_axis.dilation - call.h_axis.before;
    rest /= call.h_axis.kernel;
    const std::int64_t o = rest / call.channels;
    const std::int64_t c = o / call.rows * call.channels + rest % call.channels;
    const T* const x = call.x + c * call.map();
    const T* const g = call.g + o * call.result();
    double total = 0;
    for (std::int64_t p = threadIdx.x; p < call.positions; p += blockDim.x) {
      std::int64_t image = 0;
      std::int64_t row = 0;
      std::int64_t column = 0;
      call.index.locate(p, image, row, column);
      const std::int64_t h = row * call.h_axis.stride + dh;
      const std::int64_t w = column * call.w_axis.stride + dw;
      if (h < 0 || h >= call.h_axis.in || w < 0 || w >= call.w_axis.in) continue;
      const T at_x = x[image * call.groups * call.channels * call.map() + h * call.w_axis.in + w];
      const T at_g = g[image * call.groups * call.rows * call.result() + row * call.w_axis.out + column];
      total += static_cast<double>(at_x) * static_cast<double>(at_g);
    }
    total = block_fold(total, 0.0, Plus{});
    if (threadIdx.x == 0) call.w[item] = static_cast<T>(total);
  }
}

// --- calls ------------------------------------------------------------------------------------------------------------------

std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

// Sets the cut of positions into parts.
template <class T>
void cut(WeightCall<T>& call, std::int64_t weights) {
  const std::int64_t tiles = call.row_tiles * call.column_tiles * call.groups;
  const std::int64_t most = std::max<std::int64_t>(kPartBytes / (weights * static_cast<std::int64_t>(sizeof(T))), 1);
  const std::int64_t wanted = std::max(ceil_div(kWantedTiles, tiles), ceil_div(call.positions, kMostPart));
  const std::int64_t parts = std::min({wanted, ceil_div(call.positions, kLeastPart), most});
  call.part = ceil_div(ceil_div(call.positions, parts), 16) * 16;
  call.parts = ceil_div(call.positions, call.part);
  call.tiles = tiles * call.parts;
}

bool fits(const cpu::ConvAxis& a) noexcept {
  return (a.in + a.out) * a.stride + a.before + a.after + a.kernel * a.dilation < kMaxTileExtent;
}

}  // namespace

template <class T>
void own_conv_weight_grad(const cpu::ConvShape& s, const T* x, const T* g, T* w, Device device) {
  WeightCall<T> call{};
  call.x = x;
  call.g = g;
  call.w = w;
  call.h_axis = s.g.h;
  call.w_axis = s.g.w;
  call.groups = s.g.groups;
  call.images = s.n;
  call.rows = s.group_o();
  call.columns = s.group_c() * s.taps();
  call.channels = s.group_c();
  call.positions = s.n * s.result();
  call.index = PlaneIndex(call.positions, s.g.h.out, s.g.w.out);
  const std::int64_t weights = s.weights();
  if (std::min(call.rows, call.columns) < kFew || !fits(s.g.h) || !fits(s.g.w))
    return launch(over_blocks("conv_weight_grad", weights, device), weight_each_kernel<T>, call, weights);
  call.row_tiles = ceil_div(call.rows, Panels<T, 1>::kSize);
  call.column_tiles = ceil_div(call.columns, Panels<T, 1>::kSize);
  cut(call, weights);
  Tensor partial;
  if (call.parts > 1) {
    partial = engine::empty(Shape{call.parts * weights}, dtype_of<T>, device);
    call.w = engine::mutable_ptr<T>(partial);
  }
  launch(over_blocks("conv_weight_grad", call.tiles, device, kTileThreads), weight_tiles_kernel<T>, call);
  if (call.parts > 1)
    launch(over_elements("conv_weight_grad", weights, device), add_parts_kernel<T>, call.w, w, call.parts, weights);
}

#define SOLVENT_INSTANTIATE(T) \
  template void own_conv_weight_grad(const cpu::ConvShape&, const T*, const T*, T*, Device);
SOLVENT_INSTANTIATE(float)
SOLVENT_INSTANTIATE(double)
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cuda
