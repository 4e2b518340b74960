/** Pythons with packages that tests compare with, each in a folder of its own under .cache/. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageRoot } from '../lib/core/root.js'

const run = promisify(execFile)

/**
 * The program of a Python that has packages, or why there is none.
 * @param packages arguments of `pip install`
 */
export async function pythonWith(
  folder: string,
  packages: readonly string[],
): Promise<{ python: string } | { skipped: string }> {
  const place = join(packageRoot, '.cache', folder)
  const python = join(place, 'bin', 'python')
  try {
    if (!existsSync(python)) await run('python3', ['-m', 'venv', place], { timeout: 300_000 })
    await run(python, ['-m', 'pip', 'install', '-q', ...packages], { timeout: 600_000 })
    return { python }
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    const reason = (stderr?.trim() || message).split('\n').at(-1)
    return { skipped: `${packages.join(' ')} could not be installed with pip (${reason})` }
  }
}
