// bfloat16 through operations: results are those of float32, rounded once.

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/bfloat16_sweep.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent {
namespace {

using Function = std::function<Tensor(const Tensors&)>;

Tensor sample(std::uint64_t n, const Shape& shape) { return cast(normal(Key(21).fold_in(n), shape), bfloat16); }
Tensor wide(const Tensor& x) { return cast(x, float32); }
Tensors wide(const Tensors& xs) {
  Tensors out;
  for (const Tensor& x : xs) out.push_back(wide(x));
  return out;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.dtype() != bfloat16 || b.dtype() != bfloat16 || !(a.shape() == b.shape())) return false;
  const std::vector<BFloat16> x = a.to_vector<BFloat16>();
  const std::vector<BFloat16> y = b.to_vector<BFloat16>();
  return x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(BFloat16)) == 0;
}

// f(xs) has the bits of f computed in float32 and rounded.
void check_rounded_once(const Function& f, const Tensors& xs) { CHECK(same_bits(f(xs), cast(f(wide(xs)), bfloat16))); }

// Largest |a - b| / max(1, |b|).
double difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const std::vector<double> x = cast(a, float64).to_vector<double>();
  const std::vector<double> y = cast(b, float64).to_vector<double>();
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    largest = testing::larger(largest, std::abs(x[i] - y[i]) / std::max(1.0, std::abs(y[i])));
  return largest;
}

// Of a value of size 1, with room for the error of sums in float32.
constexpr double kHalfUlp = 0x1p-8 + 1e-5;

}  // namespace

TEST_CASE("bfloat16: casts in all directions round, truncate and saturate as those of float32") {
  const double infinity = HUGE_VAL;
  const Tensor x = tensor({0, 1.5, -2.75, 300, 1e30, -1e30, infinity, -infinity, std::nan("")}, bfloat16);
  CHECK(cast(x, float32).to_vector<float>()[2] == -2.75F);
  CHECK(cast(x, float64).to_vector<double>()[1] == 1.5);
  CHECK(cast(x, int64).to_vector<std::int64_t>() == cast(wide(x), int64).to_vector<std::int64_t>());
  CHECK(cast(x, uint8).to_vector<std::uint8_t>() == std::vector<std::uint8_t>{0, 1, 0, 255, 255, 0, 255, 0, 0});
  CHECK(cast(x, boolean).to_vector<bool>() == cast(wide(x), boolean).to_vector<bool>());
  CHECK(cast(tensor({0, 1, 255}, uint8), bfloat16).to_vector<BFloat16>()[2].bits == 0x437f);
  CHECK(cast(tensor({0, 1}, boolean), bfloat16).to_vector<BFloat16>()[1].bits == 0x3f80);
  CHECK(cast(tensor({257, 259}, int64), bfloat16).to_vector<BFloat16>()[1].bits == BFloat16(260).bits);
  CHECK(cast(tensor({1.0 + 0x1p-8 + 0x1p-40}, float64), bfloat16).to_vector<BFloat16>()[0].bits == 0x3f81);
  const Tensor long_row = normal(Key(1), {5, 3001});
  const std::vector<float> values = long_row.to_vector<float>();
  const std::vector<BFloat16> narrow = cast(long_row, bfloat16).to_vector<BFloat16>();
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) wrong += narrow[i].bits != BFloat16(values[i]).bits;
  CHECK(wrong == 0);
  CHECK(same_bits(cast(mT(long_row), bfloat16), clone(mT(cast(long_row, bfloat16)))));
}

TEST_CASE("bfloat16: casts are differentiable, with cotangents and tangents in the type of their values") {
  const Tensor x = normal(Key(2), {4});
  const auto round = [](const Tensor& v) { return cast(v, bfloat16); };
  VjpResult1 r = vjp(round, x);
  CHECK(r.value.dtype() == bfloat16);
  const Tensor g = sample(3, {4});
  const Tensor back = r.pullback(g);
  CHECK(back.dtype() == float32);
  CHECK(back.to_vector<float>() == wide(g).to_vector<float>());
  const Tensor tangent = jvp(round, x, ones({4})).tangent;
  CHECK(tangent.dtype() == bfloat16);
  CHECK(tangent.to_vector<BFloat16>()[3].bits == 0x3f80);
  CHECK(same_bits(jvp([](const Tensor& v) { return cast(cast(v, int64), bfloat16); }, g, g).tangent, zeros_like(g)));
}

