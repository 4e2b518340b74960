/** Dropout that a model's config asks for is left out of training, and said so. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../../lib/model/load.js'
import { lora } from '../../../lib/strategies/lora.js'
import { chats, tinyModel } from '../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../scratch.js'

test('a model with dropout trains without it, and a remark names it', async () => {
  const folder = join(scratchFolder(), 'dropping')
  cpSync(tinyModel(), folder, { recursive: true })
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...config, attention_dropout: 0.1, embd_pdrop: 0 }),
  )
  const model = await loadModel(folder, { precision: 'fp32' })
  try {
    const adapter = await model.attach(lora({ r: 2 }))
    const run = adapter.train(scratchFile('chats.jsonl', chats(8)), { maxSteps: 1, maxSeqLength: 64 })
    expect(run.remarks).toEqual([
      'attention_dropout of the model is 0.1; dropout inside the base is not supported, so training goes on without it',
    ])
    for await (const _ of run.events());
  } finally {
    await model.dispose()
  }
})
