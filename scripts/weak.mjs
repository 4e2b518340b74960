// Compiles each level of the CPU's kernels without optimization, where nothing is inlined away, and reports functions that
// the linker may take for all levels though they have instructions of one: an inline function or a template of a header
// that is read inside a level's region. On an older processor such a function is an illegal instruction.
//
//   weak.mjs [FILE...]     of native/, for this machine's architecture; exits 1 where there is one
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const LEVEL = /^(levels\/ops|gemm\/gemm)_(avx|amx|neonbf16)\w*\.cpp$/
const FLAGS = ['-std=c++20', '-O0', '-ffp-contract=off', '-Inative']
/** AVX has names with a v, and registers and masks that no baseline has; bf16 of Arm has names with bf. */
const WIDE = process.arch === 'arm64' ? /\tbf[a-z]/ : /\tv[a-z]|%[yz]mm|%k[0-7]|%tmm/

const kernels = 'native/backends/cpu'
const files =
  process.argv.length > 2
    ? process.argv.slice(2)
    : readdirSync(join(root, kernels), { recursive: true })
        .filter((file) => LEVEL.test(file))
        .map((file) => `${kernels}/${file}`)
        .sort()
const folder = mkdtempSync(join(tmpdir(), 'lowrank-weak-'))
try {
  for (const file of files) {
    const object = join(folder, 'level.o')
    run(process.env.CXX ?? 'c++', ...FLAGS, '-c', file, '-o', object)
    const weak = new Set(
      run('nm', object)
        .split('\n')
        .flatMap((line) => line.match(/ [WV] (\S+)/)?.[1] ?? []),
    )
    const wide = widened(run('objdump', '-d', '--no-show-raw-insn', object), weak)
    console.log(`${file}: ${weak.size} weak functions, ${wide.length} of them with its instructions`)
    for (const name of wide) console.error(`  ${run('c++filt', name).trim()}`)
    if (wide.length > 0) process.exitCode = 1
  }
} finally {
  rmSync(folder, { recursive: true })
}

/** Functions among those given that have instructions of a level. */
function widened(code, names) {
  return code.split(/^[0-9a-f]+ (?=<)/m).flatMap((part) => {
    const name = part.slice(1, part.indexOf('>:'))
    return names.has(name) && WIDE.test(part) ? [name] : []
  })
}

function run(command, ...args) {
  return execFileSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 30 })
}
