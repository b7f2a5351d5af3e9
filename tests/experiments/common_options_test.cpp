#include <cmath>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "solvent/core/rng.h"
#include "solvent/core/stream.h"
#include "solvent/experiments/common/device_option.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/program.h"
#include "solvent/experiments/common/text.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;
using solvent::experiments::testing::TemporaryDirectory;

namespace {

struct Settings {
  std::string dataset = "acsf1", resume, note;
  std::vector<std::int64_t> sizes = {1, 2};
  std::vector<double> rates;
  std::vector<std::string> tags = {"a"};
  double learning_rate = 1e-3;
  std::int64_t batch_size = 8;
  bool shuffle = true;
};

void describe(Settings& s, Options& options) {
  options.group("data");
  options.add("dataset", &s.dataset, "which series to train on").choices({"acsf1", "plaid", "mnist"});
  options.add("note", &s.note, "free text");
  options.add("sizes", &s.sizes, "state sizes").range(1, 64);
  options.group("training");
  options.add("learning-rate", &s.learning_rate, "step size of Adam").above(0).max(1).source("spec 5.4");
  options.add("batch-size", &s.batch_size, "series per step").min(1).unit("series");
  options.add("rates", &s.rates, "more rates");
  options.add("tags", &s.tags, "labels").choices({"a", "b", "c"});
  options.add("shuffle", &s.shuffle, "new order in every epoch");
  options.add_resume("resume", &s.resume, "continue the run in this directory");
  options.preset("smoke", "seconds, no download", {{"batch-size", "2"}, {"sizes", "1"}});
  options.preset("paper", "hours", {{"batch-size", "4"}, {"rates", "0.5,0.25"}, {"shuffle", "no"}});
}

/// A program with one command; what it did is kept.
struct TestProgram {
  TestProgram() : program("deer", "recurrences in parallel") {
    Options& options = program.command("classify", "train a classifier", [this](const Invocation& invocation) {
      ++runs;
      config = invocation.options.to_toml();
      command_line = invocation.command_line;
      return ExitCode::done;
    });
    describe(settings, options);
    program.command("demo", "compare methods", [](const Invocation&) -> ExitCode {
      throw NumericalError("[train] loss is nan at step 7; last checkpoint: step 5");
    });
  }

  int run(std::vector<std::string> args) {
    out.str("");
    err.str("");
    return program.run(args, out, err);
  }

  Settings settings;
  Program program;
  std::ostringstream out, err;
  std::string config, command_line;
  int runs = 0;
};

/// Each call parses into a fresh program: options keep the values of an earlier run.
struct Outcome {
  int code = -1;
  std::string out, err, config;
  Settings settings;
};

Outcome run(std::vector<std::string> args) {
  auto program = std::make_unique<TestProgram>();
  const int code = program->run(std::move(args));
  return {code, program->out.str(), program->err.str(), program->config, program->settings};
}

}  // namespace

// ---- text -----------------------------------------------------------------------------------------------------------

TEST_CASE("text: edit distance counts insertions, deletions, replacements and swaps") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("batch", "batch") == 0);
  CHECK(edit_distance("bacth", "batch") == 1);
  CHECK(edit_distance("abcdef", "ab") == 4);
}

TEST_CASE("text: the nearest name is a likely slip or nothing") {
  const std::vector<std::string> names = {"learning-rate", "batch-size", "dataset"};
  CHECK(nearest_name("learning_rate", names) == "learning-rate");
  CHECK(nearest_name("LearningRate", names) == "learning-rate");
  CHECK(nearest_name("rate", names) == "learning-rate");
  CHECK(nearest_name("bacth-size", names) == "batch-size");
  CHECK_FALSE(nearest_name("threads", names).has_value());
  CHECK_FALSE(nearest_name("x", {}).has_value());
}

