/** Selects the device of a run: `auto` is a GPU if the run fits on it. */
import { formatBytes } from '../core/bytes.js'
import { cardAt, type DeviceOption } from '../native/device.js'
import { translated } from '../native/errors.js'
import { ownBytes, sizesOf } from '../planning/cards.js'
import { openPlanner } from '../planning/plan.js'
import type { RunConfig } from '../train/config/config.js'
import { planShape } from '../train/config/preflight.js'
import type { Output } from './output.js'

export async function deviceFor(
  config: RunConfig,
  place: number,
  output: Output,
  signal: AbortSignal,
): Promise<DeviceOption> {
  if (config.device !== 'auto') return config.device
  const card = translated(() => cardAt(place))
  if (card === undefined) return 'cpu'
  const { revision } = config
  const { plan } = await openPlanner(config.model, {
    ...planShape(config),
    ...{ card: sizesOf(card), revision, signal },
  })
  const { peakBytes } = plan()
  const room = Math.max(0, card.memoryBytes - ownBytes(card))
  if (peakBytes <= room) return `cuda:${card.number}`
  output.note(
    `note: the run needs ${formatBytes(peakBytes)} on a GPU, and ${card.name} has ${formatBytes(room)}, so the CPU computes; \`lowrank plan CONFIG --device cuda:${Math.floor(card.memoryBytes / 2 ** 30)}GB --fit ${formatBytes(room).replace(' ', '')}\` finds settings that fit.`,
  )
  return 'cpu'
}
