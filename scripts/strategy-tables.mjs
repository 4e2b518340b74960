/**
 * The tables of docs/strategies.md and of the strategies' pages: trained parameters, cost, measured steps, learning
 * rates, and combinations, from the strategies' rules, from plans, and from measurements.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compared } from '../dist/esm/bench/compared.js'
import { planModel } from '../dist/esm/planning/plan.js'
import { listStrategies, rulesOf, strategyFrom } from '../dist/esm/strategies/index.js'
import { table, withMarked } from './markdown.mjs'

/** The shape of SmolLM2-135M. */
const SHAPE = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49152,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-5,
  rope_theta: 100000,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
}
const RANK = 16
const WRAPPERS = ['lora-plus', 'qlora', 'dp-dylora']

const link = (name) => `[${name}](strategies/${name}.md)`
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toLocaleString('en-US', { maximumFractionDigits: 0 })} MiB`

/** Planned memory of a strategy; `planned` has that of all by name. */
async function plans() {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-shape-'))
  const file = join(folder, 'config.json')
  writeFileSync(file, JSON.stringify(SHAPE))
  const planned = new Map()
  try {
    for (const { name } of listStrategies()) {
      const { rows, trainableParameters } = await planModel(file, {
        strategy: compared(name, RANK),
        precision: 'fp32',
        threads: 1,
        perDeviceTrainBatchSize: 4,
        maxSeqLength: 512,
        gradientCheckpointing: false,
      })
      const bytes = (...names) =>
        rows.filter(({ category }) => names.includes(category)).reduce((sum, row) => sum + row.bytes, 0)
      planned.set(name, {
        trains: trainableParameters.toLocaleString('en-US'),
        state: mebibytes(bytes('adapters', 'gradients', 'optimizer')),
        activations: mebibytes(bytes('activations', 'workspace', 'loss')),
      })
    }
    return planned
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const costs = (planned) =>
  table(
    ['strategy', 'trains', 'trained parameters', 'adapter, gradients, optimizer', 'activations'],
    listStrategies().map(({ name, trainable }) => {
      const { trains, state, activations } = planned.get(name)
      return [link(name), trainable, trains, state, activations]
    }),
  )

// ---- measured steps: what benchmarks/strategies.mjs printed with --json, one object a setting

const RESULTS = fileURLToPath(new URL('../benchmarks/results/strategies.json', import.meta.url))
const measured = JSON.parse(readFileSync(RESULTS, 'utf8'))
const settings = [
  ...new Set(
    measured.map(({ precision, quantization, tokens }) => `${precision}, ${quantization}, ${tokens} tokens`),
  ),
]
const ratioText = ({ ratio, lowest, highest }) =>
  `${ratio.toFixed(2)} (${lowest.toFixed(2)} to ${highest.toFixed(2)})`

/** The CPU time of a strategy's step against LoRA's in each setting, here or in PEFT; empty where it was not taken. */
const timesOf = (name, of = ({ cpu }) => cpu) =>
  settings.map((setting) => {
    const found = measured
      .filter(
        ({ precision, quantization, tokens }) =>
          `${precision}, ${quantization}, ${tokens} tokens` === setting,
      )
      .flatMap(({ strategies }) => strategies.filter(({ strategy }) => strategy === name))
      .map(of)
      .find((clock) => clock !== undefined)
    return found ? ratioText(found) : ''
  })

function times() {
  const rows = listStrategies().flatMap(({ name }) => [
    [link(name), ...timesOf(name)],
    ['in PEFT', ...timesOf(name, ({ peft }) => peft?.cpu)],
  ])
  return table(
    ['strategy', ...settings],
    rows.filter(([, ...cells]) => cells.some((cell) => cell !== '')),
  )
}

/** The costs of one strategy, for its page. */
function costOf(name, planned) {
  const { trains, state, activations } = planned.get(name)
  const steps = settings.flatMap((setting, i) => {
    const ours = timesOf(name)[i]
    return ours === '' ? [] : [[`CPU time of a step relative to LoRA: ${setting}`, ours]]
  })
  return table(
    ['', ''],
    [
      ['trained parameters', trains],
      ['adapter, gradients, optimizer', state],
      ['activations', activations],
      ...steps,
    ],
  )
}

// ---- measured rates: what benchmarks/rates.mjs wrote

const searches = JSON.parse(
  readFileSync(fileURLToPath(new URL('../benchmarks/results/rates.json', import.meta.url)), 'utf8'),
)
const ownRate = (name) => {
  const config = strategyFrom({ name })
  return rulesOf(config).learningRate(config)
}
const SEARCHES = [
  { model: 'SmolLM2-135M-Instruct', steps: 60 },
  { model: 'demo', steps: 60 },
  { model: 'demo', steps: 300 },
]
/** Losses by rate, means over the seeds; null where a run diverged. */
function lossesOf(strategy, { model, steps }) {
  const search = searches.find(
    (one) => one.strategy === strategy && one.model === model && one.steps === steps,
  )
  if (search === undefined) return undefined
  const mean = (bySeed) => {
    const losses = Object.values(bySeed)
    return losses.includes(null) ? null : losses.reduce((sum, loss) => sum + loss, 0) / losses.length
  }
  return Object.fromEntries(Object.entries(search.losses).map(([rate, bySeed]) => [rate, mean(bySeed)]))
}
const bestOf = (losses) =>
  Object.keys(losses)
    .filter((rate) => losses[rate] !== null)
    .reduce((best, rate) => (losses[rate] < losses[best] ? rate : best))
const searchName = ({ model, steps }) => `${model}, ${steps} steps`

/** The best rate of every search, with its loss. */
const rates = () =>
  table(
    ['strategy', 'default', ...SEARCHES.map((search) => `best: ${searchName(search)}`)],
    [...listStrategies().map(({ name }) => name), 'full'].map((name) => [
      name === 'full' ? '[full](config.md#name-full)' : link(name),
      String(ownRate(name)),
      ...SEARCHES.map((search) => {
        const losses = lossesOf(name, search)
        if (losses === undefined) return ''
        const rate = bestOf(losses)
        return `${rate} (${losses[rate].toFixed(3)})`
      }),
    ]),
  )

/** The rate of one strategy and its losses at others, for its page. */
function ratesOf(name) {
  const found = SEARCHES.flatMap((search) => {
    const losses = lossesOf(name, search)
    return losses === undefined ? [] : [{ search, losses, best: bestOf(losses) }]
  })
  const columns = [...new Set(found.flatMap(({ losses }) => Object.keys(losses)))].toSorted((a, b) => a - b)
  const text = (loss) => (loss === undefined ? '' : (loss?.toFixed(3) ?? 'diverged'))
  const rows = found.map(({ search, losses, best }) => [
    searchName(search),
    ...columns.map((rate) => (rate === best ? `**${text(losses[rate])}**` : text(losses[rate]))),
  ])
  return [
    `The default is ${ownRate(name)}, chosen for runs of 60 to a few hundred short steps on small models. Held-out losses by rate, measured by [\`benchmarks/rates.mjs\`](../strategies.md#learning-rates) with all other options at their defaults:`,
    '',
    table(['', ...columns], rows),
  ].join('\n')
}

/** True if a wrapper accepts an adapter of this name. */
function takes(wrapper, name) {
  try {
    strategyFrom({
      name: wrapper,
      adapter: { name, ...(name === 'lora-fa' ? { projectGradient: false } : {}) },
    })
    return true
  } catch {
    return false
  }
}

const pairs = () =>
  table(
    ['adapter', ...WRAPPERS.map(link)],
    listStrategies()
      .filter(({ name }) => name !== 'qlora')
      .map(({ name }) => [link(name), ...WRAPPERS.map((wrapper) => (takes(wrapper, name) ? 'yes' : 'no'))]),
  )

/** The pages with their tables, by path: `textOf` reads one as it is. */
export async function strategyPages(textOf) {
  const planned = await plans()
  const overview = 'docs/strategies.md'
  const tables = { rates: rates(), costs: costs(planned), times: times(), pairs: pairs() }
  const pages = listStrategies().map(({ name }) => `docs/strategies/${name}.md`)
  return [
    [overview, withMarked(textOf(overview), overview, tables)],
    ...pages.map((path, i) => [
      path,
      withMarked(textOf(path), path, {
        rates: ratesOf(listStrategies()[i].name),
        cost: costOf(listStrategies()[i].name, planned),
      }),
    ]),
  ]
}
