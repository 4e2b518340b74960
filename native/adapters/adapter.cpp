#include "adapters/adapter.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_set>

#include "adapters/hadamard.h"
#include "adapters/kronecker.h"
#include "backends/cpu/adapters.h"
#include "backends/cpu/device.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kMostElements = int64_t{1} << 40;  // of one parameter: no sum or product of sizes leaves 64 bits
constexpr int64_t kMostRank = int64_t{1} << 24;

/// A and B of slots of their own and copies of weights are all that trains, so that it is known which coordinates a
/// contribution has at some ranks.
void check_private(const AdapterSpec& spec) {
  std::vector<int> uses(spec.parameters.size(), 0);
  for (const LowRankSlot& slot : spec.slots) {
    if (slot.has_gains() || slot.paired() || slot.magnitude >= 0)
      fail("SHAPE", "adapter at ", slot.target, ": only A and B, without gains, are trained privately");
    ++uses[slot.a];
    ++uses[slot.b];
  }
  for (const WeightCopy& copy : spec.copies) ++uses[copy.parameter];
  for (size_t i = 0; i < uses.size(); ++i)
    if (spec.parameters[i].trained && uses[i] != 1)
      fail("SHAPE", "adapter parameter ", spec.parameters[i].name, " is ",
           uses[i] == 0 ? "no factor or copy" : "used twice",
           "; only A and B of one module each and copies of weights are trained privately");
}

uint64_t stream_key(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(seed + 0x9e3779b97f4a7c15u) ^ hash;
}

}  // namespace

