#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "solvent/core/io/atomic_file.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/run_dir.h"
#include "solvent/experiments/common/summary.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/file_size_limit.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;
using solvent::experiments::testing::read_text;
using solvent::experiments::testing::TemporaryDirectory;
using solvent::testing::FileSizeLimit;

namespace fs = std::filesystem;

namespace {

const std::vector<MetricColumn> kColumns = {{"loss", "nat"}, {"accuracy", ""}, {"speed", "steps/s"}};

void append(MetricsWriter& writer, std::int64_t step, std::vector<double> values) { writer.append(step, values); }

std::size_t count_files(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator{}));
}

}  // namespace

TEST_CASE("run directory: names carry the time, never collide, and hold a checkpoint folder") {
  const TemporaryDirectory dir;
  const RunDir a = RunDir::create(dir / "runs", "deer-classify"), b = RunDir::create(dir / "runs", "deer-classify");
  CHECK(a.path() != b.path());
  CHECK_THAT(a.path().filename().string(), Catch::Matchers::StartsWith("deer-classify-20"));
  CHECK(fs::is_directory(a.checkpoint_dir()));
  a.write("config.toml", "x = 1\n");
  CHECK(read_text(a.file("config.toml")) == "x = 1\n");
  CHECK(RunDir::open(a.path()).path() == a.path());
}

TEST_CASE("run directory: an occupied or missing one is refused with advice") {
  const TemporaryDirectory dir;
  dir.write("old/config.toml", "");
  CHECK_THAT(message_of<solvent::IoError>([&] { RunDir::create_at(dir / "old"); }),
             Contains("holds a run already") && Contains("--resume"));
  CHECK_NOTHROW(RunDir::create_at(dir / "new"));
  CHECK_THAT(message_of<MissingDataError>([&] { RunDir::open(dir / "none"); }), Contains("has no config.toml"));
  dir.write("file", "");
  CHECK_THAT(message_of<solvent::IoError>([&] { RunDir::create(dir / "file", "x"); }), Contains("cannot make"));
}

TEST_CASE("run directory: a full disk leaves the previous file intact") {
  const TemporaryDirectory dir;
  const RunDir run = RunDir::create_at(dir / "run");
  run.write("summary.json", "old");
  const std::size_t files = count_files(run.path());
  {
    const FileSizeLimit limit(4096);
    CHECK_THAT(message_of<solvent::IoError>([&] { run.write("summary.json", std::string(100000, 'x')); }),
               Contains("summary.json") && Contains("previous file"));
  }
  CHECK(read_text(run.file("summary.json")) == "old");
  CHECK(count_files(run.path()) == files);  // no temporary file left behind
  run.write("summary.json", std::string(100000, 'y'));
  CHECK(read_text(run.file("summary.json")).size() == 100000);
}

TEST_CASE("log: goes to the terminal and, with times, to the file") {
  const TemporaryDirectory dir;
  std::ostringstream terminal;
  {
    Log log(dir / "log.txt", &terminal);
    log.write("one\ntwo");
    log.write_quietly("three");
  }
  CHECK(terminal.str() == "one\ntwo\n");
  const std::string text = read_text(dir / "log.txt");
  CHECK_THAT(text, Contains(" s  one\n") && Contains(" s  two\n") && Contains(" s  three\n"));
  {
    Log log(dir / "log.txt", nullptr);
    log.write("four");
  }
  CHECK_THAT(read_text(dir / "log.txt"), Contains("one") && Contains("four"));
  CHECK_THROWS_AS(Log(dir / "no/such/log.txt", nullptr).write(""), solvent::IoError);
}

