// Entries of the table of operations: the convolution family.

#include <utility>

#include "solvent/ops/conv.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

// --- the naive twin: the definition of the docstring, on maps ------------------------------------------------------------------

struct Window {
  std::int64_t stride, before, after, dilation;

  [[nodiscard]] std::int64_t positions(std::int64_t in, std::int64_t kernel) const {
    return (in + before + after - dilation * (kernel - 1) - 1) / stride + 1;
  }
};

struct Windows {
  Window h;
  Window w;
  std::int64_t groups;

  explicit Windows(const Conv2dOptions& o)
      : h{o.stride.height, o.padding.top, o.padding.bottom, o.dilation.height},
        w{o.stride.width, o.padding.left, o.padding.right, o.dilation.width},
        groups(o.groups) {}
};

// Calls f(index of x, index of w, index of y) for every product of the convolution.
template <class F>
void for_products(const Shape& x, const Shape& w, const Shape& y, const Windows& o, F f) {
  const std::int64_t group_o = w[0] / o.groups;
  for_each_index({y[0], y[1], y[2], y[3]}, [&](const Dims& at) {
    for_each_index({w[1], w[2], w[3]}, [&](const Dims& tap) {
      const std::int64_t row = at[2] * o.h.stride - o.h.before + tap[1] * o.h.dilation;
      const std::int64_t column = at[3] * o.w.stride - o.w.before + tap[2] * o.w.dilation;
      if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) return;
      f(Dims{at[0], at[1] / group_o * w[1] + tap[0], row, column}, Dims{at[1], tap[0], tap[1], tap[2]}, at);
    });
  });
}

Array naive_conv(const Array& x, const Array& w, const Conv2dOptions& options) {
  const Windows o(options);
  Array y(Shape{x.shape[0], w.shape[0], o.h.positions(x.shape[2], w.shape[2]), o.w.positions(x.shape[3], w.shape[3])});
  for_products(x.shape, w.shape, y.shape, o,
               [&](const Dims& ix, const Dims& iw, const Dims& iy) { y.at(iy) += x.at(ix) * w.at(iw); });
  return y;
}

Array naive_input_grad(const Array& g, const Array& w, Size2d size, const Conv2dOptions& options) {
  Array x(Shape{g.shape[0], w.shape[1] * options.groups, size.height, size.width});
  for_products(x.shape, w.shape, g.shape, Windows(options),
               [&](const Dims& ix, const Dims& iw, const Dims& iy) { x.at(ix) += g.at(iy) * w.at(iw); });
  return x;
}

Array naive_weight_grad(const Array& x, const Array& g, Size2d size, const Conv2dOptions& options) {
  Array w(Shape{g.shape[1], x.shape[1] / options.groups, size.height, size.width});
  for_products(x.shape, w.shape, g.shape, Windows(options),
               [&](const Dims& ix, const Dims& iw, const Dims& iy) { w.at(iw) += x.at(ix) * g.at(iy); });
  return w;
}

// (N, C, L) as maps of one row, and back.
Array as_map(Array a) {
  a.shape.insert(2, 1);
  return a;
}
Array as_sequence(Array a) {
  a.shape.erase(2);
  return a;
}
Conv2dOptions as_2d(const Conv1dOptions& o) {
  return {{1, o.stride}, {0, 0, o.padding.before, o.padding.after}, {1, o.dilation}, o.groups};
}

// --- entries --------------------------------------------------------------------------------------------------------------------

using Lists = std::vector<Tensors>;

Samples pairs(std::vector<std::pair<Shape, Shape>> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& [a, b] : shapes) {
      lists.push_back({normal_sample(key, n, a, dtype), normal_sample(key, n + 1, b, dtype)});
      n += 2;
    }
    return lists;
  };
}

OpCase family_case(std::string name, std::vector<std::string> covers) {
  OpCase c;
  c.name = std::move(name);
  c.covers = std::move(covers);
  c.tolerance_f32 = 1e-5;  // sums of up to 50 products, in another order than the twin's
  c.no_errors = "same front end as another entry";
  return c;
}

