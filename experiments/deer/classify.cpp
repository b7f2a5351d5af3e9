#include "solvent/experiments/deer/classify.h"

#include <chrono>
#include <cmath>
#include <iostream>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "solvent/core/build_info.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/experiments/common/data/batch_prefetcher.h"
#include "solvent/experiments/common/data/batch_tensors.h"
#include "solvent/experiments/common/data/datasets.h"
#include "solvent/experiments/common/data/read_progress.h"
#include "solvent/experiments/common/data/sampler.h"
#include "solvent/experiments/common/device_option.h"
#include "solvent/experiments/common/interrupt.h"
#include "solvent/experiments/common/plot.h"
#include "solvent/experiments/common/progress.h"
#include "solvent/experiments/common/recorder.h"
#include "solvent/experiments/common/run_dir.h"
#include "solvent/experiments/common/summary.h"
#include "solvent/experiments/deer/classifier.h"
#include "solvent/nn/checkpoint_store.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/optim/adam.h"
#include "solvent/nn/optim/clip.h"
#include "solvent/nn/optim/schedule.h"
#include "solvent/ops/ops.h"

namespace solvent::experiments {

namespace {

constexpr std::int64_t kBatchesAhead = 2;  // for a GPU; on the CPU the processors are busy with the step
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// --- data -------------------------------------------------------------------------------------------------------------------

// sign(x) log(1 + |x|): for quantities such as electric power that span orders of magnitude.
void compress(SequenceData& data) {
  for (float& v : data.values) v = std::copysign(std::log1p(std::abs(v)), v);
}

DataSplits load(const ClassifySettings& s) {
  DataSplits d = load_dataset(s.dataset, s.data_dir, s.max_series, show_read_progress(std::cerr, is_terminal(2)));
  if (s.log_scale) {
    compress(d.train);
    compress(d.test);
  }
  if (s.pool > 1) {
    d.train = mean_pool(d.train, s.pool);
    d.test = mean_pool(d.test, s.pool);
  }
  const ChannelStatistics statistics = channel_statistics(d.train);
  standardize(d.train, statistics);
  standardize(d.test, statistics);
  return d;
}

// --- training -----------------------------------------------------------------------------------------------------------------

struct StepResult {
  double loss = 0, grad_norm = 0, rate = 0;
};

// Model, optimiser and data order; everything that a step depends on besides the settings.
class Trainer {
 public:
  Trainer(const ClassifySettings& s, const DataSplits& data, const std::string& method)
      : settings_(s),
        data_(data),
        device_(open_device(s.device)),
        model_({data.train.num_channels, data.train.num_classes(), s.hidden, s.layers},
               Key(static_cast<std::uint64_t>(s.seed))),
        optimizer_({.learning_rate = s.learning_rate}),
        sampler_({.num_examples = data.train.size(),
                  .batch_size = s.batch_size,
                  .seed = static_cast<std::uint64_t>(s.seed)}),
        batches_([this](std::int64_t step) { return to_tensors(gather_batch(data_.train, sampler_.batch(step))); }, 0,
                 device_ == cpu_device ? 0 : kBatchesAhead, device_) {
    model_.to(device_);
    solver_.method = parse_method(method, s.window);
    solver_.options.termination.atol = s.atol;
    solver_.options.termination.rtol = s.rtol;
    solver_.options.termination.max_steps = static_cast<int>(s.max_iterations);
    if (s.warmup_steps > 0 || s.final_rate_factor != 1.0) {
      schedule_ = nn::WarmupCosine{.peak = s.learning_rate,
                                   .warmup_steps = s.warmup_steps,
                                   .total_steps = std::max(s.steps, s.warmup_steps + 1),
                                   .end = s.learning_rate * s.final_rate_factor};
    } else {
      schedule_ = nn::ConstantSchedule{s.learning_rate};
    }
  }

