// Weight gradients of convolutions with 3x3 filters by minimal filtering F(3x3, 2x2): the adjoint in w of F(2x2, 3x3)
// (conv_winograd.cpp has the matrices and sources),
//
//     w = G^T [ sum over tiles of (A g A^T) * (B^T d B) ] G       d (4x4) of x, g (2x2) of the gradient
//
// For each of 16 elements the sum is a product (O, tiles) x (tiles, C).
//
// A block of tiles becomes S (O, tiles) with tiles in lanes and V (tiles, C), turned over in registers to channels in lanes.
// Two decompositions, chosen by sizes:
//   - few channels: the sums stay in L2. The blocks are cut into parts, each with sums of its own, which are added in order at
//     the end.
//   - many channels: groups of blocks, whose transforms fit into a few MiB, one after the other. Two parallel loops for each:
//     the transforms, then the products, one of the 16 elements and a panel of channels per piece.
// Every sum is one chain of multiply-adds over the tiles of a part in order, so bits depend on sizes only.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/conv_winograd_weights.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/conv_kernels.h"
#include "solvent/ops/cpu/conv_scratch.h"
#include "solvent/ops/cpu/conv_winograd-inl.h"
#include "solvent/ops/cpu/conv_winograd.h"
#include "solvent/ops/cpu/scan_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kLocalSums = 128 << 10;  // elements that stay in L2
constexpr std::int64_t kLeastParts = 4;
constexpr std::int64_t kMostParts = 12;
constexpr std::int64_t kPartialSums = 256 << 10;  // elements of all parts, or what is spare if that is more
constexpr std::int64_t kPartBlocks = 3;           // at least: for each part sums are written and read once more
constexpr std::int64_t kGroupElements = 1 << 20;  // of the transforms of a group of blocks, at most
// Channels of the gradient per piece of the transforms; each piece has planes of its own, as vectors reach beyond rows.
constexpr std::int64_t kGradChannels = 16;
constexpr auto kGradPlane = kGradChannels * static_cast<std::int64_t>(kBlockTiles + 1);
static_assert(kGradChannels % kSumRows == 0 && kGradChannels >= kPlanePad);

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }
constexpr auto kLanes64 = static_cast<std::int64_t>(kMapLanes);
constexpr auto kTiles64 = static_cast<std::int64_t>(kBlockTiles);
constexpr auto kRows64 = static_cast<std::int64_t>(kSumRows);

// --- A g A^T ----------------------------------------------------------------------------------------------------------------

// (A g)_i of the columns of two rows.
HWY_INLINE void expand_columns(const float* g0, const float* g1, std::size_t count, Slab& slab) {
  for_columns(count, [&](auto d, std::size_t k) HWY_ATTR {
    const auto a = hn::LoadU(d, g0 + k);
    const auto b = hn::LoadU(d, g1 + k);
    hn::StoreU(a, d, slab.rows[0] + k);
    hn::StoreU(hn::Add(a, b), d, slab.rows[1] + k);
    hn::StoreU(hn::Sub(a, b), d, slab.rows[2] + k);
    hn::StoreU(hn::Neg(b), d, slab.rows[3] + k);
  });
}