OpCase conv2d_case(const std::string& variant, const Conv2dOptions& o, std::vector<std::pair<Shape, Shape>> shapes,
                   const std::pair<Shape, Shape>& large) {
  OpCase c = family_case("conv" + variant, {"conv", "conv_input_grad", "conv_weight_grad"});
  c.function = [o](Tensors x) { return detail::one(conv2d(std::move(x[0]), std::move(x[1]), o)); };
  c.reference = [o](const Arrays& x) { return Arrays{naive_conv(x[0], x[1], o)}; };
  c.samples = pairs(std::move(shapes));
  if (o.groups > 1) c.no_single = "several groups have several channels";
  c.large = [large](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, large.first, dtype), normal_sample(key, 1, large.second, dtype)};
  };
  return c;
}

std::vector<ErrorCase> conv2d_errors() {
  const auto call = [](Shape x, Shape w, Conv2dOptions o = {}) { return [=] { (void)conv2d(zeros(x), zeros(w), o); }; };
  return {
      {"ranks", call({3, 5, 5}, {4, 3, 3, 3}), "ShapeError", {"[conv2d]", "(3, 5, 5)", "x (N, C, H, W)", "unsqueeze"}},
      {"channels",
       call({1, 3, 5, 5}, {4, 2, 3, 3}),
       "ShapeError",
       {"[conv2d]", "(4, 2, 3, 3)", "1 groups", "C / groups"}},
      {"groups do not divide the filters",
       call({1, 4, 5, 5}, {3, 2, 3, 3}, {.groups = 2}),
       "ShapeError",
       {"[conv2d]", "2 groups", "divisible"}},
      {"filter larger than the map",
       call({1, 1, 2, 5}, {1, 1, 3, 3}),
       "ShapeError",
       {"[conv2d]", "map of 2", "filter of 3", "axis -2", "Add padding"}},
      {"stride",
       call({1, 1, 3, 3}, {1, 1, 1, 1}, {.stride = 0}),
       "ValueError",
       {"[conv2d]", "stride = 0", "at least 1"}},
      {"dilation",
       call({1, 1, 3, 3}, {1, 1, 1, 1}, {.dilation = {1, 0}}),
       "ValueError",
       {"[conv2d]", "dilation = 0", "at least 1"}},
      {"padding",
       call({1, 1, 3, 3}, {1, 1, 1, 1}, {.padding = {0, 0, 0, -1}}),
       "ValueError",
       {"[conv2d]", "padding = -1", "Use slice"}},
      {"groups", call({1, 1, 3, 3}, {1, 1, 1, 1}, {.groups = 0}), "ValueError", {"[conv2d]", "groups = 0"}},
      {"dtypes",
       [] {
         (void)conv2d(zeros({1, 1, 3, 3}), zeros({1, 1, 1, 1}, float64));
       },
       "DtypeError",
       {"[conv2d]", "float64"}},
      {"integers",
       [] {
         (void)conv2d(zeros({1, 1, 3, 3}, int64), zeros({1, 1, 1, 1}, int64));
       },
       "DtypeError",
       {"[conv2d]", "int64"}}};
}

std::vector<OpCase> conv2d_cases() {
  OpCase plain = conv2d_case("", {},
                             {{{2, 2, 3, 4}, {3, 2, 2, 2}},
                              {{1, 3, 2, 3}, {2, 3, 1, 1}},
                              {{2, 1, 4, 3}, {1, 1, 3, 2}},
                              {{0, 2, 3, 3}, {2, 2, 2, 2}},
                              {{2, 0, 3, 3}, {2, 0, 2, 2}},
                              {{1, 2, 3, 3}, {0, 2, 2, 2}},
                              {{1, 1, 1, 1}, {1, 1, 1, 1}}},
                             {{9, 8, 32, 32}, {40, 8, 3, 3}});
  plain.no_errors.clear();
  plain.errors = conv2d_errors();
  return {plain,
          conv2d_case("/padded", {.padding = {1, 0, 2, 1}},
                      {{{1, 2, 3, 3}, {2, 2, 2, 3}},
                       {{2, 1, 2, 2}, {2, 1, 3, 3}},
                       {{0, 1, 2, 2}, {1, 1, 1, 1}},
                       {{1, 1, 1, 1}, {1, 1, 1, 1}}},
                      {{3, 64, 20, 20}, {72, 64, 3, 3}}),
          conv2d_case("/strided_dilated", {.stride = {2, 3}, .padding = {1, 2}, .dilation = {2, 1}},
                      {{{1, 2, 4, 5}, {2, 2, 2, 3}},
                       {{2, 1, 5, 4}, {1, 1, 2, 2}},
                       {{1, 2, 0, 3}, {2, 2, 1, 2}},
                       {{1, 1, 1, 1}, {1, 1, 1, 1}}},
                      {{5, 16, 41, 39}, {24, 16, 3, 3}}),
          conv2d_case("/groups", {.padding = 1, .groups = 2},
                      {{{1, 4, 2, 3}, {4, 2, 2, 2}},
                       {{2, 2, 3, 2}, {2, 1, 3, 1}},
                       {{2, 2, 2, 2}, {4, 1, 1, 2}},
                       {{0, 2, 2, 2}, {2, 1, 2, 2}}},
                      {{6, 16, 30, 30}, {32, 8, 3, 3}}),
          conv2d_case("/depthwise", {.stride = 2, .padding = 1, .groups = 3},
                      {{{1, 3, 3, 3}, {3, 1, 3, 3}}, {{2, 3, 2, 2}, {6, 1, 2, 2}}, {{0, 3, 2, 2}, {3, 1, 2, 2}}},
                      {{4, 3, 80, 80}, {6, 1, 3, 3}})};
}

