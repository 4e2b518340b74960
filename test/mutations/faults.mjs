/**
 * Faults that scripts/mutations.mjs plants, by area: `find`, which stands once in `file`, becomes `replace`, and one of
 * `tests` must fail; `least` says how many tests must, and `title` which of them to run. A fault `inPrograms` is built, for
 * tests that run commands.
 */
import { checkpoints } from './faults/checkpoints.mjs'
import { compare } from './faults/compare.mjs'
import { cudaFaults } from './faults/cuda.mjs'
import { data } from './faults/data.mjs'
import { files } from './faults/files.mjs'
import { native } from './faults/native.mjs'
import { parity } from './faults/parity.mjs'
import { privacy } from './faults/privacy.mjs'
import { strategies } from './faults/strategies.mjs'
import { training } from './faults/training.mjs'

export const areas = {
  strategies,
  privacy,
  training,
  checkpoints,
  data,
  files,
  parity,
  native,
  compare,
  cuda: cudaFaults,
}
