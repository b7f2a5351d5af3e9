// Readers of data sets and of configuration files.

#include <cmath>
#include <string>

#include "solvent/experiments/common/data/cifar.h"
#include "solvent/experiments/common/data/idx.h"
#include "solvent/experiments/common/data/time_series.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/options.h"
#include "solvent/tests/fuzz/targets.h"

namespace solvent::fuzz {

using namespace solvent::experiments;

namespace {

void check_series(const SequenceData& data) {
  require(data.labels.size() == data.lengths.size() && data.starts.size() == data.lengths.size(),
          "lists of one length");
  require(data.num_channels > 0 || data.size() == 0, "series without channels");
  for (std::int64_t i = 0; i < data.size(); ++i) {
    double sum = 0;
    for (const float value : data.series(i)) sum += static_cast<double>(value);
    require(std::isfinite(sum), "a value that is not finite");
    const std::int64_t label = data.labels[static_cast<std::size_t>(i)];
    require(label >= 0 && label < data.num_classes(), "a label without a class");
  }
}

}  // namespace

void run_idx(Bytes bytes) {
  try {
    const IdxData data = parse_idx(bytes);
    std::int64_t count = 1;
    for (const std::int64_t extent : data.shape) count *= extent;
    require(count == data.size(), "as many elements as the shape has");
    for (std::int64_t i = 0; i < data.size(); i += 1 + data.size() / 16) static_cast<void>(data.integer(i));
  } catch (const DataError&) {
  }
}

void run_cifar(Bytes bytes) {
  for (const Cifar kind : {Cifar::ten, Cifar::hundred}) {
    try {
      const ImageSet images = parse_cifar(bytes, kind);
      require(images.pixels.size() == static_cast<std::size_t>(images.size() * images.image_size()), "whole images");
      for (const std::int64_t label : images.labels)
        require(label >= 0 && label < images.num_classes(), "a known class");
    } catch (const DataError&) {
    }
  }
}

void run_ts(Bytes bytes) {
  try {
    check_series(parse_ts(bytes));
  } catch (const DataError&) {
  }
  try {
    static_cast<void>(parse_ts(bytes, "memory", {.missing = MissingValues::nan}));
  } catch (const DataError&) {
  }
}

void run_arff(Bytes bytes) {
  try {
    check_series(parse_arff(bytes));
  } catch (const DataError&) {
  }
  try {
    static_cast<void>(parse_arff(bytes, "memory", {.missing = MissingValues::nan}));
  } catch (const DataError&) {
  }
}

void run_config(Bytes bytes) {
  struct Settings {
    bool flag = false;
    std::int64_t count = 1;
    double rate = 0.5;
    std::string name = "a";
    std::vector<std::int64_t> sizes = {1, 2};
    std::vector<double> rates = {0.5};
    std::vector<std::string> names = {"x"};
  } s;
  Options options("fuzz");
  options.group("model");
  options.add("flag", &s.flag, "a flag");
  options.add("count", &s.count, "an integer").range(0, 100);
  options.add("rate", &s.rate, "a number").above(0);
  options.add("name", &s.name, "a text").choices({"a", "b"});
  options.group("lists");
  options.add("sizes", &s.sizes, "integers").min(1);
  options.add("rates", &s.rates, "numbers");
  options.add("names", &s.names, "texts");
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  try {
    options.apply_config(parse_config(text, "fuzz.toml"), "fuzz.toml");
  } catch (const UsageError&) {
    return;
  }
  require(s.count >= 0 && s.count <= 100 && s.rate > 0 && (s.name == "a" || s.name == "b"), "a value out of range");
  // What was accepted is written in a form that is accepted again, with the same values.
  const std::string written = options.to_toml();
  const Settings before = s;
  try {
    options.apply_config(parse_config(written, "written.toml"), "written.toml");
  } catch (const UsageError&) {
    broken("a configuration that cannot be read back");
  }
  require(before.count == s.count && before.names == s.names && before.sizes == s.sizes, "other values when read back");
}

}  // namespace solvent::fuzz
