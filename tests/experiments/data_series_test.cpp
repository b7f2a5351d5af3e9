// Readers of time series, series and batches.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/experiments/common/data/batch_tensors.h"
#include "solvent/experiments/common/data/sequence_data.h"
#include "solvent/experiments/common/data/time_series.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/tests/experiments/data_tools.h"

using namespace solvent::experiments;
using namespace solvent::experiments::testing;

namespace fs = std::filesystem;

namespace {

const std::string kTs =
    "\xef\xbb\xbf# a comment\r\n"
    "@problemName Demo\r\n"
    "@timeStamps false\r\n"
    "@missing false\r\n"
    "@univariate false\r\n"
    "@dimensions 2\r\n"
    "@equalLength false\r\n"
    "@classLabel true left right\r\n"
    "@data\r\n"
    "1,2,3:4,5,6:right\r\n"
    "\r\n"
    "# between\r\n"
    " 1.5E0 , -2e-1 : +7,8 : left \r\n";

/// A one-channel file with the given data lines.
std::string univariate(const std::string& lines, const std::string& header = "@classLabel true a b\n") {
  return "@problemName P\n@univariate true\n" + header + "@data\n" + lines;
}

}  // namespace

// ---- ts -------------------------------------------------------------------------------------------------------------

TEST_CASE("ts: comments, CRLF, byte order mark, several channels, unequal lengths") {
  const TemporaryDirectory dir;
  for (const auto& file : {dir.write("d.ts", kTs), dir.write("d.ts.gz", gzip(kTs))}) {
    const SequenceData data = read_ts(file);
    CHECK(data.name == "Demo");
    CHECK(data.num_channels == 2);
    CHECK(data.lengths == std::vector<std::int64_t>{3, 2});
    CHECK(data.labels == std::vector<std::int64_t>{1, 0});
    CHECK(data.class_names == std::vector<std::string>{"left", "right"});
    CHECK(data.values == std::vector<float>{1, 4, 2, 5, 3, 6, 1.5F, 7, -0.2F, 8});
  }
}

TEST_CASE("ts: one channel without the optional headers, no newline at the end") {
  const TemporaryDirectory dir;
  const SequenceData data = read_ts(dir.write("u.ts", "@classLabel true a b\n@data\n1,2:a\n3:b"));
  CHECK(data.num_channels == 1);
  CHECK(data.lengths == std::vector<std::int64_t>{2, 1});
  CHECK(data.name == "u.ts");
}

TEST_CASE("ts: damaged and unsupported files are refused with line and expectation") {
  const TemporaryDirectory dir;
  struct Case {
    std::string text, expected;
  };
  const std::vector<Case> cases = {
      {"", "bad.ts:0: the file ends before @data"},
      {"@problemName X\n", "bad.ts:1: the file ends before @data"},
      {univariate(""), "there is no series after @data"},
      {"1,2,3\n", "bad.ts:1: \"1,2,3\" before @data"},
      {"@data\n1:a\n", "bad.ts:1: @data without @classLabel"},
      {"@classLabel false\n@data\n1\n", "bad.ts:1: series without class labels are not supported"},
      {"@classLabel true\n", "expected @classLabel true NAME ..."},
      {"@classLabel true a b a\n", "class \"a\" is named twice"},
      {"@targetLabel true\n", "bad.ts:1: @targetLabel marks a regression problem"},
      {"@timeStamps true\n", "time stamps are not supported"},
      {"@univariate perhaps\n", "@univariate needs true or false"},
      {"@dimensions 0\n", "@dimensions needs a positive integer"},
      {"@dimensions 99999999999999999999\n", "@dimensions needs a positive integer"},
      {"@seriesLength -3\n", "@seriesLength needs a positive integer"},
      {univariate("1,2,3\n"), "bad.ts:5: no colon with a class label"},
      {univariate("1,2:a\n1,2:c\n"), "bad.ts:6: class \"c\" at the end of the series; expected one of a, b"},
      {univariate("1,2:\n"), "class \"\" at the end of the series"},
      {univariate("1,?,3:a\n"), "value 2 of channel 1 is missing (? or NaN); fill it in"},
      {univariate("1,x,3:a\n"), "value 2 of channel 1 is \"x\"; expected a finite number"},
      {univariate("1,,3:a\n"), "value 2 of channel 1 is \"\""},
      {univariate("1,2,:a\n"), "value 3 of channel 1 is \"\""},
      {univariate(":a\n"), "value 1 of channel 1 is \"\""},
      {univariate("1,nan:a\n"), "value 2 of channel 1 is missing (? or NaN)"},
      {univariate("1,1e39:a\n"), "is \"1e39\"; expected a finite number"},
      {univariate("1,1e999:a\n"), "is \"1e999\""},
      {univariate("0x10:a\n"), "is \"0x10\""},
      {univariate("1,2:3,4:a\n"), "the series has 2 channels; expected 1"},
      {"@dimensions 3\n@classLabel true a\n@data\n1:2:a\n", "the series has 2 channels; expected 3"},
      {"@classLabel true a\n@data\n1,2:3:a\n", "channel 2 has 1 values, channel 1 has 2; expected equally many"},
      {"@classLabel true a\n@data\n1:3,4,5:a\n", "channel 2 has 3 values, channel 1 has 1"},
      {"@equalLength true\n@classLabel true a\n@data\n1,2:a\n1:a\n",
       "bad.ts:5: the series has 1 steps; expected 2 (@equalLength true)"},
      {"@equalLength true\n@seriesLength 3\n@classLabel true a\n@data\n1,2:a\n", "the series has 2 steps; expected 3"},
      {std::string("@classLabel true a\n@data\n1,\0,2:a\n", 33), "is \"\\x00\"; expected a finite number"},
      {univariate("1,2:" + std::string(500, 'z') + "\n"), "zzz...\" at the end"},
      {"(2020-01-01,1):a\n", "before @data"},
  };
  for (const Case& c : cases) {
    const std::string message = message_of<DataError>([&] { read_ts(dir.write("bad.ts", c.text)); });
    INFO(c.text << " -> " << message);
    CHECK_THAT(message, Contains("[read_ts]") && Contains(c.expected));
    CHECK(message.size() < 400);
  }
}

