// Weights that stay in their file and are paged into memory within a budget. Steps announce their reads in an order
// known beforehand; a thread loads what comes next and evicts what will be needed last. The budget is never exceeded,
// counting pages of the file in the page cache.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "graph/graph.h"
#include "plan/plan.h"
#include "weights/weight_file.h"

namespace lowrank {

/// A part of the file that is paged as a unit.
struct PageSpan {
  int64_t offset = 0;
  int64_t bytes = 0;  // whole pages
};

/// Divides a model's weights into spans: one per matrix, and one per kTableRows rows of tables and heads. Vectors
/// belong to none: they are small and stay in memory, as do the scales of tables.
struct PageSpans {
  PageSpans(const Graph& graph, const WeightLayout& layout);
  std::vector<PageSpan> all;
  std::vector<int> first;  // by weight, plus one: the spans of weight w are [first[w], first[w + 1])
  int64_t bytes = 0;       // total
  int64_t smallest = 0;    // smallest possible budget: the two largest blocks, where a table slice counts as one
  int64_t largest_table = 0;
  /// Resolves the requested budget in bytes; 0 chooses one that keeps the largest table in memory and pages the rest.
  /// Throws Error("CONFIG") for one that is too small, naming the smallest that works.
  int64_t budget(int64_t asked) const;
  /// Index range of the spans with rows [begin, end) of a weight.
  std::pair<int, int> of_rows(int weight, int64_t begin, int64_t end) const;
};

/// Spans in the order in which they will be read, repeating from the start.
using PageOrder = std::vector<int>;

/// Spans of rows that are read in order. Excludes embedding rows, which are looked up individually.
PageOrder page_order(const PageSpans& spans, std::span<const WeightRows> order);

/// Bytes read from disk per pass through the order with a given budget, in bytes.
int64_t bytes_read(const PageSpans& spans, const PageOrder& order, int64_t budget);

class Pager {
 public:
  /// @param file opened for paging
  /// @param budget as returned by PageSpans::budget
  Pager(std::shared_ptr<const WeightFile> file, PageSpans spans, int64_t budget);
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  const PageSpans& spans() const { return spans_; }
  int64_t budget() const { return budget_; }
  /// Bytes of the file in the page cache; -1 if the system does not report it.
  int64_t resident_bytes() const;

  /// Order of the following requests.
  void expect(PageOrder order);

  /// Returns once the span is in memory, where it stays until `release`. Throws Error("FILE_FORMAT") when it cannot be
  /// read, Error("INTERNAL") when held spans leave no room for it.
  void acquire(int span);
  void release(int span);

  /// Reserves room for pages that are read individually, without a span. Until it is returned, nothing is loaded or
  /// evicted: the system maps neighbors of a touched page, which would keep pages being evicted in memory.
  void take_room(int64_t bytes);
  /// Returns the room, and drops the pages of these rows unless their span is in memory.
  void give_back(int64_t bytes, int weight, const std::vector<int32_t>& rows);
  /// Pages that contain a row.
  PageSpan pages_of(int weight, int64_t row) const;
  /// Requests that these rows be read in the background.
  void prefetch(int weight, const std::vector<int32_t>& rows) const;

  /// Totals: bytes read, and seconds that steps waited for them.
  struct Times {
    int64_t bytes = 0;
    double seconds = 0;
  };
  Times times() const;

 private:
  enum class State : uint8_t { absent, loading, resident };
  struct Entry {
    State state = State::absent;
    int pins = 0;
    std::vector<int64_t> uses;  // positions in the order, ascending
  };

  int64_t next_use(int span) const;
  bool make_room(int64_t bytes, int64_t until);
  int next_wanted();
  void work();

  const std::shared_ptr<const WeightFile> file_;
  const PageSpans spans_;
  const int64_t budget_;

  mutable std::mutex mutex_;
  std::condition_variable wake_, ready_;
  std::vector<Entry> entries_;
  PageOrder order_;
  int64_t at_ = 0;          // position in the order of the last request
  int64_t taken_ = 0;       // bytes of spans in memory or being loaded, and of reserved room
  int demand_ = -1;         // span being waited for
  bool gathering_ = false;  // room is reserved
  bool stop_ = false;
  std::string failure_;
  Times times_;
  std::thread thread_;
};

/// Keeps spans in memory for its lifetime; empty without a pager.
class Held {
 public:
  Held() = default;
  Held(Pager* pager, int begin, int end);
  Held(Held&& other) noexcept { swap(other); }
  Held& operator=(Held&& other) noexcept {
    Held taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Held();

 private:
  void release();
  void swap(Held& other) noexcept {
    std::swap(pager_, other.pager_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
  }
  Pager* pager_ = nullptr;
  int begin_ = 0, end_ = 0;
};

}  // namespace lowrank
