#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "solvent/core/allocator.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/npy.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

// An empty folder that goes away at the end of the test.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "solvent-io-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::size_t count() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

void put(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string u64(std::uint64_t n) { return {reinterpret_cast<const char*>(&n), 8}; }

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return u64(header.size()) + header + data;
}

// The tensors of tests/golden/core_files.py.
std::vector<std::pair<std::string, Tensor>> golden_tensors() {
  const double inf = std::numeric_limits<double>::infinity();
  std::vector<std::pair<std::string, Tensor>> t;
  t.emplace_back("f32", tensor({{-1, -0.75, -0.5}, {-0.25, 0, 0.25}}));
  t.emplace_back("f64",
                 tensor({{std::numeric_limits<double>::quiet_NaN(), -inf}, {3.141592653589793, 1e-300}}, float64));
  t.emplace_back("i64",
                 from_vector<std::int64_t>(
                     {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(), 0}, {3}));
  t.emplace_back("bool", tensor({1, 0, 1}, boolean));
  t.emplace_back("u8", from_vector<std::uint8_t>({0, 255}, {1, 2, 1}));
  t.emplace_back("scalar", scalar(2.5));
  t.emplace_back("empty", zeros({0, 4}));
  t.emplace_back("name with \u00fcn\u00efcode", tensor({7}, int64));
  return t;
}

const std::map<std::string, std::string> kGoldenMetadata = {{"format", "pt"}, {"note", "a \"quoted\" text"}};

bool same(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  return dispatch_all(a.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto n = static_cast<std::size_t>(a.numel()) * sizeof(T);
    return n == 0 || std::memcmp(a.template data<T>(), b.template data<T>(), n) == 0;  // bitwise: NaN included
  });
}

const Tensor& find(const SafetensorsFile& file, const std::string& name) {
  for (const auto& [key, value] : file.tensors)
    if (key == name) return value;
  throw Error("no tensor " + name);
}

void check_golden(const std::string& folder) {
  const SafetensorsFile file = load_safetensors(folder + "/core.safetensors");
  CHECK(file.metadata == kGoldenMetadata);
  const auto expected = golden_tensors();
  CHECK(file.tensors.size() == expected.size());
  for (const auto& [name, value] : expected) {
    INFO(name);
    CHECK(same(find(file, name), value));
    if (name.find(' ') == std::string::npos) CHECK(same(load_npy(folder + "/core_" + name + ".npy"), value));
  }
}

}  // namespace

TEST_CASE("io: files made by Python's safetensors and numpy are read") {
  check_golden("golden");
  const Tensor fortran = load_npy("golden/core_fortran.npy");
  CHECK(same(fortran, from_data(arange(0, 24, 1, float64).to_vector<double>().data(), {2, 3, 4})));
}

TEST_CASE("io: Python reads what Solvent writes, and the reverse") {
  if (std::system("python3 -c 'import numpy, safetensors' > /dev/null 2>&1") != 0) {
    WARN("skipped: python3 with numpy and safetensors is not installed");
    return;
  }
  const Folder folder;
  save_safetensors(folder.file("core.safetensors"), golden_tensors(), kGoldenMetadata);
  for (const auto& [name, value] : golden_tensors()) save_npy(folder.file("core_" + name + ".npy"), value);
  CHECK(std::system(("python3 -B golden/core_files.py check " + folder.path()).c_str()) == 0);
  const Folder other;
  CHECK(std::system(("python3 -B golden/core_files.py write " + other.path()).c_str()) == 0);
  check_golden(other.path());
}

TEST_CASE("io: strided tensors are saved by value") {
  const Folder folder;
  const Tensor transposed = engine::view(tensor({{1, 2, 3}, {4, 5, 6}}), {3, 2}, {1, 3}, 0);
  save_npy(folder.file("t.npy"), transposed);
  CHECK(same(load_npy(folder.file("t.npy")), tensor({{1, 4}, {2, 5}, {3, 6}})));
  save_safetensors(folder.file("t"), {{"t", transposed}});
  CHECK(same(find(load_safetensors(folder.file("t")), "t"), tensor({{1, 4}, {2, 5}, {3, 6}})));
}

