#pragma once
/// The families of operations, one list per .cpp file, from which all_ops() is put together. Internal to ops/.
///
/// Listed by hand: registration by static objects is lost when a static archive is linked.

#include <span>

#include "solvent/autodiff/op.h"

namespace solvent::detail {

/// Operations defined in one file, in any order.
using OpList = std::span<const OpDef* const>;

OpList elementwise_ops();      // elementwise.cpp
OpList activation_ops();       // activations.cpp
OpList reduce_ops();           // reduce.cpp
OpList loss_ops();             // loss.cpp
OpList norm_ops();             // norm.cpp
OpList pool_ops();             // pool.cpp
OpList random_ops();           // random.cpp
OpList shape_family_ops();     // shape_ops.cpp
OpList index_ops();            // index.cpp
OpList sort_ops();             // sort.cpp
OpList linalg_ops();           // linalg.cpp
OpList matrix_part_ops();      // matrix_parts.cpp
OpList factor_ops();           // factor.cpp
OpList spectral_ops();         // spectral.cpp
OpList scan_ops();             // scan.cpp
OpList gru_ops();              // gru.cpp
OpList matrix_function_ops();  // matrix_functions.cpp
OpList conv_ops();             // conv.cpp

}  // namespace solvent::detail