  StepResult step() {
    const std::int64_t index = optimizer_.steps();
    if (batches_.step() != index) batches_.seek(index);  // a checkpoint was loaded
    const BatchTensors batch = batches_.next();
    solver_.reset();
    const ValueAndGrad r = nn::value_and_grad(
        model_, [&] { return cross_entropy(model_(batch.values, batch.time_weights, solver_), batch.labels); });
    nn::ClippedGrads clipped = nn::clip_by_global_norm(r.grads, settings_.clip_norm);
    StepResult result{r.value.item(), clipped.norm, schedule_(index)};
    if (!std::isfinite(result.loss) || !std::isfinite(clipped.norm))
      throw NumericalError(
          fmt::format("[classify] step {}: loss {} and gradient norm {} are not both finite. Try a smaller "
                      "--learning-rate; the last checkpoint is intact.",
                      index + 1, result.loss, clipped.norm));
    optimizer_.set_learning_rate(result.rate);
    optimizer_.step(model_, clipped.grads);
    return result;
  }

  struct Score {
    double accuracy = 0, loss = 0;
    std::int64_t count = 0;
  };
  [[nodiscard]] Score evaluate(const SequenceData& data) const {
    Score score;
    for (std::int64_t first = 0; first < data.size(); first += settings_.eval_batch_size) {
      std::vector<std::int64_t> indices(
          static_cast<std::size_t>(std::min(settings_.eval_batch_size, data.size() - first)));
      std::iota(indices.begin(), indices.end(), first);
      const BatchTensors batch = to(to_tensors(gather_batch(data, indices)), device_);
      const Tensor logits = model_(batch.values, batch.time_weights, solver_);
      const auto n = static_cast<double>(indices.size());
      score.loss += cross_entropy(logits, batch.labels).item() * n;
      score.accuracy += sum(cast(equal(argmax(logits, -1), batch.labels), float64)).item();
      score.count += static_cast<std::int64_t>(indices.size());
    }
    score.loss /= static_cast<double>(score.count);
    score.accuracy /= static_cast<double>(score.count);
    return score;
  }

  void save(nn::CheckpointStore& store) {
    nn::StateValues state;
    state.set("experiment", "deer classify");
    state.set("seed", settings_.seed);
    state.set("loader position", steps());  // batch and learning rate of a step are functions of it
    store.save(steps(), parts(), state);
  }
  /// Goes on from the newest usable checkpoint, if there is one. @return messages about damaged ones
  /// @throws DataError if all are damaged or belong to other settings; nothing has changed then
  std::vector<std::string> load(nn::CheckpointStore& store) {
    try {
      const auto found = store.load(parts());
      if (!found) return {};
      if (found->state.text("experiment") != "deer classify" || found->state.integer("seed") != settings_.seed)
        throw IoError(
            fmt::format("[classify] the checkpoint in {} belongs to another experiment or seed", store.directory()));
      return found->warnings;
    } catch (const IoError& e) {
      throw DataError(std::string(e.what()) + ". The run cannot go on from it: start again without --resume.");
    }
  }

  [[nodiscard]] std::int64_t steps() const { return optimizer_.steps(); }
  [[nodiscard]] std::int64_t num_parameters() const { return model_.num_parameters(); }
  [[nodiscard]] const RecurrenceSolver& solver() const { return solver_; }
  [[nodiscard]] const EpochSampler& sampler() const { return sampler_; }

 private:
  nn::CheckpointParts parts() { return {.modules = {{"model", &model_}}, .optimizers = {{"adam", &optimizer_}}}; }

