#include "solvent/core/error.h"

#include <string>

#include "solvent/tests/support/catch.h"

namespace {

template <class E>
void check_caught_as_error() {
  try {
    throw E("[matmul] got a (3, 4)");
  } catch (const solvent::Error& error) {
    CHECK(std::string(error.what()) == "[matmul] got a (3, 4)");
    CHECK(dynamic_cast<const E*>(&error) != nullptr);
  }
}

}  // namespace

TEST_CASE("errors: every kind is a solvent::Error and keeps its text") {
  check_caught_as_error<solvent::ShapeError>();
  check_caught_as_error<solvent::DtypeError>();
  check_caught_as_error<solvent::DeviceError>();
  check_caught_as_error<solvent::ValueError>();
  check_caught_as_error<solvent::AutodiffError>();
  check_caught_as_error<solvent::SolverError>();
  check_caught_as_error<solvent::IoError>();
  check_caught_as_error<solvent::OutOfMemoryError>();
}

TEST_CASE("errors: kinds are distinct") {
  CHECK_THROWS_AS(throw solvent::ShapeError("x"), solvent::ShapeError);
  bool caught_as_shape = false;
  try {
    throw solvent::DtypeError("x");
  } catch (const solvent::ShapeError&) {
    caught_as_shape = true;
  } catch (const std::runtime_error&) {
  }
  CHECK_FALSE(caught_as_shape);
}
