/**
 * The package under Bun, Deno, Node.js for musl, and Node.js for Windows under wine, with the prebuilt addon of each (scripts/platforms.mjs):
 * what this machine cannot install or build is skipped with the reason, and so is what LOWRANK_RUNTIMES does not name.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/** A runtime as the script reports it. */
interface Row {
  name: string
  skipped?: string
  problems?: string[]
}

const names = ['bun', 'deno', 'musl', 'wine']
const wanted = process.env.LOWRANK_RUNTIMES?.split(',') ?? names

function rows(): Row[] {
  const work = mkdtempSync(join(tmpdir(), 'lowrank-runtimes-'))
  try {
    const file = join(work, 'rows.json')
    spawnSync(process.execPath, ['scripts/platforms.mjs', '--only', wanted.join(), '--json', file], {
      stdio: 'inherit',
    })
    return JSON.parse(readFileSync(file, 'utf8')) as Row[]
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const seen = rows()

for (const name of names)
  test(`${name} computes what Node.js does`, ({ skip }) => {
    if (!wanted.includes(name)) skip('LOWRANK_RUNTIMES does not name it')
    const row = seen.find((each) => each.name === name)
    if (row?.skipped) skip(row.skipped)
    expect(row?.problems).toEqual([])
  })
