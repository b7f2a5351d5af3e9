// Files: single arrays, named tensors, parameters of a module, and checkpoints of a run that may be killed.
#include <filesystem>
#include <iostream>

#include "solvent/solvent.h"
using namespace solvent;

int main() {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "solvent-example-files";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const Tensor x = normal(Key(1), {64, 3});

  // [arrays]
  save_npy(folder / "x.npy", x);  // NumPy reads it, and the reverse
  save_safetensors(folder / "both.safetensors", {{"x", x}, {"y", square(x)}}, {{"made by", "examples/files.cpp"}});
  const SafetensorsFile file = load_safetensors(folder / "both.safetensors");
  std::cout << file.tensors[1].first << " is " << describe(file.tensors[1].second) << '\n';
  // [arrays]

  // [module]
  nn::Mlp model({3, 16, 1}, Key(2));
  model.save(folder / "model.safetensors");
  nn::Mlp other({3, 16, 1}, Key(3));
  other.load(folder / "model.safetensors");  // an IoError or ValueError lists every difference
  // [module]

  // [train]
  nn::Adam adam({.learning_rate = 1e-2});
  const nn::CheckpointParts parts = {.modules = {{"model", &model}}, .optimizers = {{"adam", &adam}}};
  nn::CheckpointStore store(folder / "checkpoint");
  std::int64_t step = 0;
  if (const auto found = store.load(parts)) step = found->step;  // nothing on the first start
  for (; step < 20; ++step) {
    auto [loss, grads, aux] = nn::value_and_grad(model, [&] { return mean(square(model(x) - sum(x, {1}, true))); });
    adam.step(model, grads);
    if (step % 10 == 9) store.save(step + 1, parts);  // a kill at any moment leaves a complete checkpoint
  }
  // [train]

  // A program that starts again finds the state of step 20, bit by bit.
  nn::Mlp resumed({3, 16, 1}, Key(4));
  nn::Adam resumed_adam({.learning_rate = 1e-2});
  const auto found = nn::CheckpointStore(folder / "checkpoint")
                         .load({.modules = {{"model", &resumed}}, .optimizers = {{"adam", &resumed_adam}}});
  const bool same = max(abs(resumed(x) - model(x))).item() == 0 && resumed_adam.steps() == 20;
  const bool read = max(abs(load_npy(folder / "x.npy") - x)).item() == 0;
  std::cout << "found step " << found->step << (same && read ? ", the same bits" : ", other bits") << '\n';
  std::filesystem::remove_all(folder);
  return same && read ? 0 : 1;
}