// S of channels [first, first + channels): planes [16], rows of kBlockTiles.
void transform_grads(const WinogradMaps& g, const Block& block, std::int64_t first, std::int64_t channels,
                     float* HWY_RESTRICT to) {
  constexpr auto kPlane = static_cast<std::size_t>(kGradPlane);
  alignas(64) static constexpr float kZeros[2 * kBlockTiles] = {};
  const auto vertical = [&](std::size_t c, const Run& run, Slab& slab) HWY_ATTR {
    const std::int64_t channel = run.image * g.channels + first + static_cast<std::int64_t>(c);
    const float* g0 = g.data + (channel * g.height + 2 * run.row) * g.width + 2 * run.column;
    const float* g1 = 2 * run.row + 1 < g.height ? g0 + g.width : kZeros;
    const std::size_t all = 2 * run.count;
    const std::size_t count = std::min(all, static_cast<std::size_t>(g.width - 2 * run.column));
    expand_columns(g0, g1, count, slab);
    if (count < all)
      for (auto& row : slab.rows) row[count] = 0;
  };
  const auto horizontal = [&](auto d, const Slab& slab, std::size_t tile, float* out) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < 4; ++i, out += 4 * kPlane) {
      const float* row = slab.rows[i] + 2 * tile;
      V a, b;
      split_columns(d, hn::LoadU(d, row), hn::LoadU(d, row + hn::MaxLanes(d)), a, b);
      hn::StoreU(a, d, out);
      hn::StoreU(hn::Add(a, b), d, out + kPlane);
      hn::StoreU(hn::Sub(a, b), d, out + 2 * kPlane);
      hn::StoreU(hn::Neg(b), d, out + 3 * kPlane);
    }
  };
  transform_block(block, static_cast<std::size_t>(channels), to, kPlane, kBlockTiles, vertical, horizontal);
}

// --- sizes and memory -------------------------------------------------------------------------------------------------------

// Channels of x in vectors, vectors in panels of at most kBlockVectors; O in blocks of kSumRows.
struct Layout {
  std::int64_t c_vectors;
  std::int64_t panels;
  std::int64_t row_blocks;
  std::int64_t blocks;
  std::int64_t parts;     // with sums of their own; 0: groups
  std::int64_t group;     // blocks transformed at a time
  std::int64_t v_plane;   // elements of one of a block's 16 planes of V
  std::int64_t o_groups;  // of kGradChannels

  Layout(const WinogradMaps& x, std::int64_t o)
      : c_vectors(ceil_div(x.channels, kLanes64)),
        panels(ceil_div(c_vectors, static_cast<std::int64_t>(kBlockVectors))),
        row_blocks(ceil_div(o, kRows64)),
        blocks(ceil_div(x.tiles(), kTiles64)),
        v_plane(c_vectors * kLanes64 * kTiles64),
        o_groups(ceil_div(o, kGradChannels)) {
    // What is little beside the operands.
    const std::int64_t spare = x.images * (x.channels * x.height * x.width + 4 * o * x.tiles_h * x.tiles_w) / 4;
    const bool is_local = all_sums() <= kLocalSums;
    parts = std::min({blocks / kPartBlocks, std::max(spare, kPartialSums) / all_sums(), kMostParts});
    if (parts < kLeastParts || !is_local) parts = 0;
    const std::int64_t elements = is_local ? std::min(spare, kGroupElements) : kGroupElements;
    const std::int64_t block = v_block() + s_block();
    const std::int64_t most = std::max<std::int64_t>(1, elements / block);
    group = ceil_div(blocks, ceil_div(blocks, most));
  }
  [[nodiscard]] std::int64_t v_block() const noexcept { return 16 * v_plane; }
  [[nodiscard]] std::int64_t s_block() const noexcept { return 16 * kGradPlane * o_groups; }
  [[nodiscard]] std::int64_t panel_begin(std::int64_t p) const noexcept { return c_vectors * p / panels; }
  [[nodiscard]] std::int64_t panel_of(std::int64_t vector) const noexcept {
    std::int64_t p = vector * panels / c_vectors;
    while (panel_begin(p + 1) <= vector) ++p;
    return p;
  }
  [[nodiscard]] std::int64_t all_sums() const noexcept { return 16 * sum_plane(); }
  // Of the sums: [16][panel][O rounded up][vectors of the panel].
  [[nodiscard]] std::int64_t sum_plane() const noexcept { return row_blocks * kRows64 * c_vectors * kLanes64; }
};