  const ClassifySettings& settings_;
  const DataSplits& data_;
  Device device_;
  SequenceClassifier model_;
  nn::Adam optimizer_;
  EpochSampler sampler_;
  nn::Schedule schedule_;
  RecurrenceSolver solver_;
  BatchPrefetcher<BatchTensors> batches_;  // last: its thread reads the data and the sampler
};

const std::vector<MetricColumn>& columns() {
  static const std::vector<MetricColumn> list = {{"loss", "nat"},        {"gradient norm", ""},   {"learning rate", ""},
                                                 {"solver steps", ""},   {"solver residual", ""}, {"time", "s"},
                                                 {"train accuracy", ""}, {"test accuracy", ""},   {"test loss", "nat"}};
  return list;
}

std::string describe_run(const ClassifySettings& s, const DataSplits& d, const Trainer& trainer) {
  std::string lengths = d.train.min_length() == d.train.max_length()
                            ? fmt::format("{}", d.train.max_length())
                            : fmt::format("{}..{}", d.train.min_length(), d.train.max_length());
  return fmt::format(
      "data      {} from {}: {} training and {} test series, {} steps, {} channel(s), {} classes\n"
      "model     {} GRU layer(s) of {} units, {} parameters\n"
      "method    {}, tolerance {:.0e} + {:.0e} |h|\n"
      "training  {} steps of {} series ({:.1f} epochs), Adam at {:g}, {}",
      s.dataset, d.origin, d.train.size(), d.test.size(), lengths, d.train.num_channels, d.train.num_classes(),
      s.layers, s.hidden, trainer.num_parameters(), s.method, s.atol, s.rtol, s.steps, s.batch_size,
      static_cast<double>(s.steps) / static_cast<double>(trainer.sampler().batches_per_epoch()), s.learning_rate,
      s.device == "cpu" ? fmt::format("{} thread(s)", num_threads()) : "on " + s.device);
}

// --- the loop -------------------------------------------------------------------------------------------------------------------

struct RunResult {
  bool interrupted = false;
  Trainer::Score test;
  double seconds = 0;
};

RunResult train(const ClassifySettings& s, const DataSplits& data, Trainer& trainer, nn::CheckpointStore& store,
                const RunDir& run, Log& log) {
  Recorder metrics(run, columns(), trainer.steps(), {.tensorboard = s.tensorboard});
  Progress progress(std::cerr, {.label = "classify",
                                .total = s.steps,
                                .first = trainer.steps(),
                                .is_terminal = is_terminal(2),
                                .width = terminal_width(2)});
  const InterruptGuard interrupt;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  RunResult result;
  std::string extra;
  std::int64_t saved = store.steps().empty() ? -1 : trainer.steps();
  const auto save = [&] {
    if (saved == trainer.steps()) return;
    metrics.sync();
    trainer.save(store);
    saved = trainer.steps();
  };
  while (trainer.steps() < s.steps && !interrupt.requested()) {
    const StepResult r = trainer.step();
    const RecurrenceSolver& solver = trainer.solver();
    std::vector<double> row = {
        r.loss, r.grad_norm, r.rate, static_cast<double>(solver.max_steps), solver.max_residual, elapsed(),
        kNan,   kNan,        kNan};
    if (trainer.steps() % s.eval_every == 0 || trainer.steps() == s.steps) {
      const Trainer::Score on_train = trainer.evaluate(data.train);
      result.test = trainer.evaluate(data.test);
      row[6] = on_train.accuracy;
      row[7] = result.test.accuracy;
      row[8] = result.test.loss;
      extra = fmt::format("test accuracy {:.3f}", result.test.accuracy);
      log.write_quietly(fmt::format("step {}: train accuracy {:.4f}, test accuracy {:.4f}, test loss {:.4f}",
                                    trainer.steps(), on_train.accuracy, result.test.accuracy, result.test.loss));
    }
    metrics.append(trainer.steps(), row);
    if (trainer.steps() % s.checkpoint_every == 0) save();
    progress.update(trainer.steps(), r.loss, extra);
  }
  progress.finish();
  save();
  result.seconds = elapsed();
  result.interrupted = trainer.steps() < s.steps;
  return result;
}

// --- loss parity --------------------------------------------------------------------------------------------------------------

struct Parity {
  std::string method;
  std::vector<double> losses;
  double max_difference = 0, seconds_per_step = 0;
};

// The first steps again with the other methods: their losses must be the same up to rounding.
std::vector<Parity> compare_methods(const ClassifySettings& s, const DataSplits& data,
                                    const std::vector<double>& losses, Log& log) {
  const auto n = std::min<std::size_t>(static_cast<std::size_t>(s.parity_steps), losses.size());
  std::vector<Parity> all;
  for (const std::string method : {"sequential", "deer", "shooting"}) {
    if (method == s.method || n == 0) continue;
    Parity p{method, {}, 0, 0};
    Trainer trainer(s, data, method);
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t k = 0; k < n; ++k) {
      p.losses.push_back(trainer.step().loss);
      p.max_difference = std::max(p.max_difference, std::abs(p.losses[k] - losses[k]));
    }
    p.seconds_per_step =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(n);
    log.write(fmt::format("first {} losses, {} against {}: largest difference {:.1e} ({})", n, method, s.method,
                          p.max_difference, p.max_difference <= 1e-4 ? "agree to 1e-4" : "DO NOT agree to 1e-4"));
    all.push_back(std::move(p));
  }
  return all;
}

// --- results --------------------------------------------------------------------------------------------------------------------

Series points_of(const std::vector<double>& x, const std::vector<double>& y, const std::string& label) {
  Series s{.label = label, .draw = Draw::line_and_points};
  for (std::size_t i = 0; i < x.size(); ++i)
    if (std::isfinite(y[i])) {
      s.x.push_back(x[i]);
      s.y.push_back(y[i]);
    }
  return s;
}

void plot(const ClassifySettings& s, const Metrics& m, const std::vector<Parity>& parity,
          const std::filesystem::path& file) {
  const std::vector<double>& step = m.column("step");
  const std::vector<double>& loss = m.column("loss");
  Figure figure{
      .title = fmt::format("{} trained through {}", s.dataset, s.method),
      .caption = fmt::format("{} GRU layers of {} units, batch {}, seed {}", s.layers, s.hidden, s.batch_size, s.seed)};
  Panel training{.title = "training loss", .x_label = "step", .y_label = "cross-entropy [nat]"};
  training.series.push_back({.label = "per step", .x = step, .y = loss, .alpha = 0.35, .color = 0});
  training.series.push_back({.label = "running mean", .x = step, .y = smooth(loss, 0.05), .color = 0});
  Panel accuracy{.title = "accuracy", .x_label = "step", .y_label = "fraction", .y_min = 0, .y_max = 1};
  accuracy.series.push_back(points_of(step, m.column("train accuracy"), "train"));
  accuracy.series.push_back(points_of(step, m.column("test accuracy"), "test"));
  figure.panels = {std::move(training), std::move(accuracy)};
  if (!parity.empty()) {
    Panel agreement{.title = "first losses by method", .x_label = "step", .y_label = "cross-entropy [nat]"};
    const std::size_t n = parity[0].losses.size();
    const std::vector<double> x(step.begin(), step.begin() + static_cast<std::ptrdiff_t>(n));
    agreement.series.push_back({.label = s.method,
                                .x = x,
                                .y = {loss.begin(), loss.begin() + static_cast<std::ptrdiff_t>(n)},
                                .width = 5,
                                .alpha = 0.4});
    for (const Parity& p : parity)
      agreement.series.push_back({.label = p.method, .x = x, .y = p.losses, .draw = Draw::dashed_line});
    figure.panels.push_back(std::move(agreement));
  }
  save_figure(figure, file);
}

Summary summarize(const ClassifySettings& s, const DataSplits& d, const Trainer& trainer, const RunResult& r,
                  const Metrics& m, const std::vector<Parity>& parity) {
  Summary summary;
  summary.set("dataset", s.dataset);
  summary.set("data_origin", d.origin);
  summary.set("method", s.method);
  summary.set("parameters", trainer.num_parameters());
  summary.set("steps", trainer.steps());
  summary.set("finished", !r.interrupted);
  summary.set("final_loss", m.column("loss").back());
  if (!r.interrupted) {
    summary.set("test.accuracy", r.test.accuracy);
    summary.set("test.loss", r.test.loss);
    summary.set("test.series", r.test.count);
    const std::vector<double>& train = m.column("train accuracy");
    summary.set("train.accuracy", train.back());
  }
  summary.set("seconds", r.seconds);
  summary.set("solver.max_steps", *std::max_element(m.column("solver steps").begin(), m.column("solver steps").end()));
  summary.set("solver.max_residual",
              *std::max_element(m.column("solver residual").begin(), m.column("solver residual").end()));
  for (const Parity& p : parity) {
    summary.set("parity." + p.method + ".steps", static_cast<std::int64_t>(p.losses.size()));
    summary.set("parity." + p.method + ".max_difference", p.max_difference);
    summary.set("parity." + p.method + ".within_1e-4", p.max_difference <= 1e-4);
    summary.set("parity." + p.method + ".seconds_per_step", p.seconds_per_step);
  }
  return summary;
}

RunDir open_run(const ClassifySettings& s) {
  if (!s.resume.empty()) return RunDir::open(s.resume);
  if (!s.out.empty()) return RunDir::create_at(s.out);
  return RunDir::create("runs", "deer-classify-" + s.dataset);
}

}  // namespace

