// lowrank against transformers + PEFT + bitsandbytes on this machine: the same model, tokens, steps and initial
// adapter, each program in processes of its own, taking turns. The peer runs in every configuration that may make it
// fast, and the ratios are against the fastest of them, and against the one that takes least memory.
//
//   node benchmarks/peers/compare.mjs MODEL_FOLDER --python venv/bin/python [--rounds 3] [--steps 6] [--json]
//     [--shapes 4x512,1x2048] [--threads N]
//     [--modes nf4/bf16,nf4/fp32,nf4/bf16/checkpointing,nf4/fp32/checkpointing]
//     [--preload libtcmalloc_minimal.so.4:libiomp5.so] [--plain]
//
// A mode is the base (nf4, or none: the folder's own bf16, which PEFT holds in the precision it computes in), the
// precision, and whether activations are computed again. A shape is the sequences of a step and their length. `--json`
// prints an array of objects, one a mode and shape.
//
// The peer's configurations: as it comes; `torch.compile`; and over dense weights, which it need not decode, in bf16
// also without autocast. `--preload` names an allocator and an OpenMP for all of them (libtcmalloc-minimal4 of Debian,
// intel-openmp of PyPI). `--plain` takes the first alone.
//
// The peer's memory is measured in a run of its own with MALLOC_MMAP_THRESHOLD_=1048576, which makes it smaller (see
// README.md); its speed is measured without, which makes it faster: each is compared where it is at its best.
// Speed is given by wall time and by CPU time. On a machine that others use, take the latter, with --threads 1: threads
// that wait for one another spin, and how long depends on who else runs.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel, lora } from '../../dist/esm/index.js'
import { median, peerEnvironment } from '../measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: 'string', default: 'python3' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '6' },
    modes: { type: 'string', default: 'nf4/bf16,nf4/fp32,nf4/bf16/checkpointing,nf4/fp32/checkpointing' },
    shapes: { type: 'string', default: '4x512' },
    threads: { type: 'string' },
    preload: { type: 'string' },
    plain: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const [folder] = positionals
const here = import.meta.dirname
const work = mkdtempSync(join(tmpdir(), 'lowrank-compare-'))
process.on('exit', () => rmSync(work, { recursive: true, force: true }))

// The same numbers for both: random tokens from a fixed generator, and one fresh adapter as a PEFT folder.
const tokens = join(work, 'ids.bin')
const model = await loadModel(folder, { precision: 'fp32' })
const adapter = join(work, 'adapter')
await (await model.attach(lora({ r: 16, loraAlpha: 32, targetModules: 'all-linear' }))).save(adapter)
const vocabulary = model.config.vocab_size
await model.dispose()
const shapes = options.shapes.split(',').map((name) => {
  const [batch, length] = name.split('x').map(Number)
  return { name, batch, length, tokens: batch * length }
})
let state = 12345
const draw = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}
writeFileSync(
  tokens,
  Int32Array.from({ length: Number(options.steps) * Math.max(...shapes.map(({ tokens }) => tokens)) }, () =>
    Math.floor(draw() * vocabulary),
  ),
)

/** Configurations of the peer for a mode: a name, the base that it computes over, and flags. */
function peersOf(mode) {
  const [quantization, precision, checkpointing] = mode.split('/')
  const over = (base) => [base, precision, checkpointing].filter(Boolean).join('/')
  const asItComes = { name: quantization, mode, flags: [] }
  if (options.plain) return [asItComes]
  const bases = [...new Set([quantization, 'none'])]
  const all = bases.flatMap((base) => [
    { name: base, mode: over(base), flags: [] },
    { name: `${base}, compiled`, mode: over(base), flags: ['--compile'] },
  ])
  if (precision === 'bf16')
    for (const flags of [[], ['--compile']])
      all.push({
        name: ['none, no autocast', ...(flags.length > 0 ? ['compiled'] : [])].join(', '),
        mode: over('none'),
        flags: ['--no-autocast', ...flags],
      })
  return all
}

