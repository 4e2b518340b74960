// Moves hidden states, and their gradients, between ranks that each hold a part of a model's layers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "comm/comm.h"
#include "core/memory.h"
#include "graph/graph.h"
#include "plan/run.h"

namespace lowrank {

/// Memory of a pipe for plans of at most `tokens` tokens; 0 for a whole model.
int64_t pipe_bytes(const Graph& graph, int64_t tokens);

class Pipe {
 public:
  /// Throws Error("CONFIG") unless there are as many ranks as parts, Error("UNSUPPORTED") for messages over 2 GiB.
  Pipe(Comm& comm, const Graph& graph, int64_t tokens);
  ~Pipe();
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  /// Begins a pass over a micro-batch. Its input is kept until the pass with `again`, which needs it once more and
  /// sends no output; in between, as many micro-batches may begin as there are ranks behind this one.
  void begin(uint64_t micro_step, bool again);
  /// Moves the rows of the run's tokens. Throws Error("RANKS") if the other rank failed.
  void cross(Run& run, Crossing crossing, int buffer);
  /// Makes up for passes that fail or are left out, until there were `forwards` and `backwards` of them: receives what
  /// the others sent for them, and tells them.
  void skip(int64_t forwards, int64_t backwards);

 private:
  void receive(Crossing crossing, std::byte* message, Run* run, int buffer);
  void send(Crossing crossing, Run* run, int buffer);
  std::byte* input() const { return place(static_cast<int>(micro_step_ % static_cast<uint64_t>(inputs_))); }
  std::byte* place(int index) const { return memory_.data() + index * message_bytes_; }
  int64_t& done(Crossing crossing) { return done_[static_cast<size_t>(crossing)]; }

  Comm& comm_;
  const GraphPart part_;
  const int inputs_;
  const int64_t width_, message_bytes_;
  const Block
      memory_;  // messages: the inputs that are kept, a gradient that came, an output and a gradient on their way
  uint64_t micro_step_ = 0;
  bool again_ = false;
  std::array<int64_t, 4> done_{};  // crossings so far
};

}  // namespace lowrank
