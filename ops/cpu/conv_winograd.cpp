// Convolutions with 3x3 filters by minimal filtering F(2x2, 3x3) (Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308), and
// their input gradients, which are convolutions with the filters turned over.
//
//     y = A^T [ (G w G^T) * (B^T d B) ] A    of each tile d (4x4) of x, 2x2 results; * by elements, summed over channels
//
//         1  0 -1  0             1    0    0             1  0
//     B^T 0  1  1  0        G   1/2  1/2  1/2        A   1  1
//         0 -1  1  0            1/2 -1/2  1/2            1 -1
//         0  1  0 -1             0    0    1             0 -1
//
// For the 16 elements that is 16 products (O, C) x (C, tiles): 16 multiplications where the direct form has 36.
//
// Decomposition: blocks of up to kBlockTiles tiles in parallel, and ranges of O when there are few blocks. A piece brings its
// tiles to V (16, C, tiles), which stays in L2, then for a group of rows of O computes M = U V, register tile by register
// tile, and writes A^T M A. Tiles lie in lanes throughout (conv_winograd-inl.h). U = G w G^T is packed once per call.
// Every result is one chain of multiply-adds over C in order, whatever the block: bits depend on sizes only.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/conv_winograd.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/conv_kernels.h"
#include "solvent/ops/cpu/conv_scratch.h"
#include "solvent/ops/cpu/conv_winograd-inl.h"
#include "solvent/ops/cpu/conv_winograd.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace {

constexpr std::size_t kGroupRows = 16;  // of O, whose M is in cache at a time
constexpr std::int64_t kDeep = 96;      // channels
constexpr std::int64_t kPieces = 16;
constexpr std::int64_t kLeastRows = 96;    // of O per piece: the tiles are transformed again for each
constexpr std::int64_t kFilterDepth = 32;  // of the filters transformed one after the other
constexpr std::int64_t kFilters = 2048;    // per piece of a parallel loop, at least

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

// --- filters ----------------------------------------------------------------------------------------------------------------

// (G g)_i of three elements.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void expand(D d, V g0, V g1, V g2, V* out) {
  const V half = hn::Set(d, 0.5f);
  const V sum = hn::Add(g0, g2);
  out[0] = g0;
  out[1] = hn::Mul(half, hn::Add(sum, g1));
  out[2] = hn::Mul(half, hn::Sub(sum, g1));
  out[3] = g2;
}

// A block of kSumRows rows of U is [16][depth][kSumRows]; planes fall into different sets of the cache.
constexpr std::size_t filter_plane(std::size_t depth) { return depth * kSumRows + kPlanePad; }

// U of the rows [first, first + kSumRows) for [begin, end) of the depth; rows that do not exist are 0.
void transform_filters(const WinogradFilters& w, std::int64_t first, std::int64_t begin, std::int64_t end,
                       float* HWY_RESTRICT to) {
  const hn::CappedTag<float, kSumRows> d;
  using V = hn::Vec<decltype(d)>;
  constexpr std::size_t N = hn::MaxLanes(d);
  const auto rows = static_cast<std::size_t>(std::min<std::int64_t>(kSumRows, w.rows - first));
  const std::size_t plane = filter_plane(static_cast<std::size_t>(w.depth));
  to += static_cast<std::size_t>(begin) * kSumRows;
  alignas(64) float taps[9][kSumRows] = {};
  for (std::int64_t k = begin; k < end; ++k, to += kSumRows) {
    for (std::size_t r = 0; r < rows; ++r) {
      const float* filter = w.data + (first + static_cast<std::int64_t>(r)) * w.row_stride + k * w.depth_stride;
      for (std::size_t t = 0; t < 9; ++t) taps[t][r] = filter[w.turned ? 8 - t : t];
    }
    for (std::size_t r = 0; r < kSumRows; r += N) {
      V half[3][4];  // columns of G w
      HWY_UNROLL(3)
      for (std::size_t j = 0; j < 3; ++j)
        expand(d, hn::Load(d, taps[j] + r), hn::Load(d, taps[3 + j] + r), hn::Load(d, taps[6 + j] + r), half[j]);
      HWY_UNROLL(4)
      for (std::size_t i = 0; i < 4; ++i) {
        V out[4];
        expand(d, half[0][i], half[1][i], half[2][i], out);
        HWY_UNROLL(4)
        for (std::size_t j = 0; j < 4; ++j) hn::StoreU(out[j], d, to + (4 * i + j) * plane + r);
      }
    }
  }
}

