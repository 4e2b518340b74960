import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { LOSSES } from '../../../lib/losses/index.js'
import { taskShape } from '../../../lib/options/task.js'
import { ALL_TASKS, taskOfForm, taskOptions, taskRules } from '../../../lib/tasks/index.js'
import { METRICS } from '../../../lib/tasks/metrics.js'

const lib = resolve(import.meta.dirname, '../../../lib')
const NAMES: ReadonlySet<string> = new Set([...ALL_TASKS, ...LOSSES].map(({ name }) => name))

/** Places where a source compares the name of a task or a loss, or has a table by their names. */
function namesCompared(text: string, file: string): string[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found: string[] = []
  const isName = (node: ts.Node): boolean => ts.isStringLiteral(node) && NAMES.has(node.text)
  const compared = (node: ts.Node) => {
    if (!isName(node)) return
    const { line } = source.getLineAndCharacterOfPosition(node.getStart())
    found.push(`${file}:${line + 1}: ${node.parent.getText().split('\n', 1)[0]}`)
  }
  const visit = (node: ts.Node): void => {
    if (ts.isBinaryExpression(node) && /^[!=]==?$/.test(node.operatorToken.getText())) {
      compared(node.left)
      compared(node.right)
    }
    if (ts.isCaseClause(node)) compared(node.expression)
    if (ts.isCallExpression(node) && /\.(?:includes|has|startsWith)$/.test(node.expression.getText()))
      for (const argument of node.arguments) compared(argument)
    if (ts.isObjectLiteralExpression(node)) {
      const keys = node.properties.flatMap(({ name }) => (name ? [name.getText()] : []))
      const names = keys.filter((key) => NAMES.has(key))
      if (names.length > 1) found.push(`${file}: a table of ${names.join(', ')}`)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

test('no file but those of tasks and losses compares their names', () => {
  const files = readdirSync(lib, { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => /\.ts$/.test(file) && !/^(?:tasks|losses)\//.test(file))
  expect(files.length).toBeGreaterThan(400)
  const found = files.flatMap((file) => namesCompared(readFileSync(join(lib, file), 'utf8'), file))
  expect(found).toEqual([])
})

test('a comparison of a name is found', () => {
  const lines = [
    "if (task === 'kto') a()",
    "if ('dpo' !== loss.name) a()",
    "switch (task) { case 'grpo': a() }",
    "if (['dpo'].concat(x).includes('orpo')) a()",
    'const own = { dpo: 1, kto: 2 }',
    "if (task === 'classification') a()",
  ]
  for (const line of lines) expect(namesCompared(line, 'a.ts'), line).toHaveLength(1)
  expect(namesCompared("const task = 'kto'", 'a.ts')).toEqual([])
})

test.each(ALL_TASKS.map((rules) => [rules.name, rules] as const))('%s is whole', (name, rules) => {
  expect(taskRules(name)).toBe(rules)
  expect(METRICS).toEqual(expect.arrayContaining([...rules.evaluation.metrics]))
  for (const [key, { schema, default: value }] of Object.entries(rules.options)) {
    expect(taskShape).toHaveProperty(key)
    if (value !== undefined) expect(schema.safeParse(value).success, key).toBe(true)
  }
  for (const { key, expected } of rules.refuses) expect(expected, key).toContain(`task ${name}`)
  if (rules.rows.form !== null) expect(taskRules(taskOfForm(rules.rows.form)).rows.form).toBe(rules.rows.form)
  if (rules.loss === undefined) return
  const loss = LOSSES.find((one) => one.name === rules.loss?.({})?.name)
  expect(loss?.paired).toBe(rules.rows.paired)
})

test('a key of several tasks means to each what its record states', () => {
  expect(taskShape.lossType.safeParse('ipo').success).toBe(true)
  expect(taskShape.lossType.safeParse('dr_grpo').success).toBe(true)
  expect(taskOptions({ task: 'kto', beta: 0.4 })).toEqual({
    ...{ beta: 0.4, desirableWeight: 1, undesirableWeight: 1 },
  })
  expect(taskRules('kto').loss?.({ beta: 0.4, kl: null })).toEqual({
    ...{ name: 'kto', beta: 0.4, desirableWeight: 1, undesirableWeight: 1 },
  })
  expect(taskShape.beta.description).toBe(
    "`dpo`, `kto`: strength of the pull toward the reference. Default: 0.1. `orpo`: weight of the odds ratio, the paper's lambda. Default: 0.1.",
  )
})
