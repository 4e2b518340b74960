/** The native tests, all but those of CUDA's kernels (emulated.test.ts). */
import { testCases } from './cases.js'
import { nativeTests } from './executables.js'

const executable = await nativeTests()
if (!executable) throw new Error('the native code does not build; the compiler messages are above')
testCases(executable)