// All of U, in pieces of the depth, whose filters lie together when they are turned.
void transform_filters(const WinogradFilters& w, std::int64_t row_blocks, float* u) {
  const auto block = static_cast<std::int64_t>(16 * filter_plane(static_cast<std::size_t>(w.depth)));
  const std::int64_t pieces = ceil_div(w.depth, kFilterDepth);
  const std::int64_t grain = ceil_div(kFilters, kFilterDepth * static_cast<std::int64_t>(kSumRows));
  const auto rows = static_cast<std::int64_t>(kSumRows);
  parallel_for(pieces * row_blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = w.turned ? i % row_blocks : i / pieces;
      const std::int64_t first = (w.turned ? i / row_blocks : i % pieces) * kFilterDepth;
      transform_filters(w, b * rows, first, std::min(first + kFilterDepth, w.depth), u + b * block);
    }
  });
}

// --- products ---------------------------------------------------------------------------------------------------------------

// m (kSumRows, kVectors lanes) = u^T (depth, kSumRows) v (depth, kVectors lanes).
template <std::size_t kVectors>
HWY_NOINLINE void multiply(std::size_t depth, const float* HWY_RESTRICT u, const float* HWY_RESTRICT v,
                           float* HWY_RESTRICT m) {
  const MapTag d;
  using V = hn::Vec<MapTag>;
  constexpr std::size_t kWidth = kVectors * kMapLanes;
  V sums[kSumRows][kVectors];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kSumRows; ++r) {
    HWY_UNROLL(3)
    for (std::size_t j = 0; j < kVectors; ++j) sums[r][j] = hn::Zero(d);
  }
  for (std::size_t k = 0; k < depth; ++k, u += kSumRows, v += kWidth) {
    V values[kVectors];
    HWY_UNROLL(3)
    for (std::size_t j = 0; j < kVectors; ++j) values[j] = hn::LoadU(d, v + j * kMapLanes);
    HWY_UNROLL(8)
    for (std::size_t r = 0; r < kSumRows; ++r) {
      const V weight = hn::Set(d, u[r]);
      HWY_UNROLL(3)
      for (std::size_t j = 0; j < kVectors; ++j) sums[r][j] = hn::MulAdd(weight, values[j], sums[r][j]);
    }
  }
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kSumRows; ++r) {
    HWY_UNROLL(3)
    for (std::size_t j = 0; j < kVectors; ++j) hn::StoreU(sums[r][j], d, m + r * kWidth + j * kMapLanes);
  }
}

void multiply_block(std::size_t vectors, std::size_t depth, const float* u, const float* v, float* m) {
  switch (vectors) {
    case 1: return multiply<1>(depth, u, v, m);
    case 2: return multiply<2>(depth, u, v, m);
    default: return multiply<3>(depth, u, v, m);
  }
}

// --- results ----------------------------------------------------------------------------------------------------------------

// A^T M A of a vector of tiles: `rows` (at most 2) times `columns` (at most 2 lanes of D) results.
template <class D>
HWY_INLINE void write_tiles(D d, const float* HWY_RESTRICT m, std::size_t plane, float* HWY_RESTRICT to,
                            std::int64_t width, std::int64_t rows, std::int64_t columns) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = hn::MaxLanes(D());
  V top[4], bottom[4];
  HWY_UNROLL(4)
  for (std::size_t j = 0; j < 4; ++j) {
    const V m0 = hn::LoadU(d, m + j * plane);
    const V m1 = hn::LoadU(d, m + (4 + j) * plane);
    const V m2 = hn::LoadU(d, m + (8 + j) * plane);
    const V m3 = hn::LoadU(d, m + (12 + j) * plane);
    top[j] = hn::Add(m0, hn::Add(m1, m2));
    bottom[j] = hn::Sub(hn::Sub(m1, m2), m3);
  }
  const V y00 = hn::Add(top[0], hn::Add(top[1], top[2]));
  const V y01 = hn::Sub(hn::Sub(top[1], top[2]), top[3]);
  const V y10 = hn::Add(bottom[0], hn::Add(bottom[1], bottom[2]));
  const V y11 = hn::Sub(hn::Sub(bottom[1], bottom[2]), bottom[3]);
  if (columns == static_cast<std::int64_t>(2 * N)) {
    hn::StoreInterleaved2(y00, y01, d, to);
    if (rows > 1) hn::StoreInterleaved2(y10, y11, d, to + width);
    return;
  }
  alignas(64) float part[2][2 * N];
  hn::StoreInterleaved2(y00, y01, d, part[0]);
  hn::StoreInterleaved2(y10, y11, d, part[1]);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) to[i * width + j] = part[i][j];
}

