// Entries of the table of operations: shape_ops and index.

#include <algorithm>
#include <utility>

#include "solvent/ops/index.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

// Lists of several tensors.
Samples normals_of_several(std::vector<std::vector<Shape>> shapes) {
  return [shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& list : shapes) {
      lists.emplace_back();
      for (const Shape& shape : list) lists.back().push_back(normal_sample(key, n++, shape, dtype));
    }
    return lists;
  };
}

// out[i] = x[source(i)].
Array rearranged(const Array& x, const Shape& shape, const std::function<Dims(Dims)>& source) {
  Array out(shape);
  for_each_index(shape, [&](const Dims& i) { out.at(i) = x.at(source(i)); });
  return out;
}

Shape with_extent(Shape shape, int axis, std::int64_t extent) {
  shape[axis < 0 ? axis + shape.rank() : axis] = extent;
  return shape;
}

// x[..., start:stop:step] along the last axis by enumeration.
Arrays naive_slice(const Array& x, std::int64_t first, std::int64_t step, std::int64_t last_inclusive) {
  std::vector<std::int64_t> positions;
  for (std::int64_t p = first; step > 0 ? p <= last_inclusive : p >= last_inclusive; p += step)
    if (p >= 0 && p < x.shape.back()) positions.push_back(p);
  return {rearranged(x, with_extent(x.shape, -1, static_cast<std::int64_t>(positions.size())), [&](Dims i) {
    i[i.rank() - 1] = positions[static_cast<std::size_t>(i.back())];
    return i;
  })};
}

// Zeros (value) with x's elements at first + i * step along axis 0.
Arrays naive_pad(const Array& x, std::int64_t before, std::int64_t after, double value) {
  Array out(with_extent(x.shape, 0, before + x.shape[0] + after), value);
  for_each_index(x.shape, [&](const Dims& i) {
    Dims at = i;
    at[0] += before;
    out.at(at) = x.at(i);
  });
  return {out};
}

std::vector<std::int64_t> halves(std::int64_t n) { return {n / 2, 0, n - n / 2}; }

OpCase slice_case() {
  OpCase c;
  c.name = "slice";
  c.covers = {"slice", "pad"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(slice(std::move(x[0]), -1, 1, 6, 2)); };
  c.reference = [](const Arrays& x) { return naive_slice(x[0], 1, 2, 5); };
  c.samples = normals({{2, 7}, {3, 4}, {2, 2, 5}, {0, 4}, {1}});
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {700, 301}, dtype)}; };
  c.errors = {
      {"axis out of range",
       [] {
         (void)slice(zeros({2, 3}), 2, 0, 1);
       },
       "ShapeError",
       {"[slice]", "2"}},
      {"step 0", [] { (void)slice(zeros({3}), 0, 0, 1, 0); }, "ValueError", {"[slice]", "step 0", "negative one"}}};
  return c;
}

OpCase slice_backwards_case() {
  OpCase c = slice_case();
  c.name = "slice/backwards";
  c.function = [](Tensors x) { return detail::one(slice(std::move(x[0]), -1, -1, -100, -2)); };
  c.reference = [](const Arrays& x) { return naive_slice(x[0], x[0].shape.back() - 1, -2, 0); };
  c.no_errors = "same front end as slice";
  c.errors.clear();
  return c;
}

OpCase flip_case() {
  OpCase c = slice_case();
  c.name = "slice/flip";
  c.function = [](Tensors x) { return detail::one(flip(std::move(x[0]), -1)); };
  c.reference = [](const Arrays& x) { return naive_slice(x[0], x[0].shape.back() - 1, -1, 0); };
  c.samples = normals({{2, 7}, {3, 4}, {2, 2, 5}, {0, 4}, {1, 2}, {2}});
  c.no_single = "an axis of extent 1 is its own reverse: nothing is called";
  c.errors = {{"axis out of range", [] { (void)flip(zeros({3}), 1); }, "ShapeError", {"[flip]"}}};
  return c;
}

OpCase pad_case() {
  OpCase c;
  c.name = "pad";
  c.covers = {"pad", "slice"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(pad(std::move(x[0]), 0, 1, 2)); };
  c.reference = [](const Arrays& x) { return naive_pad(x[0], 1, 2, 0.0); };
  c.samples = normals({{2, 3}, {4}, {2, 1, 3}, {0, 2}, {2, 0}, {1}});
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {700, 301}, dtype)}; };
  c.errors = {{"negative count", [] { (void)pad(zeros({3}), 0, -1, 0); }, "ValueError", {"[pad]", "-1", "slice"}},
              {"axis out of range", [] { (void)pad(zeros({3}), 1, 1, 1); }, "ShapeError", {"[pad]"}}};
  return c;
}

