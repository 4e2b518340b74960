#include "runtime/pipe.h"

#include "backends/cpu/device.h"
#include "check.h"
#include "comm/threads.h"

using namespace lowrank;

namespace {

constexpr int64_t kWidth = 5, kTokens = 7;

/// A part of a model, as far as a pipe looks at it.
Graph part_of(const Comm& comm) {
  Graph graph;
  graph.part = {comm.rank(), comm.size(), 0};
  graph.values.push_back({kWidth, ValueType::residual});
  Node first, last;
  first.op = comm.rank() > 0 ? Op::receive : Op::embedding;
  first.out = 0;
  last.op = comm.rank() + 1 < comm.size() ? Op::send : Op::lm_head;
  last.inputs = {0};
  graph.nodes = {first, last};
  return graph;
}

/// A rank with one buffer of hidden states.
struct Rank {
  explicit Rank(Comm& own)
      : comm(own),
        graph(part_of(own)),
        memory(cpu::memory().allocate(Category::activations, kTokens * kWidth * 4)),
        pipe(own, graph, kTokens) {
    Buffer buffer;
    buffer.cols = kWidth;
    plan.options.tokens = kTokens;
    plan.buffers.push_back(buffer);
  }
  void cross(Crossing crossing, int64_t tokens) {
    Run run(graph, plan);
    run.device = &device;
    run.arena = memory->data();
    run.tokens = tokens;
    pipe.cross(run, crossing, 0);
  }
  bool first() const { return comm.rank() == 0; }
  bool last() const { return comm.rank() + 1 == comm.size(); }
  float* numbers() const { return cpu::host(memory->data().as<float>()); }

  Comm& comm;
  const Graph graph;
  Plan plan;
  const std::unique_ptr<Allocation> memory;
  Pool pool{1};
  cpu::CpuDevice device{pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(1)};
  Pipe pipe;
};

void fill(const Rank& rank, float value) { std::fill_n(rank.numbers(), kTokens * kWidth, value); }

}  // namespace

TEST("hidden states go through all ranks, their gradients come back, and an input is there again") {
  on_ranks(3, [](Comm& comm) {
    Rank rank(comm);
    const auto sent = static_cast<float>(comm.rank());
    for (int micro_step = 0; micro_step < 2; ++micro_step) {
      const int64_t tokens = kTokens - micro_step;
      rank.pipe.begin(static_cast<uint64_t>(micro_step), false);
      if (!rank.first()) {
        rank.cross(Crossing::input, tokens);
        CHECK_EQ(rank.numbers()[tokens * kWidth - 1], static_cast<float>(10 * micro_step) + sent - 1);
      }
      fill(rank, static_cast<float>(10 * micro_step) + sent);
      if (!rank.last()) rank.cross(Crossing::output, tokens);
    }
    for (int micro_step = 0; micro_step < 2; ++micro_step) {
      const int64_t tokens = kTokens - micro_step;
      rank.pipe.begin(static_cast<uint64_t>(micro_step), true);
      if (!rank.first() && !rank.last()) {
        rank.cross(Crossing::input, tokens);
        CHECK_EQ(rank.numbers()[0], static_cast<float>(10 * micro_step) + sent - 1);
        rank.cross(Crossing::output, tokens);  // sends nothing
      }
      if (!rank.last()) {
        rank.cross(Crossing::output_gradient, tokens);
        CHECK_EQ(rank.numbers()[0], static_cast<float>(100 * micro_step) + sent + 1);
      }
      fill(rank, static_cast<float>(100 * micro_step) + sent);
      if (!rank.first()) rank.cross(Crossing::input_gradient, tokens);
    }
  });
}

TEST("a rank that fails tells the others, who tell theirs, and nothing is left under way") {
  on_ranks(4, [](Comm& comm) {
    Rank rank(comm);
    rank.pipe.begin(0, false);
    fill(rank, 1);
    if (comm.rank() == 0) {
      rank.cross(Crossing::output, kTokens);
      CHECK_THROWS(rank.cross(Crossing::output_gradient, kTokens), "rank 1 failed");
    } else if (comm.rank() > 1) {
      CHECK_THROWS(rank.cross(Crossing::input, kTokens), comm.rank() == 2 ? "rank 1 failed" : "rank 2 failed");
    }
    for (int64_t passes = 1; passes <= 2; ++passes) rank.pipe.skip(passes, passes);
    rank.pipe.skip(2, 2);
    // Messages arrive in the order in which they were sent.
    rank.pipe.begin(1, false);
    if (!rank.first()) rank.cross(Crossing::input, kTokens);
    fill(rank, 2);
    if (!rank.last()) rank.cross(Crossing::output, kTokens);
  });
}

TEST("a pipe needs as many ranks as parts, and takes what it says") {
  on_ranks(3, [](Comm& comm) {
    Graph graph = part_of(comm);
    if (comm.rank() == 1) CHECK(pipe_bytes(graph, kTokens) >= 5 * kTokens * kWidth * 4);
    graph.part.count = 1;
    CHECK_EQ(pipe_bytes(graph, kTokens), int64_t{0});
    graph.part = {0, 2, 0};
    CHECK_THROWS(Pipe(comm, graph, kTokens), "but this process is rank");
  });
}