// A run in vectors of D, the last one overlapping the one before it or, if there is none, reaching beyond the run.
template <class D>
HWY_INLINE void write_run(D d, const Run& run, const float* m, std::size_t plane, float* to, std::int64_t width,
                          std::int64_t rows) {
  constexpr std::size_t N = hn::MaxLanes(D());
  for (std::size_t next = 0; next < run.count; next += N) {
    const std::size_t tile = next > 0 ? std::min(next, run.count - N) : 0;
    const std::int64_t from = 2 * (run.column + static_cast<std::int64_t>(tile));
    const auto columns = static_cast<std::int64_t>(2 * std::min(N, run.count - tile));
    write_tiles(d, m + tile, plane, to + 2 * tile, width, rows, std::min(columns, width - from));
  }
}

// One channel of a block.
HWY_INLINE void write_channel(const WinogradResult& y, const Block& block, std::int64_t channel, const float* m,
                              std::size_t plane) {
  for (std::size_t r = 0; r < block.num_runs; ++r) {
    const Run& run = block.runs[r];
    const std::int64_t rows = std::min<std::int64_t>(2, y.height - 2 * run.row);
    float* to = y.data + ((run.image * y.channels + channel) * y.height + 2 * run.row) * y.width + 2 * run.column;
    const float* from = m + run.lane;
    if (run.count >= 16)
      write_run(MapTag(), run, from, plane, to, y.width, rows);
    else if (run.count >= 8)
      write_run(hn::CappedTag<float, 8>(), run, from, plane, to, y.width, rows);
    else if (run.count >= 4)
      write_run(hn::CappedTag<float, 4>(), run, from, plane, to, y.width, rows);
    else
      write_run(hn::CappedTag<float, 2>(), run, from, plane, to, y.width, rows);
  }
}

// --- pieces -----------------------------------------------------------------------------------------------------------------

// Tiles in vectors, vectors in blocks of nearly equal size, rows of sums in ranges.
struct Cuts {
  std::int64_t tiles;
  std::int64_t vectors;
  std::int64_t blocks;
  std::int64_t row_blocks;  // of kSumRows
  std::int64_t parts;

  Cuts(std::int64_t num_tiles, std::int64_t rows, std::int64_t depth) : tiles(num_tiles) {
    constexpr auto kLanes = static_cast<std::int64_t>(kMapLanes);
    // V of a whole block would leave little of L2, and take much memory per thread.
    const std::int64_t most = static_cast<std::int64_t>(kBlockVectors) - (depth > kDeep ? 1 : 0);
    vectors = ceil_div(tiles, kLanes);
    row_blocks = ceil_div(rows, static_cast<std::int64_t>(kSumRows));
    blocks = ceil_div(vectors, most);
    parts = std::clamp<std::int64_t>(rows / kLeastRows, 1, ceil_div(kPieces, blocks));
    // As much for each of 2 or 4 threads. Smaller blocks read U more often.
    if (blocks * parts < kPieces) blocks = std::min(vectors, ceil_div(blocks, 4) * 4);
  }
  [[nodiscard]] Block block(const WinogradMaps& x, std::int64_t i) const {
    const std::int64_t begin = vectors * i / blocks * static_cast<std::int64_t>(kMapLanes);
    const std::int64_t end = std::min(tiles, vectors * (i + 1) / blocks * static_cast<std::int64_t>(kMapLanes));
    return {x, begin, end - begin};
  }
};

