/** The tests of CUDA's kernels, compiled as C++ and run on the CPU in several schedules. */
import { test } from 'vitest'
import { testCases } from './cases.js'
import { EMULATES, nativeCudaTests } from './executables.js'

const executable = await nativeCudaTests()
if (executable) testCases(executable)
else if (EMULATES && process.env.LOWRANK_NATIVE_TESTS === undefined)
  throw new Error('the native code does not build; the compiler messages are above')
else test.skip('CUDA’s kernels run on the CPU of Linux on x64, where their tests were built')