TEST_CASE("save_safetensors: names are checked before anything is written") {
  const Folder folder;
  const std::string path = folder.file("x");
  CHECK_THAT(message_of<ValueError>([&] {
               save_safetensors(path, {{"a", ones({1})}, {"a", ones({1})}});
             }),
             Contains("'a' twice"));
  CHECK_THAT(message_of<ValueError>([&] {
               save_safetensors(path, {{"__metadata__", ones({1})}});
             }),
             Contains("reserved"));
  CHECK_THAT(message_of<ValueError>([&] { save_safetensors(path, {{"a", Tensor()}}); }), Contains("empty handle"));
  CHECK_THAT(message_of<ValueError>([&] { save_safetensors(path, {{"\xff", ones({1})}}); }), Contains("UTF-8"));
  CHECK(folder.count() == 0);
}

TEST_CASE("load_safetensors: damaged files are refused without allocating what they claim") {
  const Folder folder;
  const std::string path = folder.file("bad");
  struct Case {
    std::string bytes;
    std::string expected;
  };
  const auto entry = [](const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
    return R"("a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
  };
  const std::string four(4, '\0');
  const std::vector<Case> cases = {
      {"", "has 0 bytes"},
      {"1234567", "has 7 bytes"},
      {u64(std::uint64_t{1} << 60) + "{}", "claims a header of 1152921504606846976 bytes"},
      {u64(3) + "{}", "claims a header of 3 bytes"},
      {safetensors_bytes("", ""), "does not start with '{'"},
      {safetensors_bytes("[]", ""), "does not start with '{'"},
      {safetensors_bytes("{\"a\":", ""), "not valid JSON"},
      {safetensors_bytes("{" + entry("[1]", "[0,4]") + "," + entry("[1]", "[0,4]") + "}", four), "the key 'a' twice"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}})", four),
       "the key 'dtype' twice"},
      {safetensors_bytes("{" + entry("[1]", "[0,4]", "F16") + "}", four), "dtype \"F16\"; Solvent reads F32"},
      {safetensors_bytes("{" + entry("[1]", "[0,8]") + "}", four), "outside the 4 bytes of data"},
      {safetensors_bytes("{" + entry("[1]", "[4,0]") + "}", four), "data_offsets [4, 0]"},
      {safetensors_bytes("{" + entry("[2]", "[0,4]") + "}", four), "has 4 bytes of data but F32 of shape (2,) needs 8"},
      {safetensors_bytes("{" + entry("[4294967296,4294967296,4]", "[0,4]") + "}", four), "overflows 64 bits"},
      {safetensors_bytes("{" + entry("[0,4611686018427387904,8]", "[0,0]") + "}", ""), "overflows 64 bits"},
      {safetensors_bytes("{" + entry("[-1]", "[0,4]") + "}", four), "not a whole number"},
      {safetensors_bytes("{" + entry("[1.5]", "[0,4]") + "}", four), "not a whole number"},
      {safetensors_bytes("{" + entry("[18446744073709551615]", "[0,4]") + "}", four), "not a whole number"},
      {safetensors_bytes("{" + entry("[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", four), "has 9 axes"},
      {safetensors_bytes("{" + entry("1", "[0,4]") + "}", four), "no list 'shape'"},
      {safetensors_bytes("{" + entry("[1]", "[0]") + "}", four), "no pair 'data_offsets'"},
      {safetensors_bytes(R"({"a":3})", ""), "not described by an object"},
      {safetensors_bytes(R"({"a":{"dtype":"F32","shape":[]}})", ""), "no 'data_offsets'"},
      {safetensors_bytes(R"({"__metadata__":{"x":1}})", ""), "not a string under 'x'"},
      {safetensors_bytes(R"({"__metadata__":[]})", ""), "not an object of strings"},
      {safetensors_bytes("{" + entry("[1]", "[0,4]") + "}", four + "x"), "1 bytes at the end belong to no tensor"},
      {safetensors_bytes("{" + entry("[1]", "[4,8]") + "}", four + four), "4 bytes before the data of tensor 'a'"},
      {safetensors_bytes("{" + entry("[1]", "[0,4]") + R"(,"b":{"dtype":"U8","shape":[3],"data_offsets":[3,6]}})",
                         "123456"),
       "overlap"},
      {safetensors_bytes("{" + entry("[4]", "[0,4]", "BOOL") + "}", std::string("\x01\x02\x00\x00", 4)),
       "other than 0 and 1"},
      {safetensors_bytes(std::string(200000, '['), ""), "does not start with '{'"},
      {safetensors_bytes("{\"a\":" + std::string(200000, '['), ""), "nested too deeply"},
      {safetensors_bytes("{\"a\":{\"dtype\":" + std::string(200000, '[') + std::string(200000, ']') + "}}", ""),
       "nested too deeply"},
  };
  for (const Case& c : cases) {
    put(path, c.bytes);
    INFO(c.bytes.substr(0, 200));
    reset_peak_memory();
    const std::size_t active = memory_stats().active;
    CHECK_THAT(message_of<IoError>([&] { (void)load_safetensors(path); }),
               Contains("[load_safetensors]") && Contains(c.expected));
    CHECK(memory_stats().peak <= active + 65536);
  }
  CHECK_THAT(message_of<IoError>([&] { (void)load_safetensors(folder.file("none")); }), Contains("No such file"));
  CHECK_THAT(message_of<IoError>([&] { (void)load_safetensors(folder.path()); }), Contains("not a regular file"));
}

