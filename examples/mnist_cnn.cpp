// A convolutional network on MNIST: 99 % of the test images after a minute or two on two cores.
//
//     scripts/get-data mnist
//     mnist_cnn [--data-dir DIR] [--device cuda]
#include <chrono>
#include <cstdio>

#include "solvent/examples/mnist_cnn.h"
#include "solvent/experiments/common/data/datasets.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/experiments/common/device_option.h"
#include "solvent/experiments/common/program.h"
#include "solvent/solvent.h"
using namespace solvent;
using namespace solvent::examples;
using namespace solvent::experiments;

namespace {

// [train]
void train(Cnn& model, ImageLoader& loader, std::int64_t epochs) {
  const std::int64_t steps = loader.batches_per_epoch();
  nn::Adam optimizer;
  const nn::WarmupCosine rate{.peak = 2e-3, .warmup_steps = steps / 4, .total_steps = epochs * steps};
  double total = 0;
  for (std::int64_t step = 0; step < epochs * steps; ++step) {
    const ImageBatch batch = loader.next();  // prepared in the background
    auto [loss, grads, aux] =
        nn::value_and_grad(model, [&] { return cross_entropy(model(batch.images), batch.labels); });
    optimizer.set_learning_rate(rate(step));
    optimizer.step(model, grads);
    total += loss.item();
    if ((step + 1) % steps != 0) continue;
    std::printf("epoch %d  mean loss %.4f\n", static_cast<int>((step + 1) / steps), total / static_cast<double>(steps));
    total = 0;
  }
}
// [train]

// [evaluate]
double accuracy(const Cnn& model, ImageLoader& loader) {
  double right = 0, count = 0;
  for (std::int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
    const ImageBatch batch = loader.next();
    right += sum(cast(equal(argmax(model(batch.images), 1), batch.labels), float32)).item();
    count += static_cast<double>(batch.labels.numel());
  }
  return right / count;
}
// [evaluate]

ExitCode run(const std::string& folder, Device device) {
  const auto start = std::chrono::steady_clock::now();
  const ImageSplits data = load_images("mnist", folder);
  const Normalization normalization = {.mean = {0.1307}, .stddev = {0.3081}};
  ImageLoader training(std::make_shared<ImageSet>(data.train),
                       {.batch_size = 100, .seed = 4, .normalization = normalization, .device = device});
  ImageLoader test(std::make_shared<ImageSet>(data.test),
                   {.batch_size = 500, .shuffle = false, .normalization = normalization, .device = device});
  Cnn model;
  model.to(device);
  train(model, training, 4);
  const double found = accuracy(model, test);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("test accuracy %.2f %%\n%.0f s\n", 100 * found, seconds.count());
  return found >= 0.99 ? ExitCode::done : ExitCode::check_failed;
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, device = "cpu";
  Program program("mnist_cnn", "a convolutional network on MNIST");
  Options& options =
      program.command("", "train and test", [&](const Invocation&) { return run(folder, open_device(device)); });
  options.add("data-dir", &folder, "folder of mnist/; else $SOLVENT_DATA, else data/").transient();
  add_device(options, &device);
  return program.main(argc, argv);
}
