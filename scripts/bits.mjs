// Pins the numbers of the engine while its code moves: records what a grid of runs plans and computes, and compares two
// records. A change that means to leave every number where it is records before and after.
//
//   npm run build && node scripts/bits.mjs record before.json [--only lora] [--root CLONE]
//   node scripts/bits.mjs compare before.json after.json
//
// The weights of some models are drawn before tests; in a new clone run one first, such as
// `npx vitest run --project=unit test/parity/forward.test.ts`.
//
// A case trains ten steps on a model of test/parity/models and keeps: the steps and buffers of every plan that it makes
// (as LOWRANK_LOG=plan,arena prints them), the loss and gradient norm of every step as the 64 bits of the double, and
// SHA-256 of the adapter's values, of logits and of merged files. Bits depend on the processor and on the compiler, so
// records of one machine are compared with one another and none is committed. Plans of 1B to 70B shapes are recorded
// from their shapes alone.
//
// Compared: bits must be equal and peaks must not grow. Plans whose text differs are counted, and shown with --diff.
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { grid, ROWS, shapes, tasks } from './bits-cases.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    root: { type: 'string', default: resolve(import.meta.dirname, '..') },
    diff: { type: 'boolean', default: false },
  },
})
const [verb, ...files] = positionals
if (verb === 'record' && files.length === 1) await record(files[0])
else if (verb === 'compare' && files.length === 2) compare(...files)
else throw new Error('node scripts/bits.mjs record FILE | compare BEFORE AFTER')

async function record(file) {
  process.env.LOWRANK_LOG = 'plan,arena'
  const root = resolve(options.root)
  const lib = await import(join(root, 'dist/esm/index.js'))
  const { addon } = await import(join(root, 'dist/esm/native/addon.js'))
  const work = mkdtempSync(join(tmpdir(), 'lowrank-bits-'))
  const context = { lib, addon: addon(), work, models: models(root, work), began: performance.now() }
  const found = {}
  try {
    for (const entry of [...grid(lib, addon().cpu()), ...tasks(lib, addon().cpu())])
      if (options.only === undefined || entry.name.includes(options.only)) {
        found[entry.name] = await run(entry, context)
        process.stdout.write(`\r${Object.keys(found).length} ${entry.name}\x1b[K`)
      }
    if (options.only === undefined || 'shapes'.includes(options.only))
      for (const [name, planned] of shapes(lib, addon())) found[name] = await planned()
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  writeFileSync(file, JSON.stringify(found))
  const seconds = (performance.now() - context.began) / 1000
  console.log(`\r${Object.keys(found).length} cases in ${seconds.toFixed(0)} s\x1b[K`)
}

/** Folders by name, each with a tokenizer of single bytes. */
function models(root, work) {
  const folders = {}
  return (name) => {
    if (folders[name] !== undefined) return folders[name]
    const folder = join(work, 'models', name)
    const source = join(root, 'test/parity/models', name)
    if (!existsSync(join(source, 'model.safetensors')))
      throw new Error(
        `${source} has no model.safetensors. Run a test there first, which draws it: npx vitest run --project=unit test/parity/forward.test.ts`,
      )
    cpSync(source, folder, { recursive: true })
    const { vocab_size } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer(vocab_size)))
    folders[name] = folder
    return folder
  }
}

function byteTokenizer(ids) {
  const printable = (byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  let next = 256
  const letters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : next++),
  )
  const used = letters.filter((_, byte) => byte < 0x80).slice(0, ids - 1)
  const vocab = Object.fromEntries(['<end>', ...used].map((token, id) => [token, id]))
  const special = {
    id: 0,
    content: '<end>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special],
    normalizer: null,
    pre_tokenizer: level,
    post_processor: null,
    decoder: level,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  }
}

