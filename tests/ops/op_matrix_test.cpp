// What must hold for every operation, checked for every entry of the table of operations.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <typeinfo>

#include "solvent/autodiff/debug.h"
#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/all_ops.h"
#include "solvent/ops/elementwise.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Key kKey(20240917);

// Entries get different samples: their key is made from their name.
Key key_of(const OpCase& c) {
  std::uint64_t hash = 1469598103934665603u;
  for (const char letter : c.name) hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
  return kKey.fold_in(hash);
}

std::string describe_all(const Tensors& xs) {
  std::string text;
  for (const Tensor& x : xs) text += (text.empty() ? "" : ", ") + describe(x);
  return text;
}

// Runs `check(case, inputs)` for every sample of every entry; an exception fails that sample only.
template <class F>
void for_samples(DType dtype, F check) {
  for (const OpCase& c : op_table()) {
    if (dtype == float32 && !c.no_float32.empty()) continue;
    for (const Tensors& xs : c.samples(key_of(c), dtype)) {
      INFO(c.name << "(" << describe_all(xs) << "), key " << key_of(c).seed << ":" << key_of(c).stream);
      try {
        check(c, xs);
      } catch (const std::exception& e) {
        FAIL_CHECK(e.what());
      }
    }
  }
}

bool has_floating(const Tensors& xs) {
  return std::any_of(xs.begin(), xs.end(), [](const Tensor& x) { return is_floating(x.dtype()); });
}

bool is_differentiable(const OpCase& c, const Tensors& xs) { return c.not_differentiable.empty() && has_floating(xs); }

// --- comparison ------------------------------------------------------------------------------------------------------------------

// "" or what differs: |got - expected| <= tol * max(1, |expected|), NaN equal to NaN.
std::string difference(const Array& got, const Array& expected, double tolerance) {
  if (!(got.shape == expected.shape))
    return "shape " + to_string(got.shape) + ", expected " + to_string(expected.shape);
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const double g = got[i];
    const double e = expected[i];
    if (g == e || (std::isnan(g) && std::isnan(e))) continue;
    if (!(std::abs(g - e) <= tolerance * std::max(1.0, std::abs(e))))
      return "element " + std::to_string(i) + ": " + to_string(scalar(g, float64), 17) + ", expected " +
             to_string(scalar(e, float64), 17);
  }
  return "";
}

std::string bits(const Tensor& t) {
  std::string text = describe(t) + ":";
  const Tensor dense = engine::contiguous(stop_gradient(t));
  dispatch_all(t.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    text.append(reinterpret_cast<const char*>(engine::ptr<T>(dense)),
                static_cast<std::size_t>(dense.numel()) * sizeof(T));
  });
  return text;
}

std::string bits(const Tensors& ts) {
  std::string text;
  for (const Tensor& t : ts) text += bits(t);
  return text;
}

double tolerance_for(const OpCase& c, DType dtype) { return dtype == float32 ? c.tolerance_f32 : c.tolerance_f64; }

void check_equal(const Tensors& got, const Tensors& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(difference(Array(got[i]), Array(expected[i]), tolerance) == "");
}

Tensors random_like(const Tensors& xs, Key key, bool integers_empty) {
  Tensors out;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const bool floats = is_floating(xs[i].dtype());
    out.push_back(floats ? normal_sample(key, i, xs[i].shape(), xs[i].dtype()) : integers_empty ? Tensor() : xs[i]);
  }
  return out;
}

double dot(const Tensors& a, const Tensors& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!a[i].defined() || !b[i].defined() || !is_floating(a[i].dtype())) continue;
    const Array x(a[i]);
    const Array y(b[i]);
    for (std::int64_t k = 0; k < x.numel(); ++k) sum += x[k] * y[k];
  }
  return sum;
}

// --- the entry's function restricted to its floating inputs --------------------------------------------------------------------------

struct Restricted {
  TensorsFn f;  // of the floating inputs; the others are constants
  Tensors xs;
  std::vector<std::size_t> active;  // their positions
};

