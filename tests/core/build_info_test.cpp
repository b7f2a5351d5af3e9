#include "solvent/core/build_info.h"

#include <string>

#include "solvent/tests/support/catch.h"

TEST_CASE("build_info: names version, compiler, flags, BLAS, OpenMP, CUDA and vector targets") {
  const std::string& text = solvent::build_info();
  for (const char* key : {"solvent: ", "commit: ", "build type: ", "compiler: ", "flags: ", "BLAS: ", "LAPACK: ",
                          "OpenMP: ", "CUDA: ", "vector targets: "}) {
    INFO(text);
    CHECK(text.find(key) != std::string::npos);
  }
  CHECK(text.find("-ffast-math") == std::string::npos);
  CHECK(text.find(std::string("solvent: ") + solvent::version() + "\n") == 0);
}

TEST_CASE("build_info: at least one vector target can run here") {
  const std::string& text = solvent::build_info();
  const std::string key = "vector targets: ";
  const std::size_t begin = text.find(key) + key.size();
  CHECK(text.substr(begin, text.find('\n', begin) - begin).size() >= 3);
}

TEST_CASE("build_info: the same text at every call") { CHECK(&solvent::build_info() == &solvent::build_info()); }
