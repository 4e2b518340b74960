// Lays out the packages that are published, each as a folder of out/packages: lowrank, and for every platform
// @lowrank/<target> with the addon for it, which lowrank names among its optional dependencies, so that a package manager installs
// the one that fits (`os`, `cpu`, `libc`). The package.json of a checkout names none: npm would look for them in a registry.
//
//   packages.mjs [--target NAME,NAME…|all] [--out FOLDER]
//
// Without --target: those whose addon is in prebuilds/. Fails where a package exceeds its size.
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { packFile } from './build-record.mjs'
import { archOf, fail } from './compilers.mjs'
import { run } from './platforms/runtimes.mjs'
import { prebuiltFile, TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const NOTICES = 'THIRD-PARTY-NOTICES.md'

/** Most bytes of what one platform installs of lowrank, unpacked: its package and the addon for the platform. */
export const MOST_BYTES = 40e6

export const packageOf = (target) => `@lowrank/${target}`

/** Targets whose addon has been built. */
export const builtTargets = () => Object.keys(TARGETS).filter((target) => existsSync(prebuiltFile(target)))

const systems = { Linux: 'linux', Windows: 'win32', Darwin: 'darwin' }
const names = { Linux: 'Linux', Windows: 'Windows', Darwin: 'macOS' }

/** The C library of a target on Linux. */
function libcOf(target) {
  if (TARGETS[target].system !== 'Linux') return undefined
  return target.endsWith('-musl') ? 'musl' : 'glibc'
}

/** True for a platform that has drivers for NVIDIA's cards. */
export const hasCuda = (target) => TARGETS[target].system !== 'Darwin'

/** package.json of the checkout, with the repository that a workflow runs in, which provenance asks for. */
export function rootManifest() {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: name } = process.env
  const url = server && name ? `git+${server}/${name}.git` : undefined
  return { ...manifest, repository: manifest.repository ?? (url && { type: 'git', url }) }
}

/** package.json of the package with one addon. */
export function addonManifest(target, { version, license, engines, repository }) {
  const libc = libcOf(target)
  const where = [names[TARGETS[target].system], archOf(target), libc].filter(Boolean).join(', ')
  return {
    name: packageOf(target),
    description: `Native addon of lowrank for ${where}`,
    version,
    license,
    engines,
    repository,
    main: 'lowrank.node',
    files: ['lowrank.node', ...(hasCuda(target) ? ['lowrank.cuda'] : []), NOTICES],
    os: [systems[TARGETS[target].system]],
    cpu: [archOf(target)],
    ...(libc && { libc: [libc] }),
    // Yarn's Plug'n'Play keeps packages in archives, from which no system loads a library.
    preferUnplugged: true,
    publishConfig: { access: 'public' },
  }
}

/**
 * package.json of lowrank as it is published: nothing of development, and the packages with addons. No script runs at an
 * install: package managers warn of one, pnpm ends with an error, and no platform with an addon needs it.
 */
export function mainManifest(manifest, targets) {
  const { devDependencies, overrides, scripts, ...rest } = manifest
  return {
    ...rest,
    files: rest.files.filter((pattern) => pattern !== 'prebuilds'),
    optionalDependencies: Object.fromEntries(
      targets.map((target) => [packageOf(target), manifest.version]).sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
    // Native code maps the demo's model, and Node.js starts programs of the package.
    preferUnplugged: true,
    publishConfig: { access: 'public' },
  }
}

/** Paths of the files that npm packs from a folder. */
function packedFiles(folder) {
  const [packed] = Object.values(
    JSON.parse(
      run('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], { cwd: folder, maxBuffer: 1 << 26 }),
    ),
  )
  return packed.files.map(({ path }) => path)
}

function write(folder, manifest) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

const readme = (target) => `# ${packageOf(target)}

The native addon of lowrank for one platform. Install \`lowrank\`, which brings it along.
`

/** A page without what is true only until the packages are published. */
const asPublished = (page) =>
  page.replace(/<!-- until lowrank is published -->.*?<!-- end of until lowrank is published -->\n+/gs, '')

/** Bytes of the files in a folder. */
function sizeOf(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => lstatSync(join(folder, name)))
    .reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0)
}

/**
 * Lays the packages out in a folder, those with addons first, as they are to be published.
 * @param addonOf the file with a target's addon
 * @returns `{ name, folder, bytes }` of each
 */
export function layOut(out, targets, addonOf = prebuiltFile) {
  const manifest = rootManifest()
  rmSync(out, { recursive: true, force: true })
  const packages = targets.map((target) => {
    const folder = join(out, target)
    mkdirSync(folder, { recursive: true })
    write(folder, addonManifest(target, manifest))
    writeFileSync(join(folder, 'README.md'), readme(target))
    for (const name of ['LICENSE', NOTICES]) cpSync(join(root, name), join(folder, name))
    cpSync(addonOf(target), join(folder, 'lowrank.node'))
    if (hasCuda(target) && existsSync(packFile)) cpSync(packFile, join(folder, 'lowrank.cuda'))
    return { name: packageOf(target), folder, bytes: sizeOf(folder) }
  })
  const folder = join(out, 'lowrank')
  for (const path of packedFiles(root)) {
    if (path.startsWith('prebuilds/')) continue
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    if (path.endsWith('.md'))
      writeFileSync(join(folder, path), asPublished(readFileSync(join(root, path), 'utf8')))
    else cpSync(join(root, path), join(folder, path))
  }
  write(folder, mainManifest(manifest, targets))
  return [...packages, { name: 'lowrank', folder, bytes: sizeOf(folder) }]
}

/** Lays packages out and packs them: `path`, `bytes`, and `manifest` of lowrank, and by name of those with addons. */
export function published(folder, targets = builtTargets(), addonOf = prebuiltFile) {
  const packed = layOut(join(folder, 'packages'), targets, addonOf).map(({ name, bytes, ...each }) => {
    const out = join(folder, 'tarballs')
    mkdirSync(out, { recursive: true })
    const told = run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', out], {
      cwd: each.folder,
      maxBuffer: 1 << 26,
    })
    const [{ filename }] = Object.values(JSON.parse(told))
    const manifest = JSON.parse(readFileSync(join(each.folder, 'package.json'), 'utf8'))
    return [name, { path: join(out, filename), bytes, manifest }]
  })
  const { lowrank, ...addons } = Object.fromEntries(packed)
  return { ...lowrank, addons }
}

/** Packages that, with lowrank, exceed what one platform may install. */
export function* tooLarge(packages) {
  const { bytes } = packages.at(-1)
  for (const each of packages.slice(0, -1))
    if (bytes + each.bytes > MOST_BYTES)
      yield `lowrank and ${each.name} have ${bytes + each.bytes} bytes unpacked; expected ${MOST_BYTES} at most`
}

export function wantedTargets(list) {
  if (list === undefined) return builtTargets()
  const targets = list === 'all' ? Object.keys(TARGETS) : list.split(',')
  for (const target of targets) {
    if (!(target in TARGETS))
      fail(`there is no target '${target}'; expected ${Object.keys(TARGETS).join(', ')} or all`)
    if (!existsSync(prebuiltFile(target)))
      fail(`prebuilds/${TARGETS[target].file} is missing: npm run build:prebuilds -- --target ${target}`)
  }
  return targets
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { target: { type: 'string' }, out: { type: 'string' } } })
  const packages = layOut(resolve(values.out ?? join(root, 'out', 'packages')), wantedTargets(values.target))
  for (const { name, folder, bytes } of packages) console.log(`${name}: ${bytes} bytes unpacked, ${folder}`)
  for (const problem of tooLarge(packages)) fail(problem)
}
