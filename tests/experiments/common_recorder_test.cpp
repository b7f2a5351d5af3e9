#include "solvent/experiments/common/recorder.h"

#include <sys/wait.h>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/experiments/common/canvas.h"
#include "solvent/experiments/common/check.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/experiments/test_tools.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;
using solvent::experiments::testing::read_text;
using solvent::experiments::testing::TemporaryDirectory;

namespace fs = std::filesystem;

namespace {

const std::vector<MetricColumn> kColumns = {{"loss", "nat"}, {"test accuracy", ""}};
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void append(Recorder& recorder, std::int64_t step, double loss, double accuracy) {
  recorder.append(step, std::vector<double>{loss, accuracy});
}

std::size_t count_files(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator{}));
}

}  // namespace

TEST_CASE("recorder: the same rows as CSV and as JSON lines") {
  const TemporaryDirectory dir;
  const RunDir run = RunDir::create_at(dir / "run");
  {
    Recorder recorder(run, kColumns, 0);
    append(recorder, 1, 0.5, kNan);
    append(recorder, 2, 0.1, 0.75);
    append(recorder, 4, std::numeric_limits<double>::infinity(), 1);
    recorder.sync();
  }
  CHECK(read_text(run.file("metrics.csv")) == "step,loss [nat],test accuracy\n1,0.5,\n2,0.1,0.75\n4,inf,1\n");
  CHECK(read_text(run.file("metrics.jsonl")) ==
        "{\"step\": 1, \"loss\": 0.5}\n"
        "{\"step\": 2, \"loss\": 0.1, \"test accuracy\": 0.75}\n"
        "{\"step\": 4, \"loss\": \"inf\", \"test accuracy\": 1}\n");
  CHECK(count_files(run.file("tensorboard")) == 1);

  // Resumed after step 2; the last line was cut by the kill.
  fs::resize_file(run.file("metrics.jsonl"), fs::file_size(run.file("metrics.jsonl")) - 5);
  {
    Recorder recorder(run, kColumns, 2);
    append(recorder, 3, 0.0625, kNan);
  }
  CHECK(read_text(run.file("metrics.csv")) == "step,loss [nat],test accuracy\n1,0.5,\n2,0.1,0.75\n3,0.0625,\n");
  CHECK(read_text(run.file("metrics.jsonl")) ==
        "{\"step\": 1, \"loss\": 0.5}\n"
        "{\"step\": 2, \"loss\": 0.1, \"test accuracy\": 0.75}\n"
        "{\"step\": 3, \"loss\": 0.0625}\n");
  CHECK(count_files(run.file("tensorboard")) == 2);
}

TEST_CASE("recorder: outputs can be switched off, damaged JSON lines are named") {
  const TemporaryDirectory dir;
  const RunDir run = RunDir::create_at(dir / "run");
  { const Recorder recorder(run, kColumns, 0, {.jsonl = false, .tensorboard = false}); }
  CHECK_FALSE(fs::exists(run.file("metrics.jsonl")));
  CHECK_FALSE(fs::exists(run.file("tensorboard")));
  CHECK_THROWS_AS(Recorder(run, {{"a\tb", ""}}, 0), solvent::ValueError);
  dir.write("run/metrics.jsonl", "{\"step\": 1}\n{\"other\": 2}\n");
  CHECK_THAT(message_of<solvent::IoError>([&] { const Recorder recorder(run, kColumns, 2); }),
             Contains("metrics.jsonl:2") && Contains("does not start with a step"));
}

TEST_CASE("recorder: images become a file and an event") {
  const TemporaryDirectory dir;
  const RunDir run = RunDir::create_at(dir / "run");
  Recorder recorder(run, kColumns, 0);
  const auto before = fs::file_size(fs::directory_iterator(run.file("tensorboard"))->path());
  recorder.images("digits", 20, solvent::zeros({3, 1, 4, 5}));
  CHECK_THAT(read_text(run.file("digits-00000020.png")), Catch::Matchers::StartsWith("\x89PNG"));
  CHECK(fs::file_size(fs::directory_iterator(run.file("tensorboard"))->path()) >
        before + fs::file_size(run.file("digits-00000020.png")));
}

TEST_CASE("image_grid: places, scales and maps pixels") {
  // Three grey images of 1 x 2 pixels in two columns, one pixel of padding.
  const solvent::Tensor images = solvent::from_vector<float>({0, 1, -1, 0.5, 2, std::nanf("")}, {3, 1, 2});
  const Raster grid = image_grid(images, {.padding = 1, .background = 9});
  CHECK(grid.width == 7);
  CHECK(grid.height == 5);
  CHECK(grid.channels == 1);
  CHECK(grid.pixels ==
        std::vector<std::uint8_t>{9, 9,   9,   9, 9, 9,   9,  //
                                  9, 0,   255, 9, 0, 128, 9,  // 0.5 * 255 = 127.5 is rounded up, -1 is black
                                  9, 9,   9,   9, 9, 9,   9,  //
                                  9, 255, 0,   9, 9, 9,   9,  // 2 is white, NaN is black
                                  9, 9,   9,   9, 9, 9,   9});
  const Raster large = image_grid(images, {.columns = 3, .padding = 0, .scale = 2, .low = -1, .high = 1});
  CHECK(large.width == 12);
  CHECK(large.height == 2);
  CHECK(std::vector<std::uint8_t>(large.pixels.begin(), large.pixels.begin() + 6) ==
        std::vector<std::uint8_t>{128, 128, 255, 255, 0, 0});
  const solvent::Tensor rgb = solvent::from_vector<std::uint8_t>({1, 2, 3, 4, 5, 6}, {1, 3, 1, 2});
  CHECK(image_grid(rgb, {.padding = 0}).pixels == std::vector<std::uint8_t>{1, 3, 5, 2, 4, 6});
}

