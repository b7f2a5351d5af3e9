// Prefetching, the image loader, and generated data.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/core/rng.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/experiments/common/data/lorenz96.h"
#include "solvent/experiments/common/data/patterns.h"
#include "solvent/experiments/common/data/prefetcher.h"
#include "solvent/experiments/common/data/sine.h"
#include "solvent/tests/experiments/test_tools.h"

using namespace solvent;
using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;

// ---- prefetching ----------------------------------------------------------------------------------------------------

TEST_CASE("prefetcher: the same results for any depth, in order, and no more ahead than asked") {
  for (const std::int64_t depth : {0, 1, 2, 7}) {
    std::atomic<std::int64_t> made{0};
    Prefetcher<std::int64_t> squares(
        [&](std::int64_t step) {
          ++made;
          return step * step;
        },
        3, depth);
    for (std::int64_t step = 3; step < 50; ++step) {
      CHECK(squares.step() == step);
      CHECK(squares.next() == step * step);
      CHECK(made <= step - 3 + 1 + depth + 1);  // those delivered, those ready, the one in the making
    }
    squares.seek(1000);
    CHECK(squares.next() == 1000000);
    squares.seek(0);
    CHECK(squares.next() == 0);
    CHECK(squares.step() == 1);
  }
}

TEST_CASE("prefetcher: an exception comes out of the call that asks for the result") {
  for (const std::int64_t depth : {0, 1, 3}) {
    Prefetcher<int> maker(
        [](std::int64_t step) {
          if (step == 2) throw ValueError("step two");
          return static_cast<int>(step);
        },
        0, depth);
    CHECK(maker.next() == 0);
    CHECK(maker.next() == 1);
    CHECK_THAT(message_of<ValueError>([&] { maker.next(); }), Contains("step two"));
    CHECK(maker.next() == 3);  // goes on behind it
  }
}

TEST_CASE("prefetcher: ends at once with results that nobody took") {
  for (int trial = 0; trial < 200; ++trial) {
    Prefetcher<std::vector<int>> maker([](std::int64_t) { return std::vector<int>(1000, 1); }, 0, 2);
    if (trial % 2) maker.next();
    if (trial % 3 == 0) maker.seek(trial);
  }
}

// ---- images ---------------------------------------------------------------------------------------------------------

namespace {

/// n images of 2 x 5 x 4 bytes, all different.
std::shared_ptr<ImageSet> small_images(std::int64_t n) {
  auto set = std::make_shared<ImageSet>();
  set->channels = 2;
  set->height = 5;
  set->width = 4;
  set->class_names = numbered_classes(n);
  for (std::int64_t i = 0; i < n; ++i) {
    set->labels.push_back(i);
    for (std::int64_t k = 0; k < set->image_size(); ++k) {
      set->pixels.push_back(static_cast<std::uint8_t>(i * 37 + k));
    }
  }
  return set;
}

struct Taken {
  std::vector<float> values;
  std::vector<std::int64_t> labels;
  bool operator==(const Taken&) const = default;
};

Taken take(ImageLoader& loader, int count) {
  Taken all;
  for (int i = 0; i < count; ++i) {
    const ImageBatch batch = loader.next();
    const std::vector<float> values = batch.images.to_vector<float>();
    const std::vector<std::int64_t> labels = batch.labels.to_vector<std::int64_t>();
    all.values.insert(all.values.end(), values.begin(), values.end());
    all.labels.insert(all.labels.end(), labels.begin(), labels.end());
  }
  return all;
}

const ImageLoaderSettings kAugmented = {.batch_size = 4,
                                        .seed = 5,
                                        .augmentation = {.flip = true, .crop_padding = 2},
                                        .normalization = {{0.5, 0.25}, {0.25, 0.5}}};

}  // namespace

