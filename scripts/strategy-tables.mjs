/**
 * The tables of docs/strategies.md, made from the strategies' own rules and from plans: what trains, what it takes, what
 * it may be combined with, and on which bases it runs.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { planModel } from '../dist/esm/plan.js'
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

/** Options with the rank of a comparison; what has another kind of rank, or wraps others, keeps its own. */
export function compared(name, rank) {
  const config = strategyFrom({ name })
  if ('adapter' in config)
    return strategyFrom({ name, adapter: { ...config.adapter, r: rank, loraAlpha: rank } })
  if (name === 'vera' || !('r' in config)) return config
  const alpha = 'loraAlpha' in config ? { loraAlpha: rank } : {}
  return strategyFrom({ name, r: rank, ...alpha })
}

const link = (name) => `[${name}](strategies/${name}.md)`
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toLocaleString('en-US', { maximumFractionDigits: 0 })} MiB`

async function costs() {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-shape-'))
  const file = join(folder, 'config.json')
  writeFileSync(file, JSON.stringify(SHAPE))
  try {
    const rows = []
    for (const { name, trainable } of listStrategies()) {
      const strategy = compared(name, RANK)
      const { rows: categories, trainableParameters } = await planModel(file, {
        strategy,
        precision: 'fp32',
        threads: 1,
        perDeviceTrainBatchSize: 4,
        maxSeqLength: 512,
        gradientCheckpointing: false,
      })
      const bytes = (...names) =>
        categories.filter(({ category }) => names.includes(category)).reduce((sum, row) => sum + row.bytes, 0)
      rows.push([
        link(name),
        trainable,
        trainableParameters.toLocaleString('en-US'),
        mebibytes(bytes('adapters', 'gradients', 'optimizer')),
        mebibytes(bytes('activations', 'workspace', 'loss')),
      ])
    }
    return table(
      ['strategy', 'what trains', 'trained numbers', 'adapter, gradients, optimiser', 'activations'],
      rows,
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Whether a wrapper takes an adapter of this name. */
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

function bases() {
  const all = [...new Set(listStrategies().flatMap((entry) => entry.bases))]
  return table(
    ['strategy', ...all],
    listStrategies().map(({ name }) => [
      link(name),
      ...all.map((base) => (rulesOf(strategyFrom({ name })).bases.includes(base) ? 'yes' : 'no')),
    ]),
  )
}

export async function withStrategyTables(page) {
  return withMarked(page, 'docs/strategies.md', { costs: await costs(), pairs: pairs(), bases: bases() })
}
