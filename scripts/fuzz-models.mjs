/**
 * Damages model folders, GGUF files, tokenizers, adapters and files of data at random and opens each in a process of its
 * own, as the verbs do. Whatever the damage, what comes of it must be a model, rows or one of our errors, soon and in
 * little memory.
 *
 *   npm run fuzz:models -- --count 20000 --seed 1
 *   npm run fuzz:models -- --of data --count 20000
 *
 * --of data damages only files of data (Parquet, CSV, JSON and text), --of models only the others.
 * --only N opens the file of that number alone and keeps it; --keep DIR keeps every file that failed.
 */
import { execFileSync, fork } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  mutateBytes,
  mutateJson,
  mutateParquet,
  mutateSafetensors,
  randomFrom,
} from '../test/fuzz/mutate.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    of: { type: 'string', default: 'all' },
    only: { type: 'string' },
    keep: { type: 'string' },
  },
})
/** A file may take so long, of processor time where the system tells it: machines are busy at times. */
const LIMIT_SECONDS = 5
const LONGEST_WAIT_SECONDS = 60
/** Beyond what the process had before; models here have less than 1 MB. */
const LIMIT_GROWTH = 512 << 10
const HEAP_MEGABYTES = 1024
const GPT2 = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }

const scratch = mkdtempSync(join(tmpdir(), 'lowrank-fuzz-'))
if (!['all', 'models', 'data'].includes(values.of))
  throw new Error(`--of ${values.of}: expected all, models or data`)
const seeds = [
  ...(values.of === 'data' ? [] : makeSeeds()),
  ...(values.of === 'models' ? [] : makeDataSeeds()),
]
const counts = new Map()
const failures = []
const slowest = []
let peak = 0
let largest = { what: '', grown: 0 }
let child

process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
const numbers =
  values.only === undefined
    ? Array.from({ length: Number(values.count) }, (_, i) => i)
    : [Number(values.only)]
const started = performance.now()
for (const number of numbers) {
  await one(number)
  if (process.stderr.isTTY && number % 50 === 0) process.stderr.write(`\r${number} of ${numbers.length}`)
}
child?.kill('SIGKILL')
report()

/** Whole models and adapters to begin with, each in a folder that is damaged and made whole again. */
function makeSeeds() {
  const parity = (path) => join(root, 'test', 'parity', path)
  const at = (name) => join(scratch, name)
  const model = at('model')
  cpSync(parity('models/smollm2'), model, { recursive: true })
  for (const [name, text] of Object.entries(smallTokenizer())) writeFileSync(join(model, name), text)
  cpSync(parity('bnb/smollm2_fp4_single/generation_config.json'), join(model, 'generation_config.json'))
  const sharded = at('sharded')
  cpSync(model, sharded, { recursive: true })
  const shard = 'model-00001-of-00001.safetensors'
  cpSync(join(model, 'model.safetensors'), join(sharded, shard))
  rmSync(join(sharded, 'model.safetensors'))
  const weights = readFileSync(join(sharded, shard))
  const names = Object.keys(JSON.parse(weights.toString('utf8', 8, 8 + Number(weights.readBigUInt64LE(0)))))
  const map = Object.fromEntries(names.filter((name) => name !== '__metadata__').map((name) => [name, shard]))
  writeFileSync(
    join(sharded, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: map }),
  )
  const stored = at('stored')
  cpSync(parity('bnb/smollm2_fp4_single'), stored, { recursive: true })
  mkdirSync(at('gguf'))
  const gguf = join(at('gguf'), 'model.gguf')
  const plain = at('plain')
  cpSync(model, plain, { recursive: true })
  // GGUF files name how a text is cut by words of their own.
  const ofGguf = { ...JSON.parse(readFileSync(join(plain, 'tokenizer.json'), 'utf8')), pre_tokenizer: GPT2 }
  writeFileSync(join(plain, 'tokenizer.json'), JSON.stringify(ofGguf))
  const cli = join(root, 'dist', 'esm', 'cli', 'main.js')
  const words = ['export', '--format', 'gguf', '--model', plain, '--output', gguf, '--no-check']
  execFileSync(process.execPath, [cli, ...words], { stdio: 'pipe' })
  const found = [
    {
      kind: 'model',
      folder: model,
      files: ['config.json', 'config.json', 'model.safetensors', 'generation_config.json'],
    },
    { kind: 'plan', folder: model, files: ['config.json'] },
    // It has no tokenizer, for which inspect would start a process each time.
    { kind: 'inspect', folder: stored, files: ['config.json', 'model.safetensors'] },
    { kind: 'model', folder: sharded, files: ['model.safetensors.index.json', shard] },
    { kind: 'model', folder: stored, files: ['config.json', 'model.safetensors'] },
    {
      kind: 'tokenizer',
      folder: model,
      files: ['tokenizer.json', 'tokenizer.json', 'tokenizer_config.json'],
    },
    { kind: 'model', folder: at('gguf'), file: gguf, files: ['model.gguf'] },
    { kind: 'tokenizer', folder: at('gguf'), file: gguf, files: ['model.gguf'] },
  ]
  for (const [strategy, of] of Object.entries({
    dora: 'qwen2',
    lokr: 'qwen2',
    loha: 'llama3',
    vera: 'llama3',
    miss: 'llama3',
    oft: 'llama3',
    hira: 'llama3',
    adalora: 'llama3',
    llama3: 'llama3',
    tied: 'smollm2',
  })) {
    const folder = at(strategy)
    cpSync(parity(`written/${strategy}/adapter`), folder, { recursive: true })
    found.push({
      kind: 'adapter',
      folder,
      of: parity(`models/${of}`),
      files: ['adapter_config.json', 'adapter_config.json', 'adapter_model.safetensors', 'lowrank.json'],
    })
  }
  return found
}