TEST_CASE("image loader: each epoch has every image once; drop_last leaves out the rest") {
  ImageLoader loader(small_images(10), {.batch_size = 4, .seed = 1});
  CHECK(loader.batches_per_epoch() == 3);
  std::vector<std::vector<std::int64_t>> epochs;
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::vector<std::int64_t> labels;
    for (const std::int64_t size : {4, 4, 2}) {
      const ImageBatch batch = loader.next();
      CHECK(batch.images.shape() == Shape{size, 2, 5, 4});
      CHECK(batch.epoch == epoch);
      const auto some = batch.labels.to_vector<std::int64_t>();
      labels.insert(labels.end(), some.begin(), some.end());
    }
    epochs.push_back(labels);
    std::sort(labels.begin(), labels.end());
    std::vector<std::int64_t> all(10);
    std::iota(all.begin(), all.end(), 0);
    CHECK(labels == all);
  }
  CHECK(epochs[0] != epochs[1]);
  ImageLoader dropping(small_images(10), {.batch_size = 4, .seed = 1, .drop_last = true});
  CHECK(dropping.batches_per_epoch() == 2);
  ImageLoader ordered(small_images(10), {.batch_size = 10, .shuffle = false});
  CHECK(take(ordered, 1).labels.front() == 0);
}

TEST_CASE("image loader: without augmentation a batch is the normalised pixels") {
  const auto images = small_images(3);
  ImageLoader loader(images, {.batch_size = 3, .shuffle = false, .normalization = {{0.5, 0.25}, {0.25, 0.5}}});
  const Taken all = take(loader, 1);
  for (std::size_t k = 0; k < all.values.size(); ++k) {
    const bool second = k / 20 % 2 == 1;
    const double x = images->pixels[k] / 255.0;
    CHECK(all.values[k] == static_cast<float>(second ? (x - 0.25) / 0.5 : (x - 0.5) / 0.25));
  }
  ImageLoader plain(images, {.batch_size = 3, .shuffle = false});
  CHECK(take(plain, 1).values[7] == static_cast<float>(7 / 255.0));
}

TEST_CASE("image loader: every augmented image is one of the flipped and cut ones, all of them come up") {
  // Against the definition: flip, pad, cut out, for every choice.
  for (const auto padding : {Augmentation::Padding::edge, Augmentation::Padding::zero}) {
    for (const bool as_floats : {false, true}) {
      const auto images = small_images(1);
      const auto pixel = [&](std::int64_t c, std::int64_t y, std::int64_t x, bool flip) {
        const bool inside = y >= 0 && y < 5 && x >= 0 && x < 4;
        if (!inside && padding == Augmentation::Padding::zero) return 0.0F;
        y = std::clamp<std::int64_t>(y, 0, 4);
        x = std::clamp<std::int64_t>(x, 0, 3);
        if (flip) x = 3 - x;
        return static_cast<float>(static_cast<double>(c * 20 + y * 4 + x) / 255);
      };
      std::set<std::vector<float>> expected;
      for (const bool flip : {false, true}) {
        for (std::int64_t dy = -1; dy <= 1; ++dy) {
          for (std::int64_t dx = -1; dx <= 1; ++dx) {
            std::vector<float> image;
            for (std::int64_t k = 0; k < 40; ++k) image.push_back(pixel(k / 20, k % 20 / 4 + dy, k % 4 + dx, flip));
            expected.insert(image);
          }
        }
      }
      if (as_floats) {
        images->values.assign(images->pixels.begin(), images->pixels.end());
        images->pixels.clear();
      }
      ImageLoader loader(
          images, {.batch_size = 1, .seed = 3, .augmentation = {.flip = true, .crop_padding = 1, .padding = padding}});
      std::set<std::vector<float>> seen;
      for (int epoch = 0; epoch < 400; ++epoch) seen.insert(take(loader, 1).values);
      CHECK(expected.size() == 18);
      CHECK(seen == expected);
    }
  }
}

TEST_CASE("image loader: changes are drawn per image and epoch, evenly") {
  // Flip: 2000 images of two pixels; a fair coin gives 1000 +- 5 standard deviations (22).
  auto images = std::make_shared<ImageSet>();
  images->height = 1;
  images->width = 2;
  images->class_names = {"a"};
  for (int i = 0; i < 2000; ++i) {
    images->labels.push_back(0);
    images->pixels.insert(images->pixels.end(), {0, 255});
  }
  ImageLoader loader(images, {.batch_size = 2000, .shuffle = false, .augmentation = {.flip = true}});
  const Taken first = take(loader, 1), second = take(loader, 1);
  int flipped = 0, changed = 0;
  for (std::size_t i = 0; i < 4000; i += 2) {
    flipped += first.values[i] == 1.0F;
    changed += first.values[i] != second.values[i];
  }
  CHECK(std::abs(flipped - 1000) < 112);
  CHECK(std::abs(changed - 1000) < 112);
}

