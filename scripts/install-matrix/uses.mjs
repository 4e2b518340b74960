// Uses of the installed package: each entry point and the command train two steps and generate a token.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execute } from './machine.mjs'

const rows = [
  { prompt: 'two brass rings', completion: '{"quantity": 2, "style": "brass"}' },
  { prompt: 'three old bells', completion: '{"quantity": 3, "style": "old"}' },
]

/** Loads the model of the package, trains, and generates. Prints the losses, and how much was generated. */
const training = `
const base = join(dirname(require.resolve('lowrank/package.json')), 'demo', 'base')
const rows = ${JSON.stringify(rows)}
const options = { maxSteps: 2, maxSeqLength: 64, learningRate: 0.01, lrSchedulerType: 'constant' }

async function main() {
  const model = await loadModel(base)
  const adapter = await model.attach(lora({ r: 4 }))
  const losses = []
  for await (const { loss } of adapter.train(dataset(rows), options)) losses.push(loss)
  const { tokenIds } = await model.generate('two brass', { maxNewTokens: 1 })
  await model.dispose()
  console.log(JSON.stringify({ losses, tokens: tokenIds.length }))
}

main().catch((error) => {
  console.error(error instanceof LowrankError ? error.code + ': ' + error.message : error)
  process.exitCode = 1
})
`

const programs = {
  esm: [
    'use.mjs',
    `import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { dataset, LowrankError, loadModel, lora } from 'lowrank'

const require = createRequire(import.meta.url)
${training}`,
  ],
  cjs: [
    'use.cjs',
    `const { dirname, join } = require('node:path')
const { dataset, LowrankError, loadModel, lora } = require('lowrank')
${training}`,
  ],
}

/** Prints where the package is. */
const place = `console.log(require('node:path').dirname(require.resolve('lowrank/package.json')))`

/** Calls of a command of the package through each package manager; only it may write to stdout. */
const throughManager = {
  npm: ['npx', '--no', '--', 'lowrank'],
  pnpm: ['pnpm', 'exec', 'lowrank'],
  yarn: ['yarn', 'run', '--silent', 'lowrank'],
  bun: ['bun', 'run', '--silent', 'lowrank'],
}

const config = (base) => `
model: ${base}
strategy: {name: lora, r: 4}
dataset: rows.jsonl
eval_fraction: 0.5
max_seq_length: 64
max_steps: 2
learning_rate: 0.01
lr_scheduler_type: constant
output_dir: out
`

/** Why the losses of two steps or the generated token are not as they should be, or undefined. */
function shortfall({ losses = [], tokens }) {
  if (losses.length !== 2 || !(losses[1] < losses[0]))
    return `the losses of two steps are ${losses.join(', ')}; expected two that fall`
  return tokens === 1 ? undefined : `${tokens} tokens were generated; expected one`
}

/** A use that ended well, but did not do what it was for, fails. */
function judged(run, seen) {
  const why = run.code === 0 ? shortfall(seen(run)) : undefined
  return why ? { ...run, code: 1, output: `${run.output}\n${why}` } : run
}

/**
 * Uses an installed package as ES module, as CommonJS and through its command. Resolves to the name of each use with
 * the code and the output, and to what `lowrank doctor` says of the addon.
 * @param linker `pnp` where Node.js finds packages only if Yarn starts it
 */
