// Data sets by name, and the real files.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/experiments/common/data/cifar.h"
#include "solvent/experiments/common/data/datasets.h"
#include "solvent/experiments/common/data/idx.h"
#include "solvent/experiments/common/data/imagenet32.h"
#include "solvent/experiments/common/data/omniglot.h"
#include "solvent/experiments/common/data/time_series.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/tests/experiments/data_tools.h"

using namespace solvent::experiments;
using namespace solvent::experiments::testing;

namespace fs = std::filesystem;

namespace {

/// A one-channel .ts file with the given data lines.
std::string univariate(const std::string& lines, const std::string& header = "@classLabel true a b\n") {
  return "@problemName P\n@univariate true\n" + header + "@data\n" + lines;
}

}  // namespace

// ---- finding data ---------------------------------------------------------------------------------------------------

TEST_CASE("data: the folder is the option's, else SOLVENT_DATA, else data") {
  {
    const Environment environment("SOLVENT_DATA", "/from/environment");
    CHECK(data_directory("/asked") == "/asked");
    CHECK(data_directory("") == "/from/environment");
  }
  const Environment environment("SOLVENT_DATA", "");
  CHECK(data_directory("") == "data");
}

TEST_CASE("data: a missing set names the places and the command that fetches it") {
  const TemporaryDirectory dir;
  const std::string folder = dir.path().string();
  CHECK_FALSE(has_dataset("acsf1", folder));
  const std::string message = message_of<MissingDataError>([&] { load_dataset("acsf1", folder); });
  CHECK_THAT(message, Contains(folder) && Contains("timeseries/ACSF1_TRAIN.ts") &&
                          Contains("`scripts/get-data acsf1`") && Contains("--data-dir DIR or SOLVENT_DATA"));
  CHECK_THAT(message_of<MissingDataError>([&] { load_dataset("mnist", folder); }),
             Contains("`scripts/get-data mnist`"));
  CHECK_THAT(message_of<MissingDataError>([&] { load_dataset("eigenworms", folder + "/none"); }),
             Contains("`scripts/get-data eigenworms`"));
  CHECK_THAT(message_of<solvent::ValueError>([&] { load_dataset("acfs1", folder); }), Contains("did you mean acsf1?"));
}

TEST_CASE("data: archive sets are found in three layouts and must fit together") {
  const std::string train = univariate("1,2:a\n3,4:b\n5,6:a\n"), test = univariate("7,8:b\n");
  for (const std::string layout : {"timeseries/", "ACSF1/", ""}) {
    const TemporaryDirectory dir;
    dir.write(layout + "ACSF1_TRAIN.ts", train);
    dir.write(layout + "ACSF1_TEST.ts.gz", gzip(test));
    REQUIRE(has_dataset("acsf1", dir.path().string()));
    const DataSplits data = load_dataset("acsf1", dir.path().string());
    CHECK(data.train.size() == 3);
    CHECK(data.test.labels == std::vector<std::int64_t>{1});
    CHECK(load_dataset("acsf1", dir.path().string(), 2).train.size() == 2);
  }
  const TemporaryDirectory dir;
  dir.write("ACSF1_TRAIN.ts", train);
  dir.write("ACSF1_TEST.ts", univariate("1:z\n", "@classLabel true z\n"));
  CHECK_THAT(message_of<DataError>([&] { load_dataset("acsf1", dir.path().string()); }),
             Contains("differ in classes or channels"));
}

TEST_CASE("data: generated orbits need no files and are balanced") {
  const DataSplits data = load_dataset("orbits", "/nowhere", 20);
  CHECK(data.origin == "generated");
  CHECK(data.train.size() == 20);
  CHECK(data.train.class_counts() == std::vector<std::int64_t>{4, 4, 4, 4, 4});
  CHECK(data.test.class_names == data.train.class_names);
  CHECK(data.train.class_names.front() == "e 0.42-0.51");
  CHECK(data.train.class_names.back() == "e 0.00-0.12");
}

// ---- the real files -------------------------------------------------------------------------------------------------

TEST_CASE("real data: ACSF1 and PLAID as their archive describes them") {
  if (skip_without(real_data() / "timeseries/ACSF1_TRAIN.ts.gz")) return;
  const DataSplits acsf1 = load_dataset("acsf1", "");
  for (const SequenceData* part : {&acsf1.train, &acsf1.test}) {
    CHECK(part->name == "ACSF1");
    CHECK(part->size() == 100);
    CHECK(part->min_length() == 1460);
    CHECK(part->max_length() == 1460);
    CHECK(part->class_counts() == std::vector<std::int64_t>(10, 10));
  }
  const DataSplits plaid = load_dataset("plaid", "");
  CHECK(plaid.train.size() == 537);
  CHECK(plaid.test.size() == 537);
  CHECK(plaid.train.num_classes() == 11);
  CHECK(plaid.train.min_length() == 100);
  CHECK(plaid.train.max_length() == 1344);
  CHECK(plaid.test.min_length() == 134);
  CHECK(plaid.test.max_length() == 1000);
  CHECK(plaid.train.series(0)[0] == 0.17339F);
}