/** Files of data of all types, in all compressions of Parquet. */
function makeDataSeeds() {
  const folder = join(scratch, 'data')
  cpSync(join(root, 'test', 'parity', 'data'), folder, { recursive: true })
  const rows = [
    { text: 'Café, 5 €', label: 'food' },
    { text: 'He said "no",\nand left.', label: 'Sports ' },
  ]
  const many = Array.from({ length: 20 }, () => rows).flat()
  writeFileSync(join(folder, 'rows.jsonl'), many.map((row) => `${JSON.stringify(row)}\n`).join(''))
  writeFileSync(join(folder, 'text.txt'), many.map(({ text }) => text).join('\n'))
  const names = readdirSync(folder)
  return [
    { kind: 'data', folder, files: names.filter((name) => name.endsWith('.parquet')) },
    { kind: 'data', folder, files: names.filter((name) => !name.endsWith('.parquet')) },
  ]
}

/** The demo's tokenizer with the 256 tokens that the small model has room for, and a chat template. */
function smallTokenizer() {
  const demo = (name) => JSON.parse(readFileSync(join(root, 'demo', 'base', name), 'utf8'))
  const tokenizer = demo('tokenizer.json')
  const { vocab, merges } = tokenizer.model
  const size = JSON.parse(
    readFileSync(join(root, 'test/parity/models/smollm2/config.json'), 'utf8'),
  ).vocab_size
  const kept = Object.fromEntries(Object.entries(vocab).filter(([, id]) => id < size))
  const joined = (merge) => (typeof merge === 'string' ? merge.split(' ') : merge).join('')
  tokenizer.model.vocab = kept
  tokenizer.model.merges = merges.filter((merge) => joined(merge) in kept)
  tokenizer.added_tokens = tokenizer.added_tokens.filter(({ id }) => id < size)
  const chat_template =
    "{%- macro said(m) -%}{{ m.role }}: {{ m.content | trim }}{%- endmacro -%}{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{{ said(m) + '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
  return {
    'tokenizer.json': JSON.stringify(tokenizer),
    'tokenizer_config.json': JSON.stringify({ ...demo('tokenizer_config.json'), chat_template }),
  }
}

function damaged(file, whole, random) {
  if (file.endsWith('.safetensors')) return mutateSafetensors(whole, random)
  if (file.endsWith('.gguf')) return mutateBytes(whole, random, 12_000)
  if (file.endsWith('.parquet')) return mutateParquet(whole, random)
  if (!file.endsWith('.json')) return mutateBytes(whole, random)
  return random.below(4) === 0 ? mutateBytes(whole, random) : mutateJson(whole.toString('utf8'), random)
}

