/** The recipes run on the demo's model, and docs/recipes.md shows their files and what the commands print. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { bestLine } from '../lib/cli/train-end.js'
import type { RunConfig } from '../lib/train/config/config.js'
import { type Ended, lowrank, printed } from './lib/cli/lowrank.js'
import { scratchFolder } from './lib/scratch.js'
import { sweepTest } from './sweep.js'

const folder = fileURLToPath(new URL('../examples/recipes/', import.meta.url))
const page = readFileSync(new URL('../docs/recipes.md', import.meta.url), 'utf8')
const read = (name: string) => readFileSync(join(folder, name), 'utf8')
const recipes = readdirSync(folder).flatMap((name) => /^(.*)\.yaml$/.exec(name)?.[1] ?? [])

/** The part of the page that shows a recipe's config. */
function sectionOf(recipe: string): string {
  const found = page
    .split(/^## /m)
    .filter((section) => section.includes(`(../examples/recipes/${recipe}.yaml)`))
  expect(found, recipe).toHaveLength(1)
  return found[0] as string
}

const blocksOf = (text: string, language: string) =>
  [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].flatMap(([, name, block = '']) =>
    name === language ? [block] : [],
  )

/** What scripts/transcripts.mjs writes and checks. */
const TRANSCRIPTS = /<!-- (spreadsheet) -->[\s\S]*?<!-- end of \1 -->/g

/** Blocks of the form `$ npx lowrank …` and its output. */
function shownOf(recipe: string): { call: string; output: string }[] {
  return blocksOf(sectionOf(recipe).replace(TRANSCRIPTS, ''), '').flatMap((block) => {
    const [, call, output] = /^\$ npx lowrank (.*)\n([\s\S]*)$/.exec(block) ?? []
    return call === undefined || output === undefined ? [] : [{ call, output }]
  })
}

/** Words of a command line, without the quotes around them. */
const wordsOf = (call: string) => (call.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ''))

const textOf = ({ stdout, stderr }: Ended) => stderr + stdout
const OWN_MODEL = 'SmolLM2'

test('the data is what scripts/recipes.mjs writes', () => {
  const script = fileURLToPath(new URL('../scripts/recipes.mjs', import.meta.url))
  expect(() => execFileSync(process.execPath, [script, '--check'])).not.toThrow()
})