export async function use(folder, { env, manager = 'npm', linker }) {
  const [node, ...before] = linker === 'pnp' ? ['yarn', 'node'] : ['node']
  const runFile = (file, text) => {
    writeFileSync(join(folder, file), text)
    return execute(folder, node, [...before, file], env)
  }
  const ended = {}
  for (const [name, [file, text]] of Object.entries(programs))
    ended[name] = judged(await runFile(file, text), ({ stdout }) => jsonOf(stdout) ?? {})
  const [command, ...words] = throughManager[manager.split('@')[0]]
  const lowrank = (line) => execute(folder, command, [...words, ...line.split(' ')], env)
  ended.doctor = await lowrank('doctor --json')
  const { addon } = jsonOf(ended.doctor.stdout) ?? {}
  if (addon?.from === undefined) return { ended, addon }
  const base = join((await runFile('place.cjs', place)).stdout.trim(), 'demo', 'base')
  writeFileSync(join(folder, 'config.yaml'), config(base))
  // A comparison refuses test rows that are rows of the training.
  const lines = Array.from({ length: 24 }, (_, at) => {
    const row = rows[at % rows.length]
    return JSON.stringify({ ...row, prompt: `${row.prompt} ${at + 1}` })
  })
  writeFileSync(join(folder, 'rows.jsonl'), lines.join('\n'))
  ended.train = await lowrank('train config.yaml --json')
  ended.generate = await lowrank('generate config.yaml --prompt two --max-new-tokens 1 --json')
  const losses = stepsOf(ended.train.stdout)
  ended.generate = judged(ended.generate, ({ stdout }) => ({ losses, tokens: jsonOf(stdout)?.tokens }))
  // Its processes are another kind than the tokenizer's.
  if (linker === 'pnp')
    ended.compare = await lowrank(
      'compare config.yaml --strategies lora --seeds 1 --jobs 2 --output compared',
    )
  return { ended, addon }
}

/** Losses of the steps in the JSON lines of `lowrank train`. */
function stepsOf(text) {
  const events = text.split('\n').map(jsonOf)
  return events.filter((each) => each?.event === 'step').map(({ loss }) => loss)
}

function jsonOf(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const typed = `
import { dataset, type LoadOptions, LowrankError, loadModel, lora, type Model, nf4, qlora } from 'lowrank'

export const load = (path: string, options: LoadOptions = { quantization: nf4() }): Promise<Model> =>
  loadModel(path, options)
export const rank: number = lora({ r: 4 }).r

export async function tune(path: string, signal: AbortSignal): Promise<number[]> {
  const losses: number[] = []
  const model = await load(path)
  try {
    const adapter = await model.attach(qlora({ adapter: lora({ r: 4 }) }))
    for await (const step of adapter.train(dataset('train.jsonl'), { maxSeqLength: 64, signal })) losses.push(step.loss)
    await adapter.save('out')
  } catch (error) {
    if (error instanceof LowrankError) console.error(error.code)
  } finally {
    await model.dispose()
  }
  return losses
}

// @ts-expect-error: a rank is a number
lora({ r: 'four' })
`

/** Module settings under which a TypeScript program may take the package: its files and the compiler's options. */
const settings = {
  node16: { files: ['esm.mts', 'cjs.cts'], options: { module: 'node16', moduleResolution: 'node16' } },
  nodenext: { files: ['esm.mts', 'cjs.cts'], options: { module: 'nodenext', moduleResolution: 'nodenext' } },
  bundler: { files: ['app.ts'], options: { module: 'esnext', moduleResolution: 'bundler' } },
}

/** Types of the program's environment: Node's, or only those of browsers. */
const surroundings = {
  node: { lib: ['es2022'], types: ['node'] },
  dom: { lib: ['es2022', 'esnext.disposable', 'dom'], types: [] },
}

/** Type-checks a strict program against the installed package, declaration files and all. */
export async function typecheck(folder, tsc) {
  const ended = {}
  for (const [name, { files, options }] of Object.entries(settings)) {
    for (const [around, declared] of Object.entries(surroundings)) {
      const project = join(folder, `${name}-${around}`)
      mkdirSync(project)
      for (const file of files) writeFileSync(join(project, file), typed)
      const compilerOptions = { target: 'es2022', strict: true, noEmit: true, ...declared, ...options }
      writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
      const run = await execute(folder, process.execPath, [tsc, '-p', project])
      if (ended[name] === undefined || ended[name].code === 0) ended[name] = run
    }
  }
  return ended
}

export const versionOf = (folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version