OpCase pad_value_case() {
  OpCase c = pad_case();
  c.name = "pad/value";
  c.linear = false;
  c.function = [](Tensors x) { return detail::one(pad(std::move(x[0]), 0, 0, 2, 0.5)); };
  c.reference = [](const Arrays& x) { return naive_pad(x[0], 0, 2, 0.5); };
  c.no_errors = "same front end as pad";
  c.errors.clear();
  return c;
}

OpCase concat_case() {
  OpCase c;
  c.name = "concat";
  c.covers = {"concat", "split"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(concat(std::move(x), -1)); };
  c.reference = [](const Arrays& x) {
    std::int64_t extent = 0;
    for (const Array& a : x) extent += a.shape.back();
    Array out(with_extent(x[0].shape, -1, extent));
    std::int64_t offset = 0;
    for (const Array& a : x) {
      for_each_index(a.shape, [&](const Dims& i) {
        Dims at = i;
        at[at.rank() - 1] += offset;
        out.at(at) = a.at(i);
      });
      offset += a.shape.back();
    }
    return Arrays{out};
  };
  c.samples = normals_of_several(
      {{{2, 3}, {2, 1}, {2, 2}}, {{3}, {0}, {2}}, {{2, 2, 1}, {2, 2, 2}}, {{0, 1}, {0, 2}}, {{1}, {1}}});
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {300, 400}, dtype), normal_sample(key, 1, {300, 500}, dtype)};
  };
  c.errors = {{"empty list", [] { (void)concat({}, 0); }, "ShapeError", {"[concat]", "at least one tensor"}},
              {"shapes",
               [] {
                 (void)concat({zeros({2, 3}), zeros({3, 3})}, 1);
               },
               "ShapeError",
               {"[concat]", "(2, 3)", "(3, 3)", "pad"}},
              {"dtypes",
               [] {
                 (void)concat({zeros({2}), zeros({2}, float64)}, 0);
               },
               "DtypeError",
               {"[concat]", "float64", "cast"}}};
  return c;
}

OpCase split_case() {
  OpCase c;
  c.name = "split";
  c.covers = {"split", "concat"};
  c.linear = true;
  c.function = [](Tensors x) {
    const auto sizes = halves(x[0].size(0));
    return split(std::move(x[0]), sizes, 0);
  };
  c.reference = [](const Arrays& x) {
    Arrays out;
    std::int64_t offset = 0;
    for (const std::int64_t size : halves(x[0].shape[0])) {
      out.push_back(rearranged(x[0], with_extent(x[0].shape, 0, size), [&](Dims i) {
        i[0] += offset;
        return i;
      }));
      offset += size;
    }
    return out;
  };
  c.samples = normals({{5}, {4, 2}, {3, 2, 2}, {3, 0}, {0, 2}, {1}});
  c.errors = {{"sizes do not add up",
               [] {
                 (void)split(zeros({4}), {1, 2}, 0);
               },
               "ShapeError",
               {"[split]", "(1, 2)", "extent 4", "add up"}},
              {"negative size",
               [] {
                 (void)split(zeros({1}), {2, -1}, 0);
               },
               "ShapeError",
               {"[split]", "at least 0"}}};
  return c;
}

OpCase stack_case() {
  OpCase c;
  c.name = "stack";
  c.covers = {"stack", "unstack"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(stack(std::move(x), -1)); };
  c.reference = [](const Arrays& x) {
    Shape shape = x[0].shape;
    shape.push_back(static_cast<std::int64_t>(x.size()));
    Array out(shape);
    for (std::size_t k = 0; k < x.size(); ++k)
      for_each_index(x[k].shape, [&](const Dims& i) {
        Dims at = i;
        at.push_back(static_cast<std::int64_t>(k));
        out.at(at) = x[k].at(i);
      });
    return Arrays{out};
  };
  c.samples = normals_of_several(
      {{{2, 3}, {2, 3}, {2, 3}}, {{4}, {4}}, {{2, 1, 2}, {2, 1, 2}}, {{0, 2}, {0, 2}}, {{1}, {1}}, {{}, {}}});
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {300, 400}, dtype), normal_sample(key, 1, {300, 400}, dtype)};
  };
  c.errors = {{"empty list", [] { (void)stack({}); }, "ShapeError", {"[stack]", "at least one tensor"}},
              {"shapes",
               [] {
                 (void)stack({zeros({2}), zeros({3})});
               },
               "ShapeError",
               {"[stack]", "(2,)", "(3,)", "equal shapes"}},
              {"axis", [] { (void)stack({zeros({2})}, 2); }, "ShapeError", {"[stack]"}},
              {"dtypes",
               [] {
                 (void)stack({zeros({2}), zeros({2}, float64)});
               },
               "DtypeError",
               {"[stack]", "cast"}}};
  return c;
}