void AdapterSpec::check() {
  std::unordered_set<std::string> names;
  elements = trained_elements = 0;
  for (const bool trained : {true, false}) {
    for (ParameterSpec& p : parameters) {
      if (p.trained != trained) continue;
      if (p.rows <= 0 || p.cols <= 0 || p.rows > kMostElements / p.cols)
        fail("SHAPE", "adapter parameter ", p.name, " is [", p.rows, ", ", p.cols,
             "]; expected positive dimensions and at most 2^40 elements");
      if (!names.insert(p.name).second) fail("SHAPE", "adapter parameter ", p.name, " is declared twice");
      p.offset = elements;
      elements += p.rows * p.cols;
    }
    if (trained) trained_elements = elements;
  }
  for (const WeightCopy& copy : copies)
    if (copy.parameter < 0 || copy.parameter >= static_cast<int>(parameters.size()))
      fail("SHAPE", "adapter: the copy of ", copy.weight, " names no parameter");
  for (const GradientProjection& projection : projections) {
    const int count = static_cast<int>(parameters.size());
    if (projection.a < 0 || projection.b < 0 || projection.a >= count || projection.b >= count)
      fail("SHAPE", "adapter: a projection names no parameter");
    const ParameterSpec& a = parameters[projection.a];
    const ParameterSpec& b = parameters[projection.b];
    if (a.trained || !b.trained || a.rows != b.cols || !(projection.scale != 0))
      fail("SHAPE", "adapter: the gradient of ", b.name, " [", b.rows, ", ", b.cols, "] cannot be projected by ", a.name,
           " [", a.rows, ", ", a.cols, "] at scale ", projection.scale,
           "; expected a trained B, a frozen A and the same rank");
  }
  norm_rows = 0;
  tracked_elements = 0;
  for (ParameterSpec& p : parameters) p.tracked = -1;
  for (const TripletSpec& triplet : triplets) {
    for (const int index : {triplet.a, triplet.d, triplet.b}) {
      if (index < 0 || index >= static_cast<int>(parameters.size())) fail("SHAPE", "adapter: a triplet names no parameter");
      ParameterSpec& p = parameters[index];
      if (!p.trained) fail("SHAPE", "adapter: ", p.name, " is in a triplet and does not train");
      if (p.tracked >= 0) fail("SHAPE", "adapter: ", p.name, " is in two triplets");
      p.tracked = tracked_elements;
      tracked_elements += p.rows * p.cols;
    }
    const ParameterSpec &a = parameters[triplet.a], &d = parameters[triplet.d], &b = parameters[triplet.b];
    if (d.rows != 1 || d.cols != a.rows || d.cols != b.cols)
      fail("SHAPE", "adapter: ", a.name, " [", a.rows, ", ", a.cols, "], ", d.name, " [", d.rows, ", ", d.cols, "] and ",
           b.name, " [", b.rows, ", ", b.cols, "] are no triplet; expected [rank, in], [1, rank] and [out, rank]");
    const auto mean = [](float beta) { return beta >= 0 && beta < 1; };
    if (!mean(triplet.beta1) || !mean(triplet.beta2) || !(triplet.orthogonal >= 0))
      fail("SHAPE", "adapter: the triplet of ", a.name, " has beta1 ", triplet.beta1, ", beta2 ", triplet.beta2,
           " and orthogonal ", triplet.orthogonal, "; expected two numbers in [0, 1) and one from 0");
  }
  for (LowRankSlot& slot : slots) {
    if (slot.rank <= 0 || slot.rank > kMostRank)
      fail("SHAPE", "adapter at ", slot.target, ": rank is ", slot.rank, "; expected 1 to ", kMostRank);
    if (slot.a < 0 || slot.b < 0) fail("SHAPE", "adapter at ", slot.target, " needs both A and B");
    const auto expect = [&](int index, const char* factor, int64_t rows, int64_t cols) {
      if (index < 0) return;
      const ParameterSpec& p = parameters[index];
      if ((rows >= 0 && p.rows != rows) || (cols >= 0 && p.cols != cols))
        fail("SHAPE", "adapter at ", slot.target, ": ", factor, " (", p.name, ") is [", p.rows, ", ", p.cols,
             "] at rank ", slot.rank);
    };
    if (slot.paired() != (slot.b2 >= 0)) fail("SHAPE", "adapter at ", slot.target, " needs both a2 and b2, or neither");
    if (slot.paired()) {
      check_pair(*this, slot);
    } else {
      expect(slot.a, "A", slot.rank, -1);
      expect(slot.b, "B", -1, slot.rank);
    }
    expect(slot.d, "d", 1, slot.rank);
    expect(slot.mask, "mask", 1, slot.rank);
    const int64_t rows = parameters[slot.b].trained ? parameters[slot.b].rows : -1;
    expect(slot.b_gain, "b_gain", 1, rows);
    expect(slot.magnitude, "magnitude", 1, rows);
    if (slot.magnitude >= 0) {
      slot.norms = norm_rows;
      norm_rows += parameters[slot.magnitude].cols;
    }
    if (slot.mask >= 0 && parameters[slot.mask].trained)
      fail("SHAPE", "adapter at ", slot.target, ": the mask cannot be trained");
    const int count = (slot.snapshot_a >= 0) + (slot.snapshot_b >= 0) + (slot.snapshot_ratio >= 0);
    if (count != 0) {
      if (count != 3 || slot.has_gains() || slot.paired() || slot.magnitude >= 0 || slot.delta_dropout.any() || slot.dropout != 0 ||
          slot.rank_power != 0)
        fail("SHAPE", "adapter at ", slot.target, ": a snapshot has A*, B* and a ratio, and goes with A and B alone");
      expect(slot.snapshot_a, "A*", slot.rank, parameters[slot.a].cols);
      expect(slot.snapshot_b, "B*", parameters[slot.b].rows, slot.rank);
      expect(slot.snapshot_ratio, "the snapshot's ratio", 1, 1);
      for (const int index : {slot.snapshot_a, slot.snapshot_b, slot.snapshot_ratio})
        if (parameters[index].trained)
          fail("SHAPE", "adapter at ", slot.target, ": ", parameters[index].name, " is of a snapshot and cannot be trained");
    }
    if (!(slot.dropout >= 0 && slot.dropout < 1))
      fail("SHAPE", "adapter at ", slot.target, ": dropout is ", slot.dropout, "; expected 0 <= p < 1");
    slot.delta_dropout.check(slot.target);
    if (slot.embedding && !slot.plain())
      fail("SHAPE", "adapter at ", slot.target, ": an embedding takes A and B alone, without dropout");
    if (slot.delta_dropout.any() && !slot.paired())
      fail("SHAPE", "adapter at ", slot.target, ": rows of the change are dropped only of a pair of products");
  }
  for (const KroneckerSlot& slot : kroneckers) check_kronecker(*this, slot);
  if (privacy != Privacy::none) check_private(*this);
}