TEST_CASE("bfloat16: operations that move elements keep their bits and those of their derivatives") {
  const Tensor index = tensor({2, 0, 2, 1}, int64);
  const std::vector<std::pair<const char*, Function>> functions = {
      {"reshape",
       [](const Tensors& x) {
         return reshape(x[0], {4, -1});
       }},
      {"permute",
       [](const Tensors& x) {
         return clone(permute(x[0], {2, 0, 1}));
       }},
      {"slice", [](const Tensors& x) { return slice(x[0], 1, 1, 4, 2); }},
      {"pad", [](const Tensors& x) { return pad(x[0], 2, 1, 2, 0.5); }},
      {"concat",
       [](const Tensors& x) {
         return concat({x[0], x[1], x[0]}, 1);
       }},
      {"stack",
       [](const Tensors& x) {
         return stack({x[0], x[1]}, -1);
       }},
      {"unstack", [](const Tensors& x) { return unstack(x[0], 1)[2]; }},
      {"flip", [](const Tensors& x) { return clone(flip(x[0], 0)); }},
      {"broadcast_to",
       [](const Tensors& x) {
         return clone(broadcast_to(slice(x[0], 0, 0, 1), {3, 4, 4}));
       }},
      {"index_select", [&](const Tensors& x) { return index_select(x[0], index, 1); }},
      {"gather",
       [&](const Tensors& x) {
         return gather(x[0], reshape(index, {1, 4, 1}), 2);
       }},
      {"tril", [](const Tensors& x) { return tril(x[0]); }},
      {"triu", [](const Tensors& x) { return triu(x[0], 1); }},
      {"diagonal", [](const Tensors& x) { return clone(diagonal(x[0])); }},
      {"diag_embed", [](const Tensors& x) { return diag_embed(x[0]); }},
      {"where", [](const Tensors& x) { return where(less(x[0], x[1]), x[0], x[1]); }},
  };
  const Tensors xs = {sample(1, {3, 4, 4}), sample(2, {3, 4, 4})};
  for (const auto& [name, f] : functions) {
    INFO(name);
    check_rounded_once(f, xs);
    const auto list = [&f = f](const Tensors& x) { return Tensors{f(x)}; };
    VjpResult narrow = vjp(list, xs);
    VjpResult broad = vjp(list, wide(xs));
    const Tensor seed = sample(3, narrow.values[0].shape());
    const Tensors got = narrow.pullback(Tensors{seed});
    const Tensors expected = broad.pullback(Tensors{wide(seed)});
    // Elements that were moved to two places are sums: rounded once, too.
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], cast(expected[i], bfloat16)));
    const Tensors tangents = {sample(4, xs[0].shape()), sample(5, xs[0].shape())};
    CHECK(same_bits(jvp(list, xs, tangents).tangents[0],
                    cast(jvp(list, wide(xs), wide(tangents)).tangents[0], bfloat16)));
  }
}

TEST_CASE("bfloat16: add, sub, mul, neg, affine and comparisons, dense, strided and broadcast") {
  const std::vector<std::pair<const char*, Function>> functions = {
      {"add", [](const Tensors& x) { return add(x[0], x[1]); }},
      {"sub", [](const Tensors& x) { return sub(x[0], x[1]); }},
      {"mul", [](const Tensors& x) { return mul(x[0], x[1]); }},
      {"neg", [](const Tensors& x) { return neg(x[0]); }},
      {"affine", [](const Tensors& x) { return affine(x[0], 1.1, -0.3); }},
  };
  for (const auto& [name, f] : functions) {
    INFO(name);
    check_rounded_once(f, {sample(1, {37, 41}), sample(2, {37, 41})});
    check_rounded_once(f, {mT(sample(1, {41, 37})), sample(2, {37, 41})});
    check_rounded_once(f, {sample(1, {37, 41}), sample(2, {41})});
    check_rounded_once(f, {flip(sample(1, {600, 300}), 1), sample(2, {600, 1})});
    check_rounded_once(f, {zeros({0, 2}, bfloat16), zeros({0, 2}, bfloat16)});
  }
  const Tensor a = tensor({1, 2, 3}, bfloat16), b = tensor({3, 2, 1}, bfloat16);
  CHECK(less(a, b).to_vector<bool>() == std::vector<bool>{true, false, false});
  CHECK(equal(a, b).to_vector<bool>() == std::vector<bool>{false, true, false});
  CHECK(same_bits(a + 1.0, tensor({2, 3, 4}, bfloat16)));
}

