// Plans of models of 8 and 70 billion parameters on NVIDIA cards that need not be there, as a table in Markdown.
//
//   node benchmarks/gpu-plans.mjs
//
// QLoRA of rank 16 on all linears, NF4 with double quantization, bf16, AdamW in fp32, one sequence at a time. A streamed
// base has paged_weights. The time is the least at the card's published rates, and those of its bus
// (docs/cli.md#least-work-of-a-step).
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { table } from '../scripts/markdown.mjs'

const LLAMA = {
  ...{
    model_type: 'llama',
    vocab_size: 128_256,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    torch_dtype: 'bfloat16',
  },
  ...{
    max_position_embeddings: 131_072,
    tie_word_embeddings: false,
    num_key_value_heads: 8,
    hidden_act: 'silu',
  },
}
const SHAPES = {
  '8B': { hidden_size: 4096, intermediate_size: 14_336, num_hidden_layers: 32, num_attention_heads: 32 },
  '70B': { hidden_size: 8192, intermediate_size: 28_672, num_hidden_layers: 80, num_attention_heads: 64 },
}
const RUNS = [
  ...[2048, 4096, 8192].flatMap((length) =>
    [false, true].map((recompute) => ['8B', length, recompute, 'rtx-4090']),
  ),
  ...[2048, 4096, 8192].map((length) => ['8B', length, true, 'rtx-4090', true]),
  ['70B', 2048, true, 'rtx-4090'],
  ['70B', 2048, true, 'rtx-4090', true],
  ['70B', 4096, true, 'rtx-4090', true],
  ['70B', 2048, true, 'h100'],
  ['70B', 4096, true, 'h100'],
]

const folder = mkdtempSync(join(tmpdir(), 'lowrank-gpu-plans-'))
const main = resolve(import.meta.dirname, '../dist/esm/cli/main.js')

function plan(shape, length, recompute, card, streamed) {
  const config = join(folder, `${shape}.json`)
  writeFileSync(config, JSON.stringify({ ...LLAMA, ...SHAPES[shape] }))
  const flags = ['--method', 'qlora', '--rank', '16', '--batch', '1', '--seq-len', String(length), '--json']
  const more = [
    ...(recompute ? [] : ['--no-gradient-checkpointing']),
    ...(streamed ? ['--paged-weights', '--activation-offloading'] : []),
  ]
  const args = [main, 'plan', '--model', config, ...flags, ...more, '--device', `cuda:${card}`]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

try {
  const rows = RUNS.map(([shape, length, recompute, card, streamed = false]) => {
    const {
      peak_bytes: peak,
      pinned_bytes: pinned,
      card: on,
    } = plan(shape, length, recompute, card, streamed)
    const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`
    return [
      ...[
        shape,
        length.toLocaleString('en-US'),
        recompute ? 'yes' : 'no',
        card.toUpperCase().replace('-', ' '),
      ],
      streamed ? 'yes' : 'no',
      ...[gib(peak), pinned === undefined ? '' : gib(pinned)],
      ...[`${gib(on.memory_bytes - on.own_bytes)}`, on.fits ? 'yes' : 'no'],
      ...[
        (on.least_operations / 1e12).toFixed(0),
        gib(on.least_bytes),
        on.bus_bytes > 0 ? gib(on.bus_bytes) : '',
        `${(1e3 * on.least_seconds).toFixed(0)} ms`,
      ],
    ]
  })
  const head = ['model', 'tokens', 'checkpointing', 'card', 'streamed', 'peak', 'pinned', 'room', 'fits']
  console.log(table([...head, '10¹² operations', 'moved', 'over the bus', 'no less than'], rows))
} finally {
  rmSync(folder, { recursive: true })
}
