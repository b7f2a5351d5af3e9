// Entries of the table of operations: pooling and resizing.

#include <algorithm>
#include <cmath>
#include <utility>

#include "solvent/ops/pool.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

// The window of position (oh, ow): rows [top, bottom), columns [left, right) of the map.
struct Window {
  std::int64_t top, bottom, left, right;
};

struct Windows {
  Size2d window, stride, padding;

  [[nodiscard]] std::int64_t rows(std::int64_t height) const {
    return (height + 2 * padding.height - window.height) / stride.height + 1;
  }
  [[nodiscard]] std::int64_t columns(std::int64_t width) const {
    return (width + 2 * padding.width - window.width) / stride.width + 1;
  }
  [[nodiscard]] Window at(std::int64_t oh, std::int64_t ow, std::int64_t height, std::int64_t width) const {
    const std::int64_t h = oh * stride.height - padding.height;
    const std::int64_t w = ow * stride.width - padding.width;
    return {std::max<std::int64_t>(h, 0), std::min(h + window.height, height), std::max<std::int64_t>(w, 0),
            std::min(w + window.width, width)};
  }
};

// Replaces the last two extents and calls f(index of the result, map index of the input's first element, window).
template <class F>
Array over_windows(const Array& x, const Windows& windows, const F& f) {
  Shape shape = x.shape;
  const int r = shape.rank();
  const std::int64_t height = shape[r - 2];
  const std::int64_t width = shape[r - 1];
  shape[r - 2] = windows.rows(height);
  shape[r - 1] = windows.columns(width);
  Array out(shape);
  for_each_index(shape, [&](const Dims& i) { out.at(i) = f(i, windows.at(i[r - 2], i[r - 1], height, width)); });
  return out;
}

double element(const Array& x, Dims index, std::int64_t h, std::int64_t w) {
  index[index.rank() - 2] = h;
  index[index.rank() - 1] = w;
  return x.at(index);
}

Arrays max_reference(const Array& x, const Windows& windows) {
  const auto best = [&x](const Dims& i, const Window& win) {
    std::pair<std::int64_t, std::int64_t> at{win.top, win.left};
    for (std::int64_t h = win.top; h < win.bottom; ++h)
      for (std::int64_t w = win.left; w < win.right; ++w)
        if (element(x, i, h, w) > element(x, i, at.first, at.second)) at = {h, w};
    return at;
  };
  const auto width = static_cast<double>(x.shape.back());
  return {over_windows(x, windows,
                       [&](const Dims& i, const Window& win) {
                         const auto [h, w] = best(i, win);
                         return element(x, i, h, w);
                       }),
          over_windows(x, windows, [&](const Dims& i, const Window& win) {
            const auto [h, w] = best(i, win);
            return static_cast<double>(h) * width + static_cast<double>(w);
          })};
}

Array mean_reference(const Array& x, const Windows& windows, bool include_pad) {
  return over_windows(x, windows, [&](const Dims& i, const Window& win) {
    double sum = 0.0;
    for (std::int64_t h = win.top; h < win.bottom; ++h)
      for (std::int64_t w = win.left; w < win.right; ++w) sum += element(x, i, h, w);
    const std::int64_t inside = (win.bottom - win.top) * (win.right - win.left);
    return sum / static_cast<double>(include_pad ? windows.window.height * windows.window.width : inside);
  });
}

template <class F>
std::vector<ErrorCase> map_errors(const char* name, F call) {
  const std::string tag = std::string("[") + name + "]";
  return {{"one axis", [call] { call(zeros({4})); }, "ShapeError", {tag, "float32(4,)", "(..., H, W)", "1-d variant"}},
          {"too small",
           [call] {
             call(zeros({2, 1, 4}));
           },
           "ShapeError",
           {tag, "float32(2, 1, 4)", "not smaller than the window", "padding"}},
          {"integers",
           [call] {
             call(zeros({4, 4}, int64));
           },
           "DtypeError",
           {tag, "int64(4, 4)", "cast(x, dtype)"}}};
}

// --- max ------------------------------------------------------------------------------------------------------------------------

OpCase max_case(const char* name, const MaxPoolOptions& options, const Windows& windows, std::vector<Shape> shapes) {
  OpCase c;
  c.name = name;
  c.covers = {"max_pool2d", "pool_take", "max_unpool2d"};
  c.function = [options](Tensors x) {
    ValueAndIndex r = max_pool2d_with_index(std::move(x[0]), options);
    return Tensors{r.value, r.index};
  };
  c.reference = [windows](const Arrays& x) { return max_reference(x[0], windows); };
  c.samples = distinct_samples(std::move(shapes));
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {4, 9, 50, 67}, dtype)}; };
  c.no_errors = "see max_pool2d";
  return c;
}

