// Convolutions by oneDNN (2.6 and 3.x), float32.
//
// oneDNN's own threading cuts sums according to the number of threads (weight gradients always, others for some shapes),
// so its bits would depend on it. Here every primitive is made for one thread, and the work is cut into pieces by sizes
// only: images, and channels of the result when there are few images. A piece brings its maps into the layout that the
// primitive asked for (blocks of 8 or 16 channels; reorders stay in the caches), computes, and writes plain maps back.
// Filters are brought into their layout once per call. Weight gradients are partial sums of pieces, added in a fixed order
// in oneDNN's layout and brought into the plain one once.
//
// Plans (primitives and layouts of one piece) are kept by shape: making one takes about a millisecond.

#include "solvent/ops/cpu/conv_kernels.h"

#if SOLVENT_WITH_ONEDNN

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/conv_filter.h"
#include "solvent/ops/cpu/conv_scratch.h"

namespace solvent::cpu {
namespace {

using Desc = dnnl::memory::desc;
using Dims = dnnl::memory::dims;

constexpr double kPieceWork = 2 << 20;  // multiply-adds of a piece, at least: about 50 us
constexpr std::int64_t kPieces = 8;     // below, channels are cut too
constexpr std::int64_t kUnit = 32;      // channels
// Weight gradients: further parts cost passes over the partial sums; this many positions per part make up for it.
constexpr std::int64_t kPartPositions = 750;
constexpr std::int64_t kMaxParts = 16;
constexpr std::int64_t kPartialElements = 4 << 20;
constexpr std::int64_t kFewChannels = 8;  // of the layouts' blocks
constexpr std::size_t kMaxPlans = 1024;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

enum class Kind : std::uint8_t { forward, input_grad, weight_grad };

// oneDNN asks OpenMP for the number of threads when a primitive is made and, for some, when it runs.
class OneThread {
 public:
  OneThread() : previous_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(previous_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int previous_;
};

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// --- plans ------------------------------------------------------------------------------------------------------------------

// One piece: `s` holds its own numbers of images, channels and groups; maps and filters are parts of tensors with more
// channels.
struct Piece {
  Kind kind;
  ConvShape s;
  std::int64_t all_c;
  std::int64_t all_o;
  std::int64_t filter_c;  // channels of a whole filter

