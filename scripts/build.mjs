// Builds the addon and the TypeScript at the same time: compilers of one fill the cores that the other leaves idle.
import { spawn } from 'node:child_process'
import { join } from 'node:path'

const run = (script, ...args) =>
  new Promise((done, failed) =>
    spawn(process.execPath, [join(import.meta.dirname, script), ...args], { stdio: 'inherit' })
      .on('error', failed)
      .on('close', (code) => done(code ?? 1)),
  )

const codes = await Promise.all([run('native.mjs', 'build'), run('typescript.mjs')])
process.exitCode = Math.max(...codes)
