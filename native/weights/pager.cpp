#include "weights/pager.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>

#include "core/error.h"
#include "core/math.h"

namespace lowrank {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

constexpr int64_t round_down(int64_t value, int64_t unit) { return value / unit * unit; }

/// Places in the order at which each span is used, ascending.
std::vector<std::vector<int64_t>> uses_of(const PageOrder& order, size_t spans) {
  std::vector<std::vector<int64_t>> uses(spans);
  for (size_t i = 0; i < order.size(); ++i) uses[order[i]].push_back(static_cast<int64_t>(i));
  return uses;
}

/// The first use after `at`, wrapping around to the start of the order; kNever if there is none.
int64_t use_after(const std::vector<int64_t>& uses, int64_t at, size_t length) {
  if (uses.empty()) return kNever;
  const auto found = std::upper_bound(uses.begin(), uses.end(), at);
  return found != uses.end() ? *found : uses.front() + static_cast<int64_t>(length);
}

}  // namespace

PageSpans::PageSpans(const Graph& graph, const WeightLayout& layout) {
  const int64_t page = os::page_bytes();
  std::vector<int64_t> blocks;
  for (size_t w = 0; w < graph.weights.size(); ++w) {
    const WeightPlace& place = layout.places[w];
    first.push_back(static_cast<int>(all.size()));
    if (place.vector) continue;
    const int64_t rows = place.table ? kTableRows : place.rows;
    for (int64_t begin = 0; begin < place.rows; begin += rows) {
      const int64_t end = std::min(place.rows, begin + rows);
      const int64_t from = round_down(place.offset + weight_bytes(place.format, begin, place.cols), page);
      const int64_t to = place.table ? place.offset + weight_bytes(place.format, end, place.cols) : place.end();
      all.push_back({from, round_up(to, page) - from});
      bytes += all.back().bytes;
      if (place.table) blocks.push_back(all.back().bytes);
    }
    if (place.table) largest_table = std::max(largest_table, round_up(place.elements(), page));
  }
  first.push_back(static_cast<int>(all.size()));
  std::map<int, int64_t> segments;
  for (const Node& node : graph.nodes)
    if (node.op == Op::linear)
      for (int span = first[node.weight]; span < first[node.weight + 1]; ++span)
        segments[node.segment] += all[span].bytes;
  for (const auto& [segment, size] : segments) blocks.push_back(size);
  std::sort(blocks.rbegin(), blocks.rend());
  for (size_t i = 0; i < std::min<size_t>(2, blocks.size()); ++i) smallest += blocks[i];
}

int64_t PageSpans::budget(int64_t asked) const {
  if (asked == 0) return std::min(bytes, largest_table + smallest);
  if (asked < smallest)
    fail("CONFIG", "paged_weights is ", mebibytes(asked), ", expected at least ", mebibytes(smallest),
         ", the size of the two largest blocks of this model; set that much, or true");
  return asked;
}

std::pair<int, int> PageSpans::of_rows(int weight, int64_t begin, int64_t end) const {
  const int from = first[weight], to = first[weight + 1];
  if (to - from <= 1) return {from, to};
  return {from + static_cast<int>(begin / kTableRows), from + static_cast<int>((end + kTableRows - 1) / kTableRows)};
}

PageOrder page_order(const PageSpans& spans, std::span<const WeightRows> order) {
  PageOrder pages;
  for (const auto& [weight, begin, end] : order) {
    const auto [from, to] = spans.of_rows(weight, begin, end);
    for (int span = from; span < to; ++span) pages.push_back(span);
  }
  return pages;
}

int64_t bytes_read(const PageSpans& spans, const PageOrder& order, int64_t budget) {
  const auto uses = uses_of(order, spans.all.size());
  std::vector<int> held;
  int64_t taken = 0, read = 0;
  // The first round fills the memory, the second one counts.
  for (const bool counts : {false, true}) {
    for (size_t at = 0; at < order.size(); ++at) {
      const int span = order[at];
      if (std::find(held.begin(), held.end(), span) != held.end()) continue;
      while (taken + spans.all[span].bytes > budget && !held.empty()) {
        const auto last = std::max_element(held.begin(), held.end(), [&](int a, int b) {
          const auto place = static_cast<int64_t>(at);
          return use_after(uses[a], place, order.size()) < use_after(uses[b], place, order.size());
        });
        taken -= spans.all[*last].bytes;
        held.erase(last);
      }
      held.push_back(span);
      taken += spans.all[span].bytes;
      if (counts) read += spans.all[span].bytes;
    }
  }
  return read;
}

Pager::Pager(std::shared_ptr<const WeightFile> file, PageSpans spans, int64_t budget)
    : file_(std::move(file)), spans_(std::move(spans)), budget_(budget), entries_(spans_.all.size()) {
  file_->file().drop(0, file_->file().bytes());
  thread_ = std::thread([this] { work(); });
}

Pager::~Pager() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Pager::expect(PageOrder order) {
  const std::lock_guard lock(mutex_);
  at_ = -1;
  if (order != order_) {
    auto uses = uses_of(order, entries_.size());
    for (size_t i = 0; i < entries_.size(); ++i) entries_[i].uses = std::move(uses[i]);
    order_ = std::move(order);
  }
  wake_.notify_all();
}

int64_t Pager::next_use(int span) const { return use_after(entries_[span].uses, at_, order_.size()); }

void Pager::acquire(int span) {
  std::unique_lock lock(mutex_);
  Entry& entry = entries_[span];
  if (!entry.uses.empty()) at_ = next_use(span) % static_cast<int64_t>(order_.size());
  ++entry.pins;
  wake_.notify_all();
  if (entry.state == State::resident) return;
  const auto start = std::chrono::steady_clock::now();
  demand_ = span;
  failure_.clear();
  ready_.wait(lock, [&] { return entry.state == State::resident || !failure_.empty(); });
  demand_ = -1;
  times_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (entry.state == State::resident) return;
  --entry.pins;
  fail("FILE_FORMAT", failure_);
}