TEST_CASE("real data: MNIST") {
  if (skip_without(real_data() / "mnist/train-images-idx3-ubyte.gz")) return;
  const DataSplits series = load_dataset("mnist", "", 1000);
  CHECK(series.train.size() == 1000);
  CHECK(series.train.max_length() == 784);
  const ImageSplits mnist = load_images("mnist", "");
  CHECK(mnist.train.size() == 60000);
  CHECK(mnist.test.size() == 10000);
  CHECK(mnist.train.height == 28);
  CHECK(std::vector<std::int64_t>(mnist.train.labels.begin(), mnist.train.labels.begin() + 8) ==
        std::vector<std::int64_t>{5, 0, 4, 1, 9, 2, 1, 3});
  CHECK(std::vector<std::int64_t>(mnist.test.labels.begin(), mnist.test.labels.begin() + 5) ==
        std::vector<std::int64_t>{7, 2, 1, 0, 4});
  double sum = 0;
  for (const std::uint8_t byte : mnist.train.pixels) sum += byte;
  CHECK(sum / 255 / static_cast<double>(mnist.train.pixels.size()) == Approx(0.1306604762738429));  // as published
}

TEST_CASE("real data: CIFAR-10 and CIFAR-100") {
  if (skip_without(real_data() / "cifar10")) return;
  const ImageSplits ten = load_images("cifar10", "");
  INFO(ten.train.origin);
  // Whatever batches there are, each has 10,000 images.
  CHECK(ten.train.size() % 10000 == 0);
  CHECK_THAT(ten.train.origin, Contains("of 5 batches"));
  CHECK(ten.test.class_counts() == std::vector<std::int64_t>(10, 1000));
  CHECK(ten.test.class_names.front() == "airplane");
  CHECK(std::vector<std::int64_t>(ten.train.labels.begin(), ten.train.labels.begin() + 10) ==
        std::vector<std::int64_t>{6, 9, 9, 4, 1, 1, 2, 7, 8, 3});
  CHECK(std::vector<std::int64_t>(ten.test.labels.begin(), ten.test.labels.begin() + 5) ==
        std::vector<std::int64_t>{3, 8, 8, 0, 6});
  const double published[] = {0.4914, 0.4822, 0.4465};  // of all five batches: a part deviates a little
  for (std::int64_t c = 0; c < 3; ++c) {
    double sum = 0;
    for (std::int64_t i = 0; i < ten.train.size(); ++i) {
      for (std::int64_t k = 0; k < 1024; ++k) {
        sum += ten.train.pixels[static_cast<std::size_t>(i * 3072 + c * 1024 + k)];
      }
    }
    CHECK(sum / 255 / 1024 / static_cast<double>(ten.train.size()) == Approx(published[c]).margin(0.003));
  }
  if (skip_without(real_data() / "cifar100")) return;
  const ImageSplits hundred = load_images("cifar100", "");
  CHECK(hundred.train.num_classes() == 100);
  CHECK(hundred.train.class_names.front() == "apple");
  CHECK(hundred.train.coarse_class_names.front() == "aquatic_mammals");
  const std::vector<std::int64_t> counts = hundred.test.class_counts();
  CHECK(std::all_of(counts.begin(), counts.end(), [&](std::int64_t n) { return n == counts.front(); }));
  // Beavers, dolphins, otters, seals and whales are the aquatic mammals.
  for (std::int64_t i = 0; i < hundred.train.size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (hundred.train.class_names[static_cast<std::size_t>(hundred.train.labels[k])] == "dolphin") {
      CHECK(hundred.train.coarse_labels[k] == 0);
    }
  }
}