Restricted restrict(const OpCase& c, const Tensors& xs) {
  Restricted r;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (is_floating(xs[i].dtype())) {
      r.active.push_back(i);
      r.xs.push_back(xs[i]);
    }
  r.f = [&c, xs, active = r.active](const Tensors& floats) {
    Tensors all = xs;
    for (std::size_t k = 0; k < active.size(); ++k) all[active[k]] = floats[k];
    return c.function(std::move(all));
  };
  return r;
}

// Cotangents for the floating outputs.
Tensors seeds_for(const Tensors& ys, Key key) { return random_like(ys, key, true); }

Tensors gradients(const OpCase& c, const Tensors& xs, Key key) {
  const Restricted r = restrict(c, xs);
  VjpResult result = vjp(r.f, r.xs);
  return result.pullback(seeds_for(result.values, key));
}

// --- layouts -----------------------------------------------------------------------------------------------------------------------

Tensor copy_of(const Tensor& x) {
  Tensor y = engine::empty(x.shape(), x.dtype(), x.device());
  engine::copy_into(x, y);
  return y;
}

// The same values with other strides, inside memory that is NaN (or 1) elsewhere.
Tensor embedded(const Tensor& x, std::int64_t size, const Strides& strides, std::int64_t offset) {
  const Tensor memory =
      full({std::max<std::int64_t>(size, 1)}, is_floating(x.dtype()) ? std::nan("") : 1.0, {x.dtype()});
  Tensor y = engine::view(memory, x.shape(), strides, x.numel() == 0 ? 0 : offset);
  engine::copy_into(x, y);
  return y;
}

enum class Layout { column_major, every_second, backwards, shifted };

Tensor relaid(const Tensor& x, Layout layout) {
  const Shape& shape = x.shape();
  Strides strides = contiguous_strides(shape);
  const std::int64_t n = x.numel();
  switch (layout) {
    case Layout::column_major: {
      std::int64_t stride = 1;
      for (int i = 0; i < shape.rank(); ++i) {
        strides[i] = stride;
        stride *= std::max<std::int64_t>(shape[i], 1);
      }
      return embedded(x, n, strides, 0);
    }
    case Layout::every_second:
      for (std::int64_t& s : strides) s *= 2;
      return embedded(x, 2 * n, strides, 1);
    case Layout::backwards:
      for (std::int64_t& s : strides) s = -s;
      return embedded(x, n, strides, n - 1);
    default: return embedded(x, n + 5, strides, 3);
  }
}

// The first slice along every axis of extent > 1 in turn, repeated with stride 0.
Tensor repeated(const Tensor& x, int which) {
  Strides strides = x.strides();
  int seen = 0;
  for (int i = 0; i < x.rank(); ++i)
    if (x.shape()[i] > 1 && seen++ == which) strides[i] = 0;
  return engine::view(x, x.shape(), strides, x.impl()->offset);
}

// --- the checks ----------------------------------------------------------------------------------------------------------------------

TEST_CASE("op table: every operation has an entry and its rules") {
  std::set<std::string, std::less<>> covered;
  std::set<std::string> names;
  for (const OpCase& c : op_table()) {
    INFO(c.name);
    CHECK(names.insert(c.name).second);
    REQUIRE(!c.covers.empty());
    covered.insert(c.covers.begin(), c.covers.end());
  }
  std::set<std::string, std::less<>> known;
  for (const OpDef* op : all_ops()) {
    INFO(op->name);
    CHECK(known.insert(std::string(op->name)).second);
    CHECK(covered.count(op->name) == 1);
    CHECK(op->cpu != nullptr);
    // custom_vjp is the one operation that may have a reverse rule only: that is what it is for.
    if (op->differentiable) {
      CHECK((op->jvp != nullptr || op->name == "custom_vjp"));
      CHECK(op->vjp != nullptr);
    } else {
      CHECK((op->jvp == nullptr && op->vjp == nullptr));
    }
  }
  for (const std::string& name : covered) {
    INFO(name << " is in the table");
    CHECK(known.count(name) == 1);
  }
}