  [[nodiscard]] auto key() const {
    const auto axis = [](const ConvAxis& a) {
      return std::array{a.in, a.kernel, a.out, a.stride, a.before, a.after, a.dilation};
    };
    return std::tuple(kind, s.n, s.c, s.o, s.g.groups, all_c, all_o, filter_c, axis(s.g.h), axis(s.g.w));
  }
};

// Maps of a primitive: plain outside, `used` inside.
struct Side {
  Desc plain;
  Desc used;
  bool same = false;
  dnnl::primitive reorder;  // to `used` for inputs, to `plain` for the result
};

// Its filter.
struct FilterSide {
  Desc used;
  FilterLayout layout;
};

struct Plan {
  dnnl::primitive compute;
  Desc scratchpad;
  Side x;
  FilterSide w;
  Side y;
};

Side make_side(const Desc& plain, const Desc& used, bool is_input) {
  Side side{plain, used, plain == used, {}};
  if (side.same) return side;
  const Desc& from = is_input ? plain : used;
  const Desc& to = is_input ? used : plain;
  side.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(engine(), from, engine(), to));
  return side;
}

#if DNNL_VERSION_MAJOR >= 3
Dims dims_of(const Desc& d) { return d.get_dims(); }
dnnl::memory::data_type type_of(const Desc& d) { return d.get_data_type(); }
bool is_blocked(const Desc& d) { return d.get_format_kind() == dnnl::memory::format_kind::blocked; }
Dims strides_of(const Desc& d) { return d.get_strides(); }
Dims padded_dims(const Desc& d) { return d.get_padded_dims(); }
Dims inner_sizes(const Desc& d) { return d.get_inner_blks(); }
Dims inner_axes(const Desc& d) { return d.get_inner_idxs(); }
#else
Dims dims_of(const Desc& d) { return d.dims(); }
dnnl::memory::data_type type_of(const Desc& d) { return d.data_type(); }
const dnnl_blocking_desc_t& blocks_of(const Desc& d) { return d.data.format_desc.blocking; }
bool is_blocked(const Desc& d) { return d.data.format_kind == dnnl_blocked; }
Dims strides_of(const Desc& d) { return {blocks_of(d).strides, blocks_of(d).strides + d.data.ndims}; }
Dims padded_dims(const Desc& d) { return {d.data.padded_dims, d.data.padded_dims + d.data.ndims}; }
Dims inner_sizes(const Desc& d) {
  return {blocks_of(d).inner_blks, blocks_of(d).inner_blks + blocks_of(d).inner_nblks};
}
Dims inner_axes(const Desc& d) { return {blocks_of(d).inner_idxs, blocks_of(d).inner_idxs + blocks_of(d).inner_nblks}; }
#endif

// Axes (groups,) O, I, kh, kw.
FilterSide make_filter_side(const Desc& plain, const Desc& used) {
  const Dims sizes = dims_of(plain);
  const Dims strides = strides_of(plain);
  const Dims padded = padded_dims(used);
  const Dims blocked_strides = strides_of(used);
  const bool has_groups = sizes.size() == 5;
  std::array<FilterAxis, 5> axes;
  for (std::size_t i = has_groups ? 0 : 1, from = 0; i < 5; ++i, ++from)
    axes[i] = {sizes[from], strides[from], padded[from], blocked_strides[from]};
  const Dims block_sizes = inner_sizes(used);
  const Dims block_axes = inner_axes(used);
  std::vector<FilterBlock> blocks;
  for (std::size_t i = 0; i < block_sizes.size(); ++i)
    blocks.push_back({block_sizes[i], static_cast<std::size_t>(block_axes[i]) + (has_groups ? 0 : 1)});
  return {used, FilterLayout(axes, blocks)};
}

struct Descs {
  Desc x;
  Desc w;
  Desc y;
};

Descs plain_descs(const Piece& p) {
  constexpr auto kType = dnnl::memory::data_type::f32;
  const ConvShape& s = p.s;
  const ConvAxis& h = s.g.h;
  const ConvAxis& w = s.g.w;
  const auto maps = [](std::int64_t n, std::int64_t c, std::int64_t all, std::int64_t rows, std::int64_t columns) {
    return Desc(Dims{n, c, rows, columns}, kType, Dims{all * rows * columns, rows * columns, columns, 1});
  };
  Descs d{maps(s.n, s.c, p.all_c, h.in, w.in), {}, maps(s.n, s.o, p.all_o, h.out, w.out)};
  if (s.g.groups == 1) {
    d.w = Desc(Dims{s.o, s.c, h.kernel, w.kernel}, kType, Dims{p.filter_c * s.taps(), s.taps(), w.kernel, 1});
  } else {
    const std::int64_t filter = s.group_c() * s.taps();
    d.w = Desc(Dims{s.g.groups, s.group_o(), s.group_c(), h.kernel, w.kernel}, kType,
               Dims{s.group_o() * filter, filter, s.taps(), w.kernel, 1});
  }
  return d;
}

Desc any_layout(const Desc& plain) { return {dims_of(plain), type_of(plain), dnnl::memory::format_tag::any}; }

// The reference code of oneDNN is slower than our matrix products.
template <class PrimitiveDesc>
bool is_fast(const PrimitiveDesc& pd) {
  return pd.get(true) != nullptr && !std::string_view(pd.impl_info_str()).starts_with("ref");
}

struct Windows {
  Dims stride;
  Dims dilation;
  Dims before;
  Dims after;

  explicit Windows(const ConvGeometry& g)
      : stride{g.h.stride, g.w.stride},
        dilation{g.h.dilation - 1, g.w.dilation - 1},
        before{g.h.before, g.w.before},
        after{g.h.after, g.w.after} {}
};

constexpr auto kTraining = dnnl::prop_kind::forward_training;  // the inference variant is slower on 16 to 32 channels
constexpr auto kDirect = dnnl::algorithm::convolution_direct;

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // several threads run one primitive
  return attr;
}

auto forward_pd(const Descs& d, const Windows& win) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::convolution_forward::primitive_desc(engine(), kTraining, kDirect, d.x, d.w, d.y, win.stride,
                                                   win.dilation, win.before, win.after, attributes(), true);
#else
  return dnnl::convolution_forward::primitive_desc(
      {kTraining, kDirect, d.x, d.w, d.y, win.stride, win.dilation, win.before, win.after}, attributes(), engine(),
      true);
#endif
}

