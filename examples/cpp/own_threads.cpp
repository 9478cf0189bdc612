// Runs a model with one float input of shape [N, 3, H, W] on threads of the program's own: a pool of std::threads that
// wait for tasks. Compares with a run on Sinter's threads and says how often the pool was asked.
//
//   own_threads MODEL.onnx HEIGHT WIDTH THREADS
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <sinter/sinter.hpp>
#include <thread>
#include <vector>

namespace {

// Threads that run what they are given next to the thread that asks for it. One task at a time: who comes while others
// use the pool runs all workers alone, so that nobody waits for anybody.
class ThreadPool {
 public:
  explicit ThreadPool(int threads) {
    for (int w = 1; w < threads; ++w) threads_.emplace_back([this, w] { wait_for_tasks(w); });
  }
  ~ThreadPool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    begin_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // What sinter::threads_of wants: task(w) once for each w in [0, workers).
  void run(const sinter::task& task, int workers) {
    const std::unique_lock<std::mutex> only(one_at_a_time_, std::try_to_lock);
    if (!only) {
      for (int w = 0; w < workers; ++w) task(w);
      return;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    ++tasks_;
    task_ = task;
    workers_ = workers;
    running_ = workers - 1;
    lock.unlock();
    begin_.notify_all();
    task(0);
    lock.lock();
    end_.wait(lock, [this] { return running_ == 0; });
    task_.reset();
  }
  long tasks() const { return tasks_; }

 private:
  void wait_for_tasks(int worker) {
    long seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      begin_.wait(lock, [&] { return stop_ || tasks_ != seen; });
      if (stop_) return;
      seen = tasks_;
      if (!task_ || worker >= workers_) continue;
      const sinter::task task = *task_;
      lock.unlock();
      task(worker);
      lock.lock();
      if (--running_ == 0) end_.notify_one();
    }
  }

  std::mutex one_at_a_time_, mutex_;
  std::condition_variable begin_, end_;
  std::optional<sinter::task> task_;
  int workers_ = 0, running_ = 0;
  long tasks_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

sinter::tensor<float> output_of(sinter::context& context, const sinter::tensor<float>& x) {
  context.set_input(0, x);
  context.run();
  return context.output<float>(0);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 5) {
    std::fprintf(stderr, "usage: %s MODEL.onnx HEIGHT WIDTH THREADS\n", argv[0]);
    return 2;
  }
  const int threads = std::atoi(argv[4]);
  ThreadPool pool(threads);  // before what uses it, so that it goes last
  sinter::build_options options;
  options.threads = threads;
  const sinter::engine engine = sinter::engine::build(argv[1], options);
  sinter::tensor<float> x{{1, 3, std::atoll(argv[2]), std::atoll(argv[3])}, {}};
  x.data.resize(static_cast<size_t>(3 * x.dims[2] * x.dims[3]));
  for (size_t i = 0; i < x.data.size(); ++i) x.data[i] = static_cast<float>(i) / static_cast<float>(x.data.size());

  sinter::context usual(engine), own(engine);
  own.set_threads(sinter::threads_of(pool, threads));
  const bool same = output_of(usual, x).data == output_of(own, x).data;
  std::printf("%s outputs; the pool had %ld tasks\n", same ? "the same" : "different", pool.tasks());
  return same ? 0 : 1;
} catch (const sinter::error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
