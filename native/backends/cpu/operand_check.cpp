#include "backends/cpu/operand_check.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "backends/cpu/device.h"
#include "core/error.h"

namespace lowrank::cpu {
namespace {

/// A NaN as a float, -1 as an index.
constexpr std::byte kSpoiled{0xff};

enum Mark : uint8_t { kReads = 1, kWrites = 2, kAdds = 4, kFree = 8 };

/// The bytes of all memory, one span after the other.
class Image {
 public:
  explicit Image(const OperandCheck::Spans& memory) : memory_(memory) {
    for (const auto& span : memory) bytes += span.size();
  }
  void copy(std::vector<std::byte>& all) const {
    all.clear();
    for (const auto& span : memory_) all.insert(all.end(), span.begin(), span.end());
  }
  void place(const std::vector<std::byte>& all) const {
    size_t at = 0;
    for (const auto& span : memory_) {
      std::copy_n(all.begin() + static_cast<int64_t>(at), span.size(), span.begin());
      at += span.size();
    }
  }
  /// Position of an address in the image; `bytes` if it is outside.
  size_t find(const std::byte* address, int64_t count) const {
    size_t at = 0;
    for (const auto& span : memory_) {
      if (address >= span.data() && address + count <= span.data() + span.size())
        return at + static_cast<size_t>(address - span.data());
      at += span.size();
    }
    return bytes;
  }
  size_t bytes = 0;

 private:
  const OperandCheck::Spans& memory_;
};

struct Piece {
  std::byte* at;
  int64_t bytes;
};

/// The operands of a kernel, and the pieces of memory that they come to.
class Named final : public Operands {
 public:
  explicit Named(const Kernel& kernel) { operands(kernel, *this); }
  std::vector<Region> all;

  /// Rows from `row` and columns from `col` on, of the picked ones.
  static std::vector<Piece> pieces(const Region& o, int64_t row = 0, int64_t col = 0) {
    const auto* const ids = host(o.picked.ids);
    const int64_t size = size_of(o.at.dtype), count = o.picked.count;
    std::byte* const data = host(o.at.data);
    std::vector<Piece> found;
    const int64_t rows = ids && !o.picked.columns ? count : o.rows, cols = ids && o.picked.columns ? count : o.cols;
    for (int64_t i = row; i < rows; ++i) {
      const int64_t at = ids && !o.picked.columns ? ids[i] : i;
      if (!ids || !o.picked.columns) {
        found.push_back({data + (at * o.at.ld + col) * size, (cols - col) * size});
        continue;
      }
      for (int64_t j = col; j < cols; ++j) found.push_back({data + (at * o.at.ld + ids[j]) * size, size});
    }
    return found;
  }
  static int64_t rows(const Region& o) { return o.picked.ids && !o.picked.columns ? o.picked.count : o.rows; }
  static int64_t cols(const Region& o) { return o.picked.ids && o.picked.columns ? o.picked.count : o.cols; }

 protected:
  void memory(const Region& region) override { all.push_back(region); }
  void weight(Access, const Factor&, const Picked&) override {}  // nobody can write to the base
};

}  // namespace

struct OperandCheck::Copies {
  std::vector<std::byte> before, after, again, spoiled;
  std::vector<uint8_t> marks, own;
};

class OperandCheck::Trial {
 public:
  Trial(OperandCheck& check, const Kernel& kernel, Ptr<std::byte> workspace)
      : device_(check.of_),
        image_(check.spans_),
        kernel_(kernel),
        workspace_(workspace),
        named_(kernel),
        marks_(check.copies_->marks),
        own_(check.copies_->own),
        before_(check.copies_->before),
        after_(check.copies_->after),
        again_(check.copies_->again),
        spoiled_(check.copies_->spoiled) {}

  void run() {
    mark();
    image_.copy(before_);
    launch();
    image_.copy(after_);
    expect_nothing_else_written();
    expect_nothing_else_read();
    for (const Region& region : named_.all)
      if (region.access == Access::read || region.access == Access::spend) expect_read(region);
    image_.place(after_);
  }

 private:
  void launch() { device_.launch(kernel_, workspace_); }

  [[noreturn]] void wrong(const std::string& what) const {
    const char* const name = name_of(kernel_);
    fail("INTERNAL", "LOWRANK_CHECK: ", name, ' ', what, "; its operands say otherwise (native/kernels)");
  }

  void mark() {
    marks_.assign(image_.bytes, 0);
    const int64_t room = device_.sizes().workspace(kernel_);
    if (room > 0) mark({host(workspace_), room}, kFree, "has workspace");
    for (const Region& region : named_.all) {
      const bool writes = region.access == Access::write, adds = region.access == Access::add;
      for (const Piece& piece : Named::pieces(region)) {
        mark(piece, writes ? kWrites : adds ? kAdds : kReads, writes || adds ? "writes" : nullptr);
        if (region.access == Access::spend) mark(piece, kFree, "writes");
      }
    }
  }
  void mark(const Piece& piece, Mark as, const char* expected) {
    const size_t at = image_.find(piece.at, piece.bytes);
    if (at < image_.bytes)
      for (int64_t i = 0; i < piece.bytes; ++i) marks_[at + static_cast<size_t>(i)] |= as;
    else if (expected != nullptr)
      wrong(std::string(expected) + " at an address that is not the session's");
  }

