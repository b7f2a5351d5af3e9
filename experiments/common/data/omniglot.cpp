#include "solvent/experiments/common/data/omniglot.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/zip.h"
#include "solvent/experiments/common/data/idx.h"
#include "solvent/experiments/common/data/png_reader.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMaxPngBytes = 1U << 20U;

/// (not background, alphabet, number): sorts as the classes do.
using CharacterKey = std::tuple<bool, std::string, int>;

struct Drawing {
  CharacterKey character;
  std::string file;  // orders the drawings of a character
  GreyImage image;   // ink 255
};

/// "<anything>/<alphabet>/characterNN/<file>.png"; nothing for other names.
std::optional<std::pair<CharacterKey, std::string>> parse_path(std::string_view path, bool is_background) {
  const std::vector<std::string_view> parts = split(path, '/');
  if (parts.size() < 3 || !parts.back().ends_with(".png") || parts.back().starts_with(".")) return std::nullopt;
  constexpr std::string_view kFolder = "character";
  const std::string_view folder = parts[parts.size() - 2], alphabet = parts[parts.size() - 3];
  if (!folder.starts_with(kFolder) || alphabet.empty() || alphabet == "__MACOSX") return std::nullopt;
  const auto number = parse_integer(folder.substr(kFolder.size()));
  if (!number || *number < 1 || *number > 999 || !is_utf8(alphabet)) return std::nullopt;
  return std::pair(CharacterKey(!is_background, alphabet, static_cast<int>(*number)), std::string(parts.back()));
}

class Collector {
 public:
  explicit Collector(const OmniglotOptions& options) : options_(options) {}

  void add(CharacterKey character, std::string file, GreyImage image, const std::string& where) {
    const std::int64_t size = options_.size == 0 ? image.height : options_.size;
    if (image.height != image.width || (size_ != 0 && size != size_)) {
      throw DataError(fmt::format("[load_omniglot] {} has {} x {} pixels; expected square drawings of one size", where,
                                  image.height, image.width));
    }
    size_ = size;
    if (image.height != size) image = reduce(image, size);
    drawings_.push_back({std::move(character), std::move(file), std::move(image)});
  }

  void add_png(CharacterKey character, std::string file, std::span<const std::byte> bytes, const std::string& where) {
    GreyImage image = parse_png(bytes, where);
    for (std::uint8_t& pixel : image.pixels) pixel = static_cast<std::uint8_t>(255 - pixel);  // ink is black there
    add(std::move(character), std::move(file), std::move(image), where);
  }

  [[nodiscard]] bool empty() const { return drawings_.empty(); }
  /// Drawings of the characters found so far are left out from now on.
  void close_characters() {
    for (const Drawing& drawing : drawings_) closed_.insert(drawing.character);
  }
  [[nodiscard]] bool is_closed(const CharacterKey& character) const { return closed_.count(character) > 0; }

  Omniglot finish(const std::string& origin) {
    std::sort(drawings_.begin(), drawings_.end(), [](const Drawing& a, const Drawing& b) {
      return std::tie(a.character, a.file) < std::tie(b.character, b.file);
    });
    Omniglot data;
    ImageSet& images = data.images;
    images.name = "omniglot";
    images.height = images.width = size_;
    images.origin = fmt::format("{} ({} drawings)", origin, drawings_.size());
    for (std::size_t i = 0; i < drawings_.size(); ++i) {
      const Drawing& drawing = drawings_[i];
      const auto& [is_evaluation, alphabet, number] = drawing.character;
      if (i > 0 && drawing.character == drawings_[i - 1].character && drawing.file == drawings_[i - 1].file) {
        throw DataError(fmt::format("[load_omniglot] {}: {}/character{:02}/{} is there twice", origin, alphabet, number,
                                    drawing.file));
      }
      if (i == 0 || drawing.character != drawings_[i - 1].character) {
        data.characters.push_back({alphabet, number, !is_evaluation, static_cast<std::int64_t>(i), 0});
        images.class_names.push_back(data.characters.back().name());
      }
      ++data.characters.back().num_drawings;
      images.labels.push_back(static_cast<std::int64_t>(data.characters.size()) - 1);
      images.pixels.insert(images.pixels.end(), drawing.image.pixels.begin(), drawing.image.pixels.end());
    }
    return data;
  }

 private:
  /// Nearest neighbour of each pixel's centre.
  static GreyImage reduce(const GreyImage& image, std::int64_t size) {
    GreyImage result{size, size, {}};
    const auto source = [&](std::int64_t i) { return (2 * i + 1) * image.height / (2 * size); };
    for (std::int64_t y = 0; y < size; ++y) {
      for (std::int64_t x = 0; x < size; ++x) {
        result.pixels.push_back(image.pixels[static_cast<std::size_t>(source(y) * image.width + source(x))]);
      }
    }
    return result;
  }

  const OmniglotOptions& options_;
  std::vector<Drawing> drawings_;
  std::set<CharacterKey> closed_;
  std::int64_t size_ = 0;
};