TEST_CASE("ts: no mutation of a valid file crashes the reader") {
  const solvent::Key key(20240131);
  int accepted = 0, refused = 0;
  for (std::uint64_t trial = 0; trial < 1500; ++trial) {
    const solvent::Key own = key.fold_in(trial);
    std::string text = kTs;
    const int edits = 1 + static_cast<int>(own.bits(0) % 4);
    for (int e = 0; e < edits; ++e) {
      const auto word = static_cast<std::uint64_t>(1 + 3 * e);
      const std::size_t at = own.bits(word) % text.size();
      constexpr std::string_view kPieces = ",:?@\n\r\0 -e9.#\xff";
      const char piece = kPieces[own.bits(word + 1) % kPieces.size()];
      switch (own.bits(word + 2) % 4) {
        case 0: text[at] = piece; break;
        case 1: text.insert(at, 1, piece); break;
        case 2: text.erase(at, 1 + own.bits(word + 1) % 9); break;
        default: text.resize(at + 1); break;
      }
      if (text.empty()) text = " ";
    }
    try {
      const SequenceData data = parse_ts(span_of(text));
      ++accepted;
      const std::int64_t steps = std::accumulate(data.lengths.begin(), data.lengths.end(), std::int64_t{0});
      REQUIRE(static_cast<std::int64_t>(data.values.size()) == steps * data.num_channels);
      REQUIRE(data.labels.size() == data.lengths.size());
      for (const float value : data.values) REQUIRE(std::isfinite(value));
    } catch (const DataError& e) {
      ++refused;
      REQUIRE(std::string(e.what()).find("[read_ts]") == 0);
    }
  }
  CHECK(accepted > 100);
  CHECK(refused > 500);
}

// ---- series and batches ---------------------------------------------------------------------------------------------

TEST_CASE("series: batches are time-major and padded with zeros") {
  const TemporaryDirectory dir;
  const SequenceData data = read_ts(dir.write("d.ts", kTs));
  const std::vector<std::int64_t> both = {1, 0};
  const SequenceBatch batch = gather_batch(data, both);
  CHECK(batch.num_steps == 3);
  CHECK(batch.batch == 2);
  CHECK(batch.num_channels == 2);
  CHECK(batch.values == std::vector<float>{1.5F, 7, 1, 4, -0.2F, 8, 2, 5, 0, 0, 3, 6});
  CHECK(batch.lengths == std::vector<std::int64_t>{2, 3});
  CHECK(batch.labels == std::vector<std::int64_t>{0, 1});
  CHECK(gather_batch(data, both, 5).values.size() == 20);
  CHECK_THAT(message_of<solvent::ValueError>([&] { gather_batch(data, both, 2); }),
             Contains("a series has 3 steps; expected at most num_steps = 2"));
  const std::vector<std::int64_t> wrong = {2};
  CHECK_THROWS_AS(gather_batch(data, wrong), solvent::ValueError);
  CHECK_THROWS_AS(gather_batch(data, {}), solvent::ValueError);
}

