#include "os/scheduling.h"

#include <pthread/qos.h>

namespace lowrank::os {

// Threads without a class may be put on efficiency cores.
void prefer_long_slices() { (void)::pthread_set_qos_class_self_np(QOS_CLASS_USER_INITIATED, 0); }

}  // namespace lowrank::os
