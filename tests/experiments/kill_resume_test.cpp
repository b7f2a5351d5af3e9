// Kills a training program at random moments and lets it go on: the result must have the bits of an uninterrupted run.

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "solvent/core/rng.h"
#include "solvent/tests/experiments/test_tools.h"

using solvent::experiments::testing::read_text;
using solvent::experiments::testing::TemporaryDirectory;

namespace fs = std::filesystem;

namespace {

constexpr const char* kSteps = "60";

/// The program, which lies beside this one. Output goes to `log`.
pid_t start(const fs::path& folder, const fs::path& log) {
  const std::string program = (fs::read_symlink("/proc/self/exe").parent_path() / "killable_training").string();
  std::string name = program, where = folder.string(), steps = kSteps;
  char* arguments[] = {name.data(), where.data(), steps.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  INFO("starting " << program);
  REQUIRE(error == 0);
  return pid;
}

/// Exit code, or minus the signal that ended it.
int wait_for(pid_t pid) {
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

struct Counts {
  int killed = 0, during_checkpoint = 0, with_checkpoint = 0;
};

bool has_checkpoint(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoint", error))
    if (entry.path().extension() == ".json") return true;
  return false;
}

bool has_unfinished_file(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoint", error))
    if (entry.path().filename().string().find(".tmp-") != std::string::npos) return true;
  return false;
}

/// Where flushing costs nothing: a kill, unlike a power failure, does not tell disks from memory.
fs::path fast_folder() { return ::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path(); }

/// Kills `kills` runs at times that are uniform over the duration of a run; checks each one's continuation.
Counts kill_and_resume(int kills, std::uint64_t seed) {
  const TemporaryDirectory dir(fast_folder());
  std::chrono::duration<double> duration(1e9);
  for (int i = 0; i < 3; ++i) {  // the shortest of three: a busy machine must not make the delays too long
    fs::remove_all(dir / "whole");
    fs::create_directory(dir / "whole");
    const auto begin = std::chrono::steady_clock::now();
    REQUIRE(wait_for(start(dir / "whole", dir / "log")) == 0);
    duration = std::min(duration, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin));
  }
  const std::string result = read_text(dir / "whole/result.safetensors"),
                    metrics = read_text(dir / "whole/metrics.csv");
  REQUIRE(result.size() > 1000);

  Counts counts;
  const solvent::Key key(seed);
  for (int i = 0; counts.killed < kills; ++i) {
    REQUIRE(i < 10 * kills);  // nearly all runs would have ended before their kill
    INFO("run " << i << " of seed " << seed);
    const fs::path folder = dir / "part";
    fs::remove_all(folder);
    fs::create_directory(folder);
    const pid_t pid = start(folder, dir / "log");
    std::this_thread::sleep_for(duration * key.uniform(static_cast<std::uint64_t>(i)));
    ::kill(pid, SIGKILL);
    const int code = wait_for(pid);
    REQUIRE((code == -SIGKILL || code == 0));
    counts.killed += code == -SIGKILL;
    counts.with_checkpoint += code == -SIGKILL && has_checkpoint(folder);
    counts.during_checkpoint += code == -SIGKILL && has_unfinished_file(folder);
    const int resumed = wait_for(start(folder, dir / "log"));
    INFO(read_text(dir / "log"));
    REQUIRE(resumed == 0);
    REQUIRE(read_text(folder / "result.safetensors") == result);
    REQUIRE(read_text(folder / "metrics.csv") == metrics);
  }
  return counts;
}

}  // namespace

TEST_CASE("kill and resume: a killed run goes on to the bits of an uninterrupted one") {
  CHECK(kill_and_resume(10, 1).killed == 10);
}

TEST_CASE("kill and resume: 200 random moments", "[slow]") {
  const Counts counts = kill_and_resume(200, 2);
  WARN(counts.with_checkpoint << " of 200 runs were killed after their first checkpoint, " << counts.during_checkpoint
                              << " while writing one");
  CHECK(counts.with_checkpoint >= 20);
}