  void expect_nothing_else_written() const {
    for (size_t i = 0; i < image_.bytes; ++i)
      if (before_[i] != after_[i] && !(marks_[i] & (kWrites | kAdds | kFree)))
        wrong("writes to memory that it does not name");
  }

  void expect_nothing_else_read() {
    spoiled_.assign(image_.bytes, kSpoiled);
    for (size_t i = 0; i < image_.bytes; ++i)
      if (marks_[i] & (kReads | kAdds)) spoiled_[i] = before_[i];
    image_.place(spoiled_);
    launch();
    image_.copy(again_);
    for (size_t i = 0; i < image_.bytes; ++i)
      if ((marks_[i] & (kWrites | kAdds)) && again_[i] != after_[i])
        wrong("reads memory that it does not name, or leaves a part of its output as it was");
  }

  /// The last row and the last column of it decide something.
  void expect_read(const Region& region) {
    if (region.at.dtype == DType::i32) return;               // indices, which must stay valid
    if (std::holds_alternative<LabelHits>(kernel_)) return;  // one larger logit decides a row, whatever the others are
    const bool whole = std::holds_alternative<Dropout>(kernel_) || std::holds_alternative<DropoutBackward>(kernel_);
    for (const bool column : {false, true}) {
      const int64_t row = whole || column ? 0 : Named::rows(region) - 1;
      const int64_t col = whole || !column ? 0 : Named::cols(region) - 1;
      spoiled_ = before_;
      own_.assign(image_.bytes, 0);
      for (const Piece& piece : Named::pieces(region, row, col)) {
        const size_t at = image_.find(piece.at, piece.bytes);
        if (at == image_.bytes) return;  // a vector of the base
        std::fill_n(spoiled_.begin() + static_cast<int64_t>(at), piece.bytes, kSpoiled);
        std::fill_n(own_.begin() + static_cast<int64_t>(at), piece.bytes, uint8_t{1});
      }
      image_.place(spoiled_);
      launch();
      image_.copy(again_);
      bool differs = false;
      for (size_t i = 0; i < image_.bytes && !differs; ++i)
        differs = again_[i] != after_[i] && ((marks_[i] & kWrites) || ((marks_[i] & kAdds) && !own_[i]));
      if (!differs) wrong("does not look at the end of what it reads");
    }
  }

  Device& device_;
  const Image image_;
  const Kernel& kernel_;
  const Ptr<std::byte> workspace_;
  const Named named_;
  std::vector<uint8_t>&marks_, &own_;
  std::vector<std::byte>&before_, &after_, &again_, &spoiled_;
};

/// The device's memory; what is allocated in it belongs to what is checked for as long as it lives.
class OperandCheck::Watched final : public Memory {
 public:
  explicit Watched(OperandCheck& check) : check_(check), memory_(check.of_.memory()) {}
  std::unique_ptr<Allocation> allocate(Category category, int64_t bytes) override {
    return watched(memory_.allocate(category, bytes));
  }
  std::unique_ptr<Allocation> scratch(int64_t bytes) override { return watched(memory_.scratch(bytes)); }
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override { memory_.upload(to, from, bytes); }
  void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view what) override {
    memory_.download(to, from, bytes, what);
  }
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override { memory_.copy(to, from, bytes); }
  std::byte* shared(Ptr<std::byte> at) override { return memory_.shared(at); }
  std::unique_ptr<Stash> stash(Category category, const std::string& folder, int64_t bytes) override {
    return memory_.stash(category, folder, bytes);
  }

 private:
  class Span final : public Allocation {
   public:
    Span(Spans& all, std::unique_ptr<Allocation> own) : all_(all), own_(std::move(own)) {
      all_.emplace_back(host(own_->data()), static_cast<size_t>(own_->bytes()));
    }
    ~Span() override {
      const auto is_own = [&](const std::span<std::byte>& span) { return span.data() == host(own_->data()); };
      all_.erase(std::find_if(all_.begin(), all_.end(), is_own));
    }
    Ptr<std::byte> data() const override { return own_->data(); }
    int64_t bytes() const override { return own_->bytes(); }
    void clear() override { own_->clear(); }

   private:
    Spans& all_;
    const std::unique_ptr<Allocation> own_;
  };
  std::unique_ptr<Allocation> watched(std::unique_ptr<Allocation> own) {
    if (own->bytes() == 0) return own;
    return std::make_unique<Span>(check_.spans_, std::move(own));
  }

  OperandCheck& check_;
  Memory& memory_;
};

OperandCheck::OperandCheck(Device& device, Spans memory)
    : WrappedDevice(device),
      spans_(std::move(memory)),
      copies_(std::make_unique<Copies>()),
      watched_(std::make_unique<Watched>(*this)) {}
OperandCheck::~OperandCheck() = default;
Memory& OperandCheck::memory() { return *watched_; }

void OperandCheck::launch(const Kernel& kernel, Ptr<std::byte> workspace) { Trial(*this, kernel, workspace).run(); }

}  // namespace lowrank::cpu
