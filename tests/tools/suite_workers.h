// Runs numbered jobs in worker processes, so that a crash is one failed job.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "suite_compare.h"

namespace suite {

struct JobResult {
  Verdict verdict{"did not run", ""};
  double milliseconds = 0;
};

using Job = std::function<Verdict(size_t)>;

class Workers {
 public:
  Workers(size_t jobs, size_t workers, Job job, unsigned seconds)
      : results_(jobs), stride_(std::max<size_t>(1, std::min(workers, jobs))), job_(std::move(job)), limit_(seconds) {}

  std::vector<JobResult> run() {
    ::signal(SIGPIPE, SIG_IGN);
    std::vector<Worker> workers(stride_);
    for (size_t w = 0; w < workers.size(); ++w) {
      workers[w].next = w;
      start(workers[w]);
    }
    for (size_t running = workers.size(); running > 0;) {
      std::vector<pollfd> polls;
      std::vector<Worker*> who;
      for (Worker& worker : workers)
        if (worker.fd >= 0) {
          polls.push_back({worker.fd, POLLIN, 0});
          who.push_back(&worker);
        }
      ::poll(polls.data(), polls.size(), -1);
      for (size_t p = 0; p < polls.size(); ++p)
        if (polls[p].revents != 0 && !take(*who[p])) --running;
    }
    return std::move(results_);
  }

 private:
  struct Worker {
    pid_t pid = 0;
    int fd = -1;
    size_t next = 0;  // job that runs or comes next
    std::string pending;
  };

  static std::string flat(std::string text) {
    for (char& c : text)
      if (c == '\n' || c == '\t') c = ' ';
    return text.substr(0, 900);
  }

  void start(Worker& worker) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    std::fflush(nullptr);
    worker.pid = ::fork();
    if (worker.pid == 0) {
      ::close(ends[0]);
      for (size_t i = worker.next; i < results_.size(); i += stride_) {
        Verdict verdict;
        const auto begin = std::chrono::steady_clock::now();
        try {
          ::alarm(limit_);
          verdict = job_(i);
        } catch (const std::exception& error) {
          verdict.why = error.what();
          if (verdict.why.empty()) verdict.why = "an error without text";
        }
        const double took = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
        const std::string line = std::to_string(i) + " " + std::to_string(took) + "\t" + flat(verdict.why) + "\t" +
                                 flat(verdict.outside) + "\n";
        if (::write(ends[1], line.data(), line.size()) < 0) ::_exit(1);
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    worker.fd = ends[0];
  }

  // false when the worker is done.
  bool take(Worker& worker) {
    char buffer[4096];
    const ssize_t n = ::read(worker.fd, buffer, sizeof buffer);
    if (n > 0) {
      worker.pending.append(buffer, static_cast<size_t>(n));
      for (size_t end; (end = worker.pending.find('\n')) != std::string::npos; worker.pending.erase(0, end + 1))
        record(worker, worker.pending.substr(0, end));
      return true;
    }
    ::close(worker.fd);
    worker.fd = -1;
    int status = 0;
    ::waitpid(worker.pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
    if (worker.next < results_.size()) {
      results_[worker.next].verdict = {
          WIFSIGNALED(status) ? std::string("crashed: ") + ::strsignal(WTERMSIG(status)) : "the process ended", ""};
      worker.next += stride_;
    }
    worker.pending.clear();
    start(worker);
    return true;
  }

  void record(Worker& worker, const std::string& line) {
    const size_t space = line.find(' '), first = line.find('\t'), second = line.find('\t', first + 1);
    const size_t index = std::stoul(line.substr(0, space));
    results_[index] = {{line.substr(first + 1, second - first - 1), line.substr(second + 1)},
                       std::stod(line.substr(space + 1, first - space - 1))};
    worker.next = index + stride_;
  }

  std::vector<JobResult> results_;
  const size_t stride_;
  const Job job_;
  const unsigned limit_;
};

}  // namespace suite