TEST_CASE("text: numbers are read whole or not at all and written exactly") {
  CHECK(parse_integer("+42") == 42);
  CHECK(parse_integer("-9223372036854775808") == INT64_MIN);
  CHECK_FALSE(parse_integer("9223372036854775808").has_value());
  CHECK_FALSE(parse_integer("4 2").has_value());
  CHECK_FALSE(parse_integer("").has_value());
  CHECK_FALSE(parse_integer("+-1").has_value());
  CHECK(parse_real("1e-3") == 0.001);
  CHECK(std::isnan(*parse_real("nan")));
  CHECK_FALSE(parse_real("1.0x").has_value());
  CHECK_FALSE(parse_real("1e999").has_value());
  for (const double value : {0.1, 1.0 / 3, 1e-300, -2.5e17, 5e-324}) CHECK(parse_real(format_exact(value)) == value);
  CHECK(format_exact(-INFINITY) == "-inf");
}

TEST_CASE("text: durations are readable") {
  CHECK(format_duration(0.84) == "0.8 s");
  CHECK(format_duration(42.4) == "42 s");
  CHECK(format_duration(187) == "3:07");
  CHECK(format_duration(3765) == "1:02:45");
  CHECK(format_duration(2 * 86400 + 3 * 3600) == "2 d 03:00:00");
  CHECK(format_duration(NAN) == "--");
  CHECK(format_duration(-1) == "--");
}

TEST_CASE("text: wrapping keeps words and indents continuation lines") {
  CHECK(wrap("one two three four", 9, 2) == "one two\n  three\n  four");
  CHECK(wrap("incomprehensible", 4, 0) == "incomprehensible");
  CHECK(wrap("  a   b ", 80, 0) == "a b");
}

// ---- command line ---------------------------------------------------------------------------------------------------

TEST_CASE("options: defaults, command line, flags and lists") {
  CHECK(run({"classify"}).settings.batch_size == 8);
  const Outcome o = run({"classify", "--batch-size", "3", "--learning-rate=0.5", "--sizes", "4, 8", "--no-shuffle",
                         "--tags=b,c", "--note", "two words"});
  REQUIRE(o.code == 0);
  CHECK(o.settings.batch_size == 3);
  CHECK(o.settings.learning_rate == 0.5);
  CHECK(o.settings.sizes == std::vector<std::int64_t>{4, 8});
  CHECK(o.settings.tags == std::vector<std::string>{"b", "c"});
  CHECK(o.settings.note == "two words");
  CHECK_FALSE(o.settings.shuffle);
  CHECK(run({"classify", "--shuffle=no"}).settings.shuffle == false);
  CHECK(run({"classify", "--no-shuffle"}).settings.shuffle == false);
  CHECK(run({"classify", "--sizes="}).settings.sizes.empty());
  CHECK(run({"classify", "--sizes", ""}).settings.sizes.empty());
  CHECK(run({"classify", "--note=", "--batch-size", "2"}).settings.batch_size == 2);
  CHECK(run({"classify", "--note=--x=y"}).settings.note == "--x=y");
}

