// Readers of images: CIFAR, tar, PNG, Omniglot, ImageNet32, optdigits.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/experiments/common/data/cifar.h"
#include "solvent/experiments/common/data/imagenet32.h"
#include "solvent/experiments/common/data/omniglot.h"
#include "solvent/experiments/common/data/optdigits.h"
#include "solvent/experiments/common/data/png_reader.h"
#include "solvent/experiments/common/data/tar_reader.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/tests/experiments/data_tools.h"

using namespace solvent::experiments;
using namespace solvent::experiments::testing;
using solvent::tests::zip_bytes;
using solvent::tests::ZipItem;

namespace fs = std::filesystem;

namespace {

std::string ten(int label, int value) { return cifar_record(std::string(1, static_cast<char>(label)), value); }

std::string hundred(int coarse, int fine, int value) {
  return cifar_record({static_cast<char>(coarse), static_cast<char>(fine)}, value);
}

}  // namespace

// ---- CIFAR ----------------------------------------------------------------------------------------------------------

TEST_CASE("cifar: records of both sets") {
  const std::string two = ten(3, 7) + ten(9, 250);
  const ImageSet set = parse_cifar(span_of(two), Cifar::ten);
  CHECK(set.size() == 2);
  CHECK(set.labels == std::vector<std::int64_t>{3, 9});
  CHECK(set.image_size() == 3072);
  CHECK(set.image(0)[0] == 7);
  CHECK(set.image(1)[3071] == static_cast<std::uint8_t>(250 + 3071));
  CHECK(set.class_counts()[9] == 1);
  const std::string fine = hundred(19, 99, 1);
  const ImageSet other = parse_cifar(span_of(gzip(fine)), Cifar::hundred);
  CHECK(other.labels == std::vector<std::int64_t>{99});
  CHECK(other.coarse_labels == std::vector<std::int64_t>{19});
  CHECK_THROWS_AS(set.image(2), solvent::ValueError);
}

TEST_CASE("cifar: damaged files are refused with record and expectation") {
  struct Case {
    std::string bytes, expected;
    Cifar kind = Cifar::ten;
  };
  const std::string good = ten(1, 0) + ten(2, 0);
  const std::vector<Case> cases = {
      {"", "bad is empty"},
      {good.substr(0, 3072), "the file ends inside record 0; expected records of 3073 bytes"},
      {good.substr(0, 5000), "the file ends inside record 1"},
      {ten(1, 0) + ten(10, 0), "record 1: class label 10; expected 0 to 9. Is it the binary version?"},
      {hundred(20, 0, 0), "record 0: coarse label 20; expected 0 to 19", Cifar::hundred},
      {hundred(0, 100, 0), "record 0: fine label 100; expected 0 to 99", Cifar::hundred},
      {good, "inside record 1; expected records of 3074 bytes", Cifar::hundred},
      {xz(good).substr(0, 60), "truncated or corrupt"},
  };
  for (const Case& c : cases) {
    CHECK_THAT(message_of<DataError>([&] { parse_cifar(span_of(c.bytes), c.kind, "bad"); }), Contains(c.expected));
  }
}

