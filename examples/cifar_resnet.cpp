// A residual network on CIFAR-10, as a whole training program: options, augmented batches, a run directory with metrics,
// checkpoints and a figure, and continuation after an interruption.
//
//     scripts/get-data cifar10
//     cifar_resnet                          some minutes on two idle cores; cifar_resnet --help lists the options
//     cifar_resnet --resume runs/DIRECTORY  goes on, bit by bit as if it had not stopped
#include <chrono>
#include <cmath>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "solvent/examples/cifar_resnet.h"
#include "solvent/experiments/common/data/datasets.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/experiments/common/data/read_progress.h"
#include "solvent/experiments/common/device_option.h"
#include "solvent/experiments/common/interrupt.h"
#include "solvent/experiments/common/plot.h"
#include "solvent/experiments/common/program.h"
#include "solvent/experiments/common/progress.h"
#include "solvent/experiments/common/recorder.h"
#include "solvent/experiments/common/summary.h"
#include "solvent/solvent.h"
using namespace solvent;
using namespace solvent::examples;
using namespace solvent::experiments;

namespace {

struct Settings {
  std::string dataset = "cifar10", data_dir, device = "cpu", out, resume;
  std::int64_t max_images = 0, width = 32, epochs = 6, batch_size = 64, seed = 1, threads = 0;
  double learning_rate = 0.1, momentum = 0.9, weight_decay = 5e-4, require_accuracy = 0;
};

// --- training -----------------------------------------------------------------------------------------------------------------

struct Score {
  double accuracy = 0, loss = 0;
};

// Model, optimiser, data order: all that a step depends on besides the settings, and all that a checkpoint holds.
class Trainer {
 public:
  Trainer(const Settings& s, const ImageSplits& data)
      : settings_(s),
        device_(open_device(s.device)),
        training_(std::make_shared<ImageSet>(data.train), {.batch_size = s.batch_size,
                                                           .seed = static_cast<std::uint64_t>(s.seed),
                                                           .drop_last = true,
                                                           .augmentation = {.flip = true, .crop_padding = padding(s)},
                                                           .normalization = normalization(s),
                                                           .device = device_}),
        test_(std::make_shared<ImageSet>(data.test),
              {.batch_size = 500, .shuffle = false, .normalization = normalization(s), .device = device_}),
        model_(resnet(data.train.channels, s.width, data.train.num_classes(), Key(static_cast<std::uint64_t>(s.seed)))),
        optimizer_({.learning_rate = s.learning_rate,
                    .momentum = s.momentum,
                    .weight_decay = s.weight_decay,
                    .nesterov = s.momentum > 0}),
        rate_{.initial = s.learning_rate / 10,
              .peak = s.learning_rate,
              .end = s.learning_rate / 1000,
              .total_steps = total_steps(),
              .rise = 0.25} {
    model_.to(device_);
  }

  // One step on the next batch, which a background thread has prepared; returns the loss.
  double step() {
    const ImageBatch batch = training_.next();
    const ValueAndGrad r =
        nn::value_and_grad(model_, [&] { return cross_entropy(model_(batch.images), batch.labels); });
    const double loss = r.value.item();
    if (!std::isfinite(loss))
      throw NumericalError(
          fmt::format("[cifar_resnet] step {}: the loss is {}. Try a smaller --learning-rate.", steps() + 1, loss));
    optimizer_.set_learning_rate(rate_(steps()));
    optimizer_.step(model_, r.grads);
    epoch_loss_ += loss;
    return loss;
  }

  // The mean loss of the steps since the last call.
  double take_epoch_loss() { return std::exchange(epoch_loss_, 0.0) / static_cast<double>(steps_per_epoch()); }

  // All test images, normalised by the running statistics.
  Score evaluate() {
    model_.set_training(false);
    Score score;
    double count = 0;
    for (std::int64_t i = 0; i < test_.batches_per_epoch(); ++i) {
      const ImageBatch batch = test_.next();
      const Tensor logits = model_(batch.images);
      const auto n = static_cast<double>(batch.labels.numel());
      score.loss += cross_entropy(logits, batch.labels).item() * n;
      score.accuracy += sum(cast(equal(argmax(logits, -1), batch.labels), float64)).item();
      count += n;
    }
    model_.set_training(true);
    return {score.accuracy / count, score.loss / count};
  }

  // [checkpoint]
  void save(nn::CheckpointStore& store) {
    nn::StateValues state;
    state.set("loader", training_.state());
    state.set("epoch loss", epoch_loss_);
    store.save(steps(), parts(), state);
  }

  // Goes on from the newest undamaged checkpoint; without any from the start. Returns what to tell about damaged ones.
  std::vector<std::string> load(nn::CheckpointStore& store) {
    const auto found = store.load(parts());
    if (!found) return {};
    training_.restore(found->state.text("loader"));
    epoch_loss_ = found->state.number("epoch loss");
    return found->warnings;
  }
  // [checkpoint]

