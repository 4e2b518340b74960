/** The skill for coding assistants against the server: what it names exists. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { TOOLS } from '../lib/cli/mcp/tools.js'
import { configJsonSchema } from '../lib/train/config/config-schema.js'
import { published } from './lib/cli/contract.js'

const text = readFileSync(fileURLToPath(new URL('../skills/lowrank/SKILL.md', import.meta.url)), 'utf8')
const [, front = '', body = ''] = /^---\n([\s\S]*?)\n---\n([\s\S]*)$/.exec(text) ?? []
const guide = readFileSync(fileURLToPath(new URL('../docs/mcp.md', import.meta.url)), 'utf8')

test('its front matter is what assistants load it by', () => {
  const { name, description, ...rest } = parse(front) as Record<string, string>
  expect(name).toMatch(/^[a-z0-9-]{1,64}$/)
  expect(description?.length).toBeGreaterThan(50)
  expect(description?.length).toBeLessThanOrEqual(1024)
  expect(rest).toEqual({})
  expect(body.split('\n').length).toBeLessThan(500)
})

test('every tool has its place in it, and in the guide', () => {
  const named = new Set([...body.matchAll(/`([\w ]+)`/g)].map(([, word]) => word))
  for (const tool of Object.keys(TOOLS)) expect([...named], tool).toContain(tool)
  const rows = [...guide.matchAll(/^\| `(\w+)` \|/gm)].map(([, tool]) => tool)
  expect(rows.sort()).toEqual(Object.keys(TOOLS).sort())
})

test('names of arguments, results, config keys, and codes exist', () => {
  const shapes = Object.values(TOOLS).flatMap(({ input, output }) => [input.shape, output.shape])
  const known = new Set([
    ...[...Object.keys(TOOLS), ...published],
    ...shapes.flatMap((shape) => Object.keys(shape)),
    ...Object.keys(configJsonSchema().properties as object),
    ...['succeeded', 'failed', 'stopped', 'gguf', 'ollama', 'vllm', 'safetensors', 'r', 'trainable'],
  ])
  const words = [...body.matchAll(/`([a-z_]+)`/g)].map(([, word]) => word as string)
  expect(words.length).toBeGreaterThan(30)
  expect(words.filter((word) => !known.has(word))).toEqual([])
  const codes = [...body.matchAll(/code `(\w+)`/g)].map(([, code]) => code)
  const source = readFileSync(fileURLToPath(new URL('../lib/core/errors.ts', import.meta.url)), 'utf8')
  expect(codes.length).toBeGreaterThan(3)
  for (const code of codes) expect(source).toContain(`'${code}'`)
})