TEST_CASE("op table: samples have the shapes that the checks need") {
  for (const OpCase& c : op_table()) {
    INFO(c.name);
    const std::vector<Tensors> samples = c.samples(kKey, float64);
    if (c.no_strided.empty()) CHECK(samples.size() >= 3);
    bool empty = false;
    bool single = false;
    for (const Tensors& xs : samples) {
      empty |= std::any_of(xs.begin(), xs.end(), [](const Tensor& x) { return x.numel() == 0; });
      single |= std::all_of(xs.begin(), xs.end(), [](const Tensor& x) { return x.numel() == 1; });
    }
    CHECK((empty || !c.no_empty.empty()));
    CHECK((single || !c.no_single.empty()));
    CHECK((!c.errors.empty() || !c.no_errors.empty()));
  }
}

TEST_CASE("op table: the operation named first is the one that runs") {
  for_samples(float64, [](const OpCase& c, const Tensors& xs) {
    if (!is_differentiable(c, xs) || xs[0].numel() <= 1) return;
    const Restricted r = restrict(c, xs);
    const auto counts = debug::node_counts(vjp(r.f, r.xs).pullback);
    INFO("first covers: " << c.covers[0]);
    CHECK(counts.count(c.covers[0]) == 1);
  });
}

TEST_CASE("op matrix: values agree with the naive twin") {
  for (const DType dtype : {float64, float32})
    for_samples(dtype, [&](const OpCase& c, const Tensors& xs) {
      Arrays inputs;
      for (const Tensor& x : xs) inputs.emplace_back(x);
      const Arrays expected = c.reference(inputs);
      const Tensors got = c.function(xs);
      REQUIRE(got.size() == expected.size());
      for (std::size_t i = 0; i < got.size(); ++i)
        CHECK(difference(Array(got[i]), expected[i], tolerance_for(c, dtype)) == "");
    });
}

TEST_CASE("op matrix: derivatives agree in all modes, in K directions and in four second-order nestings") {
  for_samples(float64, [](const OpCase& c, const Tensors& xs) {
    if (!is_differentiable(c, xs) || !c.no_forward.empty()) return;
    GradcheckOptions options;
    options.eps = c.gradcheck_eps;
    options.atol = c.gradcheck_atol;
    options.rtol = c.gradcheck_rtol;
    options.mode_tol = c.mode_tol;
    options.second_order = c.no_second_order.empty();
    const GradcheckReport report = gradcheck([&c](const Tensors& inputs) { return c.function(inputs); }, xs, options);
    CHECK(report.message == "");
  });
}

TEST_CASE("op matrix: reverse mode alone agrees with differences, to second order") {
  for_samples(float64, [](const OpCase& c, const Tensors& xs) {
    if (!is_differentiable(c, xs) || c.no_forward.empty()) return;
    const Restricted r = restrict(c, xs);
    const Key key = key_of(c);
    const Tensors u = random_like(r.xs, key.fold_in(1), true);
    const Tensors w = seeds_for(r.f(r.xs), key.fold_in(2));
    const auto moved = [&](double step) {
      Tensors out;
      for (std::size_t i = 0; i < u.size(); ++i) out.push_back(add(r.xs[i], affine(u[i], step, 0.0)));
      return out;
    };
    const auto pulled = [&](const Tensors& at) { return vjp(r.f, at).pullback(w); };
    constexpr double kStep = 1e-6;
    const double first = (dot(w, r.f(moved(kStep))) - dot(w, r.f(moved(-kStep)))) / (2 * kStep);
    CHECK(dot(pulled(r.xs), u) == Approx(first).epsilon(1e-5).margin(1e-6));
    const double second = (dot(u, pulled(moved(kStep))) - dot(u, pulled(moved(-kStep)))) / (2 * kStep);
    CHECK(dot(vjp(pulled, r.xs).pullback(u), u) == Approx(second).epsilon(1e-5).margin(1e-6));
  });
}

