import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { BaseModel } from '../../../../lib/base/base.js'
import { loadModel } from '../../../../lib/model/load.js'
import { lora } from '../../../../lib/strategies/lora.js'
import { cardText } from '../../../../lib/train/records/model-card.js'
import { tinyModel } from '../../../e2e/tiny-model.js'
import { scratchFile, scratchFolder } from '../../scratch.js'
import { tinyLoader } from '../tiny-models.js'

const load = tinyLoader()
const rows = Array.from({ length: 20 }, (_, i) => ({ prompt: `What is ${i}?`, completion: `It is ${i}.` }))
const options = { maxSteps: 4, maxSeqLength: 64, evalFraction: 0.2, evalSteps: 2, learningRate: 1e-2 }

const cardIn = (folder: string) => readFileSync(join(folder, 'README.md'), 'utf8')
const frontOf = (card: string) => parse(/^---\n(.*?)\n---\n/s.exec(card)?.[1] ?? '')
const section = (card: string, title: string) =>
  new RegExp(`## ${title}\n\n(.*?)(\n\n## |\n$)`, 's').exec(card)?.[1]

describe('the model card', () => {
  test('of a run has base, data, settings, results, limits, and how to load it', async () => {
    const model = await load()
    const adapter = await model.attach(lora({ r: 2 }))
    const outputDir = join(scratchFolder(), 'out')
    const file = scratchFile('train.jsonl', rows.map((row) => JSON.stringify(row)).join('\n'))
    const result = await adapter.train(file, { ...options, outputDir })
    const card = cardIn(outputDir)
    const hash = /SHA-256 of the tokens `([0-9a-f]{64})`/.exec(card)?.[1]
    expect(frontOf(card)).toEqual({
      library_name: 'peft',
      pipeline_tag: 'text-generation',
      tags: ['lowrank', 'lora'],
      data_sha256: hash,
      data_rows: 16,
    })
    expect(section(card, 'Data')).toMatch(
      /^- Training: 16 rows of `train.jsonl`, .*\n- Held out: 4 rows of the same data, /,
    )
    expect(card).not.toContain(file)
    const settings = parse(/```yaml\n(.*?)```/s.exec(section(card, 'Settings') ?? '')?.[1] ?? '')
    expect(settings).toMatchObject({ strategy: { name: 'lora', r: 2 }, max_steps: 4, learning_rate: 0.01 })
    const last = result.evaluations.at(-1)
    expect(section(card, 'Results')).toContain(`| ${Number(last?.loss.toPrecision(4))} |`)
    expect(section(card, 'Results')).toMatch(
      /^\| held-out rows \| loss \| perplexity \|\n[\s\S]*before training[\s\S]*This is the adapter of step 4\.$/,
    )
    expect(section(card, 'Limits')).toContain('- It was trained on at most 64 tokens at a time.')
    expect(section(card, 'Use')).toMatch(
      /lowrank generate --model "path\/to\/smollm2"[\s\S]*PeftModel\.from_pretrained/,
    )
  })

  test('names the base as the hub does, and no local path', async () => {
    const model = await load()
    const adapter = await model.attach(lora({ r: 2 }))
    const revision = 'a'.repeat(40)
    const base: BaseModel = Object.create(model.base, {
      name: { value: 'owner/name' },
      revision: { value: revision },
    })
    const card = await cardText(base, adapter.state, null)
    expect(frontOf(card)).toMatchObject({
      base_model: 'owner/name',
      tags: ['base_model:adapter:owner/name', 'lowrank', 'lora'],
    })
    expect(card).toContain(`from_pretrained("owner/name", revision="${revision}")`)
  })

  test('of a classifier has its classes and scores', async () => {
    const model = await load({ labels: ['day', 'night'] })
    const adapter = await model.attach(lora({ r: 2 }))
    const outputDir = join(scratchFolder(), 'out')
    const texts = Array.from({ length: 20 }, (_, i) =>
      i % 2 ? { text: `moon ${i}`, label: 'night' } : { text: `sun ${i}`, label: 'day' },
    )
    await adapter.train(texts, { ...options, task: 'classification', outputDir })
    const card = cardIn(outputDir)
    expect(frontOf(card).pipeline_tag).toBe('text-classification')
    expect(card).toContain('It tells these classes of texts apart: `day`, `night`.')
    expect(section(card, 'Results')).toContain(
      '| held-out rows | loss | accuracy | macro F1 | Matthews correlation |',
    )
    expect(card).toContain('num_labels=2, id2label={0: "day", 1: "night"}')
  })

  test('is saved again with the adapter, also after it was loaded', async () => {
    const model = await load()
    const adapter = await model.attach(lora({ r: 2 }))
    const [first, second, third] = ['a', 'b', 'c'].map((name) => join(scratchFolder(), name)) as [
      string,
      string,
      string,
    ]
    await adapter.save(first)
    expect(cardIn(first)).toContain('- Its training is not recorded here.')
    await adapter.train(rows, options)
    await adapter.save(second)
    expect(section(cardIn(second), 'Results')).toContain('before training')
    await (await model.loadAdapter(second)).save(third)
    expect(cardIn(third)).toBe(cardIn(second))
    await adapter.forwardBackward([{ tokens: [3, 4, 5] }], 'cross_entropy')
    await adapter.save(third)
    expect(cardIn(third)).toContain('- Its training is not recorded here.')
  })

  test("that is the user's is left alone", async () => {
    const model = await load()
    const adapter = await model.attach(lora({ r: 2 }))
    const folder = join(scratchFolder(), 'mine')
    mkdirSync(folder)
    writeFileSync(join(folder, 'README.md'), '# Mine\n')
    await adapter.save(folder)
    await adapter.train(rows, { ...options, outputDir: folder, force: true })
    expect(cardIn(folder)).toBe('# Mine\n')
    expect(existsSync(join(folder, 'adapter_model.safetensors'))).toBe(true)
  })

  test('of a whole model is for transformers', async () => {
    const folder = tinyModel()
    const model = await loadModel(folder, { precision: 'fp32' })
    try {
      const { full } = await import('../../../../lib/strategies/full.js')
      const adapter = await model.attach(full())
      const outputDir = join(scratchFolder(), 'out')
      await adapter.train(rows, { ...options, outputDir })
      expect(frontOf(cardIn(outputDir))).toMatchObject({
        library_name: 'transformers',
        tags: ['lowrank', 'full'],
      })
      expect(cardIn(outputDir)).not.toContain('PeftModel')
    } finally {
      await model.dispose()
    }
  })
})
