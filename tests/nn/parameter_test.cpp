#include "solvent/autodiff/transforms.h"
#include "solvent/core/engine/view.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/linear.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::identical;

TEST_CASE("Parameter: a copy is a slot of its own that shares the tensor", "[nn]") {
  Parameter a(tensor({1, 2}));
  Parameter b = a;
  CHECK(a.value().impl() == b.value().impl());
  b.assign(tensor({3, 4}));
  CHECK(identical(a.value(), tensor({1, 2})));
  CHECK(identical(b.value(), tensor({3, 4})));
}

TEST_CASE("Parameter: assign rebinds, so a pullback keeps the values it saved", "[nn]") {
  Parameter p(tensor({3}, float64));
  VjpResult r = vjp([](const Tensors& xs) { return Tensors{sum(square(xs[0]))}; }, {p.value()});
  p.assign(tensor({100}, float64));
  // Writing 100 into the old buffer would give 200 here.
  CHECK(r.pullback(Tensors{scalar(1, float64)})[0].item() == 6.0);
}

TEST_CASE("Parameter: update lets a step reuse the memory, but only if no one else holds the value", "[nn]") {
  Parameter p(contiguous(uniform(Key(1), {1000})));
  const float* before = p.value().data<float>();
  p.update([](Tensor&& value) { return affine(std::move(value), 2.0, 0.0); });
  CHECK(p.value().data<float>() == before);

  const Tensor held = p.value();
  const Tensor copy = clone(held);
  p.update([](Tensor&& value) { return affine(std::move(value), 2.0, 0.0); });
  CHECK(p.value().data<float>() != before);
  CHECK(identical(held, copy));
}

TEST_CASE("Parameter: a throwing update leaves the value in the slot", "[nn]") {
  Parameter p(tensor({1, 2}));
  const auto fail = [](Tensor&&) -> Tensor { throw ValueError("step too large"); };
  CHECK_THROWS_AS(p.update(fail), ValueError);
  CHECK(identical(p.value(), tensor({1, 2})));
  CHECK_ERROR(ShapeError, p.update([](Tensor&&) { return tensor({1, 2, 3}); }), "[Parameter::update]", "(3,)", "(2,)");
  CHECK(identical(p.value(), tensor({1, 2})));
}

TEST_CASE("Parameter: what does not fit the slot is refused with advice", "[nn]") {
  Parameter p(tensor({1, 2}));
  CHECK_ERROR(ShapeError, p.assign(tensor({1, 2, 3})), "[Parameter::assign]", "float32(3,)", "float32(2,)", "reshape");
  CHECK_ERROR(DtypeError, p.assign(tensor({1, 2}, float64)), "[Parameter::assign]", "cast");
  CHECK_ERROR(ShapeError, p.assign(Tensor()), "[Parameter::assign]", "empty handle");
  CHECK_ERROR(ShapeError, Parameter().assign(tensor({1})), "[Parameter::assign]", "made without this parameter");
  CHECK_ERROR(DtypeError, Parameter(arange(0, 3)), "[Parameter]", "int64", "Buffer");
  CHECK_ERROR(DtypeError, Parameter(ones({2}, bfloat16)), "[Parameter]", "bfloat16(2,)", "float32",
              "cast(parameter, bfloat16)");
  CHECK(identical(p.value(), tensor({1, 2})));
}

TEST_CASE("Parameter: a slot in use by value_and_grad cannot be assigned, updated or overwritten", "[nn]") {
  Linear layer(2, 1, Key(3));
  const Tensor before = layer.weight.value();
  const auto in_transform = [&layer](auto action) {
    return testing::message_of<AutodiffError>([&] {
      value_and_grad(layer, [&] {
        action();
        return sum(layer(tensor({{1, 2}})));
      });
    });
  };
  using testing::has_all;
  CHECK(has_all(in_transform([&] { layer.weight.assign(tensor({{1, 2}})); }), {"[Parameter::assign]", "aux"}));
  CHECK(has_all(in_transform([&] { layer.weight.update([](Tensor&& t) { return t; }); }), {"[Parameter::update]"}));
  CHECK(has_all(in_transform([&] { layer = Linear(2, 1, Key(4)); }), {"[Parameter]"}));
  CHECK(has_all(in_transform([&] { layer.to(float64); }), {"[Module::to]"}));
  CHECK(has_all(in_transform([&] { layer.load_state_dict(layer.state_dict()); }), {"[load_state_dict]"}));
  CHECK(layer.weight.value().impl() == before.impl());
  layer.weight.assign(tensor({{1, 2}}));  // free again
}

TEST_CASE("Buffer: stores constants", "[nn]") {
  Buffer buffer(tensor({0}, float64));
  const Tensor g = grad(
      [&](const Tensor& x) {
        buffer.assign(square(x));
        return sum(x * buffer.value());  // the buffer is a constant here
      },
      tensor({3}, float64));
  CHECK(g.item() == 9.0);
  CHECK_FALSE(engine::is_boxed(buffer.value()));
  CHECK(buffer.value().item() == 9.0);
}

}  // namespace
}  // namespace solvent::nn
