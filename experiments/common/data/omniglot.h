#pragma once
/// Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): 1623 characters of 50 alphabets, 20 drawings each.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "solvent/experiments/common/data/image_set.h"

namespace solvent::experiments {

/// One character of an alphabet.
struct OmniglotCharacter {
  std::string alphabet;           ///< "Greek"
  int number = 0;                 ///< 1, 2, ... within the alphabet: the folder character01, character02, ...
  bool is_background = true;      ///< of the official background set (else: evaluation)
  std::int64_t first = 0;         ///< index of its first drawing
  std::int64_t num_drawings = 0;  ///< they are consecutive

  /// "Greek/character01"
  [[nodiscard]] std::string name() const;
};

/// All drawings found, ordered by set (background first), alphabet (ASCII order) and character number, which is also the
/// order of the classes.
struct Omniglot {
  ImageSet images;  ///< 1 x size x size; ink is 255, paper 0; label: index of the character
  std::vector<OmniglotCharacter> characters;
};

struct OmniglotOptions {
  std::int64_t size = 28;  ///< images of another size are reduced by nearest-neighbour sampling; 0: as they are
  ReadProgress progress = {};
};

/// Reads what `folder` (or `omniglot/` in it) holds of the two sets, the first of these for each:
///   images_background/, images_evaluation/                trees <alphabet>/characterNN/IIII_DD.png
///   images_background.zip, images_background_28x28.zip    the same zipped (evaluation likewise)
///   omniglot28-background-images-idx3-ubyte.gz with -labels-idx1-short.gz and -classes.tsv (evaluation likewise)
/// The small background sets (images_background_small1.zip, ...2.zip) are used if there is no complete one; what both have
/// is taken from the first.
/// @throws MissingDataError if there is nothing; DataError naming the file for damaged images, drawings of unequal size
/// with `size` 0, or one character twice.
Omniglot load_omniglot(const std::filesystem::path& folder, const OmniglotOptions& options = {});

/// Whether load_omniglot() would find anything.
bool has_omniglot(const std::filesystem::path& folder);

enum class OmniglotPart { train, validation, test };

/// A class of few-shot tasks: a character, drawn as it is or turned.
struct OmniglotClass {
  std::int64_t character = 0;  ///< index into Omniglot::characters
  int quarter_turns = 0;       ///< counter-clockwise, 0 to 3
};

/// Classes of one part of the split of Vinyals et al. 2016, "Matching networks for one shot learning", in its usual
/// 1028/172/423 form: validation is five background alphabets (Armenian, Bengali, Early Aramaic, Hebrew, Georgian
/// Mkhedruli); training is the rest of the background set and, of the evaluation set in alphabetical order, everything
/// before character 42 of Gurmukhi; test is what follows.
/// Training and validation have every character in four rotations (4112 and 688 classes), test has 423 upright ones.
std::vector<OmniglotClass> vinyals_classes(const Omniglot& data, OmniglotPart part);

/// The part that a character belongs to.
OmniglotPart vinyals_part(const OmniglotCharacter& character);

/// A square image turned counter-clockwise by `quarter_turns` times 90 degrees.
std::vector<std::uint8_t> rotate_image(std::span<const std::uint8_t> image, std::int64_t size, int quarter_turns);

}  // namespace solvent::experiments
