import { expect, test } from 'vitest'
import { tinyModel } from '../../e2e/tiny-model.js'
import { needs } from '../../needs.js'
import { sweepTest } from '../../sweep.js'
import { fakeHub } from '../hub/server.js'
import { scratchFile, scratchFolder } from '../scratch.js'
import { jsonLines, lowrank, signalWhen } from './lowrank.js'

const verbs = [
  'train',
  'plan',
  'eval',
  'generate',
  'classify',
  'chat',
  'merge',
  'inspect',
  'strategies',
  'doctor',
]

test('without a verb the help goes to stderr and the exit code says wrong use', async () => {
  const { code, stdout, stderr } = await lowrank([])
  expect(code).toBe(2)
  expect(stdout).toBe('')
  for (const verb of verbs) expect(stderr).toContain(`\n  ${verb}`)
  expect(stderr).toMatch(/\nGet started:\n.* \$ lowrank train run\.yaml /s)
})

test('--help lists every verb and --version prints the version alone', async () => {
  const [help, version] = await Promise.all([lowrank(['--help']), lowrank(['--version'])])
  expect(help.code).toBe(0)
  for (const verb of verbs) expect(help.stdout).toContain(`\n  ${verb}`)
  expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
})

test.each(verbs)('the help of %s has --json and an example, however it is asked for', async (verb) => {
  const [flag, word] = await Promise.all([lowrank([verb, '--help']), lowrank(['help', verb])])
  expect(flag.code).toBe(0)
  expect(flag.stdout).toContain('--json')
  expect(flag.stdout).toContain(`$ lowrank ${verb}`)
  expect(word).toEqual(flag)
})

test('an unknown verb is wrong use, answered with the nearest one', async () => {
  const { code, stdout, stderr } = await lowrank(['inspekt', 'x'])
  expect(code).toBe(2)
  expect(stdout).toBe('')
  expect(stderr).toBe("error: unknown command 'inspekt'; did you mean inspect?\nsee lowrank --help\n")
  const help = await lowrank(['help', 'inspekt'])
  expect(help).toEqual({ code, stdout, stderr })
})

test('an unknown flag is wrong use, answered with the nearest one, also as JSON', async () => {
  const { code, stdout, stderr } = await lowrank(['doctor', '--json', '--jsn'])
  expect(code).toBe(2)
  const message = "unknown option '--jsn'; did you mean --json?"
  expect(stderr).toBe(`error: ${message}\nsee lowrank doctor --help\n`)
  expect(jsonLines(stdout)).toEqual([{ event: 'error', code: 'USAGE', message, details: {} }])
})

test.each([
  [
    ['merge', 'run.yaml', '--output', 'm'],
    "'merge' takes no arguments, only flags; name what it works on with --adapter or --model.",
  ],
  [
    ['generate', 'run.yaml', 'Hello'],
    "'generate' takes one config; give the prompt as --prompt TEXT, in quotes.",
  ],
  [['dpo'], "unknown command 'dpo'; task: dpo and task: orpo train on pairs "],
  [['sft'], "unknown command 'sft'; the name here is train."],
  [['train', 'run.yaml', '--lr', '1e-4'], "--lr'; it is a key of the config: --set learning_rate=1e-4."],
  [['train', 'run.yaml', '--epochs=2'], 'it is a key of the config: --set num_train_epochs=2.'],
  [
    ['train', 'run.yaml', '--batch-size', '8'],
    "--batch-size'; it is a key of the config: --set per_device_train_batch_size=8.",
  ],
  [['train', 'run.yaml', '--learning-rate', '1'], '--set learning_rate=1.'],
  [['train', 'run.yaml', '--load-in-4bit'], '--set quantization=nf4.'],
  [['train', 'run.yaml', '--lora_r', '8'], '--set strategy.r=8.'],
  [
    ['train', 'run.yaml', '--deepspeed', 'x.json'],
    "--deepspeed'; `mpirun -n N npx lowrank train` trains with N processes",
  ],
  [['plan', '--max-length', '512'], "--max-length'; the name here is --max-seq-length."],
  [['generate', '--max-tokens', '5'], "--max-tokens'; the name here is --max-new-tokens."],
  [['generate', '--max_new_tokens', '5'], "--max_new_tokens'; did you mean --max-new-tokens?"],
])('%j of other programs is answered with what it is here', async (args, answer) => {
  const { code, stdout, stderr } = await lowrank(args)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toContain(answer)
})