void report(const OmniglotOptions& options, const std::string& name, std::size_t done, std::size_t total) {
  constexpr std::size_t kEvery = 1024;
  if (options.progress && (done % kEvery == 0 || done == total)) options.progress(name, done, total);
}

void add_tree(const fs::path& root, bool is_background, const OmniglotOptions& options, Collector& into) {
  std::vector<fs::path> files;
  try {
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      if (entry.is_regular_file() && entry.path().extension() == ".png") files.push_back(entry.path());
    }
  } catch (const fs::filesystem_error& error) {
    throw DataError(fmt::format("[load_omniglot] {}: {}; check its permissions", root.string(), error.what()));
  }
  std::size_t done = 0;
  for (const fs::path& file : files) {
    const auto key = parse_path(file.generic_string(), is_background);
    if (key) {
      std::error_code error;
      if (fs::file_size(file, error) > kMaxPngBytes) {
        throw DataError(fmt::format("[load_omniglot] {} has more than {} bytes", file.string(), kMaxPngBytes));
      }
      const std::string bytes = read_file(file.string());
      into.add_png(key->first, key->second, std::as_bytes(std::span(bytes)), file.string());
    }
    report(options, root.string(), ++done, files.size());
  }
}

void add_zip(const fs::path& file, bool is_background, const OmniglotOptions& options, Collector& into) {
  try {
    const ZipArchive archive(file.string());
    std::size_t done = 0;
    for (const ZipEntry& entry : archive.entries()) {
      if (const auto key = parse_path(entry.name, is_background); key && !into.is_closed(key->first)) {
        const std::vector<std::byte> bytes = archive.read(entry, kMaxPngBytes);
        into.add_png(key->first, key->second, bytes, file.string() + ":" + std::string(entry.name));
      }
      report(options, file.string(), ++done, archive.entries().size());
    }
  } catch (const DataError&) {
    throw;
  } catch (const IoError& error) {
    throw DataError(fmt::format("{}. Fetch it again.", error.what()));
  }
}

/// Lines "class \t number in the whole set \t alphabet \t characterNN".
std::vector<CharacterKey> read_classes(const fs::path& file, bool is_background) {
  InputStream stream(file);
  std::vector<CharacterKey> classes;
  for (std::string line; stream.read_line(line);) {
    const std::vector<std::string_view> fields = split(line, '\t');
    const auto index = parse_integer(fields[0]);
    const auto key = fields.size() == 4
                         ? parse_path(fmt::format("{}/{}/x.png", fields[2], trim(fields[3])), is_background)
                         : std::nullopt;
    if (!key || !index || *index != static_cast<std::int64_t>(classes.size())) {
      throw DataError(
          fmt::format("[load_omniglot] {}:{}: \"{}\"; expected class {}, number, alphabet and characterNN "
                      "separated by tabs",
                      file.string(), classes.size() + 1, excerpt(line), classes.size()));
    }
    classes.push_back(key->first);
  }
  return classes;
}

void add_idx(const fs::path& folder, bool is_background, const OmniglotOptions& options, Collector& into) {
  const std::string stem = fmt::format("omniglot28-{}-", is_background ? "background" : "evaluation");
  const fs::path images_file = folder / (stem + "images-idx3-ubyte.gz"),
                 labels_file = folder / (stem + "labels-idx1-short.gz");
  const std::vector<CharacterKey> classes = read_classes(folder / (stem + "classes.tsv"), is_background);
  const IdxData images = read_idx(images_file, options.progress), labels = read_idx(labels_file);
  if (images.shape.size() != 3 || images.element_bytes != 1 || labels.shape.size() != 1 ||
      images.shape[0] != labels.shape[0] || images.shape[1] != images.shape[2]) {
    throw DataError(fmt::format(
        "[load_omniglot] {} has shape ({}) and {} has shape ({}); expected (n, size, size) and (n)",
        images_file.string(), fmt::join(images.shape, ", "), labels_file.string(), fmt::join(labels.shape, ", ")));
  }
  const std::int64_t pixels = images.shape[1] * images.shape[2];
  for (std::int64_t i = 0; i < images.shape[0]; ++i) {
    const std::int64_t label = labels.integer(i);
    if (label < 0 || label >= static_cast<std::int64_t>(classes.size())) {
      throw DataError(fmt::format("[load_omniglot] {}: label {} is {}; expected 0 to {}", labels_file.string(), i,
                                  label, classes.size() - 1));
    }
    const auto* first = images.bytes.data() + i * pixels;
    into.add(classes[static_cast<std::size_t>(label)], fmt::format("{:010}", i),
             {images.shape[1], images.shape[2], {first, first + pixels}}, images_file.string());
  }
}