TEST_CASE("cifar: a folder with some batches says how many, an archive is read as a stream") {
  const TemporaryDirectory dir;
  const std::string names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n";
  CHECK_FALSE(has_cifar(dir.path(), Cifar::ten));
  CHECK_THAT(message_of<MissingDataError>([&] { load_cifar(dir.path(), Cifar::ten); }),
             Contains("`scripts/get-data cifar10`") && Contains("cifar10/data_batch_1.bin"));
  const std::string tar = tar_bytes({{.name = "cifar-10-batches-bin/", .content = "", .type = '5'},
                                     {.name = "cifar-10-batches-bin/data_batch_2.bin", .content = ten(2, 0)},
                                     {.name = "cifar-10-batches-bin/readme.html", .content = "<html>"},
                                     {.name = "cifar-10-batches-bin/batches.meta.txt", .content = names},
                                     {.name = "cifar-10-batches-bin/test_batch.bin", .content = ten(9, 1)},
                                     {.name = "cifar-10-batches-bin/data_batch_1.bin", .content = ten(1, 0)}});
  dir.write("cifar10/cifar-10-binary.tar.gz", gzip(tar));
  const ImageSplits streamed = load_cifar(dir.path(), Cifar::ten);
  CHECK(streamed.train.labels == std::vector<std::int64_t>{1, 2});
  CHECK(streamed.test.labels == std::vector<std::int64_t>{9});
  CHECK(streamed.train.class_names[9] == "j");
  CHECK_THAT(streamed.train.origin, Contains("2 of 5 batches, 2 images"));

  for (const int batch : {1, 3}) {
    dir.write("cifar10/data_batch_" + std::to_string(batch) + ".bin.xz", xz(ten(4, 0) + ten(batch, 0)));
  }
  dir.write("cifar10/test_batch.bin.gz", gzip(ten(7, 1)));
  CHECK(load_cifar(dir.path(), Cifar::ten).train.labels == std::vector<std::int64_t>{1, 2});  // the archive has more
  fs::remove(dir / "cifar10/cifar-10-binary.tar.gz");
  dir.write("cifar10/batches.meta.txt", names);
  const ImageSplits files = load_cifar(dir.path(), Cifar::ten);
  CHECK(files.train.labels == std::vector<std::int64_t>{4, 1, 4, 3});
  CHECK(files.test.labels == std::vector<std::int64_t>{7});
  CHECK(files.test.class_names[0] == "a");
  CHECK_THAT(files.train.origin, Contains("2 of 5 batches, 4 images"));

  dir.write("cifar100/train.bin", hundred(1, 2, 0));
  dir.write("cifar100/test.bin", hundred(3, 4, 0));
  const ImageSplits fine = load_cifar(dir.path(), Cifar::hundred);
  CHECK(fine.train.labels == std::vector<std::int64_t>{2});
  CHECK(fine.test.coarse_labels == std::vector<std::int64_t>{3});
  CHECK(fine.train.class_names.size() == 100);
}

TEST_CASE("cifar: an archive without the batches is refused") {
  const TemporaryDirectory dir;
  dir.write("cifar-10-binary.tar.gz", gzip(tar_bytes({{.name = "a/readme", .content = "x"}})));
  CHECK_THAT(message_of<DataError>([&] { load_cifar(dir.path(), Cifar::ten); }),
             Contains("holds 0 training and 0 test images"));
}

// ---- tar ------------------------------------------------------------------------------------------------------------

TEST_CASE("tar: members, folders, long names, sizes") {
  const std::string long_name(150, 'n');
  const std::string bytes = tar_bytes({{.name = "a/b", .content = "hello"},
                                       {.name = "a/", .content = "", .type = '5'},
                                       {.name = "././@LongLink", .content = long_name + '\0', .type = 'L'},
                                       {.name = long_name, .content = std::string(1000, 'x')},
                                       {.name = "empty", .content = ""}});
  InputStream stream(span_of(bytes), "t.tar");
  TarReader tar(stream);
  REQUIRE(tar.next());
  CHECK(tar.name() == "a/b");
  CHECK(tar.size() == 5);
  char text[10] = {};
  CHECK(tar.read(text, 3) == 3);
  CHECK(tar.read(text, 10) == 2);
  CHECK(std::string(text, 2) == "lo");
  REQUIRE(tar.next());
  CHECK(tar.name() == long_name);
  REQUIRE(tar.next());  // the content of the one before is skipped
  CHECK(tar.name() == "empty");
  CHECK(tar.read(text, 10) == 0);
  CHECK_FALSE(tar.next());
}