  [[nodiscard]] std::int64_t steps() const { return optimizer_.steps(); }
  [[nodiscard]] std::int64_t steps_per_epoch() const { return training_.batches_per_epoch(); }
  [[nodiscard]] std::int64_t total_steps() const { return settings_.epochs * steps_per_epoch(); }
  [[nodiscard]] double learning_rate() const { return optimizer_.learning_rate(); }
  [[nodiscard]] std::int64_t num_parameters() const { return model_.num_parameters(); }

 private:
  nn::CheckpointParts parts() { return {.modules = {{"model", &model_}}, .optimizers = {{"sgd", &optimizer_}}}; }
  static std::int64_t padding(const Settings& s) { return s.dataset == "patterns" ? 2 : 4; }
  // Mean and deviation of the 50,000 training images; generated images are as they should be.
  static Normalization normalization(const Settings& s) {
    if (s.dataset == "patterns") return {};
    return {.mean = {0.4914, 0.4822, 0.4465}, .stddev = {0.2470, 0.2435, 0.2616}};
  }

  const Settings& settings_;
  Device device_;
  ImageLoader training_, test_;
  nn::Sequential model_;
  nn::Sgd optimizer_;
  nn::OneCycleSchedule rate_;
  double epoch_loss_ = 0;
};

// --- the run --------------------------------------------------------------------------------------------------------------------

const std::vector<MetricColumn> kColumns = {{"loss", "nat"},      {"learning rate", ""}, {"train loss", "nat"},
                                            {"test loss", "nat"}, {"test accuracy", ""}, {"speed", "images/s"}};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Trains to the end or until a signal; one row of metrics per step, results of an epoch in the row of its last step.
std::optional<Score> train(const Settings& s, Trainer& trainer, nn::CheckpointStore& store, const RunDir& run,
                           Log& log) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  Recorder metrics(run, kColumns, trainer.steps());
  Progress progress(std::cerr, {.label = "cifar_resnet",
                                .total = trainer.total_steps(),
                                .first = trainer.steps(),
                                .is_terminal = is_terminal(2),
                                .width = terminal_width(2)});
  const InterruptGuard interrupt;
  std::optional<Score> score;
  std::string extra;
  auto start = std::chrono::steady_clock::now();
  std::int64_t first = trainer.steps();
  const auto save = [&] {
    metrics.sync();
    trainer.save(store);
  };
  while (trainer.steps() < trainer.total_steps() && !interrupt.requested()) {
    const double loss = trainer.step();
    std::vector<double> row = {loss, trainer.learning_rate(), kNan, kNan, kNan, kNan};
    const bool epoch_ends = trainer.steps() % trainer.steps_per_epoch() == 0;
    if (epoch_ends) {
      const double speed = static_cast<double>((trainer.steps() - first) * s.batch_size) / seconds_since(start);
      const double train_loss = trainer.take_epoch_loss();
      score = trainer.evaluate();
      row = {loss, trainer.learning_rate(), train_loss, score->loss, score->accuracy, speed};
      extra = fmt::format("test accuracy {:.4f}", score->accuracy);
      progress.note(fmt::format("epoch {}: train loss {:.4f}, test loss {:.4f}, test accuracy {:.4f}, {:.0f} images/s",
                                trainer.steps() / trainer.steps_per_epoch(), train_loss, score->loss, score->accuracy,
                                speed));
      start = std::chrono::steady_clock::now();
      first = trainer.steps();
    }
    metrics.append(trainer.steps(), row);
    if (epoch_ends) save();
    progress.update(trainer.steps(), loss, extra);
  }
  progress.finish();
  if (trainer.steps() % trainer.steps_per_epoch() != 0) save();
  if (trainer.steps() < trainer.total_steps())
    log.write(fmt::format("stopped after step {}; go on with: cifar_resnet --resume {}", trainer.steps(),
                          run.path().string()));
  return score;
}

// A column over the epochs, where it was measured.
Series curve(const Metrics& metrics, const std::string& column, double steps_per_epoch, Draw draw) {
  Series s{.label = column, .draw = draw};
  for (std::size_t i = 0; i < metrics.column("step").size(); ++i)
    if (const double y = metrics.column(column)[i]; std::isfinite(y)) {
      s.x.push_back(metrics.column("step")[i] / steps_per_epoch);
      s.y.push_back(y);
    }
  return s;
}

void plot(const Settings& s, const Trainer& trainer, const RunDir& run) {
  const Metrics m = read_metrics(run.file("metrics.csv"));
  const auto of = [&](const std::string& column, Draw draw) {
    return curve(m, column, static_cast<double>(trainer.steps_per_epoch()), draw);
  };
  Panel loss{.title = "loss", .x_label = "epoch", .y_label = "cross-entropy [nat]", .x_min = 0};
  loss.series = {of("loss", Draw::line), of("train loss", Draw::line_and_points),
                 of("test loss", Draw::line_and_points)};
  loss.series[0].alpha = 0.3;
  Panel accuracy{
      .title = "test accuracy", .x_label = "epoch", .y_label = "fraction", .x_min = 0, .y_min = 0, .y_max = 1};
  accuracy.series = {of("test accuracy", Draw::line_and_points)};
  save_figure(
      {.title = "Residual network on " + s.dataset,
       .caption = fmt::format("{} parameters, {} epochs of {} steps of {} images, seed {}; cifar_resnet",
                              trainer.num_parameters(), s.epochs, trainer.steps_per_epoch(), s.batch_size, s.seed),
       .scale = 1.5,
       .panels = {std::move(loss), std::move(accuracy)}},
      run.file("training.png"));
}

