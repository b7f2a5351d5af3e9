// Entries of the table of operations: batch normalisation, weight normalisation and dropout.

#include <cmath>
#include <utility>

#include "solvent/ops/norm.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

constexpr double kEps = 1e-2;
constexpr Key kMaskKey(11, 3);

// --- batch_norm -------------------------------------------------------------------------------------------------------------------

// x (N, C, ...), then `vectors` tensors (C); those at `positive` are uniform in [0.5, 2).
Samples channel_samples(std::vector<Shape> shapes, int vectors, int positive) {
  return [=](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const Shape& shape : shapes) {
      Tensors sample = {normal_sample(key, n++, shape, dtype)};
      for (int i = 0; i < vectors; ++i, ++n)
        sample.push_back(i == positive ? uniform_sample(key, n, {shape[1]}, dtype, 0.5, 2.0)
                                       : normal_sample(key, n, {shape[1]}, dtype));
      lists.push_back(std::move(sample));
    }
    return lists;
  };
}

struct Moments {
  std::vector<double> mean, var;
};

Moments moments_of(const Array& x) {
  const auto channels = static_cast<std::size_t>(x.shape[1]);
  Moments m{std::vector<double>(channels), std::vector<double>(channels)};
  const double count = static_cast<double>(x.numel()) / static_cast<double>(channels);
  const auto channel = [](const Dims& i) { return static_cast<std::size_t>(i[1]); };
  for_each_index(x.shape, [&](const Dims& i) { m.mean[channel(i)] += x.at(i) / count; });
  for_each_index(x.shape, [&](const Dims& i) {
    const double d = x.at(i) - m.mean[channel(i)];
    m.var[channel(i)] += d * d / count;
  });
  return m;
}

Array normalised(const Array& x, const Moments& m, const Array& weight, const Array& bias) {
  Array out(x.shape);
  for_each_index(x.shape, [&](const Dims& i) {
    const auto c = static_cast<std::size_t>(i[1]);
    out.at(i) = (x.at(i) - m.mean[c]) / std::sqrt(m.var[c] + kEps) * weight[i[1]] + bias[i[1]];
  });
  return out;
}

std::vector<ErrorCase> batch_errors(const char* name, std::function<void(Tensor, Tensor)> call) {
  const std::string tag = std::string("[") + name + "]";
  return {{"one axis", [call] { call(zeros({4}), {}); }, "ShapeError", {tag, "float32(4,)", "(N, C, ...)", "reshape"}},
          {"channels",
           [call] {
             call(zeros({2, 3, 4}), zeros({4}));
           },
           "ShapeError",
           {tag, "float32(2, 3, 4)", "weight float32(4,)", "shape (3,)"}},
          {"dtypes",
           [call] {
             call(zeros({2, 3, 4}), zeros({3}, float64));
           },
           "DtypeError",
           {tag, "float32(2, 3, 4)", "float64(3,)", "cast(x, dtype)"}},
          {"integers",
           [call] {
             call(zeros({2, 3}, int64), {});
           },
           "DtypeError",
           {tag, "int64(2, 3)", "cast(x, dtype)"}}};
}