OpCase conv1d_case(const std::string& variant, const Conv1dOptions& o) {
  OpCase c = family_case("conv/1d" + variant, {"conv", "conv_input_grad", "conv_weight_grad"});
  c.function = [o](Tensors x) { return detail::one(conv1d(std::move(x[0]), std::move(x[1]), o)); };
  c.reference = [o](const Arrays& x) { return Arrays{as_sequence(naive_conv(as_map(x[0]), as_map(x[1]), as_2d(o)))}; };
  const std::int64_t g = o.groups;
  c.samples = pairs({{{2, 2, 5}, {2 * g, 2 / g, 2}},
                     {{1, 4, 4}, {2, 4 / g, 3}},
                     {{3, 2, 3}, {4, 2 / g, 1}},
                     {{0, 2, 3}, {2, 2 / g, 2}},
                     {{1, g, 1}, {g, 1, 1}}});
  if (g > 1) c.no_single = "two groups have two channels";
  c.large = [g](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {7, 16, 900}, dtype), normal_sample(key, 1, {24, 16 / g, 5}, dtype)};
  };
  return c;
}

// --- the other two members ----------------------------------------------------------------------------------------------------

// A map that gives g's extents: the largest one, if `largest`.
Size2d map_of(const Shape& g, const Shape& w, const Conv2dOptions& options, bool largest) {
  const Windows o(options);
  const auto extent = [largest](const Window& a, std::int64_t out, std::int64_t kernel) {
    return (out - 1) * a.stride - a.before - a.after + a.dilation * (kernel - 1) + 1 + (largest ? a.stride - 1 : 0);
  };
  return {extent(o.h, g[2], w[2]), extent(o.w, g[3], w[3])};
}

OpCase input_grad_case(const std::string& variant, const Conv2dOptions& o,
                       std::vector<std::pair<Shape, Shape>> shapes) {
  OpCase c = family_case("conv_input_grad" + variant, {"conv_input_grad", "conv", "conv_weight_grad"});
  c.function = [o](Tensors x) {
    const Size2d size = map_of(x[0].shape(), x[1].shape(), o, true);
    return detail::one(conv2d_input_grad(std::move(x[0]), std::move(x[1]), size, o));
  };
  c.reference = [o](const Arrays& x) {
    return Arrays{naive_input_grad(x[0], x[1], map_of(x[0].shape, x[1].shape, o, true), o)};
  };
  c.samples = pairs(std::move(shapes));
  if (!variant.empty()) c.no_single = "among the plain ones";
  c.large = [o](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {7, 16, 25, 25}, dtype),
                   normal_sample(key, 1, {16, 48 / o.groups, 3, 3}, dtype)};
  };
  return c;
}

