/**
 * Makes the figures of the documentation, by figure.mjs beside this file, and that of memory by
 * `lowrank bench memory`: docs/images/NAME.svg, docs/results/NAME.json, and
 * their part of docs/results.md. Run it after `npm run build`.
 *
 *   npm run figures -- [--only NAME,…] [--budget 3h] [--jobs N] [--model PATH] [--sst2 FOLDER] [--docs FOLDER]
 *   npm run figures -- --page      writes the part of docs/results.md anew, from the results that are there
 *
 * --budget bounds the time: with a slower machine there are fewer seeds, then fewer steps, which the texts say. --model
 * is a real model, such as SmolLM2-135M, and --sst2 a folder with the train.tsv and dev.tsv of SST-2; figures that need
 * one are left out without it.
 */
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { basename, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { formatDuration, secondsIn } from '../../dist/esm/cli/format.js'
import { LEVELS, levelFor, secondsAt, seedsAt, stepsAt, timeOf } from './budget.mjs'
import { FIGURES } from './list.mjs'
import { withFigures } from './page.mjs'
import { writeSst2 } from './sst2.mjs'

const root = resolve(import.meta.dirname, '..', '..')
const { values: flags } = parseArgs({
  options: {
    only: { type: 'string' },
    budget: { type: 'string', default: '3h' },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    model: { type: 'string' },
    sst2: { type: 'string' },
    docs: { type: 'string', default: join(root, 'docs') },
    page: { type: 'boolean', default: false },
  },
})
const docs = resolve(flags.docs)
const LOWRANK = join(root, 'dist', 'esm', 'cli', 'main.js')
const FIGURE = join(import.meta.dirname, 'figure.mjs')
const jobs = Number(flags.jobs)
const children = new Set()
/** Seconds of the run that tells how slow this machine is, on the machine of the list. */
const PROBE_SECONDS = 11
const PROBE = ['delta-lora', '--steps', '8', '--seeds', '1']

try {
  if (!flags.page) await makeAll()
} catch (error) {
  console.error(error.message)
  process.exit(1)
}
const page = join(docs, 'results.md')
writeFileSync(page, withFigures(readFileSync(page, 'utf8'), docs))
console.log(`written: ${relative('', page)}`)

async function makeAll() {
  const began = Date.now()
  const scratch = mkdtempSync(join(tmpdir(), 'lowrank-figures-'))
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.once(signal, () => {
      for (const child of children) child.kill(signal)
      process.exit(130)
    })
  const inputs = await inputsIn(scratch)
  const waiting = wanted().filter(({ id, needs }) => {
    const missing = needs.filter((need) => !inputs[need])
    if (missing.length > 0) console.log(`left out: ${id}, for want of --${missing.join(' and --')}`)
    return missing.length === 0
  })
  // The longest first, so that no core waits for it at the end.
  waiting.sort((a, b) => b.seconds - a.seconds)
  const total = waiting.length
  const budget = secondsIn(flags.budget)
  if (budget === undefined)
    throw new Error(`--budget ${flags.budget}: expected a time such as 90s, 30m, or 3h`)
  const until = began + 1000 * budget
  console.log('measuring this machine')
  const { took: probed } = await run([FIGURE, ...PROBE, '--output', join(scratch, 'probe')], () => {})
  let slowness = probed / PROBE_SECONDS
  const room = () => (until - Date.now()) / 1000
  let level = levelFor(waiting, { room: room(), slowness, jobs })
  if (level === undefined) {
    const least = timeOf(waiting, LEVELS.at(-1), { slowness, jobs })
    throw new Error(
      `--budget ${flags.budget}: the figures take about ${formatDuration(least)} with one seed and a quarter of the steps; give more time, or choose figures with --only`,
    )
  }
  const expected = timeOf(waiting, level, { slowness, jobs })
  console.log(
    `${total === 1 ? 'one figure' : `${total} figures`}, about ${formatDuration(expected)}${told(level)}`,
  )
  const spent = { planned: PROBE_SECONDS, measured: probed }
  const running = new Map()
  const runningLeft = () =>
    [...running].map(([figure, since]) =>
      Math.max(0, slowness * secondsAt(figure, level) - (Date.now() - since) / 1000),
    )
  let done = 0
  const work = async () => {
    for (let figure = waiting.shift(); figure !== undefined; figure = waiting.shift()) {
      const fitting = levelFor([figure, ...waiting], { room: room(), slowness, jobs }) ?? LEVELS.at(-1)
      if (LEVELS.indexOf(fitting) > LEVELS.indexOf(level)) {
        level = fitting
        console.log(`to keep within ${flags.budget}, the rest has fewer runs${told(level)}`)
      }
      let took
      running.set(figure, Date.now())
      try {
        took = await make(figure, level, inputs, scratch)
      } catch (error) {
        console.error(`${++done} of ${total}: ${figure.id} failed: ${error.message}`)
        process.exitCode = 1
        continue
      } finally {
        running.delete(figure)
      }
      spent.planned += secondsAt(figure, level)
      spent.measured += took
      slowness = spent.measured / spent.planned
      const left = timeOf(waiting, level, { slowness, jobs }, runningLeft())
      const rest = done + 1 < total ? `; about ${formatDuration(left)} left` : ''
      console.log(`${++done} of ${total}: ${figure.id}, ${formatDuration(took)}${rest}`)
    }
  }
  await Promise.all(Array.from({ length: jobs }, work))
  console.log(`done in ${formatDuration((Date.now() - began) / 1000)}`)
}

function wanted() {
  const only = flags.only?.split(',')
  const unknown = only?.find((name) => !FIGURES.some(({ id }) => id === name))
  if (unknown !== undefined)
    throw new Error(`--only ${unknown}: expected some of ${FIGURES.map(({ id }) => id).join(', ')}`)
  return FIGURES.filter(({ id }) => only?.includes(id) ?? true)
}

/** Model and data by the names that the flags of figures have for them. */
async function inputsIn(scratch) {
  const inputs = { model: flags.model && resolve(flags.model), sst2: flags.sst2 && resolve(flags.sst2) }
  if (!inputs.sst2) return inputs
  return { ...inputs, ...(await writeSst2(inputs.sst2, scratch, 2000)) }
}

/** Makes a figure; returns its time in seconds. */
async function make(figure, level, inputs, scratch) {
  const { id, name, steps } = figure
  const settings = [
    ...figure.flags.map((flag) => filled(flag, inputs)),
    ...(figure.seeds === undefined ? [] : ['--seeds', String(seedsAt(figure, level))]),
    ...(steps === undefined ? [] : [steps.flag, String(stepsAt(figure, level))]),
  ]
  const output = join(scratch, id)
  const [program, to] = programOf(name, output)
  let heard = Date.now()
  const { took, stdout } = await run([...program, ...settings, ...to], (line) => {
    if (Date.now() - heard < 60_000) return
    heard = Date.now()
    console.log(`  ${id}: ${line}`)
  })
  const printed = name === 'memory' ? stdout : readFileSync(join(output, `${name}.json`), 'utf8')
  const { files: _, what: __, out: ___, ...result } = JSON.parse(printed)
  const svg = readFileSync(join(output, `${name}.svg`), 'utf8')
  const made = {
    title: titleOf(svg, figure),
    date: new Date().toISOString().slice(0, 10),
    machine: cpus()[0]?.model.trim() ?? 'an unknown processor',
    seconds: Math.round(took),
    cut: cutOf(figure, level),
    command: [
      ...calledOf(program),
      ...settings.map((word) => portable(word)),
      ...(name === 'memory' ? ['--out', 'memory.svg'] : []),
    ].join(' '),
  }
  for (const folder of ['images', 'results']) mkdirSync(join(docs, folder), { recursive: true })
  copyFileSync(join(output, `${name}.svg`), join(docs, 'images', `${id}.svg`))
  const data = { ...result, ...withoutFolders(result), made }
  writeFileSync(join(docs, 'results', `${id}.json`), `${JSON.stringify(data)}\n`)
  return took
}

/** `{model}` is an input, and `{sst2:ratings}` the task of SST-2 if it is there, else another. */
function filled(flag, inputs) {
  return flag
    .replace(/\{sst2:(\w+)\}/, (_, other) => (inputs.sst2 ? `sst2:${inputs.sst2}` : other))
    .replace(/\{(\w+)\}/, (_, input) => inputs[input])
}

function titleOf(svg, { id, onModel }) {
  const title = /<title>([^<]*)<\/title>/.exec(svg)?.[1] ?? id
  return onModel ? `${title}: a real model on SST-2` : title
}

function cutOf(figure, level) {
  const cuts = [
    ...(figure.seeds !== undefined && seedsAt(figure, level) < figure.seeds
      ? [`${seedsAt(figure, level)} of ${figure.seeds} seeds`]
      : []),
    ...(figure.steps !== undefined && stepsAt(figure, level) < figure.steps.count
      ? [`${stepsAt(figure, level)} of ${figure.steps.count} ${figure.steps.flag.slice(2)}`]
      : []),
  ]
  return cuts.length > 0 ? cuts.join(' and ') : null
}

/** Paths of this machine say nothing to others. */
function portable(word) {
  return word.startsWith(`${root}/`) ? relative(root, word) : word.replace(/\/[^,\s:]*\/(?=[^/,\s:])/g, '')
}

function withoutFolders({ settings, bars }) {
  const named = Object.entries(settings ?? {}).map(([key, value]) => [
    key,
    typeof value === 'string' ? portable(value) : value,
  ])
  return {
    ...(settings ? { settings: Object.fromEntries(named) } : {}),
    ...(bars ? { bars: bars.map((bar) => ({ ...bar, model: basename(bar.model) })) } : {}),
  }
}

/** The program that draws a figure with its first arguments, and the last ones. */
function programOf(name, output) {
  if (name === 'memory')
    return [
      [LOWRANK, 'bench', 'memory'],
      ['--out', join(output, 'memory.svg'), '--json'],
    ]
  return [
    [FIGURE, name],
    ['--output', output],
  ]
}

/** The same as people call it. */
function calledOf([file, ...words]) {
  return [...(file === LOWRANK ? ['npx', 'lowrank'] : ['node', relative(root, file)]), ...words]
}

/** Runs a program with one thread; returns its time in seconds, and what it printed. */
function run(words, onLine) {
  const began = Date.now()
  const child = spawn(process.execPath, words, {
    env: { ...process.env, LOWRANK_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  let [stdout, said] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said = (said + text).slice(-10_000)
    for (const line of text.split('\n')) if (line.trim() !== '') onLine(line.trim())
  })
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('close', (code) => {
      children.delete(child)
      if (code === 0) done({ took: (Date.now() - began) / 1000, stdout })
      else fail(new Error(`${calledOf(words).join(' ')} ended with ${code}:\n${said}`))
    })
  })
}

function told({ seeds, steps }) {
  const words = [
    ...(seeds < 1 ? [`${Math.round(100 * seeds)} % of the seeds`] : []),
    ...(steps < 1 ? [`${Math.round(100 * steps)} % of the steps`] : []),
  ]
  return words.length > 0 ? `, with ${words.join(' and ')}` : ''
}
