// The emulator's checks of accesses: kernels with known races and reads of unwritten memory, and the same kernels mended.
// Built with SOLVENT_EMULATOR_CHECKS only (preset cuda-races).

#include <cstdlib>
#include <string>
#include <vector>

#include "solvent/core/cuda/emulator/access_checks.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

constexpr unsigned kBlock = 64;

// Device memory of n ints, all 0, of their own.
struct Ints {
  int* p = nullptr;
  explicit Ints(std::size_t n, bool is_written = true) {
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&p), n * sizeof(int)) == cudaSuccess);
    const std::vector<int> zero(n);
    if (is_written) REQUIRE(cudaMemcpy(p, zero.data(), n * sizeof(int), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~Ints() { (void)cudaFree(p); }
  Ints(const Ints&) = delete;
  Ints& operator=(const Ints&) = delete;
};

template <class Kernel, class... Arguments>
std::vector<std::string> findings(unsigned blocks, bool barriers, Kernel kernel, Arguments... arguments) {
  const cuda::emulator::CollectFindings collected;
  cuda::launch({.name = "case",
                .device = cuda_test_device(),
                .grid = dim3(blocks),
                .block = dim3(kBlock),
                .shared_bytes = kBlock * sizeof(int),
                .barriers = barriers},
               kernel, arguments...);
  return collected.texts();
}

// One finding that says all of this.
void check_found(const std::vector<std::string>& texts, const std::vector<std::string>& parts) {
  CAPTURE(texts);
  REQUIRE(texts.size() == 1);
  for (const std::string& part : parts) CHECK(texts[0].find(part) != std::string::npos);
}

__global__ void read_neighbour(int* out, bool mended) {
  __shared__ int shared[kBlock];
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (mended) __syncthreads();
  out[cuda::global_thread()] = shared[(threadIdx.x + 1) % kBlock];
}

TEST_CASE("emulator: a missing barrier between write and read of shared memory is found", "[cuda][races]") {
  const Ints out(kBlock);
  CHECK(findings(1, true, read_neighbour, out.p, true).empty());
  const std::vector<std::string> texts = findings(1, true, read_neighbour, out.p, false);
  CAPTURE(texts);
  // Threads read before their neighbour writes, which is unwritten memory too; the last one reads what the first wrote.
  bool race = false;
  for (const std::string& text : texts)
    race |= text.find("race") == 0 && text.find("a __shared__ variable") != std::string::npos;
  CHECK(race);
  CHECK(texts.back().find("access_checks_test.cu:") != std::string::npos);
}

__global__ void write_after_read(int* out, bool mended) {
  int* const shared = cuda::dynamic_shared<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int left = shared[(threadIdx.x + kBlock - 1) % kBlock];
  if (mended) __syncthreads();
  shared[threadIdx.x] = left;
  __syncthreads();
  out[cuda::global_thread()] = shared[threadIdx.x];
}

TEST_CASE("emulator: a missing barrier between read and write of shared memory is found", "[cuda][races]") {
  const Ints out(kBlock);
  CHECK(findings(1, true, write_after_read, out.p, true).empty());
  const std::vector<std::string> texts = findings(1, true, write_after_read, out.p, false);
  CAPTURE(texts);
  REQUIRE(!texts.empty());
  CHECK(texts[0].find("race") == 0);
  CHECK(texts[0].find("of dynamic shared memory") != std::string::npos);
}

__global__ void write_one_cell(int* out, bool mended) {
  if (!mended || threadIdx.x == 0) out[0] = 1;
}

TEST_CASE("emulator: threads that write one place are found", "[cuda][races]") {
  const Ints out(1);
  CHECK(findings(1, false, write_one_cell, out.p, true).empty());
  check_found(findings(1, false, write_one_cell, out.p, false),
              {"race: thread", "writes byte 0 of 4 allocated ones", "wrote"});
  check_found(findings(1, true, write_one_cell, out.p, false),
              {"race: thread", "writes byte 0 of 4 allocated ones", "wrote"});
  // The first threads of two blocks.
  check_found(findings(2, false, write_one_cell, out.p, true),
              {"race: thread 0", "which a thread of another block wrote"});
}

__global__ void shift(int* x, std::int64_t n, int* y) {
  for (std::int64_t i = cuda::global_thread(); i + 1 < n; i += cuda::grid_threads()) y[i] = x[i + 1];
}

TEST_CASE("emulator: a loop over elements in place is found where threads meet", "[cuda][races]") {
  const Ints x(3 * kBlock), y(3 * kBlock);
  CHECK(findings(2, false, shift, x.p, std::int64_t{3 * kBlock}, y.p).empty());
  const std::vector<std::string> texts = findings(2, false, shift, x.p, std::int64_t{3 * kBlock}, x.p);
  REQUIRE(!texts.empty());
  CHECK(texts[0].find("race") == 0);
}

enum class Order : unsigned char { none, shuffle, half, warp };

// Lanes read what the opposite half of their warp wrote.
__global__ void swap_halves(int* out, Order order) {
  int* const shared = cuda::dynamic_shared<int>();
  const unsigned lane = threadIdx.x % 32;
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (order == Order::shuffle) (void)__shfl_sync(cuda::kAllLanes, 0, 0);
  if (order == Order::half) __syncwarp(lane < 16 ? 0xffffu : 0xffff0000u);
  if (order == Order::warp) __syncwarp();
  out[threadIdx.x] = shared[threadIdx.x ^ 16];
  if (order == Order::warp) __syncwarp();
  shared[threadIdx.x] = 0;
}

TEST_CASE("emulator: lanes are ordered by __syncwarp and its mask only", "[cuda][races]") {
  const Ints out(kBlock);
  CHECK(findings(1, true, swap_halves, out.p, Order::warp).empty());
  for (const Order order : {Order::none, Order::shuffle, Order::half}) {
    CAPTURE(static_cast<int>(order));
    const std::vector<std::string> texts = findings(1, true, swap_halves, out.p, order);
    CAPTURE(texts);
    bool race = false;
    for (const std::string& text : texts) race |= text.find("race") == 0;
    CHECK(race);
  }
}

// Lane 0 hands its value to lane 2 by way of lane 1.
__global__ void relay(int* out, bool mended) {
  int* const shared = cuda::dynamic_shared<int>();
  if (threadIdx.x == 0) shared[0] = 7;
  if (threadIdx.x < 2) __syncwarp(0x3u);
  if (threadIdx.x == 1 || threadIdx.x == 2) {
    if (mended) __syncwarp(0x6u);
    if (threadIdx.x == 2) out[0] = shared[0];
  }
}

TEST_CASE("emulator: order passes from lane to lane", "[cuda][races]") {
  const Ints out(1);
  CHECK(findings(1, true, relay, out.p, true).empty());
  CHECK(!findings(1, true, relay, out.p, false).empty());
}

// Both warps read, one of them writes: the reader in the other warp is not forgotten among 63 of the writer's.
__global__ void write_after_readers(int* x, int* out) {
  out[threadIdx.x] = x[0];
  if (threadIdx.x < 32) {
    __syncwarp();
    if (threadIdx.x == 0) x[0] = 1;
  }
}

TEST_CASE("emulator: a write is compared to readers of all warps", "[cuda][races]") {
  const Ints x(1), out(kBlock);
  const std::vector<std::string> texts = findings(1, true, write_after_readers, x.p, out.p);
  CAPTURE(texts);
  REQUIRE(texts.size() == 1);
  CHECK(texts[0].find("race") == 0);
}

__global__ void count(int* sum, int* out, bool reads) {
  atomicAdd(sum, 1);
  if (reads && threadIdx.x == 0) out[blockIdx.x] = *sum;
}

TEST_CASE("emulator: atomic functions race with other accesses only", "[cuda][races]") {
  const Ints sum(1), out(2);
  CHECK(findings(2, false, count, sum.p, out.p, false).empty());
  int value = 0;
  REQUIRE(cudaMemcpy(&value, sum.p, sizeof(value), cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(value == 2 * kBlock);
  const std::vector<std::string> texts = findings(2, false, count, sum.p, out.p, true);
  CAPTURE(texts);
  REQUIRE(!texts.empty());
  CHECK(texts[0].find("race") == 0);
}

__global__ void write_bytes(unsigned char* bytes, int* out) {
  bytes[threadIdx.x] = 1;
  out[threadIdx.x] = bytes[threadIdx.x];
}

TEST_CASE("emulator: neighbouring bytes are places of their own", "[cuda][races]") {
  const Ints bytes(kBlock / sizeof(int)), out(kBlock);
  CHECK(findings(1, false, write_bytes, reinterpret_cast<unsigned char*>(bytes.p), out.p).empty());
}

__global__ void copy(const int* x, int* y) { y[cuda::global_thread()] = x[cuda::global_thread()]; }

TEST_CASE("emulator: reads of device memory that nothing wrote are found", "[cuda][races]") {
  const Ints x(kBlock, false), y(kBlock);
  check_found(findings(1, false, copy, x.p, y.p), {"unwritten memory: thread", "reads byte", "of 256 allocated ones"});
  // Values that look like fresh memory are not: written by a kernel, by a copy, by a memset.
  const std::vector<int> minus_one(kBlock, -1);
  const Ints copied(kBlock, false), set(kBlock, false), computed(kBlock, false);
  REQUIRE(cudaMemcpy(copied.p, minus_one.data(), kBlock * sizeof(int), cudaMemcpyHostToDevice) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(set.p, 0xff, kBlock * sizeof(int), nullptr) == cudaSuccess);
  CHECK(findings(1, false, copy, copied.p, computed.p).empty());
  CHECK(findings(1, false, copy, set.p, y.p).empty());
  CHECK(findings(1, false, copy, computed.p, y.p).empty());
}

__global__ void use_shared(int* out, bool dynamic, bool mended) {
  __shared__ int fixed[kBlock];
  int* const shared = dynamic ? cuda::dynamic_shared<int>() : fixed;
  if (mended || blockIdx.x == 0) shared[threadIdx.x] = 1;
  __syncthreads();
  out[cuda::global_thread()] = shared[threadIdx.x];
}

TEST_CASE("emulator: shared memory holds nothing when a block starts", "[cuda][races]") {
  const Ints out(2 * kBlock);
  for (const bool dynamic : {false, true}) {
    CAPTURE(dynamic);
    CHECK(findings(2, true, use_shared, out.p, dynamic, true).empty());
    // Block 1 reads what block 0 left there.
    check_found(
        findings(2, true, use_shared, out.p, dynamic, false),
        {"unwritten memory: thread 0 of block 1,0,0", dynamic ? "of dynamic shared memory" : "a __shared__ variable"});
  }
}

// With SOLVENT_TEST_RACES=1 the process fails at its end, which the test cuda_races_reported checks.
TEST_CASE("emulator: a finding makes the process fail", "[cuda][races_reported]") {
  if (std::getenv("SOLVENT_TEST_RACES") == nullptr) return;
  const Ints out(1);
  cuda::launch({.name = "case", .device = cuda_test_device(), .grid = dim3(1), .block = dim3(2)}, write_one_cell, out.p,
               false);
}

}  // namespace
}  // namespace solvent::testing
