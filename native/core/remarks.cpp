#include "core/remarks.h"

#include <algorithm>
#include <mutex>
#include <utility>

namespace lowrank {
namespace {

std::mutex g_mutex;
std::vector<std::string> g_said, g_new;

}  // namespace

void remark(const std::string& text) {
  const std::lock_guard lock(g_mutex);
  if (std::find(g_said.begin(), g_said.end(), text) != g_said.end()) return;
  g_said.push_back(text);
  g_new.push_back(text);
}

std::vector<std::string> take_remarks() {
  const std::lock_guard lock(g_mutex);
  return std::exchange(g_new, {});
}

}  // namespace lowrank