async function one(number) {
  const random = randomFrom(Number(values.seed) * 1_000_003 + number)
  const { kind, folder, file, of, files } = random.pick(seeds)
  const name = random.pick(files)
  const path = join(folder, name)
  const whole = readFileSync(path)
  const bytes = damaged(name, whole, random)
  writeFileSync(path, bytes)
  const job = { kind, path: kind === 'data' ? path : (file ?? folder), of }
  let answer = await opened(job)
  // Tokenizers and templates run in a process of their own: their end is an error there, which is asked for.
  if (kind === 'tokenizer' && /^ended|^hang/.test(answer.outcome)) {
    const first = answer.outcome
    answer = await opened({ ...job, kind: 'worker' })
    if (answer.problem === undefined)
      answer.outcome = `${answer.outcome} (${first} of the tokenizer's process)`
  }
  counts.set(answer.outcome, (counts.get(answer.outcome) ?? 0) + 1)
  peak = Math.max(peak, answer.rss ?? 0)
  const what = `${number} (${kind} ${basename(folder)}/${name})`
  if ((answer.grown ?? 0) > largest.grown) largest = { what, grown: answer.grown }
  slowest.push({ what, ms: answer.ms })
  slowest.sort((a, b) => b.ms - a.ms)
  slowest.length = Math.min(slowest.length, 5)
  if (answer.problem !== undefined) {
    failures.push(`${what}: ${answer.outcome}: ${answer.problem}`)
    if (values.keep !== undefined) {
      mkdirSync(values.keep, { recursive: true })
      writeFileSync(join(values.keep, `${number}-${name}`), bytes)
    }
  }
  if (values.only !== undefined) {
    console.log(what, answer)
    writeFileSync(name, bytes)
  }
  writeFileSync(path, whole)
}

/** Result of a file: an answer of the child, its exit, or a timeout. */
async function opened(job) {
  child ??= await start()
  const begin = performance.now()
  const used = processorSeconds(child.pid)
  const answer = await new Promise((done) => {
    const settle = (found) => {
      clearInterval(watch)
      child?.removeAllListeners()
      done(found)
    }
    const watch = setInterval(() => {
      const wall = (performance.now() - begin) / 1000
      const seconds = used === undefined ? 0 : processorSeconds(child.pid) - used
      if (seconds > LIMIT_SECONDS || wall > LONGEST_WAIT_SECONDS)
        settle({
          outcome: 'hang',
          problem: `${wall.toFixed(1)} s${used === undefined ? '' : `, ${seconds.toFixed(1)} s of processor time`}`,
        })
    }, 200)
    child.once('message', settle)
    child.once('exit', (code, signal) =>
      settle({ outcome: `ended by ${signal ?? code}`, problem: 'the process ended', gone: true }),
    )
    child.send(job, () => undefined)
  })
  answer.ms ??= performance.now() - begin
  if (answer.grown > LIMIT_GROWTH) answer.problem ??= `${answer.grown >> 10} MiB of memory`
  // State left by one file must not affect the next.
  if (answer.gone || answer.outcome === 'hang' || answer.rss > 400 << 10) {
    child.kill('SIGKILL')
    child = undefined
  }
  return answer
}

async function start() {
  const next = fork(join(root, 'test', 'fuzz', 'load.mjs'), [], {
    execArgv: [`--max-old-space-size=${HEAP_MEGABYTES}`],
    env: { ...process.env, LOWRANK_WEIGHT_CACHE: 'off', LOWRANK_THREADS: '1' },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  await new Promise((done, failed) => {
    next.once('message', done)
    next.once('exit', (code) => failed(new Error(`the child does not start (${code}); npm run build first`)))
  })
  next.removeAllListeners()
  return next
}

/** Processor time of a process so far; undefined where the system does not tell. */
function processorSeconds(pid) {
  const path = `/proc/${pid}/stat`
  if (!existsSync(path)) return undefined
  const fields = readFileSync(path, 'latin1').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function report() {
  const seconds = (performance.now() - started) / 1000
  console.log(`${numbers.length} damaged files, seed ${values.seed}, ${seconds.toFixed(0)} s`)
  for (const [outcome, count] of [...counts].sort((a, b) => b[1] - a[1]))
    console.log(`  ${String(count).padStart(6)} ${outcome}`)
  console.log('slowest:')
  for (const { what, ms } of slowest) console.log(`  ${(ms / 1000).toFixed(2).padStart(6)} s ${what}`)
  console.log(`memory peak of a process: ${Math.round(peak / 1024)} MiB`)
  console.log(`most memory for a file: ${Math.round(largest.grown / 1024)} MiB ${largest.what}`)
  console.log(failures.length === 0 ? 'no failure' : `${failures.length} failures:`)
  for (const failure of failures.slice(0, 40)) console.log(`  ${failure.replaceAll('\n', '\n    ')}`)
  process.exitCode = failures.length === 0 ? 0 : 1
}
