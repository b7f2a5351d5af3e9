#pragma once
/// Everything: tensors, derivatives, operations, neural-network parts and solvers. Link `solvent::solvent`.

#include "solvent/core/build_info.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
