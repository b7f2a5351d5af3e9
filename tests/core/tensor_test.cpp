#include "solvent/core/tensor.h"

#include <cmath>
#include <limits>
#include <sstream>
#include <thread>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;

namespace {

struct CountingBox : detail::AdBox {
  explicit CountingBox(int* count) : destroyed(count) {
    destroy = [](detail::AdBox* box) noexcept {
      ++*static_cast<CountingBox*>(box)->destroyed;
      delete static_cast<CountingBox*>(box);
    };
  }
  int* destroyed;
};

}  // namespace

TEST_CASE("tensor: factories make dense row-major tensors with the values asked for") {
  CHECK(full({2, 3}, 1.5).to_vector<float>() == std::vector<float>(6, 1.5f));
  CHECK(zeros({4}, float64).to_vector<double>() == std::vector<double>(4, 0.0));
  CHECK(ones({2}, uint8).to_vector<std::uint8_t>() == std::vector<std::uint8_t>{1, 1});
  CHECK(full({2}, 3.0, boolean).to_vector<bool>() == std::vector<bool>{true, true});
  CHECK(arange(2, 9, 3).to_vector<std::int64_t>() == std::vector<std::int64_t>{2, 5, 8});
  CHECK(arange(1, 0, -0.25, float64).to_vector<double>() == std::vector<double>{1, 0.75, 0.5, 0.25});
  CHECK(linspace(0, 1, 5, float64).to_vector<double>() == std::vector<double>{0, 0.25, 0.5, 0.75, 1});
  CHECK(linspace(0.1, 0.7, 7, float64).to_vector<double>().back() == 0.7);
  CHECK(eye(2).to_vector<float>() == std::vector<float>{1, 0, 0, 1});
  CHECK(eye(3, int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(eye(0).numel() == 0);
  CHECK(tensor({{1, 2}, {3, 4}}, int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 2, 3, 4});
  CHECK(tensor({1.5, 2.5}).shape() == Shape{2});
  CHECK(scalar(7.0, float64).rank() == 0);
  CHECK(zeros_like(full({2, 2}, 3.0, float64)).dtype() == float64);
  CHECK(ones({2, 3}).is_contiguous());
  CHECK(ones({2, 3}).strides() == Strides{3, 1});
  CHECK(from_vector(std::vector<bool>{true, false}, {2, 1}).to_vector<bool>() == std::vector<bool>{true, false});
}

TEST_CASE("tensor: empty tensors have no elements and any shape with a zero") {
  const Tensor t = zeros({3, 0, 2});
  CHECK(t.numel() == 0);
  CHECK(t.is_contiguous());
  CHECK(t.to_vector<float>().empty());
  CHECK(arange(3, 3).numel() == 0);
}

TEST_CASE("tensor: wrong arguments of factories name the operation and the fix") {
  using Catch::Contains;
  CHECK_THAT(message_of<ShapeError>([] { zeros({2, -1}); }), Contains("(2, -1)") && Contains("at least 0"));
  CHECK_THAT(message_of<ShapeError>([] {
               zeros({std::int64_t{1} << 40, std::int64_t{1} << 40});
             }),
             Contains("2^63 bytes"));
  CHECK_THAT(message_of<ShapeError>([] {
               (void)from_vector(std::vector<float>{1, 2, 3}, {2, 2});
             }),
             Contains("[from_vector] got 3 values") && Contains("expected 4 values"));
  CHECK_THAT(message_of<ValueError>([] { full({1}, 300, uint8); }), Contains("[full] got 300 for dtype uint8"));
  CHECK_THAT(message_of<ValueError>([] { full({1}, std::nan(""), int64); }), Contains("nan"));
  CHECK_THAT(message_of<ValueError>([] { arange(0, 1, 0.1); }), Contains("whole numbers") && Contains("float32"));
  CHECK_THAT(message_of<ValueError>([] { arange(0, 1, -1); }),
             Contains("[arange]") && Contains("points from start to stop"));
  CHECK_THAT(message_of<DtypeError>([] { linspace(0, 1, 3, int64); }), Contains("[linspace]") && Contains("cast"));
  CHECK_THAT(message_of<ShapeError>([] { tensor({{1, 2}, {3}}); }), Contains("rows of equal length"));
  CHECK_THAT(message_of<ShapeError>([] {
               zeros({1, 1, 1, 1, 1, 1, 1, 1, 1});
             }),
             Contains("9 axes") && Contains("at most 8"));
}

TEST_CASE("tensor: other devices are refused with the way to get them") {
  const Device gpu{DeviceType::cuda, 0};
  using Catch::Contains;
  CHECK_THAT(message_of<DeviceError>([&] {
               zeros({2}, {float32, gpu});
             }),
             Contains("[full]") && Contains("no CUDA support in this build; configure with -DSOLVENT_CUDA=ON"));
  CHECK_THAT(message_of<DeviceError>([&] { memory_stats(gpu); }), Contains("[memory_stats]"));
  CHECK(parse_device("cuda:3") == Device{DeviceType::cuda, 3});
  CHECK(parse_device("cpu") == cpu_device);
  CHECK(to_string(parse_device("cuda")) == "cuda:0");
  for (const char* text : {"gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999"})
    CHECK_THAT(message_of<DeviceError>([&] { (void)parse_device(text); }), Contains(text) && Contains("'cuda:N'"));
}

TEST_CASE("tensor: host access checks dtype, contiguity and size") {
  using Catch::Contains;
  const Tensor t = tensor({{1, 2, 3}, {4, 5, 6}});
  const Tensor transposed = engine::view(t, {3, 2}, {1, 3}, 0);
  CHECK(transposed.to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK_FALSE(transposed.is_contiguous());
  CHECK(t.data<float>()[4] == 5);
  CHECK_THAT(message_of<ShapeError>([&] { (void)transposed.data<float>(); }),
             Contains("strides (1, 3)") && Contains("contiguous(x)"));
  CHECK_THAT(message_of<DtypeError>([&] { (void)t.to_vector<double>(); }),
             Contains("float32 tensor") && Contains("cast(x, float64)"));
  CHECK_THAT(message_of<ShapeError>([&] { (void)t.item(); }), Contains("6 elements"));
  CHECK(engine::view(t, {}, {}, 3).item() == 4);
  CHECK_THAT(message_of<Error>([] { (void)Tensor().shape(); }), Contains("empty handle"));
  CHECK_THAT(message_of<ShapeError>([&] { (void)t.size(2); }), Contains("axis 2") && Contains("-2 to 1"));
  CHECK_THAT(message_of<Error>([&] { (void)engine::meta(t).to_vector<float>(); }),
             Contains("remembers only its shape"));
}

TEST_CASE("tensor: contiguity ignores strides of axes with one element") {
  const Tensor t = arange(0, 12);
  CHECK(engine::view(t, {3, 1, 4}, {4, 77, 1}, 0).is_contiguous());
  CHECK(engine::view(t, {1, 4}, {99, 1}, 4).is_contiguous());
  CHECK_FALSE(engine::view(t, {3, 4}, {0, 1}, 0).is_contiguous());
  CHECK_FALSE(engine::view(t, {3, 2}, {4, 1}, 0).is_contiguous());
}

TEST_CASE("tensor: the last handle frees the memory, on any thread") {
  const std::size_t before = memory_stats().active;
  {
    Tensor a = zeros({64, 64});
    CHECK(memory_stats().active >= before + 64 * 64 * 4);
    const Tensor view = engine::view(a, {64}, {1}, 0);
    a.reset();
    CHECK(memory_stats().active >= before + 64 * 64 * 4);
    Tensor moved = engine::view(view, {1}, {1}, 5);
    std::thread([t = std::move(moved)]() mutable { t.reset(); }).join();
  }
  CHECK(memory_stats().active == before);
}

TEST_CASE("tensor: a box is destroyed once, with its handle") {
  int destroyed = 0;
  const Tensor primal = ones({3});
  {
    Tensor boxed = engine::with_box(primal, new CountingBox(&destroyed));
    const Tensor copy = boxed;
    CHECK(engine::is_boxed(copy));
    CHECK_FALSE(engine::is_boxed(primal));
    CHECK(copy.to_vector<float>() == std::vector<float>{1, 1, 1});  // values are readable at any depth
    boxed.reset();
    CHECK(destroyed == 0);
  }
  CHECK(destroyed == 1);
}

TEST_CASE("engine: only a sole handle to a whole dense buffer may be donated") {
  Tensor t = zeros({4, 4});
  CHECK(engine::can_donate(t));
  {
    const Tensor other = t;
    CHECK_FALSE(engine::can_donate(t));
  }
  {
    const Tensor view = engine::view(t, {4}, {1}, 0);
    CHECK_FALSE(engine::can_donate(t));
    CHECK_FALSE(engine::can_donate(view));
  }
  Tensor slice = engine::view(zeros({4, 4}), {4}, {1}, 4);
  CHECK_FALSE(engine::can_donate(slice));  // the base is dead, but the slice does not cover the buffer
  CHECK_FALSE(engine::can_donate(engine::view(zeros({4}), {4, 4}, {0, 1}, 0)));
  int destroyed = 0;
  CHECK_FALSE(engine::can_donate(engine::with_box(zeros({4}), new CountingBox(&destroyed))));
  CHECK_FALSE(engine::can_donate(engine::meta(t)));

  const float* data = engine::ptr<float>(t);
  const Tensor taken = engine::take_or_empty(t, {4, 4}, float32);
  CHECK(engine::ptr<float>(taken) == data);
  CHECK_FALSE(t.defined());
  Tensor shared = taken;
  CHECK(engine::ptr<float>(engine::take_or_empty(shared, {4, 4}, float32)) != data);
  CHECK(shared.defined());
}

TEST_CASE("engine: reshape_strides finds a view exactly when there is one") {
  const Tensor t = arange(0, 24);
  const auto strides_of = [](const Tensor& x, const Shape& shape) {
    Strides s;
    return engine::reshape_strides(x, shape, s) ? to_string(s) : "none";
  };
  CHECK(strides_of(t, {2, 3, 4}) == "(12, 4, 1)");
  const Tensor permuted = engine::view(t, {4, 2, 3}, {1, 12, 4}, 0);
  CHECK(strides_of(permuted, {4, 6}) == "(1, 4)");
  CHECK(strides_of(permuted, {2, 2, 6}) == "(2, 1, 4)");
  CHECK(strides_of(permuted, {8, 3}) == "none");
  CHECK(strides_of(permuted, {4, 1, 6, 1}) == "(1, 1, 4, 4)");
  CHECK(strides_of(engine::view(t, {3, 4}, {0, 0}, 7), {12}) == "(0,)");
  CHECK(strides_of(engine::view(t, {2, 3}, {1, 0}, 0), {6}) == "none");
  CHECK(strides_of(zeros({0, 3}), {3, 0}) != "none");
}

TEST_CASE("shape: text, axes and broadcasting") {
  using Catch::Contains;
  CHECK(to_string(Shape{}) == "()");
  CHECK(to_string(Shape{4}) == "(4,)");
  CHECK(to_string(Shape{2, 3}) == "(2, 3)");
  CHECK(normalise_axis("sum", -1, 3) == 2);
  CHECK(broadcast_shapes("add", {2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast_shapes("add", {0}, {1}) == Shape{0});
  CHECK_THAT(message_of<ShapeError>([] {
               (void)broadcast_shapes("add", {2, 3}, {4, 3});
             }),
             Contains("[add] got shapes (2, 3) and (4, 3)") && Contains("axis -2 has 2 and 4"));
  CHECK_THAT(message_of<ShapeError>([] { (void)normalise_axis("sum", 0, 0); }), Contains("[sum]") && Contains("0-d"));
}

TEST_CASE("print: values are aligned and the dtype and shape follow") {
  CHECK(to_string(tensor({{1, 2.5}, {-3, 1e-3}})) == "[[ 1.000,  2.500],\n [-3.000,  0.001]] float32(2, 2)");
  CHECK(to_string(scalar(3.25, float64)) == "3.25 float64()");
  CHECK(to_string(zeros({0, 3})) == "[] float32(0, 3)");
  CHECK(to_string(tensor({1, 0}, boolean)) == "[ true, false] bool(2,)");
  CHECK(to_string(arange(0, 100)) == "[ 0,  1,  2, ..., 97, 98, 99] int64(100,)");
  CHECK(to_string(tensor({1, std::nan(""), -std::numeric_limits<double>::infinity()}, float64)) ==
        "[   1,  nan, -inf] float64(3,)");
  CHECK(to_string(tensor({1e-10, 2e10})) == "[1.0000e-10, 2.0000e+10] float32(2,)");
  CHECK(to_string(from_vector<std::int64_t>({std::numeric_limits<std::int64_t>::min()}, {1})) ==
        "[-9223372036854775808] int64(1,)");
  CHECK(to_string(full({2, 1, 1}, 2.0)) == "[[[2]],\n\n [[2]]] float32(2, 1, 1)");
  CHECK(to_string(Tensor()) == "(empty handle)");
  CHECK(to_string(engine::view(arange(0, 4), {2, 2}, {1, 2}, 0)) == "[[0, 2],\n [1, 3]] int64(2, 2)");
  CHECK(describe(zeros({2, 3}, float64)) == "float64(2, 3)");
  std::ostringstream os;
  os << ones({2});
  CHECK(os.str() == "[1, 1] float32(2,)");
  CHECK(to_string(zeros({9, 9, 9, 9, 9, 9, 9, 9})).size() < 10000);  // limited whatever the rank
}