TEST_CASE("load_npy: damaged files are refused without allocating what they claim") {
  const Folder folder;
  const std::string path = folder.file("bad.npy");
  const auto npy = [](const std::string& header, const std::string& data) {
    const auto n = static_cast<std::uint16_t>(header.size());
    return std::string("\x93NUMPY\x01\x00", 8) + std::string(reinterpret_cast<const char*>(&n), 2) + header + data;
  };
  struct Case {
    std::string bytes;
    std::string expected;
  };
  const std::string end = "'fortran_order': False, 'shape': (2,), }";
  const std::vector<Case> cases = {
      {"", "has 0 bytes"},
      {"\x93NUMP", "has 5 bytes"},
      {"this is no npy file", "does not start with"},
      {std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12), "claims a header of 4294967295 bytes"},
      {std::string("\x93NUMPY\x02\x00\xff\xff", 10), "ends inside its header"},
      {std::string("\x93NUMPY\x07\x00\x02\x00{}", 12), "format version 7"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824,), }", "1234"),
       "claims float32 of shape (1073741824,), 4294967296 bytes, but has 4"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", ""), "overflows 64 bits"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 8), }", ""),
       "overflows 64 bits"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", ""), "not a whole number"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", ""), "not a whole number"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", ""), "more than 8 axes"},
      {npy("{'descr': '<f4', " + end, "123456789"), "the file is corrupt"},
      {npy("{'descr': '>f4', " + end, "12345678"), "dtype '>f4'"},
      {npy("{'descr': '<f2', " + end, "1234"), "Convert it in Python with astype"},
      {npy("{'descr': [('a', '<f4')], " + end, "12345678"), "structured"},
      {npy("{'descr': '<f4', 'descr': '<f4', " + end, "12345678"), "repeated key 'descr'"},
      {npy("{'descr': '<f4', 'x': 1, " + end, "12345678"), "unexpected or repeated key 'x'"},
      {npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", "12345678"), "neither True nor False"},
      {npy("{'descr': '<f4', 'shape': (2,), }", "12345678"), "lacks one of"},
      {npy("{'descr': '<f4', " + end + " x", "12345678"), "goes on behind"},
      {npy("{'descr", ""), "without end"},
      {npy("['descr']", ""), "expected '{'"},
      {npy("{'descr': '|b1', " + end, "\x01\x02"), "other than 0 and 1"},
  };
  for (const Case& c : cases) {
    put(path, c.bytes);
    INFO(c.bytes);
    reset_peak_memory();
    const std::size_t active = memory_stats().active;
    CHECK_THAT(message_of<IoError>([&] { (void)load_npy(path); }), Contains("[load_npy]") && Contains(c.expected));
    CHECK(memory_stats().peak <= active + 65536);
  }
}

