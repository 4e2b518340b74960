/** `lowrank mcp` from data to an exported model, and against clients that ask for what they may not have. */
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ElicitRequestSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, describe, expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { scratchFolder } from '../lib/scratch.js'
import { rowsOf } from '../lib/serve/service.js'
import { type Answer, type Asked, BUDGET, begun, main, SMALL, workplace } from './mcp.js'

/** Prints to stdout again and again once the server is there, as a careless library does. */
const NOISE = `data:text/javascript,${encodeURIComponent(`
  const { write } = process.stdout
  const print = () => {
    if (process.stdout.write === write) return
    console.log('noise of console.log')
    process.stdout.write('noise')
  }
  setInterval(print, 200).unref()
`)}`

const open = new Set<Asked>()
afterEach(async () => {
  for (const { client } of open) await client.close()
  open.clear()
})

async function asked(...args: Parameters<typeof begun>): Promise<Asked> {
  const one = await begun(...args)
  open.add(one)
  return one
}

describe('lowrank mcp', () => {
  test('trains from data to an exported model', async () => {
    const folder = workplace()
    const { call, client } = await asked(folder)
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name).sort()).toEqual([
      'ask',
      'compare',
      'export',
      'inspect',
      'plan',
      'status',
      'stop',
      'train',
    ])
    expect(JSON.stringify(tools).length).toBeLessThan(24_000)
    const run = { model: 'base', dataset: 'rows.jsonl', config: { ...SMALL, eval_fraction: 0.2 } }

    const rows = await call('inspect', { model: 'base', dataset: 'rows.jsonl' })
    expect(rows).toMatchObject({ trainable: true, rows: 40, duplicates: 0, problems: [] })
    expect(rows.examples[0]).toContain('[[')

    const plan = await call('plan', run)
    expect(plan.fits).toBe(true)
    expect(plan.rows.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0)).toBe(
      plan.peak_bytes,
    )

    const before = await call('ask', { model: 'base', prompt: 'Say the number 7', max_new_tokens: 8 })
    const { job, planned_bytes, output } = await call('train', { ...run, budget: BUDGET })
    expect(planned_bytes).toBe(plan.process_bytes)
    const told: number[] = []
    const ended = await call(
      'status',
      { job, wait: 60 },
      { onprogress: ({ progress }: { progress: number }) => told.push(progress) },
    )
    expect(ended).toMatchObject({ job, state: 'succeeded', code: null })
    expect(ended.step).toBe(ended.total_steps)
    expect(ended.eval_loss).toBeGreaterThan(0)
    expect(told.length).toBeGreaterThan(0)
    expect(told).toEqual([...new Set(told)].sort((a, b) => a - b))
    expect(ended.samples).toHaveLength(3)
    expect(existsSync(join(output, 'adapter_model.safetensors'))).toBe(true)

    const after = await call('ask', { job, prompt: 'Say the number 7', max_new_tokens: 8 })
    expect(after.text).not.toBe(before.text)
    expect(after.text).toContain('Number')

    const written = await call('export', { job, format: 'gguf-lora', output: 'adapter.gguf' })
    expect(written.deviation).toBeLessThan(1e-3)
    expect(readFileSync(join(folder, 'adapter.gguf')).toString('latin1', 0, 4)).toBe('GGUF')

    const read = async (name: string) =>
      ((await client.readResource({ uri: `lowrank://jobs/${job}/${name}` })).contents[0] as { text: string })
        .text
    expect(JSON.parse(await read('receipt'))).toMatchObject({ id: job, state: 'succeeded' })
    expect((await read('metrics')).split('\n')).toHaveLength(ended.step + 2)
    expect(await read('curve')).toContain('<svg')
    expect((await client.listResources()).resources).toHaveLength(3)
    const prompt = await client.getPrompt({ name: 'fine-tune', arguments: { dataset: 'rows.jsonl' } })
    expect(JSON.stringify(prompt.messages)).toContain('rows.jsonl')
  })

  test('refuses paths outside, links, and what is no file', async () => {
    const folder = workplace(8)
    const outside = scratchFolder()
    writeFileSync(join(outside, 'secret.jsonl'), rowsOf(2))
    symlinkSync(join(outside, 'secret.jsonl'), join(folder, 'link.jsonl'))
    symlinkSync(outside, join(folder, 'away'))
    mkdirSync(join(folder, 'mixed'))
    symlinkSync(join(outside, 'secret.jsonl'), join(folder, 'mixed', 'in.jsonl'))
    execFileSync('mkfifo', [join(folder, 'pipe.jsonl')])
    const { refused, call } = await asked(folder)
    const paths = {
      '../secret.jsonl': 'without ".."',
      [`${folder}/../${basename(outside)}/secret.jsonl`]: 'without ".."',
      [join(outside, 'secret.jsonl')]: 'outside of the folders',
      [`${folder}-other/rows.jsonl`]: 'outside of the folders',
      '/etc/passwd': 'outside of the folders',
      '/dev/zero': 'outside of the folders',
      'link.jsonl': 'a link',
      'away/secret.jsonl': 'a link',
      mixed: 'has in.jsonl, a link out of it',
      'pipe.jsonl': 'a pipe',
      'rows.jsonl\0': 'expected a path',
      '-': 'there is nothing at -',
      '*.jsonl': 'there is nothing at',
      '': 'expected a path',
    }
    for (const [dataset, why] of Object.entries(paths)) {
      const said = await refused('inspect', { dataset })
      expect(said, dataset).toContain(why)
      expect(said).not.toContain('secret.jsonl, to')
    }
    for (const model of ['/etc', 'away', 'HuggingFaceTB/SmolLM2-135M-Instruct'])
      await refused('plan', { model })
    expect(await refused('plan', { model: 'HuggingFaceTB/SmolLM2-135M-Instruct' })).toContain('--hub')
    const run = { model: 'base', dataset: 'rows.jsonl', budget: BUDGET }
    for (const config of [
      { output_dir: outside },
      { dataset: '/etc/passwd' },
      { model: outside },
      { reward_functions: '/tmp/rewards.mjs' },
      { chat_template: '/etc/passwd.jinja' },
      { no_such_key: 1 },
    ])
      await refused('train', { ...run, config })
    for (const output of ['../out.gguf', join(outside, 'out.gguf'), 'away/out.gguf'])
      expect(await refused('export', { job: 'job-x', format: 'gguf', output })).toMatch(/output: /)
    expect(await refused('export', { job: 'job-x', format: 'gguf', output: 'rows.jsonl' })).toContain(
      'there already',
    )
    for (const job of ['job-x', '../../etc', `job-${'A'.repeat(24)}`])
      expect(await refused('status', { job })).toContain(`there is no job ${job}`)
    await expect(call('status', {})).rejects.toThrow('there is no job yet')
    expect(readdirSync(outside)).toEqual(['secret.jsonl'])
  })

  test('refuses wrong types, unknown arguments, and what no budget covers', async () => {
    const folder = workplace(8)
    const { refused } = await asked(folder)
    const run = { model: 'base', dataset: 'rows.jsonl', config: SMALL }
    for (const [name, args] of [
      ['plan', { model: 7 }],
      ['plan', { ...run, config: 'lora' }],
      ['plan', { ...run, surprise: true }],
      ['inspect', {}],
      ['ask', { model: 'base', prompt: 'x', max_new_tokens: 1e9 }],
      ['ask', { model: 'base', prompt: 'x', temperature: -1 }],
      ['status', { wait: Number.MAX_VALUE }],
      ['train', { ...run, budget: { minutes: 1e300, memory: '4GiB' } }],
      ['train', { ...run, budget: { minutes: -1, memory: '4GiB' } }],
      ['train', { ...run, budget: { minutes: 5, memory: 'all' } }],
      ['train', { ...run, budget: { minutes: 5, memory: '1e999GiB' } }],
      ['train', { ...run, budget: { minutes: 5 } }],
      ['compare', run],
    ] as const)
      await refused(name, args)
    expect(await refused('train', run)).toMatch(/the plan needs .* pass budget/)
    expect(await refused('train', { ...run, budget: { minutes: 5, memory: '1MiB' } })).toContain(
      'over the budget of 1MiB',
    )
    const large = { ...run, config: { ...SMALL, max_seq_length: 8192, per_device_train_batch_size: 4096 } }
    expect(await refused('train', { ...large, budget: { minutes: 5, memory: '900000GiB' } })).toContain(
      'are available',
    )
    expect(existsSync(join(folder, 'lowrank-mcp'))).toBe(false)
  })

  test('asks the user where the client can, and takes nothing but a yes', async () => {
    const folder = workplace(8)
    const answers: object[] = [
      { action: 'decline' },
      { action: 'cancel' },
      { action: 'accept', content: { start: false } },
      { action: 'accept', content: { start: true } },
    ]
    const asks: string[] = []
    const { call, refused } = await asked(folder, {
      capabilities: { elicitation: { form: {} }, roots: {} },
      prepare: (client) => {
        client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
          asks.push(params.message)
          return answers.shift() as never
        })
        // A root that is wider than what the start allows.
        client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: 'file:///' }] }))
      },
    })
    expect(await refused('inspect', { dataset: '/etc/passwd' })).toContain('outside of the folders')
    const run = { model: 'base', dataset: 'rows.jsonl', config: { ...SMALL, max_steps: 2, sample_rows: 0 } }
    for (let no = 0; no < 3; no++) expect(await refused('train', run)).toContain('did not agree')
    expect(existsSync(join(folder, 'lowrank-mcp'))).toBe(false)
    const { job } = await call('train', run)
    expect(await call('status', { job, wait: 60 })).toMatchObject({ state: 'succeeded', step: 2 })
    expect(asks).toHaveLength(4)
    expect(asks[0]).toMatch(/^Train with [\d.]+ MiB of memory and a time that is not known\?$/)
  })

  test('keeps to the roots of the client', async () => {
    const folder = workplace(8)
    mkdirSync(join(folder, 'inner'))
    writeFileSync(join(folder, 'inner', 'rows.jsonl'), rowsOf(2))
    const { call, refused } = await asked(folder, {
      capabilities: { roots: {} },
      prepare: (client) =>
        client.setRequestHandler(ListRootsRequestSchema, () => ({
          roots: [{ uri: pathToFileURL(join(folder, 'inner')).href }, { uri: 'file:///etc' }],
        })),
    })
    expect(await call('inspect', { dataset: 'inner/rows.jsonl' })).toMatchObject({ rows: 2 })
    expect(await refused('inspect', { dataset: 'rows.jsonl' })).toContain('outside of the folders')
    expect(await refused('inspect', { dataset: '/etc/passwd' })).toContain('outside of the folders')
  })

  test('tells what is wrong with data, and why a job failed', async () => {
    const folder = workplace(8)
    writeFileSync(join(folder, 'bad.jsonl'), `${rowsOf(3)}{"messages": 7}\n`)
    const { call } = await asked(folder)
    const data = await call('inspect', { dataset: 'bad.jsonl' })
    expect(data.trainable).toBe(false)
    expect(data.problems[0]).toContain('line 4')
    const { job } = await call('train', {
      model: 'base',
      dataset: 'bad.jsonl',
      config: SMALL,
      budget: BUDGET,
    })
    const ended = await call('status', { job, wait: 60 })
    expect(ended).toMatchObject({ state: 'failed', code: 'DATA' })
    expect(ended.message).toContain('line 4')
  })

  test('stops a job, answers meanwhile, and goes on with the same bits after its end', async () => {
    const folder = workplace()
    const config = { ...SMALL, num_train_epochs: 8, sample_rows: 0, seed: 5 }
    const run = { model: 'base', dataset: 'rows.jsonl', config, budget: BUDGET }
    const first = await asked(folder)
    const whole = await first.call('train', run)
    const second = await first.call('train', run)
    expect(await first.call('status', { job: second.job })).toMatchObject({ state: 'queued' })
    const bits = (output: string) =>
      createHash('sha256')
        .update(readFileSync(join(output, 'adapter_model.safetensors')))
        .digest('hex')
    expect(await first.call('status', { job: whole.job, wait: 60 })).toMatchObject({ state: 'succeeded' })
    await begunToTrain(first, second.job)
    const answer = await first.call('ask', { job: second.job, prompt: 'Say the number 7', max_new_tokens: 4 })
    expect(answer.step).toBeGreaterThan(0)
    expect(await first.call('stop', { job: second.job })).toMatchObject({ state: 'stopped' })
    expect(await first.refused('stop', { job: second.job })).toContain('stopped')
    const half = await first.call('ask', { job: second.job, prompt: 'Say the number 7', max_new_tokens: 4 })
    expect(half.step).toBeNull()

    await first.call('train', { job: second.job, budget: BUDGET })
    await begunToTrain(first, second.job)
    const { pid } = first.transport
    // What the client does when its user leaves.
    await first.client.close()
    open.delete(first)
    expect(() => process.kill(pid as number, 0)).toThrow('ESRCH')

    const later = await asked(folder)
    const found = await later.call('status', {})
    expect(found).toMatchObject({ job: second.job, state: 'stopped', message: 'its server was ended.' })
    expect(found.step).toBeGreaterThan(0)
    expect(await later.refused('train', { job: whole.job, budget: BUDGET })).toContain('succeeded')
    await later.call('train', { job: second.job, budget: BUDGET })
    const ended = await later.call('status', { job: second.job, wait: 60 })
    expect(ended).toMatchObject({ state: 'succeeded', step: 160 })
    expect(bits(ended.output)).toBe(bits(whole.output))
  })

  test('goes on after a kill, and stops a job at the end of its minutes', async () => {
    const folder = workplace()
    const config = { ...SMALL, num_train_epochs: 200, save_steps: 5 }
    const first = await asked(folder)
    const run = { model: 'base', dataset: 'rows.jsonl', config }
    const { job } = await first.call('train', { ...run, budget: BUDGET })
    await begunToTrain(first, job, 10)
    process.kill(first.transport.pid as number, 'SIGKILL')
    open.delete(first)
    const later = await asked(folder)
    const found = await later.call('status', { job })
    expect(found).toMatchObject({ state: 'stopped', message: 'its server was ended before it was done' })
    expect(found.step).toBeGreaterThanOrEqual(10)
    await later.call('train', { job, budget: { ...BUDGET, minutes: 0.05 } })
    const ended = await later.call('status', { job, wait: 60 })
    expect(ended).toMatchObject({ state: 'stopped', message: 'it has used its 0.05 minutes.' })
  })

  test('compares strategies as a job', { timeout: 180_000 }, async () => {
    const folder = workplace()
    const { call } = await asked(folder)
    const { job } = await call('compare', {
      ...{ model: 'base', dataset: 'rows.jsonl', config: { ...SMALL, max_steps: 4 } },
      ...{ strategies: ['lora', 'dora'], seeds: 1, budget: BUDGET },
    })
    const ended = await call('status', { job, wait: 120 }, { timeout: 150_000 })
    expect(ended).toMatchObject({ kind: 'compare', state: 'succeeded' })
    expect(ended.table).toContain('dora')
  })

  test('writes nothing but the protocol to stdout, and ends when stdin does', async () => {
    const folder = workplace(8)
    const child = spawn(process.execPath, ['--import', NOISE, main, 'mcp', '--allow', folder], {
      env: { ...process.env, LOWRANK_DEBUG: '1' },
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (bytes) => {
      stdout += bytes
    })
    child.stderr.on('data', (bytes) => {
      stderr += bytes
    })
    const messages = () =>
      stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Answer)
    const send = (message: object) => child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
    const answered = (id: number) =>
      expect.poll(() => messages().some((one) => one.id === id), { timeout: 50_000 })
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'raw', version: '1' },
    }
    send({ id: 1, method: 'initialize', params })
    await answered(1).toBe(true)
    send({ method: 'notifications/initialized' })
    child.stdin.write('this is no message\n')
    const tool = (id: number, name: string, args: object) =>
      send({ id, method: 'tools/call', params: { name, arguments: args, _meta: { progressToken: id } } })
    tool(2, 'plan', { model: 'base' })
    tool(3, 'inspect', { model: 'base', dataset: 'rows.jsonl' })
    const config = { ...SMALL, max_steps: 100_000 }
    tool(4, 'train', { model: 'base', dataset: 'rows.jsonl', config, budget: BUDGET })
    await answered(4).toBe(true)
    // The job has something to save once it has made a step.
    let id = 4
    const step = async () => {
      tool(++id, 'status', { wait: 1 })
      await answered(id).toBe(true)
      return messages().find((one) => one.id === id)?.result?.structuredContent?.step
    }
    await expect.poll(step, { timeout: 50_000 }).toBeGreaterThan(0)
    const exit = new Promise((resolve) => child.once('exit', resolve))
    const from = performance.now()
    child.stdin.end()
    expect(await exit).toBe(0)
    expect(performance.now() - from).toBeLessThan(20_000)
    expect(messages().length).toBeGreaterThan(5)
    for (const message of messages()) expect(message.jsonrpc).toBe('2.0')
    expect(stderr).toContain('noise of console.log')
    const [record] = readdirSync(join(folder, 'lowrank-mcp', 'jobs'))
    const job = JSON.parse(
      readFileSync(join(folder, 'lowrank-mcp', 'jobs', record as string, 'job.json'), 'utf8'),
    )
    expect(job).toMatchObject({ state: 'stopped', message: 'its server was ended.' })
    expect(readdirSync(join(folder, 'lowrank-mcp', 'jobs', record as string, 'run')).join()).toMatch(
      /checkpoint-\d+/,
    )
  })

  test('says how to start it', async () => {
    expect((await lowrank(['mcp'])).stderr).toContain('name at least one folder')
    expect((await lowrank(['mcp', '--allow', '/no/such/folder'])).stderr).toContain('expected a folder')
  })
})

/** Waits until a job has made some steps. */
async function begunToTrain({ call }: Asked, job: string, steps = 1): Promise<void> {
  await expect
    .poll(async () => (await call('status', { job })).step, { timeout: 50_000 })
    .toBeGreaterThanOrEqual(steps)
  await expect.poll(async () => (await call('status', { job })).state, { timeout: 50_000 }).toBe('running')
}
