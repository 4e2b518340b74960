import { appendFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LOG_START, positionId, positionOf, readLog } from '../../../../lib/report/live/log.js'
import { needsTimesOfBirth } from '../../../needs.js'
import { scratchFolder } from '../../scratch.js'

const path = () => join(scratchFolder(), 'metrics.jsonl')

test('a log that does not exist has no lines, and begins once it does', async () => {
  const log = path()
  expect(await readLog(log, LOG_START)).toEqual({ reset: false, lines: [], position: LOG_START })
  writeFileSync(log, '{"a":1}\n')
  expect(await readLog(log, LOG_START)).toMatchObject({ reset: false, lines: ['{"a":1}'] })
})

test('only whole lines are read, each once, whatever its characters', async () => {
  needsTimesOfBirth()
  const log = path()
  const text = '{"text":"äöü 漢字"}'
  const bytes = Buffer.from(`${text}\n`)
  writeFileSync(log, bytes.subarray(0, 13))
  let { position, lines } = await readLog(log, LOG_START)
  expect(lines).toEqual([])
  appendFileSync(log, bytes.subarray(13))
  ;({ position, lines } = await readLog(log, position))
  expect(lines).toEqual([text])
  appendFileSync(log, '{"b":2}\n{"c":3}\n{"d"')
  ;({ position, lines } = await readLog(log, position))
  expect(lines).toEqual(['{"b":2}', '{"c":3}'])
  expect(position.bytes).toBe(bytes.length + 16)
  expect((await readLog(log, position)).lines).toEqual([])
})

test('a log that was cut begins anew', async () => {
  const log = path()
  writeFileSync(log, '{"a":1}\n{"b":2}\n')
  const { position } = await readLog(log, LOG_START)
  truncateSync(log, 8)
  expect(await readLog(log, position)).toMatchObject({ reset: true, lines: ['{"a":1}'] })
})

test('a log that was replaced begins anew, also when it is longer than before', async () => {
  const log = path()
  writeFileSync(log, '{"a":1}\n')
  const { position } = await readLog(log, LOG_START)
  writeFileSync(`${log}.new`, '{"a":1}\n{"other":2}\n')
  renameSync(`${log}.new`, log)
  const found = await readLog(log, position)
  expect(found).toMatchObject({ reset: true, lines: ['{"a":1}', '{"other":2}'] })
  expect(await readLog(log, found.position)).toMatchObject({ reset: false, lines: [] })
})

test('a position survives as the id of an event; any other id is the start', () => {
  const position = { generation: '1a-2b', bytes: 300 }
  expect(positionOf(positionId(position))).toEqual(position)
  for (const id of [undefined, '', ':', 'a:-1', 'a:1e3', 'a:1:2', '<script>:1', `a:${'9'.repeat(16)}`])
    expect(positionOf(id)).toEqual(LOG_START)
})
