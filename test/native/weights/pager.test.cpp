// A pager under any order of reads: what is asked for is there, and never more of the file than the budget.
#include "weights/pager.h"

#include <cstring>
#include <filesystem>
#include <random>

#include "check.h"
#include "temporary_file.h"

using namespace lowrank;

namespace {

/// A table of three slices and eight blocks of two matrices each.
struct Shapes {
  Graph graph;
  std::vector<StorageFormat> formats;

  explicit Shapes(StorageFormat table = StorageFormat::bf16) {
    add("table", 20000, 32, WeightKind::table, table);
    node(Op::embedding, -1);
    for (int block = 0; block < 8; ++block)
      for (const char* part : {".up", ".down"}) {
        add(std::to_string(block) + part, 300, 256, WeightKind::matrix, StorageFormat::nf4_double);
        node(Op::linear, block);
      }
  }

 private:
  void add(const std::string& name, int64_t rows, int64_t cols, WeightKind kind, StorageFormat format) {
    graph.weights.push_back({name, rows, cols, kind});
    formats.push_back(format);
  }
  void node(Op op, int segment) {
    Node made;
    made.op = op;
    made.segment = segment;
    made.weight = static_cast<int>(graph.weights.size()) - 1;
    graph.nodes.push_back(made);
  }
};

/// A weight file with every byte of a weight the number of the weight.
class Numbered {
 public:
  explicit Numbered(const Shapes& shapes) : path_(test::TemporaryFile({}).path() + ".weights") {
    WeightFileWriter writer(shapes.graph, shapes.formats, "key", path_, true);
    for (size_t i = 0; i < shapes.formats.size(); ++i) {
      const GraphWeight& w = shapes.graph.weights[i];
      Weight weight(shapes.formats[i], w.rows, w.cols);
      std::memset(weight.data(), static_cast<int>(i),
                  static_cast<size_t>(weight_bytes(weight.format(), w.rows, w.cols)));
      writer.write(static_cast<int>(i), weight);
    }
    writer.finish();
    file = std::make_shared<const WeightFile>(shapes.graph, shapes.formats, "key", path_, true);
  }
  ~Numbered() { std::filesystem::remove(path_); }
  std::shared_ptr<const WeightFile> file;

 private:
  std::string path_;
};

}  // namespace

TEST(
    "spans are whole pages, a table has one for every so many rows, and the smallest budget is the two largest "
    "blocks") {
  const Shapes shapes;
  const WeightLayout layout(shapes.graph, shapes.formats);
  const PageSpans spans(shapes.graph, layout);
  REQUIRE(spans.all.size() == 3 + 16);
  int64_t total = 0;
  for (const PageSpan& span : spans.all) {
    CHECK_EQ(span.offset % os::page_bytes(), 0);
    CHECK_EQ(span.bytes % os::page_bytes(), 0);
    total += span.bytes;
  }
  CHECK_EQ(spans.bytes, total);
  CHECK_EQ(spans.all[0].bytes, kTableRows * 32 * 2);
  CHECK_EQ(spans.smallest, spans.all[0].bytes + spans.all[1].bytes);
  CHECK(spans.of_rows(0, 0, 1) == (std::pair{0, 1}));
  CHECK(spans.of_rows(0, kTableRows - 1, kTableRows + 1) == (std::pair{0, 2}));
  CHECK(spans.of_rows(0, 0, 20000) == (std::pair{0, 3}));
  CHECK(spans.of_rows(2, 17, 18) == (std::pair{4, 5}));
  CHECK_THROWS(spans.budget(spans.smallest - 1), "expected at least 1.0MiB");
  CHECK_EQ(spans.budget(spans.smallest), spans.smallest);
}

TEST("spans of a quantized table are those of its codes, and rows that share a block share its pages") {
  for (const StorageFormat format : {StorageFormat::int8, StorageFormat::nf4_double}) {
    const Shapes shapes(format);
    const PageSpans spans(shapes.graph, WeightLayout(shapes.graph, shapes.formats));
    REQUIRE(spans.all.size() == 3 + 16);
    CHECK_EQ(spans.all[0].bytes, weight_bytes(format, kTableRows, 32));
    CHECK_EQ(spans.all[1].offset, spans.all[0].offset + spans.all[0].bytes);
    const Numbered numbered(shapes);
    const Pager pager(numbered.file, spans, spans.bytes);
    // Of odd rows of 32 codes the first half of the block is the row before.
    for (const int row : {0, 1, 8191, 8192, 19999}) {
      const PageSpan pages = pager.pages_of(0, row);
      const int64_t first = numbered.file->layout().places[0].offset + row * weight_bytes(format, 2, 32) / 2;
      CHECK_LE(pages.offset, first);
      CHECK_LE(first + weight_bytes(format, 2, 32) / 2, pages.offset + pages.bytes);
    }
  }
}

