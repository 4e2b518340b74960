/**
 * The model card of an adapter: README.md beside it, as the Hugging Face hub shows it. A card that somebody else wrote,
 * or one whose mark was removed, is never replaced.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileWhole } from '../io/atomic.js'

/** File name of a model card. */
export const MODEL_CARD = 'README.md'

/** A line of every card that lowrank writes. */
export const CARD_MARK =
  '<!-- Written by lowrank, which writes it anew with the adapter. Remove this line to keep your changes. -->'

/** The card of a folder, if lowrank wrote it; null if there is none, or one of the user's. */
export async function ownCard(folder: string): Promise<string | null> {
  const text = await cardIn(folder)
  return text?.includes(CARD_MARK) ? text : null
}

/**
 * Writes a card to a folder that will replace or join `target`, unless `target` has a card of the user's.
 * @param card text of the card, with its mark
 */
export async function writeCard(folder: string, target: string, card: string): Promise<void> {
  const there = await cardIn(target)
  if (there === null || there.includes(CARD_MARK)) await writeFileWhole(join(folder, MODEL_CARD), card)
}

/** Text of the card in a folder; null without one. What cannot be read is not ours. */
async function cardIn(folder: string): Promise<string | null> {
  return readFile(join(folder, MODEL_CARD), 'utf8').catch((error: NodeJS.ErrnoException) =>
    error.code === 'ENOENT' || error.code === 'ENOTDIR' ? null : '',
  )
}
