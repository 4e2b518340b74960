// Ranks that are threads of one process, for tests.
#pragma once

#include <algorithm>
#include <barrier>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "comm/comm.h"

/// What the ranks of a job share.
struct Job {
  explicit Job(int size) : arrived(size), given(static_cast<size_t>(size)) {}
  std::barrier<> arrived;
  std::vector<const std::byte*> given;
  std::mutex mutex;
  std::condition_variable came;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> messages;  // by sender and receiver
};

class ThreadRank final : public lowrank::Comm {
 public:
  /// @param beside for calls from another thread; null: none are possible
  ThreadRank(Job& job, int rank, Job* beside = nullptr) : job_(job), rank_(rank), beside_(beside) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(job_.given.size()); }
  std::string library() const override { return "threads"; }
  int lost() const override { return -1; }
  void gather(const void* own, void* all, int64_t bytes) override {
    each(own, [&](int from, const std::byte* given) { std::memcpy(at(all, from * bytes), given, bytes); });
  }
  void exchange(const void* to, void* from, int64_t bytes) override {
    each(to,
         [&](int rank, const std::byte* given) { std::memcpy(at(from, rank * bytes), given + rank_ * bytes, bytes); });
  }
  std::unique_ptr<lowrank::Collective> beside() override {
    return beside_ == nullptr ? nullptr : std::make_unique<ThreadRank>(*beside_, rank_);
  }
  void send(int to, const void* data, int64_t bytes) override {
    const std::lock_guard lock(job_.mutex);
    const auto* const from = static_cast<const std::byte*>(data);
    job_.messages[{rank_, to}].emplace_back(from, from + bytes);
    job_.came.notify_all();
  }
  void sent(int) override {}
  void receive(int from, void* data, int64_t bytes) override {
    std::unique_lock lock(job_.mutex);
    auto& waiting = job_.messages[{from, rank_}];
    job_.came.wait(lock, [&] { return !waiting.empty(); });
    std::memcpy(data, waiting.front().data(), std::min(waiting.front().size(), static_cast<size_t>(bytes)));
    waiting.pop_front();
  }
  void leave() override {}
  void close() override {}
  void end_all(int code) override { std::_Exit(code); }

 private:
  static std::byte* at(void* place, int64_t offset) { return static_cast<std::byte*>(place) + offset; }
  void each(const void* own, const std::function<void(int, const std::byte*)>& take) {
    job_.given[static_cast<size_t>(rank_)] = static_cast<const std::byte*>(own);
    job_.arrived.arrive_and_wait();
    for (int rank = 0; rank < size(); ++rank) take(rank, job_.given[static_cast<size_t>(rank)]);
    job_.arrived.arrive_and_wait();
  }
  Job& job_;
  const int rank_;
  Job* const beside_;
};

/// Runs the same work on so many ranks.
inline void on_ranks(int size, const std::function<void(lowrank::Comm&)>& work, bool beside = false) {
  Job job(size), other(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadRank comm(job, rank, beside ? &other : nullptr);
      work(comm);
    });
  for (std::thread& thread : threads) thread.join();
}