OpCase stack_first_case() {
  OpCase c = stack_case();
  c.name = "stack/first";
  c.function = [](Tensors x) { return detail::one(stack(std::move(x), 0)); };
  c.reference = [](const Arrays& x) {
    Shape shape = x[0].shape;
    shape.insert(0, static_cast<std::int64_t>(x.size()));
    Array out(shape);
    for_each_index(shape, [&](const Dims& i) {
      Dims from = i;
      from.erase(0);
      out.at(i) = x[static_cast<std::size_t>(i[0])].at(from);
    });
    return Arrays{out};
  };
  c.no_errors = "same front end as stack";
  c.errors.clear();
  return c;
}

OpCase unstack_case() {
  OpCase c;
  c.name = "unstack";
  c.covers = {"unstack", "stack"};
  c.linear = true;
  c.function = [](Tensors x) { return unstack(std::move(x[0]), -2); };
  c.reference = [](const Arrays& x) {
    Arrays out;
    const int axis = x[0].shape.rank() - 2;
    Shape shape = x[0].shape;
    shape.erase(axis);
    for (std::int64_t k = 0; k < x[0].shape[axis]; ++k)
      out.push_back(rearranged(x[0], shape, [&](Dims i) {
        i.insert(axis, k);
        return i;
      }));
    return out;
  };
  c.samples = normals({{3, 2}, {2, 4, 2}, {2, 5}, {2, 0}, {0, 2, 2}, {1, 1}});
  c.errors = {{"axis out of range", [] { (void)unstack(zeros({3}), 1); }, "ShapeError", {"[unstack]"}}};
  return c;
}

OpCase clone_case() {
  OpCase c;
  c.name = "clone";
  c.covers = {"clone"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(clone(x[0])); };
  c.reference = [](const Arrays& x) { return Arrays{x[0]}; };
  c.samples = normals({{2, 3}, {4}, {2, 1, 3}, {0, 2}, {1}, {}});
  c.large = [](Key key, DType dtype) { return Tensors{normal_sample(key, 0, {700, 301}, dtype)}; };
  c.no_errors = "accepts every tensor";
  return c;
}

// out[i] = x[i with index[i] on the axis]; operands broadcast on the other axes.
Arrays naive_gather(const Arrays& in, int axis) {
  Shape shape = in[1].shape;
  Shape x_shape = in[0].shape;
  for (int k = 0; k < shape.rank(); ++k) {
    if (k == axis) continue;
    const std::int64_t extent = shape[k] == 1 ? x_shape[k] : shape[k];
    shape[k] = x_shape[k] = extent;
  }
  const Array x = broadcast(in[0], x_shape);
  const Array index = broadcast(in[1], shape);
  return {rearranged(x, shape, [&](Dims i) {
    i[axis] = static_cast<std::int64_t>(index.at(i));
    return i;
  })};
}