TEST_CASE("op matrix: results that are declared constant carry no derivative") {
  for_samples(float64, [](const OpCase& c, const Tensors& xs) {
    if (c.not_differentiable.empty() || !has_floating(xs)) return;
    const Restricted r = restrict(c, xs);
    (void)jvp(
        [&](const Tensors& boxed) {
          const Tensors ys = r.f(boxed);
          for (const Tensor& y : ys) CHECK(!is_differentiated(y));
          return ys;
        },
        r.xs, r.xs);
  });
}

TEST_CASE("op matrix: float32 agrees with float64") {
  for_samples(float32, [](const OpCase& c, const Tensors& xs) {
    Tensors wide;
    for (const Tensor& x : xs) wide.push_back(is_floating(x.dtype()) ? cast(x, float64) : x);
    const Tensors narrow_values = c.function(xs);
    check_equal(narrow_values, c.function(wide), c.tolerance_f32);
    for (const Tensor& y : narrow_values) CHECK(y.dtype() != float64);
    if (!is_differentiable(c, xs)) return;
    // normal_sample gives the same numbers in both types up to rounding, of which the result gets a few times as much.
    const Key key = key_of(c).fold_in(7);
    const double tolerance = 10 * c.tolerance_f32;
    check_equal(gradients(c, xs, key), gradients(c, wide, key), tolerance);
    if (!c.no_forward.empty()) return;
    const Restricted narrow = restrict(c, xs);
    const Restricted broad = restrict(c, wide);
    check_equal(jvp(narrow.f, narrow.xs, random_like(narrow.xs, key, true)).tangents,
                jvp(broad.f, broad.xs, random_like(broad.xs, key, true)).tangents, tolerance);
  });
}

TEST_CASE("op matrix: linear operations are additive and have their adjoint as vjp") {
  for_samples(float64, [](const OpCase& c, const Tensors& xs) {
    if (!c.linear || !has_floating(xs)) return;
    const Tensors ys = random_like(xs, key_of(c).fold_in(3), false);
    Tensors sum;
    for (std::size_t i = 0; i < xs.size(); ++i) sum.push_back(is_floating(xs[i].dtype()) ? add(xs[i], ys[i]) : xs[i]);
    const Tensors fx = c.function(xs);
    const Tensors fy = c.function(ys);
    Tensors expected;
    for (std::size_t i = 0; i < fx.size(); ++i) expected.push_back(add(fx[i], fy[i]));
    check_equal(c.function(sum), expected, 1e-12);

    const Restricted r = restrict(c, xs);
    const Tensors w = seeds_for(fx, key_of(c).fold_in(4));
    const double forward = dot(w, fx);
    CHECK(dot(vjp(r.f, r.xs).pullback(w), r.xs) == Approx(forward).epsilon(1e-12).margin(1e-12));
  });
}

TEST_CASE("op matrix: strided inputs give the results of contiguous ones") {
  for (const DType dtype : {float32, float64})
    for_samples(dtype, [&](const OpCase& c, const Tensors& xs) {
      if (!c.no_strided.empty()) return;
      const Tensors expected = c.function(xs);
      for (const Layout layout : {Layout::column_major, Layout::every_second, Layout::backwards, Layout::shifted}) {
        INFO("layout " << static_cast<int>(layout));
        Tensors other;
        for (const Tensor& x : xs) other.push_back(relaid(x, layout));
        const Tensors got = c.function(other);
        if (c.strided_bitwise) {
          CHECK(bits(got) == bits(expected));
        } else {
          check_equal(got, expected, tolerance_for(c, dtype));
        }
        if (is_differentiable(c, xs))
          check_equal(gradients(c, other, key_of(c)), gradients(c, xs, key_of(c)), 10 * tolerance_for(c, dtype));
      }
    });
}

