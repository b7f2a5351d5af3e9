#include "solvent/nn/checkpoint_store.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>

#include <unistd.h>

#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/file_calls.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"
#include "solvent/tests/support/temp_folder.h"

namespace solvent::nn {
namespace {

namespace fs = std::filesystem;
using testing::identical;
using testing::TempFolder;

/// A model in training, with a solver's warm start that has no place in model or optimiser.
struct Run {
  Linear model;
  Adam adam{{.learning_rate = 0.1}};
  StateDict warm;
  Key key{5};

  explicit Run(std::uint64_t seed) : model(3, 2, Key(seed)) {}
  void train(std::int64_t steps) {
    for (std::int64_t i = 0; i < steps; ++i) {
      const Tensor x = normal(key, {4, 3});
      const Tensor offset = warm.empty() ? zeros({4, 2}) : warm[0].second;
      const auto r = nn::value_and_grad(model, [&] { return mean(square(model(x) + 0.1 * offset)); });
      warm = {{"offset", model(x)}};
      key = key.fold_in(1);
      adam.step(model, r.grads);
    }
  }
  CheckpointParts parts() {
    return {.modules = {{"model", &model}}, .optimizers = {{"adam", &adam}}, .tensors = {{"warm", &warm}}};
  }
  void save(CheckpointStore& store) {
    StateValues state;
    state.set("key", key);
    store.save(adam.steps(), parts(), state);
  }
  void train_and_save(std::int64_t steps, CheckpointStore& store) {
    train(steps);
    save(store);
  }
  std::optional<CheckpointStore::Loaded> load(CheckpointStore& store) {
    auto found = store.load(parts());
    if (found) key = found->state.key("key");
    return found;
  }
  /// Loads what must be there; returns the warnings.
  std::vector<std::string> resume(CheckpointStore& store, std::int64_t step) {
    const auto found = load(store);
    REQUIRE(found.has_value());
    CHECK(found->step == step);
    return found->warnings;
  }
  [[nodiscard]] bool same_as(const Run& other) const {
    return identical(model.weight, other.model.weight) && identical(model.bias, other.model.bias) &&
           adam.steps() == other.adam.steps() && key == other.key && warm.size() == other.warm.size() &&
           (warm.empty() || identical(warm[0].second, other.warm[0].second));
  }
};

void flip_byte(const std::string& path, std::size_t position) {
  std::string bytes = read_file(path);
  REQUIRE(position < bytes.size());
  bytes[position] = static_cast<char>(bytes[position] ^ 1);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
}

/// Makes system calls of AtomicFile fail or fall short, for the lifetime of the object.
class Faults {
 public:
  /// The call number `failing` (from 0, all kinds counted together) and all later ones fail with `error`.
  explicit Faults(int failing, int error) : before_(solvent::detail::file_calls()) {
    left = failing;
    code = error;
    solvent::detail::file_calls() = {
        [](int d, const void* p, std::size_t n) { return fails() ? ssize_t{-1} : ::write(d, p, n); },
        [](int d) { return fails() ? -1 : ::fsync(d); },
        [](int d) {
          const int result = ::close(d);  // also where the system reports an error, the descriptor is gone
          return fails() ? -1 : result;
        },
        [](const char* a, const char* b) { return fails() ? -1 : std::rename(a, b); },
    };
  }
  ~Faults() { solvent::detail::file_calls() = before_; }
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;
  static bool were_hit() { return left < 0; }

