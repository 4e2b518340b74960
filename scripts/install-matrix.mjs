// Packs the package once, installs it in every way that is promised, each time into an empty folder, uses it there,
// and prints what came of it as a table in Markdown. What is tried is in install-matrix/rows.mjs.
//
//   install-matrix.mjs [--short] [--only TEXT] [--json FILE] [--markdown FILE] [--musl-node FILE] [--keep]
//
//     --short            the rows that need nothing but this machine's Node, npm and compiler
//     --only TEXT        the rows with TEXT in their title
//     --musl-node FILE   a Node for musl, which npm's registry has none of; without it that row is skipped
//     --keep             leaves the folders where they are, and says where
//
// prebuilds/ must have been made (npm run build:prebuilds) for the rows that take a prebuilt addon; for the one of
// arm64, qemu-user-static, Debian's libraries for arm64 and `prebuilds.mjs --target linux-x64,linux-arm64`. Packages come from npm's
// cache where they are in it. Exits 1 when a row did not end as it should.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { execute, findOnPath, Machine, need, sizeOf } from './install-matrix/machine.mjs'
import { rows, typescripts } from './install-matrix/rows.mjs'
import { typecheck, use, versionOf } from './install-matrix/uses.mjs'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    only: { type: 'string' },
    json: { type: 'string' },
    markdown: { type: 'string' },
    'musl-node': { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
})

const work = mkdtempSync(join(tmpdir(), 'lowrank-install-'))
const machine = new Machine(join(root, 'out', 'install-matrix'), work)
const here = `${process.platform}-${process.arch}`

/** The packages that rows install: the one of this checkout as it was built, and two that are less fortunate. */
async function pack() {
  await need(root, 'npm', ['pack', '--ignore-scripts', '--pack-destination', work])
  const whole = join(work, `lowrank-${version}.tgz`)
  const variant = async (name, change) => {
    const folder = join(work, name)
    mkdirSync(folder)
    await need(folder, 'tar', ['xzf', whole])
    const unpacked = sizeOf(folder)
    const prebuilds = join(folder, 'package', 'prebuilds')
    rmSync(prebuilds, { recursive: true, force: true })
    change(prebuilds)
    await need(folder, 'tar', ['czf', `${folder}.tgz`, 'package'])
    return { path: `${folder}.tgz`, unpacked }
  }
  const bare = await variant('bare', () => {})
  const broken = await variant('broken', (prebuilds) => {
    mkdirSync(join(prebuilds, here), { recursive: true })
    writeFileSync(join(prebuilds, here, 'lowrank.node'), 'built for another machine')
  })
  return {
    paths: { whole, bare: bare.path, broken: broken.path },
    packed: statSync(whole).size,
    unpacked: bare.unpacked,
  }
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
    const given = values['musl-node']
    return given ? { words: [resolve(given)] } : { skipped: 'no Node for musl was given' }
  }
  return { words: [await machine.node(node)] }
}

/** Reason why a row cannot be run here, or undefined. */
function obstacle({ system, addon, package: kind }) {
  const target = system === 'arm64' ? 'linux-arm64' : here
  const prebuilt = existsSync(join(root, 'prebuilds', target))
  return (addon === 'prebuild' || kind === undefined) && !prebuilt && `there is no prebuilds/${target}`
}

/** Names of other systems in the rows of the table. */
const systems = { arm64: 'for arm64, under qemu', musl: 'for musl' }

/** Commands of the package managers to add a package. */
const install = { npm: ['install', '--prefer-offline', '--foreground-scripts'], pnpm: ['add'], yarn: ['add'] }

const programOf = (manager = 'npm') => manager.split('@')[0]

/** Variables that keep each package manager from reusing an earlier tarball of the same version. */
const ownCache = {
  npm: {},
  pnpm: { npm_config_store_dir: join(work, 'pnpm-store') },
  yarn: { YARN_CACHE_FOLDER: join(work, 'yarn-cache'), YARN_NODE_LINKER: 'node-modules' },
}

function problemIn({ code, output }, refused) {
  if (refused === undefined) return code === 0 ? undefined : `ended with ${code}:\n${output.trim()}`
  if (code === 0) return `succeeded, where it should have been refused:\n${output.trim()}`
  const said = (words) => (words instanceof RegExp ? words.test(output) : output.includes(words))
  const missing = refused.filter((words) => !said(words))
  return missing.length === 0 ? undefined : `did not say ${missing.join(' | ')}, but:\n${output.trim()}`
}