TEST_CASE("image loader: the same bits for any number of threads and any prefetch depth") {
  const auto images = small_images(11);
  std::vector<Taken> runs;
  for (const int threads : {1, 2, 3}) {
    const NumThreadsGuard guard(threads);
    for (const std::int64_t depth : {0, 1, 4}) {
      ImageLoaderSettings settings = kAugmented;
      settings.prefetch = depth;
      settings.batch_size = 9;
      ImageLoader loader(images, settings);
      runs.push_back(take(loader, 20));
    }
  }
  for (const Taken& run : runs) CHECK(run == runs.front());
  ImageLoaderSettings other = kAugmented;
  other.batch_size = 9;
  other.seed = 6;
  ImageLoader loader(images, other);
  CHECK_FALSE(take(loader, 20) == runs.front());
}

TEST_CASE("image loader: resumed at any position it delivers what an uninterrupted run does") {
  const auto images = small_images(11);
  ImageLoader whole(images, kAugmented);
  const Taken all = take(whole, 12);
  for (int stop = 0; stop < 9; ++stop) {
    std::string state;
    {
      ImageLoader before(images, kAugmented);
      take(before, stop);
      state = before.state();
      CHECK(before.epoch() == stop / 3);
    }
    ImageLoaderSettings settings = kAugmented;
    settings.prefetch = stop % 3;
    ImageLoader after(images, settings);
    take(after, stop % 2);
    after.restore(state);
    CHECK(after.step() == stop);
    const Taken rest = take(after, 12 - stop);
    CHECK(std::equal(rest.values.rbegin(), rest.values.rend(), all.values.rbegin()));
    CHECK(std::equal(rest.labels.rbegin(), rest.labels.rend(), all.labels.rbegin()));
  }
}

TEST_CASE("image loader: states of other loaders and wrong settings are refused") {
  const auto images = small_images(11);
  ImageLoader loader(images, kAugmented);
  const std::string state = loader.state();
  ImageLoaderSettings other = kAugmented;
  other.batch_size = 5;
  ImageLoader larger(images, other);
  CHECK_THAT(message_of<ValueError>([&] { larger.restore(state); }),
             Contains("the state has batch_size 4, this loader 5"));
  ImageLoader fewer(small_images(10), kAugmented);
  CHECK_THAT(message_of<ValueError>([&] { fewer.restore(state); }), Contains("num_images 11, this loader 10"));
  for (const char* text : {"", "{", "[]", "{}", "{\"kind\": \"image_loader\"}", "{\"kind\": 3, \"step\": 1}",
                           "{\"kind\": \"image_loader\", \"step\": 1.5}", "\xff"}) {
    CHECK_THAT(message_of<ValueError>([&] { loader.restore(text); }), Contains("no state of an image loader"));
  }
  CHECK_THAT(message_of<ValueError>([&] { loader.restore("{\"kind\": \"image_loader\", \"step\": 1}"); }),
             Contains("the state has batch_size (none)"));
  CHECK_THROWS_AS(loader.seek(-1), ValueError);
  CHECK_THROWS_AS(ImageLoader(nullptr, {}), ValueError);
  CHECK_THROWS_AS(ImageLoader(std::make_shared<ImageSet>(), {}), ValueError);
  CHECK_THROWS_AS(ImageLoader(images, {.batch_size = 0}), ValueError);
  CHECK_THROWS_AS(ImageLoader(images, {.prefetch = -1}), ValueError);
  CHECK_THROWS_AS(ImageLoader(images, {.augmentation = {.crop_padding = -1}}), ValueError);
  CHECK_THAT(message_of<ValueError>([&] { ImageLoader(images, {.normalization = normalization::deer_cifar10()}); }),
             Contains("got 3 means and 3 deviations for 2 channels"));
  CHECK_THROWS_AS(ImageLoader(images, {.normalization = {{0, 0}, {1, 0}}}), ValueError);
}