// V of one vector of channels: through tiles in lanes, then turned over, a vector of tiles at a time.
void transform_vector(const Layout& l, const WinogradMaps& x, std::int64_t block, std::int64_t vector, float* v) {
  constexpr std::size_t kPlane = kMapLanes * kMapLanes + kPlanePad;
  constexpr std::size_t kStep = kBlockLanes<MapTag>;
  const MapTag d;
  alignas(64) float tiles[16 * kPlane];
  const std::int64_t first = vector * kLanes64;
  const std::int64_t channels = std::min(kLanes64, x.channels - first);
  if (channels < kLanes64) std::fill_n(tiles, 16 * kPlane, 0.0f);
  const std::int64_t p = l.panel_of(vector);
  const std::int64_t begin = l.panel_begin(p);
  const auto width = static_cast<std::size_t>((l.panel_begin(p + 1) - begin) * kLanes64);
  v += begin * kLanes64 * kTiles64 + (vector - begin) * kLanes64;
  const std::int64_t end = std::min((block + 1) * kTiles64, x.tiles());
  for (std::int64_t tile = block * kTiles64; tile < end; tile += kLanes64, v += kMapLanes * width) {
    transform_maps(x, {x, tile, std::min(kLanes64, end - tile)}, first, channels, tiles, kPlane);
    for (std::size_t i = 0; i < 16; ++i) {
      float* to = v + static_cast<std::int64_t>(i) * l.v_plane;
      for (std::size_t t = 0; t < kMapLanes; t += kStep) {
        hn::Vec<MapTag> out[kStep];
        load_group(d, tiles + i * kPlane + t, static_cast<std::ptrdiff_t>(kMapLanes), out);
        HWY_UNROLL(4)
        for (std::size_t q = 0; q < kStep; ++q) hn::StoreU(out[q], d, to + (t + q) * width);
      }
    }
  }
}

// --- products ---------------------------------------------------------------------------------------------------------------

// The transforms of one group of blocks.
struct Group {
  const float* v;  // of the first block
  const float* s;
  std::int64_t v_block;  // distance of blocks
  std::int64_t s_block;
  std::int64_t blocks;
  std::size_t last_width;  // tiles of the last block, in whole vectors
  bool is_first;
};

// sums (kSumRows, kVectors lanes) += sum over the group's tiles of s (kSumRows, tile) v (tile, kVectors lanes).
template <std::size_t kVectors>
HWY_NOINLINE void accumulate(const Group& group, const float* s, const float* v, float* HWY_RESTRICT to) {
  const MapTag d;
  using V = hn::Vec<MapTag>;
  constexpr std::size_t kWidth = kVectors * kMapLanes;
  V sums[kSumRows][kVectors];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kSumRows; ++r) {
    HWY_UNROLL(3)
    for (std::size_t j = 0; j < kVectors; ++j)
      sums[r][j] = group.is_first ? hn::Zero(d) : hn::LoadU(d, to + r * kWidth + j * kMapLanes);
  }
  for (std::int64_t b = 0; b < group.blocks; ++b, s += group.s_block, v += group.v_block) {
    const std::size_t tiles = b + 1 == group.blocks ? group.last_width : kBlockTiles;
    const float* HWY_RESTRICT grad = s;
    const float* HWY_RESTRICT row = v;
    for (std::size_t t = 0; t < tiles; ++t, ++grad, row += kWidth) {
      V values[kVectors];
      HWY_UNROLL(3)
      for (std::size_t j = 0; j < kVectors; ++j) values[j] = hn::LoadU(d, row + j * kMapLanes);
      HWY_UNROLL(8)
      for (std::size_t r = 0; r < kSumRows; ++r) {
        const V weight = hn::Set(d, grad[r * kBlockTiles]);
        HWY_UNROLL(3)
        for (std::size_t j = 0; j < kVectors; ++j) sums[r][j] = hn::MulAdd(weight, values[j], sums[r][j]);
      }
    }
  }
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kSumRows; ++r) {
    HWY_UNROLL(3)
    for (std::size_t j = 0; j < kVectors; ++j) hn::StoreU(sums[r][j], d, to + r * kWidth + j * kMapLanes);
  }
}