TEST_CASE("bfloat16: sums are formed in float32 or wider and rounded once") {
  // 1 + 4095 times 2^-9: in bfloat16 every addition would be lost.
  Tensor x = full({4096}, 0x1p-9, bfloat16);
  x = concat({ones({1}, bfloat16), slice(x, 0, 1, 4096)});
  CHECK(sum(x).item() == 9.0);
  for (const Shape& shape : {Shape{4, 1000, 3}, Shape{3, 5, 700}, Shape{2000, 40}, Shape{70000}}) {
    const Tensor y = sample(7, shape);
    for (int axis = 0; axis < y.rank(); ++axis)
      for (const Tensor& z : {y, pad(y, -1, 1, 0), flip(y, 0)})
        CHECK(difference(sum(z, {axis}), sum(cast(z, float64), {axis})) < kHalfUlp);
    CHECK(same_bits(sum(y), cast(sum(cast(y, float64)), bfloat16)));
  }
  CHECK(sum(zeros({0}, bfloat16)).item() == 0);
}

TEST_CASE("bfloat16: products are formed in float32 and rounded once") {
  const Function product = [](const Tensors& x) { return matmul(x[0], x[1]); };
  const auto check = [&](const Tensor& a, const Tensor& b) {
    INFO(to_string(a.shape()) << to_string(a.strides()) << " x " << to_string(b.shape()) << to_string(b.strides()));
    check_rounded_once(product, {a, b});
    CHECK(difference(matmul(a, b), matmul(cast(a, float64), cast(b, float64))) < kHalfUlp);
  };
  check(sample(1, {5, 7}), sample(2, {7, 3}));
  check(sample(1, {65, 130}), sample(2, {130, 67}));
  check(mT(sample(1, {130, 65})), sample(2, {130, 67}));
  check(sample(1, {65, 130}), mT(sample(2, {67, 130})));
  check(slice(sample(1, {65, 130}), 1, 3, 100), flip(sample(2, {97, 20}), 0));
  check(sample(1, {3, 4, 5, 6}), sample(2, {6, 2}));
  check(sample(1, {3, 4, 5, 6}), sample(2, {4, 6, 2}));
  check(sample(1, {4, 1, 8}), permute(sample(2, {8, 3, 4}), {2, 0, 1}));
  check(sample(1, {6}), sample(2, {6}));
  check(sample(1, {9, 6}), sample(2, {6}));
  check(zeros({3, 0}, bfloat16), zeros({0, 2}, bfloat16));
  check_rounded_once([](const Tensors& x) { return outer(x[0], x[1]); }, {sample(1, {3, 5}), mT(sample(2, {4, 3}))});
  // Products must not be rounded before they are added: 1 + 2^-9 is 1 in bfloat16.
  const Tensor ones_and_small = concat({ones({1}, bfloat16), full({512}, 0x1p-9, bfloat16)});
  CHECK(dot(ones_and_small, ones({513}, bfloat16)).item() == 2.0);
  CHECK(einsum("i,i", {ones_and_small, ones({513}, bfloat16)}).item() == 2.0);
  check_rounded_once([](const Tensors& x) { return einsum("bij,bjk->bki", x); },
                     {sample(1, {2, 3, 4}), sample(2, {2, 4, 5})});
}

TEST_CASE("bfloat16: PyTorch's product of the same matrices") {
  std::map<std::string, Tensor> t;
  for (const auto& [name, value] : load_safetensors("golden/bfloat16.safetensors").tensors) t[name] = value;
  CHECK(same_bits(matmul(t.at("a"), t.at("b")), t.at("product")));
}