TEST_CASE("normalisation: the constants of the experiments") {
  CHECK(normalization::equilibrium_cifar().stddev[0] == Approx(0.6069));
  CHECK(normalization::equilibrium_imagenet32().stddev[2] == Approx(0.3375));
  CHECK(normalization::pilimit_cifar10().mean[0] * 255 == Approx(125.3).epsilon(1e-4));
  CHECK(normalization::signed_unit(3).mean == std::vector<double>(3, 0.5));
  CHECK(normalization::deer_cifar10_type2().stddev[1] == 0.1994);
}

// ---- generated data -------------------------------------------------------------------------------------------------

TEST_CASE("lorenz-96: the field, its fixed point and its conservation of energy") {
  const std::vector<double> x = {1, 2, 4, 8, 16};
  std::vector<double> dx(5);
  lorenz96_field(x, 3, dx);
  CHECK(dx == std::vector<double>{(2 - 8) * 16 - 1 + 3., (4 - 16) * 1 - 2 + 3., (8 - 1) * 2 - 4 + 3.,
                                  (16 - 2) * 4 - 8 + 3., (1 - 4) * 8 - 16 + 3.});
  // The quadratic terms do no work: sum x_i dx_i = -sum x_i^2 + F sum x_i.
  const double work = std::inner_product(x.begin(), x.end(), dx.begin(), 0.0);
  CHECK(work == Approx(-341 + 3 * 31.0));
  CHECK(lorenz96_step(std::vector<double>(5, 8.0), 8, 0.01) == std::vector<double>(5, 8.0));
  CHECK_THROWS_AS(lorenz96_step(std::vector<double>(3, 8.0), 8, 0.01), ValueError);
}

TEST_CASE("lorenz-96: the step has order five") {
  // Against 64 small steps; halving the step divides the error of one step by about 2^6.
  std::vector<double> start = {8.01, 7, 6, 9, 8.5};
  const auto error = [&](double h) {
    std::vector<double> fine = start;
    for (int i = 0; i < 64; ++i) fine = lorenz96_step(fine, 8, h / 64);
    const std::vector<double> coarse = lorenz96_step(start, 8, h);
    double largest = 0;
    for (std::size_t k = 0; k < 5; ++k) largest = std::max(largest, std::abs(fine[k] - coarse[k]));
    return largest;
  };
  const double order = std::log2(error(0.02) / error(0.01));
  CHECK(order > 5.8);
  CHECK(order < 6.3);
}

TEST_CASE("lorenz-96: sequences depend on seed and number only") {
  Lorenz96Settings settings{.num_sequences = 3, .num_steps = 40, .burn_in = 500};
  std::vector<Lorenz96Data> runs;
  for (const int threads : {1, 3}) {
    const NumThreadsGuard guard(threads);
    runs.push_back(make_lorenz96(settings));
  }
  CHECK(runs[0].states == runs[1].states);
  settings.num_sequences = 2;
  const Lorenz96Data fewer = make_lorenz96(settings);
  CHECK(std::equal(fewer.states.begin(), fewer.states.end(), runs[0].states.begin()));
  CHECK(fewer.states[0] != fewer.states[200]);
  // Consecutive states are one step apart.
  const std::vector<double> first(fewer.states.begin(), fewer.states.begin() + 5);
  CHECK(lorenz96_step(first, 8, 0.01) == std::vector<double>(fewer.states.begin() + 5, fewer.states.begin() + 10));
  settings.seed = 1;
  const Lorenz96Data other = make_lorenz96(settings);
  CHECK(other.states[0] == fewer.states[0]);  // the first sequence has no noise
  CHECK(other.states[200] != fewer.states[200]);
  CHECK_THROWS_AS(make_lorenz96({.dimension = 3}), ValueError);
  CHECK_THROWS_AS(make_lorenz96({.time_step = 0}), ValueError);
}