auto input_grad_pd(const Descs& d, const Windows& win, const dnnl::convolution_forward::primitive_desc& hint) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::convolution_backward_data::primitive_desc(engine(), kDirect, d.x, d.w, d.y, win.stride, win.dilation,
                                                         win.before, win.after, hint, attributes(), true);
#else
  return dnnl::convolution_backward_data::primitive_desc(
      {kDirect, d.x, d.w, d.y, win.stride, win.dilation, win.before, win.after}, attributes(), engine(), hint, true);
#endif
}

auto weight_grad_pd(const Descs& d, const Windows& win, const dnnl::convolution_forward::primitive_desc& hint) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::convolution_backward_weights::primitive_desc(engine(), kDirect, d.x, d.w, d.y, win.stride, win.dilation,
                                                            win.before, win.after, hint, attributes(), true);
#else
  return dnnl::convolution_backward_weights::primitive_desc(
      {kDirect, d.x, d.w, d.y, win.stride, win.dilation, win.before, win.after}, attributes(), engine(), hint, true);
#endif
}

// Null if oneDNN has no fast code.
std::shared_ptr<const Plan> make_plan(const Piece& piece) {
  const OneThread guard;
  const Descs plain = plain_descs(piece);
  Descs free{any_layout(plain.x), any_layout(plain.w), any_layout(plain.y)};
  const Windows win(piece.s.g);
  const auto hint = forward_pd(free, win);
  if (hint.get(true) == nullptr) return nullptr;
  auto plan = std::make_shared<Plan>();
  const auto fill = [&](const auto& pd, dnnl::primitive compute, const Descs& used) {
    if (!is_blocked(used.w)) return false;
    plan->compute = std::move(compute);
    plan->scratchpad = pd.scratchpad_desc();
    plan->x = make_side(plain.x, used.x, piece.kind != Kind::input_grad);
    plan->w = make_filter_side(plain.w, used.w);
    plan->y = make_side(plain.y, used.y, piece.kind != Kind::forward);
    return true;
  };
  switch (piece.kind) {
    case Kind::forward:
      if (!is_fast(hint)) return nullptr;
      return fill(hint, dnnl::convolution_forward(hint), {hint.src_desc(), hint.weights_desc(), hint.dst_desc()})
                 ? plan
                 : nullptr;
    case Kind::input_grad: {
      // A block of channels would be mostly empty, and on plain maps oneDNN is three times faster.
      if (piece.s.group_c() < kFewChannels) {
        free.x = plain.x;
        free.y = plain.y;
      }
      const auto pd = input_grad_pd(free, win, hint);
      if (!is_fast(pd)) return nullptr;
      return fill(pd, dnnl::convolution_backward_data(pd), {pd.diff_src_desc(), pd.weights_desc(), pd.diff_dst_desc()})
                 ? plan
                 : nullptr;
    }
    default: {
      const auto pd = weight_grad_pd(free, win, hint);
      if (!is_fast(pd)) return nullptr;
      return fill(pd, dnnl::convolution_backward_weights(pd),
                  {pd.src_desc(), pd.diff_weights_desc(), pd.diff_dst_desc()})
                 ? plan
                 : nullptr;
    }
  }
}

[[noreturn]] void throw_failure(const dnnl::error& e) {
  if (e.status == dnnl_out_of_memory)
    throw OutOfMemoryError(fmt::format(
        "[conv] oneDNN found no memory: {}. Give cached memory back with empty_cache(), or use smaller batches.",
        e.what()));
  throw Error(fmt::format("[conv] oneDNN failed: {}. Configure with -DSOLVENT_ONEDNN=OFF to do without it.", e.what()));
}

std::shared_ptr<const Plan> plan_for(const Piece& piece) {
  static std::mutex mutex;
  static std::map<decltype(piece.key()), std::shared_ptr<const Plan>> plans;
  const std::lock_guard lock(mutex);
  if (const auto found = plans.find(piece.key()); found != plans.end()) return found->second;
  std::shared_ptr<const Plan> plan;
  try {
    plan = make_plan(piece);
  } catch (const dnnl::error& e) {
    // oneDNN has no such primitive: an empty plan sends these sizes to the own kernels, now and later. Anything else, such
    // as a lack of memory, says nothing about the sizes.
    if (e.status != dnnl_unimplemented && e.status != dnnl_invalid_arguments) throw_failure(e);
  }
  if (plans.size() >= kMaxPlans) plans.clear();  // a program with ever new shapes: start anew
  plans.emplace(piece.key(), plan);
  return plan;
}