std::vector<OpCase> max_cases() {
  std::vector<OpCase> cases;
  const Windows two = {2, 2, 0};
  cases.push_back(max_case("max_pool2d", {}, two, {{2, 3, 2, 4}, {4, 6}, {5, 5}, {3, 34}, {2, 2}, {0, 2, 2}}));
  cases.back().no_errors = {};
  cases.back().errors = map_errors("max_pool2d", [](Tensor x) { (void)max_pool2d(std::move(x)); });
  cases.back().errors.push_back({"padding",
                                 [] {
                                   (void)max_pool2d(zeros({4, 4}), {.window = 2, .padding = 2});
                                 },
                                 "ValueError",
                                 {"[max_pool2d]", "padding 2", "window of 2", "0 to 1", "pad(x, ...)"}});
  cases.back().errors.push_back({"stride",
                                 [] {
                                   (void)max_pool2d(zeros({4, 4}), {.window = 2, .stride = -1});
                                 },
                                 "ValueError",
                                 {"[max_pool2d]", "stride -1", "at least 1"}});
  cases.back().no_single = "a window of two; see max_pool2d/stem";
  // The stem of ResNet and DenseNet: windows overlap and touch the border.
  const MaxPoolOptions stem = {.window = 3, .stride = 2, .padding = 1};
  cases.push_back(max_case("max_pool2d/stem", stem, {3, 2, 1}, {{2, 3, 4}, {5, 5}, {3, 20}, {1, 1}, {0, 3, 3}}));
  const MaxPoolOptions uneven = {.window = {1, 3}, .stride = {2, 1}, .padding = {0, 1}};
  cases.push_back(
      max_case("max_pool2d/uneven", uneven, {{1, 3}, {2, 1}, {0, 1}}, {{2, 3, 4}, {2, 19}, {1, 1}, {3, 0, 2, 2}}));
  const MaxPoolOptions sparse = {.window = 2, .stride = 3};
  cases.push_back(max_case("max_pool2d/stride_3", sparse, {2, 3, 0}, {{2, 5, 5}, {3, 8}, {2, 2}, {0, 3, 3}}));
  cases.back().no_single = "see max_pool2d/stem";

  OpCase c;
  c.name = "max_pool2d/1d";
  c.covers = {"max_pool2d"};
  c.function = [](Tensors x) {
    ValueAndIndex r = max_pool1d_with_index(std::move(x[0]), 2);
    return Tensors{r.value, r.index};
  };
  c.reference = [](const Arrays& x) {
    Array rows = x[0];
    rows.shape.insert(rows.shape.rank() - 1, 1);
    Arrays out = max_reference(rows, {{1, 2}, {1, 2}, {0, 0}});
    for (Array& a : out) a.shape.erase(a.shape.rank() - 2);
    return out;
  };
  c.samples = distinct_samples({{2, 3, 5}, {6}, {2, 4}, {0, 4}});
  c.no_single = "a window of two";
  c.errors = {
      {"0-d", [] { (void)max_pool1d(zeros({}), 2); }, "ShapeError", {"[max_pool1d]", "0-d", "(..., L)", "reshape"}}};
  cases.push_back(c);
  return cases;
}

// Selecting and scattering at random positions, some of them equal.
Tensors unpool_sample(Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  return {normal_sample(key, 2 * n, shape, dtype), integer_sample(key, 2 * n + 1, shape, 0, 12)};
}

OpCase unpool_case() {
  OpCase c;
  c.name = "max_unpool2d";
  c.covers = {"max_unpool2d", "pool_take"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(max_unpool2d(std::move(x[0]), x[1], {3, 4})); };
  c.reference = [](const Arrays& x) {
    Shape shape = x[0].shape;
    const int r = shape.rank();
    shape[r - 2] = 3;
    shape[r - 1] = 4;
    Array out(shape);
    for_each_index(x[0].shape, [&](Dims i) {
      const auto at = static_cast<std::int64_t>(x[1].at(i));
      const double v = x[0].at(i);
      i[r - 2] = at / 4;
      i[r - 1] = at % 4;
      out.at(i) += v;
    });
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    const std::vector<Shape> shapes = {{2, 2, 2}, {3, 5}, {2, 1, 2, 3}, {1, 1}, {0, 2, 2}, {2, 0, 2}};
    for (std::size_t i = 0; i < shapes.size(); ++i) lists.push_back(unpool_sample(key, i, shapes[i], dtype));
    return lists;
  };
  const Tensor map = zeros({2, 2});
  c.errors = {{"index type",
               [map] { (void)max_unpool2d(map, map, 4); },
               "DtypeError",
               {"[max_unpool2d]", "float32(2, 2)", "expected int64", "cast(index, int64)"}},
              {"shapes",
               [map] {
                 (void)max_unpool2d(map, zeros({2, 3}, int64), 4);
               },
               "ShapeError",
               {"[max_unpool2d]", "float32(2, 2)", "int64(2, 3)", "equal shapes"}},
              {"range",
               [map] {
                 (void)max_unpool2d(map, full({2, 2}, 16, int64), 4);
               },
               "ValueError",
               {"[max_unpool2d]", "index 16", "position 0", "[0, 16)", "(4, 4)"}}};
  return c;
}

