// Weights come out of their file as they went in, and a file that is not what it should be is refused by name.
#include "weights/weight_file.h"

#if defined(__linux__)
#include <sys/resource.h>
#endif

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "check.h"
#include "temporary_file.h"

using namespace lowrank;

namespace {

constexpr StorageFormat kFormats[] = {StorageFormat::f32, StorageFormat::bf16,       StorageFormat::nf4,
                                      StorageFormat::fp4, StorageFormat::nf4_double, StorageFormat::int8};

/// Shapes of a model: a table, a matrix in every format and a vector, of which nothing else counts here.
struct Shapes {
  Graph graph;
  std::vector<StorageFormat> formats;

  Shapes() {
    add("table", 300, 40, WeightKind::table, StorageFormat::bf16);
    add("norm", 1, 40, WeightKind::vector, StorageFormat::f32);
    for (const StorageFormat format : kFormats) add(name_of(format), 33, 71, WeightKind::matrix, format);
  }

 private:
  void add(const std::string& name, int64_t rows, int64_t cols, WeightKind kind, StorageFormat format) {
    graph.weights.push_back({name, rows, cols, kind});
    formats.push_back(format);
  }
};

/// The tensors of the model as a file has them, in fp32.
class Tensors {
 public:
  explicit Tensors(const Graph& graph) : file_(bytes_of(graph)) {
    int64_t offset = 0;
    for (const GraphWeight& w : graph.weights) {
      sources.push_back({w.name, file_.path(), offset, w.rows * w.cols * 4, SourceDtype::f32, w.rows, w.cols});
      offset += w.rows * w.cols * 4;
    }
  }
  std::vector<TensorSource> sources;

 private:
  static std::vector<uint8_t> bytes_of(const Graph& graph) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(graph.parameters()));
    for (float& value : values) value = normal(random);
    std::vector<uint8_t> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  test::TemporaryFile file_;
};

/// A path where nothing stands.
class Stretch {
 public:
  Stretch() : path(test::TemporaryFile({}).path() + ".weights") {}
  ~Stretch() { std::filesystem::remove(path); }
  const std::string path;
};

void make(Pool& pool, const Shapes& shapes, const Tensors& tensors, const std::string& path, bool put_away = false) {
  WeightFileWriter writer(shapes.graph, shapes.formats, "key", path, put_away);
  for (size_t i = 0; i < tensors.sources.size(); ++i) writer.store(pool, tensors.sources[i], static_cast<int>(i));
  writer.finish();
}

std::shared_ptr<const WeightFile> open(const Shapes& shapes, const std::string& path, const std::string& key = "key") {
  return std::make_shared<const WeightFile>(shapes.graph, shapes.formats, key, path, false);
}

bool same_bytes(const Weight& a, const Weight& b) {
  const auto elements = static_cast<size_t>(weight_bytes(a.format(), a.rows(), a.cols()));
  const auto constants = static_cast<size_t>(constants_bytes(a.format(), a.rows(), a.cols()));
  return a.format() == b.format() && std::memcmp(a.data(), b.data(), elements) == 0 &&
         (constants == 0 || std::memcmp(a.constants(), b.constants(), constants) == 0) &&
         a.absmax_offset() == b.absmax_offset();
}

}  // namespace

TEST("weights come out of their file as they were loaded, in every format") {
  Pool pool(2);
  const Shapes shapes;
  const Tensors tensors(shapes.graph);
  for (const bool put_away : {false, true}) {
    const Stretch place;
    make(pool, shapes, tensors, place.path, put_away);
    const auto file = open(shapes, place.path);
    for (size_t i = 0; i < tensors.sources.size(); ++i) {
      const Weight loaded = load_weight(pool, tensors.sources[i], shapes.formats[i]);
      CHECK(same_bytes(loaded, WeightFile::weight(file, static_cast<int>(i))));
    }
  }
}

TEST("a table is written some rows at a time and is the same, in every format") {
  Pool pool(2);
  Shapes shapes;
  shapes.graph.weights = {{"table", 90000, 99, WeightKind::table}};
  const Tensors tensors(shapes.graph);
  for (const StorageFormat format : kFormats) {
    shapes.formats = {format};
    const Stretch place;
    make(pool, shapes, tensors, place.path, true);
    const Weight loaded = load_weight(pool, tensors.sources[0], format);
    CHECK(same_bytes(loaded, WeightFile::weight(open(shapes, place.path), 0)));
  }
}

TEST("a number that no code can stand for is named by its row, whichever part of the table it is in") {
  Pool pool(1);
  std::vector<uint8_t> bytes(90000 * 99 * 4);
  const float bad = INFINITY;
  std::memcpy(bytes.data() + (80000 * 99 + 7) * 4, &bad, 4);
  const test::TemporaryFile file(bytes);
  Shapes shapes;
  shapes.graph.weights = {{"table", 90000, 99, WeightKind::table}};
  const TensorSource source{"table", file.path(), 0, static_cast<int64_t>(bytes.size()), SourceDtype::f32, 90000, 99};
  for (const StorageFormat format : {StorageFormat::int8, StorageFormat::nf4_double}) {
    shapes.formats = {format};
    const Stretch place;
    WeightFileWriter writer(shapes.graph, shapes.formats, "key", place.path, false);
    CHECK_THROWS(writer.store(pool, source, 0), "holds inf at row 80000, column 7");
  }
}

