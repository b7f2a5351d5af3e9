// Convolutions as matrix products on unfolded maps (Chellapilla et al. 2006).
//
// For one image and group, with K = C/groups kh kw and a block of P result positions (whole rows of the result):
//
//     columns (K, P): columns[(c, i, j), p] = x[c, position p of the filter, tap (i, j)], 0 outside the map
//     conv:         y (O, P)   = W (O, K) columns
//     input_grad:   columns    = W^T g (O, P), then every column is added to where it was taken from
//     weight_grad:  W         += g columns^T
//
// Blocks keep the columns in L2; 1x1 filters of stride 1 without padding use the map itself.
//
// Parallel pieces write to separate results: conv (image, group, block), input_grad (image, group, channels), weight_grad
// (group, channels). Only weight_grad with few channels also splits the batch, into at most kBatchParts parts that are
// added in order. All cuts depend on sizes only; the products are engine::gemm's, whose bits do not depend on threads.

#include <algorithm>
#include <cstring>

#include "solvent/core/engine/gemm.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/conv_kernels.h"
#include "solvent/ops/cpu/conv_scratch.h"

namespace solvent::cpu {
namespace {

constexpr std::int64_t kColumnElements = 1 << 16;  // 256 or 512 KiB
constexpr std::int64_t kColumnRows = 128;          // of a block of channels, about
constexpr std::int64_t kBatchParts = 8;
constexpr double kPieceWork = 1 << 18;  // multiply-adds of a parallel piece, at least

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

bool is_pointwise(const ConvAxis& a) noexcept {
  return a.kernel == 1 && a.stride == 1 && a.before == 0 && a.in == a.out;
}

// Rows [begin, end) of the result.
struct Rows {
  std::int64_t begin;
  std::int64_t end;
};

// The result positions q for which q * stride + shift lies in [0, in).
struct Range {
  std::int64_t begin;
  std::int64_t end;
};

Range inside(const ConvAxis& a, std::int64_t shift) noexcept {
  const std::int64_t begin = shift >= 0 ? 0 : ceil_div(-shift, a.stride);
  const std::int64_t end = shift >= a.in ? 0 : (a.in - 1 - shift) / a.stride + 1;
  return {std::min(begin, a.out), std::max(std::min(begin, a.out), std::min(end, a.out))};
}

// columns (channels * taps, rows * W') of `channels` planes of x.
template <class T>
void unfold(const ConvGeometry& g, const T* x, std::int64_t channels, Rows rows, T* columns) noexcept {
  const std::int64_t width = g.w.out;
  for (std::int64_t c = 0; c < channels; ++c, x += g.h.in * g.w.in) {
    for (std::int64_t i = 0; i < g.h.kernel; ++i) {
      for (std::int64_t j = 0; j < g.w.kernel; ++j) {
        const std::int64_t shift = j * g.w.dilation - g.w.before;
        const Range valid = inside(g.w, shift);
        for (std::int64_t r = rows.begin; r < rows.end; ++r, columns += width) {
          const std::int64_t row = r * g.h.stride - g.h.before + i * g.h.dilation;
          if (row < 0 || row >= g.h.in) {
            std::fill_n(columns, width, T{0});
            continue;
          }
          const T* from = x + row * g.w.in;
          std::fill(columns, columns + valid.begin, T{0});
          if (g.w.stride == 1) {
            std::copy(from + valid.begin + shift, from + valid.end + shift, columns + valid.begin);
          } else {
            for (std::int64_t q = valid.begin; q < valid.end; ++q) columns[q] = from[q * g.w.stride + shift];
          }
          std::fill(columns + valid.end, columns + width, T{0});
        }
      }
    }
  }
}

// The adjoint of unfold: adds columns to x.
template <class T>
void fold(const ConvGeometry& g, const T* columns, std::int64_t channels, Rows rows, T* x) noexcept {
  for (std::int64_t c = 0; c < channels; ++c, x += g.h.in * g.w.in) {
    for (std::int64_t i = 0; i < g.h.kernel; ++i) {
      for (std::int64_t j = 0; j < g.w.kernel; ++j) {
        const std::int64_t shift = j * g.w.dilation - g.w.before;
        const Range valid = inside(g.w, shift);
        for (std::int64_t r = rows.begin; r < rows.end; ++r, columns += g.w.out) {
          const std::int64_t row = r * g.h.stride - g.h.before + i * g.h.dilation;
          if (row < 0 || row >= g.h.in) continue;
          T* to = x + row * g.w.in;
          for (std::int64_t q = valid.begin; q < valid.end; ++q) to[q * g.w.stride + shift] += columns[q];
        }
      }
    }
  }
}

// How one problem is cut.
struct Cuts {
  bool pointwise;
  std::int64_t channels;  // per block of channels
  std::int64_t channel_blocks;
  std::int64_t rows;  // of the result per block
  std::int64_t row_blocks;

