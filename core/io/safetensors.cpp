// The safetensors format: u64 little-endian length of the header, a JSON object {name: {dtype, shape, data_offsets}},
// raw row-major data. Files come from strangers: nothing is allocated by their word before the word has been checked
// against the size of the file.
#include "solvent/core/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/host_access.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/file_reader.h"

namespace solvent {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

using Json = nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr int kMaxDepth = 4;
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kSupported = "Solvent reads F32, F64, BF16, I64, BOOL and U8";

struct DTypeName {
  DType dtype;
  std::string_view name;
};
constexpr DTypeName kDTypeNames[] = {{DType::float32, "F32"}, {DType::float64, "F64"},  {DType::bfloat16, "BF16"},
                                     {DType::int64, "I64"},   {DType::boolean, "BOOL"}, {DType::uint8, "U8"}};

std::string_view name_of(DType dtype) {
  for (const DTypeName& entry : kDTypeNames)
    if (entry.dtype == dtype) return entry.name;
  return "";
}

// What the header says about one tensor.
struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin;
  std::uint64_t end;
};

Json parse_header(const detail::FileReader& file, const std::string& text) {
  if (text.empty() || text.front() != '{') file.fail("the header does not start with '{'; not a safetensors file");
  // JSON parsers keep the last of equal keys; here that would hide a tensor.
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    // Names, descriptions, lists: nothing is deeper. Visitors of the result recurse, so depth costs stack.
    if (depth > kMaxDepth) file.fail("the header is nested too deeply; not a safetensors file");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second && duplicate.empty())
      duplicate = value.get<std::string>();
    return true;
  };
  Json header;
  try {
    header = Json::parse(text, watch);
  } catch (const Json::exception& e) {
    file.fail(fmt::format("the header is not valid JSON ({})", e.what()));
  }
  if (!duplicate.empty()) file.fail(fmt::format("the header has the key '{}' twice", duplicate));
  return header;
}

std::map<std::string, std::string> read_metadata(const detail::FileReader& file, const Json& value) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) file.fail("'__metadata__' is not an object of strings");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) file.fail(fmt::format("'__metadata__' has a value that is not a string under '{}'", key));
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

// The shape and its number of bytes, with everything checked that could overflow.
Shape read_shape(const detail::FileReader& file, const std::string& name, const Json& value, std::uint64_t element,
                 std::uint64_t& bytes) {
  if (!value.is_array()) file.fail(fmt::format("tensor '{}' has no list 'shape'", name));
  if (value.size() > static_cast<std::size_t>(kMaxRank))
    file.fail(fmt::format("tensor '{}' has {} axes; Solvent supports at most {}", name, value.size(), kMaxRank));
  Shape shape;
  for (const Json& extent : value) {
    if (!extent.is_number_unsigned() ||
        extent.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      file.fail(fmt::format("tensor '{}' has an extent that is not a whole number of at least 0", name));
    shape.push_back(extent.get<std::int64_t>());
  }
  // Zeros count as ones here: strides are products of the other extents.
  auto size = static_cast<std::int64_t>(element);
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    is_empty = is_empty || extent == 0;
    if (extent != 0 && __builtin_mul_overflow(size, extent, &size))
      file.fail(fmt::format("tensor '{}' has shape {}, whose size overflows 64 bits", name, to_string(shape)));
  }
  bytes = is_empty ? 0 : static_cast<std::uint64_t>(size);
  return shape;
}

Entry read_entry(const detail::FileReader& file, const std::string& name, const Json& value, std::uint64_t data_bytes) {
  if (!value.is_object()) file.fail(fmt::format("tensor '{}' is not described by an object", name));
  const auto field = [&](const char* key) -> const Json& {
    const auto found = value.find(key);
    if (found == value.end()) file.fail(fmt::format("tensor '{}' has no '{}'", name, key));
    return *found;
  };
  const Json& dtype_name = field("dtype");
  const auto* const dtype = std::find_if(std::begin(kDTypeNames), std::end(kDTypeNames), [&](const DTypeName& entry) {
    return dtype_name.is_string() && dtype_name.get_ref<const std::string&>() == entry.name;
  });
  if (dtype == std::end(kDTypeNames))
    file.fail(
        fmt::format("tensor '{}' has dtype {}; {}. Convert it in Python first", name, dtype_name.dump(), kSupported));
  std::uint64_t bytes = 0;
  Shape shape = read_shape(file, name, field("shape"), size_of(dtype->dtype), bytes);

  const Json& offsets = field("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    file.fail(fmt::format("tensor '{}' has no pair 'data_offsets' of whole numbers", name));
  const auto begin = offsets[0].get<std::uint64_t>();
  const auto end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data_bytes)
    file.fail(
        fmt::format("tensor '{}' has data_offsets [{}, {}] outside the {} bytes of data; the file is truncated or "
                    "corrupt",
                    name, begin, end, data_bytes));
  if (end - begin != bytes)
    file.fail(fmt::format("tensor '{}' has {} bytes of data but {} of shape {} needs {}", name, end - begin,
                          dtype->name, to_string(shape), bytes));
  return {name, dtype->dtype, shape, begin, end};
}