// --- mean -----------------------------------------------------------------------------------------------------------------------

OpCase mean_case(const char* name, const AvgPoolOptions& options, const Windows& windows, std::vector<Shape> shapes) {
  OpCase c;
  c.name = name;
  c.covers = {"avg_pool2d", "avg_pool2d_grad"};
  c.linear = true;
  c.function = [options](Tensors x) { return detail::one(avg_pool2d(std::move(x[0]), options)); };
  const bool include_pad = options.count_include_pad;
  c.reference = [=](const Arrays& x) { return Arrays{mean_reference(x[0], windows, include_pad)}; };
  c.samples = distinct_samples(std::move(shapes));
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {4, 9, 50, 67}, dtype)}; };
  c.no_errors = "see avg_pool2d";
  return c;
}

std::vector<OpCase> mean_cases() {
  std::vector<OpCase> cases;
  cases.push_back(mean_case("avg_pool2d", {}, {2, 2, 0}, {{2, 3, 2, 4}, {4, 6}, {5, 5}, {3, 34}, {2, 2}, {0, 2, 2}}));
  cases.back().no_errors = {};
  cases.back().errors = map_errors("avg_pool2d", [](Tensor x) { (void)avg_pool2d(std::move(x)); });
  cases.back().no_single = "a window of two; see avg_pool2d/padded";
  const std::vector<Shape> shapes = {{2, 3, 4}, {5, 5}, {3, 20}, {1, 1}, {0, 3, 3}};
  cases.push_back(mean_case("avg_pool2d/padded", {.window = 3, .stride = 2, .padding = 1}, {3, 2, 1}, shapes));
  cases.push_back(mean_case("avg_pool2d/inside", {.window = 3, .stride = 1, .padding = 1, .count_include_pad = false},
                            {3, 1, 1}, shapes));

  OpCase c;
  c.name = "avg_pool2d/1d";
  c.covers = {"avg_pool2d"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(avg_pool1d(std::move(x[0]), 3, 1, 1, false)); };
  c.reference = [](const Arrays& x) {
    Array rows = x[0];
    rows.shape.insert(rows.shape.rank() - 1, 1);
    Array out = mean_reference(rows, {{1, 3}, {1, 1}, {0, 1}}, false);
    out.shape.erase(out.shape.rank() - 2);
    return Arrays{out};
  };
  c.samples = distinct_samples({{2, 3, 5}, {6}, {2, 4}, {1}, {0, 4}});
  c.errors = {
      {"0-d", [] { (void)avg_pool1d(zeros({}), 2); }, "ShapeError", {"[avg_pool1d]", "0-d", "(..., L)", "reshape"}}};
  cases.push_back(c);

  c = mean_case("sum_to/global_avg_pool2d", {}, {2, 2, 0}, {{2, 3, 2, 4}, {4, 6}, {5, 5}, {1, 1}, {0, 2, 2}});
  c.covers = {"sum_to", "affine"};
  c.strided_bitwise = false;  // the order of additions follows memory
  c.function = [](Tensors x) { return detail::one(global_avg_pool2d(std::move(x[0]), true)); };
  c.reference = [](const Arrays& x) {
    const Size2d all = {x[0].shape.at(-2), x[0].shape.at(-1)};
    return Arrays{mean_reference(x[0], {all, all, 0}, true)};
  };
  c.no_errors = {};
  c.errors = {{"empty map",
               [] {
                 (void)global_avg_pool2d(zeros({2, 0, 3}));
               },
               "ShapeError",
               {"[global_avg_pool2d]", "float32(2, 0, 3)", "at least one element"}}};
  cases.push_back(c);
  return cases;
}

// --- resize ---------------------------------------------------------------------------------------------------------------------