TEST_CASE("patterns: balanced, reproducible, as strong as described") {
  const PatternSettings settings{.num_train = 500, .num_test = 100};
  const ImageSplits splits = make_patterns(settings);
  CHECK(splits.train.class_counts() == std::vector<std::int64_t>(10, 50));
  CHECK(splits.test.size() == 100);
  CHECK(splits.train.values.size() == 500 * 768);
  CHECK(make_patterns(settings).train.values == splits.train.values);
  CHECK(std::equal(splits.train.values.begin(), splits.train.values.end(),
                   make_patterns({.num_train = 600, .num_test = 100}).train.values.begin()));
  CHECK(make_patterns({.num_train = 500, .num_test = 100, .seed = 1}).train.values != splits.train.values);
  // Variance: noise 1 and, inside, the mean of nine normals times 1.5: 2.25 / 9.
  double sum = 0, square = 0;
  for (const float v : splits.train.values) {
    sum += v;
    square += static_cast<double>(v) * v;
  }
  const double n = static_cast<double>(splits.train.values.size());
  CHECK(sum / n == Approx(0).margin(0.05));
  CHECK(square / n == Approx(1.23).margin(0.06));  // a little less than 1.25: the border has fewer neighbours
  // Without noise and shift an image is its template.
  const ImageSet clean = make_patterns({.num_train = 20, .num_test = 1, .noise = 0, .max_shift = 0}).train;
  CHECK(std::equal(clean.values.begin(), clean.values.begin() + 7680, clean.values.begin() + 7680));
  CHECK_THROWS_AS(make_patterns({.num_classes = 0}), ValueError);
  CHECK_THROWS_AS(make_patterns({.max_shift = 16}), ValueError);
}

TEST_CASE("patterns: nearest templates classify most images") {
  const ImageSplits splits = make_patterns({.num_train = 2000, .num_test = 300});
  std::vector<std::vector<double>> mean(10, std::vector<double>(768, 0.0));
  for (std::size_t i = 0; i < 2000; ++i) {
    for (std::size_t k = 0; k < 768; ++k) mean[i % 10][k] += splits.train.values[i * 768 + k] / 200.0;
  }
  int right = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    double best = -1e9;
    std::size_t guess = 0;
    for (std::size_t c = 0; c < 10; ++c) {
      double score = 0;
      for (std::size_t k = 0; k < 768; ++k) {
        score += mean[c][k] * splits.test.values[i * 768 + k] - 0.5 * mean[c][k] * mean[c][k];
      }
      if (score > best) best = score, guess = c;
    }
    right += static_cast<std::int64_t>(guess) == splits.test.labels[i];
  }
  CHECK(right > 150);  // shifts blur the means; chance is 30
  CHECK(right < 300);
}

TEST_CASE("sine: the curve and the tasks") {
  const SineCurve curve = make_sine_curve();
  CHECK(curve.targets.size() == 100);
  CHECK(curve.inputs[0] == Approx(-3.141592653589793));
  CHECK(curve.inputs[198] == Approx(3.141592653589793));
  CHECK(curve.inputs[1] == 1);
  CHECK(curve.targets[25] == Approx(std::sin(curve.inputs[50])));
  CHECK_THROWS_AS(make_sine_curve(1), ValueError);
  double mean = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const SineTask task = make_sine_task({.num_support = 5, .num_query = 7}, i);
    REQUIRE(task.support_x.size() == 5);
    REQUIRE(task.query_y.size() == 7);
    CHECK(task.query_y[6] == task.amplitude * std::sin(task.query_x[6] - task.phase));
    CHECK((task.amplitude >= 0.1 && task.amplitude < 5 && task.phase >= 0 && task.phase < 3.1416));
    CHECK(std::abs(task.support_x[4]) <= 5);
    mean += task.amplitude / 1000;
  }
  CHECK(mean == Approx(2.55).margin(0.2));
  CHECK(make_sine_task({}, 7).query_x == make_sine_task({}, 7).query_x);
  CHECK(make_sine_task({}, 7).query_x != make_sine_task({}, 8).query_x);
  CHECK_THROWS_AS(make_sine_task({}, -1), ValueError);
}