  Cuts(const ConvShape& s, std::int64_t channels_per_block)
      : pointwise(is_pointwise(s.g.h) && is_pointwise(s.g.w)), channels(channels_per_block) {
    channel_blocks = ceil_div(s.group_c(), channels);
    rows = std::clamp<std::int64_t>(kColumnElements / (channels * s.taps() * s.g.w.out), 1, s.g.h.out);
    row_blocks = ceil_div(s.g.h.out, rows);
  }
  [[nodiscard]] Rows rows_of(std::int64_t block, const ConvShape& s) const noexcept {
    return {block * rows, std::min((block + 1) * rows, s.g.h.out)};
  }
  template <class T>
  [[nodiscard]] Scratch columns(const ConvShape& s) const {
    return pointwise ? Scratch() : Scratch::of<T>(channels * s.taps() * rows * s.g.w.out);
  }
};

std::int64_t block_of_channels(const ConvShape& s) noexcept {
  return std::min(s.group_c(), ceil_div(kColumnRows, s.taps()));
}

// input_grad without blocks of channels: nothing is unfolded, and there are images enough for the threads.
bool is_whole(const ConvShape& s) noexcept {
  return is_pointwise(s.g.h) && is_pointwise(s.g.w) && s.n * s.g.groups >= kBatchParts;
}

std::int64_t grain_of(double work) noexcept { return static_cast<std::int64_t>(kPieceWork / work) + 1; }

}  // namespace

template <class T>
void conv_gemm(const ConvShape& s, const T* x, const T* w, T* y) {
  const Cuts cuts(s, s.group_c());
  const std::int64_t depth = s.group_c() * s.taps();
  const std::int64_t pieces = s.n * s.g.groups * cuts.row_blocks;
  LoopError error;
  parallel_for(pieces, grain_of(s.work() * static_cast<double>(s.n) / static_cast<double>(pieces)),
               [&](std::int64_t begin, std::int64_t end) {
                 error.guard([&] {
                   const Scratch memory = cuts.columns<T>(s);
                   for (std::int64_t piece = begin; piece < end; ++piece) {
                     const Rows rows = cuts.rows_of(piece % cuts.row_blocks, s);
                     const std::int64_t image_group = piece / cuts.row_blocks;  // n * groups + group
                     const std::int64_t positions = (rows.end - rows.begin) * s.g.w.out;
                     const T* planes = x + image_group * s.group_c() * s.map();
                     const T* columns = memory.as<T>();
                     std::int64_t stride = positions;
                     if (cuts.pointwise) {
                       columns = planes + rows.begin * s.g.w.out;
                       stride = s.map();
                     } else {
                       unfold(s.g, planes, s.group_c(), rows, memory.as<T>());
                     }
                     engine::gemm<T>(false, false, s.group_o(), positions, depth, T{1},
                                     w + image_group % s.g.groups * s.group_o() * depth, depth, columns, stride, T{0},
                                     y + image_group * s.group_o() * s.result() + rows.begin * s.g.w.out, s.result());
                   }
                 });
               });
  error.rethrow();
}

template <class T>
void conv_input_grad_gemm(const ConvShape& s, const T* g, const T* w, T* x) {
  const Cuts cuts(s, is_whole(s) ? s.group_c() : block_of_channels(s));
  const std::int64_t depth = s.group_c() * s.taps();
  const std::int64_t pieces = s.n * s.g.groups * cuts.channel_blocks;
  LoopError error;
  parallel_for(pieces, grain_of(s.work() * static_cast<double>(s.n) / static_cast<double>(pieces)),
               [&](std::int64_t begin, std::int64_t end) {
                 error.guard([&] {
                   const Scratch memory = cuts.columns<T>(s);
                   for (std::int64_t piece = begin; piece < end; ++piece) {
                     const std::int64_t image_group = piece / cuts.channel_blocks;
                     const std::int64_t first = piece % cuts.channel_blocks * cuts.channels;
                     const std::int64_t channels = std::min(cuts.channels, s.group_c() - first);
                     T* planes = x + (image_group * s.group_c() + first) * s.map();
                     const T* weights = w + image_group % s.g.groups * s.group_o() * depth + first * s.taps();
                     if (!cuts.pointwise) std::fill_n(planes, channels * s.map(), T{0});
                     for (std::int64_t block = 0; block < cuts.row_blocks; ++block) {
                       const Rows rows = cuts.rows_of(block, s);
                       const std::int64_t positions = (rows.end - rows.begin) * s.g.w.out;
                       T* columns = cuts.pointwise ? planes + rows.begin * s.g.w.out : memory.as<T>();
                       engine::gemm<T>(true, false, channels * s.taps(), positions, s.group_o(), T{1}, weights, depth,
                                       g + image_group * s.group_o() * s.result() + rows.begin * s.g.w.out, s.result(),
                                       T{0}, columns, cuts.pointwise ? s.map() : positions);
                       if (!cuts.pointwise) fold(s.g, columns, channels, rows, planes);
                     }
                   }
                 });
               });
  error.rethrow();
}

namespace {

// w[:, first : first + channels] of one group from the images [image, last).
template <class T>
void weight_block(const ConvShape& s, const Cuts& cuts, std::int64_t group, std::int64_t first, std::int64_t image,
                  std::int64_t last, const T* x, const T* g, T* w) {
  const Scratch memory = cuts.columns<T>(s);
  const std::int64_t channels = std::min(cuts.channels, s.group_c() - first);
  const std::int64_t depth = s.group_c() * s.taps();
  T* to = w + group * s.group_o() * depth + first * s.taps();
  T beta{0};
  for (; image < last; ++image) {
    const T* planes = x + (image * s.c + group * s.group_c() + first) * s.map();
    const T* grads = g + (image * s.o + group * s.group_o()) * s.result();
    for (std::int64_t block = 0; block < cuts.row_blocks; ++block, beta = T{1}) {
      const Rows rows = cuts.rows_of(block, s);
      const std::int64_t positions = (rows.end - rows.begin) * s.g.w.out;
      const T* columns = memory.as<T>();
      if (cuts.pointwise)
        columns = planes + rows.begin * s.g.w.out;
      else
        unfold(s.g, planes, channels, rows, memory.as<T>());
      engine::gemm<T>(false, true, s.group_o(), channels * s.taps(), positions, T{1}, grads + rows.begin * s.g.w.out,
                      s.result(), columns, cuts.pointwise ? s.map() : positions, beta, to, depth);
    }
  }
}

}  // namespace

template <class T>
void conv_weight_grad_gemm(const ConvShape& s, const T* x, const T* g, T* w) {
  const Cuts cuts(s, block_of_channels(s));
  const std::int64_t blocks = s.g.groups * cuts.channel_blocks;
  const std::int64_t parts = blocks >= kBatchParts ? 1 : std::min(s.n, kBatchParts);
  const Scratch partial = parts == 1 ? Scratch() : Scratch::of<T>(parts * s.weights());
  const std::int64_t pieces = parts * blocks;
  LoopError error;
  parallel_for(pieces, grain_of(s.work() * static_cast<double>(s.n) / static_cast<double>(pieces)),
               [&](std::int64_t begin, std::int64_t end) {
                 error.guard([&] {
                   for (std::int64_t piece = begin; piece < end; ++piece) {
                     const std::int64_t part = piece / blocks;
                     const std::int64_t block = piece % blocks;
                     weight_block(s, cuts, block / cuts.channel_blocks, block % cuts.channel_blocks * cuts.channels,
                                  s.n * part / parts, s.n * (part + 1) / parts, x, g,
                                  parts == 1 ? w : partial.as<T>() + part * s.weights());
                   }
                 });
               });
  error.rethrow();
  if (parts == 1) return;
  const T* sums = partial.as<T>();
  const std::int64_t count = s.weights();
  std::copy_n(sums, count, w);
  parallel_for(count, 1 << 14, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = 1; part < parts; ++part)
      for (std::int64_t i = begin; i < end; ++i) w[i] += sums[part * count + i];
  });
}

#define SOLVENT_INSTANTIATE(T)                                                     \
  template void conv_gemm<T>(const ConvShape&, const T*, const T*, T*);            \
  template void conv_input_grad_gemm<T>(const ConvShape&, const T*, const T*, T*); \
  template void conv_weight_grad_gemm<T>(const ConvShape&, const T*, const T*, T*);
SOLVENT_INSTANTIATE(float)
SOLVENT_INSTANTIATE(double)
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cpu
