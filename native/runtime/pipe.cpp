#include "runtime/pipe.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace lowrank {
namespace {

/// Begins each message; nothing follows it if the sender failed.
struct Header {
  int64_t tokens = 0;
  int64_t failed = 0;
};
constexpr int64_t kHeader = 64;
static_assert(sizeof(Header) <= kHeader);

/// Columns of the hidden states at the ends of a part.
int64_t width_of(const Graph& graph) {
  const Node& first = graph.nodes.front();
  const int value = first.op == Op::receive ? first.out : graph.nodes.back().inputs[0];
  return graph.values[value].cols;
}

int64_t message_bytes(const Graph& graph, int64_t tokens) {
  return kHeader + (tokens * width_of(graph) * 4 + 63) / 64 * 64;
}

/// Inputs that are kept at a time: of micro-batches that are on their way to the last rank and back.
int inputs_of(const GraphPart& part) { return part.index == 0 ? 0 : part.count - part.index; }

}  // namespace

int64_t pipe_bytes(const Graph& graph, int64_t tokens) {
  const GraphPart& part = graph.part;
  if (part.count == 1) return 0;
  const int ends = (part.index > 0) + 2 * (part.index + 1 < part.count);
  return (inputs_of(part) + ends) * message_bytes(graph, tokens);
}

Pipe::Pipe(Comm& comm, const Graph& graph, int64_t tokens)
    : comm_(comm),
      part_(graph.part),
      inputs_(inputs_of(graph.part)),
      width_(width_of(graph)),
      message_bytes_(message_bytes(graph, tokens)),
      memory_(Category::activations, pipe_bytes(graph, tokens)) {
  if (comm.size() != part_.count || comm.rank() != part_.index)
    fail("CONFIG", "the model is part ", part_.index, " of ", part_.count, ", but this process is rank ", comm.rank(),
         " of ", comm.size());
  if (message_bytes_ > std::numeric_limits<int32_t>::max())
    fail("UNSUPPORTED", "the hidden states of ", tokens, " tokens take ", message_bytes_,
         " bytes, and at most 2 GiB can be sent; lower per_device_train_batch_size or max_seq_length");
}

/// Sends end without an error unless a rank is lost, which ends the process anyway.
Pipe::~Pipe() {
  try {
    if (part_.index > 0) comm_.sent(part_.index - 1);
    if (part_.index + 1 < part_.count) comm_.sent(part_.index + 1);
  } catch (const Error&) {
  }
}

void Pipe::begin(uint64_t micro_step, bool again) {
  micro_step_ = micro_step;
  again_ = again;
}

void Pipe::cross(Run& run, Crossing crossing, int buffer) {
  switch (crossing) {
    case Crossing::input:
      if (!again_) return receive(crossing, input(), &run, buffer);
      return run.device->memory().upload(run.at(buffer), input() + kHeader, run.tokens * width_ * 4);
    case Crossing::output:
      if (!again_) send(crossing, &run, buffer);
      return;
    case Crossing::output_gradient:
      return receive(crossing, place(inputs_), &run, buffer);
    case Crossing::input_gradient:
      return send(crossing, &run, buffer);
  }
}

void Pipe::skip(int64_t forwards, int64_t backwards) {
  const bool first = part_.index == 0, last = part_.index + 1 == part_.count;
  // Kept inputs may be overwritten, since no backward pass comes after a failure.
  if (!first && done(Crossing::input) < forwards) receive(Crossing::input, place(0), nullptr, -1);
  if (!last && done(Crossing::output) < forwards) send(Crossing::output, nullptr, -1);
  if (!last && done(Crossing::output_gradient) < backwards)
    receive(Crossing::output_gradient, place(inputs_), nullptr, -1);
  if (!first && done(Crossing::input_gradient) < backwards) send(Crossing::input_gradient, nullptr, -1);
}

void Pipe::receive(Crossing crossing, std::byte* message, Run* run, int buffer) {
  const int from = part_.index + (crossing == Crossing::input ? -1 : 1);
  comm_.receive(from, message, message_bytes_);
  ++done(crossing);
  if (run == nullptr) return;
  Header header;
  std::memcpy(&header, message, sizeof(header));
  if (header.failed != 0) fail("RANKS", "rank ", from, " failed");
  if (header.tokens != run->tokens)
    fail("INTERNAL", "rank ", from, " sent ", header.tokens, " tokens of a micro-batch of ", run->tokens);
  run->device->memory().upload(run->at(buffer), message + kHeader, run->tokens * width_ * 4);
}

void Pipe::send(Crossing crossing, Run* run, int buffer) {
  const bool onward = crossing == Crossing::output;
  const int to = part_.index + (onward ? 1 : -1);
  const bool last = part_.index + 1 == part_.count;
  std::byte* const message = place(inputs_ + (last ? 0 : onward ? 1 : 2));
  comm_.sent(to);  // the message before is where this one goes
  const Header header{run == nullptr ? 0 : run->tokens, run == nullptr};
  std::memcpy(message, &header, sizeof(header));
  const int64_t bytes = header.tokens * width_ * 4;
  if (run != nullptr) run->device->memory().download(message + kHeader, run->at(buffer), bytes, "hidden states");
  comm_.send(to, message, kHeader + bytes);
  ++done(crossing);
}

}  // namespace lowrank