TEST_CASE("tar: damaged archives are refused") {
  const auto walk = [](std::span<const std::byte> bytes) {
    InputStream stream(bytes, "t.tar");
    std::string data(100, '\0');
    for (TarReader tar(stream); tar.next();) {
      while (tar.read(data.data(), data.size()) > 0) {
      }
    }
  };
  const std::string good = tar_bytes({{.name = "a", .content = std::string(700, 'x')}, {.name = "b", .content = "y"}});
  walk(span_of(good));
  struct Case {
    std::string bytes, expected;
  };
  std::string huge = good;
  huge.replace(124, 11, "77777777777");
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(huge[i]);
  std::string octal;
  for (int i = 5; i >= 0; --i) octal += static_cast<char>('0' + (sum >> (3 * i) & 7U));
  huge.replace(148, 6, octal);
  std::string flipped = good;
  flipped[3] = 'q';
  for (const Case& c : std::vector<Case>{{"", "ends without its end mark"},
                                         {good.substr(0, 300), "ends without its end mark"},
                                         {good.substr(0, 800), "the archive ends inside \"a\""},
                                         {good.substr(0, good.size() - 1024), "ends without its end mark"},
                                         {flipped, "a damaged header"},
                                         {huge, "claims 8589934591 bytes, more than the archive can hold"},
                                         {std::string(600, 'z'), "a damaged header; expected a tar archive"}}) {
    CHECK_THAT(message_of<DataError>([&] { walk(span_of(c.bytes)); }), Contains("t.tar") && Contains(c.expected));
  }
  CHECK(count_refused<DataError>(good, 2000, 21, walk) > 500);
}

// ---- PNG ------------------------------------------------------------------------------------------------------------

TEST_CASE("png: bit depths and palettes") {
  const GreyImage bits = parse_png(span_of(png_bytes(2, 10, std::string("\0\xaa\x80\0\x55\x40", 6))));
  CHECK(bits.height == 2);
  CHECK(bits.width == 10);
  CHECK(std::vector<std::uint8_t>(bits.pixels.begin(), bits.pixels.begin() + 10) ==
        std::vector<std::uint8_t>{255, 0, 255, 0, 255, 0, 255, 0, 255, 0});
  CHECK(bits.pixels[11] == 255);
  const GreyImage quarter = parse_png(span_of(png_bytes(1, 3, std::string("\0\x1b", 2), {.bits = 2})));
  CHECK(quarter.pixels == std::vector<std::uint8_t>{0, 85, 170});
  const GreyImage nibble = parse_png(span_of(png_bytes(1, 2, std::string("\0\x0f", 2), {.bits = 4})));
  CHECK(nibble.pixels == std::vector<std::uint8_t>{0, 255});
  const PngOptions palette{.bits = 1, .colour = 3, .palette = std::string("\x07\x07\x07\x63\x63\x63", 6)};
  CHECK(parse_png(span_of(png_bytes(1, 2, std::string("\0\x40", 2), palette))).pixels ==
        std::vector<std::uint8_t>{7, 99});
}

TEST_CASE("png: all five filters") {
  // The same 3 x 4 image with every row filtered in every way, worked out from the definitions.
  const std::vector<std::vector<int>> image = {{10, 200, 30, 40}, {250, 60, 7, 80}, {90, 100, 255, 1}};
  for (int filter = 0; filter <= 4; ++filter) {
    std::string rows;
    for (std::size_t y = 0; y < 3; ++y) {
      rows += static_cast<char>(filter);
      for (std::size_t x = 0; x < 4; ++x) {
        const int a = x > 0 ? image[y][x - 1] : 0, b = y > 0 ? image[y - 1][x] : 0;
        const int c = x > 0 && y > 0 ? image[y - 1][x - 1] : 0, p = a + b - c;
        const int pa = std::abs(p - a), pb = std::abs(p - b), pc = std::abs(p - c);
        const int paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
        const int predicted[] = {0, a, b, (a + b) / 2, paeth};
        rows += static_cast<char>(image[y][x] - predicted[filter]);
      }
    }
    INFO("filter " << filter);
    CHECK(parse_png(span_of(png_bytes(3, 4, rows, {.bits = 8}))).pixels ==
          std::vector<std::uint8_t>{10, 200, 30, 40, 250, 60, 7, 80, 90, 100, 255, 1});
  }
}