void describe(ClassifySettings& s, Options& o) {
  o.group("data");
  o.add("dataset", &s.dataset, "what to classify").choices(dataset_names());
  o.add("data-dir", &s.data_dir, "folder with the data; else $SOLVENT_DATA, else data/").transient();
  o.add("max-series", &s.max_series, "use at most so many series of each part; 0 = all").min(0).unit("series");
  o.add("pool", &s.pool, "mean over this many consecutive time steps")
      .min(1)
      .unit("steps")
      .source("1 = none, as the paper");
  o.add("log-scale", &s.log_scale, "compress values by sign(x) log(1 + |x|) before standardising")
      .source("chosen here");
  o.group("model");
  o.add("hidden", &s.hidden, "width of all layers and states").min(1).unit("units").source("spec 5.4");
  o.add("layers", &s.layers, "recurrent blocks").min(1).source("spec 5.4");
  o.group("solver");
  o.add("method", &s.method, "how the recurrences are evaluated")
      .choices({"sequential", "deer", "quasi-deer", "shooting"});
  o.add("window", &s.window, "steps per Newton window or shooting chunk; 0 = chosen from the sizes")
      .min(0)
      .unit("steps");
  o.add("atol", &s.atol, "absolute tolerance of the residual").above(0);
  o.add("rtol", &s.rtol, "tolerance relative to the state").min(0);
  o.add("max-iterations", &s.max_iterations, "limit of one solve").min(1).unit("iterations");
  o.group("training");
  o.add("steps", &s.steps, "optimiser steps").min(1).unit("steps");
  o.add("batch-size", &s.batch_size, "series per step").min(1).unit("series").source("spec 5.4");
  o.add("eval-batch-size", &s.eval_batch_size, "series evaluated together").min(1).unit("series");
  o.add("learning-rate", &s.learning_rate, "rate of Adam").above(0).source("spec 5.4");
  o.add("warmup-steps", &s.warmup_steps, "linear warm-up").min(0).unit("steps");
  o.add("final-rate-factor", &s.final_rate_factor, "cosine decay to this part of the rate; 1 = constant").range(0, 1);
  o.add("clip-norm", &s.clip_norm, "largest global norm of the gradient").above(0).source("spec 5.4");
  o.add("seed", &s.seed, "of weights and data order").min(0);
  o.add("parity-steps", &s.parity_steps, "repeat so many steps with the other methods and compare losses; 0 = do not")
      .min(0)
      .unit("steps");
  o.group("output");
  o.add("eval-every", &s.eval_every, "steps between evaluations").min(1).unit("steps");
  o.add("checkpoint-every", &s.checkpoint_every, "steps between checkpoints").min(1).unit("steps");
  o.add("threads", &s.threads, "CPU threads; 0 = all cores").min(0).transient();
  add_device(o, &s.device);
  o.add("out", &s.out, "run directory to make; default runs/deer-classify-DATASET-TIME").transient();
  o.add("tensorboard", &s.tensorboard, "also write event files for TensorBoard").transient();
  describe(s.check, o);
  o.add_resume("resume", &s.resume, "continue the run in this directory, bit by bit as if it had not stopped");
  o.preset("smoke", "seconds, no download",
           {{"dataset", "orbits"},
            {"max-series", "12"},
            {"pool", "20"},
            {"hidden", "4"},
            {"layers", "1"},
            {"steps", "6"},
            {"batch-size", "4"},
            {"eval-every", "3"},
            {"checkpoint-every", "2"},
            {"parity-steps", "6"},
            {"learning-rate", "0.003"}});
  o.preset("demo", "about a minute on two cores",
           {{"method", "shooting"},
            {"hidden", "16"},
            {"layers", "2"},
            {"batch-size", "10"},
            {"steps", "500"},
            {"learning-rate", "0.004"},
            {"warmup-steps", "200"},
            {"final-rate-factor", "0.05"},
            {"log-scale", "true"},
            {"eval-every", "100"},
            {"parity-steps", "50"},
            {"pool", "5"}});
  o.preset("quick", "some minutes on two cores",
           {{"method", "shooting"},
            {"hidden", "16"},
            {"layers", "2"},
            {"batch-size", "10"},
            {"steps", "1500"},
            {"learning-rate", "0.004"},
            {"warmup-steps", "200"},
            {"final-rate-factor", "0.05"},
            {"log-scale", "true"},
            {"eval-every", "100"}});
  o.preset("paper", "sizes and rate of the paper (EigenWorms needs its files)",
           {{"dataset", "eigenworms"},
            {"hidden", "32"},
            {"layers", "5"},
            {"batch-size", "4"},
            {"learning-rate", "3e-5"},
            {"steps", "16425"}});
}

