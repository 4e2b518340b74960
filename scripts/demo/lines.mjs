/** Writes JSON Lines that need not fit in memory. */
import { createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'

/** @param line makes the object of a line, by its number from 0 */
export async function writeLines(path, count, line) {
  const file = createWriteStream(path)
  for (let i = 0; i < count; i++)
    if (!file.write(`${JSON.stringify(line(i))}\n`))
      await new Promise((drained) => file.once('drain', drained))
  file.end()
  await finished(file)
}