TEST_CASE("png: damaged and unsupported images are refused") {
  const std::string rows("\0\x80\0\x40", 4), good = png_bytes(2, 2, rows);
  struct Case {
    std::string bytes, expected;
  };
  std::string flipped = good;
  flipped[good.size() - 20] = static_cast<char>(flipped[good.size() - 20] ^ 1);
  const std::string start = good.substr(0, 33);
  const std::vector<Case> cases = {
      {"", "does not start as a PNG image"},
      {"GIF89a...", "does not start as a PNG image"},
      {good.substr(0, good.size() - 12), "ends before the chunk IEND"},
      {start + big_endian(0xffffffff) + "IDAT1234", "a chunk that goes beyond its end"},
      {start + png_chunk("12AB", "x"), "whose type is no letters"},
      {start + png_chunk("ABCD", "x") + png_chunk("IEND", ""), "the unknown critical chunk ABCD"},
      {flipped, "with a wrong checksum"},
      {png_bytes(2, 2, rows, {.bits = 16}), "has colour type 0, 16 bits and interlacing 0"},
      {png_bytes(2, 2, rows, {.bits = 8, .colour = 2}), "has colour type 2"},
      {png_bytes(2, 2, rows, {.interlace = 1}), "interlacing 1"},
      {png_bytes(0, 2, rows), "claims 0 x 2 pixels; expected 1 to 4096"},
      {png_bytes(5000, 2, rows), "claims 5000 x 2 pixels"},
      {png_bytes(2, 2, rows, {.colour = 3}), "has no palette"},
      {png_bytes(2, 2, rows, {.colour = 3, .palette = "abc"}), "has colours; expected a grey image"},
      {png_bytes(2, 2, rows, {.colour = 3, .palette = "aa"}), "has a damaged palette"},
      {png_bytes(2, 2, rows, {.colour = 3, .palette = "aaa"}), "uses a colour outside its palette"},
      {png_bytes(2, 2, rows.substr(0, 3)), "lacks 1 of 4 bytes of pixels"},
      {png_bytes(2, 2, rows + "x"), "holds more data than pixels"},
      {png_bytes(2, 2, std::string("\5\x80\0\x40", 4)), "has row 0 with filter 5; expected 0 to 4"},
      {png_bytes(2, 2, std::string(20000000, '\0')), "holds more data than pixels"},
  };
  for (const Case& c : cases) {
    CHECK_THAT(message_of<DataError>([&] { parse_png(span_of(c.bytes), "a.png"); }),
               Contains("a.png") && Contains(c.expected));
  }
  CHECK(parse_png(span_of(png_bytes(2, 2, rows, {.extra = png_chunk("tEXt", "hello")}))).pixels.size() == 4);
  CHECK(count_refused<DataError>(good, 2000, 31, [](auto bytes) { parse_png(bytes); }) > 1500);
}

// ---- Omniglot -------------------------------------------------------------------------------------------------------

namespace {

/// Two characters of Greek, one of Hebrew (background), one of Tengwar (evaluation), two drawings each.
std::vector<ZipItem> drawings(const std::string& set, std::uint32_t size = 28) {
  std::vector<ZipItem> items = {{.name = set + "/", .content = ""}};
  const std::vector<std::string> characters =
      set == "images_background"
          ? std::vector<std::string>{"Greek/character02", "Greek/character01", "Hebrew/character01"}
          : std::vector<std::string>{"Tengwar/character01"};
  std::uint32_t row = 0;
  for (const std::string& character : characters) {
    for (const char* file : {"0002_02.png", "0002_01.png"}) {
      items.push_back({.name = set + "/" + character + "/" + file, .content = drawing_png(size, row++, 5)});
    }
  }
  items.push_back({.name = "__MACOSX/" + set + "/Greek/character01/._0001_01.png", .content = "resource fork"});
  return items;
}

void check_drawings(const Omniglot& data) {
  REQUIRE(data.characters.size() == 4);
  CHECK(data.images.class_names == std::vector<std::string>{"Greek/character01", "Greek/character02",
                                                            "Hebrew/character01", "Tengwar/character01"});
  CHECK(data.images.labels == std::vector<std::int64_t>{0, 0, 1, 1, 2, 2, 3, 3});
  CHECK(data.characters[1].first == 2);
  CHECK(data.characters[1].num_drawings == 2);
  CHECK(data.characters[2].is_background);
  CHECK_FALSE(data.characters[3].is_background);
  // Greek/character01 was written third and fourth, its drawing 02 first.
  const auto image = data.images.image(0);
  CHECK(image[3 * 28 + 5] == 255);
  CHECK(std::count(image.begin(), image.end(), 0) == 783);
}

}  // namespace

