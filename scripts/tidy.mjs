// Runs clang-tidy over native/ (or the files named), with the commands of the last release build.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const folder = join(root, 'out', 'tidy')
const commands = JSON.parse(readFileSync(join(root, 'out', 'release', 'compile_commands.json'), 'utf8'))
// clang refuses what only g++ knows.
const forClang = commands.map((entry) => ({
  ...entry,
  command: entry.command.replace(' -fno-gnu-unique', ''),
}))
mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'compile_commands.json'), JSON.stringify(forClang))

const named = process.argv.slice(2).map((file) => resolve(file))
// CUDA's kernels are C++ for the host only where it compiles their launches.
const sources = commands
  .filter(({ file, command }) => !file.endsWith('.cu') || command.includes('lowrank_core.dir'))
  .map((entry) => entry.file)
  .filter((file) => file.startsWith(join(root, 'native')))
const queue = named.length > 0 ? named : [...new Set(sources)]

async function worker() {
  for (let file = queue.shift(); file; file = queue.shift()) {
    const tidy = spawn('clang-tidy', ['--quiet', '-p', folder, file], {
      stdio: ['ignore', 'inherit', 'ignore'],
    })
    const code = await new Promise((done, failed) => tidy.on('error', failed).on('close', done))
    if (code !== 0) process.exitCode = 1
  }
}

await Promise.all(Array.from({ length: availableParallelism() }, worker))