TEST_CASE("options: wrong usage names the option, the expectation and the nearest name") {
  struct Case {
    std::vector<std::string> args;
    std::vector<std::string> expected;
  };
  const std::vector<Case> cases = {
      {{"--learning_rate", "1"},
       {"[deer classify]", "unknown option --learning_rate", "did you mean --learning-rate?"}},
      {{"--batchsize=3"}, {"unknown option --batchsize; did you mean --batch-size?", "See deer classify --help."}},
      {{"--zzzzzz"}, {"unknown option --zzzzzz. See"}},
      {{"--confg", "x"}, {"did you mean --config?"}},
      {{"--batch-size"}, {"--batch-size needs a value."}},
      {{"--batch-size", "--shuffle"}, {"--batch-size needs a value."}},
      {{"--batch-size", "x"}, {"--batch-size got \"x\"; expected an integer >= 1."}},
      {{"--batch-size", "3.5"}, {"got \"3.5\"; expected an integer >= 1."}},
      {{"--batch-size", "0"}, {"--batch-size got \"0\"; 0 is out of range, expected an integer >= 1."}},
      {{"--batch-size", "-3"}, {"-3 is out of range"}},
      {{"--batch-size", "99999999999999999999"}, {"expected an integer >= 1"}},
      {{"--learning-rate", "0"}, {"0 is out of range, expected a number > 0 and <= 1."}},
      {{"--learning-rate", "nan"}, {"nan is out of range"}},
      {{"--learning-rate", ""}, {"got \"\"; expected a number"}},
      {{"--sizes", "1,65"},
       {"--sizes got \"1,65\"; 65 is out of range, expected integers separated by commas >= 1 and"}},
      {{"--sizes", "1,,2"}, {"got \"1,,2\"; expected integers"}},
      {{"--dataset", "plad"}, {"expected one of acsf1 | plaid | mnist; did you mean plaid?"}},
      {{"--tags", "a,x"}, {"--tags got \"a,x\"; expected some of a | b | c."}},
      {{"--shuffle=maybe"}, {"--shuffle got \"maybe\"; expected yes or no (true or false)."}},
      {{"--batch-size", "1", "--batch-size", "2"}, {"--batch-size is given 2 times; give it once."}},
      {{"stray"}, {"unexpected \"stray\"; options are written --name VALUE."}},
      {{"--preset", "smoek"}, {"--preset got \"smoek\"; expected one of smoke | paper; did you mean smoke?"}},
      {{"--note=", "--note="}, {"--note is given 2 times"}},
      {{"--config="}, {"cannot read"}},
      {{"-b", "3"}, {"unexpected \"-b\""}},
  };
  for (const Case& c : cases) {
    std::vector<std::string> args = {"classify"};
    args.insert(args.end(), c.args.begin(), c.args.end());
    const Outcome o = run(args);
    INFO(join(args, " ") << " -> " << o.err);
    CHECK(o.code == 2);
    CHECK(o.config.empty());
    for (const std::string& text : c.expected) CHECK_THAT(o.err, Contains(text));
  }
}

TEST_CASE("options: a refused value leaves the target as it was") {
  Settings s;
  Options options("deer classify");
  describe(s, options);
  CHECK_THROWS_AS(options.apply_argument("sizes", "4,x"), UsageError);
  CHECK(s.sizes == std::vector<std::int64_t>{1, 2});
  CHECK_THROWS_AS(options.apply_argument("learning-rate", "-1"), UsageError);
  CHECK(s.learning_rate == 1e-3);
}

TEST_CASE("options: descriptions with mistakes are refused when they are made") {
  Settings s;
  Options options("x");
  options.add("batch-size", &s.batch_size, "").min(1);
  CHECK_THROWS_AS(options.add("batch-size", &s.batch_size, ""), solvent::ValueError);
  CHECK_THROWS_AS(options.add("help", &s.shuffle, ""), solvent::ValueError);
  CHECK_THROWS_AS(options.add("Batch_Size", &s.batch_size, ""), solvent::ValueError);
  CHECK_THAT(message_of<solvent::ValueError>([&] {
               options.preset("p", "", {{"batch-size", "0"}});
             }),
             Contains("preset p sets batch-size = 0; 0 is out of range"));
  CHECK_THAT(message_of<solvent::ValueError>([&] {
               options.preset("p", "", {{"batch", "1"}});
             }),
             Contains("unknown option batch"));
  CHECK(s.batch_size == 8);
}

TEST_CASE("options: help lists every option with type, default, range, unit, source and the presets") {
  const Outcome o = run({"classify", "--help"});
  CHECK(o.code == 0);
  for (const char* text :
       {"deer classify - train a classifier", "--dataset TEXT", "acsf1 | plaid | mnist; default: acsf1",
        "--sizes INT,..", "--learning-rate NUM", "> 0 and <= 1; default: 0.001, spec 5.4", "unit: series; default: 8",
        "--shuffle | --no-shuffle", "default: true", "--config FILE.toml", "--print-config", "--preset NAME",
        "\ndata\n", "\ntraining\n", "exit codes: 0 done", "default: none"}) {
    CHECK_THAT(o.out, Contains(text));
  }
  CHECK_THAT(o.out, Contains("seconds, no download: --batch-size 2 --sizes 1"));
  for (const std::string_view line : split(o.out, '\n')) CHECK(line.size() <= 100);
}