// Rows [row_blocks * part / parts, ...) of the results of one block of tiles.
void run_piece(const Cuts& cuts, const WinogradMaps& x, const float* u, const WinogradResult& y, std::int64_t piece) {
  const Block block = cuts.block(x, piece % cuts.blocks);
  const auto depth = static_cast<std::size_t>(x.channels);
  const std::size_t width = block.width();
  const std::size_t v_plane = depth * width + kPlanePad;
  const std::size_t m_plane = kGroupRows * width + kPlanePad;
  const Scratch memory = Scratch::of<float>(static_cast<std::int64_t>(16 * (v_plane + m_plane)));
  float* v = memory.as<float>();
  float* m = v + 16 * v_plane;
  transform_maps(x, block, 0, x.channels, v, v_plane);
  const std::int64_t part = piece / cuts.blocks;  // U of a part may stay in L2
  const std::int64_t end = cuts.row_blocks * (part + 1) / cuts.parts;
  constexpr std::int64_t kGroup = kGroupRows / kSumRows;
  for (std::int64_t first = cuts.row_blocks * part / cuts.parts; first < end; first += kGroup) {
    const std::int64_t count = std::min(kGroup, end - first);
    for (std::size_t i = 0; i < 16; ++i)
      for (std::int64_t b = 0; b < count; ++b)
        multiply_block(block.vectors, depth, u + (static_cast<std::size_t>(first + b) * 16 + i) * filter_plane(depth),
                       v + i * v_plane, m + i * m_plane + static_cast<std::size_t>(b) * kSumRows * width);
    const std::int64_t channel = first * static_cast<std::int64_t>(kSumRows);
    const std::int64_t channels = std::min(count * static_cast<std::int64_t>(kSumRows), y.channels - channel);
    for (std::int64_t c = 0; c < channels; ++c)
      write_channel(y, block, channel + c, m + static_cast<std::size_t>(c) * width, m_plane);
  }
}

}  // namespace

void winograd_maps(const WinogradMaps& x, const WinogradFilters& w, const WinogradResult& y) {
  const Cuts cuts(x.tiles(), w.rows, w.depth);
  const std::size_t block = 16 * filter_plane(static_cast<std::size_t>(w.depth));
  const Scratch filters = Scratch::of<float>(cuts.row_blocks * static_cast<std::int64_t>(block));
  float* u = filters.as<float>();
  transform_filters(w, cuts.row_blocks, u);
  LoopError error;
  parallel_for(cuts.blocks * cuts.parts, 1, [&](std::int64_t begin, std::int64_t end) {
    error.guard([&] {
      for (std::int64_t piece = begin; piece < end; ++piece) run_piece(cuts, x, u, y, piece);
    });
  });
  error.rethrow();
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(winograd_maps);

bool conv_winograd(const ConvShape& s, const float* x, const float* w, float* y) {
  if (!has_winograd(s)) return false;
  const ConvAxis& h = s.g.h;
  const ConvAxis& v = s.g.w;
  const WinogradMaps maps{x, s.n, s.c, h.in, v.in, h.before, v.before, winograd_tiles(h.out), winograd_tiles(v.out)};
  const WinogradFilters filters{w, s.o, s.c, s.c * 9, 9, false};
  HWY_DYNAMIC_DISPATCH(winograd_maps)(maps, filters, {y, s.o, h.out, v.out});
  return true;
}

bool conv_input_grad_winograd(const ConvShape& s, const float* g, const float* w, float* x) {
  if (!has_winograd(s)) return false;
  const ConvAxis& h = s.g.h;
  const ConvAxis& v = s.g.w;
  const WinogradMaps maps{
      g, s.n, s.o, h.out, v.out, 2 - h.before, 2 - v.before, winograd_tiles(h.in), winograd_tiles(v.in)};
  const WinogradFilters filters{w, s.c, s.o, 9, s.c * 9, true};
  HWY_DYNAMIC_DISPATCH(winograd_maps)(maps, filters, {x, s.c, h.in, v.in});
  return true;
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