TEST_CASE("metrics: rows are on disk at once, with units in the header and exact numbers") {
  const TemporaryDirectory dir;
  const fs::path file = dir / "metrics.csv";
  MetricsWriter writer(file, kColumns);
  append(writer, 1, {0.1, std::nan(""), 3});
  append(writer, 5, {1.0 / 3, 0.5, 1e-20});
  CHECK(read_text(file) == "step,loss [nat],accuracy,speed [steps/s]\n1,0.1,,3\n5,0.3333333333333333,0.5,1e-20\n");
  const Metrics metrics = read_metrics(file);
  CHECK(metrics.column("loss") == std::vector<double>{0.1, 1.0 / 3});
  CHECK(std::isnan(metrics.column("accuracy")[0]));
  CHECK(metrics.column("step") == std::vector<double>{1, 5});
  CHECK_THAT(message_of<solvent::IoError>([&] { (void)metrics.column("los"); }),
             Contains("no column \"los\"; there are step, loss [nat]"));
}

TEST_CASE("metrics: wrong rows are refused") {
  const TemporaryDirectory dir;
  MetricsWriter writer(dir / "m.csv", kColumns);
  append(writer, 3, {1, 2, 3});
  CHECK_THAT(message_of<solvent::ValueError>([&] {
               append(writer, 4, {1, 2});
             }),
             Contains("expected a step above 3 with 3 values"));
  CHECK_THROWS_AS(append(writer, 3, {1, 2, 3}), solvent::ValueError);
  CHECK_THROWS_AS(MetricsWriter(dir / "n.csv", {{"a,b", ""}}), solvent::ValueError);
}

TEST_CASE("metrics: a resumed run continues after its checkpoint, byte for byte") {
  const TemporaryDirectory dir;
  const auto write_steps = [](MetricsWriter& writer, int first, int last) {
    for (int step = first; step <= last; ++step) append(writer, step, {1.0 / step, 0.5, std::sqrt(step)});
  };
  {
    MetricsWriter whole(dir / "whole.csv", kColumns);
    write_steps(whole, 1, 9);
  }
  {
    MetricsWriter first(dir / "parts.csv", kColumns);
    write_steps(first, 1, 7);  // the checkpoint is of step 4, the process was killed after step 7
    first.sync();
  }
  std::ofstream(dir / "parts.csv", std::ios::app) << "8,0.1";  // while writing a row
  {
    MetricsWriter second(dir / "parts.csv", kColumns, 4);
    write_steps(second, 5, 9);
  }
  CHECK(read_text(dir / "parts.csv") == read_text(dir / "whole.csv"));
  {
    MetricsWriter third(dir / "fresh.csv", kColumns, 4);
    write_steps(third, 5, 5);
  }
  CHECK_THAT(read_text(dir / "fresh.csv"), Contains("step,loss [nat]") && Contains("\n5,"));
}

TEST_CASE("metrics: resuming refuses other columns and damaged rows") {
  const TemporaryDirectory dir;
  dir.write("other.csv", "step,loss\n1,2\n");
  CHECK_THAT(message_of<solvent::IoError>([&] { MetricsWriter(dir / "other.csv", kColumns, 1); }),
             Contains("starts with \"step,loss\"; expected \"step,loss [nat]") && Contains("Resume with the settings"));
  dir.write("bad.csv", "step,loss [nat],accuracy,speed [steps/s]\n1,2,3,4\n\x01\x02\n");
  CHECK_THAT(message_of<solvent::IoError>([&] { MetricsWriter(dir / "bad.csv", kColumns, 9); }), Contains("bad.csv:3"));
  CHECK(read_text(dir / "other.csv") == "step,loss\n1,2\n");
}

TEST_CASE("metrics: a full disk is an IoError and earlier rows stay readable") {
  const TemporaryDirectory dir;
  const fs::path file = dir / "m.csv";
  MetricsWriter writer(file, kColumns);
  append(writer, 1, {1, 2, 3});
  {
    const FileSizeLimit limit(fs::file_size(file) + 5);
    CHECK_THAT(message_of<solvent::IoError>([&] { append(writer, 2, {1.25, 2.25, 3.25}); }), Contains("cannot write"));
  }
  CHECK(read_metrics(file).column("loss") == std::vector<double>{1});
  MetricsWriter resumed(file, kColumns, 1);
  append(resumed, 2, {4, 5, 6});
  CHECK(read_metrics(file).column("loss") == std::vector<double>{1, 4});
}

