// Tools of the rows of the matrix: other versions of Node and of the package managers, all of them from npm's
// registry, and PATHs that have a compiler on them or not.
import { spawn } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'

/** Runs a command to its end. `code` is null when a signal ended it; `output` is stdout and stderr as they came. */
export function execute(cwd, command, args, env = {}) {
  // Not what npm and vitest tell their own children; npm_config_* is the user's.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(npm_(?!config_)|LOWRANK_|VITEST|NODE_(?!EXTRA_CA))/.test(name),
  )
  const child = spawn(command, args, {
    cwd,
    env: { ...Object.fromEntries(inherited), CI: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  return new Promise((done) => {
    child.on('error', (error) => done({ code: 127, output: `${command}: ${error.message}`, stdout }))
    child.on('close', (code) => done({ code, output, stdout }))
  })
}

/** The same, for what must succeed before any row can be tried. */
export async function need(cwd, command, args, env) {
  const { code, output, stdout } = await execute(cwd, command, args, env)
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${output.trim()}`)
  return stdout
}

/** The file that a command stands for, or undefined. */
export function findOnPath(name) {
  const folder = (process.env.PATH ?? '').split(delimiter).find((entry) => existsSync(join(entry, name)))
  return folder && realpathSync(join(folder, name))
}

/** Bytes of the files in a folder; links count nothing. */
export function sizeOf(folder) {
  let bytes = 0
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += lstatSync(join(entry.parentPath ?? entry.path, entry.name)).size
  }
  return bytes
}

export class Machine {
  #tools
  #work
  #fetched = new Map()
  #paths = 0

  /** `tools` keeps what is fetched from run to run, `work` goes with this one. */
  constructor(tools, work) {
    this.#tools = tools
    this.#work = work
  }

  /** The folder of a package of npm's registry, such as `npm@12`, installed by itself. */
  fetch(spec, { arch = process.arch } = {}) {
    const name = spec.replace(/@[^@]*$/, '')
    const folder = join(this.#tools, spec.replace(/[^\w.-]+/g, '-'))
    const root = join(folder, 'node_modules', name)
    const install = async () => {
      if (existsSync(join(root, 'package.json'))) return root
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
      const options = ['--no-save', '--ignore-scripts', '--prefer-offline']
      if (arch !== process.arch) options.push('--force') // or npm refuses what does not run here
      await need(folder, 'npm', ['install', ...options, spec])
      return root
    }
    const fetched = this.#fetched.get(spec) ?? install()
    this.#fetched.set(spec, fetched)
    return fetched
  }

  /** The Node binary of a version such as `22`; without one, the Node that runs this. */
  async node(version, arch = process.arch) {
    if (version === undefined && arch === process.arch) return process.execPath
    const system = process.platform === 'win32' ? 'win' : process.platform
    const folder = await this.fetch(`node-${system}-${arch}@${version}`, { arch })
    return join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  }

  /** The words that run each command of a package manager such as `npm@12`; `npm` is the one at hand. */
  async #manager(manager, node) {
    const [name, version] = manager.split('@')
    const root = async (spec) => (version ? this.fetch(spec) : join(findOnPath(name), '..', '..'))
    const script = async (spec, file) => [node, join(await root(spec), 'bin', file)]
    if (name === 'npm') {
      return { npm: await script(manager, 'npm-cli.js'), npx: await script(manager, 'npx-cli.js') }
    }
    if (name === 'yarn') {
      return { yarn: await script(version === '1' ? manager : `@yarnpkg/cli-dist@${version}`, 'yarn.js') }
    }
    if (name === 'bun') {
      const folder = await this.fetch(`@oven/bun-${process.platform}-${process.arch}@${version}`)
      return { bun: [join(folder, 'bin', 'bun')] }
    }
    // pnpm is a program of its own from version 12 on.
    if (Number(version) < 12) return { pnpm: await script(manager, 'pnpm.mjs') }
    const program = `@pnpm/exe.${process.platform}-${process.arch}`
    return { pnpm: [join(await this.fetch(`${program}@${version}`), 'pnpm')] }
  }

  /**
   * A PATH on which the words of `node` are the command `node`, and a package manager such as `npm@12` runs with it,
   * or with this machine's Node where the other is `foreign` and slow. Nothing else is on it but what package managers
   * want of a shell; with `compiler`, all that this machine has.
   */
  async path({ node, foreign, manager = 'npm', compiler = false }) {
    const folder = join(this.#work, `bin-${++this.#paths}`)
    mkdirSync(folder)
    for (const tool of ['sh', 'sed', 'dirname', 'uname', 'basename', 'cat']) {
      const file = findOnPath(tool)
      if (file) symlinkSync(file, join(folder, tool))
    }
    const commands = {
      node,
      ...(await this.#manager(manager, foreign ? process.execPath : join(folder, 'node'))),
    }
    for (const [name, words] of Object.entries(commands)) {
      const quoted = words.map((word) => `'${word}'`).join(' ')
      writeFileSync(join(folder, name), `#!/bin/sh\nexec ${quoted} "$@"\n`, { mode: 0o755 })
    }
    return compiler ? [folder, process.env.PATH].join(delimiter) : folder
  }

  /** A folder to install into, with nothing but package.json and the settings of package managers, by file name. */
  project(name, settings) {
    const folder = join(this.#work, name)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'user', private: true }))
    for (const [file, text] of Object.entries(settings)) writeFileSync(join(folder, file), text)
    return folder
  }
}