void check_layout(const detail::FileReader& file, const std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::uint64_t position = 0;
  for (const Entry& entry : entries) {
    if (entry.begin < position)
      file.fail(
          fmt::format("the data of tensor '{}' overlap those of another ({} < {})", entry.name, entry.begin, position));
    if (entry.begin > position)
      file.fail(fmt::format("{} bytes before the data of tensor '{}' belong to no tensor", entry.begin - position,
                            entry.name));
    position = entry.end;
  }
  if (position != data_bytes)
    file.fail(fmt::format("{} bytes at the end belong to no tensor; the file is corrupt", data_bytes - position));
}

std::string make_header(const std::vector<std::pair<std::string, Tensor>>& tensors,
                        const std::vector<std::size_t>& order, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::uint64_t position = 0;
  for (const std::size_t i : order) {
    const auto& [name, tensor] = tensors[i];
    const std::uint64_t end = position + static_cast<std::uint64_t>(tensor.numel()) * size_of(tensor.dtype());
    header[name] = {{"dtype", name_of(tensor.dtype())},
                    {"shape", std::vector<std::int64_t>(tensor.shape().begin(), tensor.shape().end())},
                    {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& e) {
    throw ValueError(
        fmt::format("[save_safetensors] a name or metadata text is not valid UTF-8 ({}); expected UTF-8.", e.what()));
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // data start at a multiple of 8
  return text;
}

void check_names(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    if (name == kMetadata)
      throw ValueError("[save_safetensors] got a tensor named '__metadata__', which is reserved; choose another name.");
    if (!names.insert(name).second)
      throw ValueError(fmt::format("[save_safetensors] got the name '{}' twice; expected distinct names.", name));
    if (!tensor.defined())
      throw ValueError(fmt::format("[save_safetensors] got an empty handle under '{}'; expected a tensor.", name));
  }
}

}  // namespace

void save_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  check_names(tensors);
  // Large elements first: every tensor is then aligned to its element.
  std::vector<std::size_t> order(tensors.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return size_of(tensors[a].second.dtype()) > size_of(tensors[b].second.dtype());
  });
  const std::string header = make_header(tensors, order, metadata);
  const std::uint64_t length = header.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(header);
  for (const std::size_t i : order) {
    const Tensor dense = detail::host_contiguous("save_safetensors", tensors[i].second);
    file.write(detail::host_bytes(dense), static_cast<std::size_t>(dense.numel()) * size_of(dense.dtype()));
  }
  file.commit();
}

namespace {

SafetensorsFile read_safetensors(const detail::FileReader& file) {
  if (file.size() < kLengthBytes)
    file.fail(fmt::format("has {} bytes; a safetensors file has at least {}", file.size(), kLengthBytes));
  std::uint64_t length = 0;
  file.read(0, &length, sizeof length);
  if (length > file.size() - kLengthBytes)
    file.fail(
        fmt::format("claims a header of {} bytes but has {} bytes; the file is truncated or not a safetensors file",
                    length, file.size()));
  if (length > kMaxHeaderBytes)
    file.fail(fmt::format("claims a header of {} bytes; expected at most {}", length, kMaxHeaderBytes));
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(kLengthBytes, text.data(), length);

  const Json header = parse_header(file, text);
  const std::uint64_t data_start = kLengthBytes + length;
  const std::uint64_t data_bytes = file.size() - data_start;
  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadata)
      result.metadata = read_metadata(file, value);
    else
      entries.push_back(read_entry(file, name, value, data_bytes));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  check_layout(file, entries, data_bytes);

  for (const Entry& entry : entries) {
    Tensor t = engine::empty(entry.shape, entry.dtype);
    auto* const bytes = static_cast<std::uint8_t*>(t.impl()->storage->data);
    file.read(data_start + entry.begin, bytes, entry.end - entry.begin);
    if (entry.dtype == DType::boolean &&
        std::any_of(bytes, bytes + (entry.end - entry.begin), [](auto b) { return b > 1; }))
      file.fail(fmt::format("tensor '{}' is BOOL but has bytes other than 0 and 1", entry.name));
    result.tensors.emplace_back(entry.name, std::move(t));
  }
  return result;
}

}  // namespace

SafetensorsFile load_safetensors(const std::string& path) {
  return read_safetensors(detail::FileReader("load_safetensors", path));
}

SafetensorsFile parse_safetensors(std::span<const std::byte> bytes, const std::string& name) {
  return read_safetensors(detail::FileReader("parse_safetensors", bytes, name));
}

}  // namespace solvent
