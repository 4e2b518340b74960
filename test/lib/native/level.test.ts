import { expect, test } from 'vitest'
import { levelProblem, portableKernels } from '../../../lib/native/level.js'

const avx2 = ['sse2', 'avx', 'avx2', 'fma', 'f16c']

test('the portable kernels on a processor that has better ones are a problem', () => {
  expect(levelProblem('reference', { arch: 'x64', flags: avx2 })).toContain(
    'although this processor has AVX2',
  )
  expect(levelProblem('reference', { arch: 'arm64', flags: [] })).toContain(
    'although this processor has NEON',
  )
})

test('they are none where the processor has nothing better, or they were asked for', () => {
  expect(levelProblem('reference', { arch: 'x64', flags: ['sse2'] })).toBeUndefined()
  expect(levelProblem('reference', { arch: 'x64', flags: avx2, forced: 'reference' })).toBeUndefined()
  expect(levelProblem('avx2', { arch: 'x64', flags: avx2 })).toBeUndefined()
})

test('they are slow, and the reason is told', () => {
  const slow = 'the portable kernels are in use, many times slower than others: '
  expect(portableKernels('reference', { arch: 'x64', flags: ['sse2', 'avx'] })).toBe(
    `${slow}this processor lacks AVX2, FMA, or F16C`,
  )
  expect(portableKernels('reference', { arch: 'x64', flags: avx2, forced: 'reference' })).toBe(
    `${slow}LOWRANK_ISA=reference asks for them`,
  )
  expect(portableKernels('reference', { arch: 'arm64', flags: [] })).toBe(
    `${slow}although this processor has NEON`,
  )
  expect(portableKernels('avx2', { arch: 'x64', flags: avx2 })).toBeUndefined()
})
