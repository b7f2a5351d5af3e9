#pragma once
/// NumPy `.npz` files: zip archives of `.npy` arrays, as numpy.savez and numpy.savez_compressed write them.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "solvent/core/export.h"
#include "solvent/core/tensor.h"

namespace solvent {

/// An open file whose arrays are read one at a time: opening costs memory for the directory only.
class SOLVENT_API NpzFile {
 public:
  /// @throws IoError as ZipArchive, and for two arrays of the same name.
  explicit NpzFile(const std::string& path);
  /// The same from bytes in memory, which must outlive this; `name` stands for the path in messages.
  explicit NpzFile(std::span<const std::byte> bytes, const std::string& name = "memory");
  ~NpzFile();
  /// Takes over the open file.
  /// @{
  NpzFile(NpzFile&&) noexcept;
  NpzFile& operator=(NpzFile&&) noexcept;
  /// @}
  NpzFile(const NpzFile&) = delete;
  NpzFile& operator=(const NpzFile&) = delete;

  /// Names of the arrays without `.npy`, in the order of the file. Other members are left out.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept;
  /// Whether there is an array of this name.
  [[nodiscard]] bool contains(std::string_view name) const noexcept;
  /// One array; dtypes as load_npy. @throws IoError if there is no such array (naming those there are), if its size
  /// disagrees with its shape, or if it is corrupt.
  [[nodiscard]] Tensor load(std::string_view name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// All arrays of a file with their names. @throws IoError
SOLVENT_API std::vector<std::pair<std::string, Tensor>> load_npz(const std::string& path);

/// The same from bytes in memory. @throws IoError
SOLVENT_API std::vector<std::pair<std::string, Tensor>> parse_npz(std::span<const std::byte> bytes,
                                                                  const std::string& name = "memory");

}  // namespace solvent