TEST_CASE("series: tensors of a batch carry weights that average over the valid steps") {
  const TemporaryDirectory dir;
  const std::vector<std::int64_t> both = {1, 0};
  const SequenceBatch batch = gather_batch(read_ts(dir.write("d.ts", kTs)), both);
  const BatchTensors single = to_tensors(batch), twice = to_tensors(batch, solvent::float64);
  CHECK(single.values.shape() == solvent::Shape{3, 2, 2});
  CHECK(single.values.to_vector<float>() == batch.values);
  CHECK(twice.values.dtype() == solvent::float64);
  CHECK(single.labels.to_vector<std::int64_t>() == batch.labels);
  CHECK(twice.time_weights.shape() == solvent::Shape{3, 2, 1});
  CHECK(twice.time_weights.to_vector<double>() == std::vector<double>{0.5, 1.0 / 3, 0.5, 1.0 / 3, 0, 1.0 / 3});
  CHECK_THROWS_AS(to_tensors(batch, solvent::int64), solvent::DtypeError);
}

TEST_CASE("series: subset, pooling and standardisation") {
  const TemporaryDirectory dir;
  SequenceData data = read_ts(dir.write("d.ts", kTs));
  const std::vector<std::int64_t> second = {1};
  CHECK(subset(data, second).values == std::vector<float>{1.5F, 7, -0.2F, 8});
  const SequenceData pooled = mean_pool(data, 2);
  CHECK(pooled.lengths == std::vector<std::int64_t>{2, 1});
  CHECK(pooled.values == std::vector<float>{1.5F, 4.5F, 3, 6, 0.65F, 7.5F});
  CHECK_THROWS_AS(mean_pool(data, 0), solvent::ValueError);
  const ChannelStatistics before = channel_statistics(data);
  CHECK(before.mean[1] == Approx(6));
  standardize(data, before);
  const ChannelStatistics after = channel_statistics(data);
  for (int c = 0; c < 2; ++c) {
    CHECK(after.mean[static_cast<std::size_t>(c)] == Approx(0).margin(1e-6));
    CHECK(after.stddev[static_cast<std::size_t>(c)] == Approx(1));
  }
  SequenceData constant;
  constant.class_names = {"a"};
  constant.append(std::vector<float>{3, 3, 3}, 0);
  standardize(constant, channel_statistics(constant));
  CHECK(constant.values == std::vector<float>{0, 0, 0});
  CHECK_THROWS_AS(constant.append(std::vector<float>{}, 0), solvent::ValueError);
  CHECK_THROWS_AS(constant.append(std::vector<float>{1}, 1), solvent::ValueError);
}

// ---- missing values, arff, plain text -------------------------------------------------------------------------------

TEST_CASE("ts: missing values become NaN when asked for, wherever they are") {
  const std::string text = univariate("?,2,NaN:a\n4,?,6,?:b\n");
  const SequenceData data = parse_ts(span_of(text), "m.ts", {.missing = MissingValues::nan});
  CHECK(data.lengths == std::vector<std::int64_t>{3, 4});
  CHECK(std::isnan(data.values[0]));
  CHECK(data.values[1] == 2);
  CHECK(std::isnan(data.values[2]));
  CHECK(std::isnan(data.values[6]));
  CHECK_THAT(
      message_of<DataError>([&] { parse_ts(span_of(text), "m.ts"); }),
      Contains("m.ts:5: value 1 of channel 1 is missing (? or NaN); fill it in, or read with MissingValues::nan"));
  CHECK_THAT(message_of<DataError>([&] { parse_ts(span_of(univariate("nan(1):a\n"))); }), Contains("finite number"));
}

TEST_CASE("ts: text that is no UTF-8") {
  // Names of authors in comments are often Latin-1; class names end up in files that must be UTF-8.
  const std::string comment = univariate("1:a\n",
                                         "# Garc\xed"
                                         "a\n@classLabel true a b\n");
  CHECK(parse_ts(span_of(comment)).size() == 1);
  const std::string name = univariate("1:a\n", "@classLabel true a \xff\n");
  CHECK_THAT(message_of<DataError>([&] { parse_ts(span_of(name)); }), Contains("class \"\\xff\" is no UTF-8 text"));
  const std::string value = univariate("1,\xe4:a\n");
  CHECK_THAT(message_of<DataError>([&] { parse_ts(span_of(value)); }), Contains("is \"\\xe4\""));
}

