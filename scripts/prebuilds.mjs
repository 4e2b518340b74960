// Makes the prebuilt addons, prebuilds/<platform>-<arch>/lowrank[.<libc>].node, and checks what each asks of a system
// (scripts/check-addon.mjs). Any of them can be made on Linux for x64; scripts/targets.mjs has the list.
//
//   prebuilds.mjs [--target NAME,NAME…|all] [--twice] [--possible] [--record]
//
// Without --target: the one for this machine. --twice makes each a second time, without a compiler cache and from a copy of
// the sources in another folder, and fails where a byte differs. --possible leaves out, with the reason, those that there is no
// compiler for. --record keeps what was seen in platforms/results.json. compilers.mjs pins the compilers.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { note } from './build-record.mjs'
import { archOf, compilerName, compilerOf, fail, missingCompiler, run } from './compilers.mjs'
import { record } from './platforms/results.mjs'
import { prebuiltFile, TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')

/** Builds one target from a folder with the sources, into `out`. */
function build(name, sources, out, env = {}) {
  const { compiler, processor } = TARGETS[name]
  mkdirSync(dirname(out), { recursive: true })
  const args = [join(sources, 'scripts', 'native.mjs'), 'build', ...compilerOf(name), '--out', out]
  run(process.execPath, args, { env: { ...process.env, SOURCE_DATE_EPOCH: '0', ...env } })
  const own = archOf(name) === process.arch
  if (compiler === 'gcc') run(own ? 'strip' : `${processor}-linux-gnu-strip`, ['--strip-all', out])
}

/** Builds a target from a copy of the sources in another folder and compares the bytes. */
function buildTwice(name, first) {
  const copy = mkdtempSync(join(tmpdir(), 'lowrank-prebuild-'))
  try {
    for (const part of ['native', 'scripts', 'CMakeLists.txt', 'package.json'])
      cpSync(join(root, part), join(copy, part), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
    const second = join(copy, 'lowrank.node')
    build(name, copy, second, { CCACHE_DISABLE: '1' })
    if (!readFileSync(first).equals(readFileSync(second))) fail(`${name}: two builds differ`)
    console.log(`${name}: two builds, the same bytes`)
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

function wanted(list) {
  if (list === 'all') return Object.keys(TARGETS)
  const names = list?.split(',') ?? [`${process.platform}-${process.arch}`]
  for (const name of names)
    if (!(name in TARGETS))
      fail(`there is no target '${name}'; expected ${Object.keys(TARGETS).join(', ')} or all`)
  return names
}

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    twice: { type: 'boolean' },
    possible: { type: 'boolean' },
    record: { type: 'boolean' },
  },
})
for (const name of wanted(values.target)) {
  const lack = missingCompiler(name)
  if (lack && !values.possible) fail(lack)
  if (lack) {
    console.log(`${name}: not built: ${lack}`)
    continue
  }
  const out = prebuiltFile(name)
  build(name, root, out)
  run(process.execPath, ['scripts/check-addon.mjs', '--target', name, out], { stdio: 'inherit' })
  note(name)
  const bytes = statSync(out).size
  console.log(`${out}: ${bytes} bytes`)
  if (values.twice) buildTwice(name, out)
  if (values.record)
    record('addons', name, {
      compiler: compilerName(name),
      bytes,
      ...(values.twice && { twice: 'the same bytes' }),
    })
}