TEST_CASE("op matrix: broadcast inputs (stride 0) give the results of copies") {
  for (const DType dtype : {float32, float64})
    for_samples(dtype, [&](const OpCase& c, const Tensors& xs) {
      if (!c.no_strided.empty()) return;
      for (int which = 0; which < 3; ++which) {
        Tensors views;
        Tensors copies;
        for (const Tensor& x : xs) {
          views.push_back(repeated(x, which));
          copies.push_back(copy_of(views.back()));
        }
        const Tensors expected = c.function(copies);
        const Tensors got = c.function(views);
        if (c.strided_bitwise) {
          CHECK(bits(got) == bits(expected));
        } else {
          check_equal(got, expected, tolerance_for(c, dtype));
        }
      }
    });
}

TEST_CASE("op matrix: reusing the memory of dying inputs changes nothing, living inputs are never written") {
  for (const DType dtype : {float32, float64})
    for_samples(dtype, [&](const OpCase& c, const Tensors& xs) {
      const std::string before = bits(xs);
      const Tensors expected = c.function(xs);
      CHECK(bits(xs) == before);
      Tensors dying;
      for (const Tensor& x : xs) dying.push_back(copy_of(x));
      CHECK(bits(c.function(std::move(dying))) == bits(expected));
      // Under a level the primal of a dying box is reused too.
      if (!is_differentiable(c, xs) || !c.no_forward.empty()) return;
      const Restricted r = restrict(c, xs);
      const Tensors tangents = random_like(r.xs, key_of(c), true);
      const Tensors values = jvp(
                                 [&](const Tensors& boxed) {
                                   Tensors all = xs;  // new values, owned by nobody else
                                   for (std::size_t k = 0; k < boxed.size(); ++k)
                                     all[r.active[k]] = affine(boxed[k], 1.0, 0.0);
                                   return c.function(std::move(all));
                                 },
                                 r.xs, tangents)
                                 .values;
      check_equal(values, expected, 0.0);
      CHECK(bits(xs) == before);
    });
}

TEST_CASE("op matrix: results do not depend on the number of threads") {
  for (const OpCase& c : op_table()) {
    for (const DType dtype : {float32, float64}) {
      if (dtype == float32 && !c.no_float32.empty()) continue;
      INFO(c.name);
      const Tensors xs = c.large ? c.large(key_of(c), dtype) : c.samples(key_of(c), dtype).front();
      const Restricted r = restrict(c, xs);
      const bool differentiable = is_differentiable(c, xs) && dtype == float32;
      const Tensors seeds = differentiable ? seeds_for(c.function(xs), key_of(c)) : Tensors();
      std::string first;
      for (const int threads : {1, 2, 3}) {
        const NumThreadsGuard guard(threads);
        std::string result = bits(c.function(xs));
        if (differentiable) result += bits(vjp(r.f, r.xs).pullback(seeds));
        if (first.empty())
          first = std::move(result);
        else
          CHECK((result == first));
      }
    }
  }
}

std::string type_name(const Error& e) {
  if (dynamic_cast<const ShapeError*>(&e)) return "ShapeError";
  if (dynamic_cast<const DtypeError*>(&e)) return "DtypeError";
  if (dynamic_cast<const DeviceError*>(&e)) return "DeviceError";
  if (dynamic_cast<const ValueError*>(&e)) return "ValueError";
  if (dynamic_cast<const AutodiffError*>(&e)) return "AutodiffError";
  return typeid(e).name();
}

TEST_CASE("op matrix: misuse is refused with a text that says what was given and what to do") {
  for (const OpCase& c : op_table())
    for (const ErrorCase& error : c.errors) {
      INFO(c.name << ", " << error.what);
      try {
        error.call();
        FAIL_CHECK("no exception");
      } catch (const Error& e) {
        INFO(e.what());
        CHECK(type_name(e) == error.type);
        for (const std::string& part : error.text) {
          INFO("must contain: " << part);
          CHECK(std::string(e.what()).find(part) != std::string::npos);
        }
      } catch (const std::exception& e) {
        FAIL_CHECK(e.what());
      }
    }
}

}  // namespace
}  // namespace solvent::testing
