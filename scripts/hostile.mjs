/**
 * Meets files that mean harm, each in a process of its own, and prints what came of it, how long it took and the most
 * memory that the process and those that it started had. Fails where one is not refused as it should be, in time and memory.
 *
 *   npm run hostile
 *
 * A word, as in `npm run hostile -- template`, takes the cases whose names have it.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cases } from '../test/hostile/cases.mjs'

const [word = ''] = process.argv.slice(2)
/** Generous, since machines are busy at times; templates alone may run for 5 s. */
const LIMIT_SECONDS = 60
const LIMIT_MEBIBYTES = 2600
const AT_ONCE = 2
const main = fileURLToPath(new URL('../dist/esm/cli/main.js', import.meta.url))

const here = process.platform === 'win32' ? cases.filter(({ posix }) => !posix) : cases
const chosen = here.filter(({ name }) => name.includes(word))
const width = Math.max(...chosen.map(({ name }) => name.length))
const waiting = [...chosen]
let failed = 0
console.log(`${'case'.padEnd(width)}  ${'outcome'.padEnd(13)}  ${'ms'.padStart(6)}  ${'MiB'.padStart(5)}`)
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await meet(next)
  }),
)
console.log(failed === 0 ? `all ${chosen.length} refused` : `${failed} of ${chosen.length} went wrong`)
process.exitCode = failed === 0 ? 0 : 1

async function meet({ name, make, says }) {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-hostile-'))
  try {
    const { code, signal, stderr, ms, mebibytes } = await run(make(folder))
    const refused =
      (code === 1 || code === 2) && (typeof says === 'string' ? stderr.includes(says) : says.test(stderr))
    const said = /^code (\w+)/m.exec(stderr)?.[1]
    const outcome = refused ? said : signal !== null ? signal : `exit ${code}`
    const well = refused && said !== 'INTERNAL' && ms < LIMIT_SECONDS * 1000 && mebibytes < LIMIT_MEBIBYTES
    console.log(
      `${name.padEnd(width)}  ${String(outcome).padEnd(13)}  ${ms.toFixed(0).padStart(6)}  ${mebibytes.toFixed(0).padStart(5)}${well ? '' : '  <- wrong'}`,
    )
    if (well) return
    failed++
    console.log(`  expected: ${says}\n  said: ${stderr.trim().slice(0, 1000).replaceAll('\n', '\n    ')}`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function run(words) {
  const started = performance.now()
  const child = spawn(process.execPath, [main, ...words], {
    env: { ...process.env, LOWRANK_WEIGHT_CACHE: 'off', NO_COLOR: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: LIMIT_SECONDS * 1000,
    killSignal: 'SIGKILL',
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const peaks = new Map()
  const watch = setInterval(() => note(child.pid, peaks), 20)
  return new Promise((done) =>
    child.on('close', (code, signal) => {
      clearInterval(watch)
      const mebibytes = [...peaks.values()].reduce((sum, peak) => sum + peak, 0) / 1024
      done({ code, signal, stderr, ms: performance.now() - started, mebibytes })
    }),
  )
}

/** The peaks of a process and of those that it started, in KiB; none where the system does not tell. */
function note(pid, peaks) {
  try {
    const [, peak] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
    if (peak !== undefined) peaks.set(pid, Number(peak))
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim()
    for (const other of children === '' ? [] : children.split(' ')) note(other, peaks)
  } catch {
    // It has ended meanwhile.
  }
}