TEST_CASE("omniglot: zip files, trees and idx files hold the same drawings") {
  const TemporaryDirectory zipped, tree, idx;
  CHECK_FALSE(has_omniglot(zipped.path()));
  CHECK_THAT(message_of<MissingDataError>([&] { load_omniglot(zipped.path()); }),
             Contains("`scripts/get-data omniglot`"));
  for (const std::string set : {"images_background", "images_evaluation"}) {
    zipped.write("omniglot/" + set + ".zip", zip_bytes(drawings(set)));
    for (const ZipItem& item : drawings(set)) {
      if (item.name.ends_with(".png") && !item.name.starts_with("__")) tree.write(item.name, item.content);
    }
  }
  CHECK(has_omniglot(zipped.path()));
  const Omniglot data = load_omniglot(zipped.path());
  check_drawings(data);
  check_drawings(load_omniglot(tree.path()));
  for (const bool background : {true, false}) {
    const std::string stem = std::string("omniglot28-") + (background ? "background" : "evaluation");
    std::string images, numbers, classes;
    std::uint32_t count = 0, index = 0;
    for (const OmniglotCharacter& c : data.characters) {
      if (c.is_background != background) continue;
      for (std::int64_t i = c.first; i < c.first + c.num_drawings; ++i, ++count) {
        images.append(reinterpret_cast<const char*>(data.images.image(i).data()), 784);
        numbers += big_endian(index, 2);
      }
      classes += std::to_string(index) + "\t0001\t" + c.alphabet + "\tcharacter0" + std::to_string(c.number) + "\n";
      ++index;
    }
    idx.write(stem + "-images-idx3-ubyte.gz", gzip(idx_bytes({count, 28, 28}, images)));
    idx.write(stem + "-labels-idx1-short.gz", gzip(idx_bytes({count}, numbers, 0x0b)));
    idx.write(stem + "-classes.tsv", classes);
  }
  check_drawings(load_omniglot(idx.path()));
  idx.write("omniglot28-background-classes.tsv", "1\tx\n");
  CHECK_THAT(message_of<DataError>([&] { load_omniglot(idx.path()); }), Contains("classes.tsv:1:"));
}

TEST_CASE("omniglot: other sizes are reduced to the nearest pixel, or kept") {
  const TemporaryDirectory dir;
  dir.write("images_background_small1.zip",
            zip_bytes({{.name = "x/Greek/character01/0001_01.png", .content = drawing_png(105, 5, 9)}}));
  const Omniglot small = load_omniglot(dir.path());
  CHECK(small.images.height == 28);
  CHECK(small.images.image(0)[1 * 28 + 2] == 255);  // centre of pixel 1: 1.5 * 105 / 28 = 5.6; of pixel 2: 9.4
  CHECK(load_omniglot(dir.path(), {.size = 0}).images.image(0)[5 * 105 + 9] == 255);
  dir.write("images_background_small2.zip",
            zip_bytes({{.name = "x/Greek/character02/0001_01.png", .content = drawing_png(28, 5, 9)}}));
  CHECK(load_omniglot(dir.path()).images.size() == 2);
  CHECK_THAT(message_of<DataError>([&] { load_omniglot(dir.path(), {.size = 0}); }),
             Contains("expected square drawings of one size"));
  const ZipItem drawing{.name = "x/Greek/character01/0001_01.png", .content = drawing_png(28, 5, 9)};
  dir.write("images_background_small2.zip", zip_bytes({drawing}));
  CHECK(load_omniglot(dir.path()).images.size() == 1);  // the two small sets have characters in common
  dir.write("images_background_small1.zip", zip_bytes({drawing, drawing}));
  CHECK_THAT(message_of<DataError>([&] { load_omniglot(dir.path()); }),
             Contains("Greek/character01/0001_01.png is there twice"));
}