/** Runs one row; resolves to what the table says of it, with `problem` where it did not end as it should. */
async function runInstall(row, tarballs, folder) {
  const { flags, command: next, manager = 'npm', package: kind = 'whole', compiler, refused, at } = row
  const { words, skipped } = await nodeOf(row)
  if (skipped) return { skipped }
  const program = programOf(manager)
  const env = {
    ...ownCache[program],
    PATH: await machine.path({ node: words, foreign: row.system !== undefined, manager, compiler }),
  }
  const node = (await need(work, 'node', ['-p', 'process.versions.node'], env)).trim()
  const versions = {
    node: [node, systems[row.system]].filter(Boolean).join(' '),
    manager: `${program} ${(await need(work, program, ['--version'], env)).trim()}`,
  }
  const project = machine.project(folder)
  const start = performance.now()
  const installed = await execute(project, program, [...install[program], tarballs[kind], ...flags], env)
  const seconds = (performance.now() - start) / 1000
  const result = { ...versions, seconds }
  if (refused && at !== 'use') return { ...result, problem: problemIn(installed, refused) }
  const failed = problemIn(installed)
  if (failed) return { ...result, problem: `the install ${failed}` }
  if (next) {
    const [command, ...args] = next.split(' ')
    const problem = problemIn(await execute(project, command, args, env))
    if (problem) return { ...result, problem: `"${next}" ${problem}` }
    result.seconds = (performance.now() - start) / 1000
  }
  result.bytes = sizeOf(join(project, 'node_modules'))
  const { ended, addon } = await use(project, { env, manager })
  if (refused) {
    // `doctor` has its say as JSON; the two programs print the error as it is.
    const { cli, ...programs } = ended
    const problems = Object.values(programs).map((run) => problemIn(run, refused))
    if (cli.code === 0 || addon?.error === undefined) problems.push(`lowrank doctor said:\n${cli.output}`)
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
  return { ...result, addon: addon.from }
}

async function runTypecheck(wanted, tarballs) {
  const compiler = await machine.fetch(`typescript@${wanted}`)
  const project = machine.project(`typescript-${wanted}`)
  const packages = [tarballs.whole, '@types/node@20']
  await need(project, 'npm', ['install', '--prefer-offline', '--ignore-scripts', ...packages])
  const ended = await typecheck(project, join(compiler, 'bin', 'tsc'))
  const problems = Object.entries(ended).map(([name, run]) => {
    const problem = problemIn(run)
    return problem && `${name} ${problem}`
  })
  return { typescript: versionOf(compiler), settings: Object.keys(ended), problem: problems.find(Boolean) }
}

/** Description of a row and its expected result, in the words of the table. */
function describe({ system, node, manager, flags, command, package: kind, compiler, addon, at }) {
  const program = programOf(manager)
  const words = [program, install[program][0], ...flags].join(' ')
  return {
    command: command ? `${words}, then the command of the error` : words,
    node: [node ?? process.versions.node, system && systems[system]].filter(Boolean).join(' '),
    manager: manager ?? 'npm',
    prebuilt: { bare: 'none', broken: 'damaged' }[kind] ?? 'yes',
    compiler: compiler ? 'yes' : 'no',
    expected: addon ?? `refused at ${at ?? 'install'}`,
  }
}

const outcome = ({ skipped, problem }) => (skipped ? `not tried: ${skipped}` : problem ? 'FAILED' : 'ok')

function report(title, result) {
  const seconds = result.seconds ? ` (${result.seconds.toFixed(1)} s)` : ''
  console.error(`${title}: ${outcome(result)}${seconds}`)
  if (result.problem) console.error(result.problem.replace(/^/gm, '    '))
  return result
}

const mebibytes = (bytes) => (bytes === undefined ? '' : `${(bytes / 2 ** 20).toFixed(1)} MiB`)

function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function markdown({ machine: where, tarball, installs: rows, typescript }) {
  const head = 'Node|package manager|command|prebuilt addon|compiler|addon in use|seconds|node_modules|result'
  const installed = rows.map((row) => [
    row.node,
    row.manager,
    `\`${row.command.replace(/(?=,|$)/, '`')}`,
    row.prebuilt,
    row.compiler,
    row.expected,
    row.seconds?.toFixed(1) ?? '',
    mebibytes(row.bytes),
    outcome(row),
  ])
  const names = [...new Set(typescript.flatMap(({ settings }) => settings ?? []))]
  const checked = typescript.map((row) => [row.typescript, ...names.map(() => outcome(row))])
  const size = `${mebibytes(tarball.packed)}, unpacked ${mebibytes(tarball.unpacked)}`
  return `${[
    `lowrank ${version}; tarball ${size}; on ${where}`,
    ...(installed.length > 0 ? [table(head.split('|'), installed)] : []),
    ...(checked.length > 0 ? [table(['TypeScript', ...names.map((name) => `\`${name}\``)], checked)] : []),
  ].join('\n\n')}\n`
}

/** After every row: it takes minutes until all of them are there. */
function save(results) {
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
  if (values.markdown) writeFileSync(values.markdown, markdown(results))
}

async function main() {
  const { paths, packed, unpacked } = await pack()
  const wanted = (title, row) => (!values.short || row.short) && (!values.only || title.includes(values.only))
  const results = {
    version,
    machine: `${here}, ${availableParallelism()} cores (${cpus()[0]?.model.trim()})`,
    tarball: { packed, unpacked },
    installs: [],
    typescript: [],
  }
  for (const [i, row] of rows.entries()) {
    const described = describe(row)
    const title = Object.values(described).join(', ')
    if (!wanted(title, row)) continue
    const skipped = obstacle(row)
    const result = skipped ? { skipped } : await runInstall(row, paths, `install-${i}`)
    results.installs.push(report(title, { ...described, ...result }))
    save(results)
  }
  for (const typescript of typescripts) {
    const title = `TypeScript ${typescript}`
    if (!wanted(title, {})) continue
    const skipped = obstacle({})
    const result = skipped ? { skipped } : await runTypecheck(typescript, paths)
    results.typescript.push(report(title, { typescript, ...result }))
    save(results)
  }
  console.log(markdown(results))
  if ([...results.installs, ...results.typescript].some(({ problem }) => problem)) process.exitCode = 1
}

try {
  await main()
} finally {
  if (values.keep) console.error(`the folders are in ${work}`)
  else rmSync(work, { recursive: true, force: true })
}
