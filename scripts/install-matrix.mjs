// Packs the package once, installs it in every way that is promised, each time into an empty folder, trains and generates
// there, and prints what came of it as a table in Markdown. What is tried is in install-matrix/rows.mjs.
//
//   install-matrix.mjs [--short] [--only TEXT] [--json FILE] [--record] [--keep]
//
//     --short       the rows that need nothing but this machine's Node, npm and compiler
//     --only TEXT   the rows with TEXT in their title
//     --record      keeps what was seen in platforms/results.json
//     --keep        leaves the folders where they are, and says where
//
// Rows of the published package install it as scripts/packages.mjs lays it out, and the addons from a registry on this
// machine. They need prebuilds/ (npm run build:prebuilds), those for arm64 also qemu-user-static and Debian's libraries for arm64.
// Other packages come from npm's cache where they are in it. Exits 1 when a row did not end as it should.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { execute, findOnPath, Machine, need, sizeOf } from './install-matrix/machine.mjs'
import { serve, settings } from './install-matrix/registry.mjs'
import { rows, typescripts } from './install-matrix/rows.mjs'
import { markdown, outcome } from './install-matrix/tables.mjs'
import { typecheck, use, versionOf } from './install-matrix/uses.mjs'
import { packageOf, published } from './packages.mjs'
import { record, results as recorded } from './platforms/results.mjs'
import { muslNode } from './platforms/runtimes.mjs'
import { prebuiltFile } from './targets.mjs'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    only: { type: 'string' },
    json: { type: 'string' },
    record: { type: 'boolean' },
    keep: { type: 'boolean', default: false },
  },
})

const work = mkdtempSync(join(tmpdir(), 'lowrank-install-'))
const machine = new Machine(join(root, 'out', 'install-matrix'), work)
const here = `${process.platform}-${process.arch}`

/** The target of a row's system, as scripts/targets.mjs names it. */
const targetOf = ({ system }) => ({ arm64: 'linux-arm64', musl: `${here}-musl` })[system] ?? here

/** The tarball of a checkout with other addons in prebuilds/: none, or one file that is none. */
async function changed(name, whole, addon) {
  const folder = join(work, name)
  mkdirSync(folder)
  await need(folder, 'tar', ['xzf', whole])
  const prebuilds = join(folder, 'package', 'prebuilds')
  rmSync(prebuilds, { recursive: true, force: true })
  if (addon) {
    mkdirSync(dirname(join(prebuilds, addon)), { recursive: true })
    writeFileSync(join(prebuilds, addon), 'built for another machine')
  }
  await need(folder, 'tar', ['czf', `${folder}.tgz`, 'package'])
  return `${folder}.tgz`
}

/** The packages that rows install, which rows.mjs describes, and a registry with the addons of the published one. */
async function pack() {
  const other = process.platform === 'win32' ? 'linux-x64' : 'win32-x64'
  const stranger = join(work, 'stranger.node')
  writeFileSync(stranger, 'built for another machine')
  const whole = published(join(work, 'published'))
  await need(root, 'npm', ['pack', '--ignore-scripts', '--pack-destination', work])
  const carried = join(work, `lowrank-${version}.tgz`)
  const paths = {
    published: whole.path,
    elsewhere: published(join(work, 'elsewhere'), [other], () => stranger).path,
    carried,
    bare: await changed('bare', carried),
    foreign: await changed('foreign', carried, `${other}/lowrank.node`),
    broken: await changed('broken', carried, `${here}/lowrank.node`),
  }
  const { url, close } = await serve(whole.addons)
  const addon = whole.addons[packageOf(here)]
  const sizes = { packed: statSync(whole.path).size, unpacked: whole.bytes, addon: addon?.bytes }
  return { paths, sizes, registry: url, close }
}

/** The words that run Node for a row, or why this machine cannot. */
async function nodeOf({ system, node }) {
  if (system === 'arm64') {
    const emulator = findOnPath('qemu-aarch64-static') ?? findOnPath('qemu-aarch64')
    const libraries = '/usr/aarch64-linux-gnu'
    if (!emulator || !existsSync(libraries))
      return { skipped: 'no qemu-aarch64-static, or no libraries for it' }
    return { words: [emulator, '-L', libraries, await machine.node(node, 'arm64')] }
  }
  if (system === 'musl') {
    try {
      return { words: [muslNode('24.19.0')] }
    } catch (error) {
      return { skipped: `no Node for musl: ${error.message.split('\n')[0]}` }
    }
  }
  return { words: [await machine.node(node)] }
}