TEST_CASE("bfloat16: convolutions and their gradients are formed in float32 and rounded once") {
  const Conv2dOptions options{.stride = 2, .padding = 1, .groups = 2};
  const Tensor x = sample(1, {3, 8, 9, 10});
  const Tensor w = sample(2, {6, 4, 3, 3});
  const Tensor y = conv2d(x, w, options);
  const Tensor g = sample(3, y.shape());
  check_rounded_once([&](const Tensors& t) { return conv2d(t[0], t[1], options); }, {x, w});
  check_rounded_once([&](const Tensors& t) { return conv2d_input_grad(t[0], t[1], {9, 10}, options); }, {g, w});
  check_rounded_once([&](const Tensors& t) { return conv2d_weight_grad(t[0], t[1], 3, options); }, {x, g});
  check_rounded_once([](const Tensors& t) { return conv1d(t[0], t[1], {.padding = 2}); },
                     {sample(4, {2, 3, 20}), sample(5, {5, 3, 4})});
  check_rounded_once([](const Tensors& t) { return conv_transpose2d(t[0], t[1], {.stride = 2}); },
                     {sample(6, {2, 3, 5, 4}), sample(7, {3, 4, 2, 3})});
  CHECK(difference(y, conv2d(cast(x, float64), cast(w, float64), options)) < kHalfUlp);
  VjpResult r = vjp([&](const Tensors& t) { return Tensors{conv2d(t[0], t[1], options)}; }, {x, w});
  const Tensors grads = r.pullback(Tensors{g});
  CHECK(same_bits(grads[0], conv2d_input_grad(g, w, {9, 10}, options)));
  CHECK(same_bits(grads[1], conv2d_weight_grad(x, g, 3, options)));
}

TEST_CASE("bfloat16: derivatives of products in every nesting are those of float32 up to rounding") {
  const Tensors xs = {sample(1, {4, 6}), sample(2, {6, 5}), sample(3, {5})};
  const auto f = [](const Tensors& x) {
    const Tensor y = add(matmul(x[0], x[1]), x[2]);
    return Tensors{sum(mul(y, y))};
  };
  const auto gradient = [&](const Tensors& x) { return vjp(f, x).pullback(Tensors{ones({}, x[0].dtype())}); };
  const Tensors u = {sample(4, {4, 6}), sample(5, {6, 5}), sample(6, {5})};
  const auto forward = [&](const Tensors& x) {
    Tensors t = u;
    for (std::size_t i = 0; i < t.size(); ++i) t[i] = cast(t[i], x[i].dtype());
    return jvp(f, x, t).tangents;
  };
  const auto check = [](const Tensors& got, const Tensors& expected) {
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CHECK(got[i].dtype() == bfloat16);
      const double size = max(reshape(abs(expected[i]), {-1}), 0).item();
      CHECK(difference(affine(wide(got[i]), 1 / size, 0), affine(expected[i], 1 / size, 0)) < 3e-2);
    }
  };
  check(gradient(xs), gradient(wide(xs)));
  check(forward(xs), forward(wide(xs)));
  check(jvp(gradient, xs, u).tangents, jvp(gradient, wide(xs), wide(u)).tangents);  // fr
  check(vjp(gradient, xs).pullback(u), vjp(gradient, wide(xs)).pullback(wide(u)));  // rr
  const Tensor one = ones({}, bfloat16);
  check(vjp(forward, xs).pullback(Tensors{one}), vjp(forward, wide(xs)).pullback(Tensors{wide(one)}));  // rf
  check(jvp(forward, xs, u).tangents, jvp(forward, wide(xs), wide(u)).tangents);                        // ff
  const Tensor a = xs[0];
  const auto rows = [&](const Tensor& w) { return matmul(cast(a, w.dtype()), w); };
  CHECK(same_bits(jacfwd(rows, xs[1]), jacrev(rows, xs[1])));
  CHECK(same_bits(jacfwd(rows, xs[1]), cast(jacfwd(rows, wide(xs[1])), bfloat16)));
}

