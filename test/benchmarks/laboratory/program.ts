/** Runs a figure of the laboratory, as a process of its own. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Drawn {
  code: number
  stderr: string
  /** What is in NAME.json; empty if nothing was drawn. */
  // biome-ignore lint/suspicious/noExplicitAny: each figure has fields of its own
  study: any
  svg: string
}

export function drawn(name: string, output: string, flags: readonly string[]): Promise<Drawn> {
  const words = [...(name === '' ? [] : [name]), '--output', output, ...flags]
  return new Promise((done) =>
    execFile(process.execPath, ['benchmarks/laboratory/figure.mjs', ...words], (error, _stdout, stderr) => {
      const read = (kind: string) => (error ? '' : readFileSync(join(output, `${name}.${kind}`), 'utf8'))
      const code = error ? Number(error.code) : 0
      done({ code, stderr, study: JSON.parse(read('json') || '{}'), svg: read('svg') })
    }),
  )
}