test('a missing argument is wrong use', async () => {
  const { code, stderr } = await lowrank(['inspect'])
  expect(code).toBe(2)
  expect(stderr).toBe("error: missing required argument 'path'.\nsee lowrank inspect --help\n")
})

test('colors are there for a terminal, not for a pipe, unless FORCE_COLOR wants them', async () => {
  const call = (env: NodeJS.ProcessEnv) => lowrank(['inspekt'], { env })
  const [plain, forced, off] = await Promise.all([
    call({}),
    call({ FORCE_COLOR: '1' }),
    call({ FORCE_COLOR: '0' }),
  ])
  expect(plain.stderr).not.toContain('\u001b')
  expect(forced.stderr).toContain('\u001b[31merror:\u001b[39m')
  expect(off.stderr).toBe(plain.stderr)
})

test('a reader that has had enough ends the verb quietly', async () => {
  needs('POSIX shells')
  const wrap = (node: string, args: string[]): [string, string[]] => [
    'bash',
    ['-c', 'set -o pipefail; "$0" "$@" | head -c 1; echo "$?" >&2', node, ...args],
  ]
  // Far more than a pipe holds.
  const { stdout, stderr } = await lowrank(['doctor', '--json'], {
    wrap,
    env: { LOWRANK_X: 'x'.repeat(100_000) },
  })
  expect(stdout).toBe('{')
  expect(stderr).toBe('0\n')
})

sweepTest('Ctrl-C where nothing is being made ends a verb at once, with a word for programs', async () => {
  const rows = `${'{"text": "some words to count"}\n'.repeat(500_000)}`
  const { code, stdout, stderr } = await lowrank(
    ['inspect', scratchFile('big.jsonl', rows), '--model', tinyModel(), '--json'],
    {
      watch: signalWhen('SIGINT', ({ stderr: soFar }) => soFar.includes('Reading')),
    },
  )
  expect(code).toBe(130)
  expect(stderr).toContain('interrupted: stopped on request.')
  expect(jsonLines(stdout)).toMatchObject([{ event: 'error', code: 'INTERRUPTED' }])
})

/** Node options by which a process gets a signal while it loads the parser of the command line. */
const signalledEarly = (signal: string) => {
  const hooks = `let sent = false
  export async function load(url, context, next) {
    if (!sent && url.includes('commander')) sent = process.kill(process.pid, '${signal}')
    return next(url, context)
  }`
  const script = `import module from 'node:module'
    module.register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})`
  return preload(script)
}

test.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'])(
  '%s while the program is still being loaded ends it as later',
  async (signal) => {
    needs('SIGSTOP')
    const { code, stdout, stderr } = await lowrank(['strategies', '--json'], { env: signalledEarly(signal) })
    expect({ code, stderr }).toEqual({ code: 130, stderr: 'interrupted: stopped on request.\n' })
    expect(jsonLines(stdout)).toMatchObject([{ event: 'error', code: 'INTERRUPTED' }])
  },
)

/** Node options that change a built-in module before the command line is loaded. */
const preload = (script: string) => ({
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}`,
})

test('a verb that waits for something that never comes is a failure, and says so', async () => {
  const never = preload(
    "import fs from 'node:fs/promises'; import module from 'node:module'; fs.stat = () => new Promise(() => {}); module.syncBuiltinESMExports()",
  )
  const { code, stdout, stderr } = await lowrank(['inspect', tinyModel(), '--json'], { env: never })
  expect(code).toBe(1)
  expect(stderr).toContain('the command ended early')
  expect(jsonLines(stdout)).toMatchObject([{ event: 'error', code: 'INTERNAL' }])
})

test('a download whose requests never settle fails with its message', async () => {
  const hub = await fakeHub()
  // Attempts follow one another at once.
  const silent = preload(
    "globalThis.fetch = () => new Promise(() => {}); import timers from 'node:timers/promises'; import module from 'node:module'; const { setTimeout: sleep } = timers; timers.setTimeout = (ms, ...rest) => sleep(ms / 50, ...rest); module.syncBuiltinESMExports()",
  )
  const env = {
    HF_ENDPOINT: hub.endpoint,
    HF_HOME: scratchFolder(),
    HF_HUB_DOWNLOAD_TIMEOUT: '0.1',
  }
  const { code, stdout } = await lowrank(['inspect', 'acme/tiny', '--json'], { env: { ...env, ...silent } })
  expect(code).toBe(1)
  expect(jsonLines(stdout)).toMatchObject([
    { event: 'error', code: 'HUB', details: { reason: 'unreachable' } },
  ])
})