 private:
  static bool fails() {
    if (left > 0) {
      --left;
      return false;
    }
    left = -1;
    errno = code;
    return true;
  }
  static inline int left = 0;
  static inline int code = 0;
  solvent::detail::FileCalls before_;
};

TEST_CASE("checkpoint_store: an interrupted run goes on to the same bits, warm starts and keys included", "[nn]") {
  const TempFolder folder;
  Run whole(1);
  whole.train(9);
  CheckpointStore store(folder.file("checkpoint"));
  {
    Run first(1);
    CHECK_FALSE(first.load(store).has_value());
    first.train_and_save(4, store);
  }
  Run second(77);
  CHECK(second.resume(store, 4).empty());
  second.train(5);
  CHECK(second.same_as(whole));
}

TEST_CASE("checkpoint_store: keeps the newest ones and never overwrites a complete one", "[nn]") {
  const TempFolder folder;
  CheckpointStore store(folder.file("c"), {.keep = 2});
  Run run(1);
  for (int i = 0; i < 4; ++i) run.train_and_save(2, store);
  CHECK(store.steps() == std::vector<std::int64_t>{8, 6});
  run.save(store);  // the same step again, as at the end of a run
  CHECK(store.steps() == std::vector<std::int64_t>{8, 8});
  CHECK(fs::exists(folder.file("c/step-00000008.json")));
  CHECK(fs::exists(folder.file("c/step-00000008-2.safetensors")));
  Run other(2);
  other.train(1);
  CHECK_ERROR(ValueError, other.save(store), "got step 1", "has a checkpoint of step 8", "another folder");
  CHECK_THROWS_AS(store.save(-1, run.parts()), ValueError);
  CHECK_THROWS_AS(CheckpointStore("x", {.keep = 0}), ValueError);
}

TEST_CASE("checkpoint_store: a damaged newest checkpoint is passed over with a message", "[nn]") {
  const TempFolder folder;
  Run whole(1);
  whole.train(9);
  for (const std::string damage : {"tensors", "cut", "manifest", "no tensors", "not json", "deep"}) {
    INFO(damage);
    fs::remove_all(folder.file("c"));
    CheckpointStore store(folder.file("c"));
    Run run(1);
    run.train_and_save(3, store);
    run.train_and_save(3, store);
    const std::string tensors = folder.file("c/step-00000006.safetensors");
    const std::string manifest = folder.file("c/step-00000006.json");
    if (damage == "tensors") flip_byte(tensors, read_file(tensors).size() - 3);
    if (damage == "cut") fs::resize_file(tensors, fs::file_size(tensors) - 8);
    if (damage == "no tensors") fs::remove(tensors);
    if (damage == "manifest") flip_byte(manifest, read_file(manifest).find("\"step\": 6") + 8);
    if (damage == "not json") write_file_atomically(manifest, "{\"step\": ");
    if (damage == "deep") write_file_atomically(manifest, std::string(100000, '[') + std::string(100000, ']'));

    Run resumed(50);
    const std::vector<std::string> warnings = resumed.resume(store, 3);
    REQUIRE(warnings.size() == 2);
    CHECK_THAT(warnings[0], Catch::Contains("step 6 is damaged") && Catch::Contains("step-00000006"));
    CHECK_THAT(warnings[1], Catch::Contains("going on from the checkpoint of step 3"));
    resumed.train_and_save(1, store);  // step 4, below the damaged 6, which disappears now
    CHECK(store.steps() == std::vector<std::int64_t>{4, 3});
    resumed.train(5);
    CHECK(resumed.same_as(whole));
  }
}

TEST_CASE("checkpoint_store: every flipped byte of a manifest is noticed or harmless", "[nn]") {
  const TempFolder folder;
  CheckpointStore store(folder.file("c"));
  Run run(1);
  run.train_and_save(2, store);
  const std::string path = folder.file("c/step-00000002.json");
  const std::string good = read_file(path);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int mask : {1, 0x20, 0x80}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ mask);
      write_file_atomically(path, bad);
      Run other(9);
      try {
        const auto found = other.load(store);
        REQUIRE(found.has_value());
        REQUIRE(other.same_as(run));  // a changed space
      } catch (const IoError&) {
        REQUIRE(other.adam.steps() == 0);
      }
    }
  }
}

TEST_CASE("checkpoint_store: when all are damaged, or the newest does not fit, nothing is loaded", "[nn]") {
  const TempFolder folder;
  CheckpointStore store(folder.file("c"));
  Run run(1);
  run.train_and_save(1, store);
  run.train_and_save(1, store);
  Linear wider(4, 2, Key(1));
  CHECK_ERROR(IoError, store.load({.modules = {{"model", &wider}}}), "does not fit", "nothing was loaded");
  for (const char* name : {"c/step-00000001.safetensors", "c/step-00000002.safetensors"})
    flip_byte(folder.file(name), 200);
  Run other(3);
  CHECK_ERROR(IoError, other.load(store), "no checkpoint in", "step 2 is damaged", "step 1 is damaged",
              "does not match its checksum");
  CHECK(other.adam.steps() == 0);
}

TEST_CASE("checkpoint_store: what a killed process leaves behind is ignored, then removed", "[nn]") {
  const TempFolder folder;
  CheckpointStore store(folder.file("c"));
  Run run(1);
  run.train_and_save(1, store);
  write_file_atomically(folder.file("c/step-00000002.safetensors"), "half");
  write_file_atomically(folder.file("c/step-00000002.json.tmp-123-0"), "half");
  write_file_atomically(folder.file("c/notes.txt"), "mine");
  Run other(2);
  const std::vector<std::string> warnings = other.resume(store, 1);
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0], Catch::Contains("never completed"));
  other.train_and_save(2, store);
  CHECK_FALSE(fs::exists(folder.file("c/step-00000002.safetensors")));
  CHECK_FALSE(fs::exists(folder.file("c/step-00000002.json.tmp-123-0")));
  CHECK(fs::exists(folder.file("c/notes.txt")));
}

