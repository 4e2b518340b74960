/**
 * The Electron example under Node.js: its worker in a process that `fork` starts, and all of it with a stand-in for Electron.
 */

import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { packageRoot } from '../lib/core/root.js'
import { project } from './e2e/project.js'
import { symbolicLink } from './needs.js'
import { sweepTest } from './sweep.js'

interface Message {
  type: string
  [key: string]: unknown
}

const workers: ChildProcess[] = []
afterEach(() => {
  for (const worker of workers.splice(0)) worker.kill('SIGKILL')
})

/** An app's folder: the example with the package installed. */
function app() {
  const { model, at } = project()
  const folder = at('app')
  cpSync(`${packageRoot}/examples/electron`, folder, { recursive: true })
  mkdirSync(`${folder}/node_modules`)
  symbolicLink(packageRoot, `${folder}/node_modules/lowrank`)
  const job = {
    ...{ type: 'train', model, data: at('train.jsonl'), output: at('out'), resume: false, threads: 1 },
    options: { maxSteps: 8, perDeviceTrainBatchSize: 2, maxSeqLength: 96, seed: 1 },
  }
  return { at, job, worker: `${folder}/worker.mjs` }
}

function start(file: string) {
  const worker = fork(file, { execArgv: [] })
  workers.push(worker)
  const seen: Message[] = []
  worker.on('message', (message) => seen.push(message as Message))
  /** Waits for a message of the type; returns it and removes it with all before it. */
  const until = async (type: string): Promise<Message> => {
    for (;;) {
      const at = seen.findIndex((message) => message.type === type)
      if (at >= 0) return seen.splice(0, at + 1).at(-1) as Message
      if (worker.exitCode !== null) throw new Error(`the worker ended with ${worker.exitCode}`)
      await sleep(5)
    }
  }
  return { worker, seen, tell: (message: Message) => worker.send(message), until }
}

/** Processor time of a process so far, in clock ticks of 10 ms (proc(5), stat). */
function ticks({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}

test('trains, pauses without a step or work, and continues to the numbers of a run that was not paused', async () => {
  const { at, job, worker } = app()
  const paused = start(worker)
  paused.tell(job)
  expect(await paused.until('plan')).toMatchObject({ peakBytes: expect.any(Number) })
  await paused.until('step')
  paused.tell({ type: 'pause' })
  await paused.until('paused')
  const from = ticks(paused.worker)
  await sleep(1000)
  expect(paused.seen).toEqual([])
  expect(ticks(paused.worker) - from).toBeLessThan(20)
  paused.tell({ type: 'continue' })
  expect(await paused.until('done')).toEqual({ type: 'done', output: at('out') })

  const straight = start(worker)
  straight.tell({ ...job, output: at('straight') })
  await straight.until('done')
  expect(readFileSync(at('out', 'adapter_model.safetensors'))).toEqual(
    readFileSync(at('straight', 'adapter_model.safetensors')),
  )
})

sweepTest('a paused run that is canceled has saved a checkpoint, from which the next goes on', async () => {
  const { job, worker } = app()
  const first = start(worker)
  first.tell(job)
  await first.until('step')
  first.tell({ type: 'pause' })
  const { step } = await first.until('paused')
  first.tell({ type: 'cancel' })
  expect((await first.until('canceled')).checkpoint).toMatch(new RegExp(`checkpoint-${step}$`))

  const second = start(worker)
  second.tell({ ...job, resume: true })
  expect(await second.until('step')).toMatchObject({ step: Number(step) + 1, totalSteps: 8 })
  await second.until('done')
})

test('an error is told with its code', async () => {
  const { job, worker } = app()
  const { tell, until } = start(worker)
  tell({ ...job, data: 'nowhere.jsonl' })
  expect(await until('error')).toEqual({
    ...{ type: 'error', code: 'FILE_FORMAT' },
    message: 'nowhere.jsonl does not exist',
  })
})

describe('the whole app', () => {
  /** Runs it with a user (test/electron/user.mjs). */
  function use(
    folder: { at: (...names: string[]) => string; job: { model: string; data: string } },
    how: string,
  ) {
    const electron = folder.at('app', 'node_modules', 'electron')
    mkdirSync(electron, { recursive: true })
    cpSync('test/electron/stand-in.cjs', `${electron}/index.cjs`)
    writeFileSync(`${electron}/package.json`, '{ "name": "electron", "main": "index.cjs" }')
    const { model, data } = folder.job
    return spawnSync(process.execPath, ['test/electron/user.mjs', folder.at('app'), how], {
      encoding: 'utf8',
      env: {
        ...process.env,
        STAND_IN_FOLDER: folder.at('user'),
        STAND_IN_MODELS: model,
        STAND_IN_DATA: data,
      },
    })
  }

  sweepTest('shows progress in the window, and pauses within 100 ms', () => {
    const { status, stdout, stderr } = use(app(), 'pause')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const seen = JSON.parse(stdout)
    // A busy machine may be slow to answer once.
    expect(Math.min(...seen.pauses)).toBeLessThan(100)
    expect(seen).toMatchObject({ moved: 0, label: 'Continue' })
    expect(seen.status).toMatch(/^The adapter is in .*adapter\.$/)
    expect(seen.progress.value).toBe(seen.progress.max)
  })

  sweepTest('quits after it has saved a checkpoint, from which the next start goes on', () => {
    const folder = app()
    expect(use(folder, 'quit')).toMatchObject({ status: 0, stderr: '' })
    expect(readdirSync(folder.at('user', 'adapter')).some((name) => name.startsWith('checkpoint-'))).toBe(
      true,
    )
    expect(use(folder, 'resume')).toMatchObject({ status: 0, stderr: '' })
  })

  test('keeps its addon out of the archive when it is packaged', () => {
    const { build } = JSON.parse(readFileSync('examples/electron/package.json', 'utf8'))
    const packages = ['lowrank', '@lowrank']
    expect(build.asarUnpack).toEqual(packages.map((name) => `**/node_modules/${name}/**`))
    const guide = readFileSync('docs/electron.md', 'utf8')
    for (const pattern of build.asarUnpack) expect(guide).toContain(`'${pattern}'`)
  })
})
