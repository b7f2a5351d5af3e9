// Factorisations and matrix functions against a loop over raw LAPACK calls (column-major: its matrices are the transposes
// of ours, which changes nothing in the work) and libtorch. LAPACK's and our time include copying the operand.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

#if SOLVENT_BENCH_LAPACK
extern "C" {  // the Fortran interface; libraries differ in where they put LAPACK's C headers
void spotrf_(const char* uplo, const int* n, float* a, const int* lda, int* info);
void sgetrf_(const int* m, const int* n, float* a, const int* lda, int* pivots, int* info);
void sgeqrf_(const int* m, const int* n, float* a, const int* lda, float* tau, float* work, const int* lwork,
             int* info);
void sorgqr_(const int* m, const int* n, const int* k, float* a, const int* lda, const float* tau, float* work,
             const int* lwork, int* info);
void ssyevd_(const char* job, const char* uplo, const int* n, float* a, const int* lda, float* w, float* work,
             const int* lwork, int* iwork, const int* liwork, int* info);
void sgesdd_(const char* job, const int* m, const int* n, float* a, const int* lda, float* s, float* u, const int* ldu,
             float* vt, const int* ldvt, float* work, const int* lwork, int* iwork, int* info);
void strsm_(const char* side, const char* uplo, const char* trans, const char* diag, const int* m, const int* n,
            const float* alpha, const float* a, const int* lda, float* b, const int* ldb);
void sgels_(const char* trans, const int* m, const int* n, const int* columns, float* a, const int* lda, float* b,
            const int* ldb, float* work, const int* lwork, int* info);
}
#endif

namespace solvent::bench {
namespace {

// Well-conditioned symmetric positive definite matrices.
Tensor positive_matrices(std::int64_t batch, std::int64_t n) {
  const Tensor x = random_normal({batch, n, n});
  return matmul(x, mT(x)) / static_cast<double>(n) + eye(n);
}

#if SOLVENT_BENCH_LAPACK
/// Memory of a LAPACK call on one matrix.
struct Lapack {
  explicit Lapack(int size)
      : n(size),
        a(square()),
        u(square()),
        vt(square()),
        values(static_cast<std::size_t>(size)),
        work(static_cast<std::size_t>(lwork())),
        iwork(static_cast<std::size_t>(liwork())) {}
  [[nodiscard]] std::size_t square() const { return static_cast<std::size_t>(n) * static_cast<std::size_t>(n); }
  [[nodiscard]] int lwork() const { return std::max(1 + 6 * n + 2 * n * n, 4 * n * n + 67 * n); }
  [[nodiscard]] int liwork() const { return std::max(3 + 5 * n, 8 * n); }

  void cholesky() {
    int info = 0;
    spotrf_("U", &n, a.data(), &n, &info);
  }
  void lu() {
    int info = 0;
    sgetrf_(&n, &n, a.data(), &n, iwork.data(), &info);
  }
  void qr() {
    int info = 0;
    const int size = lwork();
    sgeqrf_(&n, &n, a.data(), &n, values.data(), work.data(), &size, &info);
    sorgqr_(&n, &n, &n, a.data(), &n, values.data(), work.data(), &size, &info);
  }
  void eigh() {
    int info = 0;
    const int size = lwork();
    const int isize = liwork();
    ssyevd_("V", "U", &n, a.data(), &n, values.data(), work.data(), &size, iwork.data(), &isize, &info);
  }
  void svd() {
    int info = 0;
    const int size = lwork();
    sgesdd_("S", &n, &n, a.data(), &n, values.data(), u.data(), &n, vt.data(), &n, work.data(), &size, iwork.data(),
            &info);
  }
  void triangular_solve() {  // X^T L^T = A^T: our L, read by columns, is the upper triangle
    const float one = 1;
    std::copy(a.begin(), a.end(), u.begin());
    strsm_("R", "U", "N", "N", &n, &n, &one, a.data(), &n, u.data(), &n);
  }
  void lstsq() {  // the matrix is symmetric, so its columns are our rows
    int info = 0;
    const int size = lwork();
    const int half = n / 2;
    sgels_("N", &n, &half, &half, a.data(), &n, a.data() + square() / 2, &n, work.data(), &size, &info);
  }

