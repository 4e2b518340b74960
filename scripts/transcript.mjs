// Runs the sessions of three users (transcript/sessions.mjs), each in an empty folder, and writes their commands and
// screens into docs/first-half-hour.md.
//
//   transcript.mjs MODEL.gguf [--only NAME] [--keep]
//
//     MODEL.gguf    SmolLM2-135M-Instruct, which the sessions name
//     --only NAME   this session alone; its part of the page is replaced
//     --keep        leaves the folders where they are
//
// The package is the tarball that `npm pack` makes of the checkout as it was built, with the addon of the build.
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import xterm from '@xterm/headless'
import { sessions } from './transcript/sessions.mjs'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const page = join(root, 'docs', 'first-half-hour.md')
const COLUMNS = 80
/** A block of so many lines that was shown before is not shown again. */
const REPEATED = 4

const { values, positionals } = parseArgs({
  options: { only: { type: 'string' }, keep: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const [model] = positionals
if (model === undefined) throw new Error('usage: transcript.mjs MODEL.gguf [--only NAME] [--keep]')
const chosen = sessions.filter(({ name }) => values.only === undefined || name === values.only)
if (chosen.length === 0) throw new Error(`there is no session ${values.only}`)

/** Runs a command in a terminal and returns the screen at its end, with what has scrolled away. */
function onScreen(command, cwd, type = []) {
  const terminal = new xterm.Terminal({ cols: COLUMNS, rows: 24, scrollback: 5000, allowProposedApi: true })
  const driver = join(root, 'test', 'e2e', 'terminal.py')
  const env = {
    ...process.env,
    LOWRANK_NATIVE_PATH: join(root, 'build', 'Release', 'lowrank.node'),
    ...{ TERM: 'xterm-256color', LANG: 'C.UTF-8', NO_COLOR: '1' },
  }
  const child = spawn('python3', [driver, String(COLUMNS), '24', 'bash', '-c', command], {
    ...{ cwd, env, stdio: ['pipe', 'pipe', 'inherit'] },
  })
  const screen = () => {
    const { active } = terminal.buffer
    let text = ''
    for (let y = 0; y < active.length; y++) {
      const line = active.getLine(y)
      text += `${line.isWrapped || y === 0 ? '' : '\n'}${line.translateToString(true)}`
    }
    return text.trimEnd()
  }
  const waiting = [...type]
  const look = () => {
    if (waiting.length === 0 || !waiting[0].when.test(screen())) return
    const [{ keys }] = waiting.splice(0, 1)
    child.stdin.write(`${JSON.stringify({ type: keys })}\n`)
  }
  child.stdout.setEncoding('utf8').on('data', (text) => terminal.write(text, look))
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('close', () => terminal.write('', () => done(screen())))
  })
}

/** Output with what was shown before in this session left out. */
function shortened(text, seen) {
  const lines = text.split('\n')
  const known = lines.map((line) => line !== '' && seen.has(line))
  const shown = []
  for (let i = 0; i < lines.length; ) {
    let end = i
    while (known[end]) end++
    if (end - i >= REPEATED) shown.push('…')
    else shown.push(...lines.slice(i, end))
    if (end < lines.length) shown.push(lines[end])
    i = end + 1
  }
  for (const line of lines) seen.add(line)
  return shown.join('\n')
}

async function walk({ name, title, intro, steps }, tarball) {
  const folder = join('/tmp', name)
  // Fails where there is something, which may be somebody's.
  mkdirSync(folder)
  const seen = new Set()
  const parts = [`## ${title}`, intro]
  try {
    const sh = (command) => execFileSync('bash', ['-c', command], { cwd: folder, stdio: 'ignore' })
    sh(`npm init -y && npm install --ignore-scripts --no-audit --no-fund ${tarball}`)
    copyFileSync(model, join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'))
    for (const step of steps) {
      if (step.say !== undefined) parts.push(step.say)
      else if (step.file !== undefined) {
        writeFileSync(join(folder, step.file), step.text)
        parts.push(`\`${step.file}\`:`, `\`\`\`${step.language ?? ''}\n${step.text.trimEnd()}\n\`\`\``)
      } else if (step.quiet !== undefined) sh(step.quiet)
      else {
        console.error(`$ ${step.run}`)
        const output = await onScreen(step.run, folder, step.type)
        const all = shortened(output, seen)
        parts.push(`\`\`\`\n$ ${step.run}\n${step.cut ? step.cut(all) : all}\n\`\`\``)
      }
    }
  } finally {
    if (!values.keep) rmSync(folder, { recursive: true })
  }
  return parts.join('\n\n')
}

const [packed] = JSON.parse(
  execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', '/tmp'], { cwd: root }),
)
const tarball = join('/tmp', basename(packed.filename))
const text = readFileSync(page, 'utf8')
let written = text
try {
  for (const session of chosen) {
    const [begin, end] = ['begin', 'end'].map((side) => `<!-- ${side} of ${session.name} -->`)
    const part = `${begin}\n\n${await walk(session, tarball)}\n\n${end}`
    const [from, to] = [written.indexOf(begin), written.indexOf(end)]
    if (from < 0 || to < 0) throw new Error(`${page} has no place for ${session.name}`)
    written = written.slice(0, from) + part + written.slice(to + end.length)
    writeFileSync(page, written)
  }
} finally {
  rmSync(tarball)
}
