/**
 * Weak scaling of training on ranks: the time of a step of one rank against that of two with as many tokens each, every
 * rank one thread on a core of its own.
 *
 *   npm run build && node benchmarks/ranks.mjs MODEL [--tokens 2048] [--rank 16] [--rounds 5] [--steps 2]
 *     [--mpirun mpirun] [--json]
 *   node benchmarks/ranks.mjs --seconds 12 --bytes 20e6
 *
 * MODEL is a folder or a .gguf file. A round trains `steps` steps on one rank and then on two, after one step that is not
 * counted; efficiency is the median over the rounds of the ratio within a round, by the clock and by CPU time. The second
 * form prints what a model expects of clusters, from the seconds of one rank's step and the bytes of its gradients:
 *
 * - A node is a rank. Its own work takes as long as that of the one rank that was measured.
 * - Each rank sends and receives 2 (n - 1) / n of the gradients' bytes, at the full rate of its link.
 * - Sums go in pieces of 1 MiB, or of 4 KiB per rank where that is more, by two collective calls each, and a call takes
 *   50 us and 2 us per message to another rank.
 * - Nothing is hidden behind the backward pass, and no rank is slower than another.
 */
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cpuSeconds, median, ranged, textRows } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '2048' },
    rank: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '5' },
    steps: { type: 'string', default: '2' },
    mpirun: { type: 'string', default: 'mpirun' },
    json: { type: 'boolean', default: false },
    worker: { type: 'boolean', default: false },
    seconds: { type: 'string' },
    bytes: { type: 'string' },
  },
})
const NODES = [8, 64, 512]
const GIGABITS = [10, 100]
const PIECE = 2 ** 20
const LEAST_PIECE = 4096
const CALL_SECONDS = 50e-6
const MESSAGE_SECONDS = 2e-6

if (options.worker) await work(positionals[0])
else if (options.seconds !== undefined)
  console.log(clusterTable(Number(options.seconds), Number(options.bytes)))
else if (positionals.length !== 1) throw new Error('name one model: node benchmarks/ranks.mjs MODEL')
else measure(resolve(positionals[0]))

/** The times of this rank's steps, as a line of JSON. */
async function work(model) {
  const { loadModel, lora } = await import('../dist/esm/index.js')
  const { joinRanks } = await import('../dist/esm/train/processes/processes.js')
  const ranks = await joinRanks()
  const tokens = Number(options.tokens)
  const steps = Number(options.steps) + 1
  const loaded = await loadModel(model, { quantization: 'nf4' })
  const rank = Number(options.rank)
  const adapter = await loaded.attach(lora({ r: rank, loraAlpha: rank, targetModules: 'all-linear' }))
  const run = adapter.train(textRows(steps * ranks.size, tokens), {
    ...{ maxSteps: steps, maxSeqLength: tokens, perDeviceTrainBatchSize: 1, warmupRatio: 0 },
  })
  const wall = []
  const cpu = []
  let before = { wall: performance.now() / 1e3, cpu: cpuSeconds() }
  for await (const _ of run) {
    const now = { wall: performance.now() / 1e3, cpu: cpuSeconds() }
    wall.push(now.wall - before.wall)
    cpu.push(now.cpu - before.cpu)
    before = now
  }
  const bytes = run.memory.bytes('gradients')
  console.log(JSON.stringify({ wall: wall.slice(1), cpu: cpu.slice(1), bytes, library: ranks.library }))
  await loaded.dispose()
  await ranks.leave()
}

/** Seconds of a step on so many ranks. */
function stepOn(ranks, model) {
  const [launcher, ...flags] = options.mpirun.split(' ')
  const own = ['tokens', 'rank', 'steps'].flatMap((name) => [`--${name}`, options[name]])
  const command = 'exec taskset -c "$PMI_RANK$OMPI_COMM_WORLD_RANK" "$@"'
  const call = ['sh', '-c', command, 'sh', process.execPath, import.meta.filename, model, '--worker', ...own]
  const { stdout, status, stderr } = spawnSync(launcher, [...flags, '-n', String(ranks), ...call], {
    encoding: 'utf8',
    env: { ...process.env, LOWRANK_THREADS: '1' },
  })
  if (status !== 0) throw new Error(`${options.mpirun} -n ${ranks} failed: ${stderr}`)
  const found = stdout.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
  return {
    wall: Math.max(...found.map(({ wall }) => mean(wall))),
    cpu: Math.max(...found.map(({ cpu }) => mean(cpu))),
    ...{ bytes: found[0].bytes, library: found[0].library },
  }
}

function measure(model) {
  const rounds = Array.from({ length: Number(options.rounds) }, () => [stepOn(1, model), stepOn(2, model)])
  const of = (clock) => rounds.map(([one, two]) => one[clock] / two[clock])
  const one = rounds.map(([alone]) => alone)
  const [{ bytes, library }] = one
  const seconds = { wall: median(one.map(({ wall }) => wall)), cpu: median(one.map(({ cpu }) => cpu)) }
  if (options.json) {
    console.log(JSON.stringify({ options, library, bytes, seconds, rounds }, null, 2))
    return
  }
  console.log(
    [
      `${library}: a step of ${options.tokens} tokens on one rank takes ${seconds.wall.toFixed(2)} s, CPU time ${seconds.cpu.toFixed(2)} s; gradients of ${bytes} bytes`,
      `efficiency of two ranks: ${ranged(of('wall'))} by the clock, ${ranged(of('cpu'))} by CPU time`,
      '',
      clusterTable(seconds.cpu, bytes),
    ].join('\n'),
  )
}

function clusterTable(seconds, bytes) {
  const lines = NODES.flatMap((nodes) =>
    GIGABITS.map((gigabits) => {
      const sum = sumSeconds(nodes, gigabits, bytes)
      const efficiency = seconds / (seconds + sum)
      return `| ${nodes} | ${gigabits} | ${(1e3 * sum).toFixed(0)} | ${efficiency.toFixed(3)} |`
    }),
  )
  return [
    '| nodes | Gbit/s | sum of gradients, ms | efficiency |',
    '| --: | --: | --: | --: |',
    ...lines,
  ].join('\n')
}

/** Time that the model in the header gives to the sum of gradients. */
function sumSeconds(nodes, gigabits, bytes) {
  const calls = 2 * Math.ceil(bytes / Math.max(PIECE, LEAST_PIECE * nodes))
  const sent = (2 * bytes * (nodes - 1)) / nodes
  return sent / ((gigabits * 1e9) / 8) + calls * (CALL_SECONDS + (nodes - 1) * MESSAGE_SECONDS)
}