// --- running a plan ---------------------------------------------------------------------------------------------------------

dnnl::memory memory_of(const Desc& desc, const float* data) {
  return {desc, engine(), const_cast<float*>(data)};  // oneDNN has no read-only memory; inputs are not written
}

// A tensor in its primitive's layout, in memory of its own unless that is the plain one.
class Laid {
 public:
  Laid(const Side& side, float* plain) : side_(side), plain_(plain) {
    if (!side.same) own_ = Scratch(side.used.get_size());
  }
  [[nodiscard]] dnnl::memory memory() const {
    return memory_of(side_.used, own_.as<float>() ? own_.as<float>() : plain_);
  }
  void fetch(dnnl::stream& stream) const {
    if (!side_.same) move(stream, memory_of(side_.plain, plain_), memory());
  }
  void store(dnnl::stream& stream) const {
    if (!side_.same) move(stream, memory(), memory_of(side_.plain, plain_));
  }

 private:
  void move(dnnl::stream& stream, const dnnl::memory& from, const dnnl::memory& to) const {
    side_.reorder.execute(stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  }

  const Side& side_;
  float* plain_;
  Scratch own_;
};

void compute(const Plan& plan, dnnl::stream& stream, int arg_a, const dnnl::memory& a, int arg_b, const dnnl::memory& b,
             int arg_out, const dnnl::memory& out) {
  const Scratch scratch(plan.scratchpad.get_size());
  plan.compute.execute(
      stream,
      {{arg_a, a}, {arg_b, b}, {arg_out, out}, {DNNL_ARG_SCRATCHPAD, memory_of(plan.scratchpad, scratch.as<float>())}});
}

// --- cutting a problem ------------------------------------------------------------------------------------------------------

// Parts of [0, total), all of `size` but the last one.
struct Parts {
  std::int64_t total = 1;
  std::int64_t size = 1;

  [[nodiscard]] std::int64_t count() const noexcept { return ceil_div(total, size); }
  [[nodiscard]] std::int64_t begin(std::int64_t i) const noexcept { return i * size; }
  [[nodiscard]] std::int64_t length(std::int64_t i) const noexcept { return std::min(size, total - i * size); }
};

struct Cut {
  Parts images;
  Parts channels;  // of the result (groups, if there are several)

  Cut(Kind kind, const ConvShape& s) {
    const auto enough = static_cast<std::int64_t>(kPieceWork / s.work()) + 1;
    // Of equal size: 32 images in 15, 15 and 2 would keep one of two threads busy half of the time.
    images = {s.n, ceil_div(s.n, std::max<std::int64_t>(s.n / enough, 1))};
    if (kind == Kind::weight_grad) {
      const std::int64_t least = std::max(enough, ceil_div(kPartPositions, s.result()));
      const std::int64_t most = std::clamp<std::int64_t>(kPartialElements / s.weights(), 1, kMaxParts);
      images.size = ceil_div(s.n, std::clamp<std::int64_t>(s.n / least, 1, most));
    }
    const std::int64_t all = s.g.groups > 1 ? s.g.groups : kind == Kind::input_grad ? s.c : s.o;
    const std::int64_t unit = s.g.groups > 1 ? 1 : kUnit;
    const double work = s.work() * static_cast<double>(images.size);
    const auto worth = static_cast<std::int64_t>(work / kPieceWork);
    const std::int64_t wanted = std::min(ceil_div(kPieces, images.count()), std::max<std::int64_t>(worth, 1));
    channels = {all, std::min(all, ceil_div(ceil_div(all, unit), wanted) * unit)};
  }
};

// One call: plain maps and filters, the cut, and the plans of its pieces (the last images or channels may be fewer).
struct Problem {
  Kind kind;
  ConvShape s;
  float* x;
  float* w;
  float* y;
  Cut cut;
  std::shared_ptr<const Plan> plans[2][2];  // [last images][last channels]

  Problem(Kind k, const ConvShape& shape, float* x_data, float* w_data, float* y_data)
      : kind(k), s(shape), x(x_data), w(w_data), y(y_data), cut(k, shape) {}

  [[nodiscard]] std::int64_t pieces() const noexcept { return cut.images.count() * cut.channels.count(); }

