// An adapter without memory, for planning: its values have no addresses, and everything trained has gradients.
#pragma once

#include "plan/run.h"

namespace lowrank {

class PlannedAdapter : public AdapterRun {
 public:
  explicit PlannedAdapter(const AdapterSpec& spec) : spec_(spec) {}
  Ptr<float> value(int) const override { return Ptr<float>(kNowhere); }
  Ptr<float> gradient(int parameter) const override {
    return spec_.trains(parameter) ? Ptr<float>(kNowhere) : Ptr<float>();
  }
  float host_value(int) const override { return 1; }
  Norms norms(int, bool) const override { return {Ptr<double>(kNowhere), Ptr<float>(kNowhere), false, false}; }
  Ptr<double> moment(int) const override { return Ptr<double>(kNowhere); }

 private:
  const AdapterSpec& spec_;
};

}  // namespace lowrank
