#include "threads.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(_WIN32)
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

namespace splatpose {

namespace {

struct Job {
  void (*task)(void*, int64_t, int);
  void* context;
  int64_t count;
  std::atomic<int64_t> next{0};

  void work(int worker) {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) task(context, i, worker);
  }
};

// Sleeping helpers, started when first asked for. Never destroyed: joining threads while the
// interpreter unloads modules can hang.
class Pool {
 public:
  void run(int threads, Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (; started_ < threads - 1; ++started_) {
      std::thread(&Pool::help, this, started_ + 1, generation_).detach();
    }
    job_ = &job;
    wanted_ = threads - 1;
    pending_ = wanted_;
    ++generation_;
    lock.unlock();
    wake_.notify_all();
    job.work(0);
    lock.lock();
    done_.wait(lock, [this] { return pending_ == 0; });
    job_ = nullptr;
  }

  std::mutex& turn() { return turn_; }

 private:
  void help(int worker, uint64_t seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (worker > wanted_) continue;
      Job* job = job_;
      lock.unlock();
      job->work(worker);
      lock.lock();
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_;  // one parallel job at a time
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int started_ = 0, wanted_ = 0, pending_ = 0;
};

// The pool of this process: a forked child has none of its parent's threads and gets a new one.
Pool& pool() {
  static std::mutex mutex;
  static Pool* current = nullptr;
  static auto owner = getpid();
  std::lock_guard<std::mutex> lock(mutex);
  if (current == nullptr || owner != getpid()) {
    current = new Pool;
    owner = getpid();
  }
  return *current;
}

}  // namespace

void parallel_for(int threads, int64_t count, void (*task)(void*, int64_t, int), void* context) {
  if (threads > count) threads = static_cast<int>(count);
  if (threads > 1) {
    Pool& workers = pool();
    std::unique_lock<std::mutex> turn(workers.turn(), std::try_to_lock);
    if (turn.owns_lock()) {
      Job job{task, context, count};
      workers.run(threads, job);
      return;
    }
    // Another Python thread uses the helpers: do the work alone instead of waiting.
  }
  for (int64_t i = 0; i < count; ++i) task(context, i, 0);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace splatpose
