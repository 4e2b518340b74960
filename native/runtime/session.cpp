#include "runtime/session.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "adapters/output_norms.h"
#include "adapters/term.h"
#include "core/error.h"
#include "os/process_memory.h"

namespace lowrank {

Session::Session(Context& context, std::shared_ptr<const Model> model, std::vector<std::shared_ptr<Adapter>> adapters,
                 const std::map<std::string, PlanOptions>& plans, std::vector<float> weights,
                 std::vector<int64_t> ranks)
    : threads_(context.device.sizes().threads()),
      device_memory_(context.device.memory()),
      model_(std::move(model)),
      stored_(*model_),
      adapters_(std::move(adapters)),
      adapter_weights_(std::move(weights)),
      adapter_ranks_(std::move(ranks)) {
  if (adapter_weights_.empty()) adapter_weights_.assign(adapters_.size(), 1.0f);
  if (adapter_weights_.size() != adapters_.size())
    fail("CONFIG", "there are ", adapter_weights_.size(), " weights for ", adapters_.size(), " adapters");
  for (const float weight : adapter_weights_)
    if (!std::isfinite(weight)) fail("CONFIG", "the weight of an adapter is ", weight, "; expected a finite number");
  if (adapter_ranks_.empty()) adapter_ranks_.assign(adapters_.size(), 0);
  if (adapter_ranks_.size() != adapters_.size())
    fail("CONFIG", "there are ", adapter_ranks_.size(), " ranks for ", adapters_.size(), " adapters");
  for (const int64_t rank : adapter_ranks_)
    if (rank < 0) fail("CONFIG", "the rank of an adapter is ", rank, "; expected a positive integer, or 0 for all");
  for (size_t i = 0; i < adapters_.size(); ++i)
    if (adapter_weights_[i] != 1 && !adapters_[i]->spec().copies.empty())
      fail("CONFIG", "the weight of an adapter that trains base weights is ", adapter_weights_[i],
           "; expected 1, because the adapter replaces them");
  placed_ = context.device.place(stored_);
  if (plans.empty()) fail("CONFIG", "a session needs at least one plan");
  for (const auto& [name, options] : plans)
    plans_.emplace(name, make_plan(context.device.sizes(), graph(), specs(), options));
  for (const auto& [name, plan] : plans_)
    if (plan.options.mode == Mode::train && adapter_weights_ != std::vector<float>{1.0f})
      fail("CONFIG", "plan '", name, "': the weight of the trained adapter must be 1, not ", adapter_weights_.front());
  // Memory freed by loading and reading data would otherwise count in addition to the allocations.
  os::trim_heap();
  memory_.emplace(device_memory_, graph(), specs(), plans_);
  if (graph().part.count > 1 && context.comm != nullptr)
    pipe_ = std::make_unique<Pipe>(*context.comm, graph(), memory_->tokens());
}

const Plan& Session::plan(const std::string& name) const {
  const auto found = plans_.find(name);
  if (found == plans_.end()) fail("CONFIG", "the session has no plan '", name, "'");
  return found->second;
}

std::vector<const AdapterSpec*> Session::specs() const {
  std::vector<const AdapterSpec*> specs;
  for (const auto& adapter : adapters_) specs.push_back(&adapter->spec());
  return specs;
}

PlanReport Session::report(const std::string& name) const {
  return report_plans(*model_, specs(), {{name, plan(name)}});
}

PlanReport Session::total() const { return report_plans(*model_, specs(), plans_); }

Ptr<double> Session::moment(size_t term) const {
  return memory_->moments->data().as<double>() + moments_before(specs(), plans_, term);
}

std::vector<double> Session::output_norms() const {
  if (memory_->moments->bytes() == 0) fail("CONFIG", "no plan of the session measures outputs");
  const Adapter& adapter = *adapters_[0];
  const AdapterSpec& spec = adapter.spec();
  const HostView<const double> moments(device_memory_, memory_->moments->data().as<double>(),
                                       memory_->moments->bytes() / static_cast<int64_t>(sizeof(double)),
                                       "second moments");
  std::vector<double> norms;
  for (size_t i = 0; i < spec.terms.size(); ++i) {
    const int64_t rank = spec.facts[i].rank;
    if (rank == 0)
      fail("UNSUPPORTED", "adapter at ", spec.terms[i].target, ": the output of a ", spec.terms[i].kind,
           " term cannot be measured");
    // Terms of the first adapter come first, in its order.
    const std::vector<float> folded = plans_.begin()->second.terms[i]->folded(adapter);
    const double* const moment = moments.data() + moments_before(specs(), plans_, i);
    norms.push_back(output_norm(static_cast<int64_t>(folded.size()) / rank, rank, folded.data(), moment));
  }
  return norms;
}

std::string Session::times_text() const {
  std::vector<std::pair<double, std::pair<Phase, std::string_view>>> order;
  double total = 0;
  {
    const std::lock_guard lock(times_mutex_);
    for (const auto& [key, seconds] : seconds_) {
      order.emplace_back(seconds, key);
      total += seconds;
    }
  }
  std::sort(order.rbegin(), order.rend());
  std::ostringstream text;
  text << std::fixed;
  for (const auto& [seconds, key] : order)
    text << std::setprecision(3) << seconds << " s  " << std::setprecision(1) << 100 * seconds / total << " %  "
         << name_of(key.first) << ' ' << key.second << '\n';
  if (model_->pager) {
    const auto [bytes, waited] = model_->pager->times();
    text << std::setprecision(3) << waited << " s  of these waiting for " << bytes << " bytes of the base\n";
  }
  return text.str();
}

}  // namespace lowrank
