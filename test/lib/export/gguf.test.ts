import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { readGgufHeader } from '../../../lib/formats/gguf.js'
import { loadModel } from '../../../lib/index.js'
import { tinyModel } from '../../e2e/tiny-model.js'
import { scratchFolder } from '../scratch.js'

/** A tiny model with other keys in its small files. */
function changed(model: string, changes: Readonly<Record<string, object>>): string {
  const folder = tinyModel(model)
  for (const [file, more] of Object.entries(changes)) {
    const path = join(folder, file)
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...more }))
  }
  return folder
}

async function exported(folder: string, dtype: 'f16' | 'q8_0') {
  const model = await loadModel(folder)
  try {
    const path = join(scratchFolder(), 'model.gguf')
    const { remarks } = await model.export(path, { format: 'gguf', dtype, check: false })
    return { remarks, header: await readGgufHeader(path) }
  } finally {
    await model.dispose()
  }
}

it('names the tensors whose rows are no whole blocks of Q8_0, and what they are', async () => {
  const { remarks, header } = await exported(tinyModel('odd'), 'q8_0')
  const halves = header.tensors.filter(({ type }) => type.name === 'F16')
  const others = header.tensors.filter(({ type }) => type.name === 'Q8_0')
  expect(halves.length).toBeGreaterThan(5)
  expect(others.length).toBeGreaterThan(1)
  const kinds = halves.map(({ name, dims }) => `${name.replace(/^blk\.\d+/, 'blk.*')} (rows of ${dims[0]})`)
  expect(remarks).toEqual([
    `${halves.length} of ${halves.length + others.length} matrices are F16 instead of Q8_0, whose blocks need rows of a multiple of 32: ${[...new Set(kinds)].join(', ')}`,
  ])
  expect((await exported(tinyModel('smollm2'), 'q8_0')).remarks).toEqual([])
  expect((await exported(tinyModel('odd'), 'f16')).remarks).toEqual([])
})

it.each([
  ['that of the tokenizer', { pad_token: '<|im_start|>' }, 7, 1],
  ['that of the config where the tokenizer has none', { pad_token: null }, 7, 7],
  ['none where that is no row of the vocabulary', { pad_token: null }, 32000, undefined],
  ['none where neither has one', { pad_token: null }, null, undefined],
])('has a pad token: %s', async (_, tokenizer, padTokenId, expected) => {
  const folder = changed('smollm2', {
    'tokenizer_config.json': tokenizer,
    'config.json': { pad_token_id: padTokenId },
  })
  const { header } = await exported(folder, 'f16')
  expect(header.metadata.get('tokenizer.ggml.padding_token_id')).toBe(expected)
})
