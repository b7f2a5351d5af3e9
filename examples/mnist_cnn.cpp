// A convolutional network on MNIST: 99 % of the test images after a minute or two on two cores.
//
//     scripts/get-data mnist
//     mnist_cnn [FOLDER OF mnist/]      default: $SOLVENT_DATA, else data
#include <chrono>
#include <cstdio>

#include "solvent/experiments/common/data/datasets.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/solvent.h"
using namespace solvent;
using namespace solvent::experiments;

namespace {

// [model]
struct Cnn : nn::Module {
  nn::Conv2d first{1, 16, 5, Key(1), {.padding = 2}};
  nn::Conv2d second{16, 32, 5, Key(2), {.padding = 2}};
  nn::Linear head{32 * 7 * 7, 10, Key(3)};

  // x (N, 1, 28, 28) -> logits (N, 10)
  Tensor operator()(const Tensor& x) const {
    Tensor h = max_pool2d(relu(first(x)));  // (N, 16, 14, 14)
    h = max_pool2d(relu(second(h)));        // (N, 32, 7, 7)
    return head(reshape(h, {x.size(0), -1}));
  }
  void visit(nn::Visitor& v) override {
    v("first", first);
    v("second", second);
    v("head", head);
  }
};
// [model]

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

int run(const std::string& folder) {
  const ImageSplits data = load_images("mnist", folder);
  const Normalization normalization = {.mean = {0.1307}, .stddev = {0.3081}};
  ImageLoader training(std::make_shared<ImageSet>(data.train),
                       {.batch_size = 100, .seed = 4, .normalization = normalization});
  ImageLoader test(std::make_shared<ImageSet>(data.test),
                   {.batch_size = 500, .shuffle = false, .normalization = normalization});
  Cnn model;
  train(model, training, 4);
  const double found = accuracy(model, test);
  std::printf("test accuracy %.2f %%\n", 100 * found);
  return found >= 0.99 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto start = std::chrono::steady_clock::now();
    const int code = run(argc > 1 ? argv[1] : "");
    std::printf("%.0f s\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return code;
  } catch (const MissingDataError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}