void Pager::release(int span) {
  const std::lock_guard lock(mutex_);
  --entries_[span].pins;
}

/// Drops spans next used after `until`, the latest first, until `bytes` more fit; drops none if they cannot.
bool Pager::make_room(int64_t bytes, int64_t until) {
  int64_t lacking = taken_ + bytes - budget_;
  if (lacking <= 0) return true;
  std::vector<std::pair<int64_t, int>> candidates;
  int64_t possible = 0;
  for (int span = 0; span < static_cast<int>(entries_.size()); ++span) {
    const Entry& entry = entries_[span];
    if (entry.state != State::resident || entry.pins > 0) continue;
    const int64_t use = next_use(span);
    if (use <= until) continue;
    candidates.emplace_back(use, span);
    possible += spans_.all[span].bytes;
  }
  if (possible < lacking) return false;
  std::sort(candidates.rbegin(), candidates.rend());
  for (const auto& [use, span] : candidates) {
    if (lacking <= 0) break;
    file_->file().drop(spans_.all[span].offset, spans_.all[span].bytes);
    entries_[span].state = State::absent;
    taken_ -= spans_.all[span].bytes;
    lacking -= spans_.all[span].bytes;
  }
  return true;
}

/// The span to read next, for which there is room; -1 when there is nothing to do.
int Pager::next_wanted() {
  if (gathering_) return -1;
  if (demand_ >= 0 && entries_[demand_].state == State::absent) {
    if (make_room(spans_.all[demand_].bytes, -1)) return demand_;
    failure_ = "what a step holds leaves no room in the budget for what it reads";
    ready_.notify_all();
    return -1;
  }
  int64_t ahead = 0;
  const auto length = static_cast<int64_t>(order_.size());
  for (int64_t place = at_ + 1; place <= at_ + length && ahead < budget_; ++place) {
    const int span = order_[place % length];
    if (entries_[span].state == State::absent) return make_room(spans_.all[span].bytes, place) ? span : -1;
    ahead += spans_.all[span].bytes;
  }
  return -1;
}

void Pager::work() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const int span = next_wanted();
    if (span < 0) {
      wake_.wait(lock);
      continue;
    }
    const PageSpan& pages = spans_.all[span];
    entries_[span].state = State::loading;
    taken_ += pages.bytes;
    lock.unlock();
    std::string failure;
    try {
      file_->file().load(pages.offset, pages.bytes);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    lock.lock();
    times_.bytes += pages.bytes;
    entries_[span].state = failure.empty() ? State::resident : State::absent;
    if (!failure.empty()) {
      file_->file().drop(pages.offset, pages.bytes);
      taken_ -= pages.bytes;
      failure_ = failure;
      order_.clear();  // nothing is read ahead until the next run, lest it fail without end
      for (Entry& entry : entries_) entry.uses.clear();
    }
    ready_.notify_all();
  }
}

void Pager::take_room(int64_t bytes) {
  std::unique_lock lock(mutex_);
  gathering_ = true;
  ready_.wait(lock, [&] {
    return std::none_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.state == State::loading; });
  });
  if (make_room(bytes, -1)) {
    taken_ += bytes;
    return;
  }
  gathering_ = false;
  fail("INTERNAL", "held pages leave no room for ", bytes, " bytes in a budget of ", budget_);
}

PageSpan Pager::pages_of(int weight, int64_t row) const {
  const WeightPlace& place = file_->layout().places[weight];
  const int64_t page = os::page_bytes();
  const int64_t from = round_down(place.offset + row_offset(place.format, row, place.cols), page);
  return {from, round_up(place.offset + weight_bytes(place.format, row + 1, place.cols), page) - from};
}

void Pager::prefetch(int weight, const std::vector<int32_t>& rows) const {
  for (const int32_t row : rows) {
    const PageSpan pages = pages_of(weight, row);
    file_->file().will_need(pages.offset, pages.bytes);
  }
}

void Pager::give_back(int64_t bytes, int weight, const std::vector<int32_t>& rows) {
  const std::lock_guard lock(mutex_);
  for (const int32_t row : rows) {
    const PageSpan pages = pages_of(weight, row);
    // A row at a border lies in pages of two spans.
    const auto [begin, end] = spans_.of_rows(weight, row, row + 1);
    for (int span = std::max(begin - 1, spans_.first[weight]); span < std::min(end + 1, spans_.first[weight + 1]);
         ++span) {
      const PageSpan& own = spans_.all[span];
      const int64_t from = std::max(own.offset, pages.offset);
      const int64_t to = std::min(own.offset + own.bytes, pages.offset + pages.bytes);
      if (from < to && entries_[span].state == State::absent) file_->file().drop(from, to - from);
    }
  }
  taken_ -= bytes;
  gathering_ = false;
  wake_.notify_all();
}

int64_t Pager::resident_bytes() const {
  // The lock keeps pages from being dropped and loaded while they are counted one after the other.
  const std::lock_guard lock(mutex_);
  return file_->file().resident_bytes();
}

Pager::Times Pager::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

Held::Held(Pager* pager, int begin, int end) : pager_(pager), begin_(begin), end_(begin) {
  try {
    for (; pager_ != nullptr && end_ < end; ++end_) pager_->acquire(end_);
  } catch (...) {
    release();
    throw;
  }
}

Held::~Held() { release(); }

void Held::release() {
  for (int span = begin_; pager_ != nullptr && span < end_; ++span) pager_->release(span);
}

}  // namespace lowrank
