#include <cstdio>

#include "solvent/core/build_info.h"

int main() { std::printf("core %s\n", solvent::version()); }