TEST_CASE("series readers: tables of channels and lists of pieces stay below the file's size") {
  // A line of a million commas and colons must neither make a table of 10^12 values nor lists of pieces.
  const std::string many = "@classLabel true a\n@data\n" + std::string(1000000, '1').replace(500000, 1, ":") +
                           std::string(1000000, ':') + "a\n";
  const std::string commas = "@classLabel true a\n@data\n" + std::string(4000000, ',') + ":a\n";
  for (const std::string* text : {&many, &commas}) {
    const std::int64_t grown = peak_growth([&] { CHECK_THROWS_AS(parse_ts(span_of(*text)), DataError); });
    CHECK(grown < static_cast<std::int64_t>(text->size()) + (16 << 20));
  }
}

namespace {

const std::string kArff =
    "% a comment\r\n"
    "@RELATION 'Basic Motions'\r\n"
    "\r\n"
    "@attribute relationalAtt relational\r\n"
    "\t@attribute att0 numeric\r\n"
    "\t@attribute att1 NUMERIC\r\n"
    "\t@attribute att2 real\r\n"
    "@end relationalAtt\r\n"
    "@attribute activity {Standing, 'Running fast',\"it's\"}\r\n"
    "@data\r\n"
    "'1,2,3\\n4,5,6','Running fast'\r\n"
    "\"-1e-1,8,?\\n9,10,?\",Standing\r\n"
    "'0,0,0\\n0,0,0',\"it's\"\r\n";

std::string flat_arff(const std::string& rows, const std::string& classes = "{a,b}", int steps = 3) {
  std::string text = "@relation P\n";
  for (int i = 0; i < steps; ++i) text += "@attribute att" + std::to_string(i) + " numeric\n";
  return text + "@attribute target " + classes + "\n@data\n" + rows;
}

}  // namespace

TEST_CASE("arff: multivariate series, unequal length by padding, quoted names, CRLF") {
  const TemporaryDirectory dir;
  for (const auto& file : {dir.write("d.arff", kArff), dir.write("d.arff.gz", gzip(kArff))}) {
    const SequenceData data = read_arff(file);
    CHECK(data.name == "Basic Motions");
    CHECK(data.num_channels == 2);
    CHECK(data.class_names == std::vector<std::string>{"Standing", "Running fast", "it's"});
    CHECK(data.labels == std::vector<std::int64_t>{1, 0, 2});
    CHECK(data.lengths == std::vector<std::int64_t>{3, 2, 3});
    CHECK(std::vector<float>(data.values.begin(), data.values.begin() + 10) ==
          std::vector<float>{1, 4, 2, 5, 3, 6, -0.1F, 9, 8, 10});
  }
}

TEST_CASE("arff: univariate series and missing values") {
  const SequenceData data = parse_arff(span_of(flat_arff("1,2,3,b\n4,5,?,a\n 6 , 7 , 8 , a\n")));
  CHECK(data.num_channels == 1);
  CHECK(data.lengths == std::vector<std::int64_t>{3, 2, 3});
  CHECK(data.labels == std::vector<std::int64_t>{1, 0, 0});
  const std::string gap = flat_arff("1,?,3,b\n");
  CHECK_THAT(message_of<DataError>([&] { parse_arff(span_of(gap), "g.arff"); }),
             Contains("g.arff:7: value 2 of channel 1 is missing"));
  const SequenceData filled = parse_arff(span_of(gap), "g.arff", {.missing = MissingValues::nan});
  CHECK(filled.lengths == std::vector<std::int64_t>{3});
  CHECK(std::isnan(filled.values[1]));
  CHECK(parse_arff(span_of(flat_arff("1,2,3,'x y'\n", "{'x y',z}"))).labels == std::vector<std::int64_t>{0});
}

