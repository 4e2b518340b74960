import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { livePage } from '../../../../lib/report/live/page.js'
import { scratchFolder } from '../../scratch.js'

function logOf(steps: number): string {
  const path = join(scratchFolder(), 'metrics.jsonl')
  const lines = Array.from({ length: steps }, (_, index) => {
    const loss = 2 / (1 + index / 50) + 0.1 * Math.sin(index * 7.3)
    const rest = {
      grad_norm: loss / 3,
      learning_rate: 1e-4 * (1 - index / steps),
      tokens: 1000 + (index % 37),
    }
    return {
      event: 'step',
      time: 1000 + index * 0.71,
      step: index + 1,
      loss,
      ...rest,
      tokens_per_second: 900 + loss,
    }
  })
  writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  return path
}

test('the page of a long run begins with the packed record, and follows the log from its end', async () => {
  const log = logOf(10_000)
  const { html, policy } = await livePage('orders', log)
  expect(html.length).toBeLessThan(600_000)
  expect(html).toContain(`:${statSync(log).size}"}`)
  expect(policy).toContain("connect-src 'self'")
  expect(policy).not.toContain('unsafe')
})

test('a page before there is a log, or with half a line in it, is whole', async () => {
  const { html } = await livePage('<orders>', undefined)
  expect(html).toContain('<title>&lt;orders&gt; · lowrank</title>')
  expect(html).toContain('"position":":0"')
  const log = join(scratchFolder(), 'metrics.jsonl')
  writeFileSync(log, 'not JSON\n{"event":"st')
  expect((await livePage('orders', log)).html).toContain(':9"}')
})
