// Checks of indices that the host does not wait for: when, where and how often their errors come.

#include <cmath>
#include <cstdlib>
#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/core/stream.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(31);

Tensor labels(std::initializer_list<double> values) { return tensor(values, {int64, kGpu}); }

// What the ValueError of f says.
std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const ValueError& e) {
    return e.what();
  }
  return "no error";
}
std::string waited() {
  return message([] { synchronize(kGpu); });
}

// With SOLVENT_CUDA_DEBUG=1 errors come from the calls.
bool is_at_once() {
  const char* const text = std::getenv("SOLVENT_CUDA_DEBUG");
  return text != nullptr && std::string_view(text) != "0";
}
bool has_device_that_goes_on() { return has_cuda_test_device() && !is_at_once(); }

constexpr const char* kLate = " A GPU found this after the call had returned;";

TEST_CASE("cuda: the error of an index comes from the next call that waits, once", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  const Tensor table = normal(kKey, {5, 4}, 0, 1, float64);
  const std::string expected = message([&] { (void)embedding(table, tensor({0, 4, 5, -1}, int64)); });
  const Tensor on_gpu = to(table, kGpu);
  const auto bad = [&] { return embedding(on_gpu, labels({0, 4, 5, -1})); };
  Tensor rows = bad();  // the host goes on
  std::string said = waited();
  CHECK(said.find(expected + kLate) == 0);
  CHECK(said.find("SOLVENT_CUDA_DEBUG=1") != std::string::npos);
  CHECK(waited() == "no error");
  // Index 0 stands in for the bad ones.
  CHECK(rows.to_vector<double>() == embedding(table, tensor({0, 4, 0, 0}, int64)).to_vector<double>());
  rows = bad();
  CHECK(message([&] { (void)rows.to_vector<double>(); }).find(expected + kLate) == 0);
  rows = bad();
  CHECK(message([&] { (void)sum(rows).item(); }).find(expected + kLate) == 0);
  rows = bad();
  CHECK(message([&] { (void)to(rows, cpu_device); }).find(expected + kLate) == 0);
  rows = bad();
  Event done(kGpu);
  done.record();
  CHECK(message([&] { done.synchronize(); }).find(expected + kLate) == 0);
  CHECK(waited() == "no error");
}

TEST_CASE("cuda: a training step does not wait for its labels", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  const Tensor logits = to(normal(kKey.fold_in(1), {4, 3}, 0, 1, float64), kGpu);
  const Tensor good = labels({0, 2, 1, 1});
  const auto gradient = [&](const Tensor& y) {
    return value_and_grad([&](const Tensor& x) { return cross_entropy(x, y); }, logits);
  };
  const auto [loss, grad] = gradient(good);
  CHECK(std::isfinite(loss.item()));
  const auto [bad_loss, bad_grad] = gradient(labels({0, 2, 3, 1}));
  CHECK(waited().find("[cross_entropy] got label 3 at position 2; expected 0 <= label < 3") == 0);
  CHECK(std::isnan(bad_loss.item()));
  // Other rows have the gradient that they should have.
  const Tensor at_good = concat({slice(grad, 0, 0, 2), slice(grad, 0, 3, 4)}, 0);
  const Tensor at_bad = concat({slice(bad_grad, 0, 0, 2), slice(bad_grad, 0, 3, 4)}, 0);
  CHECK(same_bits(at_good, at_bad));
  CHECK(std::isnan(sum(slice(bad_grad, 0, 2, 3)).item()));
}

TEST_CASE("cuda: failures that are known together are one error", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  // Of two threads, so that neither check finds the other's failure.
  std::promise<void> first_given, second_given;
  std::thread first([&] {
    (void)one_hot(labels({1, 7}), 3);
    first_given.set_value();
    second_given.get_future().wait();
  });
  std::thread second([&] {
    first_given.get_future().wait();
    (void)embedding(ones({5, 2}, {float64, kGpu}), labels({8, 9}));
  });
  second.join();
  second_given.set_value();
  first.join();
  const std::string said = waited();
  CHECK(said.find("[embedding] got index 8 at position 0") == 0);
  CHECK(said.find("Later checks that failed as well: 1.") != std::string::npos);
  CHECK(waited() == "no error");
}