async function run(entry, { lib, addon, work, models }) {
  addon.configure({ isa: entry.isa, threads: entry.threads })
  const log = []
  const { write } = process.stderr
  process.stderr.write = (text) => log.push(text)
  try {
    const { quantization, precision } = entry
    const model = await lib.loadModel(models(entry.model), {
      quantization,
      precision,
      threads: entry.threads,
      ...entry.load,
    })
    const adapter = await model.attach(entry.strategy, { seed: 1 })
    const steps = []
    const run = adapter.train(entry.rows ?? ROWS, {
      perDeviceTrainBatchSize: 4,
      maxSeqLength: 64,
      numTrainEpochs: 100,
      maxSteps: entry.strategy.rounds ? null : 10,
      learningRate: 0.005,
      weightDecay: 0.1,
      seed: 7,
      evalFraction: 0.1,
      chatTemplate: false,
      ...entry.train,
    })
    for await (const { loss, gradNorm } of run) steps.push(bits(loss), bits(gradNorm))
    const kept = join(work, 'adapter')
    await adapter.save(kept)
    const values = sha(
      readFileSync(
        join(kept, entry.strategy.name === 'full' ? 'model.safetensors' : 'adapter_model.safetensors'),
      ),
    )
    rmSync(kept, { recursive: true })
    if (entry.rows !== undefined) {
      await model.dispose()
      const plan = log.join('')
      return { steps, evaluations: run.evaluations, values, plan, peaks: peaksOf(plan) }
    }
    if (entry.beside !== undefined) {
      const other = await model.attach(entry.beside, { seed: 2 })
      for await (const _ of other.train(ROWS, {
        maxSteps: 3,
        maxSeqLength: 64,
        learningRate: 0.005,
        chatTemplate: false,
      }));
      model.use({ adapter, weight: 0.75 }, { adapter: other, weight: 0.5 })
    }
    const tokens = Int32Array.from({ length: 40 }, (_, i) => 1 + ((i * 37) % 100))
    const logits = sha(new Uint8Array((await model.logits(tokens)).buffer))
    const { loss } = await model.evaluate(ROWS.slice(0, 9), { maxSeqLength: 64 })
    const { tokenIds } = await model.generate('Color of', {
      maxNewTokens: 12,
      temperature: 0.7,
      seed: 3,
      chatTemplate: false,
    })
    let merged
    if (entry.merge) {
      const folder = join(work, 'merged')
      await adapter.merge(folder)
      merged = sha(readFileSync(join(folder, 'model.safetensors')))
      rmSync(folder, { recursive: true })
    }
    await model.dispose()
    const plan = log.join('')
    return { steps, values, logits, evaluated: bits(loss), tokenIds, merged, plan, peaks: peaksOf(plan) }
  } finally {
    process.stderr.write = write
  }
}

/** Ends of the last buffer of every arena that was printed. */
function peaksOf(plan) {
  return plan
    .split('--- ')
    .filter((part) => part.startsWith('arena'))
    .map((part) => Math.max(...[...part.matchAll(/\[\d+, (\d+)\)/g)].map(([, end]) => Number(end))))
}

function compare(first, second) {
  const [before, after] = [first, second].map((file) => JSON.parse(readFileSync(file, 'utf8')))
  let bad = 0
  let texts = 0
  const wrong = (name, what) => {
    bad++
    console.log(`${name}: ${what}`)
  }
  for (const name of Object.keys(before)) if (after[name] === undefined) wrong(name, 'is gone')
  for (const [name, b] of Object.entries(after)) {
    const a = before[name]
    if (a === undefined) continue
    for (const what of ['steps', 'evaluations', 'values', 'logits', 'evaluated', 'tokenIds', 'merged'])
      if (JSON.stringify(a[what]) !== JSON.stringify(b[what])) wrong(name, `${what} moved`)
    if (a.peaks.length !== b.peaks.length || b.peaks.some((peak, i) => peak > a.peaks[i]))
      wrong(name, `peaks ${a.peaks} became ${b.peaks}`)
    if (a.plan === b.plan) continue
    texts++
    if (options.diff) show(name, a.plan.split('\n'), b.plan.split('\n'))
  }
  console.log(`${Object.keys(after).length} cases: ${bad} wrong, ${texts} with other plans`)
  if (bad > 0) process.exitCode = 1
}

function show(name, before, after) {
  const at = before.findIndex((line, i) => line !== after[i])
  console.log(`${name}, line ${at + 1} of its plans:\n- ${before[at]}\n+ ${after[at]}`)
}

function bits(number) {
  return Buffer.from(new Float64Array([number]).buffer).toString('hex')
}

function sha(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}