bool AdapterSpec::blends_examples() const {
  return !copies.empty() || std::any_of(slots.begin(), slots.end(), [](const LowRankSlot& s) { return s.embedding; });
}

void DeltaDropout::check(const std::string& target) const {
  for (const float p : {rows, all})
    if (!(p >= 0 && p < 1))
      fail("SHAPE", "adapter at ", target, ": dropout of its change is ", p, "; expected 0 <= p < 1");
}

int64_t LowRankSlot::ranks(int64_t wanted) const {
  if (wanted <= 0 || wanted >= rank) return rank;
  if (paired() || magnitude >= 0)
    fail("CONFIG", "adapter at ", target, ": a ", paired() ? "pair of products" : "magnitude", " goes with the whole rank of ",
         rank, ", not with ", wanted, " of it");
  return wanted;
}

float LowRankSlot::scale_at(int64_t active) const {
  if (active == rank || rank_power == 0) return scale;
  return static_cast<float>(scale * std::pow(static_cast<double>(rank) / static_cast<double>(active), rank_power));
}

bool fits(const AdapterSpec& spec, const LowRankSlot& slot, int64_t out, int64_t in) {
  const ParameterSpec &a = spec.parameters[slot.a], &b = spec.parameters[slot.b];
  if (slot.paired()) return a.cols == in && b.rows == out;
  return (a.trained ? a.cols == in : a.cols >= in) && (b.trained ? b.rows == out : b.rows >= out) &&
         (slot.b_gain < 0 || spec.parameters[slot.b_gain].cols == out) &&
         (slot.magnitude < 0 || spec.parameters[slot.magnitude].cols == out);
}

Adapter::Adapter(AdapterSpec spec) : spec_(std::move(spec)) {
  spec_.check();
  for (size_t i = 0; i < spec_.parameters.size(); ++i) index_.emplace(spec_.parameters[i].name, static_cast<int>(i));
  values_ = Block(Category::adapters, spec_.elements * kFloat);
  if (spec_.trainable) {
    make_gradients();
    make_importances();
    private_sum_ = Block(Category::gradients, spec_.private_sum_bytes());
    if (spec_.keeps_start()) kept_values_ = Block(Category::adapters, spec_.trained_elements * kFloat);
  }
  if (spec_.norm_rows == 0) return;
  norms_ = Block(Category::adapters, spec_.norm_bytes());
  double* const squares = norms_.data<double>();
  float* const norms = reinterpret_cast<float*>(squares + spec_.norm_rows);
  row_norms_.resize(spec_.slots.size());
  for (size_t i = 0; i < row_norms_.size(); ++i) {
    const LowRankSlot& slot = spec_.slots[i];
    if (slot.magnitude < 0) continue;
    row_norms_[i].squares = squares + slot.norms;
    row_norms_[i].norms = norms + slot.norms;
  }
}

void Adapter::make_gradients() {
  gradients_ = Block(Category::gradients, spec_.gradient_bytes());
  placed_.assign(spec_.parameters.size(), nullptr);
}

void Adapter::make_importances() {
  if (sensitivity_ || spec_.tracked_elements == 0) return;
  // Both or none, should memory run out between the two.
  Block sensitivity(Category::optimizer, spec_.tracked_elements * kFloat);
  uncertainty_ = Block(Category::optimizer, spec_.tracked_elements * kFloat);
  sensitivity_ = std::move(sensitivity);
}

void Adapter::restart() {
  if (!spec_.trainable) return;
  make_importances();
  zero_gradients();
  for (Block* block : {&sensitivity_, &uncertainty_}) block->clear();
  state().clear();
}

OptimizerState& Adapter::state() {
  if (!spec_.trainable) fail("CONFIG", "the adapter was not created as trainable");
  if (!state_) {
    state_.emplace(spec_);
    if (spec_.keeps_start()) kept_state_ = Block(Category::optimizer, state_->bytes());
  }
  return *state_;
}