OpCase gather_case(int axis) {
  OpCase c;
  c.name = axis == 0 ? "gather" : "gather/last";
  c.covers = {"gather", "scatter_add"};
  c.linear = true;
  c.function = [axis](Tensors x) { return detail::one(gather(std::move(x[0]), std::move(x[1]), axis == 0 ? 0 : -1)); };
  c.reference = [axis](const Arrays& x) { return naive_gather(x, axis == 0 ? 0 : x[0].shape.rank() - 1); };
  c.samples = [axis](Key key, DType dtype) {
    const auto x = [&](std::uint64_t n, const Shape& s) { return normal_sample(key, n, s, dtype); };
    const auto index = [&](std::uint64_t n, const Shape& s, std::int64_t size) {
      return integer_sample(key, n, s, 0, size);
    };
    if (axis != 0)
      return Lists{{x(0, {3, 4}), index(1, {3, 6}, 4)},
                   {x(2, {2, 2, 3}), index(3, {1, 2, 5}, 3)},
                   {x(4, {5}), index(5, {2}, 5)},
                   {x(6, {0, 3}), index(7, {0, 2}, 3)},
                   {x(8, {1}), index(9, {1}, 1)}};
    return Lists{{x(0, {4, 3}), index(1, {6, 3}, 4)},  {x(2, {3, 2}), index(3, {5, 1}, 3)},
                 {x(4, {3, 1}), index(5, {2, 4}, 3)},  {x(6, {4}), index(7, {7}, 4)},
                 {x(8, {2, 0}), index(9, {3, 1}, 2)},  {x(10, {2, 3}), index(11, {0, 3}, 2)},
                 {x(12, {1, 1}), index(13, {1, 1}, 1)}};
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {500, 500}, dtype), integer_sample(key, 1, {500, 500}, 0, 500)};
  };
  c.errors = {{"out of range",
               [] {
                 (void)gather(zeros({2, 3}), tensor({{0, 1, 0}, {0, 0, 7}}, int64), 0);
               },
               "ValueError",
               {"[gather]", "index 7", "position 5", "[0, 2)"}},
              {"negative",
               [] {
                 (void)gather(zeros({3}), tensor({0, -1}, int64), 0);
               },
               "ValueError",
               {"[gather]", "index -1", "position 1"}},
              {"dtype", [] { (void)gather(zeros({3}), zeros({3}), 0); }, "DtypeError", {"[gather]", "int64", "cast"}},
              {"rank",
               [] {
                 (void)gather(zeros({3, 2}), zeros({3}, int64), 0);
               },
               "ShapeError",
               {"[gather]", "(3, 2)", "(3,)", "index_select"}},
              {"extent",
               [] {
                 (void)gather(zeros({3, 2}), zeros({1, 3}, int64), 0);
               },
               "ShapeError",
               {"[gather]", "(1, 3)"}}};
  return c;
}

OpCase index_select_case() {
  OpCase c = gather_case(0);
  c.name = "gather/index_select";
  c.function = [](Tensors x) { return detail::one(index_select(std::move(x[0]), std::move(x[1]), 0)); };
  c.reference = [](const Arrays& x) {
    return Arrays{rearranged(x[0], with_extent(x[0].shape, 0, x[1].numel()), [&](Dims i) {
      i[0] = static_cast<std::int64_t>(x[1][i[0]]);
      return i;
    })};
  };
  c.samples = [](Key key, DType dtype) {
    const auto x = [&](std::uint64_t n, const Shape& s) { return normal_sample(key, n, s, dtype); };
    const auto index = [&](std::uint64_t n, std::int64_t count, std::int64_t size) {
      return integer_sample(key, n, {count}, 0, size);
    };
    return Lists{{x(0, {4, 3}), index(1, 6, 4)}, {x(2, {3}), index(3, 5, 3)},    {x(4, {2, 2, 3}), index(5, 3, 2)},
                 {x(6, {3, 2}), index(7, 0, 3)}, {x(8, {3, 0}), index(9, 2, 3)}, {x(10, {1}), index(11, 1, 1)}};
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {300, 500}, dtype), integer_sample(key, 1, {600}, 0, 300)};
  };
  c.errors = {{"rank",
               [] {
                 (void)index_select(zeros({3}), zeros({1, 1}, int64));
               },
               "ShapeError",
               {"[index_select]", "(1, 1)", "gather"}},
              {"out of range",
               [] {
                 (void)index_select(zeros({3}), tensor({0, 3}, int64));
               },
               "ValueError",
               {"[index_select]", "index 3", "position 1", "[0, 3)"}},
              {"dtype", [] { (void)index_select(zeros({3}), zeros({1})); }, "DtypeError", {"[index_select]", "int64"}}};
  return c;
}

