// A base that passes through a device's memory: how it is cut, what stays there, and what a run fetches.
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

/// @param budget bytes of the device; 0: two blocks and the head
/// Throws Error("CONFIG") for one in which two blocks do not fit, naming the smallest that works.
WeightStream stream_weights(const Graph& graph, const std::vector<StorageFormat>& formats, int64_t budget);

/// Rows that a call of the plan with that many rows at the head holds, in order. The head is read from its last slice to
/// the first for logits, and back for their gradient.
std::vector<WeightRows> read_order(std::span<const Step> steps, const Plan& plan, const Graph& graph, int64_t head_rows);

/// Bytes that come to the device each time the order comes round.
int64_t bytes_fetched(const WeightStream& stream, std::span<const WeightRows> order);

/// The weights of a file that was opened to be paged, their matrices in an image. Of the file nothing stays in memory.
/// Throws Error("ABORTED"), and Error("FILE_FORMAT") where it cannot be read.
std::vector<Weight> read_image(const std::shared_ptr<const WeightFile>& file, const WeightStream& stream,
                               const std::shared_ptr<std::byte>& image, const CancelFlag& cancel);

/// The same weight with its elements and constants in an image, which `image` keeps alive; as it was, without a place
/// there.
Weight moved_to(const std::shared_ptr<std::byte>& image, const WeightStream::Place& place, Weight weight);

}  // namespace lowrank
