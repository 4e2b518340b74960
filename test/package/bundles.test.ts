/**
 * Programs that use the package, bundled by Rolldown, which Vite bundles with as well: with the package inside they end
 * with an error that says what to do, and with the package as external they work. docs/bundlers.md has other bundlers.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { rolldown } from 'rolldown'
import { afterAll, describe, expect, test } from 'vitest'

const work = mkdtempSync(join(tmpdir(), 'lowrank-bundles-'))
afterAll(() => rmSync(work, { recursive: true, force: true }))

mkdirSync(join(work, 'node_modules'))
symlinkSync(process.cwd(), join(work, 'node_modules', 'lowrank'))
writeFileSync(join(work, 'package.json'), '{ "type": "module" }')
writeFileSync(
  join(work, 'app.js'),
  `import { loadModel } from 'lowrank'
const model = await loadModel(${JSON.stringify(join(process.cwd(), 'demo', 'base'))})
const { tokenIds } = await model.generate('two', { maxNewTokens: 1 })
await model.dispose()
console.log(tokenIds.length)
`,
)
// CommonJS has no await at the top of a file.
writeFileSync(join(work, 'app.cjs'), "console.log(typeof require('lowrank').loadModel)\n")

/** Bundles the program and runs it. */
async function bundled(format: 'esm' | 'cjs', external: string[]) {
  const name = `${format}-${external.length}`
  const input = format === 'esm' ? 'app.js' : 'app.cjs'
  const bundle = await rolldown({ cwd: work, input, platform: 'node', external, logLevel: 'silent' })
  const extension = format === 'esm' ? 'mjs' : 'cjs'
  await bundle.write({ dir: join(work, name), format, entryFileNames: `app.${extension}` })
  await bundle.close()
  return spawnSync(process.execPath, [join(work, name, `app.${extension}`)], { encoding: 'utf8' })
}

describe('a program that was bundled', () => {
  test.each(['esm', 'cjs'] as const)('with the package inside says what to do (%s)', async (format) => {
    const { status, stderr } = await bundled(format, [])
    expect(status).not.toBe(0)
    expect(stderr).toContain('lowrank was bundled into another program')
    expect(stderr).toContain('Mark it as external')
  })

  test('without the package inside works', async () => {
    expect(await bundled('esm', ['lowrank'])).toMatchObject({ status: 0, stdout: '1\n' })
    expect(await bundled('cjs', ['lowrank'])).toMatchObject({ status: 0, stdout: 'function\n' })
  })
})
