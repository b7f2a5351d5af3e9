#include "solvent/experiments/deer/demo.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>

#include <fmt/format.h>

#include "solvent/autodiff/custom.h"
#include "solvent/core/build_info.h"
#include "solvent/core/parallel.h"
#include "solvent/core/stream.h"
#include "solvent/experiments/common/device_option.h"
#include "solvent/experiments/common/plot.h"
#include "solvent/experiments/common/run_dir.h"
#include "solvent/experiments/common/summary.h"
#include "solvent/nn/elman.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"

namespace solvent::experiments {

namespace {

using solvers::Deer;
using solvers::JacobianKind;
using solvers::SequenceCell;
using solvers::SequenceMethod;
using solvers::Solution;

// --- problem ------------------------------------------------------------------------------------------------------------------

struct Problem {
  SequenceCell cell;
  Tensors theta;
  Tensor h0, xs;
};

// A long short-term memory cell with state (h, c), each half of it: a user's cell, known to the solvers by its step only.
// Gates in the order input, forget, cell, output; theta = {w_ih (4m, I), w_hh (4m, m), b (4m)}.
Tensor lstm_step(const Tensor& state, const Tensor& x, const Tensors& theta) {
  const std::int64_t m = state.size(-1) / 2;
  const Tensor h = slice(state, -1, 0, m), c = slice(state, -1, m, 2 * m);
  const Tensor gates = matmul(x, mT(theta[0])) + matmul(h, mT(theta[1])) + theta[2];
  const Tensors g = split(gates, {m, m, m, m}, -1);
  const Tensor next = sigmoid(g[1]) * c + sigmoid(g[0]) * tanh(g[2]);
  return concat({sigmoid(g[3]) * tanh(next), next}, -1);
}

Problem make_problem(const DemoSettings& s, DType dtype, Device device) {
  const Key key(static_cast<std::uint64_t>(s.seed));
  const std::int64_t n = s.input_size;
  Problem p;
  if (s.cell == "gru") {
    const nn::GruCell cell(n, n, key.fold_in(0), {.init = nn::RecurrentInit::equinox, .dtype = dtype});
    p.cell = solvers::sequence_cell(cell.functions());
    p.theta = cell.theta();
  } else {
    const std::int64_t m = n / 2;
    const double bound = 1 / std::sqrt(static_cast<double>(m));
    p.cell.step = lstm_step;
    p.theta = {uniform(key.fold_in(0), {4 * m, n}, -bound, bound, dtype),
               uniform(key.fold_in(1), {4 * m, m}, -bound, bound, dtype),
               uniform(key.fold_in(2), {4 * m}, -bound, bound, dtype)};
  }
  for (Tensor& t : p.theta) t = to(t, device);
  p.h0 = zeros({s.batch_size, n}, {dtype, device});
  p.xs = to(normal(key.fold_in(3), {s.length, s.batch_size, n}, 0, 1, dtype), device);
  return p;
}

// --- measurement --------------------------------------------------------------------------------------------------------------

struct Row {
  std::string name, what;
  Solution solution = {};
  double seconds = 0, residual = 0, deviation = 0;
};

struct Candidate {
  std::string name, what;
  SequenceMethod method;
};

std::vector<Candidate> candidates(const DemoSettings& s, const SequenceCell& cell) {
  std::vector<Candidate> all;
  const auto wanted = [&](const char* name) {
    return std::find(s.methods.begin(), s.methods.end(), name) != s.methods.end();
  };
  if (wanted("steps"))
    all.push_back({"steps", "one operation after the other, step by step", solvers::Sequential{.fused = false}});
  if (wanted("sequential") && cell.sequence)
    all.push_back({"sequential", "one fused loop over time", solvers::Sequential{}});
  if (wanted("jacobi")) all.push_back({"jacobi", "fixed-point sweeps over all steps", solvers::Jacobi{}});
  if (wanted("quasi-deer"))
    all.push_back({"quasi-deer", "Newton with diagonal Jacobians", Deer{.jacobian = JacobianKind::diagonal}});
  if (wanted("deer")) {
    all.push_back({"deer", "Newton, composed operations", Deer{.fused = false}});
    // On a GPU Newton has no fused kernel yet: Deer{} would be the composed operations again.
    if (cell.fused_newton && s.device == "cpu") all.push_back({"deer-fused", "Newton, one fused kernel", Deer{}});
  }
  if (wanted("shooting"))
    all.push_back(
        {"shooting", cell.fused_shooting ? "chunks in parallel, fused" : "chunks in parallel", solvers::Shooting{}});
  return all;
}

double largest(const Tensor& t) { return max(abs(t)).item(); }

Row measure(const Candidate& c, const Problem& p, const DemoSettings& s) {
  Row row{.name = c.name, .what = c.what};
  solvers::Options options;
  options.on_failure = solvers::OnFailure::return_best;
  row.solution =
      solve_sequence(p.cell, p.h0, p.xs, p.theta, c.method, options);  // warm-up, and the result that is checked
  std::vector<double> times;
  for (std::int64_t i = 0; i < s.repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    static_cast<void>(solve_sequence(p.cell, p.h0, p.xs, p.theta, c.method, options));
    synchronize(p.h0.device());
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  row.seconds = times[times.size() / 2];
  row.residual = largest(sequence_residual(p.cell, row.solution.value, p.h0, p.xs, p.theta));
  return row;
}

// Residual after every iteration, from a run that is not timed.
std::vector<double> trace(const SequenceMethod& method, const Problem& p) {
  std::vector<double> residuals;
  solvers::Options options;
  options.on_failure = solvers::OnFailure::return_best;
  options.each_step = [&](const solvers::StepInfo& info) { residuals.push_back(info.residual); };
  static_cast<void>(solve_sequence(p.cell, p.h0, p.xs, p.theta, method, options));
  return residuals;
}

// --- output -------------------------------------------------------------------------------------------------------------------

std::string where(const DemoSettings& s) {
  return s.device == "cpu" ? fmt::format("CPU, {} threads", num_threads()) : s.device;
}

std::string banner(const DemoSettings& s, DType dtype) {
  return fmt::format(
      "cell         {}\nstate size   {}\ninput size   {}\nbatch size   {}\nlength       {}\ndtype        {} (eps "
      "{:.3g})\nseed         {}\ndevice       {}",
      s.cell, s.input_size, s.input_size, s.batch_size, s.length, s.dtype, epsilon_of(dtype), s.seed, where(s));
}

std::string table(const std::vector<Row>& rows) {
  const Row* fused = nullptr;
  for (const Row& r : rows)
    if (r.name == "sequential") fused = &r;
  std::string text = fmt::format("{:<12} {:>11} {:>10} {:>10} {:>11} {:>10} {:>10}  {}\n", "method", "time [s]",
                                 "x steps", "x fused", "iterations", "residual", "deviation", "status");
  for (const Row& r : rows) {
    const auto ratio = [&](const Row* base) {
      return base ? fmt::format("{:.3f}", base->seconds / r.seconds) : std::string("-");
    };
    text += fmt::format("{:<12} {:>11.5f} {:>10} {:>10} {:>11} {:>10.1e} {:>10.1e}  {}\n", r.name, r.seconds,
                        ratio(&rows[0]), ratio(fused), r.solution.stats.steps, r.residual, r.deviation,
                        to_string(r.solution.status));
  }
  return text;
}

Panel time_panel(const std::vector<Row>& rows) {
  Panel panel{.title = "time of one evaluation", .y_label = "milliseconds", .log_y = true};
  Series bars{.draw = Draw::bars};
  for (const Row& r : rows) {
    panel.categories.push_back(r.name);
    bars.y.push_back(r.seconds * 1e3);
  }
  panel.bar_suffix = " ms";
  panel.series.push_back(std::move(bars));
  return panel;
}

Panel residual_panel(const std::vector<std::pair<std::string, std::vector<double>>>& traces) {
  Panel panel{.title = "convergence over all time steps at once",
              .x_label = "iteration",
              .y_label = "largest residual",
              .log_y = true};
  for (const auto& [name, residuals] : traces) {
    Series s{.label = name, .draw = Draw::line_and_points};
    for (std::size_t k = 0; k < residuals.size(); ++k) {
      s.x.push_back(static_cast<double>(k));
      s.y.push_back(residuals[k]);
    }
    panel.series.push_back(std::move(s));
  }
  return panel;
}

std::vector<double> channel(const Tensor& hs, std::int64_t count) {  // the last steps of sequence 0, unit 0
  const Tensor t = cast(select(select(slice(hs, 0, hs.size(0) - count, hs.size(0)), 1, 0), 1, 0), float64);
  return contiguous(t).to_vector<double>();
}

Panel state_panel(const Problem& p, const Tensor& exact) {
  const std::int64_t count = std::min<std::int64_t>(80, p.xs.size(0));
  std::vector<double> x;
  for (std::int64_t t = p.xs.size(0) - count; t < p.xs.size(0); ++t) x.push_back(static_cast<double>(t));
  Panel panel{.title = "Newton's iterates, last steps of one unit", .x_label = "time step", .y_label = "state"};
  panel.series.push_back({.label = "step by step", .x = x, .y = channel(exact, count), .width = 6, .alpha = 0.35});
  solvers::Options options;
  options.on_failure = solvers::OnFailure::return_best;
  options.each_step = [&](const solvers::StepInfo& info) {
    if (info.step < 1 || info.step > 3 || info.active_items != p.xs.size(1)) return;
    panel.series.push_back({.label = fmt::format("iteration {}", info.step),
                            .x = x,
                            .y = channel(info.iterate, count),
                            .draw = info.step == 3 ? Draw::dashed_line : Draw::line});
  };
  static_cast<void>(solve_sequence(p.cell, p.h0, p.xs, p.theta, Deer{.fused = false}, options));
  return panel;
}

Summary summarize(const DemoSettings& s, const std::vector<Row>& rows) {
  Summary summary;
  summary.set("problem.cell", s.cell);
  summary.set("problem.state_size", s.input_size);
  summary.set("problem.batch_size", s.batch_size);
  summary.set("problem.length", s.length);
  summary.set("problem.dtype", s.dtype);
  summary.set("problem.seed", s.seed);
  summary.set("device", s.device);
  summary.set("threads", num_threads());
  for (const Row& r : rows) {
    const std::string at = "methods." + r.name + ".";
    summary.set(at + "seconds", r.seconds);
    summary.set(at + "speedup_over_" + rows[0].name, rows[0].seconds / r.seconds);
    summary.set(at + "iterations", r.solution.stats.steps);
    summary.set(at + "residual", r.residual);
    summary.set(at + "max_deviation", r.deviation);
    summary.set(at + "status", to_string(r.solution.status));
  }
  return summary;
}

}  // namespace

void describe(DemoSettings& s, Options& o) {
  o.group("problem");
  o.add("seed", &s.seed, "of weights and inputs").min(0);
  o.add("cell", &s.cell, "recurrent cell; lstm is a user's cell known by its step only").choices({"gru", "lstm"});
  o.add("inputsize", &s.input_size, "inputs and states per step").min(1).source("spec 6");
  o.add("batchsize", &s.batch_size, "sequences").min(1).source("spec 6");
  o.add("length", &s.length, "time steps").min(1).unit("steps").source("spec 6");
  o.add("dtype", &s.dtype, "element type").choices({"float32", "float64"});
  o.group("solver");
  o.add("method", &s.methods, "methods to run; `steps` always runs first, as the reference")
      .choices({"steps", "sequential", "jacobi", "quasi-deer", "deer", "shooting"});
  o.add("threads", &s.threads, "CPU threads; 0 = all cores").min(0).transient();
  add_device(o, &s.device);
  o.add("repetitions", &s.repetitions, "timed runs after a warm-up; the median counts").min(1);
  o.group("output");
  o.add("out", &s.out, "run directory to make; default runs/deer-demo-TIME").transient();
  describe(s.check, o);
  o.preset("smoke", "a second", {{"length", "300"}, {"batchsize", "2"}, {"repetitions", "1"}});
  o.preset("quick", "some seconds", {{"length", "3000"}});
  o.preset("paper", "the original's defaults", {{"inputsize", "2"}, {"batchsize", "16"}, {"length", "10000"}});
}

ExitCode demo(const DemoSettings& settings, const Invocation& invocation) {
  DemoSettings s = settings;
  if (s.cell == "lstm" && s.input_size % 2 != 0)
    invocation.options.fail(fmt::format(
        "got --inputsize {} for the cell lstm; expected an even number, half for each of h and c", s.input_size));
  if (std::find(s.methods.begin(), s.methods.end(), "steps") == s.methods.end())
    s.methods.insert(s.methods.begin(), "steps");
  if (s.threads > 0) set_num_threads(static_cast<int>(s.threads));
  const DType dtype = s.dtype == "float32" ? float32 : float64;
  const Device device = open_device(s.device);
  const Expectations expectations(s.check, "deer", "demo/" + preset_section(invocation.options));
  const RunDir run = s.out.empty() ? RunDir::create("runs", "deer-demo") : RunDir::create_at(s.out);
  run.write("config.toml", invocation.options.to_toml());
  run.write("build.txt", build_info());
  Log log(run.file("log.txt"), &std::cout);
  log.write_quietly(invocation.command_line);
  log.write(banner(s, dtype));

  const Problem problem = make_problem(s, dtype, device);
  std::vector<Row> rows;
  std::vector<std::pair<std::string, std::vector<double>>> traces;
  bool all_converged = true;
  for (const Candidate& c : candidates(s, problem.cell)) {
    rows.push_back(measure(c, problem, s));
    rows.back().deviation = largest(rows.back().solution.value - rows[0].solution.value);
    all_converged = all_converged && rows.back().solution.ok();
    if (!rows.back().solution.ok()) log.write(rows.back().solution.message());
    if (c.name == "jacobi" || c.name == "quasi-deer" || c.name == "deer")
      traces.emplace_back(c.name, trace(c.method, problem));
  }
  const Tensor& exact = rows[0].solution.value;
  log.write("\n" + table(rows));
  log.write(
      fmt::format("output range {:.3e}..{:.3e}; deviation is the largest difference from `steps`, residual that of "
                  "h_t = f(h_(t-1), x_t), computed apart from the solver",
                  min(exact).item(), max(exact).item()));
  const Summary summary = summarize(s, rows);
  summary.write(run.file("summary.json"));
  Figure figure{.title = fmt::format("{} with {} units, {} sequences of {} steps, {}", s.cell, s.input_size,
                                     s.batch_size, s.length, s.dtype),
                .caption = fmt::format("{}; {}", where(s), invocation.command_line),
                .columns = 3};
  figure.panels = {time_panel(rows)};
  if (!traces.empty()) figure.panels.push_back(residual_panel(traces));
  figure.panels.push_back(state_panel(problem, exact));
  save_figure(figure, run.file("demo.png"));
  log.write("run directory " + run.path().string());
  log.write("plot " + run.file("demo.png").string());
  const ExitCode checked = expectations.compare(summary, log);
  return all_converged ? checked : ExitCode::numerical_failure;
}

}  // namespace solvent::experiments
