/** Selects the device to plan for. */
import { addon } from '../../native/addon.js'
import { usableCards } from '../../native/device.js'
import { translated } from '../../native/errors.js'
import { type Card, cardHere, cardNamed } from '../../planning/cards.js'
import type { RunConfig } from '../../train/config/config.js'

/** The card to plan for if a config asks for a GPU and there is none. */
const USUAL_CARD = '24GB'

export interface Target {
  /** Undefined for the CPU. */
  card?: Card | undefined
  /** A sentence about the choice. */
  note?: string
}

/** The GPU of a config, if present. Without a GPU, `auto` means the CPU, and `cuda` a card with 24 GB. */
export function targetOf({ device }: Pick<RunConfig, 'device'>): Target {
  if (device === 'cpu') return {}
  const report = translated(() => addon().cuda())
  const cards = usableCards(report)
  const number = /^cuda:(\d+)$/.exec(device)?.[1]
  const found = number === undefined ? cards[0] : cards.find((card) => card.number === Number(number))
  const other = '--device plans for another one, or for cpu'
  if (found !== undefined)
    return { card: cardHere(found), note: `planned for cuda:${found.number}, ${found.name}; ${other}.` }
  if (device === 'auto') return {}
  const why = report.cards.find((card) => card.number === Number(number))?.reason || report.reasons[0]
  return {
    card: cardNamed(USUAL_CARD),
    note: `planned for a card with ${USUAL_CARD}, as device is ${device} and there is none here${why ? ` (${why})` : ''}; ${other}.`,
  }
}