// One element of the 16 and one panel of channels.
void add_panel(const Layout& l, const Group& group, std::int64_t element, std::int64_t panel, float* sums) {
  const std::int64_t begin = l.panel_begin(panel);
  const std::int64_t vectors = l.panel_begin(panel + 1) - begin;
  const float* v = group.v + element * l.v_plane + begin * kLanes64 * kTiles64;
  float* to = sums + element * l.sum_plane() + begin * kLanes64 * l.row_blocks * kRows64;
  for (std::int64_t o = 0; o < l.row_blocks * kRows64; o += kRows64) {
    const float* s = group.s + (o / kGradChannels * 16 + element) * kGradPlane + o % kGradChannels * kTiles64;
    float* sum = to + o * vectors * kLanes64;
    switch (vectors) {
      case 1: accumulate<1>(group, s, v, sum); break;
      case 2: accumulate<2>(group, s, v, sum); break;
      default: accumulate<3>(group, s, v, sum);
    }
  }
}

// --- G^T S G ----------------------------------------------------------------------------------------------------------------

// (G^T s)_i of four elements.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void contract(D d, V s0, V s1, V s2, V s3, V* out) {
  const V half = hn::Set(d, 0.5f);
  const V even = hn::Mul(half, hn::Add(s1, s2));
  out[0] = hn::Add(s0, even);
  out[1] = hn::Mul(half, hn::Sub(s1, s2));
  out[2] = hn::Add(even, s3);
}

// One vector of the sums of all parts, in order.
HWY_INLINE hn::Vec<MapTag> add_parts(const Layout& l, const float* from) {
  const MapTag d;
  auto sum = hn::LoadU(d, from);
  for (std::int64_t part = 1; part < l.parts; ++part) sum = hn::Add(sum, hn::LoadU(d, from + part * l.all_sums()));
  return sum;
}

// The filters of one channel of the result.
void write_filters(const Layout& l, const float* sums, std::int64_t o, std::int64_t channels, float* w) {
  const MapTag d;
  using V = hn::Vec<MapTag>;
  const std::int64_t plane = l.sum_plane();
  alignas(64) float taps[9][kMapLanes];
  for (std::int64_t p = 0; p < l.panels; ++p) {
    const std::int64_t begin = l.panel_begin(p);
    const std::int64_t vectors = l.panel_begin(p + 1) - begin;
    for (std::int64_t j = 0; j < vectors; ++j) {
      const float* from = sums + begin * kLanes64 * l.row_blocks * kRows64 + (o * vectors + j) * kLanes64;
      V half[4][3];  // [column][i] of G^T S
      for (std::int64_t q = 0; q < 4; ++q)
        contract(d, add_parts(l, from + q * plane), add_parts(l, from + (4 + q) * plane),
                 add_parts(l, from + (8 + q) * plane), add_parts(l, from + (12 + q) * plane), half[q]);
      for (std::size_t i = 0; i < 3; ++i) {
        V out[3];
        contract(d, half[0][i], half[1][i], half[2][i], half[3][i], out);
        for (std::size_t k = 0; k < 3; ++k) hn::Store(out[k], d, taps[3 * i + k]);
      }
      const std::int64_t first = (begin + j) * kLanes64;
      const std::int64_t count = std::min(kLanes64, channels - first);
      for (std::int64_t c = 0; c < count; ++c)
        for (std::size_t t = 0; t < 9; ++t) w[(first + c) * 9 + static_cast<std::int64_t>(t)] = taps[t][c];
    }
  }
}

// --- decompositions ---------------------------------------------------------------------------------------------------------

void transform_group(const WinogradMaps& g, const Block& block, std::int64_t o_group, float* s) {
  const std::int64_t o = o_group * kGradChannels;
  transform_grads(g, block, o, std::min(kGradChannels, g.channels - o), s);
}

Block block_at(const WinogradMaps& x, std::int64_t index) {
  return {x, index * kTiles64, std::min(kTiles64, x.tiles() - index * kTiles64)};
}