ExitCode classify(const ClassifySettings& s, const Invocation& invocation) {
  if (s.threads > 0) set_num_threads(static_cast<int>(s.threads));
  const Expectations expectations(s.check, "deer",
                                  fmt::format("classify/{}/{}", preset_section(invocation.options), s.dataset));
  static_cast<void>(open_device(s.device));  // a wrong device is told before minutes of reading
  const DataSplits data = load(s);
  Trainer trainer(s, data, s.method);
  const RunDir run = open_run(s);
  nn::CheckpointStore store(run.checkpoint_dir().string());
  Log log(run.file("log.txt"), &std::cout);
  if (s.resume.empty()) {
    run.write("config.toml", invocation.options.to_toml());
    run.write("build.txt", build_info());
  } else {
    for (const std::string& warning : trainer.load(store)) log.write(warning);
  }
  log.write_quietly(invocation.command_line);
  log.write(describe_run(s, data, trainer));
  if (!s.resume.empty()) log.write(fmt::format("resumed after step {}", trainer.steps()));

  RunResult result = train(s, data, trainer, store, run, log);
  const Metrics metrics = read_metrics(run.file("metrics.csv"));
  if (result.interrupted) {
    log.write(fmt::format("stopped after step {}; go on with: deer classify --resume {}", trainer.steps(),
                          run.path().string()));
    summarize(s, data, trainer, result, metrics, {}).write(run.file("summary.json"));
    return ExitCode::done;
  }
  if (result.test.count == 0) result.test = trainer.evaluate(data.test);  // resumed after the last step
  const std::vector<Parity> parity = compare_methods(s, data, metrics.column("loss"), log);
  const Summary summary = summarize(s, data, trainer, result, metrics, parity);
  summary.write(run.file("summary.json"));
  plot(s, metrics, parity, run.file("training.png"));
  log.write(fmt::format("{} test accuracy {:.3f} ({} of {} series), loss {:.3f}, after {} steps in {:.0f} s", s.dataset,
                        result.test.accuracy,
                        std::lround(result.test.accuracy * static_cast<double>(result.test.count)), result.test.count,
                        result.test.loss, trainer.steps(), result.seconds));
  log.write("run directory " + run.path().string());
  log.write("plot " + run.file("training.png").string());
  return expectations.compare(summary, log);
}

}  // namespace solvent::experiments