std::vector<OpCase> batch_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "batch_norm";
  c.covers = {"batch_norm", "batch_norm_grad", "batch_moments"};
  c.function = [](Tensors x) {
    BatchNormResult r = batch_norm(std::move(x[0]), std::move(x[1]), std::move(x[2]), kEps);
    return Tensors{r.value, r.mean, r.var};
  };
  c.reference = [](const Arrays& x) {
    const Moments m = moments_of(x[0]);
    const Shape channels = {x[0].shape[1]};
    return Arrays{normalised(x[0], m, x[1], x[2]), Array(channels, m.mean), Array(channels, m.var)};
  };
  // Planes, columns with ragged ends, one position, one element, no channel.
  c.samples = channel_samples({{2, 3, 2, 2}, {2, 1, 17}, {5, 3}, {3, 2, 3}, {1, 1}, {2, 0, 3}}, 2, -1);
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {9, 40, 17, 19}, dtype), normal_sample(key, 1, {40}, dtype),
                   normal_sample(key, 2, {40}, dtype)};
  };
  c.tolerance_f32 = 1e-5;  // divided by a small deviation
  c.gradcheck_rtol = 1e-4;
  c.gradcheck_atol = 1e-5;
  c.mode_tol = 1e-9;
  c.errors = batch_errors("batch_norm", [](Tensor x, Tensor w) { (void)batch_norm(std::move(x), std::move(w), {}); });
  c.errors.push_back({"no sample",
                      [] {
                        (void)batch_norm(zeros({0, 3}), {}, {});
                      },
                      "ShapeError",
                      {"[batch_norm]", "float32(0, 3)", "no element per channel", "batch_norm_eval"}});
  c.errors.push_back({"eps",
                      [] {
                        (void)batch_norm(zeros({2, 3}), {}, {}, -1.0);
                      },
                      "ValueError",
                      {"[batch_norm]", "eps -1", "1e-5"}});
  cases.push_back(c);

  c.name = "batch_norm/columns";
  c.samples = channel_samples({{70, 2}, {3, 2, 5}, {1, 1}, {2, 0}}, 2, -1);
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {301, 177, 2}, dtype), normal_sample(key, 1, {177}, dtype),
                   normal_sample(key, 2, {177}, dtype)};
  };
  c.errors.clear();
  c.no_errors = "see batch_norm";
  cases.push_back(c);

  c = {};
  c.name = "channel_affine/batch_norm_eval";
  c.covers = {"channel_affine", "rsqrt"};
  c.function = [](Tensors x) { return detail::one(batch_norm_eval(std::move(x[0]), x[1], x[2], x[3], x[4], kEps)); };
  c.reference = [](const Arrays& x) { return Arrays{normalised(x[0], {x[1].values, x[2].values}, x[3], x[4])}; };
  c.samples = channel_samples({{2, 3, 2, 2}, {2, 1, 17}, {5, 3}, {1, 1}, {0, 2, 3}}, 4, 1);
  c.large = [](Key key, DType dtype) {
    Tensors x = {normal_sample(key, 0, {9, 40, 17, 19}, dtype)};
    for (std::uint64_t i = 1; i < 5; ++i) x.push_back(uniform_sample(key, i, {40}, dtype, 0.5, 2.0));
    return x;
  };
  c.errors = batch_errors("batch_norm_eval",
                          [](Tensor x, Tensor w) { (void)batch_norm_eval(std::move(x), {}, {}, std::move(w), {}); });
  cases.push_back(c);
  return cases;
}

OpCase layer_case() {
  OpCase c;
  c.name = "layer_norm_affine";
  c.covers = {"layer_norm_affine", "layer_norm_affine_grad"};
  c.function = [](Tensors x) {
    return detail::one(layer_norm(std::move(x[0]), std::move(x[1]), std::move(x[2]), kEps));
  };
  c.reference = [](const Arrays& x) {
    Array out(x[0].shape);
    const std::int64_t cols = x[0].shape.back();
    for (std::int64_t row = 0; cols > 0 && row < out.numel() / cols; ++row) {
      double mean = 0.0;
      double var = 0.0;
      const auto n = static_cast<double>(cols);
      for (std::int64_t i = 0; i < cols; ++i) mean += x[0][row * cols + i] / n;
      for (std::int64_t i = 0; i < cols; ++i) var += (x[0][row * cols + i] - mean) * (x[0][row * cols + i] - mean) / n;
      for (std::int64_t i = 0; i < cols; ++i)
        out[row * cols + i] = (x[0][row * cols + i] - mean) / std::sqrt(var + kEps) * x[1][i] + x[2][i];
    }
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const Shape& shape : std::vector<Shape>{{4, 3}, {2, 3, 4}, {2, 19}, {5}, {1, 1}, {0, 3}, {2, 0}}) {
      lists.push_back({normal_sample(key, n, shape, dtype), normal_sample(key, n + 1, {shape.back()}, dtype),
                       normal_sample(key, n + 2, {shape.back()}, dtype)});
      n += 3;
    }
    return lists;
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {701, 301}, dtype), normal_sample(key, 1, {301}, dtype),
                   normal_sample(key, 2, {301}, dtype)};
  };
  c.tolerance_f32 = 1e-5;  // divided by a small deviation
  c.gradcheck_rtol = 1e-4;
  c.gradcheck_atol = 1e-5;
  c.mode_tol = 1e-9;
  c.errors = {{"weight",
               [] {
                 (void)layer_norm(zeros({2, 3}), zeros({2}), zeros({3}));
               },
               "ShapeError",
               {"[layer_norm]", "float32(2, 3)", "weight float32(2,)", "last axis"}},
              {"dtypes",
               [] {
                 (void)layer_norm(zeros({2, 3}), zeros({3}, float64), zeros({3}));
               },
               "DtypeError",
               {"[layer_norm]", "float64(3,)", "cast(x, dtype)"}},
              {"eps",
               [] {
                 (void)layer_norm(zeros({2, 3}), zeros({3}), zeros({3}), -1.0);
               },
               "ValueError",
               {"[layer_norm]", "eps -1"}}};
  return c;
}

// --- weight_norm --------------------------------------------------------------------------------------------------------------------

