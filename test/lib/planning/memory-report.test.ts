import { expect, test } from 'vitest'
import { formatBytes } from '../../../lib/core/bytes.js'
import { MemoryReport } from '../../../lib/planning/memory-report.js'

test('bytes are written with three digits or so', () => {
  expect([0, 1023, 1024, 1.5 * 2 ** 20, 12.3 * 2 ** 30].map(formatBytes)).toEqual([
    '0 B',
    '1023 B',
    '1.00 KiB',
    '1.50 MiB',
    '12.3 GiB',
  ])
})

test('a report with pages of files says where the system keeps them', () => {
  const printed = (pagedStateBytes: number, dropsPages: boolean) =>
    new MemoryReport({
      peakBytes: 1,
      pinnedBytes: 0,
      rows: [{ category: 'optimizer', bytes: 1 }],
      arenaBytes: 0,
      timeline: [],
      peakAt: '',
      trainableParameters: 1,
      totalParameters: 1,
      pagedReadBytes: 0,
      offloadedBytes: 0,
      pagedStateBytes,
      dropsPages,
    }).toString()
  expect(printed(1 << 20, false)).toContain('this system may keep pages of files in memory after their use')
  for (const without of [printed(1 << 20, true), printed(0, false)])
    expect(without).not.toContain('this system')
})

test('a report prints its categories, their shares and the peak', () => {
  const report = new MemoryReport({
    peakBytes: 4 << 20,
    pinnedBytes: 0,
    rows: [
      { category: 'weights', bytes: 3 << 20 },
      { category: 'activations', bytes: 1 << 20 },
    ],
    arenaBytes: 1 << 20,
    timeline: [],
    peakAt: 'backward model.layers.3.mlp',
    trainableParameters: 10,
    totalParameters: 100,
    pagedReadBytes: 0,
    offloadedBytes: 0,
    pagedStateBytes: 0,
    dropsPages: true,
  })
  expect(report.toString()).toBe(
    [
      'weights        3.00 MiB   75 %',
      'activations    1.00 MiB   25 %',
      '------------------------------',
      'peak           4.00 MiB  100 %',
      'at backward model.layers.3.mlp',
    ].join('\n'),
  )
  expect(report.bytes('weights')).toBe(3 << 20)
  expect(report.bytes('kv_cache')).toBe(0)
})

test('a report of a GPU says what lies on the card and what beside it', () => {
  const report = new MemoryReport({
    peakBytes: 4 << 20,
    pinnedBytes: 5 << 20,
    rows: [
      { category: 'weights', bytes: 1 << 20 },
      { category: 'paged_weights', bytes: 3 << 20, pinnedBytes: 4 << 20 },
      { category: 'optimizer', bytes: 0, pinnedBytes: 1 << 20 },
    ],
    arenaBytes: 0,
    timeline: [],
    peakAt: '',
    trainableParameters: 10,
    totalParameters: 100,
    pagedReadBytes: 6 << 20,
    offloadedBytes: 0,
    pagedStateBytes: 1 << 20,
    dropsPages: false,
  })
  expect(report.toString()).toBe(
    [
      '               on the card        pinned host',
      'weights          1.00 MiB   25 %',
      'paged_weights    3.00 MiB   75 %     4.00 MiB',
      'optimizer             0 B    0 %     1.00 MiB',
      '---------------------------------------------',
      'peak             4.00 MiB  100 %     5.00 MiB',
      'paged_weights pass through the card; 6.00 MiB are fetched for each micro-batch',
      '1.00 MiB of optimizer state are in pinned memory; each step fetches and writes them',
    ].join('\n'),
  )
})
