// The version of this build.
#pragma once

namespace lowrank {

// The npm package's version at build time, such as "0.1.0".
const char* version();

}  // namespace lowrank