TEST_CASE("arff: damaged and unsupported files are refused with line and expectation") {
  struct Case {
    std::string text, expected;
  };
  const std::vector<Case> cases = {
      {"", "the file ends before @data"},
      {"@relation x\n", "the file ends before @data"},
      {flat_arff(""), "there is no series after @data"},
      {"1,2,a\n", "bad.arff:1: \"1,2,a\" before @data"},
      {"@attribute a string\n", "attribute \"a\" of type \"string\"; expected numeric ones"},
      {"@attribute a date\n", "of type \"date\""},
      {"@attribute a\n", "of type \"\""},
      {"@attribute 'a numeric\n", "a quote without end"},
      {"@attribute a numeric\n@attribute b relational\n", "of type \"relational\""},
      {"@attribute b relational\n@attribute t {a}\n", "a nominal attribute inside the relational one"},
      {"@attribute b relational\n@data\n", "@data inside the relational attribute"},
      {"@end b\n", "@end without a relational attribute"},
      {"@attribute t {a}\n@attribute x numeric\n", "an attribute behind the class"},
      {"@attribute t {a}\n@data\n", "@data without a numeric attribute"},
      {"@attribute x numeric\n@data\n", "@data without a class"},
      {"@attribute x numeric\n@attribute t {a,b\n", "is no list of classes"},
      {"@attribute x numeric\n@attribute t {}\n", "is no list of classes"},
      {"@attribute x numeric\n@attribute t {a,,b}\n", "is no list of classes"},
      {"@attribute x numeric\n@attribute t {a,a}\n", "class \"a\" is named twice"},
      {flat_arff("1,2,a\n"), "bad.arff:7: the series has 2 values per channel; expected 3"},
      {flat_arff("1,2,3,4,a\n"), "the series has 4 values per channel; expected 3"},
      {flat_arff("1,2,3,c\n"), "class \"c\" at the end of the series; expected one of a, b"},
      {flat_arff("1,2,3,\n"), "class \"\" at the end"},
      {flat_arff("123\n"), "no comma with a class"},
      {flat_arff("1,x,3,a\n"), "value 2 of channel 1 is \"x\"; expected a finite number"},
      {flat_arff("1,,3,a\n"), "value 2 of channel 1 is \"\""},
      {flat_arff("1,inf,3,a\n"), "is \"inf\""},
      {flat_arff("?,?,?,a\n"), "the series has no values"},
      {flat_arff("{0 1, 2 a}\n"), "sparse data are not supported"},
      {flat_arff("1,2,3,'a\n"), "a quote without end"},
      {flat_arff("'\n"), "value 1 of channel 1 is \"\""},
      {kArff + "1,2,3,Standing\n", "no quoted field"},
      {kArff + "'1,2,3\\n4,5,6\n", "no quoted field"},
      {kArff + "'1,2,3\\n4,5,6'\n", "no comma with a class behind the channels"},
      {kArff + "'1,2,3',Standing\n", "the series has 1 channels; expected 2 as in the first series"},
      {kArff + "'1,2,3\\n4,5',Standing\n", "channel 2 has 2 values, channel 1 has 3"},
      {kArff + "'1,2,3\\n4,5,6',Standing x\n", "\"x\" behind the class"},
  };
  for (const Case& c : cases) {
    const std::string message = message_of<DataError>([&] { parse_arff(span_of(c.text), "bad.arff"); });
    INFO(c.text << " -> " << message);
    CHECK_THAT(message, Contains("[read_arff]") && Contains(c.expected));
    CHECK(message.size() < 400);
  }
}

TEST_CASE("arff and plain text: no mutation of a valid file crashes the readers") {
  CHECK(count_refused<DataError>(kArff, 3000, 11, [](auto bytes) { parse_arff(bytes); }) > 1000);
  CHECK(count_refused<DataError>(flat_arff("1,2,3,b\n4,5,?,a\n"), 2000, 12, [](auto bytes) { parse_arff(bytes); }) >
        500);
  CHECK(count_refused<DataError>("1 2.5 3\n2 4 5 6\n", 2000, 13, [](auto bytes) { parse_ucr_text(bytes); }) > 300);
}

TEST_CASE("plain text: labels become classes in ascending order, padding is cut") {
  const std::string text = "10\t1\t2\t3\n  2.0000000e+00   4.5  5  NaN\n-1,7,8,9\n";
  const SequenceData data = parse_ucr_text(span_of(text));
  CHECK(data.class_names == std::vector<std::string>{"-1", "2", "10"});
  CHECK(data.labels == std::vector<std::int64_t>{2, 1, 0});
  CHECK(data.lengths == std::vector<std::int64_t>{3, 2, 3});
  CHECK(data.series(1)[0] == 4.5F);
  struct Case {
    std::string text, expected;
  };
  for (const Case& c : std::vector<Case>{{"", "there is no series"},
                                         {"1\n", "bad.txt:1: there are no values behind the class label"},
                                         {"1.5 2\n", "class label \"1.5\"; expected an integer"},
                                         {"1e99 2\n", "expected an integer"},
                                         {"nan 2\n", "expected an integer"},
                                         {"1 x\n", "value 1 of channel 1 is \"x\""},
                                         {"1 NaN 2\n", "value 1 of channel 1 is missing"}}) {
    CHECK_THAT(message_of<DataError>([&] { parse_ucr_text(span_of(c.text), "bad.txt"); }), Contains(c.expected));
  }
}
