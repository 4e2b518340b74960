import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../../..')

/** Logits of a tiny model in a process of its own, with LOWRANK_LOG set. */
function run(log: string) {
  const script = `
    const { loadModel } = await import('./dist/esm/index.js')
    const model = await loadModel('test/parity/models/llama3')
    await model.logits(Int32Array.of(1, 2, 3))
    await model.dispose()`
  const env = { ...process.env, LOWRANK_LOG: log }
  return promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { cwd: root, env })
}

describe('LOWRANK_LOG', () => {
  it('prints the graph, the plan, the arena and the times of a session', async () => {
    const { stdout, stderr } = await run('graph,plan,arena,times')
    expect(stdout).toBe('')
    expect(stderr).toMatch(/--- graph of plan 'forward'\nembedding model\.embed_tokens/)
    expect(stderr).toMatch(/--- plan of plan 'forward'\n0 forward embedding/)
    expect(stderr).toMatch(/--- arena of plan 'forward'\n#0 \[\d+, \d+\) steps 0/)
    expect(stderr).toMatch(/--- times of plan 'forward'\n[\d.]+ s {2}[\d.]+ % {2}forward /)
  })

  it('refuses a name that it does not know', async () => {
    await expect(run('kernels')).rejects.toThrow(/LOWRANK_LOG has 'kernels', expected some of graph, plan/)
  })
})