  int n;
  std::vector<float> a, u, vt, values, work;
  std::vector<int> iwork;
};

Peer lapack_peer(const std::string& name, const Tensor& x) {
  const int n = static_cast<int>(x.size(-1));
  const std::size_t each = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  void (Lapack::*call)() = name == "cholesky"           ? &Lapack::cholesky
                           : name == "slogdet"          ? &Lapack::lu
                           : name == "qr"               ? &Lapack::qr
                           : name == "eigh"             ? &Lapack::eigh
                           : name == "svd"              ? &Lapack::svd
                           : name == "triangular_solve" ? &Lapack::triangular_solve
                           : name == "lstsq"            ? &Lapack::lstsq
                                                        : nullptr;
  if (call == nullptr) return {.name = "LAPACK", .run = {}};
  return {.name = "LAPACK", .run = [=, memory = Lapack(n)]() mutable {
            const float* from = x.data<float>();
            for (std::int64_t i = 0; i < x.numel() / (x.size(-1) * x.size(-1)); ++i) {
              std::copy_n(from + static_cast<std::size_t>(i) * each, each, memory.a.data());
              (memory.*call)();
            }
          }};
}
#else
Peer lapack_peer(const std::string&, const Tensor&) { return {.name = "LAPACK", .run = {}}; }
#endif

Tensor compute(const std::string& name, const Tensor& x) {
  if (name == "triangular_solve") return triangular_solve(x, x);  // with the lower triangle, n right-hand sides
  if (name == "lstsq") {                                          // the second half of the columns by the first half
    const std::int64_t n = x.size(-1);
    return lstsq(slice(x, -1, 0, n / 2), slice(x, -1, n / 2, n));
  }
  if (name == "cholesky") return cholesky(x);
  if (name == "slogdet") return slogdet(x).log_abs;
  if (name == "inverse") return inverse(x);
  if (name == "qr") return qr(x).q;
  if (name == "eigh") return eigh(x).values;
  if (name == "svd") return svd(x).s;
  if (name == "phi1") return phi1(x);
  return expm(x);
}

Row matrix_row(const std::string& name, std::int64_t batch, std::int64_t n) {
  // Exponentials of a norm of a few.
  const bool exponential = name == "expm" || name == "phi1";
  const Tensor x =
      exponential ? random_normal({batch, n, n}) / std::sqrt(static_cast<double>(n)) : positive_matrices(batch, n);
  const torch_peer::Call torch = torch_peer::matrices(name, x.data<float>(), batch, n);
  Row row;
  row.run = [=] { keep(compute(name, x)); };
  row.items = static_cast<double>(batch);
  row.peers = {lapack_peer(name, x), {.name = "libtorch", .run = torch.run}};
  if (torch.result && name != "qr") {  // q's signs are a convention
    row.error = [=] { return max_difference(compute(name, x), torch.result()); };
    const bool is_loose = name == "expm" || name == "triangular_solve" || name == "lstsq";
    row.tolerance = is_loose ? 1e-3 : 1e-4 * std::max(1.0, static_cast<double>(n) / 64);
  }
  row.rounds = n >= 256 ? 7 : 21;
  return row;
}

bool add_sizes(const std::string& name, std::initializer_list<std::int64_t> single) {
  for (const std::int64_t n : {4, 8, 16, 32, 64})
    add_row("factor/" + name + "/batch_" + std::to_string(n), [=] { return matrix_row(name, 65536 / (n * n), n); });
  for (const std::int64_t n : single)
    add_row("factor/" + name + "/" + std::to_string(n), [=] { return matrix_row(name, 1, n); });
  return true;
}

const bool kRegistered[] = {
    add_sizes("cholesky", {512, 1024}), add_sizes("slogdet", {512, 1024}), add_sizes("inverse", {512}),
    add_sizes("qr", {512, 1024}),       add_sizes("eigh", {512, 1024}),    add_sizes("svd", {512, 1024}),
    add_sizes("expm", {512}),           add_sizes("phi1", {512}),          add_sizes("triangular_solve", {512}),
    add_sizes("lstsq", {512})};

}  // namespace
}  // namespace solvent::bench
