#pragma once
/// All operations.

#include "solvent/autodiff/basis.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/factor.h"
#include "solvent/ops/gru.h"
#include "solvent/ops/index.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/loss.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/norm.h"
#include "solvent/ops/pool.h"
#include "solvent/ops/random.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/scan.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/ops/sort.h"
#include "solvent/ops/spectral.h"
