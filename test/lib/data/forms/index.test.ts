import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { COLUMN_NAMES, columnMeaning } from '../../../../lib/data/dataset/columns.js'
import { detectFormat, readRow } from '../../../../lib/data/dataset/read-row.js'
import { ALL_FORMS, DATASET_FORMATS, formOf } from '../../../../lib/data/forms/index.js'

const lib = resolve(import.meta.dirname, '../../../../lib')
const NAMES: ReadonlySet<string> = new Set(DATASET_FORMATS)
const place = { path: 'rows.jsonl', line: 7 }

/** Places where a source compares the format of rows with a name, or has a table by such names. */
function namesCompared(text: string, file: string): string[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found: string[] = []
  const compared = (node: ts.Node, with_: ts.Node) => {
    // Other things have names such as `text`.
    if (!ts.isStringLiteral(node) || !NAMES.has(node.text) || !/format$/i.test(with_.getText())) return
    const { line } = source.getLineAndCharacterOfPosition(node.getStart())
    found.push(`${file}:${line + 1}: ${node.parent.getText().split('\n', 1)[0]}`)
  }
  const visit = (node: ts.Node): void => {
    if (ts.isBinaryExpression(node) && /^[!=]==?$/.test(node.operatorToken.getText())) {
      compared(node.left, node.right)
      compared(node.right, node.left)
    }
    if (ts.isCaseClause(node)) compared(node.expression, node.parent.parent.expression)
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { expression: asked, name } = node.expression
      if (/^(?:includes|has)$/.test(name.text))
        for (const argument of node.arguments) {
          compared(argument, asked)
          if (ts.isArrayLiteralExpression(asked)) for (const one of asked.elements) compared(one, argument)
        }
    }
    if (ts.isObjectLiteralExpression(node)) {
      const keys = node.properties.flatMap((one) => (one.name ? [one.name.getText()] : []))
      const names = keys.filter((key) => NAMES.has(key))
      // Chats and options have keys such as `messages` and `text`.
      if (names.length > 1 && !names.every((key) => /^(?:messages|text)$/.test(key)))
        found.push(`${file}: a table of ${names.join(', ')}`)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

test('no file but those of forms compares their names', () => {
  const files = readdirSync(lib, { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => /\.ts$/.test(file) && !file.startsWith('data/forms/'))
  expect(files.length).toBeGreaterThan(400)
  const found = files.flatMap((file) => namesCompared(readFileSync(join(lib, file), 'utf8'), file))
  expect(found).toEqual([])
})

test('a comparison of a name is found', () => {
  const lines = [
    "if (row.format === 'alpaca') a()",
    "if ('text' !== detected.format) a()",
    "switch (format) { case 'messages': a() }",
    "if (['preference', 'x'].includes(row.format)) a()",
    'const own = { messages: 1, sharegpt: 2 }',
  ]
  for (const line of lines) expect(namesCompared(line, 'a.ts'), line).toHaveLength(1)
  for (const line of ["if (fileType === 'text') a()", "const row = { format: 'messages' }"])
    expect(namesCompared(line, 'a.ts'), line).toEqual([])
})

test('forms are in the order of their precedence, which no two share', () => {
  const order = ALL_FORMS.map(({ precedence }) => precedence)
  expect(order).toEqual([...new Set(order)].sort((a, b) => a - b))
})

test.each(ALL_FORMS.map((form) => [form.name, form] as const))('%s is whole', (name, form) => {
  expect(formOf(name)).toBe(form)
  expect(COLUMN_NAMES).toEqual(expect.arrayContaining(Object.keys({ ...form.columns, ...form.optional })))
  for (const column of Object.keys(form.columns))
    expect(form.expected).toContain(`"${column}": …`.slice(0, -1))
  const rules = form.rows ?? {}
  if ('answers' in rules || form.rows === undefined) return
  // A row is at least one of these to the encoder.
  expect(['chat', 'plain', 'classified'].filter((key) => key in rules)).not.toEqual([])
})

test('a row with the columns of several forms is of the first', () => {
  const chat = [{ role: 'user', content: 'a' }]
  expect(detectFormat({ text: 'a', messages: chat, conversations: chat }, place)).toBe('messages')
  expect(detectFormat({ text: 'a', prompt: 'b', completion: 'c' }, place)).toBe('prompt_completion')
  expect(() => detectFormat({ prompt: 'a', completion: 'b', label: true }, place)).toThrow('set task: kto')
})

test('a pair of answers is advised on, in any other form', () => {
  const read = (value: Record<string, unknown>) => readRow(value, formOf('alpaca'), {}, place)
  expect(() => read({ prompt: 'a', chosen: 'b', rejected: 'c' })).toThrow('set task: dpo or task: orpo')
  expect(() => read({ prompt: 'a', completion: 'b' })).toThrow('there are only keys "prompt", "completion"')
})

test('a column is described by the forms that have it', () => {
  expect(columnMeaning('system')).toBe('`messages`, `sharegpt`, and `alpaca`: the system prompt.')
  expect(columnMeaning('label')).toBe(
    '`unpaired_preference`: whether the answer is good. `classification`: the class.',
  )
})
