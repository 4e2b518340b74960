// The kernels of a training step against torch's on this machine: products with NF4 weights against dense ones of the same
// precision, attention against scaled_dot_product_attention, head and loss against linear + cross_entropy. Each program in
// a process of its own, taking turns kernel by kernel. Prints medians of ratios; above 1 lowrank is faster.
//
//   node benchmarks/peers/kernels.mjs MODEL --python venv/bin/python [--rounds 5] [--threads 1] [--json]
//     [--tokens 128,512,2048] [--lengths 512,2048] [--precisions fp32,bf16] [--only linear|attention|head_loss]
//
// MODEL gives the shapes; a bare config.json will do. Sequences of attention fill the most tokens. One thread is timed by
// its CPU time, so on a machine that others use too take --threads 1.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { addon } from '../../dist/esm/native/addon.js'
import { openShape } from '../../dist/esm/planning/plan.js'
import { laboratory } from '../laboratory/load.mjs'
import { median, peerEnvironment, ranged } from '../measure.mjs'

const { describeKernel, kernelsOf, measureKernels } = await laboratory('kernels')

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: 'string', default: 'python3' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1' },
    tokens: { type: 'string', default: '128,512,2048' },
    lengths: { type: 'string', default: '512,2048' },
    precisions: { type: 'string', default: 'fp32,bf16' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const [model] = positionals
const numbers = (text) => text.split(',').map(Number)
const threads = Number(options.threads)

const peer = spawn(
  options.python,
  [join(import.meta.dirname, 'torch_kernels.py'), '--threads', options.threads],
  {
    env: peerEnvironment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  },
)
process.on('exit', () => peer.kill())
const answers = createInterface({ input: peer.stdout })[Symbol.asyncIterator]()
const answer = async () => {
  const { value, done } = await answers.next()
  if (done) throw new Error('torch_kernels.py ended; what it said is above')
  return JSON.parse(value)
}
const ask = (request) => {
  peer.stdin.write(`${JSON.stringify(request)}\n`)
  return answer()
}
const { torch } = await answer()

/** Linears at each number of tokens, attention at each length, head and loss at the most tokens. */
function subjects(shape, precision) {
  const counts = numbers(options.tokens)
  const most = Math.max(...counts)
  const settings = { rank: 16, format: 'nf4_double', precision }
  const at = (tokens, length, kinds) =>
    kernelsOf(shape, { ...settings, perDeviceTrainBatchSize: tokens / length, maxSeqLength: length })
      .map(({ subject }) => subject)
      .filter(({ kind }) => kinds.includes(kind) && (options.only ?? kind) === kind)
  return [
    ...counts.flatMap((tokens) => at(tokens, tokens, ['linear'])),
    ...numbers(options.lengths).flatMap((length) => at(most, length, ['attention'])),
    ...at(most, most, ['head_loss']),
  ]
}

/** Seconds of the parts of a kernel, and of attention as a whole. */
function whole({ forward, backward, ...rest }) {
  if (backward === undefined) return { ...(forward === undefined ? {} : { forward }), ...rest }
  return { forward, backward, forward_backward: forward + backward }
}

const shape = await openShape(model)
const results = []
for (const name of options.precisions.split(',')) {
  const precision = name === 'fp32' ? 'f32' : name
  for (const subject of subjects(shape, precision)) {
    const turns = []
    for (let round = 0; round < Number(options.rounds); round++) {
      const rates = await measureKernels([{ subject, count: 1 }], { precision, rounds: 3, threads })
      const { extra_bytes, smallest_extra_bytes, ...theirs } = await ask({ ...subject, precision, rounds: 3 })
      const ours = Object.fromEntries(rates.map((rate) => [rate.name, rate.seconds]))
      const share = Object.fromEntries(rates.map((rate) => [rate.name, rate.shareOfPeak]))
      const memory = { extra: rates[0].extraBytes, peer: extra_bytes, smallest: smallest_extra_bytes }
      turns.push({ ours: whole(ours), theirs: whole(theirs), share, memory })
    }
    for (const part of Object.keys(turns[0].ours)) {
      const ratios = turns.map(({ ours, theirs }) => theirs[part] / ours[part])
      const of = (read) => median(turns.map(read))
      const { kind, ...sizes } = subject
      const memory =
        turns[0].memory.extra === undefined
          ? {}
          : {
              extra_bytes: of(({ memory }) => memory.extra),
              peer_extra_bytes: of(({ memory }) => memory.peer),
              peer_smallest_extra_bytes: of(({ memory }) => memory.smallest),
            }
      const result = {
        ...{ kernel: kind, part, precision: name, shape: sizes },
        seconds: of(({ ours }) => ours[part]),
        peer_seconds: of(({ theirs }) => theirs[part]),
        ratio: median(ratios),
        ratios,
        share_of_peak: part in turns[0].share ? of(({ share }) => share[part]) : null,
        ...memory,
      }
      results.push(result)
      const at = kind === 'linear' ? `, ${subject.tokens} tokens` : ''
      const mib = Object.values(memory).map((bytes) => (bytes / 2 ** 20).toFixed(0))
      const extra = mib.length > 0 ? `; memory ${mib[0]} MiB against ${mib[1]} (at the least ${mib[2]})` : ''
      console.error(`${name} ${describeKernel(subject)}${at}, ${part}: ${ranged(ratios)}${extra}`)
    }
  }
}
const { isa } = addon().cpu()
if (options.json) console.log(JSON.stringify({ isa, threads, torch, kernels: results }, null, 2))
peer.stdin.end()