TEST_CASE("real data: Omniglot, in all its forms, with its split") {
  const fs::path folder = real_data() / "omniglot";
  if (skip_without(folder / "images_background_28x28.zip")) return;
  const Omniglot zipped = load_omniglot(folder);
  CHECK(zipped.characters.size() == 1623);
  CHECK(zipped.images.size() == 32460);
  const auto classes = [&](OmniglotPart part) { return vinyals_classes(zipped, part).size(); };
  CHECK(classes(OmniglotPart::train) == 4 * 1028);
  CHECK(classes(OmniglotPart::validation) == 4 * 172);
  CHECK(classes(OmniglotPart::test) == 423);
  const TemporaryDirectory idx, small;
  for (const char* set : {"background", "evaluation"}) {
    for (const char* file : {"images-idx3-ubyte.gz", "labels-idx1-short.gz", "classes.tsv"}) {
      const std::string name = std::string("omniglot28-") + set + "-" + file;
      fs::create_symlink(folder / name, idx / name);
    }
  }
  const Omniglot other = load_omniglot(idx.path());
  CHECK(other.images.class_names == zipped.images.class_names);
  CHECK(other.images.labels == zipped.images.labels);
  CHECK(other.images.pixels == zipped.images.pixels);
  // The small sets hold the original 105 x 105 drawings; reduced, they are the same images.
  for (const char* name : {"images_background_small1.zip", "images_background_small2.zip"}) {
    fs::create_symlink(folder / name, small / name);
  }
  const Omniglot reduced = load_omniglot(small.path());
  CHECK(reduced.characters.size() == 242);  // Greek and Latin are in both small sets
  std::int64_t different = 0, compared = 0;
  for (const OmniglotCharacter& c : reduced.characters) {
    const auto it = std::find_if(zipped.characters.begin(), zipped.characters.end(),
                                 [&](const OmniglotCharacter& o) { return o.name() == c.name(); });
    REQUIRE(it != zipped.characters.end());
    for (std::int64_t i = 0; i < c.num_drawings; ++i, ++compared) {
      const auto a = reduced.images.image(c.first + i), b = zipped.images.image(it->first + i);
      different += !std::equal(a.begin(), a.end(), b.begin());
    }
  }
  CHECK(compared == 4840);
  CHECK(different == 0);
}

TEST_CASE("real data: optdigits and a plain text series") {
  if (skip_without(real_data() / "optdigits/optdigits.tra.gz")) return;
  const ImageSplits digits = load_images("optdigits", "");
  CHECK(digits.train.size() == 3823);
  CHECK(digits.test.class_counts() == std::vector<std::int64_t>{178, 182, 177, 183, 181, 182, 181, 179, 174, 180});
  if (skip_without(real_data() / "timeseries/PigCVP_TRAIN.txt.gz")) return;
  const SequenceData pigs = read_ucr_text(real_data() / "timeseries/PigCVP_TRAIN.txt.gz");
  CHECK(pigs.size() == 104);
  CHECK(pigs.class_counts() == std::vector<std::int64_t>(52, 2));
  CHECK(pigs.min_length() == 2000);
  CHECK(pigs.max_length() == 2000);
}

// ---- memory ---------------------------------------------------------------------------------------------------------

TEST_CASE("readers: small files with huge claims stay small in memory") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  WARN("skipped: sanitizers keep freed memory");
#else
  constexpr std::int64_t kLimit = 16 << 20;
  const TemporaryDirectory dir;
  struct Case {
    const char* name;
    std::string bytes;
    std::function<void(const fs::path&)> read;
  };
  const auto ts = [](const fs::path& file) { read_ts(file); };
  const auto arff = [](const fs::path& file) { read_arff(file); };
  const std::string shape = "(16777216, 3072)";
  const std::vector<Case> cases = {
      // gzip may expand a thousandfold, so a header may claim that: it is believed as far as data come.
      {"claim.idx.gz", gzip(idx_bytes({100, 1000}, std::string(50000, 'x')) + std::string(100, 'y')),
       [](const fs::path& file) { read_idx(file); }},
      {"claim.idx", idx_bytes({0x7fffffff}, std::string(1000, 'x')), [](const fs::path& file) { read_idx(file); }},
      {"line.ts.gz", gzip(std::string(40U << 20U, ' ')), ts},
      {"line.arff.xz", xz(std::string(40U << 20U, ' ')), arff},
      {"channels.ts", "@dimensions 1000000000\n@classLabel true a\n@data\n1:a\n", ts},
      {"batch.npz",
       solvent::tests::zip_bytes(
           {{.name = "data.npy", .content = npy_bytes("|u1", shape, "")}, {.name = "labels.npy", .content = "x"}}),
       [](const fs::path& file) { read_imagenet32(file); }},
      {"count.zip", solvent::tests::zip_bytes({}, {.count = 100000000, .bytes = 0, .zip64 = true}),
       [](const fs::path& file) { read_imagenet32(file); }},
      {"a.bin.gz", gzip(std::string(1000, '\xff')), [](const fs::path& file) { read_cifar(file, Cifar::ten); }},
  };
  for (const Case& c : cases) {
    const fs::path file = dir.write(c.name, c.bytes);
    std::string message;
    const std::int64_t grown = peak_growth([&] { message = message_of<DataError>([&] { c.read(file); }); });
    INFO(c.name << ": " << (grown >> 10) << " KiB: " << message);
    CHECK(message != "(nothing was thrown)");
    CHECK(grown < static_cast<std::int64_t>(c.bytes.size()) + kLimit);
  }
#endif
}