void Adapter::set_state(const StateSpec& spec) {
  if (spec == spec_.state) return;
  state_.reset();
  kept_state_ = Block();
  const StateSpec before = std::exchange(spec_.state, spec);
  if (!spec_.trainable || spec.in_backward == before.in_backward) return;
  try {
    make_gradients();
  } catch (...) {
    spec_.state = before;  // which says where gradients lie
    throw;
  }
}

void Adapter::drop_importances() {
  sensitivity_ = Block();
  uncertainty_ = Block();
}

int Adapter::parameter(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) fail("CONFIG", "the adapter has no parameter '", name, "'");
  return found->second;
}

float* Adapter::span(AdapterArray array) const {
  switch (array) {
    case AdapterArray::value:
      return values_.data<float>();
    case AdapterArray::gradient:
      return gradients_.data<float>();
    case AdapterArray::sensitivity:
      return sensitivity_.data<float>();
    case AdapterArray::uncertainty:
      return uncertainty_.data<float>();
  }
  return nullptr;
}

void Adapter::expect_idle(AdapterArray array, Touch touch) const {
  const auto used = [&](AdapterUse::Kind kind) { return uses_[static_cast<size_t>(kind)].load() > 0; };
  const bool busy = used(AdapterUse::Kind::update) ||
                    (array == AdapterArray::gradient && used(AdapterUse::Kind::train)) ||
                    (array == AdapterArray::value && touch == Touch::write &&
                     (used(AdapterUse::Kind::train) || used(AdapterUse::Kind::infer)));
  if (busy)
    fail("CONFIG", "the adapter is in use by a job that has not ended; wait for it before ",
         touch == Touch::read ? "reading" : "changing", " the adapter");
}

AdapterUse::AdapterUse(std::shared_ptr<Adapter> adapter, Kind kind) : adapter_(std::move(adapter)), kind_(kind) {
  ++adapter_->uses_[static_cast<size_t>(kind_)];
}

AdapterUse::~AdapterUse() {
  if (adapter_) --adapter_->uses_[static_cast<size_t>(kind_)];
}

float* Adapter::data(int parameter, AdapterArray array) const {
  const ParameterSpec& p = spec_.parameters[parameter];
  if (array == AdapterArray::value) return span(array) + p.offset;
  if (!spec_.trains(parameter)) return nullptr;
  if (array == AdapterArray::gradient) return gradients_ ? span(array) + p.offset : placed_[parameter];
  return p.tracked >= 0 && sensitivity_ ? span(array) + p.tracked : nullptr;
}

void fill_uniform(float* out, int64_t count, float bound, uint64_t seed, const std::string& name) {
  const uint64_t key = stream_key(seed, name);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>((2 * draw(key, i) - 1) * bound);
}

void fill_normal(float* out, int64_t count, float std, uint64_t seed, const std::string& name) {
  const uint64_t key = stream_key(seed, name);
  for (int64_t i = 0; i < count; ++i) {
    const double radius = std::sqrt(-2 * std::log(draw(key, 2 * i)));  // Box-Muller
    out[i] = static_cast<float>(std * radius * std::cos(2 * std::numbers::pi * draw(key, 2 * i + 1)));
  }
}

void fold(const Adapter& adapter, const LowRankSlot& slot, int64_t active, int64_t begin, int64_t end, float* out,
          float weight, const float* row_gains) {
  const auto factor = [&](int parameter) { return parameter < 0 ? Ptr<float>() : cpu::address_of(adapter.data(parameter)); };
  const Ptr<float> gains = cpu::address_of(row_gains), to = cpu::address_of(out);
  if (slot.paired()) return cpu::fold_pair({pair_of(adapter, slot), slot.scale, weight, gains, to}, begin, end);
  cpu::fold({end, slot.rank, active, slot.scale_at(active), weight, factor(slot.b), factor(slot.d), factor(slot.mask),
             factor(slot.b_gain), gains, to},
            begin, end);
}

}  // namespace lowrank