  // False if oneDNN has no fast code for one of the pieces.
  bool find_plans() {
    for (const std::int64_t i : {std::int64_t{0}, cut.images.count() - 1})
      for (const std::int64_t c : {std::int64_t{0}, cut.channels.count() - 1}) {
        auto& plan = plans[is_last(cut.images, i)][is_last(cut.channels, c)];
        if (!plan) plan = plan_for(piece(cut.images.length(i), cut.channels.length(c)));
        // One copy of the filter, and sums of its gradients, need one layout for all images.
        if (!plan || plan->w.used != this->plan(0, c).w.used) return false;
      }
    return true;
  }
  static bool is_last(const Parts& parts, std::int64_t i) noexcept { return parts.length(i) != parts.size; }

  [[nodiscard]] const Plan& plan(std::int64_t image_part, std::int64_t channel_part) const {
    return *plans[is_last(cut.images, image_part)][is_last(cut.channels, channel_part)];
  }

  [[nodiscard]] Piece piece(std::int64_t num_images, std::int64_t num_channels) const {
    Piece p{kind, s, s.c, s.o, s.group_c()};
    p.s.n = num_images;
    if (s.g.groups > 1) {
      p.s.g.groups = num_channels;
      p.s.c = num_channels * s.group_c();
      p.s.o = num_channels * s.group_o();
    } else if (kind == Kind::input_grad) {
      p.s.c = num_channels;
    } else {
      p.s.o = num_channels;
    }
    return p;
  }

  // Where a part's maps and filters begin.
  [[nodiscard]] std::int64_t first_c(std::int64_t channel_part) const noexcept {
    const std::int64_t first = cut.channels.begin(channel_part);
    return s.g.groups > 1 ? first * s.group_c() : kind == Kind::input_grad ? first : 0;
  }
  [[nodiscard]] std::int64_t first_o(std::int64_t channel_part) const noexcept {
    const std::int64_t first = cut.channels.begin(channel_part);
    return s.g.groups > 1 ? first * s.group_o() : kind == Kind::input_grad ? 0 : first;
  }
  [[nodiscard]] float* x_at(std::int64_t image_part, std::int64_t channel_part) const noexcept {
    return x + (cut.images.begin(image_part) * s.c + first_c(channel_part)) * s.map();
  }
  [[nodiscard]] float* y_at(std::int64_t image_part, std::int64_t channel_part) const noexcept {
    return y + (cut.images.begin(image_part) * s.o + first_o(channel_part)) * s.result();
  }
  [[nodiscard]] std::int64_t w_offset(std::int64_t channel_part) const noexcept {
    const std::int64_t filter = s.group_c() * s.taps();
    return first_o(channel_part) * filter + (s.g.groups > 1 ? 0 : first_c(channel_part) * s.taps());
  }
};

template <class F>
void for_pieces(std::int64_t count, F&& body) {
  LoopError error;
  parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    error.guard([&] {
      const OneThread guard;
      dnnl::stream stream(engine());
      for (std::int64_t i = begin; i < end; ++i) body(stream, i);
    });
  });
  try {
    error.rethrow();
  } catch (const dnnl::error& e) {
    throw_failure(e);
  }
}

// The filters of a call for each part of the channels, in the layouts of their plans: copies of the filter, or partial sums
// of its gradient.
class Filters {
 public:
  explicit Filters(const Problem& p, std::int64_t num_copies = 1) : problem_(p) {
    for (std::int64_t c = 0; c < p.cut.channels.count(); ++c) {
      const auto bytes = static_cast<std::int64_t>(p.plan(0, c).w.used.get_size());
      const std::int64_t count = ceil_div(bytes, kLine) * (kLine / static_cast<std::int64_t>(sizeof(float)));
      parts_.push_back({total_, count});
      total_ += num_copies * count;
      trees_.emplace_back(num_copies);
    }
    memory_ = Scratch::of<float>(total_);
  }
  [[nodiscard]] float* at(std::int64_t copy, std::int64_t channel_part) const noexcept {
    const Part& part = parts_[static_cast<std::size_t>(channel_part)];
    return memory_.as<float>() + part.begin + copy * part.count;
  }
  // The filter to the copies with index 0.
  void pack() const {
    for_channel_parts([](const FilterLayout& layout, float* plain, float* blocked) { layout.pack(plain, blocked); });
  }
  // A partial sum is complete; the last one leaves the sum of all in the copy with index 0.
  void add(std::int64_t copy, std::int64_t channel_part) noexcept {
    const auto i = static_cast<std::size_t>(channel_part);
    trees_[i].add(copy, at(0, channel_part), parts_[i].count);
  }
  // The copies with index 0 to the filter.
  void unpack() const {
    for_channel_parts([](const FilterLayout& layout, float* plain, float* blocked) { layout.unpack(blocked, plain); });
  }

