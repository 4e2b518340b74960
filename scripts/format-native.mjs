/**
 * Formats C++ and CUDA sources by .clang-format, with the one version of clang-format that every machine gets from PyPI:
 * another version breaks some lines elsewhere.
 *
 *   npm run format:native -- [--check] [FILE…]
 *
 * Files that a script makes keep the script's form. With --check it writes nothing, names the files that are not
 * formatted, and exits with 1 if there are any. Exits with 3 where clang-format cannot be installed.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = resolve(import.meta.dirname, '..')
const VERSION = '23.1.5'
const HASH = 'sha256:d97ce49911ba8c89ef3f3c0735a9c7818e4780ab4812c67d1c5fcd829d16ae52'

/** clang-format, installed when it is first asked for. */
function clangFormat() {
  const folder = join(root, 'out', `clang-format-${VERSION}`)
  const program = join(folder, 'clang_format', 'data', 'bin', 'clang-format')
  if (existsSync(program)) return program
  const work = `${folder}.${process.pid}`
  mkdirSync(work, { recursive: true })
  const list = join(work, 'list.txt')
  writeFileSync(list, `clang-format==${VERSION} --hash=${HASH}\n`)
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--require-hashes', '--only-binary', ':all:']
  const { status, stderr, error } = spawnSync('python3', [...pip, '--target', work, '-r', list], {
    encoding: 'utf8',
  })
  if (status === 0) renameSync(work, folder)
  else {
    rmSync(work, { recursive: true, force: true })
    const why = error?.message ?? stderr.trim().split('\n').at(-1)
    console.error(`clang-format ${VERSION} was not installed from PyPI, for Linux on x64: ${why}`)
    process.exit(3)
  }
  return program
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { check: { type: 'boolean', default: false } },
})
const SOURCES = ['native', 'test/native', 'benchmarks'].flatMap((folder) =>
  ['cpp', 'h', 'inl', 'cu', 'cuh'].map((kind) => `${folder}/**.${kind}`),
)
const listed = () => execFileSync('git', ['ls-files', ...SOURCES], { cwd: root, encoding: 'utf8' })
const named = positionals.length > 0 ? positionals.map((file) => resolve(file)) : listed().trim().split('\n')
const isMade = (file) => readFileSync(resolve(root, file), 'utf8').startsWith('// Made by ')
const files = named.filter((file) => !isMade(file))
const how = values.check ? ['--dry-run', '--Werror'] : ['-i']
const { status, stderr } = spawnSync(clangFormat(), [...how, ...files], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 2 ** 28,
})
if (values.check) {
  const faults = new Map()
  for (const [, file] of stderr.matchAll(/^(\S+?):\d+:\d+: error: code should be clang-formatted/gm))
    faults.set(file, (faults.get(file) ?? 0) + 1)
  for (const [file, count] of faults) console.error(`${file}: ${count} places`)
  if (faults.size > 0)
    console.error(`not formatted: ${faults.size} of ${files.length}; npm run format:native formats them`)
} else process.stderr.write(stderr)
process.exitCode = status ?? 1