test.each(recipes)('the page shows the config of %s, and some of its rows', (recipe) => {
  const section = sectionOf(recipe)
  const config = read(`${recipe}.yaml`).replace(/^(#.*\n)+\n/, '')
  expect(config).toMatch(/^model: /)
  expect(blocksOf(section, 'yaml')[0]).toBe(config)
  const [, data = ''] = /^ *(?:dataset|path): ([\w-]+\.\w+)/m.exec(config) ?? []
  const rows = read(data).split('\n')
  const shown = [...blocksOf(section, 'json'), ...blocksOf(section, 'text')].join('').trimEnd().split('\n')
  expect(shown.length).toBeGreaterThan(0)
  expect(shown.filter((row) => !rows.includes(row))).toEqual([])
})

/** The output as the page has it, where a line `…` stands for any lines. */
function expectShown(output: string, shown: string): void {
  let rest = output
  for (const part of shown.split(/^…\n/m)) {
    const at = rest.indexOf(part)
    expect(at, `${part}\nis not in what follows:\n${rest}`).toBeGreaterThanOrEqual(0)
    rest = rest.slice(at + part.length)
  }
}

/** Calls whose output is the same on every machine. */
const isStable = (call: string) => call.startsWith('inspect ') && !call.includes(OWN_MODEL)

test.each(recipes)('inspect prints of %s what the page shows', async (recipe) => {
  const shown = shownOf(recipe).filter(({ call }) => isStable(call))
  expect(shown.length).toBeGreaterThan(0)
  for (const { call, output } of shown) {
    const ended = await lowrank(wordsOf(call), { cwd: folder })
    expect(ended.code, ended.stderr).toBe(output.startsWith('error: ') ? 1 : 0)
    expectShown(textOf(ended).replaceAll(folder, ''), output)
  }
})

test('the commands from a spreadsheet to answers print what the page shows', () => {
  const script = fileURLToPath(new URL('../scripts/transcripts.mjs', import.meta.url))
  expect(() => execFileSync(process.execPath, [script, '--check', 'recipes'])).not.toThrow()
})

/** Lines of a run's output that are the same on every machine. */
const STABLE = /^(Training [\d,]+ parameters|[\d,]+ rows?, )/

/** The words that the program writes in a line, with `#` for numbers, which depend on the machine and the model. */
function shapeOf(line: string): string {
  const label = /^ {2}(prompt|expected|base|tuned)\b/.exec(line)?.[0]
  return label ?? line.replace(/\d+(?:[.,]\d+)*/g, '#')
}

const isText = (line: string) => /^(…?$| {3,}|\$ | {2}npx )/.test(line)

/** Fails if the page shows a line whose words the program does not write. */
function expectShapes(shown: string, written: readonly string[]): void {
  const shapes = new Set(written.map(shapeOf))
  const lines = shown.split('\n').filter((line) => !isText(line))
  expect(lines.filter((line) => !shapes.has(shapeOf(line)))).toEqual([])
}

/** The lines about the best step that a longer run may end with. */
function bestLines(metric: string): string[] {
  const best = { step: 1, lastStep: 2, keptStep: 1, metric, value: 1, lastValue: 1 }
  const config = { strategy: { name: 'lora' } } as RunConfig
  return [best, { ...best, keptStep: 2 }].map((report) => bestLine(report, config))
}

for (const recipe of recipes)
  sweepTest(`${recipe}.yaml trains, and its adapter loads`, async () => {
    const out = join(scratchFolder(), 'out')
    const sets = (...pairs: string[]) => pairs.flatMap((pair) => ['--set', pair])
    const config = join(folder, `${recipe}.yaml`)
    const short = recipe === 'private' ? 'strategy.rounds=2' : 'max_steps=2'
    const few = sets(`output_dir=${out}`, 'eval_steps=1', short)
    const trained = await lowrank(['train', config, ...few])
    expect(trained.code, trained.stderr).toBe(0)
    expect(existsSync(join(out, 'adapter_model.safetensors'))).toBe(true)
    const metric = /^metric_for_best_model: (\w+)/m.exec(read(`${recipe}.yaml`))?.[1] ?? 'loss'
    const written = textOf(trained).replaceAll(out, `out/${recipe}`).split('\n')
    for (const { call, output } of shownOf(recipe)) {
      if (call.startsWith('train ')) {
        expectShapes(output, [...written, ...bestLines(metric)])
        if (!call.includes(OWN_MODEL))
          for (const line of output.split('\n').filter((line) => STABLE.test(line)))
            expect(written).toContain(line)
      } else if (/^(eval|plan) /.test(call)) {
        const words = wordsOf(call.replace(/ --set model=\S+/, ''))
        const ended = await lowrank([...words, ...sets(`output_dir=${out}`)], { cwd: folder })
        expectShapes(output, textOf(ended).split('\n'))
      }
    }
    // A classifier writes no text, and pairs have no evaluation of their own.
    if (recipe === 'preference') {
      const [answer] = printed<'generate'>(
        await lowrank([
          'generate',
          config,
          ...sets(`output_dir=${out}`),
          '--json',
          '--max-new-tokens',
          '2',
          '--prompt',
          'Hello',
        ]),
      )
      expect(answer).toHaveProperty('text')
    } else {
      const [found] = printed<'eval'>(await lowrank(['eval', config, ...sets(`output_dir=${out}`), '--json']))
      expect((found as { loss: number }).loss).toBeGreaterThan(0)
    }
  })