/** Reason why a row cannot be run here, or undefined. */
function obstacle(row) {
  const { addon, package: kind } = row
  const target = targetOf(row)
  if (addon !== 'prebuild' && kind !== undefined) return undefined
  return !existsSync(prebuiltFile(target)) && `there is no prebuilt addon for ${target}`
}

/** Names of other systems in the rows of the table. */
const systems = { arm64: 'for arm64, under qemu', musl: 'for musl' }

/** Commands of the package managers to add a package. */
const install = { npm: ['install', '--prefer-offline'], pnpm: ['add'], yarn: ['add'], bun: ['add'] }

/** What package managers say of scripts that they did not run, or run. Nothing in the package has one. */
const OF_SCRIPTS =
  /allow-scripts|ignored build scripts|ERR_PNPM_IGNORED_BUILDS|blocked \d+ postinstall|YN000[4-7]/i

const programOf = (manager = 'npm') => manager.split('@')[0]

/** Variables that keep each package manager from reusing an earlier tarball of the same version. */
const ownCache = {
  npm: {},
  pnpm: { npm_config_store_dir: join(work, 'pnpm-store') },
  // Yarn 4 ignores the folder of its cache and keeps it in its global one.
  yarn: { YARN_CACHE_FOLDER: join(work, 'yarn-cache'), YARN_GLOBAL_FOLDER: join(work, 'yarn-global') },
  bun: { BUN_INSTALL_CACHE_DIR: join(work, 'bun-cache') },
}

function problemIn({ code, output }, refused) {
  if (refused === undefined) return code === 0 ? undefined : `ended with ${code}:\n${output.trim()}`
  if (code === 0) return `succeeded, where it should have been refused:\n${output.trim()}`
  const said = (words) => (words instanceof RegExp ? words.test(output) : output.includes(words))
  const missing = refused.filter((words) => !said(words))
  return missing.length === 0 ? undefined : `did not say ${missing.join(' | ')}, but:\n${output.trim()}`
}

/** Runs one row; resolves to what the table says of it, with `problem` where it did not end as it should. */
async function runInstall(row, { paths, registry }, folder) {
  const {
    flags,
    command: next,
    manager = 'npm',
    package: kind = 'published',
    compiler,
    refused,
    linker,
  } = row
  const { words, skipped } = await nodeOf(row)
  if (skipped) return { skipped }
  const program = programOf(manager)
  const env = {
    ...ownCache[program],
    ...(linker && { YARN_NODE_LINKER: linker }),
    PATH: await machine.path({ node: words, foreign: row.system !== undefined, manager, compiler }),
  }
  const node = (await need(work, 'node', ['-p', 'process.versions.node'], env)).trim()
  const versions = {
    node: [node, systems[row.system]].filter(Boolean).join(' '),
    manager: [`${program} ${(await need(work, program, ['--version'], env)).trim()}`, linker]
      .filter(Boolean)
      .join(', '),
  }
  const project = machine.project(folder, settings(registry))
  const start = performance.now()
  const installed = await execute(project, program, [...install[program], paths[kind], ...flags], env)
  const seconds = (performance.now() - start) / 1000
  const result = { ...versions, seconds }
  const failed = problemIn(installed)
  if (failed) return { ...result, problem: `the install ${failed}` }
  if (OF_SCRIPTS.test(installed.output))
    return { ...result, problem: `the install told of scripts:\n${installed.output.trim()}` }
  if (next) {
    const [command, ...args] = next.split(' ')
    const problem = problemIn(await execute(project, command, args, env), refused)
    if (problem) return { ...result, problem: `"${next}" ${problem}` }
    if (refused) return result
    result.seconds = (performance.now() - start) / 1000
  }
  if (linker !== 'pnp') result.bytes = sizeOf(join(project, 'node_modules'))
  const { ended, addon } = await use(project, { env, manager, linker })
  if (refused) {
    // `doctor` has its say as JSON; the two programs print the error as it is.
    const { doctor, ...programs } = ended
    const problems = Object.values(programs).map((run) => problemIn(run, refused))
    if (doctor.code === 0 || addon?.error === undefined)
      problems.push(`lowrank doctor said:\n${doctor.output}`)
    return { ...result, problem: problems.find(Boolean) }
  }
  for (const [name, run] of Object.entries(ended)) {
    const problem = problemIn(run)
    if (problem) return { ...result, problem: `${name} ${problem}` }
  }
  if (addon?.from !== row.addon)
    return { ...result, problem: `the addon is ${addon?.from}, expected ${row.addon}` }
  const leftOver = row.addon === 'build' ? 'out' : 'build'
  if (existsSync(join(project, 'node_modules', 'lowrank', leftOver))) {
    return { ...result, problem: `the install left ${leftOver}/ behind` }
  }
  return { ...result, addon: addon.from, trained: 'two steps', generated: 'a token' }
}

