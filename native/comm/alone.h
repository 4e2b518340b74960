// A process that trains alone: the only rank.
#pragma once

#include "comm/comm.h"

namespace lowrank {

class Alone final : public Comm {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string library() const override { return ""; }
  int lost() const override { return -1; }
  void gather(const void* own, void* all, int64_t bytes) override;
  void exchange(const void* to, void* from, int64_t bytes) override;
  std::unique_ptr<Collective> beside() override { return nullptr; }
  void send(int to, const void* data, int64_t bytes) override;
  void sent(int) override {}
  void receive(int from, void* data, int64_t bytes) override;
  void leave() override {}
  void close() override {}
  void end_all(int code) override;
};

}  // namespace lowrank