TEST_CASE("image_grid: what it cannot show is refused with advice") {
  const auto text = [](const solvent::Tensor& t, const GridOptions& o = {}) {
    return message_of<solvent::Error>([&] { image_grid(t, o); });
  };
  CHECK_THAT(text(solvent::zeros({2, 2})), Contains("expected images (N, C, H, W) or (N, H, W)"));
  CHECK_THAT(text(solvent::zeros({2, 8, 8, 3})), Contains("8 channels") && Contains("Permute"));
  CHECK_THAT(text(solvent::zeros({0, 8, 8})), Contains("no pixel"));
  CHECK_THAT(text(solvent::zeros({1, 8, 8}, solvent::int64)), Contains("Use cast"));
  CHECK_THAT(text(solvent::zeros({1, 8, 8}), {.low = 1, .high = 1}), Contains("low < high"));
  CHECK_THAT(text(solvent::zeros({1, 8, 8}), {.scale = 10000}), Contains("at most 16384"));
}

TEST_CASE("check: bounds, texts, sections") {
  const TemporaryDirectory dir;
  Summary summary;
  summary.set("residual", 1e-7);
  summary.set("status", "converged");
  summary.set("agrees", true);
  const fs::path file = dir.write("expected.json", R"({"demo": {"smoke": {
    "residual": {"max": 1e-6, "why": "float32"},
    "status": {"is": "converged"},
    "agrees": {"is": false},
    "none": {"min": 0}}, "quick": {"residual": {"min": 1e-6, "max": 1}}}})");
  const auto results = check_expected(summary, file, "demo/smoke");
  REQUIRE(results.size() == 4);
  CHECK(results[0].passed);
  CHECK(results[0].expectation == "<= 1e-06");
  CHECK(results[1].passed);
  CHECK_FALSE(results[2].passed);
  CHECK(results[2].found == "true");
  CHECK_FALSE(results[3].passed);
  CHECK_FALSE(check_expected(summary, file, "demo/quick")[0].passed);
  CHECK_THAT(message_of<UsageError>([&] { check_expected(summary, file, "demo/slow"); }),
             Contains("\"slow\" is not one of smoke, quick"));
  CHECK_THAT(message_of<solvent::IoError>([&] { check_expected(summary, dir.write("e", R"({"a": {"is": []}})")); }),
             Contains("entry \"a\" needs numbers"));

  Log log(dir / "log.txt", nullptr);
  const CheckSettings settings{.check = true, .expected = file.string()};
  CHECK(Expectations(settings, "x", "demo/smoke").compare(summary, log) == ExitCode::check_failed);
  CHECK(Expectations({}, "x", "demo/none").compare(summary, log) == ExitCode::done);  // not asked for
  CHECK_THROWS_AS(Expectations(settings, "x", "demo/none"), UsageError);
  CHECK_THAT(message_of<UsageError>([&] { Expectations({.check = true, .expected = ""}, "nothing", "a"); }),
             Contains("experiments/nothing/expected.json") && Contains("--expected"));
  CHECK_THAT(message_of<UsageError>([&] { Expectations({.check = true, .expected = "none.json"}, "x", "a"); }),
             Contains("none.json does not exist"));
  CHECK_THAT(read_text(dir / "log.txt"), Contains("check  pass  residual = 1e-07, expected <= 1e-06") &&
                                             Contains("check  FAIL  none = not in summary.json") &&
                                             Contains("2 of 4 numbers"));
}

TEST_CASE("plot.py: draws the curves of a run") {
  const TemporaryDirectory dir;
  const RunDir run = RunDir::create_at(dir / "run");
  {
    Recorder recorder(run, kColumns, 0, {.tensorboard = false});
    for (int step = 1; step <= 30; ++step) append(recorder, step, 1.0 / step, step % 5 == 0 ? step / 30.0 : kNan);
  }
  const char* python = std::getenv("SOLVENT_PYTHON");
  const std::string start = std::string(python ? python : "python3") + " -B ";
  if (std::system((start + "-c 'import matplotlib' 2>/dev/null").c_str()) != 0) {
    WARN("skipped: matplotlib is not installed; SOLVENT_PYTHON may name a Python that has it");
    return;
  }
  const std::string command = start + "../experiments/plot.py '" + run.path().string() + "' >/dev/null";
  CHECK(std::system((command + " --log-y loss").c_str()) == 0);
  CHECK_THAT(read_text(run.file("metrics.png")), Catch::Matchers::StartsWith("\x89PNG"));
  fs::remove(run.file("metrics.csv"));  // the JSON lines hold the same numbers, without units
  fs::remove(run.file("metrics.png"));
  CHECK(std::system((command + " --log-y loss").c_str()) == 0);
  CHECK(fs::exists(run.file("metrics.png")));
  CHECK(WEXITSTATUS(std::system((command + " --columns lost 2>/dev/null").c_str())) == 3);
}
