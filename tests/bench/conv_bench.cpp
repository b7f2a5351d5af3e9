// Convolutions and their gradients against raw oneDNN and libtorch, on shapes of ResNets, PixelCNN++ and the small networks of
// equilibrium propagation. Maps are plain (N, C, H, W) for everybody: oneDNN's time holds the reorders to its layout and back,
// with all primitives made before; "oneDNN blocked" is its primitive alone, on maps that happen to have its layout. FLOP/s
// count the operations of the direct form, of which the tiles of 3x3 filters do 1 in 2.25.

#include <array>
#include <cmath>
#include <memory>
#include <string>

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

#if SOLVENT_BENCH_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace solvent::bench {
namespace {

using torch_peer::ConvPart;
using torch_peer::ConvSizes;

Conv2dOptions options_of(const ConvSizes& s) { return {.padding = {s.pad_h, s.pad_h, s.pad_w, s.pad_w}}; }

struct Problem {
  ConvSizes sizes;
  ConvPart part;
  Tensor x, w, g;

  [[nodiscard]] Tensor solve() const {
    const Conv2dOptions o = options_of(sizes);
    switch (part) {
      case ConvPart::forward: return conv2d(x, w, o);
      case ConvPart::input_grad: return conv2d_input_grad(g, w, {sizes.h, sizes.w}, o);
      default: return conv2d_weight_grad(x, g, {sizes.kh, sizes.kw}, o);
    }
  }
};

#if SOLVENT_BENCH_ONEDNN

// One primitive with its own threads, and reorders between plain tensors and its layouts.
class RawConv {
 public:
  explicit RawConv(const Problem& p) : stream_(engine_), part_(p.part) {
    const ConvSizes& s = p.sizes;
    const Shape result = p.g.shape();
    const Desc x = plain({s.n, s.c, s.h, s.w});
    const Desc w = plain({s.o, s.c, s.kh, s.kw});
    const Desc y = plain({s.n, s.o, result[2], result[3]});
    make(x, w, y, {s.pad_h, s.pad_w});
    sides_ = {Side{x, used_[0], engine_, p.x}, Side{w, used_[1], engine_, p.w}, Side{y, used_[2], engine_, p.g}};
    const std::size_t out = out_side();
    result_ = zeros(out == 0 ? p.x.shape() : out == 1 ? p.w.shape() : p.g.shape());
    sides_[out].outside = memory(sides_[out].plain, result_);
    for (std::size_t i = 0; i < 3; ++i) sides_[i].make_reorder(engine_, i == out);
    whole();
  }
  // Reorders, primitive, reorder.
  void whole() {
    for (std::size_t i = 0; i < 3; ++i)
      if (i != out_side()) sides_[i].move(stream_);
    primitive();
    sides_[out_side()].move(stream_);
    stream_.wait();
  }
  void primitive() {
    constexpr std::array<std::array<int, 3>, 3> kArgs = {
        std::array{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        std::array{DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        std::array{DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    const auto& args = kArgs[static_cast<std::size_t>(part_)];
    compute_.execute(stream_, {{args[0], sides_[0].inside}, {args[1], sides_[1].inside}, {args[2], sides_[2].inside}});
    stream_.wait();
  }
  [[nodiscard]] const Tensor& result() const { return result_; }

 private:
  using Desc = dnnl::memory::desc;
  using Dims = dnnl::memory::dims;
  static constexpr auto kType = dnnl::memory::data_type::f32;

  struct Side {
    Desc plain;
    Desc used;
    dnnl::memory outside;
    dnnl::memory inside;
    dnnl::reorder reorder;
    bool is_result = false;

    Side() = default;
    Side(const Desc& p, const Desc& u, const dnnl::engine& engine, const Tensor& data)
        : plain(p), used(u), outside(p, engine, const_cast<float*>(data.data<float>())), inside(outside) {}
    void make_reorder(const dnnl::engine& engine, bool result) {
      is_result = result;
      inside = plain == used ? outside : dnnl::memory(used, engine);
      if (plain != used) reorder = result ? dnnl::reorder(inside, outside) : dnnl::reorder(outside, inside);
    }
    void move(dnnl::stream& stream) {
      if (plain == used) return;
      if (is_result)
        reorder.execute(stream, inside, outside);
      else
        reorder.execute(stream, outside, inside);
    }
  };

  static Desc plain(const Dims& d) { return {d, kType, dnnl::memory::format_tag::nchw}; }
  static Desc any(const Dims& d) { return {d, kType, dnnl::memory::format_tag::any}; }
  [[nodiscard]] std::size_t out_side() const {
    return part_ == ConvPart::forward ? 2 : part_ == ConvPart::input_grad ? 0 : 1;
  }
  [[nodiscard]] dnnl::memory memory(const Desc& desc, const Tensor& t) const {
    return {desc, engine_, const_cast<float*>(t.data<float>())};
  }

  void make(const Desc& px, const Desc& pw, const Desc& py, const Dims& padding) {
#if DNNL_VERSION_MAJOR >= 3
    const auto dims = [](const Desc& d) { return d.get_dims(); };
#else
    const auto dims = [](const Desc& d) { return d.dims(); };
#endif
    const Desc x = any(dims(px)), w = any(dims(pw)), y = any(dims(py));
    const Dims stride{1, 1}, dilation{0, 0};
    const auto kDirect = dnnl::algorithm::convolution_direct;
    const auto kTraining = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::convolution_forward::primitive_desc forward(engine_, kTraining, kDirect, x, w, y, stride, dilation,
                                                            padding, padding);
    const auto backward = [&](auto tag) {
      return typename decltype(tag)::primitive_desc(engine_, kDirect, x, w, y, stride, dilation, padding, padding,
                                                    forward);
    };
#else
    const dnnl::convolution_forward::primitive_desc forward(
        {kTraining, kDirect, x, w, y, stride, dilation, padding, padding}, engine_);
    const auto backward = [&](auto tag) {
      using Primitive = decltype(tag);
      return
          typename Primitive::primitive_desc({kDirect, x, w, y, stride, dilation, padding, padding}, engine_, forward);
    };
#endif
    if (part_ == ConvPart::forward) {
      used_ = {forward.src_desc(), forward.weights_desc(), forward.dst_desc()};
      compute_ = dnnl::convolution_forward(forward);
    } else if (part_ == ConvPart::input_grad) {
      const auto pd = backward(dnnl::convolution_backward_data());
      used_ = {pd.diff_src_desc(), pd.weights_desc(), pd.diff_dst_desc()};
      compute_ = dnnl::convolution_backward_data(pd);
    } else {
      const auto pd = backward(dnnl::convolution_backward_weights());
      used_ = {pd.src_desc(), pd.diff_weights_desc(), pd.diff_dst_desc()};
      compute_ = dnnl::convolution_backward_weights(pd);
    }
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_;
  ConvPart part_;
  dnnl::primitive compute_;
  std::array<Desc, 3> used_;   // x, w, y
  std::array<Side, 3> sides_;  // x, w, y
  Tensor result_;
};

void add_onednn_peers(Row& row, const Problem& p) {
  const auto raw = std::make_shared<RawConv>(p);
  row.peers.push_back({.name = "oneDNN", .run = [raw] { raw->whole(); }, .at_least = 0.95});
  row.peers.push_back({.name = "oneDNN blocked", .run = [raw] { raw->primitive(); }});
  row.error = [p, raw] { return max_difference(p.solve(), raw->result()); };
}

#else

void add_onednn_peers(Row& row, const Problem& p) {
  const Problem wide{p.sizes, p.part, cast(p.x, float64), cast(p.w, float64), cast(p.g, float64)};
  row.error = [p, wide] { return max_difference(p.solve(), cast(wide.solve(), float32)); };
}

#endif

Row conv_row(const ConvSizes& s, ConvPart part, double torch_at_least) {
  const Tensor x = random_normal({s.n, s.c, s.h, s.w});
  const Tensor w = random_normal({s.o, s.c, s.kh, s.kw}, 2);
  const Tensor g = random_normal(conv2d(x, w, options_of(s)).shape(), 3);
  const Problem p{s, part, x, w, g};
  const torch_peer::Call torch = torch_peer::conv2d(s, part, x.data<float>(), w.data<float>(), g.data<float>());
  Row row;
  row.run = [p] { keep(p.solve()); };
  const double products = static_cast<double>(s.c * s.kh * s.kw) * static_cast<double>(g.numel());
  row.flops = 2 * products;
  add_onednn_peers(row, p);
  row.peers.push_back({.name = "libtorch", .run = torch.run, .at_least = torch_at_least});
  // Sums of that many products of standard normal numbers, in different orders.
  const double terms = part == ConvPart::forward      ? static_cast<double>(s.c * s.kh * s.kw)
                       : part == ConvPart::input_grad ? static_cast<double>(s.o * s.kh * s.kw)
                                                      : products / static_cast<double>(w.numel());
  row.tolerance = 2e-6 * terms + 1e-5;
  return row;
}

bool add_shape(const std::string& name, const ConvSizes& s, double torch_at_least) {
  add_row("conv/" + name + "/forward", [=] { return conv_row(s, ConvPart::forward, torch_at_least); });
  add_row("conv/" + name + "/input_grad", [=] { return conv_row(s, ConvPart::input_grad, torch_at_least); });
  return add_row("conv/" + name + "/weight_grad", [=] { return conv_row(s, ConvPart::weight_grad, torch_at_least); });
}

const bool kRegistered[] = {
    add_shape("3x3_64_64_32x32_B16", {16, 64, 64, 32, 32, 3, 3, 1, 1}, 1.25),
    add_shape("3x3_128_256_8x8_B32", {32, 128, 256, 8, 8, 3, 3, 1, 1}, 1.25),
    add_shape("1x1_256_256_16x16_B16", {16, 256, 256, 16, 16, 1, 1, 0, 0}, 1.8),
    add_shape("5x5_12_12_32x32_B16", {16, 12, 12, 32, 32, 5, 5, 2, 2}, 0),
    add_shape("7x7_3_64_32x32_B16", {16, 3, 64, 32, 32, 7, 7, 3, 3}, 0),
    // PixelCNN++ on MNIST: down-shifted and down-right-shifted filters of the gated blocks, padding left out.
    add_shape("2x3_80_40_28x28_B16", {16, 80, 40, 29, 30, 2, 3, 0, 0}, 0),
    add_shape("2x2_80_80_28x28_B16", {16, 80, 80, 29, 29, 2, 2, 0, 0}, 0),
    add_shape("3x3_16_16_8x8_B32", {32, 16, 16, 8, 8, 3, 3, 1, 1}, 0),
};

}  // namespace
}  // namespace solvent::bench
