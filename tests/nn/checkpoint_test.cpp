#include "solvent/nn/checkpoint.h"

#include <filesystem>

#include "solvent/core/io/atomic_file.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"
#include "solvent/tests/support/file_size_limit.h"
#include "solvent/tests/support/temp_folder.h"

namespace solvent::nn {
namespace {

using testing::FileSizeLimit;
using testing::identical;
using testing::TempFolder;

/// A model in training.
struct Run {
  Mlp model;
  Adam adam{{.learning_rate = 0.05}};
  explicit Run(std::uint64_t seed) : model({2, 5, 1}, Key(seed), {.activation = Activation::tanh}) {}

  void train(std::int64_t steps) {
    const WarmupCosine schedule{.peak = 0.05, .warmup_steps = 3, .total_steps = 40};
    for (std::int64_t i = 0; i < steps; ++i) {
      const auto step = static_cast<std::uint64_t>(adam.steps());
      const Tensor x = normal(Key(4).fold_in(step), {8, 2});
      const Tensors grads =
          nn::value_and_grad(model, [&] { return mean(square(model(x) - sum(x, {-1}, true))); }).grads;
      adam.set_learning_rate(schedule(adam.steps()));
      adam.step(model, clip_by_global_norm(grads, 1.0).grads);
    }
  }
  CheckpointParts parts() { return {{{"model", &model}}, {{"adam", &adam}}}; }
};

TEST_CASE("checkpoint: a resumed run has the same bits as an uninterrupted one", "[nn]") {
  const TempFolder folder;
  Run whole(1);
  whole.train(20);
  Run first(1);
  first.train(12);
  save_checkpoint(folder.file("c.safetensors"), first.parts(), {{"step", "12"}, {"config", R"({"lr": 0.05})"}});
  Run second(99);
  const Metadata metadata = load_checkpoint(folder.file("c.safetensors"), second.parts());
  CHECK(metadata.at("step") == "12");
  CHECK(metadata.at("config") == R"({"lr": 0.05})");
  CHECK(read_checkpoint_metadata(folder.file("c.safetensors")) == metadata);
  second.train(8);
  const Tensors expected = whole.model.parameter_values();
  const Tensors resumed = second.model.parameter_values();
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(identical(resumed[i], expected[i]));
}

TEST_CASE("checkpoint: parts that do not fit are all reported and nothing is loaded", "[nn]") {
  const TempFolder folder;
  const std::string path = folder.file("c.safetensors");
  Run run(1);
  run.train(2);
  save_checkpoint(path, run.parts());

  Mlp model({2, 5, 1}, Key(7));
  Sgd sgd({.momentum = 0.9});
  const Tensors before = model.parameter_values();
  CHECK_ERROR(IoError, load_checkpoint(path, {{{"model", &model}}, {{"sgd", &sgd}}}), "[load_checkpoint]", path,
              "nothing was loaded", "sgd: ", "\"adam\"");
  CHECK_ERROR(IoError, load_checkpoint(path, {{{"model", &model}}, {{"adam", &sgd}}}), "unexpected: exp_avg.0");
  Mlp wider({2, 6, 1}, Key(7));
  Adam adam;
  CHECK_ERROR(IoError, load_checkpoint(path, {{{"model", &wider}}, {{"adam", &adam}}}),
              "layers.0.weight: got float32(5, 2), expected float32(6, 2)");
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(model.parameter_values()[i].impl() == before[i].impl());
  CHECK(adam.steps() == 0);
  CHECK(adam.learning_rate() == 1e-3);
}

TEST_CASE("checkpoint: a failed save leaves the previous file intact", "[nn]") {
  const TempFolder folder;
  Run run(1);
  const std::string path = folder.file("c.safetensors");
  save_checkpoint(path, run.parts(), {{"step", "0"}});
  const std::string before = read_file(path);
  Run other(2);
  CHECK_THROWS_AS(save_checkpoint(path, {{{"model", &run.model}, {"model", &other.model}}, {}}), ValueError);
  CHECK(read_file(path) == before);
  const bool refused = [&] {
    const FileSizeLimit limit(256);
    try {
      save_checkpoint(path, other.parts());
      return false;
    } catch (const IoError&) {
      return true;
    }
  }();
  CHECK(refused);
  CHECK(read_file(path) == before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);  // no temporary file is left
  CHECK_THROWS_AS(save_checkpoint(folder.file("none/c.safetensors"), run.parts()), IoError);
}

TEST_CASE("checkpoint: missing and damaged files, bad names", "[nn]") {
  const TempFolder folder;
  Run run(1);
  CHECK_ERROR(IoError, load_checkpoint(folder.file("none"), run.parts()), folder.file("none"));
  save_checkpoint(folder.file("c"), run.parts());
  const std::string bytes = read_file(folder.file("c"));
  write_file_atomically(folder.file("cut"), std::string_view(bytes).substr(0, bytes.size() - 5));
  CHECK_THROWS_AS(load_checkpoint(folder.file("cut"), run.parts()), IoError);
  CHECK_ERROR(ValueError, save_checkpoint(folder.file("x"), {{{"a/b", &run.model}}, {}}), "[save_checkpoint]", "a/b");
  CHECK_ERROR(ValueError, save_checkpoint(folder.file("x"), {{{"a", &run.model}}, {{"a", &run.adam}}}), "\"a\"",
              "its own name");
}

}  // namespace
}  // namespace solvent::nn
