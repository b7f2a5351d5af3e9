#include <cstdio>

#include "solvent/solvent.h"

int main() { std::fputs(solvent::build_info().c_str(), stdout); }
