// Streams a base through device memory: its units, which of them stay there, and what a run fetches.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "device/weight_store.h"
#include "core/context.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "weights/weight_file.h"

namespace lowrank {

/// @param budget device memory in bytes; 0: two blocks and the head
/// Throws Error("CONFIG") for one that cannot hold two blocks, naming the smallest that works.
WeightStream stream_weights(const Graph& graph, const std::vector<StorageFormat>& formats, int64_t budget);

/// Rows held by a call of the plan with that many head rows, in order. The head is read from its last slice to the
/// first for logits, and in reverse for their gradient.
std::vector<WeightRows> read_order(std::span<const Step> steps, const Plan& plan, const Graph& graph,
                                   int64_t head_rows);

/// Bytes transferred to the device per pass through the order.
int64_t bytes_fetched(const WeightStream& stream, std::span<const WeightRows> order);

/// The weights of a file opened for paging, with their matrices in an image. Nothing of the file stays in memory.
/// Throws Error("ABORTED"), and Error("FILE_FORMAT") if it cannot be read.
std::vector<Weight> read_image(const std::shared_ptr<const WeightFile>& file, const WeightStream& stream,
                               const std::shared_ptr<std::byte>& image, const CancelFlag& cancel);

/// The same weight with its elements and constants in an image, kept alive by `image`; unchanged if it has no place
/// there.
Weight moved_to(const std::shared_ptr<std::byte>& image, const WeightStream::Place& place, Weight weight);

}  // namespace lowrank