TEST_CASE("omniglot: damaged archives end in a DataError that names the member") {
  const TemporaryDirectory dir;
  const auto load = [&](const std::string& bytes) {
    dir.write("images_background.zip", bytes);
    return message_of<DataError>([&] { load_omniglot(dir.path()); });
  };
  CHECK_THAT(load("no zip"), Contains("images_background.zip") && Contains("Fetch it again"));
  CHECK_THAT(load(zip_bytes({{.name = "readme", .content = "x"}})), Contains("holds no <alphabet>/characterNN/*.png"));
  CHECK_THAT(load(zip_bytes({{.name = "a/Greek/character01/1.png", .content = "no png"}})),
             Contains("Greek/character01/1.png does not start as a PNG"));
  // Two megabytes of zeros where a drawing is expected.
  const std::string zeros(2 << 20, '\0');
  CHECK_THAT(
      load(zip_bytes(
          {{.name = "a/Greek/character01/1.png", .content = zeros, .packed = deflated(zeros, -15), .method = 8}})),
      Contains("unpacks to 2097152 bytes; expected at most 1048576"));
}

TEST_CASE("omniglot: parts of the split of Vinyals et al. and rotated classes") {
  const auto part = [](const std::string& alphabet, int number, bool background) {
    return vinyals_part({alphabet, number, background, 0, 20});
  };
  CHECK(part("Greek", 1, true) == OmniglotPart::train);
  CHECK(part("Hebrew", 1, true) == OmniglotPart::validation);
  CHECK(part("Angelic", 1, false) == OmniglotPart::train);
  CHECK(part("Gurmukhi", 41, false) == OmniglotPart::train);
  CHECK(part("Gurmukhi", 42, false) == OmniglotPart::test);
  CHECK(part("ULOG", 26, false) == OmniglotPart::test);
  const TemporaryDirectory dir;
  for (const std::string set : {"images_background", "images_evaluation"})
    dir.write(set + ".zip", zip_bytes(drawings(set)));
  const Omniglot data = load_omniglot(dir.path());
  CHECK(vinyals_classes(data, OmniglotPart::train).size() == 8);
  CHECK(vinyals_classes(data, OmniglotPart::validation).size() == 4);
  const auto test = vinyals_classes(data, OmniglotPart::test);
  REQUIRE(test.size() == 1);
  CHECK(test[0].character == 3);
  CHECK(test[0].quarter_turns == 0);
  const std::vector<std::uint8_t> image = {1, 2, 3, 4};
  CHECK(rotate_image(image, 2, 0) == image);
  CHECK(rotate_image(image, 2, 1) == std::vector<std::uint8_t>{2, 4, 1, 3});
  CHECK(rotate_image(image, 2, 2) == std::vector<std::uint8_t>{4, 3, 2, 1});
  CHECK(rotate_image(image, 2, 3) == std::vector<std::uint8_t>{3, 1, 4, 2});
  CHECK_THROWS_AS(rotate_image(image, 3, 1), solvent::ValueError);
}

// ---- ImageNet32 -----------------------------------------------------------------------------------------------------

TEST_CASE("imagenet32: batches, layouts, and a subset of the classes") {
  const TemporaryDirectory dir;
  CHECK_THAT(message_of<MissingDataError>([&] { load_imagenet32(dir.path()); }),
             Contains("It needs an account: `scripts/get-data imagenet32`"));
  dir.write("imagenet32/train_data_batch_1.npz", imagenet32_bytes({1, 1000, 5}));
  dir.write("imagenet32/train_data_batch_3.npz", imagenet32_bytes({7}));
  dir.write("imagenet32/val_data.npz", imagenet32_bytes({2}));
  const ImageSplits all = load_imagenet32(dir.path());
  CHECK(all.train.labels == std::vector<std::int64_t>{0, 999, 4, 6});
  CHECK(all.train.image(1)[5] == 1);
  CHECK_THAT(all.train.origin, Contains("2 of 10 batches, 4 images"));
  CHECK(all.test.labels == std::vector<std::int64_t>{1});
  const ImageSplits some = load_imagenet32(dir.path(), {.classes = {999, 4}});
  CHECK(some.train.labels == std::vector<std::int64_t>{0, 1});
  CHECK(some.train.image(1)[0] == 2);
  CHECK(some.train.class_names == std::vector<std::string>{"999", "4"});
  CHECK_THROWS_AS(load_imagenet32(dir.path(), {.classes = {1000}}), solvent::ValueError);
  CHECK_THROWS_AS(load_imagenet32(dir.path(), {.classes = {1, 1}}), solvent::ValueError);

  const TemporaryDirectory other;
  other.write("out_data_train/train_data_batch_10.npz", imagenet32_bytes({1}));
  other.write("out_data_val/train_data_batch_1.npz", imagenet32_bytes({3}));
  CHECK(load_imagenet32(other.path()).test.labels == std::vector<std::int64_t>{2});
}

