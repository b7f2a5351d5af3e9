#include "solvent/tests/ops/bfloat16_sweep.h"

#include <algorithm>
#include <cmath>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

// Results pass through up to three roundings of 2^-9 each, derivatives through more.
constexpr double kValueTolerance = 1.5e-2;
constexpr double kDerivativeTolerance = 5e-2;

Tensors rounded(const Tensors& xs, Device device) {
  Tensors out;
  for (const Tensor& x : xs) out.push_back(to(is_floating(x.dtype()) ? cast(x, bfloat16) : x, device));
  return out;
}

Tensors in_float32(const Tensors& xs) {
  Tensors out;
  for (const Tensor& x : xs) {
    const Tensor host = x.defined() ? to(x, cpu_device) : x;
    out.push_back(host.defined() && host.dtype() == bfloat16 ? cast(host, float32) : host);
  }
  return out;
}

// The entry as a function of its floating inputs.
struct Restricted {
  TensorsFn f;
  Tensors xs;
};

Restricted restrict_to_floats(const OpCase& c, const Tensors& xs) {
  Restricted r;
  std::vector<std::size_t> active;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (is_floating(xs[i].dtype())) {
      active.push_back(i);
      r.xs.push_back(xs[i]);
    }
  r.f = [&c, xs, active](const Tensors& floats) {
    Tensors all = xs;
    for (std::size_t k = 0; k < active.size(); ++k) all[active[k]] = floats[k];
    return c.function(std::move(all));
  };
  return r;
}

Tensors directions(const Tensors& xs, Key key, Device device) {
  Tensors out;
  for (std::size_t i = 0; i < xs.size(); ++i)
    out.push_back(is_floating(xs[i].dtype())
                      ? to(cast(normal_sample(key, i, xs[i].shape(), float32), xs[i].dtype()), device)
                      : Tensor());
  return out;
}

void compare(const char* what, const Tensors& got, const Tensors& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO(what << " " << i);
    if (expected[i].dtype() == float32) CHECK(got[i].dtype() == bfloat16);
    REQUIRE(got[i].shape() == expected[i].shape());
    const Array g(to(got[i], cpu_device));
    const Array e(expected[i]);
    double worst = 0;
    for (std::int64_t k = 0; k < g.numel(); ++k) {
      if (g[k] == e[k] || (std::isnan(g[k]) && std::isnan(e[k]))) continue;
      const double error = std::abs(g[k] - e[k]) / std::max(1.0, std::abs(e[k]));
      if (!(error <= worst)) worst = error;
    }
    CHECK(worst <= tolerance);
  }
}

void check_values_and_derivatives(const OpCase& c, const Tensors& xs, Device device) {
  const Tensors narrow = rounded(xs, device);
  const Tensors wide = in_float32(narrow);
  compare("value", c.function(narrow), c.function(wide), kValueTolerance);
  const Restricted n = restrict_to_floats(c, narrow);
  const Restricted w = restrict_to_floats(c, wide);
  if (!c.not_differentiable.empty() || n.xs.empty()) return;
  const Key key(16);
  VjpResult narrow_pull = vjp(n.f, n.xs);
  VjpResult wide_pull = vjp(w.f, w.xs);
  const Tensors seeds = directions(narrow_pull.values, key, device);
  compare("vjp", narrow_pull.pullback(seeds), wide_pull.pullback(in_float32(seeds)), kDerivativeTolerance);
  const Tensors tangents = directions(n.xs, key.fold_in(1), device);
  compare("jvp", jvp(n.f, n.xs, tangents).tangents, jvp(w.f, w.xs, in_float32(tangents)).tangents,
          kDerivativeTolerance);
}

// True if the entry takes bfloat16, as the first of its non-empty samples shows.
bool takes_bfloat16(const OpCase& c, const Tensors& xs, Device device) {
  try {
    static_cast<void>(c.function(rounded(xs, device)));
    return true;
  } catch (const DtypeError& e) {
    CHECK(std::string(e.what()).find("bfloat16") != std::string::npos);
    return false;
  }
}

}  // namespace

std::set<std::string> sweep_bfloat16(Device device) {
  std::set<std::string> taken;
  for (const OpCase& c : op_table()) {
    if (!c.no_float32.empty() || !c.no_forward.empty()) continue;
    for (const Tensors& xs : c.samples(Key(3), float32)) {
      const bool floating = std::any_of(xs.begin(), xs.end(), [](const Tensor& x) { return is_floating(x.dtype()); });
      if (!floating) continue;
      INFO(c.name << " " << describe(xs[0]));
      try {
        if (!takes_bfloat16(c, xs, device)) continue;
        taken.insert(c.name);
        check_values_and_derivatives(c, xs, device);
      } catch (const std::exception& e) {
        FAIL_CHECK(e.what());
      }
    }
  }
  return taken;
}

}  // namespace solvent::testing
