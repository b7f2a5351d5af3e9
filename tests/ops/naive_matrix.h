#pragma once
/// Matrix algorithms on host arrays of doubles, as they stand in textbooks: twins for the table of operations.

#include <functional>
#include <vector>

#include "solvent/ops/factor.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {

/// One matrix (rank 2), or a vector or number that belongs to it.
using MatrixFn = std::function<Array(const Array&)>;

/// Applies functions to every matrix of x[0] and stacks what each gives.
Arrays per_matrix(const Arrays& x, const std::vector<MatrixFn>& functions);

Array naive_product(const Array& a, const Array& b);
Array naive_transpose(const Array& a);
Array naive_inverse(const Array& a);       ///< Gauss-Jordan with partial pivoting
Array naive_det(const Array& a);           ///< Laplace expansion
Array naive_cholesky(const Array& a);      ///< of the symmetric part
Array naive_q(const Array& a);             ///< Gram-Schmidt, twice
Array naive_r(const Array& a);             ///< q^T a
Array naive_eigenvalues(const Array& a);   ///< of the symmetric part, two-sided Jacobi
Array naive_eigenvectors(const Array& a);  ///< columns, largest component positive
Array naive_svd_u(const Array& a);         ///< from the eigenvectors of a^T a (or a a^T)
Array naive_svd_s(const Array& a);
Array naive_svd_vt(const Array& a);

/// Batches with broadcast leading axes.
Array naive_triangular(const Array& a, const Array& b, TriangularOptions options);
Array naive_lstsq(const Array& a, const Array& b);  ///< normal equations

/// e^a and phi1(a) by their Taylor series in long double, of a scaled to norm at most 1/4 and doubled back.
Array naive_expm(const Array& a);
Array naive_phi1(const Array& a);

}  // namespace solvent::testing
