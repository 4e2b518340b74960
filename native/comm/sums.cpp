#include "comm/sums.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "comm/meet.h"
#include "comm/sum.h"

namespace lowrank {

Sums::Sums(Comm& comm) : comm_(comm), beside_(comm.size() > 1 ? comm.beside() : nullptr) {
  if (beside_) thread_ = std::thread([this] { work(); });
}

Sums::~Sums() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Sums::add(float* values, int64_t count, std::shared_ptr<const void> owner) {
  if (ranks() == 1) return;
  counts_.push_back(count);
  ++total_;
  const std::lock_guard lock(mutex_);
  sums_.push_back({values, count, std::move(owner)});
  wake_.notify_all();
}

void Sums::wait() {
  std::unique_lock lock(mutex_);
  if (beside_) {
    done_.wait(lock, [&] { return sums_.empty(); });
  } else {
    for (; !sums_.empty(); sums_.pop_front()) make(sums_.front());
  }
  counts_.clear();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Sums::settle() {
  if (ranks() == 1) return;
  std::vector<int64_t> own = counts_;
  own.push_back(total_);
  std::vector<uint8_t> bytes(own.size() * sizeof(int64_t));
  std::memcpy(bytes.data(), own.data(), bytes.size());
  std::vector<int64_t> most = own;
  for (const std::vector<uint8_t>& said : meet(comm_, bytes)) {
    std::vector<int64_t> other(said.size() / sizeof(int64_t));
    std::memcpy(other.data(), said.data(), said.size());
    if (other.back() > most.back()) most = std::move(other);
  }
  // Sums complete only once every rank has added them, so ranks differ by those since the last wait at most.
  const int64_t missing = most.back() - total_;
  for (auto count = most.end() - 1 - missing; count != most.end() - 1; ++count) {
    const auto zeros = std::make_shared<std::vector<float>>(static_cast<size_t>(*count));
    add(zeros->data(), *count, zeros);
  }
  wait();
}

void Sums::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return ending_ || !sums_.empty(); });
    if (ending_) return;
    const Sum& sum = sums_.front();  // the address of an element stays when others are added
    lock.unlock();
    make(sum);
    lock.lock();
    sums_.pop_front();
    if (sums_.empty()) done_.notify_all();
  }
}

/// After an error, ranks no longer make the same calls.
void Sums::make(const Sum& sum) {
  if (error_) return;
  try {
    sum_over_ranks(beside_ ? *beside_ : static_cast<Collective&>(comm_), sum.values, sum.count);
  } catch (...) {
    error_ = std::current_exception();
  }
}

}  // namespace lowrank