std::vector<OpCase> input_grad_cases() {
  OpCase plain = input_grad_case("", {},
                                 {{{2, 2, 2, 3}, {2, 3, 2, 2}},
                                  {{1, 3, 2, 2}, {3, 1, 1, 1}},
                                  {{2, 1, 1, 2}, {1, 2, 3, 2}},
                                  {{0, 2, 2, 2}, {2, 1, 2, 2}},
                                  {{1, 1, 1, 1}, {1, 1, 1, 1}}});
  plain.no_errors.clear();
  const auto call = [](Shape g, Shape w, Size2d size, Conv2dOptions o = {}) {
    return [=] { (void)conv2d_input_grad(zeros(g), zeros(w), size, o); };
  };
  plain.errors = {
      {"map",
       call({1, 2, 3, 3}, {2, 1, 2, 2}, {5, 4}),
       "ShapeError",
       {"[conv2d_input_grad]", "(1, 2, 3, 3)", "(N, O, 4, 3)"}},
      {"channels",
       call({1, 3, 3, 3}, {2, 1, 2, 2}, 4),
       "ShapeError",
       {"[conv2d_input_grad]", "(1, 3, 3, 3)", "g (N, O"}},
      {"filter", call({1, 2, 1, 1}, {2, 1, 3, 3}, 2), "ShapeError", {"[conv2d_input_grad]", "Add padding"}}};
  return {plain,
          input_grad_case("/strided", {.stride = {2, 1}, .padding = {0, 1, 1, 0}, .dilation = {1, 2}},
                          {{{1, 2, 3, 2}, {2, 2, 2, 2}},
                           {{2, 1, 2, 2}, {1, 2, 3, 3}},
                           {{1, 1, 2, 1}, {1, 1, 1, 3}},
                           {{0, 1, 2, 2}, {1, 1, 2, 2}},
                           {{1, 1, 1, 1}, {1, 2, 2, 2}}}),
          input_grad_case("/groups", {.stride = 2, .groups = 2},
                          {{{1, 4, 2, 2}, {4, 2, 2, 1}},
                           {{2, 2, 1, 2}, {2, 1, 2, 2}},
                           {{1, 2, 2, 2}, {2, 2, 1, 1}},
                           {{0, 2, 2, 2}, {2, 1, 2, 2}}})};
}

OpCase weight_grad_case(const std::string& variant, const Conv2dOptions& o, Size2d kernel, std::vector<Shape> maps,
                        std::int64_t filters) {
  OpCase c = family_case("conv_weight_grad" + variant, {"conv_weight_grad", "conv", "conv_input_grad"});
  c.function = [=](Tensors x) { return detail::one(conv2d_weight_grad(std::move(x[0]), std::move(x[1]), kernel, o)); };
  c.reference = [=](const Arrays& x) { return Arrays{naive_weight_grad(x[0], x[1], kernel, o)}; };
  const auto result = [=](const Shape& x, std::int64_t out) {
    const Windows w(o);
    return Shape{x[0], out, w.h.positions(x[2], kernel.height), w.w.positions(x[3], kernel.width)};
  };
  c.samples = [=](Key key, DType dtype) {
    Lists lists;
    for (const Shape& x : maps) {
      const std::uint64_t n = 2 * lists.size();
      const std::int64_t out = x.product() == 1 ? 1 : filters;
      lists.push_back({normal_sample(key, n, x, dtype), normal_sample(key, n + 1, result(x, out), dtype)});
    }
    return lists;
  };
  c.large = [=](Key key, DType dtype) {
    const Shape x{11, 24, 20, 20};
    return Tensors{normal_sample(key, 0, x, dtype), normal_sample(key, 1, result(x, 48), dtype)};
  };
  return c;
}

std::vector<OpCase> weight_grad_cases() {
  OpCase plain = weight_grad_case("", {}, 1, {{2, 2, 2, 3}, {1, 3, 2, 2}, {0, 1, 2, 2}, {1, 1, 1, 1}}, 3);
  plain.no_errors.clear();
  const auto call = [](Shape x, Shape g, Size2d kernel, Conv2dOptions o = {}) {
    return [=] { (void)conv2d_weight_grad(zeros(x), zeros(g), kernel, o); };
  };
  plain.errors = {
      {"result", call({1, 2, 4, 4}, {1, 1, 4, 3}, 2), "ShapeError", {"[conv2d_weight_grad]", "(N, O, 3, 3)"}},
      {"batch", call({1, 2, 4, 4}, {2, 1, 3, 3}, 2), "ShapeError", {"[conv2d_weight_grad]", "(2, 1, 3, 3)"}},
      {"groups",
       call({1, 3, 4, 4}, {1, 2, 3, 3}, 2, {.groups = 2}),
       "ShapeError",
       {"[conv2d_weight_grad]", "2 groups", "divisible"}}};
  OpCase strided = weight_grad_case("/strided", {.stride = {1, 2}, .padding = {1, 0, 0, 2}, .dilation = {2, 1}}, {2, 3},
                                    {{1, 2, 3, 3}, {2, 1, 2, 4}, {0, 1, 2, 3}, {1, 1, 2, 2}}, 2);
  strided.no_single = "among the plain ones";
  OpCase groups =
      weight_grad_case("/groups", {.groups = 2}, 2, {{1, 4, 3, 2}, {2, 2, 2, 3}, {1, 2, 3, 3}, {0, 2, 2, 2}}, 4);
  groups.no_single = "two groups have two channels";
  return {plain, strided, groups};
}

