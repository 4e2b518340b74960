/** Replaces a folder again and again, as a run that saves checkpoints of the same name, until it is killed. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { restoreReplaced, writeFolder } from '../../../dist/esm/io/atomic-folder.js'
import { writeSums } from '../../../dist/esm/io/sums.js'
import { removeLeftovers } from '../../../dist/esm/io/temporary.js'

const [folder, first] = process.argv.slice(2)
await removeLeftovers(folder)
await restoreReplaced(folder)
for (let round = Number(first); ; round++) {
  const write = async (inside) => {
    for (const name of ['a', 'b', 'c']) writeFileSync(join(inside, name), `${round} `.repeat(1 << 12))
    await writeSums(inside)
  }
  await writeFolder(join(folder, 'checkpoint-1'), write, { replace: true })
  process.stdout.write(`${round}\n`)
}