OpCase scatter_add_case() {
  OpCase c;
  c.name = "scatter_add";
  c.covers = {"scatter_add", "gather"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(scatter_add(std::move(x[0]), std::move(x[1]), 0, 4)); };
  c.reference = [](const Arrays& in) {
    Shape shape = in[0].shape;
    for (int k = 0; k < shape.rank(); ++k) shape[k] = shape[k] == 1 ? in[1].shape[k] : shape[k];
    const Array x = broadcast(in[0], shape);
    const Array index = broadcast(in[1], shape);
    Array out(with_extent(shape, 0, 4));
    for_each_index(shape, [&](const Dims& i) {
      Dims at = i;
      at[0] = static_cast<std::int64_t>(index.at(i));
      out.at(at) += x.at(i);
    });
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    const auto x = [&](std::uint64_t n, const Shape& s) { return normal_sample(key, n, s, dtype); };
    const auto index = [&](std::uint64_t n, const Shape& s) { return integer_sample(key, n, s, 0, 4); };
    return Lists{{x(0, {6, 2}), index(1, {6, 2})},       {x(2, {9}), index(3, {9})},
                 {x(4, {5, 3}), index(5, {5, 1})},       {x(6, {5, 1}), index(7, {5, 2})},
                 {x(8, {2, 3, 2}), index(9, {2, 3, 2})}, {x(10, {0, 2}), index(11, {0, 2})},
                 {x(12, {2, 0}), index(13, {2, 0})},     {x(14, {1}), index(15, {1})}};
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{normal_sample(key, 0, {500, 500}, dtype), integer_sample(key, 1, {500, 500}, 0, 4)};
  };
  c.errors = {
      {"out of range",
       [] {
         (void)scatter_add(zeros({2}), tensor({0, 4}, int64), 0, 4);
       },
       "ValueError",
       {"[scatter_add]", "index 4", "position 1", "[0, 4)"}},
      {"size", [] { (void)scatter_add(zeros({0}), zeros({0}, int64), 0, -1); }, "ValueError", {"[scatter_add]", "-1"}},
      {"shapes",
       [] {
         (void)scatter_add(zeros({2, 2}), zeros({3, 2}, int64), 0, 4);
       },
       "ShapeError",
       {"[scatter_add]", "(2, 2)", "(3, 2)"}},
      {"bool",
       [] { (void)scatter_add(zeros({2}, boolean), zeros({2}, int64), 0, 4); },
       "DtypeError",
       {"[scatter_add]", "bool"}},
      {"index dtype",
       [] { (void)scatter_add(zeros({2}), zeros({2}), 0, 4); },
       "DtypeError",
       {"[scatter_add]", "int64"}}};
  return c;
}

OpCase one_hot_case() {
  OpCase c;
  c.name = "one_hot";
  c.covers = {"one_hot"};
  c.not_differentiable = "its input is an integer";
  c.function = [](Tensors x) { return detail::one(one_hot(std::move(x[0]), 3)); };
  c.reference = [](const Arrays& x) {
    Shape shape = x[0].shape;
    shape.push_back(3);
    Array out(shape);
    for_each_index(shape, [&](const Dims& i) {
      Dims at = i;
      at.pop_back();
      out.at(i) = x[0].at(at) == static_cast<double>(i.back()) ? 1.0 : 0.0;
    });
    return Arrays{out};
  };
  c.samples = [](Key key, DType) {
    Lists lists;
    for (const Shape& shape : {Shape{4}, Shape{2, 3}, Shape{0}, Shape{1}, Shape{}})
      lists.push_back({integer_sample(key, lists.size(), shape, 0, 3)});
    return lists;
  };
  c.errors = {
      {"label",
       [] {
         (void)one_hot(tensor({0, 3}, int64), 3);
       },
       "ValueError",
       {"[one_hot]", "index 3", "position 1", "[0, 3)"}},
      {"dtype", [] { (void)one_hot(zeros({2}), 3); }, "DtypeError", {"[one_hot]", "int64"}},
      {"result", [] { (void)one_hot(zeros({2}, int64), 3, int64); }, "DtypeError", {"[one_hot]", "float32 or float64"}},
      {"classes", [] { (void)one_hot(zeros({0}, int64), -1); }, "ValueError", {"[one_hot]", "-1 classes"}}};
  return c;
}

}  // namespace

std::vector<OpCase> shape_cases() {
  return {slice_case(),    slice_backwards_case(), flip_case(),        pad_case(),     pad_value_case(), concat_case(),
          split_case(),    stack_case(),           stack_first_case(), unstack_case(), clone_case(),     gather_case(0),
          gather_case(-1), index_select_case(),    scatter_add_case(), one_hot_case()};
}

}  // namespace solvent::testing
