/**
 * Damages valid model files at random and opens them. Whatever comes out, it must be a description of tensors inside
 * the file or an error that says what is wrong with the file; never another exception, a hang or a large allocation.
 * Seeded, so failures repeat; LOWRANK_FUZZ_RUNS asks for more runs than the few of every day.
 */

import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { FileFormatError, UnsupportedError } from '../../lib/core/errors.js'
import { readGgufHeader } from '../../lib/formats/gguf.js'
import { readSafetensorsHeader } from '../../lib/formats/safetensors.js'
import { openModelFiles } from '../../lib/models/index.js'
import { ggufBytes } from '../lib/formats/gguf-bytes.js'
import { llamaGguf, vectors } from '../lib/formats/model-fixtures.js'
import { scratchFolder } from '../lib/scratch.js'

const numRuns = Number(process.env.LOWRANK_FUZZ_RUNS ?? 400)

/** Bytes that sit on the edges of the formats: counts, quotes, brackets, signs. */
const TELLING = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x22, 0x2c, 0x30, 0x39, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d]

const change = fc.record({
  kind: fc.constantFrom('set', 'insert', 'remove', 'repeat', 'wide', 'cut'),
  /** Position, as a fraction of the header. */
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  byte: fc.oneof(fc.constantFrom(...TELLING), fc.nat(255)),
  length: fc.integer({ min: 1, max: 16 }),
})

type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

/** @param header how many bytes from the start on are worth damaging; a bit more is reached, too */
function damage(bytes: Buffer, header: number, { kind, at, byte, length }: Change): Buffer {
  const start = Math.min(Math.floor(at * (header + 16)), bytes.length)
  const before = bytes.subarray(0, start)
  const after = bytes.subarray(start)
  switch (kind) {
    case 'insert':
      return Buffer.concat([before, Buffer.alloc(length, byte), after])
    case 'remove':
      return Buffer.concat([before, after.subarray(length)])
    case 'repeat':
      return Buffer.concat([before, after.subarray(0, length), after])
    case 'cut':
      return Buffer.from(before)
    default: {
      const copy = Buffer.from(bytes)
      copy.fill(byte, start, Math.min(start + (kind === 'wide' ? 8 : 1), copy.length))
      return copy
    }
  }
}

async function allowed(
  open: () => Promise<{ offset: number; bytes: number }[]>,
  fileSize: number,
): Promise<void> {
  try {
    for (const { offset, bytes } of await open()) {
      expect(Number.isSafeInteger(offset) && Number.isSafeInteger(bytes)).toBe(true)
      expect(offset + bytes).toBeLessThanOrEqual(fileSize)
    }
  } catch (error) {
    if (!(error instanceof FileFormatError || error instanceof UnsupportedError)) throw error
    expect(error.message).not.toMatch(/undefined|\[object/)
  }
}

const damageAll = (bytes: Buffer, header: number, all: readonly Change[]) =>
  all.reduce((damaged, one) => damage(damaged, header, one), bytes)

const changes = fc.array(change, { minLength: 1, maxLength: 4 })

it('opens damaged safetensors files or says what is wrong with them', async () => {
  const path = join(scratchFolder(), 'model.safetensors')
  const whole = Buffer.from(vectors(['model.norm.weight', 'lm_head.weight', 'é"\\'], 'BF16'))
  await fc.assert(
    fc.asyncProperty(changes, async (all) => {
      writeFileSync(path, damageAll(whole, whole.length, all))
      await allowed(
        async () => [...(await readSafetensorsHeader(path)).tensors.values()],
        statSync(path).size,
      )
    }),
    { seed: 1, numRuns },
  )
})

it('opens damaged GGUF files or says what is wrong with them', async () => {
  const path = join(scratchFolder(), 'model.gguf')
  const whole = ggufBytes(llamaGguf())
  writeFileSync(path, whole)
  const { dataOffset } = await readGgufHeader(path)
  await fc.assert(
    fc.asyncProperty(changes, async (all) => {
      writeFileSync(path, damageAll(whole, dataOffset, all))
      await allowed(async () => [...(await openModelFiles(path)).tensors.values()], statSync(path).size)
    }),
    { seed: 2, numRuns },
  )
})

it('opens folders with a damaged shard index or config, or says what is wrong with them', async () => {
  const folder = join(scratchFolder(), 'model')
  mkdirSync(folder)
  const shard = vectors(['a', 'b'])
  writeFileSync(join(folder, '1.safetensors'), shard)
  const index = Buffer.from(
    '{"metadata":{"total_size":32},"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}',
  )
  const config = Buffer.from('{"model_type":"llama","rope_scaling":null,"eos_token_id":[1,2]}')
  await fc.assert(
    fc.asyncProperty(changes, fc.boolean(), async (all, damageConfig) => {
      writeFileSync(
        join(folder, 'config.json'),
        damageConfig ? damageAll(config, config.length, all) : config,
      )
      writeFileSync(
        join(folder, 'model.safetensors.index.json'),
        damageConfig ? index : damageAll(index, index.length, all),
      )
      await allowed(async () => [...(await openModelFiles(folder)).tensors.values()], shard.length)
    }),
    { seed: 3, numRuns },
  )
})