function run(program, script, mode, shape, { environment = {}, flags = [] } = {}) {
  const [quantization, precision, checkpointing] = mode.split('/')
  const args = [join(here, script), folder, '--quantization', quantization, '--precision', precision]
  args.push('--tokens', tokens, '--adapter', adapter, '--steps', options.steps)
  args.push('--batch', String(shape.batch), '--length', String(shape.length))
  args.push(...flags)
  if (checkpointing) args.push('--gradient-checkpointing')
  const env = peerEnvironment(environment)
  if (options.preload && program !== process.execPath) env.LD_PRELOAD ??= options.preload
  if (options.threads) env.LOWRANK_THREADS = options.threads
  if (options.threads && program !== process.execPath) args.push('--threads', options.threads)
  // The program's complaints are kept for the error, in case it fails.
  const stdout = execFileSync(program, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

/** Results of both in one mode and shape, and a line about them. */
function compared(mode, shape) {
  const ours = []
  const peers = peersOf(mode).map((peer) => ({ ...peer, results: [] }))
  for (let round = 0; round < Number(options.rounds); round++) {
    ours.push(run(process.execPath, 'lowrank_train.mjs', mode, shape))
    for (const { mode: own, flags, results } of peers)
      results.push(run(options.python, 'peft_train.py', own, shape, { flags }))
  }
  const of = (list, field) => median(list.map((result) => result[field]))
  const fastestBy = (field) =>
    peers.reduce((best, peer) => (of(peer.results, field) > of(best.results, field) ? peer : best))
  const fastest = fastestBy(options.threads === '1' ? 'tokens_per_cpu_second' : 'tokens_per_second')
  const theirs = fastest.results
  const small = run(options.python, 'peft_train.py', mode, shape, {
    environment: { MALLOC_MMAP_THRESHOLD_: '1048576', LD_PRELOAD: '' },
  })
  const smallest = Math.min(
    small.peak_rss_bytes,
    ...peers.map(({ results }) => of(results, 'peak_rss_bytes')),
  )
  const ratiosOf = (field) => ours.map((result, i) => result[field] / theirs[i][field])
  const ratios = ratiosOf('tokens_per_second')
  const cpuRatios = ratiosOf('tokens_per_cpu_second')
  const peak = of(ours, 'peak_rss_bytes')
  const result = {
    name: mode,
    shape: shape.name,
    tokens: shape.tokens,
    planned_bytes: of(ours, 'planned_bytes'),
    measured_bytes: peak,
    tokens_per_second: of(ours, 'tokens_per_second'),
    tokens_per_cpu_second: of(ours, 'tokens_per_cpu_second'),
    peer_tokens_per_second: of(theirs, 'tokens_per_second'),
    peer_tokens_per_cpu_second: of(theirs, 'tokens_per_cpu_second'),
    peer_measured_bytes: of(theirs, 'peak_rss_bytes'),
    peer: fastest.name,
    peers: peers.map(({ name, results }) => ({
      name,
      tokens_per_second: of(results, 'tokens_per_second'),
      tokens_per_cpu_second: of(results, 'tokens_per_cpu_second'),
      measured_bytes: of(results, 'peak_rss_bytes'),
    })),
    peer_smallest_bytes: smallest,
    speed_ratio: median(ratios),
    speed_ratios: ratios,
    cpu_speed_ratio: median(cpuRatios),
    cpu_speed_ratios: cpuRatios,
    memory_ratio: peak / smallest,
    losses: ours[0].losses,
    peer_losses: theirs[0].losses,
    largest_loss_difference: Math.max(
      ...ours[0].losses.map((loss, i) => Math.abs(loss - theirs[0].losses[i])),
    ),
    isa: ours[0].mode.isa,
    threads: ours[0].mode.threads,
    peer_versions: theirs[0].versions,
  }
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`
  console.error(
    `${mode} ${shape.name} (${result.isa}, ${result.threads} threads): ${result.tokens_per_second.toFixed(0)} tok/s against ` +
      `${result.peer_tokens_per_second.toFixed(0)} of the fastest peer (${result.peer}): ${result.speed_ratio.toFixed(2)}x ` +
      `(${ratios.map((r) => r.toFixed(2)).join(', ')}), by CPU time ${result.cpu_speed_ratio.toFixed(2)}x ` +
      `(${cpuRatios.map((r) => r.toFixed(2)).join(', ')}); ${mib(peak)} against ${mib(result.peer_smallest_bytes)} ` +
      `(${mib(result.peer_measured_bytes)} with the allocator as it comes): ${result.memory_ratio.toFixed(2)}x; ` +
      `losses differ by ${result.largest_loss_difference.toExponential(1)} at most`,
  )
  return result
}

const results = options.modes.split(',').flatMap((mode) => shapes.map((shape) => compared(mode, shape)))
if (options.json) console.log(JSON.stringify(results, null, 2))
