// main() of every test program. Compiled once, without optimisation: Catch2 2.13's implementation is the slowest file
// to compile of the whole project.
#define CATCH_CONFIG_RUNNER
#include "solvent/tests/support/catch.h"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
