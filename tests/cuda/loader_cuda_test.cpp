// Batches that arrive on a GPU: the CPU's bits, whatever the streams do first. SOLVENT_EMULATOR_LATE=1 makes the emulator's
// copies and kernels run as late as a device may, so that memory used again too early would show.

#include <memory>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/stream.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/experiments/common/data/patterns.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

using namespace experiments;

const Device kGpu = cuda_test_device();

std::shared_ptr<const ImageSet> images() {
  static const auto set =
      std::make_shared<const ImageSet>(make_patterns({.num_train = 50, .channels = 2, .size = 12}).train);
  return set;
}

ImageLoaderSettings settings(Device device, std::int64_t prefetch) {
  return {.batch_size = 8,
          .seed = 3,
          .augmentation = {.flip = true, .crop_padding = 2},
          .prefetch = prefetch,
          .device = device};
}

bool same_batch(const ImageBatch& a, const ImageBatch& b) {
  return same_bits(a.images, b.images) && same_bits(a.labels, b.labels) && a.step == b.step && a.epoch == b.epoch;
}

TEST_CASE("cuda: a loader's batches arrive with the CPU's bits", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t prefetch : {0, 1, 3}) {
    INFO("prefetch " << prefetch);
    ImageLoader on_cpu(images(), settings(cpu_device, 0));
    ImageLoader on_gpu(images(), settings(kGpu, prefetch));
    std::vector<ImageBatch> kept;
    for (int i = 0; i < 20; ++i) {  // three epochs, whose last batches are shorter
      const ImageBatch batch = on_gpu.next();
      CHECK(batch.images.device() == kGpu);
      CHECK(batch.labels.device() == kGpu);
      const ImageBatch expected = on_cpu.next();
      if (i % 3 == 0) kept.push_back(batch);
      CHECK(same_batch(batch, expected));
    }
    for (const ImageBatch& batch : kept) {
      on_cpu.seek(batch.step);
      CHECK(same_batch(batch, on_cpu.next()));
    }
    on_gpu.restore(on_cpu.state());
    CHECK(same_batch(on_gpu.next(), on_cpu.next()));
  }
}

TEST_CASE("cuda: a loader goes on while the steps that use its batches wait", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  // Nothing is read until the end: memory of the host and of the device is used again while work is left to do.
  const auto run = [](Device device, std::int64_t prefetch) {
    ImageLoader loader(images(), settings(device, prefetch));
    const Tensor weights = to(normal(Key(5), {2 * 12 * 12, 4}, 0, 1, float64), device);
    Tensor total = zeros({4}, {float64, device});
    for (int i = 0; i < 40; ++i) {
      const ImageBatch batch = loader.next();
      const Tensor flat = cast(reshape(batch.images, {batch.images.size(0), -1}), float64);
      const Tensor scores = mul(matmul(flat, weights), unsqueeze(cast(batch.labels, float64), -1));
      total = add(affine(total, 0.5, 0.0), sum(scores, {0}));
    }
    return to(total, cpu_device);
  };
  const Tensor expected = run(cpu_device, 0);
  for (const std::int64_t prefetch : {0, 2, 5})
    CHECK(max(abs(sub(run(kGpu, prefetch), expected))).item() < 1e-10 * max(abs(expected)).item());
  const Stream side(kGpu);
  const StreamGuard guard(side);
  CHECK(max(abs(sub(run(kGpu, 2), expected))).item() < 1e-10 * max(abs(expected)).item());
}

TEST_CASE("cuda: batches are staged in pinned memory, which comes back", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  synchronize(kGpu);
  const std::size_t before = pinned_memory_stats().active;
  std::uint64_t allocations = 0;
  {
    ImageLoader loader(images(), settings(kGpu, 2));
    const std::uint64_t first = pinned_memory_stats().allocations;
    for (int i = 0; i < 6; ++i) (void)loader.next();
    allocations = pinned_memory_stats().allocations - first;
  }                         // the loader's stream ends
  CHECK(allocations >= 8);  // images and labels of what was taken after the counter was read
  CHECK(pinned_memory_stats().active == before);
}

// A batch of one tensor, as other experiments have.
struct Numbers {
  Tensor values;
};
std::vector<Tensor*> tensors_of(Numbers& batch) { return {&batch.values}; }

TEST_CASE("cuda: batches of any kind, errors of their makers, and positions", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const auto make = [](std::int64_t step) {
    if (step == 5) throw ValueError("no batch 5");
    return Numbers{full({1000}, static_cast<double>(step), float64)};
  };
  BatchPrefetcher<Numbers> batches(make, 0, 2, kGpu);
  const auto next = [&] { return mean(batches.next().values).item(); };
  for (int i = 0; i < 5; ++i) CHECK(next() == i);
  CHECK_THROWS_WITH(batches.next(), "no batch 5");
  CHECK(batches.step() == 6);
  CHECK(next() == 6);
  batches.seek(2);  // forgets uploads that are under way
  CHECK(next() == 2);
  CHECK(next() == 3);
  CHECK_THROWS_AS(BatchPrefetcher<Numbers>(make, 0, 2, Device{DeviceType::cuda, 99}), DeviceError);
}

}  // namespace
}  // namespace solvent::testing