RunDir open_run(const Settings& s) {
  if (!s.resume.empty()) return RunDir::open(s.resume);
  if (!s.out.empty()) return RunDir::create_at(s.out);
  return RunDir::create("runs", "cifar_resnet");
}

ExitCode run(const Settings& s, const Invocation& invocation) {
  if (s.threads > 0) set_num_threads(static_cast<int>(s.threads));
  static_cast<void>(open_device(s.device));  // a wrong device is told before reading
  const ImageSplits data =
      load_images(s.dataset, s.data_dir, s.max_images, show_read_progress(std::cerr, is_terminal(2)));
  Trainer trainer(s, data);
  const RunDir dir = open_run(s);
  nn::CheckpointStore store(dir.checkpoint_dir().string());
  Log log(dir.file("log.txt"), &std::cout);
  if (s.resume.empty()) {
    dir.write("config.toml", invocation.options.to_toml());
    dir.write("build.txt", build_info());
  } else {
    try {
      for (const std::string& warning : trainer.load(store)) log.write(warning);
    } catch (const IoError& error) {
      throw DataError(std::string(error.what()) + ". The run cannot go on from it: start again without --resume.");
    }
    log.write(fmt::format("resumed after step {}", trainer.steps()));
  }
  log.write_quietly(invocation.command_line);
  log.write(
      fmt::format("data      {}: {} training and {} test images\nmodel     {} parameters\ntraining  {} epochs of {} "
                  "steps of {} images, {}",
                  data.train.origin, data.train.size(), data.test.size(), trainer.num_parameters(), s.epochs,
                  trainer.steps_per_epoch(), s.batch_size,
                  s.device == "cpu" ? fmt::format("{} thread(s)", num_threads()) : "on " + s.device));

  const auto start = std::chrono::steady_clock::now();
  const std::optional<Score> last = train(s, trainer, store, dir, log);
  if (trainer.steps() < trainer.total_steps()) return ExitCode::done;
  const Score score = last ? *last : trainer.evaluate();  // resumed after the last step
  Summary summary;
  summary.set("parameters", trainer.num_parameters());
  summary.set("steps", trainer.steps());
  summary.set("seconds", seconds_since(start));
  summary.set("test.accuracy", score.accuracy);
  summary.set("test.loss", score.loss);
  summary.write(dir.file("summary.json"));
  plot(s, trainer, dir);
  log.write(fmt::format("test accuracy {:.4f}, loss {:.4f}, after {} steps in {:.0f} s\nrun directory {}",
                        score.accuracy, score.loss, trainer.steps(), seconds_since(start), dir.path().string()));
  if (score.accuracy >= s.require_accuracy) return ExitCode::done;
  log.write(fmt::format("the accuracy is below the required {:g}", s.require_accuracy));
  return ExitCode::check_failed;
}

void describe(Settings& s, Options& o) {
  o.group("data");
  o.add("dataset", &s.dataset, "images to classify; patterns are generated")
      .choices({"cifar10", "cifar100", "patterns"});
  o.add("data-dir", &s.data_dir, "folder of cifar10/; else $SOLVENT_DATA, else data/").transient();
  o.add("max-images", &s.max_images, "use at most so many images of each part; 0 = all").min(0).unit("images");
  o.group("model");
  o.add("width", &s.width, "channels of the first stage; the fourth has eight times as many").min(1).unit("channels");
  o.group("training");
  o.add("epochs", &s.epochs, "passes through the training images").min(1);
  o.add("batch-size", &s.batch_size, "images per step").min(1).unit("images");
  o.add("learning-rate", &s.learning_rate, "peak of the one-cycle schedule").above(0);
  o.add("momentum", &s.momentum, "Nesterov's momentum of SGD").range(0, 1);
  o.add("weight-decay", &s.weight_decay, "of all parameters").min(0);
  o.add("seed", &s.seed, "of weights, order and augmentation").min(0);
  o.group("output");
  o.add("require-accuracy", &s.require_accuracy, "exit with 5 if the final test accuracy is below")
      .range(0, 1)
      .transient();
  add_device(o, &s.device);
  o.add("threads", &s.threads, "CPU threads; 0 = all cores").min(0).transient();
  o.add("out", &s.out, "run directory to make; default runs/cifar_resnet-TIME").transient();
  o.add_resume("resume", &s.resume, "continue the run in this directory, bit by bit as if it had not stopped");
  o.preset("smoke", "seconds, no download",
           {{"dataset", "patterns"}, {"max-images", "512"}, {"width", "4"}, {"epochs", "3"}, {"batch-size", "32"}});
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  Program program("cifar_resnet", "a residual network on CIFAR-10 (He et al. 2016, arXiv:1512.03385)");
  describe(settings, program.command("", "train and test", [&](const Invocation& i) { return run(settings, i); }));
  return program.main(argc, argv);
}
