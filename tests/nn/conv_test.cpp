// Convolution layers, masked and shifted ones: against PyTorch (tests/golden/make_conv.py), by gradcheck, and what they see.

#include "solvent/nn/conv.h"

#include <cmath>
#include <functional>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/masked.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;
using testing::values_of;

constexpr double kGoldenTolerance = 1e-12;  // float64, different order of sums
constexpr ConvLayerOptions kDouble{.dtype = DType::float64};

// Value, and gradients of x and all parameters, of a layer whose parameters have the golden file's names.
template <class Layer>
void check_golden(const Golden& golden, const std::string& name, Layer& layer) {
  INFO(name);
  for (const auto& [parameter, slot] : layer.named_parameters()) slot->assign(golden[name + "." + parameter]);
  const Tensor& x = golden[name + ".x"];
  CHECK_CLOSE(layer(x), golden[name + ".output"], kGoldenTolerance);
  const auto loss = [&](const Tensor& input) { return sum(layer(input) * golden[name + ".weights"]); };
  const Tensors grads = nn::value_and_grad(layer, [&] { return loss(x); }).grads;
  std::size_t i = 0;
  for (const auto& [parameter, slot] : layer.named_parameters()) {
    INFO(parameter);
    CHECK_CLOSE(grads[i++], golden[name + ".grad." + parameter], kGoldenTolerance);
  }
  CHECK_CLOSE(grad(loss, x), golden[name + ".grad.x"], kGoldenTolerance);
}

TEST_CASE("convolution layers: values and gradients equal PyTorch's", "[nn]") {
  const Golden golden("conv");
  Conv2d conv(4, 6, {3, 2}, Key(1), {.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}, .groups = 2}, kDouble);
  CHECK(conv.in_channels() == 4);
  CHECK(conv.out_channels() == 6);
  check_golden(golden, "conv2d", conv);
  Conv1d sequence(3, 4, 3, Key(1), {.stride = 2, .padding = 2}, kDouble);
  check_golden(golden, "conv1d", sequence);
  ConvTranspose2d transpose(4, 6, {2, 3}, Key(1),
                            {.stride = {2, 3}, .padding = {0, 1}, .output_padding = {1, 2}, .groups = 2}, kDouble);
  CHECK(transpose.out_channels() == 6);
  check_golden(golden, "conv_transpose2d", transpose);
}

TEST_CASE("masked and shifted layers: values and gradients equal those written out in PyTorch", "[nn]") {
  const Golden golden("conv");
  MaskedConv2d masked(MaskType::a, 2, 4, 3, Key(1), {.colours = 2, .layer = kDouble});
  CHECK(identical(masked.mask.value(), golden["masked_a.mask"]));
  check_golden(golden, "masked_a", masked);
  ShiftedConv2d down(Shift::down, 3, 4, Key(1), {.shift_output = true, .weight_norm = true, .layer = kDouble});
  check_golden(golden, "down_shifted", down);
  ShiftedConv2d right(Shift::down_right, 3, 4, Key(1), {.stride = 2, .weight_norm = true, .layer = kDouble});
  check_golden(golden, "down_right_shifted", right);
  ShiftedConvTranspose2d up(Shift::down, 3, 2, Key(1), {.weight_norm = true, .layer = kDouble});
  check_golden(golden, "down_shifted_transpose", up);
  ShiftedConvTranspose2d up_right(Shift::down_right, 3, 2, Key(1), {.weight_norm = true, .layer = kDouble});
  check_golden(golden, "down_right_shifted_transpose", up_right);
}

TEST_CASE("MaskedLinear: the mask acts on the weight, and masked weights get no gradient", "[nn]") {
  const Tensor mask = tensor({{1, 0, 1}, {0, 0, 1}}, float64);
  MaskedLinear layer(mask, Key(1), {.dtype = float64});
  layer.weight.assign(tensor({{1, 2, 3}, {4, 5, 6}}, float64));
  layer.bias.assign(tensor({0.5, -0.5}, float64));
  CHECK(identical(layer(tensor({1, 10, 100}, float64)), tensor({301.5, 599.5}, float64)));
  const Tensors grads = nn::value_and_grad(layer, [&] { return sum(layer(tensor({1, 10, 100}, float64))); }).grads;
  CHECK(identical(grads[0], tensor({{1, 0, 100}, {0, 0, 100}}, float64)));
  CHECK(layer.state_dict().size() == 3);
  CHECK(layer.num_parameters() == 8);
}