TEST("a sweep there and back reads what did not stay, and everything stays where there is room") {
  const Shapes shapes;
  const PageSpans spans(shapes.graph, WeightLayout(shapes.graph, shapes.formats));
  PageOrder order;
  for (int span = 3; span < 19; ++span) order.push_back(span);
  for (int span = 19; span-- > 3;) order.push_back(span);
  const int64_t each = spans.all[3].bytes;
  CHECK_EQ(bytes_read(spans, order, 16 * each), 0);
  // Six stay at each of the turns, so ten come anew on the way there and ten on the way back.
  CHECK_EQ(bytes_read(spans, order, 6 * each), 20 * each);
  CHECK_EQ(bytes_read(spans, {3, 4, 5}, each), 3 * each);
}

TEST("what is asked for is in memory, and no more than the budget, in any order") {
  for (const StorageFormat format : {StorageFormat::bf16, StorageFormat::int8, StorageFormat::nf4_double}) {
    const Shapes shapes(format);
    const Numbered numbered(shapes);
    if (numbered.file->file().lives_in_memory() || numbered.file->file().resident_bytes() < 0)
      SKIP("this file system keeps its pages in memory");
    const PageSpans spans(shapes.graph, numbered.file->layout());
    // Before there is a pager, which gives back what was read of the scales.
    std::vector<Weight> weights;
    for (int i = 0; i < static_cast<int>(shapes.formats.size()); ++i)
      weights.push_back(WeightFile::weight(numbered.file, i));
    std::mt19937 random(11);
    for (const int64_t budget : {spans.smallest, spans.smallest * 3 / 2, spans.bytes}) {
      Pager pager(numbered.file, spans, budget);
      for (int run = 0; run < 4; ++run) {
        PageOrder order;
        for (int i = 0; i < 60; ++i) order.push_back(static_cast<int>(random() % spans.all.size()));
        pager.expect(order);
        for (size_t i = 0; i < order.size(); ++i) {
          // Now and then something else than was said.
          const int span = run == 2 && i % 7 == 0 ? static_cast<int>(random() % spans.all.size()) : order[i];
          const Held held(&pager, span, span + 1);
          const int weight = span < 3 ? 0 : span - 2;
          const auto* data = static_cast<const uint8_t*>(weights[weight].data());
          if (span >= 3) CHECK_EQ(static_cast<int>(data[700]), weight);
          if (os::drops_pages()) CHECK_LE(pager.resident_bytes(), budget);
          if (i % 20 == 5) {
            const std::vector<int32_t> rows{3, 8191, 8192, 19999};
            const int64_t room = 4 * 3 * os::page_bytes();
            if (spans.all[span].bytes + room > budget) continue;
            pager.take_room(room);
            pager.prefetch(0, rows);
            const auto* table = static_cast<const uint8_t*>(weights[0].data());
            for (const int32_t row : rows) CHECK_EQ(static_cast<int>(table[row_offset(format, row, 32)]), 0);
            if (os::drops_pages()) CHECK_LE(pager.resident_bytes(), budget);
            pager.give_back(room, 0, rows);
            if (os::drops_pages()) CHECK_LE(pager.resident_bytes(), budget);
          }
        }
      }
      const Held all(&pager, 0, 1);
      CHECK(budget == spans.bytes || pager.times().bytes > spans.bytes);
    }
  }
}

TEST("what cannot be in memory together is said, not waited for") {
  const Shapes shapes;
  const Numbered numbered(shapes);
  const PageSpans spans(shapes.graph, numbered.file->layout());
  Pager pager(numbered.file, spans, spans.smallest);
  CHECK_THROWS(Held(&pager, 0, 3), "leaves no room in the budget");
  const Held fits(&pager, 0, 2);
}