TEST_CASE("checkpoint_store: a disk that fills up at any call leaves the previous checkpoint as it was", "[nn]") {
  const TempFolder folder;
  CheckpointStore store(folder.file("c"));
  Run before(1);
  before.train_and_save(3, store);
  Run run(1);
  run.train(5);
  int failing = 0;
  for (bool saved = false; !saved; ++failing) {
    INFO("system call " << failing);
    REQUIRE(failing < 100);
    {
      const Faults faults(failing, ENOSPC);
      if (failing == 0) {
        CHECK_ERROR(IoError, run.save(store), "[write_file]", "No space left on device", "free some space");
      } else {
        try {
          run.save(store);
        } catch (const IoError&) {
        }
      }
      saved = !Faults::were_hit();
    }
    if (saved) break;
    Run resumed(9);
    resumed.resume(store, 3);
    REQUIRE(resumed.same_as(before));
  }
  CHECK(failing >= 8);  // tensors: header length, header, data, flush, close, rename; the same for the JSON file
  CHECK(store.steps() == std::vector<std::int64_t>{5, 3});
  Run resumed(9);
  resumed.resume(store, 5);
  CHECK(resumed.same_as(run));
}

TEST_CASE("checkpoint_store: short and interrupted writes change nothing", "[nn]") {
  const TempFolder folder;
  CheckpointStore plain(folder.file("plain"));
  CheckpointStore cut(folder.file("cut"));
  Run run(1);
  run.train_and_save(2, plain);
  {
    const solvent::detail::FileCalls before = solvent::detail::file_calls();
    solvent::detail::file_calls().write = [](int d, const void* p, std::size_t n) -> ssize_t {
      static int calls = 0;
      if (++calls % 3 == 0) {
        errno = EINTR;
        return -1;
      }
      return ::write(d, p, std::min<std::size_t>(n, 7));
    };
    run.save(cut);
    solvent::detail::file_calls().write = [](int, const void*, std::size_t) -> ssize_t { return 0; };
    CHECK_ERROR(IoError, run.save(cut), "No space left");
    solvent::detail::file_calls() = before;
  }
  for (const char* name : {"step-00000002.json", "step-00000002.safetensors"})
    CHECK(read_file(folder.file(std::string("plain/") + name)) == read_file(folder.file(std::string("cut/") + name)));
}

TEST_CASE("state_values: every kind comes back with its bits", "[nn]") {
  StateValues state;
  state.set("count", std::numeric_limits<std::int64_t>::min());
  state.set("one", 1);
  state.set("tenth", 0.1);
  state.set("negative zero", -0.0);
  state.set("whole", 5.0);
  state.set("smallest", std::numeric_limits<double>::denorm_min());
  state.set("infinite", -std::numeric_limits<double>::infinity());
  state.set("nan", std::numeric_limits<double>::quiet_NaN());
  state.set("flag", true);
  state.set("text", "\u00e9 \"quoted\"\n");
  state.set("key", Key(~std::uint64_t{0}, 3));
  const StateValues back = StateValues::from_json(state.to_json(), "test");
  CHECK(back.integer("count") == std::numeric_limits<std::int64_t>::min());
  CHECK(back.integer("one") == 1);
  CHECK(back.number("tenth") == 0.1);
  CHECK(std::signbit(back.number("negative zero")));
  CHECK(back.number("whole") == 5.0);
  CHECK(back.number("smallest") == std::numeric_limits<double>::denorm_min());
  CHECK(back.number("infinite") == -std::numeric_limits<double>::infinity());
  CHECK(std::isnan(back.number("nan")));
  CHECK(back.flag("flag"));
  CHECK(back.text("text") == "\u00e9 \"quoted\"\n");
  CHECK(back.key("key") == Key(~std::uint64_t{0}, 3));
  CHECK(back.names() == state.names());
}

TEST_CASE("state_values: what is absent, of another kind or not ours is refused", "[nn]") {
  StateValues state;
  state.set("epoch", 3);
  CHECK_ERROR(IoError, state.integer("epochs"), "there is no \"epochs\"", "there are: epoch");
  CHECK_ERROR(IoError, state.number("epoch"), "\"epoch\" is an integer", "expected a number");
  const auto read = [](const char* text) { return StateValues::from_json(text, "file.json"); };
  CHECK_ERROR(IoError, read("{\"a\": "), "file.json", "not valid JSON");
  CHECK_ERROR(IoError, read("[]"), "no JSON object");
  CHECK_ERROR(IoError, read("{\"a\": null}"), "\"a\" is neither");
  CHECK_ERROR(IoError, read("{\"a\": {\"key\": [1]}}"), "\"a\" is neither");
  CHECK_ERROR(IoError, read("{\"a\": {\"number\": \"big\"}}"), "\"a\" is neither");
  CHECK_ERROR(IoError, read("{\"a\": 18446744073709551615}"), "beyond 64-bit");
  CHECK_ERROR(IoError, StateValues::from_json(std::string(50, '[') + std::string(50, ']'), "x"), "nested too deeply");
  state.set("bad", "\xff");
  CHECK_ERROR(ValueError, state.to_json(), "UTF-8");
}

}  // namespace
}  // namespace solvent::nn