// ---- presets, config files, precedence ------------------------------------------------------------------------------

TEST_CASE("options: default < preset < config < command line, and origins are recorded") {
  const TemporaryDirectory dir;
  const std::string file = dir.write("c.toml", "[training]\nbatch-size = 5\nlearning-rate = 1\n").string();
  CHECK(run({"classify", "--preset", "smoke"}).settings.batch_size == 2);
  CHECK(run({"classify", "--preset", "smoke", "--config", file}).settings.batch_size == 5);
  const Outcome o = run({"classify", "--batch-size", "7", "--preset", "smoke", "--config", file});
  CHECK(o.settings.batch_size == 7);
  CHECK(o.settings.learning_rate == 1.0);
  CHECK(o.settings.sizes == std::vector<std::int64_t>{1});
  CHECK_THAT(o.config, Contains("batch-size = 7") && Contains("# series; command line"));
  CHECK_THAT(o.config, Contains("# preset smoke") && Contains("# " + file + ":3") && Contains("# default"));
}

TEST_CASE("options: the resolved config reproduces every setting") {
  const TemporaryDirectory dir;
  const Outcome first = run({"classify", "--preset", "paper", "--learning-rate", "0.1234567890123456789", "--note",
                             "a \"quoted\" \\ and \ttab \xc3\xa9", "--sizes", "3,5", "--tags", "c"});
  REQUIRE(first.code == 0);
  const std::string file = dir.write("config.toml", first.config).string();
  const Outcome second = run({"classify", "--config", file});
  INFO(first.config << second.err);
  REQUIRE(second.code == 0);
  CHECK(second.settings.learning_rate == first.settings.learning_rate);
  CHECK(second.settings.note == first.settings.note);
  CHECK(second.settings.sizes == first.settings.sizes);
  CHECK(second.settings.rates == std::vector<double>{0.5, 0.25});
  CHECK(second.settings.tags == first.settings.tags);
  CHECK(second.settings.batch_size == 4);
  CHECK_FALSE(second.settings.shuffle);
}

TEST_CASE("options: --print-config prints TOML that --config accepts, without running") {
  const TemporaryDirectory dir;
  const Outcome o = run({"classify", "--print-config", "--batch-size", "9"});
  CHECK(o.code == 0);
  CHECK(o.config.empty());
  const std::string file = dir.write("p.toml", o.out).string();
  CHECK(run({"classify", "--config", file}).settings.batch_size == 9);
}

TEST_CASE("options: --resume takes the earlier run's config, which the command line overrides") {
  const TemporaryDirectory dir;
  dir.write("run/config.toml", "batch-size = 6\nlearning-rate = 0.25\n");
  const std::string run_dir = (dir / "run").string();
  const Outcome o = run({"classify", "--resume", run_dir, "--learning-rate", "0.5"});
  REQUIRE(o.code == 0);
  CHECK(o.settings.batch_size == 6);
  CHECK(o.settings.learning_rate == 0.5);
  CHECK(o.settings.resume == run_dir);
  CHECK_THAT(o.config, !Contains("resume ="));
  CHECK_THAT(run({"classify", "--resume", dir.path().string()}).err, Contains("has no config.toml"));
  CHECK(run({"classify", "--resume", dir.path().string()}).code == 2);
  CHECK_THAT(run({"classify", "--resume", run_dir, "--config", "x"}).err, Contains("drop --config"));
}

