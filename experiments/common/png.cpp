// The only translation unit that includes stb_image_write.

#include <string>

#include <fmt/format.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>
#pragma GCC diagnostic pop

#include "solvent/core/error.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/experiments/common/canvas.h"

namespace solvent::experiments {

std::string encode_png(int width, int height, int channels, std::span<const std::uint8_t> pixels) {
  const bool is_valid = width > 0 && height > 0 && channels >= 1 && channels <= 4;
  if (!is_valid || pixels.size() != static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
                                        static_cast<std::size_t>(channels)) {
    throw ValueError(
        fmt::format("[write_png] got {} bytes for {} x {} pixels of {} channels; expected width * height * "
                    "channels, 1 to 4 channels",
                    pixels.size(), width, height, channels));
  }
  std::string encoded;
  const auto append = [](void* context, void* data, int size) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  if (stbi_write_png_to_func(append, &encoded, width, height, channels, pixels.data(), width * channels) == 0) {
    throw IoError("[write_png] cannot encode the image: not enough memory");
  }
  return encoded;
}

void write_png(const std::filesystem::path& file, int width, int height, int channels,
               std::span<const std::uint8_t> pixels) {
  write_file_atomically(file.string(), encode_png(width, height, channels, pixels));
}

}  // namespace solvent::experiments