// --- transposed convolutions --------------------------------------------------------------------------------------------------

OpCase transpose2d_case() {
  const ConvTranspose2dOptions o{.stride = {2, 3}, .padding = {0, 1, 1, 0}, .output_padding = {1, 2}};
  OpCase c = family_case("conv_transpose2d", {"conv_input_grad", "conv", "conv_weight_grad"});
  c.function = [o](Tensors x) { return detail::one(conv_transpose2d(std::move(x[0]), std::move(x[1]), o)); };
  c.reference = [o](const Arrays& x) {
    const Conv2dOptions conv{o.stride, o.padding, o.dilation, o.groups};
    Size2d size = map_of(x[0].shape, x[1].shape, conv, false);
    return Arrays{naive_input_grad(x[0], x[1], {size.height + 1, size.width + 2}, conv)};
  };
  c.samples = pairs({{{1, 2, 2, 2}, {2, 2, 2, 2}},
                     {{2, 1, 1, 2}, {1, 2, 2, 3}},
                     {{1, 1, 2, 1}, {1, 1, 1, 1}},
                     {{0, 1, 2, 2}, {1, 1, 2, 2}},
                     {{1, 1, 1, 1}, {1, 1, 1, 1}}});
  c.no_errors.clear();
  const auto call = [](Shape x, Shape w, ConvTranspose2dOptions options = {}) {
    return [=] { (void)conv_transpose2d(zeros(x), zeros(w), options); };
  };
  c.errors = {{"channels",
               call({1, 3, 2, 2}, {2, 3, 2, 2}),
               "ShapeError",
               {"[conv_transpose2d]", "(2, 3, 2, 2)", "w (C, O / groups"}},
              {"output padding",
               call({1, 2, 2, 2}, {2, 3, 2, 2}, {.stride = 2, .output_padding = 2}),
               "ValueError",
               {"[conv_transpose2d]", "output_padding = 2", "stride 2"}},
              {"nothing left",
               call({1, 2, 1, 1}, {2, 3, 2, 2}, {.padding = 1}),
               "ShapeError",
               {"[conv_transpose2d]", "padding 1 + 1", "less padding"}},
              {"stride",
               call({1, 2, 2, 2}, {2, 3, 2, 2}, {.stride = -1}),
               "ValueError",
               {"[conv_transpose2d]", "stride = -1"}}};
  return c;
}

OpCase transpose1d_case() {
  const ConvTranspose1dOptions o{.stride = 2, .padding = {1, 0}, .output_padding = 1, .dilation = 2, .groups = 2};
  OpCase c = family_case("conv_transpose1d", {"conv_input_grad", "conv", "conv_weight_grad"});
  c.function = [o](Tensors x) { return detail::one(conv_transpose1d(std::move(x[0]), std::move(x[1]), o)); };
  c.reference = [o](const Arrays& x) {
    const Conv2dOptions conv = as_2d({o.stride, o.padding, o.dilation, o.groups});
    const Array g = as_map(x[0]);
    const Array w = as_map(x[1]);
    Size2d size = map_of(g.shape, w.shape, conv, false);
    return Arrays{as_sequence(naive_input_grad(g, w, {1, size.width + 1}, conv))};
  };
  c.samples = pairs({{{1, 2, 3}, {2, 2, 2}}, {{2, 4, 2}, {4, 1, 3}}, {{1, 2, 1}, {2, 1, 2}}, {{0, 2, 2}, {2, 1, 2}}});
  c.no_single = "two groups have two channels";
  return c;
}

}  // namespace

std::vector<OpCase> conv_cases() {
  std::vector<OpCase> all = conv2d_cases();
  all.push_back(conv1d_case("", {.padding = {2, 0}}));
  all.push_back(conv1d_case("/strided", {.stride = 2, .padding = 1, .dilation = 2, .groups = 2}));
  for (auto& cases : {input_grad_cases(), weight_grad_cases()}) all.insert(all.end(), cases.begin(), cases.end());
  all.push_back(transpose2d_case());
  all.push_back(transpose1d_case());
  return all;
}

}  // namespace solvent::testing