TEST_CASE("metrics: malformed files are refused with the line") {
  const TemporaryDirectory dir;
  CHECK_THAT(message_of<solvent::IoError>([&] { read_metrics(dir.write("a.csv", "step,loss\n1\n")); }),
             Contains("a.csv:2: 1 cells; expected 2"));
  CHECK_THAT(message_of<solvent::IoError>([&] { read_metrics(dir.write("b.csv", "step,loss\n1,x\n")); }),
             Contains("\"x\" is not a number"));
  CHECK_THROWS_AS(read_metrics(dir / "none.csv"), solvent::IoError);
}

TEST_CASE("summary: nested names, order, non-finite numbers, and reading back") {
  const TemporaryDirectory dir;
  Summary summary;
  summary.set("methods.deer.seconds", 0.1);
  summary.set("methods.deer.converged", true);
  summary.set("methods.sequential.steps", std::int64_t{1} << 60U);
  summary.set("name", "a \"b\"");
  summary.set("residual", std::nan(""));
  summary.set("losses", std::vector<double>{1, INFINITY});
  summary.set("sizes", std::vector<std::int64_t>{1, 2});
  summary.write(dir / "summary.json");
  const std::string text = read_text(dir / "summary.json");
  CHECK_THAT(text,
             Contains("\"seconds\": 0.1") && Contains("1152921504606846976") && Contains("\"residual\": \"nan\""));
  CHECK(text.find("methods") < text.find("name"));
  const Summary back = Summary::read(dir / "summary.json");
  CHECK(back.number("methods.deer.seconds") == 0.1);
  CHECK(back.number("methods.deer.converged") == 1);
  CHECK(std::isnan(back.number("residual")));
  CHECK(back.to_json() == summary.to_json());
  CHECK_THAT(message_of<solvent::IoError>([&] { (void)back.number("methods.none"); }),
             Contains("there is no \"methods.none\""));
  CHECK_THAT(message_of<solvent::IoError>([&] { (void)back.number("sizes"); }), Contains("expected a number"));
}

TEST_CASE("summary: damaged files are refused") {
  const TemporaryDirectory dir;
  for (const char* text : {"", "{", "{\"a\": }", "[1,2]", "nonsense", "{\"a\": 1} trailing", "\xff"}) {
    INFO(text);
    CHECK_THROWS_AS(Summary::read(dir.write("s.json", text)), solvent::IoError);
  }
  CHECK_THROWS_AS(Summary::read(dir.write("deep.json", std::string(200, '['))), solvent::IoError);
  CHECK_THROWS_AS(Summary::read(dir / "none.json"), solvent::IoError);
}

TEST_CASE("check: expected numbers pass within their tolerance, missing and NaN fail") {
  const TemporaryDirectory dir;
  Summary summary;
  summary.set("test.accuracy", 0.9);
  summary.set("time", 110.0);
  summary.set("bad", std::nan(""));
  const fs::path file = dir.write("expected.json", R"({
    "test.accuracy": {"value": 0.88, "tolerance": 0.03},
    "time": {"value": 100, "tolerance": 0.05, "relative": true},
    "bad": {"value": 1, "tolerance": 1e9},
    "absent": {"value": 1, "tolerance": 1}})");
  const auto results = check_expected(summary, file);
  REQUIRE(results.size() == 4);
  CHECK(results[0].passed);
  CHECK_FALSE(results[1].passed);
  CHECK(results[1].tolerance == Approx(5));
  CHECK_FALSE(results[2].passed);
  CHECK_FALSE(results[3].passed);
  CHECK(results[3].note == "not in summary.json");
  CHECK_THAT(message_of<solvent::IoError>([&] { check_expected(summary, dir.write("e.json", R"({"a": 3})")); }),
             Contains("entry \"a\" needs numbers"));
}