 private:
  static constexpr std::int64_t kLine = 64;
  struct Part {
    std::int64_t begin;
    std::int64_t count;  // elements of a copy
  };

  // On all threads: the layouts' own loops are parallel if there is one part.
  template <class F>
  void for_channel_parts(F&& move) const {
    parallel_for(problem_.cut.channels.count(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c)
        move(problem_.plan(0, c).w.layout, problem_.w + problem_.w_offset(c), at(0, c));
    });
  }

  const Problem& problem_;
  std::vector<Part> parts_;
  std::vector<SumTree> trees_;
  std::int64_t total_ = 0;
  Scratch memory_;
};

// conv and conv_input_grad: every piece has its own part of the result.
void run_maps(const Problem& p) {
  const std::int64_t parts = p.cut.channels.count();
  const Filters filters(p);
  filters.pack();
  for_pieces(p.pieces(), [&](dnnl::stream& stream, std::int64_t i) {
    const std::int64_t image = i / parts;
    const std::int64_t channel = i % parts;
    const Plan& plan = p.plan(image, channel);
    const dnnl::memory w = memory_of(plan.w.used, filters.at(0, channel));
    const Laid x(plan.x, p.x_at(image, channel));
    const Laid y(plan.y, p.y_at(image, channel));
    if (p.kind == Kind::forward) {
      x.fetch(stream);
      compute(plan, stream, DNNL_ARG_SRC, x.memory(), DNNL_ARG_WEIGHTS, w, DNNL_ARG_DST, y.memory());
      y.store(stream);
    } else {
      y.fetch(stream);
      compute(plan, stream, DNNL_ARG_DIFF_DST, y.memory(), DNNL_ARG_WEIGHTS, w, DNNL_ARG_DIFF_SRC, x.memory());
      x.store(stream);
    }
  });
}

// A sum for each part of the images, in oneDNN's layout; their sum is moved to the plain one.
void run_weights(const Problem& p) {
  const std::int64_t parts = p.cut.channels.count();
  Filters sums(p, p.cut.images.count());
  for_pieces(p.pieces(), [&](dnnl::stream& stream, std::int64_t i) {
    const std::int64_t image = i / parts;
    const std::int64_t channel = i % parts;
    const Plan& plan = p.plan(image, channel);
    const Laid x(plan.x, p.x_at(image, channel));
    const Laid y(plan.y, p.y_at(image, channel));
    const dnnl::memory w = memory_of(plan.w.used, sums.at(image, channel));
    x.fetch(stream);
    y.fetch(stream);
    compute(plan, stream, DNNL_ARG_SRC, x.memory(), DNNL_ARG_DIFF_DST, y.memory(), DNNL_ARG_DIFF_WEIGHTS, w);
    sums.add(image, channel);
  });
  sums.unpack();
}

}  // namespace

bool has_onednn() noexcept { return true; }

bool conv_onednn(const ConvShape& s, const float* x, const float* w, float* y) {
  Problem p(Kind::forward, s, const_cast<float*>(x), const_cast<float*>(w), y);
  if (!p.find_plans()) return false;
  run_maps(p);
  return true;
}

bool conv_input_grad_onednn(const ConvShape& s, const float* g, const float* w, float* x) {
  Problem p(Kind::input_grad, s, x, const_cast<float*>(w), const_cast<float*>(g));
  if (!p.find_plans()) return false;
  run_maps(p);
  return true;
}

bool conv_weight_grad_onednn(const ConvShape& s, const float* x, const float* g, float* w) {
  Problem p(Kind::weight_grad, s, const_cast<float*>(x), w, const_cast<float*>(g));
  if (!p.find_plans()) return false;
  run_weights(p);
  return true;
}

}  // namespace solvent::cpu

#else

namespace solvent::cpu {

bool has_onednn() noexcept { return false; }
bool conv_onednn(const ConvShape&, const float*, const float*, float*) { return false; }
bool conv_input_grad_onednn(const ConvShape&, const float*, const float*, float*) { return false; }
bool conv_weight_grad_onednn(const ConvShape&, const float*, const float*, float*) { return false; }

}  // namespace solvent::cpu

#endif