OpCase weight_case(const char* name, std::int64_t axis) {
  OpCase c;
  c.name = name;
  c.covers = {"mul", "square", "rsqrt", "sum_to"};
  c.function = [axis](Tensors x) { return detail::one(weight_norm(x[0], x[1], axis)); };
  c.reference = [axis](const Arrays& x) {
    const int at = static_cast<int>(axis);
    std::vector<double> squares(static_cast<std::size_t>(x[0].shape[at]));
    const auto index = [at](const Dims& i) { return static_cast<std::size_t>(i[at]); };
    for_each_index(x[0].shape, [&](const Dims& i) { squares[index(i)] += x[0].at(i) * x[0].at(i); });
    Array out(x[0].shape);
    for_each_index(x[0].shape, [&](const Dims& i) {
      out.at(i) = x[1].values[index(i)] * x[0].at(i) / std::sqrt(squares[index(i)]);
    });
    return Arrays{out};
  };
  c.samples = [axis](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const Shape& shape : std::vector<Shape>{{2, 3}, {3, 2, 2, 2}, {2, 4, 3}, {1, 1}, {0, 0}}) {
      lists.push_back(
          {normal_sample(key, n, shape, dtype), normal_sample(key, n + 1, {shape[static_cast<int>(axis)]}, dtype)});
      n += 2;
    }
    return lists;
  };
  c.strided_bitwise = false;  // the order of additions follows memory
  c.tolerance_f32 = 1e-5;
  c.errors = {{"gain",
               [axis] {
                 (void)weight_norm(zeros({2, 3}), zeros({4}), axis);
               },
               "ShapeError",
               {"[weight_norm]", "float32(2, 3)", "float32(4,)", "axis " + std::to_string(axis), "one gain per index"}},
              {"axis",
               [] {
                 (void)weight_norm(zeros({2, 3}), zeros({2}), 2);
               },
               "ShapeError",
               {"[weight_norm]", "axis 2"}}};
  return c;
}

// --- dropout ------------------------------------------------------------------------------------------------------------------------

// The documented rule, one word at a time.
Array dropped(const Array& x, double p, std::int64_t inner) {
  Array out(x.shape);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double fraction = static_cast<double>(kMaskKey.bits(static_cast<std::uint64_t>(i / inner))) * 0x1p-32;
    out[i] = fraction < p ? 0.0 : x[i] / (1.0 - p);
  }
  return out;
}

std::vector<OpCase> dropout_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "dropout";
  c.covers = {"dropout"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(dropout(std::move(x[0]), 0.3, kMaskKey)); };
  c.reference = [](const Arrays& x) { return Arrays{dropped(x[0], 0.3, 1)}; };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const Shape& shape : std::vector<Shape>{{2, 3}, {37}, {3, 2, 2}, {}, {1, 1}, {0}, {2, 0, 3}})
      lists.push_back({normal_sample(key, n++, shape, dtype)});
    return lists;
  };
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {100'003}, dtype)}; };
  c.errors = {{"probability",
               [] { (void)dropout(zeros({3}), 1.5, kMaskKey); },
               "ValueError",
               {"[dropout]", "p = 1.5", "0 <= p <= 1"}},
              {"integers",
               [] { (void)dropout(zeros({3}, int64), 0.5, kMaskKey); },
               "DtypeError",
               {"[dropout]", "int64(3,)", "cast(x, dtype)"}}};
  cases.push_back(c);

  c.name = "dropout/channels";
  c.function = [](Tensors x) { return detail::one(channel_dropout(std::move(x[0]), 0.5, kMaskKey)); };
  c.reference = [](const Arrays& x) {
    std::int64_t inner = 1;
    for (int i = 2; i < x[0].shape.rank(); ++i) inner *= x[0].shape[i];
    return Arrays{dropped(x[0], 0.5, inner)};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const Shape& shape : std::vector<Shape>{{2, 3}, {3, 2, 2, 2}, {2, 1, 19}, {1, 1}, {0, 2, 2}, {2, 2, 0}})
      lists.push_back({normal_sample(key, n++, shape, dtype)});
    return lists;
  };
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {7, 50, 17, 19}, dtype)}; };
  c.errors = {{"one axis",
               [] { (void)channel_dropout(zeros({3}), 0.5, kMaskKey); },
               "ShapeError",
               {"[channel_dropout]", "float32(3,)", "(N, C, ...)", "use dropout"}}};
  cases.push_back(c);
  return cases;
}

}  // namespace

std::vector<OpCase> norm_cases() {
  std::vector<OpCase> cases = batch_cases();
  cases.push_back(layer_case());
  cases.push_back(weight_case("mul/weight_norm", 0));
  cases.push_back(weight_case("mul/weight_norm_input", 1));
  for (OpCase& c : dropout_cases()) cases.push_back(std::move(c));
  return cases;
}

}  // namespace solvent::testing