async function runTypecheck(wanted, { paths, registry }) {
  const compiler = await machine.fetch(`typescript@${wanted}`)
  const project = machine.project(`typescript-${wanted}`, settings(registry))
  const packages = [paths.published, '@types/node@20']
  await need(project, 'npm', ['install', '--prefer-offline', '--ignore-scripts', ...packages])
  const ended = await typecheck(project, join(compiler, 'bin', 'tsc'))
  const problems = Object.entries(ended).map(([name, run]) => {
    const problem = problemIn(run)
    return problem && `${name} ${problem}`
  })
  return { typescript: versionOf(compiler), settings: Object.keys(ended), problem: problems.find(Boolean) }
}

/** Description of a row and its expected result, in the words of the table. */
function describe({ system, node, manager, linker, flags, command, package: kind, compiler, addon }) {
  const program = programOf(manager)
  const words = [program, install[program][0], ...flags].join(' ')
  return {
    command: command ? `${words}, then the command of the error` : words,
    node: [node ?? process.versions.node, system && systems[system]].filter(Boolean).join(' '),
    manager: [manager ?? 'npm', linker].filter(Boolean).join(', '),
    prebuilt:
      {
        carried: 'in the package',
        bare: 'none',
        broken: 'damaged',
        foreign: "another platform's, in the package",
        elsewhere: "another platform's",
      }[kind] ?? 'its own package',
    compiler: compiler ? 'yes' : 'no',
    expected: addon ?? `refused at ${command ? 'build' : 'use'}`,
  }
}

/** Identifies a row, also where the versions in it have changed. */
const titleOf = (described) => Object.values(described).join(', ')
const titleOfCompiler = (version) => `TypeScript ${version}`

function report(title, result) {
  const seconds = result.seconds ? ` (${result.seconds.toFixed(1)} s)` : ''
  console.error(`${title}: ${outcome(result)}${seconds}`)
  if (result.problem) console.error(result.problem.replace(/^/gm, '    '))
  return result
}

/** After every row: it takes minutes until all of them are there. Rows that were not tried now stay as they were recorded. */
function save(results) {
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
  if (!values.record) return
  const before = recorded().installs.matrix
  const merged = (kind, titles) =>
    titles.flatMap(
      (title) => [...results[kind], ...(before?.[kind] ?? [])].find((row) => row.title === title) ?? [],
    )
  record('installs', 'matrix', {
    ...results,
    installs: merged('installs', rows.map(describe).map(titleOf)),
    typescript: merged('typescript', typescripts.map(titleOfCompiler)),
  })
}

async function main() {
  const packages = await pack()
  const wanted = (title, row) => (!values.short || row.short) && (!values.only || title.includes(values.only))
  const results = {
    version,
    machine: `${here}, ${availableParallelism()} cores (${cpus()[0]?.model.trim()})`,
    tarball: packages.sizes,
    installs: [],
    typescript: [],
  }
  for (const [i, row] of rows.entries()) {
    const described = describe(row)
    const title = titleOf(described)
    if (!wanted(title, row)) continue
    const skipped = obstacle(row)
    const result = skipped ? { skipped } : await runInstall(row, packages, `install-${i}`)
    results.installs.push(report(title, { title, ...described, ...result }))
    save(results)
  }
  for (const typescript of typescripts) {
    const title = titleOfCompiler(typescript)
    if (!wanted(title, {})) continue
    const skipped = obstacle({})
    const result = skipped ? { skipped } : await runTypecheck(typescript, packages)
    results.typescript.push(report(title, { title, typescript, ...result }))
    save(results)
  }
  packages.close()
  console.log(markdown(results))
  if ([...results.installs, ...results.typescript].some(({ problem }) => problem)) process.exitCode = 1
}

try {
  await main()
} finally {
  if (values.keep) console.error(`the folders are in ${work}`)
  else rmSync(work, { recursive: true, force: true })
}