// Weight of element k of `in` in position i of `out`, written as a sum over all k instead of a search.
double resize_weight(std::int64_t i, std::int64_t k, std::int64_t in, std::int64_t out, const ResizeOptions& options) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const auto di = static_cast<double>(i);
  const auto dk = static_cast<double>(k);
  if (options.mode == Interpolation::nearest) return k == static_cast<std::int64_t>(std::floor(di * scale)) ? 1.0 : 0.0;
  if (options.antialias && scale > 1.0) {
    double total = 0.0;
    const auto filter = [&](double at) { return std::max(0.0, 1.0 - std::abs((at + 0.5) / scale - (di + 0.5))); };
    for (std::int64_t j = 0; j < in; ++j) total += filter(static_cast<double>(j));
    return filter(dk) / total;
  }
  const double last = static_cast<double>(in - 1);
  const double at = options.align_corners ? (out > 1 ? di * last / static_cast<double>(out - 1) : 0.0)
                                          : std::clamp((di + 0.5) * scale - 0.5, 0.0, last);
  return std::max(0.0, 1.0 - std::abs(at - dk));
}

Array resize_reference(const Array& x, int axis_from_right, std::int64_t size, const ResizeOptions& options) {
  Shape shape = x.shape;
  const int axis = shape.rank() - axis_from_right;
  const std::int64_t in = shape[axis];
  shape[axis] = size;
  Array out(shape);
  for_each_index(shape, [&](const Dims& i) {
    Dims from = i;
    double sum = 0.0;
    for (std::int64_t k = 0; k < in; ++k) {
      from[axis] = k;
      sum += resize_weight(i[axis], k, in, size, options) * x.at(from);
    }
    out.at(i) = sum;
  });
  return out;
}

OpCase resize_case(const char* name, Size2d size, const ResizeOptions& options) {
  OpCase c;
  c.name = name;
  c.covers = {"resample"};
  c.linear = true;
  c.function = [=](Tensors x) { return detail::one(resize2d(std::move(x[0]), size, options)); };
  c.reference = [=](const Arrays& x) {
    return Arrays{resize_reference(resize_reference(x[0], 2, size.height, options), 1, size.width, options)};
  };
  c.samples = distinct_samples({{2, 3, 4}, {5, 7}, {1, 1}, {2, 1, 2}, {4, 9}, {0, 3, 3}});
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {9, 5, 50, 67}, dtype)}; };
  c.no_errors = "see resample/bilinear";
  return c;
}

std::vector<OpCase> resize_cases() {
  std::vector<OpCase> cases;
  cases.push_back(resize_case("resample/bilinear", {4, 3}, {}));
  cases.back().no_errors = {};
  cases.back().errors = {{"one axis",
                          [] { (void)resize2d(zeros({4}), 2); },
                          "ShapeError",
                          {"[resize2d]", "float32(4,)", "at least 2 axes", "reshape"}},
                         {"empty",
                          [] {
                            (void)resize2d(zeros({4, 0}), 2);
                          },
                          "ShapeError",
                          {"[resize2d]", "float32(4, 0)", "at least one element"}},
                         {"size",
                          [] {
                            (void)resize2d(zeros({4, 4}), {3, 0});
                          },
                          "ValueError",
                          {"[resize2d]", "(3, 0)", "at least 1"}},
                         {"corners",
                          [] {
                            (void)resize2d(zeros({4, 4}), 2, {.align_corners = true, .antialias = true});
                          },
                          "ValueError",
                          {"[resize2d]", "align_corners with antialias", "Leave one out"}}};
  cases.push_back(resize_case("resample/corners", {4, 3}, {.align_corners = true}));
  cases.push_back(resize_case("resample/antialias", {2, 3}, {.antialias = true}));
  cases.push_back(resize_case("resample/nearest", {3, 5}, {.mode = Interpolation::nearest}));
  OpCase c = resize_case("resample/1d", 1, {});
  c.function = [](Tensors x) { return detail::one(resize1d(std::move(x[0]), 6)); };
  c.reference = [](const Arrays& x) { return Arrays{resize_reference(x[0], 1, 6, {})}; };
  c.samples = distinct_samples({{2, 3}, {9}, {1}, {2, 1}, {0, 3}});
  cases.push_back(c);
  return cases;
}

}  // namespace

std::vector<OpCase> pool_cases() {
  std::vector<OpCase> cases = max_cases();
  cases.push_back(unpool_case());
  for (auto& family : {mean_cases(), resize_cases()}) cases.insert(cases.end(), family.begin(), family.end());
  return cases;
}

}  // namespace solvent::testing