TEST_CASE("degree_mask: MADE's masks make a triangular Jacobian", "[nn]") {
  CHECK(identical(degree_mask({0, 1, 2}, {1, 0}), tensor({{1, 1, 0}, {1, 0, 0}})));
  CHECK(identical(degree_mask({0, 1, 2}, {1, 0}, true), tensor({{1, 0, 0}, {0, 0, 0}})));
  const std::vector<std::int64_t> inputs = {0, 1, 2, 3};
  const std::vector<std::int64_t> hidden = {0, 1, 0, 1, 2, 2};
  const LinearOptions wide{.dtype = float64};
  const MaskedLinear first(degree_mask(inputs, hidden), Key(1), wide);
  const MaskedLinear second(degree_mask(hidden, inputs, true), Key(2), wide);
  const Tensor jacobian =
      jacrev([&](const Tensor& x) { return second(tanh(first(x))); }, normal(Key(3), {4}, 0, 1, float64));
  const std::vector<double> entries = values_of(jacobian);
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j) {
      INFO(i << ", " << j);
      CHECK((entries[4 * i + j] != 0) == (j < i));
    }
}

// --- what a pixel sees --------------------------------------------------------------------------------------------------------

// Checks d y[c, p, q] / d x[:, r, s] for every pair of pixels: exactly 0 unless sees(p, q, r, s), and not 0 for all r, s
// within `reach` of (p, q) that it sees. `scale`: extents of y over those of x.
void check_view(const std::function<Tensor(const Tensor&)>& layer, Shape x_shape,
                const std::function<bool(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>& sees,
                const std::function<bool(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>& must_see) {
  const Tensor x = normal(Key(5), x_shape, 0, 1, float64);
  const Tensor jacobian = abs(jacrev(layer, x));  // (1, O, H', W', 1, C, H, W)
  const Tensor seen = sum(jacobian, {0, 1, 4, 5});
  const std::vector<double> entries = values_of(seen);
  std::size_t at = 0;
  for (std::int64_t p = 0; p < seen.size(0); ++p)
    for (std::int64_t q = 0; q < seen.size(1); ++q)
      for (std::int64_t r = 0; r < seen.size(2); ++r)
        for (std::int64_t s = 0; s < seen.size(3); ++s, ++at) {
          if (!sees(p, q, r, s) && entries[at] != 0) FAIL_CHECK(p << "," << q << " sees " << r << "," << s);
          if (must_see(p, q, r, s) && entries[at] == 0) FAIL_CHECK(p << "," << q << " does not see " << r << "," << s);
        }
}

bool before(std::int64_t p, std::int64_t q, std::int64_t r, std::int64_t s) { return r < p || (r == p && s < q); }
bool near(std::int64_t p, std::int64_t q, std::int64_t r, std::int64_t s) {
  return std::abs(p - r) <= 1 && std::abs(q - s) <= 1;
}

TEST_CASE("MaskedConv2d: type a sees pixels before its own, type b also its own; exactly", "[nn]") {
  const MaskedConv2d a(MaskType::a, 2, 3, 3, Key(1), {.layer = kDouble});
  const MaskedConv2d b(MaskType::b, 3, 2, 3, Key(2), {.layer = kDouble});
  const auto own = [](auto p, auto q, auto r, auto s) { return p == r && q == s; };
  const auto seen_by_a = [](auto p, auto q, auto r, auto s) { return near(p, q, r, s) && before(p, q, r, s); };
  check_view([&](const Tensor& x) { return a(x); }, {1, 2, 4, 5}, before, seen_by_a);
  check_view([&](const Tensor& x) { return b(x); }, {1, 3, 4, 5},
             [&](auto p, auto q, auto r, auto s) { return before(p, q, r, s) || own(p, q, r, s); },
             [&](auto p, auto q, auto r, auto s) { return seen_by_a(p, q, r, s) || own(p, q, r, s); });
  check_view([&](const Tensor& x) { return b(tanh(a(x))); }, {1, 2, 4, 5}, before, seen_by_a);
}

TEST_CASE("MaskedConv2d: in the centre a colour sees earlier ones (a), or itself too (b)", "[nn]") {
  for (const MaskType type : {MaskType::a, MaskType::b}) {
    const MaskedConv2d layer(type, 3, 6, 3, Key(1), {.colours = 3, .layer = kDouble});
    const Tensor jacobian =
        jacrev([&](const Tensor& x) { return layer(x); }, normal(Key(5), {1, 3, 1, 1}, 0, 1, float64));
    const std::vector<double> entries = values_of(reshape(jacobian, {6, 3}));
    for (std::size_t o = 0; o < 6; ++o)
      for (std::size_t c = 0; c < 3; ++c) {
        INFO(o << ", " << c);
        CHECK((entries[3 * o + c] != 0) == (type == MaskType::a ? c < o / 2 : c <= o / 2));
      }
  }
}

TEST_CASE("ShiftedConv2d: PixelCNN++'s first layers see only pixels before, exactly", "[nn]") {
  const auto rows_above = [](auto p, auto, auto r, auto) { return r < p; };
  const ShiftedConv2d vertical(Shift::down, 2, 3, Key(1), {.shift_output = true, .layer = kDouble});
  check_view([&](const Tensor& x) { return vertical(x); }, {1, 2, 5, 5}, rows_above,
             [](auto p, auto q, auto r, auto s) { return (p - r == 1 || p - r == 2) && std::abs(q - s) <= 1; });
  const ShiftedConv2d above(Shift::down, 2, 3, Key(2), {.kernel = {1, 3}, .shift_output = true, .layer = kDouble});
  const ShiftedConv2d left(Shift::down_right, 2, 3, Key(3), {.kernel = {2, 1}, .shift_output = true, .layer = kDouble});
  const ShiftedConv2d next(Shift::down_right, 3, 2, Key(4), {.layer = kDouble});
  const auto horizontal = [&](const Tensor& x) { return next(tanh(above(x) + left(x))); };
  const auto seen = [](auto p, auto q, auto r, auto s) { return near(p, q, r, s) && before(p, q, r, s); };
  check_view([&](const Tensor& x) { return above(x) + left(x); }, {1, 2, 4, 4}, before, seen);
  check_view(horizontal, {1, 2, 4, 4}, before, seen);
}

TEST_CASE("ShiftedConvTranspose2d: doubles the extents and keeps the order of pixels", "[nn]") {
  const ShiftedConv2d first(Shift::down_right, 1, 2, Key(0),
                            {.kernel = {2, 1}, .shift_output = true, .layer = kDouble});
  for (const Shift shift : {Shift::down, Shift::down_right}) {
    const ShiftedConv2d shrink(shift, 2, 3, Key(1), {.stride = 2, .layer = kDouble});
    const ShiftedConvTranspose2d enlarge(shift, 3, 2, Key(2), {.layer = kDouble});
    // Stride 2 keeps pixel (2p, 2q); enlarging spreads it to (2p, 2q) and later ones.
    const auto sees = [shift](auto p, auto q, auto r, auto s) { return r <= p && (shift == Shift::down || s <= q); };
    check_view([&](const Tensor& x) { return enlarge(tanh(shrink(x))); }, {1, 2, 4, 6}, sees,
               [](auto p, auto q, auto r, auto s) { return r == p / 2 * 2 && s == q / 2 * 2; });
  }
  CHECK(first(zeros({1, 1, 3, 3}, float64)).shape() == Shape{1, 2, 3, 3});
}

TEST_CASE("ShiftedConv2d: what is shifted in is exactly zero, also with a bias", "[nn]") {
  const ShiftedConv2d layer(Shift::down_right, 1, 2, Key(3), {.shift_output = true});
  const Tensor y = layer(normal(Key(1), {1, 1, 3, 3}));
  CHECK(max(abs(select(y, 3, 0))).item() == 0);
  CHECK(max(abs(select(y, 3, 1))).item() > 0);
  CHECK(identical(shift_right(y), shift_right(y)));
  CHECK(shift_down(zeros({1, 1, 0, 2})).shape() == Shape{1, 1, 0, 2});
}

// --- initial values, errors, derivatives ----------------------------------------------------------------------------------------

TEST_CASE("convolution layers: default initial values are bounded by 1/sqrt(fan_in)", "[nn]") {
  const Conv2d layer(16, 40, 5, Key(2), {.groups = 4});
  const double bound = 1 / std::sqrt(4.0 * 25);
  CHECK(max(abs(layer.weight.value())).item() <= bound);
  CHECK(max(abs(layer.weight.value())).item() > 0.99 * bound);
  CHECK(max(abs(layer.bias.value())).item() <= bound);
  CHECK(max(abs(layer.bias.value())).item() > 0.5 * bound);
  // PyTorch counts the results of a transposed convolution.
  CHECK(max(abs(ConvTranspose2d(8, 4, 5, Key(2)).weight.value())).item() <= 1 / std::sqrt(4.0 * 25));
  const Conv2d he(16, 64, 3, Key(3), {}, {.init = WeightInit::he_normal});
  CHECK(mean(square(he.weight.value())).item() == Approx(2.0 / (16 * 9)).epsilon(0.05));
  CHECK(max(abs(he.bias.value())).item() == 0);
  const Conv1d orthogonal(4, 6, 3, Key(4), {}, {.init = WeightInit::orthogonal, .dtype = float64});
  const Tensor rows = reshape(orthogonal.weight.value(), {6, 12});
  const Tensor gram = matmul(rows, mT(rows));
  for (std::int64_t i = 0; i < 6; ++i) CHECK(select(select(gram, 0, i), 0, i).item() == Approx(1).epsilon(1e-12));
  CHECK(sum(square(gram)).item() == Approx(6).epsilon(1e-12));
  CHECK(Conv2d(1, 1, 1, Key(1), {}, {.bias = false}).parameters().size() == 1);
}

TEST_CASE("same_padding: filters of stride 1 keep the extents", "[nn]") {
  for (const Size2d kernel : {Size2d(3, 5), Size2d(2, 4), Size2d(1, 1)})
    for (const Size2d dilation : {Size2d(1), Size2d(2, 3)}) {
      const Conv2d layer(1, 1, kernel, Key(1), {.padding = same_padding(kernel, dilation), .dilation = dilation});
      CHECK(layer(zeros({1, 1, 7, 9})).shape() == Shape{1, 1, 7, 9});
    }
}

TEST_CASE("convolution layers: gradcheck of parameters and input in all modes", "[nn]") {
  const auto check = [](auto layer, const Shape& shape) {
    Tensors packed = layer.parameter_values();
    packed.push_back(normal(Key(2), shape, 0, 1, float64));
    const GradcheckReport report = gradcheck(nn::bind(layer), packed);
    INFO(report.message);
    CHECK(report.ok);
  };
  check(Conv2d(2, 2, 2, Key(1), {.padding = {1, 0, 0, 1}}, kDouble), {1, 2, 3, 2});
  check(ConvTranspose2d(2, 1, 2, Key(1), {.stride = 2}, kDouble), {1, 2, 2, 2});
  check(MaskedConv2d(MaskType::b, 2, 2, 3, Key(1), {.layer = kDouble}), {1, 2, 2, 3});
  check(ShiftedConv2d(Shift::down_right, 1, 2, Key(1), {.shift_output = true, .weight_norm = true, .layer = kDouble}),
        {1, 1, 2, 3});
  check(MaskedLinear(degree_mask({0, 1, 2}, {1, 2}), Key(1), {.dtype = float64}), {2, 3});
}

TEST_CASE("convolution layers: wrong sizes are refused with advice", "[nn]") {
  CHECK_ERROR(ValueError, Conv2d(3, 4, 3, Key(1), {.groups = 2}), "[Conv2d]", "3 inputs", "2 groups", "divisible");
  CHECK_ERROR(ValueError, Conv1d(3, 0, 3, Key(1)), "[Conv1d]", "0 outputs", "positive");
  CHECK_ERROR(ShapeError, Conv2d(3, 4, 3, Key(1))(zeros({3, 5, 5})), "[Conv2d]", "(N, 3, H, W)", "unsqueeze(x, 0)");
  CHECK_ERROR(ShapeError, ConvTranspose2d(3, 4, 3, Key(1))(zeros({1, 4, 5, 5})), "[ConvTranspose2d]", "(3, 4, 3, 3)");
  CHECK_ERROR(ValueError, MaskedConv2d(MaskType::a, 1, 1, 2, Key(1)), "[MaskedConv2d]", "(2, 2)", "odd");
  CHECK_ERROR(ShapeError, MaskedLinear(ones({3}), Key(1)), "[MaskedLinear]", "(3,)", "(out, in)");
  CHECK_ERROR(ValueError, MaskedLinear(full({1, 1}, 0.5), Key(1)), "[MaskedLinear]", "0.5", "0 and 1");
  CHECK_ERROR(ShapeError, MaskedLinear(ones({2, 3}), Key(1))(zeros({2})), "[MaskedLinear]", "(..., 3)");
  CHECK_ERROR(ValueError, degree_mask({}, {1}), "[degree_mask]", "0 and 1 degrees");
  CHECK_ERROR(ValueError, ShiftedConv2d(Shift::down, 1, 1, Key(1), {.kernel = 2}), "[ShiftedConv2d]", "odd width");
  CHECK_ERROR(ValueError, ShiftedConvTranspose2d(Shift::down, 1, 1, Key(1), {.stride = 2}), "[ShiftedConvTranspose2d]",
              "leave both");
  CHECK_ERROR(ValueError, ShiftedConvTranspose2d(Shift::down_right, 1, 1, Key(1), {.kernel = {2, 1}}),
              "at least (2, 2)");
  CHECK_ERROR(ShapeError, shift_down(zeros({2, 2})), "[shift_down]", "(N, C, H, W)");
}

}  // namespace
}  // namespace solvent::nn