TEST_CASE("config: mistakes name file, line, key and what was expected") {
  struct Case {
    const char* text;
    std::vector<std::string> expected;
  };
  const std::vector<Case> cases = {
      {"batch_size = 3\n", {"unknown key batch_size at c.toml:1", "did you mean batch-size?"}},
      {"\n[training]\nzzzz = 3\n", {"unknown key zzzz at c.toml:3. See"}},
      {"[data]\nbatch-size = 3\n", {"key batch-size at c.toml:2 stands in [data]; it belongs into [training]"}},
      {"batch-size = \"3\"\n", {"batch-size =", "c.toml:1 has the wrong type; expected an integer such as 8."}},
      {"batch-size = 3.0\n", {"has the wrong type; expected an integer"}},
      {"batch-size = 0\n", {"batch-size = 0 at c.toml:1; 0 is out of range, expected an integer >= 1."}},
      {"learning-rate = [1]\n", {"has the wrong type; expected a number such as 0.5."}},
      {"learning-rate = nan\n", {"nan is out of range"}},
      {"shuffle = 1\n", {"expected true or false."}},
      {"dataset = acsf1\n", {"c.toml:1", "not valid TOML"}},
      {"dataset = 'acsf'\n", {"expected one of acsf1 | plaid | mnist; did you mean acsf1?"}},
      {"sizes = [1, 'a']\n", {"expected a list of integers in brackets such as [1, 2]."}},
      {"sizes = 4\n", {"expected a list of integers"}},
      {"tags = [\"a\", \"q\"]\n", {"expected some of a | b | c"}},
      {"batch-size = 1\nbatch-size = 2\n", {"c.toml:2", "not valid TOML"}},
      {"[training]\n[training.inner]\nx = 1\n", {"unknown key inner"}},
      {"command = \"deer demo\"\n", {"c.toml:1 is for command =", "deer demo", "give it to that command"}},
      {"batch-size = 1979-05-27\n", {"has the wrong type"}},
      {"\xff\xfe = 1\n", {"not valid TOML"}},
      {"[training\n", {"c.toml:1", "not valid TOML"}},
  };
  for (const Case& c : cases) {
    Settings s;
    Options options("deer classify");
    describe(s, options);
    const std::string message =
        message_of<UsageError>([&] { options.apply_config(parse_config(c.text, "c.toml"), "c.toml"); });
    INFO(c.text << " -> " << message);
    for (const std::string& text : c.expected) CHECK_THAT(message, Contains(text));
  }
}

TEST_CASE("config: keys may stand above all tables; integers serve as numbers; the command may be named") {
  Settings s;
  Options options("deer classify");
  describe(s, options);
  options.apply_config(
      parse_config("command = 'deer classify'\nlearning-rate = 1\nrates = [1, 0.5]\nsizes = []\n", "c"), "c");
  CHECK(s.learning_rate == 1.0);
  CHECK(s.rates == std::vector<double>{1, 0.5});
  CHECK(s.sizes.empty());
}

TEST_CASE("config: no mutation of a valid file crashes the reader") {
  const std::string good =
      "command = \"deer classify\"\n[data]\ndataset = \"plaid\"\nsizes = [1, 2]\n[training]\nlearning-rate = 0.5 # x\n"
      "batch-size = 3\nrates = [1e-3, 2.0]\nshuffle = false\n";
  const solvent::Key key(99);
  int accepted = 0, refused = 0;
  for (std::uint64_t trial = 0; trial < 1000; ++trial) {
    const solvent::Key own = key.fold_in(trial);
    std::string text = good;
    constexpr std::string_view kPieces = "[]\"'=.,#\n\\-{}1e_\0\xff";
    const std::size_t at = own.bits(0) % text.size();
    const char piece = kPieces[own.bits(1) % kPieces.size()];
    if (own.bits(2) % 2 == 0) text[at] = piece;
    if (own.bits(2) % 3 == 0) text.insert(own.bits(3) % text.size(), 1, piece);
    if (own.bits(2) % 5 == 0) text.resize(at);
    Settings s;
    Options options("deer classify");
    describe(s, options);
    try {
      options.apply_config(parse_config(text, "f"), "f");
      ++accepted;
      REQUIRE(s.batch_size >= 1);
      REQUIRE((s.learning_rate > 0 && s.learning_rate <= 1));
    } catch (const UsageError&) {
      ++refused;
    }
  }
  CHECK(accepted > 50);
  CHECK(refused > 300);
  CHECK_THROWS_AS(parse_config("x = " + std::string(100000, '['), "deep"), UsageError);
}

