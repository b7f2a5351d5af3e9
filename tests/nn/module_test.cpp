#include "solvent/nn/module.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "solvent/nn/gru.h"
#include "solvent/nn/layer_norm.h"
#include "solvent/nn/linear.h"
#include "solvent/nn/mlp.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::identical;

/// A module with everything that visit can list.
struct Model : Module {
  Mlp encoder;
  std::vector<Linear> blocks;
  std::optional<LayerNorm> norm;
  std::unique_ptr<Linear> absent;
  Parameter scale;
  Buffer steps;

  explicit Model(Key key) : encoder({3, 4, 4}, key.fold_in(0)), scale(tensor({2})), steps(arange(0, 3)) {
    for (std::uint64_t i = 0; i < 2; ++i) blocks.emplace_back(4, 4, key.fold_in(1 + i), LinearOptions{.bias = false});
    norm.emplace(4);
  }
  Tensor operator()(const Tensor& x) const {
    Tensor y = encoder(x);
    for (const Linear& block : blocks) y = tanh(block(y));
    return (*norm)(y)*scale.value();
  }
  void visit(Visitor& v) override {
    v("encoder", encoder);
    v("blocks", blocks);
    v("norm", norm);
    v("absent", absent);
    v("scale", scale);
    v("steps", steps);
  }
};

/// Two names for one child.
struct Tied : Module {
  std::shared_ptr<Linear> first;
  std::shared_ptr<Linear> second;
  explicit Tied(Key key) : first(std::make_shared<Linear>(2, 2, key)), second(first) {}
  void visit(Visitor& v) override {
    v("first", first);
    v("second", second);
  }
};

struct TempFile {
  std::string path;
  explicit TempFile(const std::string& name)
      : path((std::filesystem::temp_directory_path() / ("solvent-nn-" + name)).string()) {}
  ~TempFile() { std::remove(path.c_str()); }
};

std::vector<std::string> names_of(const StateDict& state) {
  std::vector<std::string> names;
  for (const auto& [name, value] : state) names.push_back(name);
  return names;
}

TEST_CASE("Module: names follow the order of visit and join with dots", "[nn]") {
  const Model model(Key(1));
  CHECK(names_of(model.state_dict()) == std::vector<std::string>{"encoder.layers.0.weight", "encoder.layers.0.bias",
                                                                 "encoder.layers.1.weight", "encoder.layers.1.bias",
                                                                 "blocks.0.weight", "blocks.1.weight", "norm.weight",
                                                                 "norm.bias", "scale", "steps"});
  CHECK(model.num_parameters() == 3 * 4 + 4 + 4 * 4 + 4 + 2 * 16 + 4 + 4 + 1);
}

TEST_CASE("Module: parameters, names and values are parallel", "[nn]") {
  Model model(Key(1));
  const ParameterList list = model.parameters();
  const auto named = model.named_parameters();
  const Tensors values = model.parameter_values();
  REQUIRE(list.size() == 9);
  REQUIRE(named.size() == list.size());
  REQUIRE(values.size() == list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    CHECK(named[i].second == list[i]);
    CHECK(values[i].impl() == list[i]->value().impl());
  }
  CHECK(list[0] == &model.encoder.layers[0].weight);
  CHECK(named.back().first == "scale");
}

TEST_CASE("Module: a child reached twice is one set of slots", "[nn]") {
  Tied tied(Key(1));
  CHECK(names_of(tied.state_dict()) == std::vector<std::string>{"first.weight", "first.bias"});
  CHECK(tied.parameters().size() == 2);
  CHECK(parameters_of({&tied, tied.first.get(), tied.second.get()}).size() == 2);
}