// The blocks of one part.
void sum_part(const Layout& l, const WinogradMaps& x, const WinogradMaps& g, std::int64_t part, float* transforms,
              float* sums) {
  float* const v = transforms;
  float* const s = v + l.v_block();
  const std::int64_t first = l.blocks * part / l.parts;
  for (std::int64_t b = first; b < l.blocks * (part + 1) / l.parts; ++b) {
    const Block block = block_at(x, b);
    for (std::int64_t i = 0; i < l.c_vectors; ++i) transform_vector(l, x, b, i, v);
    for (std::int64_t i = 0; i < l.o_groups; ++i) transform_group(g, block, i, s + i * 16 * kGradPlane);
    const Group group{v, s, 0, 0, 1, block.width(), b == first};
    for (std::int64_t i = 0; i < 16 * l.panels; ++i) add_panel(l, group, i / l.panels, i % l.panels, sums);
  }
}

void sum_by_parts(const Layout& l, const WinogradMaps& x, const WinogradMaps& g, float* sums) {
  LoopError error;
  parallel_for(l.parts, 1, [&](std::int64_t begin, std::int64_t end) {
    error.guard([&] {
      const Scratch transforms = Scratch::of<float>(l.v_block() + l.s_block());
      for (std::int64_t part = begin; part < end; ++part)
        sum_part(l, x, g, part, transforms.as<float>(), sums + part * l.all_sums());
    });
  });
  error.rethrow();
}

void sum_by_groups(const Layout& l, const WinogradMaps& x, const WinogradMaps& g, float* sums) {
  const Scratch transforms = Scratch::of<float>(l.group * (l.v_block() + l.s_block()));
  float* const v = transforms.as<float>();
  float* const s = v + l.group * l.v_block();
  const std::int64_t per_block = l.c_vectors + l.o_groups;
  LoopError error;
  for (std::int64_t first = 0; first < l.blocks; first += l.group) {
    const std::int64_t count = std::min(l.group, l.blocks - first);
    parallel_for(count * per_block, 1, [&](std::int64_t begin, std::int64_t end) {
      error.guard([&] {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t b = i / per_block;
          const std::int64_t part = i % per_block;
          if (part < l.c_vectors)
            transform_vector(l, x, first + b, part, v + b * l.v_block());
          else
            transform_group(g, block_at(x, first + b), part - l.c_vectors,
                            s + b * l.s_block() + (part - l.c_vectors) * 16 * kGradPlane);
        }
      });
    });
    error.rethrow();
    const Group group{v, s, l.v_block(), l.s_block(), count, block_at(x, first + count - 1).width(), first == 0};
    parallel_for(16 * l.panels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) add_panel(l, group, i / l.panels, i % l.panels, sums);
    });
  }
}

}  // namespace

void winograd_weights(const WinogradMaps& x, const WinogradMaps& g, float* w) {
  const Layout l(x, g.channels);
  const Scratch memory = Scratch::of<float>(std::max<std::int64_t>(l.parts, 1) * l.all_sums());
  float* const sums = memory.as<float>();
  if (l.parts > 0)
    sum_by_parts(l, x, g, sums);
  else
    sum_by_groups(l, x, g, sums);
  parallel_for(g.channels, ceil_div(1 << 12, x.channels), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o) write_filters(l, sums, o, x.channels, w + o * x.channels * 9);
  });
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(winograd_weights);

bool conv_weight_grad_winograd(const ConvShape& s, const float* x, const float* g, float* w) {
  if (!has_winograd(s)) return false;
  const ConvAxis& h = s.g.h;
  const ConvAxis& v = s.g.w;
  const std::int64_t rows = winograd_tiles(h.out);
  const std::int64_t columns = winograd_tiles(v.out);
  HWY_DYNAMIC_DISPATCH(winograd_weights)
  ({x, s.n, s.c, h.in, v.in, h.before, v.before, rows, columns}, {g, s.n, s.o, h.out, v.out, 0, 0, rows, columns}, w);
  return true;
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
