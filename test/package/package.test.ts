/**
 * Packs the package and installs it as a user would: the short rows of scripts/install-matrix.mjs, which need nothing
 * but this machine's Node, npm and compiler. Dependencies come from npm's registry or its cache. With prebuilds/
 * present the tarball is tested as published: no compiler within reach.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'

/** A row as the script reports it; `skipped` and `problem` say why it was not tried, or did not end as it should. */
interface Row {
  command: string
  prebuilt: string
  compiler: string
  expected: string
  skipped?: string
  problem?: string
}

const work = mkdtempSync(join(tmpdir(), 'lowrank-package-'))
afterAll(() => rmSync(work, { recursive: true, force: true }))

const run = promisify(execFile)

async function matrix(): Promise<Row[]> {
  const file = join(work, 'matrix.json')
  // It ends with 1 when a row failed, which the tests below say better.
  await run(process.execPath, ['scripts/install-matrix.mjs', '--short', '--json', file]).catch(
    (error: { stderr: string }) => console.error(error.stderr),
  )
  return (JSON.parse(readFileSync(file, 'utf8')) as { installs: Row[] }).installs
}

const rows = await matrix()

describe('the packed package', () => {
  test('holds what an install needs and nothing of the development setup', async () => {
    const args = ['pack', '--dry-run', '--ignore-scripts', '--json']
    const { stdout } = await run('npm', args, { maxBuffer: 1 << 26 })
    const [packed] = Object.values(JSON.parse(stdout) as Record<string, { files: { path: string }[] }>)
    const files = packed?.files.map(({ path }) => path) ?? []
    const building = ['CMakeLists.txt', 'binding.gyp', 'scripts/native.mjs']
    const demo = ['config.yaml', 'base/model.safetensors', 'base/tokenizer.json', 'train.jsonl', 'test.jsonl']
    // Error messages send people to the first of the pages.
    const reading = [
      'LICENSE',
      'README.md',
      'docs/troubleshooting.md',
      'docs/install.md',
      'examples/lora.yaml',
    ]
    for (const needed of [...building, ...demo.map((file) => `demo/${file}`), ...reading]) {
      expect(files).toContain(needed)
    }
    expect(
      files.filter((file) =>
        /\.map$|tsbuildinfo|\.test\.|^test|^lib\/|^out|^build\/|^docs\/api\//.test(file),
      ),
    ).toEqual(['native/addon/exports.map'])
  })

  test('is tried in several ways', () => {
    expect(rows.length).toBeGreaterThan(4)
  })

  for (const { command, prebuilt, compiler, expected, skipped, problem } of rows) {
    const title = `${command}; prebuilt addon: ${prebuilt}, compiler: ${compiler}; ${expected}`
    test(title, ({ skip }) => {
      if (skipped) skip(skipped)
      expect(problem).toBeUndefined()
    })
  }
})