TEST_CASE("cuda: a later check reports what is known by then", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  const Tensor table = ones({5, 2}, {float64, kGpu});
  synchronize(kGpu);
  {
    const Stream side(kGpu);
    const StreamGuard guard(side);
    (void)embedding(table, labels({6}));
  }  // its work is done: nobody was told
  CHECK(message([&] { (void)one_hot(labels({2}), 3); }).find("[embedding] got index 6 at position 0") == 0);
  CHECK(message([&] { (void)one_hot(labels({2}), 3); }) == "no error");
  CHECK(waited() == "no error");
}

TEST_CASE("cuda: a graph's replay reports what is known by then", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  Graph twice = graph([](const Tensors& in) { return Tensors{add(in[0], in[0])}; }, {ones({2}, {float64, kGpu})});
  const Tensor x = ones({2}, {float64, kGpu});
  {
    const Stream side(kGpu);
    const StreamGuard guard(side);
    (void)one_hot(labels({3}), 3);
  }
  CHECK(message([&] { (void)twice({x}); }).find("[one_hot] got index 3 at position 0") == 0);
  CHECK(twice({x})[0].to_vector<double>() == std::vector<double>{2, 2});
}

TEST_CASE("cuda: each thread hears of its own checks", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  std::promise<void> given, looked;
  std::string other;
  std::thread worker([&] {
    (void)one_hot(labels({3}), 3);
    given.set_value();
    looked.get_future().wait();
    other = waited();
  });
  given.get_future().wait();
  const std::string here = waited();  // the same stream: the work is done
  looked.set_value();
  worker.join();
  CHECK(here == "no error");
  CHECK(other.find("[one_hot] got index 3 at position 0") == 0);
  CHECK(waited() == "no error");
}

TEST_CASE("cuda: what a thread leaves behind is thrown by the next one", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  std::thread([] { (void)one_hot(labels({-2}), 3); }).join();
  CHECK(waited().find("[one_hot] got index -2 at position 0") == 0);
  CHECK(waited() == "no error");
}

TEST_CASE("cuda: an index into nothing is an error at the call", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor nothing = zeros({0, 3}, {float64, kGpu});
  CHECK(message([&] { (void)embedding(nothing, labels({0})); }).find("[embedding] got index 0 at position 0") == 0);
  CHECK(message([&] { (void)embedding(nothing, zeros({0}, {int64, kGpu})); }) == "no error");
}

TEST_CASE("cuda: many checks at a time", "[cuda][streams]") {
  if (!has_device_that_goes_on()) return;
  const Tensor table = to(normal(kKey.fold_in(2), {50, 3}, 0, 1, float64), kGpu);
  const Tensor index = to(randint(kKey.fold_in(3), {64}, 0, 50, cpu_device), kGpu);
  Tensor total = zeros({64, 3}, {float64, kGpu});
  for (int i = 0; i < 300; ++i) total = add(total, embedding(table, index));  // more than are made at once
  CHECK(waited() == "no error");
  CHECK(max(abs(sub(total, affine(embedding(table, index), 300.0, 0.0)))).item() < 1e-10);
}

TEST_CASE("cuda: with SOLVENT_CUDA_DEBUG=1 the call throws", "[cuda][debug]") {
  if (!has_cuda_test_device() || !is_at_once()) return;
  const std::string expected = message([&] { (void)one_hot(tensor({3}, int64), 3); });
  CHECK(message([&] { (void)one_hot(labels({3}), 3); }) == expected);
  CHECK(waited() == "no error");
}

// Run by a test of its own, which looks at what the program prints when it ends.
TEST_CASE("cuda: errors that nobody waits for", "[unheard]") {
  if (!has_cuda_test_device() || std::getenv("SOLVENT_TEST_UNHEARD") == nullptr) return;
  static const Tensor kept = embedding(ones({5, 2}, {float64, kGpu}), labels({1, 6}));  // in use when the program ends
  std::thread([] { (void)one_hot(labels({0, 4}), 3); }).join();
}

}  // namespace
}  // namespace solvent::testing
