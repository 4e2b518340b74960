// Uses of the installed package: each entry point, with a plan that only the addon can make.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execute } from './machine.mjs'

const model = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 256,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
}

const plan = `
planModel('config.json', { strategy: lora({ r: 8 }), maxSeqLength: 64 }).then(
  (memory) => console.log(memory.peakBytes > 0 ? 'works' : memory),
  (error) => {
    console.error(error instanceof LowrankError ? error.code + ': ' + error.message : error)
    process.exitCode = 1
  },
)
`

const programs = {
  esm: ['use.mjs', `import { LowrankError, lora, planModel } from 'lowrank'\n${plan}`],
  cjs: ['use.cjs', `const { LowrankError, lora, planModel } = require('lowrank')\n${plan}`],
}

/** Calls of a command of the package through each package manager; only it may write to stdout. */
const throughManager = {
  npm: ['npx', '--no', '--'],
  pnpm: ['pnpm', 'exec'],
  yarn: ['yarn', 'run', '--silent'],
}

/**
 * Uses an installed package as ES module, as CommonJS and through its command. Resolves to the name of each use with
 * the code and the output, and to what `lowrank doctor` says of the addon.
 */
export async function use(folder, { env, manager = 'npm' }) {
  writeFileSync(join(folder, 'config.json'), JSON.stringify(model))
  const ended = {}
  for (const [name, [file, text]] of Object.entries(programs)) {
    writeFileSync(join(folder, file), text)
    ended[name] = await execute(folder, 'node', [file], env)
  }
  const [command, ...words] = throughManager[manager.split('@')[0]]
  const doctor = await execute(folder, command, [...words, 'lowrank', 'doctor', '--json'], env)
  ended.cli = doctor
  return { ended, addon: jsonOf(doctor.stdout)?.addon }
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