TEST_CASE("Module: copies and moves have slots of their own and no way back to the original", "[nn]") {
  auto original = std::make_unique<Mlp>(std::vector<std::int64_t>{2, 3, 1}, Key(5));
  const Tensor x = tensor({{1, -2}});
  const Tensor y = (*original)(x);

  Mlp copy = *original;
  CHECK(copy.layers[0].weight.value().impl() == original->layers[0].weight.value().impl());
  CHECK(copy.parameters()[0] != original->parameters()[0]);
  copy.layers[0].weight.assign(zeros({3, 2}));
  CHECK(identical((*original)(x), y));

  Mlp moved = std::move(*original);
  original.reset();
  CHECK(identical(moved(x), y));
  CHECK(moved.parameters()[0] == &moved.layers[0].weight);

  std::vector<Mlp> many;
  for (int i = 0; i < 5; ++i) many.push_back(moved);  // grows and moves
  CHECK(identical(many[0](x), y));
  CHECK(many[0].parameters()[0] == &many[0].layers[0].weight);
  many.erase(many.begin());  // move assignment
  CHECK(identical(many[0](x), y));
}

TEST_CASE("Module: state dict round trip", "[nn]") {
  const Model source(Key(1));
  Model target(Key(2));
  const Tensor x = uniform(Key(9), {5, 3});
  CHECK_FALSE(identical(source(x), target(x)));
  CHECK(target.load_state_dict(source.state_dict()).ok());
  CHECK(identical(source(x), target(x)));
}

TEST_CASE("Module: a state dict that does not fit is reported completely and changes nothing", "[nn]") {
  Model model(Key(1));
  const StateDict before = model.state_dict();
  StateDict state = Model(Key(2)).state_dict();
  state[0].second = zeros({4, 4});        // encoder.layers.0.weight
  state[1].second = zeros({4}, float64);  // encoder.layers.0.bias
  state[4].first = "blocks.7.weight";
  CHECK_ERROR(ValueError, model.load_state_dict(state), "[load_state_dict]", "nothing was loaded",
              "missing: blocks.0.weight", "unexpected: blocks.7.weight",
              "encoder.layers.0.weight: got float32(4, 4), expected float32(4, 3)",
              "encoder.layers.0.bias: got float64(4,), expected float32(4,)", "Strict::no");
  const StateDict after = model.state_dict();
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(after[i].second.impl() == before[i].second.impl());

  const LoadReport report = model.load_state_dict(state, Strict::no);
  CHECK(report.missing == std::vector<std::string>{"blocks.0.weight"});
  CHECK(report.unexpected == std::vector<std::string>{"blocks.7.weight"});
  CHECK(report.mismatched.size() == 2);
  CHECK(model.encoder.layers[1].weight.value().impl() == state[2].second.impl());
  CHECK(model.encoder.layers[0].weight.value().impl() == before[0].second.impl());
}

TEST_CASE("Module: files round trip and errors name the file", "[nn]") {
  const TempFile file("module.safetensors");
  const Model source(Key(1));
  source.save(file.path);
  Model target(Key(2));
  CHECK(target.load(file.path).ok());
  const Tensor x = uniform(Key(9), {5, 3});
  CHECK(identical(source(x), target(x)));
  CHECK(target.steps.value().to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2});

  Linear other(3, 3, Key(1));
  CHECK_ERROR(ValueError, other.load(file.path), "missing: weight", file.path);
  CHECK_ERROR(IoError, other.load(file.path + ".none"), file.path + ".none");
}

TEST_CASE("Module: to converts parameters and floating buffers", "[nn]") {
  Model model(Key(1));
  const Tensor x = uniform(Key(9), {5, 3});
  const Tensor narrow = model(x);
  model.to(float64);
  for (const Tensor& value : model.parameter_values()) CHECK(value.dtype() == float64);
  CHECK(model.steps.value().dtype() == int64);
  CHECK(testing::max_difference(cast(model(cast(x, float64)), float32), narrow) < 1e-5);
  CHECK_ERROR(DtypeError, model.to(int64), "[Module::to]", "float64");
  CHECK_ERROR(DtypeError, model.to(bfloat16), "[Module::to]", "bfloat16", "cast(parameter, bfloat16)");
}

TEST_CASE("Module: the training flag reaches all children", "[nn]") {
  Model model(Key(1));
  CHECK(model.is_training());
  model.set_training(false);
  CHECK_FALSE(model.is_training());
  CHECK_FALSE(model.encoder.layers[1].is_training());
  CHECK_FALSE(model.blocks[0].is_training());
  CHECK_FALSE(model.norm->is_training());
  model.set_training(true);
  CHECK(model.encoder.is_training());
}

}  // namespace
}  // namespace solvent::nn
