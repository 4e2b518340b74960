/** Files of the user's in the folder of a run: none is overwritten, and all that would be are named at once. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { jsonLines, lowrank, signalWhen } from '../lib/cli/lowrank.js'
import { type Project, project } from './project.js'

const settings = { output_dir: '.', max_steps: 2, sample_rows: 0 }
const ended = async (args: string[]) => {
  const { code, stdout, stderr } = await lowrank([...args, '--json'])
  const [last] = jsonLines(stdout).slice(-1) as [{ event: string; code?: string; message?: string }]
  return { code, stderr, last }
}
const contents = ({ at }: Project, names: readonly string[]) =>
  names.map((name) => readFileSync(at(name), 'utf8'))

test('a run names all files of the user that it would overwrite, before it loads anything', async () => {
  const made = project({ ...settings, dataset: 'metrics.jsonl' })
  const { at, config, folder } = made
  writeFileSync(at('config.yaml'), `# mine\n${readFileSync(config, 'utf8')}`)
  writeFileSync(at('metrics.jsonl'), readFileSync(at('train.jsonl')))
  writeFileSync(at('report.html'), '<p>mine</p>')
  writeFileSync(at('lowrank.json'), '{"mine": true}')
  const mine = ['metrics.jsonl', 'config.yaml', 'report.html', 'lowrank.json']
  const before = contents(made, mine)
  const there = readdirSync(folder).sort()
  const refused = await ended(['train', at('config.yaml')])
  expect(refused.code).toBe(2)
  expect(refused.last).toMatchObject({ event: 'error', code: 'CONFIG', details: { files: mine } })
  expect(refused.last.message).toContain(
    'has metrics.jsonl, config.yaml, report.html and lowrank.json, which the run would overwrite',
  )
  expect(refused.last.message).toContain('--force')
  expect(refused.stderr).not.toContain('Loading')
  expect(contents(made, mine)).toEqual(before)
  expect(readdirSync(folder).sort()).toEqual(there)

  const forced = await ended(['train', config, '--set', 'dataset=train.jsonl', '--force'])
  expect(forced).toMatchObject({ code: 0 })
  expect(readFileSync(at('report.html'), 'utf8')).not.toContain('mine')
})

test('what runs wrote is replaced as before, and what was edited since is not', async () => {
  const made = project({ ...settings, output_dir: 'out', max_steps: 100_000 })
  const { at, config } = made
  const stopped = async (...more: string[]) =>
    lowrank(['train', config, '--json', ...more], {
      watch: signalWhen('SIGINT', ({ stdout }) => stdout.includes('"event":"step"')),
    })
  expect(await stopped()).toMatchObject({ code: 130 })
  for (const name of readdirSync(at('out')).filter((name) => name.startsWith('checkpoint-')))
    rmSync(at('out', name), { recursive: true })
  // A run that left no result is replaced without a word.
  expect(await stopped('--set', 'learning_rate=1e-3')).toMatchObject({ code: 130 })
  expect(await stopped('--set', 'learning_rate=1e-3', '--resume')).toMatchObject({ code: 130 })
  expect(await stopped('--set', 'learning_rate=1e-3', '--resume')).toMatchObject({ code: 130 })

  writeFileSync(at('out', 'config.yaml'), `# kept\n${readFileSync(at('out', 'config.yaml'), 'utf8')}`)
  const refused = await ended(['train', at('out', 'config.yaml'), '--resume'])
  expect(refused.last.message).toContain('has config.yaml, which the run would overwrite')
  expect(readFileSync(at('out', 'config.yaml'), 'utf8')).toMatch(/^# kept\n/)
})

test('a folder in the place of a file is one error with a code', async () => {
  const { at, config } = project({ ...settings, output_dir: 'out' })
  mkdirSync(at('out', 'metrics.jsonl'), { recursive: true })
  expect((await ended(['train', config])).last).toMatchObject({ code: 'CONFIG' })
  const forced = await ended(['train', config, '--force'])
  expect(forced.last).toMatchObject({ code: 'WRITE' })
  expect(forced.last.message).toContain('a folder stands in its place')
})

test('a compare names foreign files in the places of its own', async () => {
  const { at, config } = project({ ...settings, output_dir: 'out', eval_dataset: 'dev.jsonl' })
  mkdirSync(at('out-compare'))
  writeFileSync(at('out-compare', 'results.json'), '{"mine": 1}')
  writeFileSync(at('out-compare', 'compare.html'), 'mine')
  const refused = await ended(['compare', config, '--strategies', 'lora'])
  expect(refused.last).toMatchObject({ event: 'error', code: 'CONFIG' })
  expect(refused.last.message).toMatch(/results\.json and \S+compare\.html would be overwritten/)
  expect(readFileSync(at('out-compare', 'results.json'), 'utf8')).toBe('{"mine": 1}')
})

test('what a killed merge or export left beside its place is removed by the next', async () => {
  const { at, model } = project()
  // A process that has ended, on this machine.
  const dying = `import { temporaryBeside } from '${new URL('../../dist/esm/io/temporary.js', import.meta.url)}'
    import { mkdirSync, writeFileSync } from 'node:fs'
    mkdirSync(temporaryBeside(process.argv[1])); writeFileSync(temporaryBeside(process.argv[1]), 'half')`
  const { spawnSync } = await import('node:child_process')
  const left = () => readdirSync(at('exports')).filter((name) => name.endsWith('.tmp'))
  mkdirSync(at('exports'))
  for (const args of [
    ['merge', '--model', model, '--output', at('exports', 'merged')],
    ['export', '--format', 'gguf', '--model', model, '--output', at('exports', 'model.gguf')],
  ]) {
    spawnSync(process.execPath, ['--input-type=module', '-e', dying, at('exports', 'merged')])
    writeFileSync(at('exports', 'mine.tmp'), 'mine')
    expect(left()).toHaveLength(3)
    expect(await lowrank([...args, '--no-check'])).toMatchObject({ code: 0 })
    expect(left()).toEqual(['mine.tmp'])
    expect(existsSync(args.at(-1) as string)).toBe(true)
  }
})