TEST_CASE("imagenet32: damaged batches are refused") {
  const std::string rows(3072, 'x');
  const auto batch = [](const std::string& data, const std::string& labels) {
    return zip_bytes({{.name = "data.npy", .content = data}, {.name = "labels.npy", .content = labels}});
  };
  const std::string one = npy_bytes("|u1", "(1, 3072)", rows), label = npy_bytes("<i8", "(1,)", std::string(8, '\1'));
  struct Case {
    std::string bytes, expected;
  };
  for (const Case& c : std::vector<Case>{
           {imagenet32_bytes({0}), "label 0 is 0; expected 1 to 1000"},
           {imagenet32_bytes({1001}), "label 0 is 1001"},
           {batch(npy_bytes("|u1", "(2, 1536)", rows), label), "data is uint8 (2, 1536) and labels int64 (1,)"},
           {batch(one, npy_bytes("<i8", "(2,)", std::string(16, '\1'))), "expected uint8 (n, 3072) and int64 (n)"},
           {zip_bytes({{.name = "data.npy", .content = one}}), "holds no array 'labels'; there are: data"},
           {"no zip", "Fetch it again"}}) {
    CHECK_THAT(message_of<DataError>([&] { parse_imagenet32(span_of(c.bytes), "b.npz"); }),
               Contains("b.npz") && Contains(c.expected));
  }
  CHECK(count_refused<DataError>(imagenet32_bytes({5, 6}), 300, 41, [](auto bytes) { parse_imagenet32(bytes); }) > 150);
}

// ---- optdigits ------------------------------------------------------------------------------------------------------

TEST_CASE("optdigits: lines of 64 pixels and a digit") {
  std::string line;
  for (int i = 0; i < 64; ++i) line += std::to_string(i % 17) + ",";
  const std::string text = line + "7\r\n" + line + "0\n\n";
  const ImageSet set = parse_optdigits(span_of(text));
  CHECK(set.labels == std::vector<std::int64_t>{7, 0});
  CHECK(set.max_value == 16);
  CHECK(set.image(1)[16] == 16);
  struct Case {
    std::string text, expected;
  };
  for (const Case& c : std::vector<Case>{{"", "bad is empty"},
                                         {line + "10\n", "bad:1: number 65 is \"10\""},
                                         {line + "1,1\n", "number 66 is \"1\""},
                                         {line + "\n", "number 65 is \"\""},
                                         {"1,2\n", "2 numbers; expected 64 pixels and a digit"},
                                         {"17," + line + "\n", "number 1 is \"17\"; expected 64 integers 0 to 16"},
                                         {"-1," + line + "\n", "number 1 is \"-1\""},
                                         {"nan," + line + "\n", "number 1 is \"nan\""}}) {
    CHECK_THAT(message_of<DataError>([&] { parse_optdigits(span_of(c.text), "bad"); }), Contains(c.expected));
  }
}

TEST_CASE("image sets: subsets and classes") {
  const std::string bytes = hundred(1, 10, 0) + hundred(2, 20, 1) + hundred(3, 30, 2);
  const ImageSet set = parse_cifar(span_of(bytes), Cifar::hundred);
  const std::vector<std::int64_t> back = {2, 0}, classes = {30, 10}, wrong = {3}, twice = {1, 1};
  CHECK(subset(set, back).labels == std::vector<std::int64_t>{30, 10});
  CHECK(subset(set, back).image(0)[0] == 2);
  CHECK_THROWS_AS(subset(set, wrong), solvent::ValueError);
  const ImageSet chosen = select_classes(set, classes);
  CHECK(chosen.labels == std::vector<std::int64_t>{1, 0});
  CHECK(chosen.class_names == std::vector<std::string>{"30", "10"});
  CHECK(chosen.coarse_labels == std::vector<std::int64_t>{1, 3});
  CHECK_THROWS_AS(select_classes(set, twice), solvent::ValueError);
}