TEST("the scales of a table are in memory where it is paged, and only there") {
  Pool pool(1);
  Shapes shapes;
  Node embedding;
  embedding.op = Op::embedding;
  embedding.weight = 0;
  shapes.graph.nodes = {embedding};
  const int64_t before = allocated_bytes(Category::quantization_constants);
  for (const StorageFormat format : {StorageFormat::int8, StorageFormat::nf4, StorageFormat::nf4_double}) {
    shapes.formats[0] = format;
    const Tensors tensors(shapes.graph);
    const Stretch place;
    make(pool, shapes, tensors, place.path);
    const Weight loaded = load_weight(pool, tensors.sources[0], format);
    const int64_t own = constants_bytes(format, loaded.rows(), loaded.cols());
    CHECK_EQ(allocated_bytes(Category::quantization_constants), before + own);
    for (const bool paged : {false, true}) {
      const auto file = std::make_shared<const WeightFile>(shapes.graph, shapes.formats, "key", place.path, paged);
      const Weight table = WeightFile::weight(file, 0), linear = WeightFile::weight(file, 4);
      CHECK_EQ(allocated_bytes(Category::quantization_constants), before + own * (paged ? 2 : 1));
      CHECK(same_bytes(loaded, table));
    }
  }
}

TEST("a mapped weight outlives the file that it was taken from") {
  Pool pool(1);
  const Shapes shapes;
  const Tensors tensors(shapes.graph);
  const Stretch place;
  make(pool, shapes, tensors, place.path);
  auto file = open(shapes, place.path);
  const Weight weight = WeightFile::weight(file, 4);
  file.reset();
  std::filesystem::remove(place.path);
  CHECK(same_bytes(weight, load_weight(pool, tensors.sources[4], shapes.formats[4])));
}

TEST("a weight file of something else, of another size or with a damaged header is refused") {
  Pool pool(1);
  const Shapes shapes;
  const Tensors tensors(shapes.graph);
  const Stretch place;
  make(pool, shapes, tensors, place.path);
  CHECK_THROWS(open(shapes, place.path, "other"), "belongs to another model, format, or version, or is damaged");
  Shapes other;
  std::swap(other.formats[4], other.formats[5]);  // nf4 and fp4 take the same bytes
  CHECK_THROWS(open(other, place.path), "belongs to another model");
  other = Shapes();
  other.graph.weights[2].name = "renamed";
  CHECK_THROWS(open(other, place.path), "belongs to another model");
  // Every byte of the header counts.
  const auto size = std::filesystem::file_size(place.path);
  const int64_t head = WeightLayout(shapes.graph, shapes.formats).places[1].offset - kWeightAlignment;
  for (int64_t at = 0; at < head; ++at) {
    std::fstream file(place.path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(at);
    const char was = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(was ^ 0x40));
    file.flush();
    CHECK_THROWS(open(shapes, place.path), place.path);
    file.seekp(at);
    file.put(was);
  }
  open(shapes, place.path);
  std::filesystem::resize_file(place.path, size - 1);
  CHECK_THROWS(open(shapes, place.path), "bytes, expected");
  std::filesystem::resize_file(place.path, 0);
  CHECK_THROWS(open(shapes, place.path), "is empty");
}

TEST("a weight file that was not ended counts for nothing") {
  Pool pool(1);
  const Shapes shapes;
  const Tensors tensors(shapes.graph);
  const Stretch place;
  WeightFileWriter writer(shapes.graph, shapes.formats, "key", place.path, false);
  for (size_t i = 0; i + 1 < tensors.sources.size(); ++i) writer.store(pool, tensors.sources[i], static_cast<int>(i));
  CHECK_THROWS(writer.finish(), "weight 'int8' is missing");
  CHECK_THROWS(open(shapes, place.path), "is not a file of these weights");
}

TEST("room that the system does not give is noticed at once and leaves no file") {
  const Shapes shapes;
  const Stretch place;
  CHECK_THROWS(WeightFileWriter(shapes.graph, shapes.formats, "key", "/no/such/place", false),
               "cannot write /no/such/place");
#if !defined(__linux__)
  SKIP("only Linux limits the size of files");
#else
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit little = before;
  little.rlim_cur = 4096;
  ::setrlimit(RLIMIT_FSIZE, &little);
  CHECK_THROWS(WeightFileWriter(shapes.graph, shapes.formats, "key", place.path, false), "File too large");
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(!std::filesystem::exists(place.path));
#endif
}