TEST_CASE("bfloat16: mixed precision keeps float32 gradients of float32 weights") {
  const Tensor x = sample(1, {8, 6});
  const Tensor w = normal(Key(5), {6, 3});
  const auto loss = [&](const Tensor& v) { return sum(square(wide(matmul(x, cast(v, bfloat16))))); };
  const Tensor g = grad(loss, w);
  CHECK(g.dtype() == float32);
  const Tensor exact = grad([&](const Tensor& v) { return sum(square(matmul(wide(x), v))); }, w);
  CHECK(max(reshape(abs(g - exact), {-1}), 0).item() < 2e-2 * max(reshape(abs(exact), {-1}), 0).item());
}

TEST_CASE("bfloat16: one thread and two give the same bits") {
  const Tensor a = sample(1, {300, 260}), b = sample(2, {260, 310}), x = sample(3, {4, 16, 40, 40}),
               w = sample(4, {8, 16, 3, 3});
  const auto results = [&] {
    const Tensor y = conv2d(x, w);
    return Tensors{matmul(a, b),
                   y,
                   conv2d_weight_grad(x, y, 3),
                   sum(x, {0, 2, 3}),
                   sum(x),
                   add(x, x),
                   cast(normal(Key(3), {400, 400}), bfloat16),
                   mT(mul(a, a))};
  };
  const int before = num_threads();
  set_num_threads(1);
  const Tensors one = results();
  set_num_threads(2);
  const Tensors two = results();
  set_num_threads(before);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], two[i]));
}

TEST_CASE("bfloat16: operations that do not take it say which do, and operands of two types are refused") {
  const Tensor x = ones({2, 3}, bfloat16);
  const Tensor square_matrix = eye(3, bfloat16);
  const std::vector<std::pair<const char*, std::function<void()>>> calls = {
      {"[exp]", [&] { (void)exp(x); }},
      {"[abs]", [&] { (void)abs(x); }},
      {"[div]", [&] { (void)div(x, x); }},
      {"[maximum]", [&] { (void)maximum(x, x); }},
      {"[clip]", [&] { (void)clip(x, 0, 1); }},
      {"[relu]", [&] { (void)relu(x); }},
      {"[isnan]", [&] { (void)isnan(x); }},
      {"[mean]", [&] { (void)mean(x); }},
      {"[max]", [&] { (void)max(x, 0); }},
      {"[softmax]", [&] { (void)softmax(x, -1); }},
      {"[layer_norm]", [&] { (void)layer_norm(x, ones({3}, bfloat16), ones({3}, bfloat16)); }},
      {"[cumsum]", [&] { (void)cumsum(x, 0); }},
      {"[sort]", [&] { (void)sort(x, 0); }},
      {"[solve]", [&] { (void)solve(square_matrix, square_matrix); }},
      {"[cholesky]", [&] { (void)cholesky(square_matrix); }},
      {"[normal]", [&] { (void)normal(Key(1), {2}, 0, 1, bfloat16); }},
      {"[one_hot]", [&] { (void)one_hot(tensor({1}, int64), 2, bfloat16); }},
      {"[max_pool2d]",
       [&] {
         (void)max_pool2d(ones({1, 1, 2, 2}, bfloat16));
       }},
  };
  for (const auto& entry : calls)
    CHECK_ERROR(DtypeError, (entry.second(), 0), entry.first, "bfloat16", "is a storage type", "matmul",
                "cast(x, float32)");
  CHECK_ERROR(DtypeError, matmul(x, ones({3, 2})), "[matmul] got bfloat16(2, 3) and float32(3, 2)",
              "expected one dtype");
  CHECK_ERROR(DtypeError, add(x, ones({2, 3})), "[add]", "expected one dtype");
  CHECK_ERROR(DtypeError, conv2d(ones({1, 1, 2, 2}, bfloat16), ones({1, 1, 1, 1})), "[conv2d]", "expected one dtype");
}

TEST_CASE("bfloat16: every operation of the table computes as float32 does, or refuses") {
  const std::set<std::string> taken = testing::sweep_bfloat16(cpu_device);
  for (const char* name :
       {"add", "sub", "mul", "neg", "matmul", "outer", "cast", "where", "concat", "stack", "gather", "sum_to"})
    CHECK(taken.count(name) == 1);
  for (const char* name : {"exp", "div", "solve", "softmax", "layer_norm"}) CHECK(taken.count(name) == 0);
}

}  // namespace solvent