TEST_CASE("config: missing and oversized files are usage errors") {
  const TemporaryDirectory dir;
  CHECK_THAT(run({"classify", "--config", (dir / "no.toml").string()}).err,
             Contains("cannot read") && Contains("no.toml") && Contains("Pass an existing file to --config"));
  CHECK(run({"classify", "--config", (dir / "no.toml").string()}).code == 2);
  const std::string big = dir.write("big.toml", std::string((1U << 20U) + 1, '#')).string();
  CHECK_THAT(run({"classify", "--config", big}).err, Contains("expected a TOML file of at most"));
  CHECK(run({"classify", "--config", dir.path().string()}).code == 2);
}

// ---- program --------------------------------------------------------------------------------------------------------

TEST_CASE("program: commands, help and exit codes") {
  CHECK(run({}).code == 2);
  CHECK_THAT(run({}).err, Contains("no command given") && Contains("classify"));
  CHECK(run({"--help"}).code == 0);
  CHECK_THAT(run({"--help"}).out, Contains("commands\n") && Contains("train a classifier"));
  CHECK(run({"clasify"}).code == 2);
  CHECK_THAT(run({"clasify"}).err,
             Contains("unknown command \"clasify\"; expected one of classify | demo; did you mean classify?"));
  CHECK(run({"demo"}).code == 4);
  CHECK_THAT(run({"demo"}).err, Contains("error: [train] loss is nan at step 7"));
}

TEST_CASE("program: every kind of error has its exit code") {
  const auto code_of = [](auto thrower) {
    Program program("p", "");
    program.command("", "", [&](const Invocation&) -> ExitCode {
      thrower();
      return ExitCode::done;
    });
    std::ostringstream out, err;
    return program.run({}, out, err);
  };
  CHECK(code_of([] {}) == 0);
  CHECK(code_of([] { throw UsageError("u"); }) == 2);
  CHECK(code_of([] { throw MissingDataError("m"); }) == 3);
  CHECK(code_of([] { throw DataError("d"); }) == 3);
  CHECK(code_of([] { throw NumericalError("n"); }) == 4);
  CHECK(code_of([] { throw solvent::SolverError("s"); }) == 4);
  CHECK(code_of([] { throw solvent::IoError("disk full"); }) == 1);
  CHECK(code_of([] { throw std::bad_alloc(); }) == 1);
  CHECK(code_of([] { throw 42; }) == 1);
}

TEST_CASE("program: a nameless command is the program itself and the only one") {
  Settings s;
  Program program("solo", "one thing");
  Options& options = program.command("", "one thing", [](const Invocation&) { return ExitCode::done; });
  options.add("batch-size", &s.batch_size, "").min(1);
  CHECK_THROWS_AS(program.command("other", "", nullptr), solvent::ValueError);
  std::ostringstream out, err;
  const std::vector<std::string> args = {"--batch-size", "11"};
  CHECK(program.run(args, out, err) == 0);
  CHECK(s.batch_size == 11);
  const std::vector<std::string> wrong = {"--batch-siz", "11"};
  CHECK(program.run(wrong, out, err) == 2);
  CHECK_THAT(err.str(), Contains("[solo] unknown option --batch-siz; did you mean --batch-size?"));
}

TEST_CASE("device option: a device that this build or machine lacks is wrong usage, with the reason") {
  CHECK(open_device("cpu") == solvent::cpu_device);
  CHECK_THAT(message_of<UsageError>([] { (void)open_device("gpu"); }), Contains("'gpu'") && Contains("'cuda:N'"));
  if (solvent::gpu_count() > 0) return;
  CHECK_THAT(message_of<UsageError>([] { (void)open_device("cuda:1"); }),
             Contains("[--device]") && Contains("cuda:1") && Contains("use cpu"));
}
