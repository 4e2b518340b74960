// Weights that stay in their file and are in memory only while a budget lasts. Steps say what they are about to read, in
// an order that is known beforehand; a thread brings in what comes next and gives back what is needed again last. The
// budget is kept at every moment, counted in pages of the file, the page cache included.
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

/// A part of the file that comes and goes as a whole.
struct PageSpan {
  int64_t offset = 0;
  int64_t bytes = 0;  // whole pages
};

/// Partition of a model's weights: each matrix is a span, and tables and heads have one per kTableRows rows. Vectors
/// belong to none: they have few bytes, and stay in memory, as do the scales of tables.
struct PageSpans {
  PageSpans(const Graph& graph, const WeightLayout& layout);
  std::vector<PageSpan> all;
  std::vector<int> first;  // by weight, and one more: those of weight w are [first[w], first[w + 1])
  int64_t bytes = 0;       // of all
  int64_t smallest = 0;    // budget that works: the two largest blocks, a slice of a table counting as one
  int64_t largest_table = 0;
  /// The budget that was asked for, in bytes; 0 stands for one with which the largest table stays and the rest passes by.
  /// Throws Error("CONFIG") for one that is too small, naming the smallest that works.
  int64_t budget(int64_t asked) const;
  /// Spans with rows [begin, end) of a weight, as a range of indices.
  std::pair<int, int> of_rows(int weight, int64_t begin, int64_t end) const;
};

/// Spans in the order in which they will be read; then it begins again.
using PageOrder = std::vector<int>;

/// Spans of rows that are read in order. Rows of embeddings, of which a few are read here and there, are not in it.
PageOrder page_order(const PageSpans& spans, std::span<const WeightRows> order);

/// Bytes that are read from the disk each time the order comes round, with a budget of so many bytes.
int64_t bytes_read(const PageSpans& spans, const PageOrder& order, int64_t budget);

class Pager {
 public:
  /// @param file that was opened to be paged
  /// @param budget as PageSpans::budget returns it
  Pager(std::shared_ptr<const WeightFile> file, PageSpans spans, int64_t budget);
  ~Pager();
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;

  const PageSpans& spans() const { return spans_; }
  int64_t budget() const { return budget_; }
  /// Pages of the file in memory, as the system counts them; -1 where it does not say.
  int64_t resident_bytes() const;

  /// Order of the following requests.
  void expect(PageOrder order);

  /// Returns when the span is in memory, where it stays until `release`. Throws Error("FILE_FORMAT") when it cannot be
  /// read, Error("INTERNAL") when what is held leaves no room for it.
  void acquire(int span);
  void release(int span);

  /// Room for pages that are read here and there, without a span to hold them. Meanwhile nothing is
  /// read or given back: the system maps the neighbors of a page that is touched, and such as are being given back would stay.
  void take_room(int64_t bytes);
  /// Drops the pages of these rows of a weight too, unless their span is in memory.
  void give_back(int64_t bytes, int weight, const std::vector<int32_t>& rows);
  /// Pages that hold a row.
  PageSpan pages_of(int weight, int64_t row) const;
  /// Asks for these rows to be read in the background.
  void prefetch(int weight, const std::vector<int32_t>& rows) const;

  /// So far: bytes read, and seconds that steps waited for them.
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
    std::vector<int64_t> uses;  // places in the order, ascending
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
  int64_t at_ = 0;       // place in the order of what was asked for last
  int64_t taken_ = 0;    // bytes of spans that are in memory or on their way, and of room that was taken
  int demand_ = -1;      // what is waited for
  bool gathering_ = false;  // room is taken
  bool stop_ = false;
  std::string failure_;
  Times times_;
  std::thread thread_;
};

/// Keeps spans in memory for as long as it lives; none without a pager.
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
