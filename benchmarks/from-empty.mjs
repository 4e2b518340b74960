// From an empty folder to a tuned model that answers through OpenAI's client: the commands, and the seconds of each.
//
//   npm run build:prebuilds && npm pack && node benchmarks/from-empty.mjs lowrank-0.1.0.tgz MODEL [--rows 60] [--json]
//
// MODEL is a folder or a .gguf file, which is on this machine already. With --json the output is what
// benchmarks/results/from-empty.json holds, from which docs/serve.md has its figures.
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { answers, measuredBy } from './measure.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: 'string', default: '60' }, json: { type: 'boolean', default: false } },
})
if (positionals.length !== 2) throw new Error('name a package and a model: from-empty.mjs PACKAGE.tgz MODEL')
const [tarball, model] = positionals.map((path) => resolve(path))
const KEY = 'a-key-of-the-benchmark-with-enough-characters'
const folder = mkdtempSync(join(tmpdir(), 'lowrank-empty-'))
const steps = []

async function timed(command, work) {
  const begin = performance.now()
  const made = await work()
  steps.push({ command, seconds: (performance.now() - begin) / 1000 })
  return made
}

const run = (command, ...args) =>
  execFileSync(command, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })
const row = (i) => ({
  messages: [
    { role: 'user', content: `Say the number ${i}` },
    { role: 'assistant', content: `The number is ${i}, at your service.` },
  ],
})
const name = basename(model).replace(/\.gguf$/, '')
let server
try {
  const rows = Array.from({ length: Number(options.rows) }, (_, i) => `${JSON.stringify(row(i))}\n`)
  writeFileSync(join(folder, 'train.jsonl'), rows.join(''))
  copyFileSync(
    resolve(import.meta.dirname, '../examples/openai-client.mjs'),
    join(folder, 'openai-client.mjs'),
  )
  await timed('npm install lowrank openai', () =>
    run('npm', 'install', '--no-audit', '--no-fund', tarball, 'openai'),
  )
  const url = await timed(`npx lowrank serve --model ${basename(model)} --port 8000`, async () => {
    server = spawn('npx', ['lowrank', 'serve', '--model', model, '--port', '8000', '--token', KEY], {
      ...{ cwd: folder, stdio: 'ignore', detached: true },
    })
    await answers('http://127.0.0.1:8000/ready', server)
    return 'http://127.0.0.1:8000/v1'
  })
  process.env.LOWRANK_TOKEN = KEY
  const printed = await timed(`node openai-client.mjs ${url} ${name} train.jsonl`, () =>
    run(process.execPath, 'openai-client.mjs', url, name, 'train.jsonl'),
  )
  const found = { ...measuredBy(), rows: rows.length, steps, answers: printed.trim().split('\n').slice(-2) }
  if (options.json) console.log(JSON.stringify(found, null, 1))
  else {
    for (const { command, seconds } of steps) console.log(`${seconds.toFixed(1).padStart(6)} s  ${command}`)
    console.log(found.answers.join('\n'))
  }
} finally {
  if (server !== undefined) process.kill(-server.pid)
  rmSync(folder, { recursive: true })
}
