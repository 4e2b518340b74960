/** The child of fuzz-models.mjs: opens what it is told to, as the verbs do, and says what came of it. */
import { join } from 'node:path'
import { inspectModel } from '../../dist/esm/cli/inspect/model.js'
import { openDataset } from '../../dist/esm/data/dataset.js'
import { WorkerTokenizer } from '../../dist/esm/data/worker-tokenizer.js'
import { LowrankError, loadModel, lora, planModel } from '../../dist/esm/index.js'
import { ChatTemplate } from '../../dist/esm/tokenizer/chat-template.js'
import { readTokenizerSource } from '../../dist/esm/tokenizer/read-source.js'
import { loadTokenizer } from '../../dist/esm/tokenizer/tokenizer.js'

const MESSAGES = [
  { role: 'user', content: 'What is six times seven?' },
  { role: 'assistant', content: 'Forty-two aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.' },
]

const bases = new Map()
async function base(path) {
  if (!bases.has(path)) bases.set(path, await loadModel(path))
  return bases.get(path)
}

const OPEN = {
  async model(path) {
    await planModel(path, { strategy: lora({ r: 2 }) })
    const model = await loadModel(path)
    await model.dispose()
  },
  async plan(path) {
    await planModel(join(path, 'config.json'), { strategy: lora({ r: 2 }) })
  },
  // In a process of its own in the product, so that its end there is an error: this child stands for it.
  async tokenizer(path) {
    const kind = path.endsWith('.gguf') ? 'gguf' : 'folder'
    const source = await readTokenizerSource({ kind, path })
    const tokenizer = loadTokenizer(source)
    const ids = tokenizer.encode(MESSAGES[1].content, { addSpecialTokens: true })
    tokenizer.decode(ids, { skipSpecialTokens: false })
    if (source.chatTemplate !== undefined)
      new ChatTemplate(source.chatTemplate, tokenizer.specialTokens).render(MESSAGES)
  },
  async worker(path) {
    const tokenizer = await WorkerTokenizer.open({ kind: path.endsWith('.gguf') ? 'gguf' : 'folder', path })
    try {
      await tokenizer.encodeRow(
        { format: 'messages', messages: MESSAGES, path, line: 1 },
        { maxSeqLength: 512, unended: 'allow' },
      )
    } finally {
      await tokenizer.close()
    }
  },
  async adapter(path, of) {
    const model = await base(of)
    const adapter = await model.loadAdapter(path)
    await adapter.detach()
  },
  async data(path) {
    for await (const row of openDataset(path)) if (row.line < 1) throw new Error('a row without a place')
  },
  async inspect(path) {
    const { text } = await inspectModel(path)
    text()
  },
}

process.on('message', async ({ kind, path, of }) => {
  const started = performance.now()
  const before = process.resourceUsage().maxRSS
  let outcome = 'opened'
  let problem
  try {
    await OPEN[kind](path, of)
  } catch (error) {
    if (error instanceof LowrankError) {
      outcome = error.code
      if (error.code === 'INTERNAL') problem = error.stack
      if (error.message.length > 2000)
        problem = `a message of ${error.message.length} characters: ${error.message.slice(0, 300)}`
      // Jinja has undefined values of its own, and mistakes of one file are told a line each.
      const words = error.message.replace('on undefined values', '').replaceAll('\n  ', ' ')
      if (/undefined|\[object|\p{Cc}/u.test(words)) problem = error.message.slice(0, 300)
    } else {
      outcome = 'foreign error'
      problem = error instanceof Error ? error.stack : String(error)
    }
  }
  const { maxRSS } = process.resourceUsage()
  process.send({ outcome, problem, ms: performance.now() - started, rss: maxRSS, grown: maxRSS - before })
})
process.on('disconnect', () => process.exit())
process.send('ready')