TEST_CASE("io: every truncation and every changed byte is either refused or harmless") {
  const Folder folder;
  const std::string path = folder.file("x");
  const auto survives = [&](const std::string& bytes) {
    put(path, bytes);
    for (const bool is_npy : {false, true}) {
      try {
        is_npy ? (void)load_npy(path) : (void)load_safetensors(path);
      } catch (const IoError&) {
      }
    }
  };
  save_safetensors(path, {{"a", tensor({{1, 2}, {3, 4}})}, {"b", tensor({1, 0}, boolean)}}, {{"k", "v"}});
  const std::string safetensors = read_file(path);
  save_npy(path, tensor({{1, 2}, {3, 4}}, float64));
  const std::string npy = read_file(path);
  Chooser choose(8);
  for (const std::string& original : {safetensors, npy}) {
    for (std::size_t n = 0; n < original.size(); ++n) {
      survives(original.substr(0, n));
      for (const int value : {0, 0x7f, 0xff, static_cast<int>(choose.integer(0, 255))}) {
        std::string changed = original;
        changed[n] = static_cast<char>(value);
        survives(changed);
      }
    }
  }
  SUCCEED();
}

TEST_CASE("atomic_file: a full disk leaves the old file as it was") {
  const Folder folder;
  const std::string path = folder.file("checkpoint");
  save_safetensors(path, {{"x", tensor({1, 2, 3})}});
  const std::string before = read_file(path);

  struct rlimit old_limit {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = old_limit;
  small.rlim_cur = 4096;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string text = message_of<IoError>([&] { save_safetensors(path, {{"x", zeros({10000})}}); });
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  std::signal(SIGXFSZ, old_handler);

  CHECK_THAT(text, Contains("[write_file] cannot write") && Contains("the previous file is unchanged"));
  CHECK(read_file(path) == before);
  CHECK(folder.count() == 1);  // no temporary left
  CHECK(same(find(load_safetensors(path), "x"), tensor({1, 2, 3})));
}

TEST_CASE("atomic_file: appears at commit, not before, and not at all without") {
  const Folder folder;
  const std::string path = folder.file("x");
  {
    AtomicFile file(path);
    file.write("abc");
    CHECK_FALSE(fs::exists(path));
    CHECK(fs::exists(file.temporary_path()));
  }
  CHECK(folder.count() == 0);
  write_file_atomically(path, "first");
  CHECK(::chmod(path.c_str(), 0640) == 0);
  write_file_atomically(path, "second");
  CHECK(read_file(path) == "second");
  CHECK(folder.count() == 1);
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);  // a replaced file keeps its permissions

  fs::create_symlink(path, folder.file("link"));
  write_file_atomically(folder.file("link"), "third");
  CHECK(fs::is_symlink(folder.file("link")));
  CHECK(read_file(path) == "third");
}

TEST_CASE("atomic_file: impossible targets say why") {
  const Folder folder;
  CHECK_THAT(message_of<IoError>([&] { write_file_atomically(folder.file("no/such/folder/x"), ""); }),
             Contains("No such file or directory") && Contains("create the folder first"));
  CHECK_THAT(message_of<IoError>([&] { write_file_atomically(folder.path(), ""); }), Contains("not of a folder"));
  CHECK_THAT(message_of<IoError>([&] { (void)read_file(folder.file("none")); }), Contains("[read_file] cannot read"));
}