/// Reads the first form of one set that is there; false if there is none.
bool add_set(const fs::path& folder, bool is_background, const OmniglotOptions& options, Collector& into) {
  const std::string set = is_background ? "images_background" : "images_evaluation";
  std::error_code error;
  if (fs::is_directory(folder / set, error)) {
    add_tree(folder / set, is_background, options, into);
    return true;
  }
  for (const char* suffix : {".zip", "_28x28.zip"}) {
    const fs::path file = folder / (set + suffix);
    if (!fs::is_regular_file(file, error)) continue;
    add_zip(file, is_background, options, into);
    return true;
  }
  const std::string stem =
      fmt::format("omniglot28-{}-images-idx3-ubyte.gz", is_background ? "background" : "evaluation");
  if (fs::is_regular_file(folder / stem, error)) {
    add_idx(folder, is_background, options, into);
    return true;
  }
  bool has_any = false;
  for (const char* suffix : {"_small1.zip", "_small2.zip"}) {
    const fs::path file = folder / (set + suffix);
    if (!fs::is_regular_file(file, error)) continue;
    into.close_characters();  // the two have alphabets in common
    add_zip(file, is_background, options, into);
    has_any = true;
  }
  return has_any;
}

constexpr std::array<std::string_view, 5> kValidationAlphabets = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew",
                                                                  "Mkhedruli_(Georgian)"};
constexpr std::string_view kLastTrainingAlphabet = "Gurmukhi";
constexpr int kLastTrainingCharacter = 41;

}  // namespace

std::string OmniglotCharacter::name() const { return fmt::format("{}/character{:02}", alphabet, number); }

bool has_omniglot(const fs::path& folder) {
  for (const fs::path& place : {folder / "omniglot", folder}) {
    for (const char* name :
         {"images_background", "images_background.zip", "images_background_28x28.zip", "images_background_small1.zip",
          "images_background_small2.zip", "omniglot28-background-images-idx3-ubyte.gz", "images_evaluation",
          "images_evaluation.zip", "images_evaluation_28x28.zip", "omniglot28-evaluation-images-idx3-ubyte.gz"}) {
      std::error_code error;
      if (fs::exists(place / name, error)) return true;
    }
  }
  return false;
}

Omniglot load_omniglot(const fs::path& folder, const OmniglotOptions& options) {
  if (options.size < 0) throw ValueError(fmt::format("[load_omniglot] got size {}; expected at least 0", options.size));
  for (const fs::path& place : {folder / "omniglot", folder}) {
    Collector collector(options);
    const bool has_background = add_set(place, true, options, collector);
    const bool has_evaluation = add_set(place, false, options, collector);
    if (collector.empty() && (has_background || has_evaluation)) {
      throw DataError(fmt::format("[load_omniglot] {} holds no <alphabet>/characterNN/*.png", place.string()));
    }
    if (!collector.empty()) return collector.finish(place.string());
  }
  throw MissingDataError(fmt::format(
      "[data] omniglot not found: looked in {} for omniglot/images_background.zip and images_evaluation.zip "
      "(also unpacked, or as omniglot28-*). Fetch it with `scripts/get-data omniglot`, or say where it is "
      "with --data-dir DIR or SOLVENT_DATA.",
      fs::absolute(folder).string()));
}

OmniglotPart vinyals_part(const OmniglotCharacter& c) {
  if (c.is_background) {
    const bool is_validation =
        std::find(kValidationAlphabets.begin(), kValidationAlphabets.end(), c.alphabet) != kValidationAlphabets.end();
    return is_validation ? OmniglotPart::validation : OmniglotPart::train;
  }
  const int order = std::string_view(c.alphabet).compare(kLastTrainingAlphabet);
  const bool is_train = order < 0 || (order == 0 && c.number <= kLastTrainingCharacter);
  return is_train ? OmniglotPart::train : OmniglotPart::test;
}

std::vector<OmniglotClass> vinyals_classes(const Omniglot& data, OmniglotPart part) {
  std::vector<OmniglotClass> classes;
  const int num_turns = part == OmniglotPart::test ? 1 : 4;
  for (std::size_t i = 0; i < data.characters.size(); ++i) {
    if (vinyals_part(data.characters[i]) != part) continue;
    for (int turns = 0; turns < num_turns; ++turns) classes.push_back({static_cast<std::int64_t>(i), turns});
  }
  return classes;
}

std::vector<std::uint8_t> rotate_image(std::span<const std::uint8_t> image, std::int64_t size, int quarter_turns) {
  if (size < 0 || static_cast<std::size_t>(size * size) != image.size()) {
    throw ValueError(fmt::format("[rotate_image] got {} pixels; expected {} x {}", image.size(), size, size));
  }
  std::vector<std::uint8_t> result(image.size());
  for (std::int64_t y = 0; y < size; ++y) {
    for (std::int64_t x = 0; x < size; ++x) {
      // Counter-clockwise: the right column becomes the top row.
      const std::int64_t last = size - 1;
      const std::int64_t from[4][2] = {{y, x}, {x, last - y}, {last - y, last - x}, {last - x, y}};
      const auto& [row, column] = from[quarter_turns & 3];
      result[static_cast<std::size_t>(y * size + x)] = image[static_cast<std::size_t>(row * size + column)];
    }
  }
  return result;
}

}  // namespace solvent::experiments
